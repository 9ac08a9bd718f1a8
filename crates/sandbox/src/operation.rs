//! The calls that the sandbox answers, under the names that IAM policies use.

use std::fmt;

/// A call that the sandbox answers; also the names that IAM policies use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `ssm:StartSession`.
    StartSession,
    /// `ssm:ResumeSession`.
    ResumeSession,
    /// `ssm:TerminateSession`.
    TerminateSession,
    /// `ssm:DescribeInstanceInformation`.
    DescribeInstanceInformation,
    /// `ssm:DescribeSessions`.
    DescribeSessions,
    /// `ssm:GetDocument`.
    GetDocument,
    /// `sts:GetCallerIdentity`.
    GetCallerIdentity,
    /// `sts:AssumeRole`.
    AssumeRole,
    /// `sts:AssumeRoleWithWebIdentity`.
    AssumeRoleWithWebIdentity,
    /// `sts:GetSessionToken`.
    GetSessionToken,
    /// `sso-oauth:RegisterClient`.
    RegisterClient,
    /// `sso-oauth:StartDeviceAuthorization`.
    StartDeviceAuthorization,
    /// `sso-oauth:CreateToken`.
    CreateToken,
    /// `sso:GetRoleCredentials`.
    GetRoleCredentials,
    /// `rds:DescribeDBInstances`.
    DescribeDBInstances,
    /// `rds:DescribeDBClusters`.
    DescribeDBClusters,
    /// `rds:DescribeDBClusterEndpoints`.
    DescribeDBClusterEndpoints,
    /// `rds:DescribeDBProxies`.
    DescribeDBProxies,
    /// `rds:DescribeDBProxyEndpoints`.
    DescribeDBProxyEndpoints,
    /// `rds:ModifyDBInstance`.
    ModifyDBInstance,
    /// `rds:ModifyDBCluster`.
    ModifyDBCluster,
    /// `rds:ModifyDBProxy`.
    ModifyDBProxy,
    /// `rds:StartDBInstance`.
    StartDBInstance,
    /// `rds:StartDBCluster`.
    StartDBCluster,
    /// `ec2:AuthorizeSecurityGroupIngress`.
    AuthorizeSecurityGroupIngress,
    /// `ec2:StartInstances`.
    StartInstances,
    /// `ssm:SendCommand`.
    SendCommand,
    /// `ec2:DescribeVpcEndpoints`.
    DescribeVpcEndpoints,
    /// `ec2:DescribeVpcAttribute`.
    DescribeVpcAttribute,
    /// `ec2:ModifyVpcEndpoint`.
    ModifyVpcEndpoint,
    /// `ec2:ModifyVpcAttribute`.
    ModifyVpcAttribute,
    /// `ec2:DescribeNetworkAcls`.
    DescribeNetworkAcls,
    /// `ec2:AuthorizeSecurityGroupEgress`.
    AuthorizeSecurityGroupEgress,
    /// `iam:GetInstanceProfile`.
    GetInstanceProfile,
    /// `iam:ListAttachedRolePolicies`.
    ListAttachedRolePolicies,
    /// `iam:AttachRolePolicy`.
    AttachRolePolicy,
    /// `ec2:DescribeInstances`.
    DescribeInstances,
    /// `ec2:DescribeSecurityGroups`.
    DescribeSecurityGroups,
    /// `ec2:DescribeSubnets`.
    DescribeSubnets,
    /// `ecs:ListClusters`.
    ListClusters,
    /// `ecs:ListTasks`.
    ListTasks,
    /// `ecs:DescribeTasks`.
    DescribeTasks,
    /// `iam:SimulatePrincipalPolicy`.
    SimulatePrincipalPolicy,
    /// `logs:FilterLogEvents`.
    FilterLogEvents,
    /// `logs:GetLogEvents`.
    GetLogEvents,
    /// `secretsmanager:GetSecretValue`.
    GetSecretValue,
    /// `ssmmessages:OpenDataChannel`: the websocket.
    OpenDataChannel,
    /// `dsql:ListClusters`.
    ListDsqlClusters,
    /// `dsql:GetCluster`.
    GetDsqlCluster,
}

