//! A CloudFormation template, in JSON.

use serde_json::{Map, Value, json};

use super::plan::{AGENT_POLICY, IMAGE, INSTANCE_TYPE, NEW_BASTION, Plan};
use crate::quote::posix;

pub(super) fn create(plan: &Plan) -> Value {
    let Plan { name, vpc, subnet, database_group, port, .. } = plan;
    let tags = json!([{ "Key": "Name", "Value": name }]);
    let group = json!({ "Fn::GetAtt": ["BastionGroup", "GroupId"] });
    let mut resources = Map::new();
    let mut add = |id: &str, kind: &str, properties: Value| {
        resources.insert(id.into(), json!({ "Type": format!("AWS::{kind}"), "Properties": properties }));
    };
    add(
        "BastionRole",
        "IAM::Role",
        json!({
            "RoleName": name,
            "AssumeRolePolicyDocument": plan.trust(),
            "ManagedPolicyArns": [{ "Fn::Sub": format!("arn:${{AWS::Partition}}:iam::aws:policy/{AGENT_POLICY}") }],
        }),
    );
    add(
        "BastionProfile",
        "IAM::InstanceProfile",
        json!({ "InstanceProfileName": name, "Roles": [{ "Ref": "BastionRole" }] }),
    );
    add(
        "BastionGroup",
        "EC2::SecurityGroup",
        json!({
            "GroupName": name,
            "GroupDescription": "Bastion of rdsgate",
            "VpcId": vpc,
            "SecurityGroupEgress": [
                { "IpProtocol": "tcp", "FromPort": port, "ToPort": port, "DestinationSecurityGroupId": database_group },
                { "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0" },
            ],
        }),
    );
    add(
        "DatabaseRule",
        "EC2::SecurityGroupIngress",
        json!({
            "GroupId": database_group, "IpProtocol": "tcp", "FromPort": port, "ToPort": port,
            "SourceSecurityGroupId": group,
        }),
    );
    if !plan.endpoints.is_empty() {
        add(
            "EndpointGroup",
            "EC2::SecurityGroup",
            json!({
                "GroupName": format!("{name}-endpoints"),
                "GroupDescription": "Endpoints of rdsgate",
                "VpcId": vpc,
                "SecurityGroupIngress": [
                    { "IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "SourceSecurityGroupId": group },
                ],
            }),
        );
    }
    for service in &plan.endpoints {
        add(
            &format!("Endpoint{service}"),
            "EC2::VPCEndpoint",
            json!({
                "VpcEndpointType": "Interface",
                "ServiceName": { "Fn::Sub": format!("com.amazonaws.${{AWS::Region}}.{service}") },
                "VpcId": vpc,
                "SubnetIds": [subnet],
                "SecurityGroupIds": [{ "Fn::GetAtt": ["EndpointGroup", "GroupId"] }],
                "PrivateDnsEnabled": true,
            }),
        );
    }
    // IMDSv2 can be required by a launch template alone.
    add(
        "BastionTemplate",
        "EC2::LaunchTemplate",
        json!({ "LaunchTemplateData": { "MetadataOptions": { "HttpEndpoint": "enabled", "HttpTokens": "required" } } }),
    );
    add(
        "Bastion",
        "EC2::Instance",
        json!({
            "ImageId": { "Ref": "Image" },
            "InstanceType": INSTANCE_TYPE,
            "IamInstanceProfile": { "Ref": "BastionProfile" },
            "LaunchTemplate": {
                "LaunchTemplateId": { "Ref": "BastionTemplate" },
                "Version": { "Fn::GetAtt": ["BastionTemplate", "LatestVersionNumber"] },
            },
            "NetworkInterfaces": [{
                "DeviceIndex": "0", "SubnetId": subnet, "GroupSet": [group], "AssociatePublicIpAddress": false,
            }],
            "Tags": tags,
        }),
    );
    if let Some(policy) = &plan.policy {
        add(
            "CallerPolicy",
            "IAM::ManagedPolicy",
            json!({ "ManagedPolicyName": plan.policy_name, "PolicyDocument": with_bastion(policy) }),
        );
    }
    let iam = plan.without_iam.as_ref().map(|(kind, id)| format!("turn IAM authentication of the {kind} {id} on"));
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("A bastion for rdsgate: {}", plan.cost()),
        "Metadata": {
            "Rdsgate": {
                "Deploy": format!(
                    "aws cloudformation deploy --stack-name {} --template-file FILE --capabilities CAPABILITY_NAMED_IAM",
                    posix(name)
                ),
                "Then": iam.unwrap_or_default(),
                "Sql": plan.sql.lines().collect::<Vec<_>>(),
            },
        },
        "Parameters": { "Image": { "Type": "AWS::SSM::Parameter::Value<AWS::EC2::Image::Id>", "Default": IMAGE } },
        "Resources": resources,
        "Outputs": { "Bastion": { "Value": { "Ref": "Bastion" } } },
    })
}

/// The value with the bastion's own id in the place of its placeholder.
fn with_bastion(value: &Value) -> Value {
    match value {
        Value::String(text) => match text.split_once(NEW_BASTION) {
            Some((before, after)) => json!({ "Fn::Join": ["", [before, { "Ref": "Bastion" }, after]] }),
            None => value.clone(),
        },
        Value::Array(items) => items.iter().map(with_bastion).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), with_bastion(value))).collect(),
        other => other.clone(),
    }
}

pub(super) fn remove(plan: &Plan) -> String {
    let name = posix(&plan.name);
    format!(
        "# CloudFormation knows the order. IAM authentication of the database and its user stay.\naws cloudformation delete-stack --stack-name {name}\naws cloudformation wait stack-delete-complete --stack-name {name}\n"
    )
}