impl Operation {
    pub(crate) const ALL: [Self; 49] = [
        Self::StartSession,
        Self::ResumeSession,
        Self::TerminateSession,
        Self::DescribeInstanceInformation,
        Self::DescribeSessions,
        Self::GetDocument,
        Self::GetCallerIdentity,
        Self::AssumeRole,
        Self::AssumeRoleWithWebIdentity,
        Self::GetSessionToken,
        Self::RegisterClient,
        Self::StartDeviceAuthorization,
        Self::CreateToken,
        Self::GetRoleCredentials,
        Self::DescribeDBInstances,
        Self::DescribeDBClusters,
        Self::DescribeDBClusterEndpoints,
        Self::DescribeDBProxies,
        Self::DescribeDBProxyEndpoints,
        Self::ModifyDBInstance,
        Self::ModifyDBCluster,
        Self::ModifyDBProxy,
        Self::StartDBInstance,
        Self::StartDBCluster,
        Self::AuthorizeSecurityGroupIngress,
        Self::StartInstances,
        Self::SendCommand,
        Self::DescribeVpcEndpoints,
        Self::DescribeVpcAttribute,
        Self::ModifyVpcEndpoint,
        Self::ModifyVpcAttribute,
        Self::DescribeNetworkAcls,
        Self::AuthorizeSecurityGroupEgress,
        Self::GetInstanceProfile,
        Self::ListAttachedRolePolicies,
        Self::AttachRolePolicy,
        Self::DescribeInstances,
        Self::DescribeSecurityGroups,
        Self::DescribeSubnets,
        Self::ListClusters,
        Self::ListTasks,
        Self::DescribeTasks,
        Self::SimulatePrincipalPolicy,
        Self::FilterLogEvents,
        Self::GetLogEvents,
        Self::GetSecretValue,
        Self::OpenDataChannel,
        Self::ListDsqlClusters,
        Self::GetDsqlCluster,
    ];

    /// The prefix in IAM and the service in signatures.
    pub(crate) fn service(self) -> &'static str {
        match self {
            Self::StartSession
            | Self::ResumeSession
            | Self::TerminateSession
            | Self::DescribeInstanceInformation
            | Self::DescribeSessions
            | Self::SendCommand
            | Self::GetDocument => "ssm",
            Self::GetCallerIdentity | Self::AssumeRole | Self::AssumeRoleWithWebIdentity | Self::GetSessionToken => {
                "sts"
            }
            Self::RegisterClient | Self::StartDeviceAuthorization | Self::CreateToken => "sso-oauth",
            Self::GetRoleCredentials => "sso",
            Self::DescribeDBInstances
            | Self::DescribeDBClusters
            | Self::DescribeDBClusterEndpoints
            | Self::DescribeDBProxies
            | Self::DescribeDBProxyEndpoints
            | Self::ModifyDBInstance
            | Self::ModifyDBCluster
            | Self::ModifyDBProxy
            | Self::StartDBInstance
            | Self::StartDBCluster => "rds",
            Self::DescribeInstances
            | Self::DescribeSecurityGroups
            | Self::DescribeSubnets
            | Self::AuthorizeSecurityGroupIngress
            | Self::AuthorizeSecurityGroupEgress
            | Self::DescribeVpcEndpoints
            | Self::DescribeVpcAttribute
            | Self::ModifyVpcEndpoint
            | Self::ModifyVpcAttribute
            | Self::DescribeNetworkAcls
            | Self::StartInstances => "ec2",
            Self::ListClusters | Self::ListTasks | Self::DescribeTasks => "ecs",
            Self::SimulatePrincipalPolicy
            | Self::GetInstanceProfile
            | Self::ListAttachedRolePolicies
            | Self::AttachRolePolicy => "iam",
            Self::FilterLogEvents | Self::GetLogEvents => "logs",
            Self::GetSecretValue => "secretsmanager",
            Self::OpenDataChannel => "ssmmessages",
            Self::ListDsqlClusters | Self::GetDsqlCluster => "dsql",
        }
    }

    /// Whether the caller has to sign. Those that need not are how one comes to have something to sign with.
    pub(crate) fn is_signed(self) -> bool {
        !matches!(self.service(), "sso" | "sso-oauth") && self != Self::AssumeRoleWithWebIdentity
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListDsqlClusters => f.write_str("ListClusters"),
            Self::GetDsqlCluster => f.write_str("GetCluster"),
            _ => write!(f, "{self:?}"),
        }
    }
}
