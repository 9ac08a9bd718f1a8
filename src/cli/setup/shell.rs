//! A POSIX shell script of AWS CLI commands.

use std::fmt::Write as _;

use super::plan::{AGENT_POLICY, IMAGE, INSTANCE_TYPE, NEW_BASTION, Plan, comment};
use crate::quote::{posix, shell};

/// The variables of both scripts.
fn head(plan: &Plan) -> String {
    let region = match &plan.region {
        Some(region) => format!("export AWS_REGION={region} AWS_DEFAULT_REGION={region}"),
        None => "export AWS_DEFAULT_REGION=\"${AWS_REGION:?set it to the region of the database}\"".into(),
    };
    format!(
        "{region}\nname={}\npolicy_name={}\nvpc={}\ndatabase_group={}\nport={}\n",
        posix(&plan.name),
        posix(&plan.policy_name),
        posix(&plan.vpc),
        posix(&plan.database_group),
        plan.port,
    )
}

pub(super) fn create(plan: &Plan) -> String {
    let mut text = format!(
        "#!/bin/sh\n# Creates a bastion for rdsgate: {}.\n# rdsgate setup --remove prints what takes it away.\nset -eu\n{}subnet={}\n",
        plan.cost(),
        head(plan),
        posix(&plan.subnet),
    );
    let trust = plan.trust().to_string();
    let partition = plan.partition();
    let _ = write!(
        text,
        r#"
# The role of the bastion: its agent may talk to Systems Manager, and nothing else.
aws iam create-role --role-name "$name" --assume-role-policy-document {trust} >/dev/null
aws iam attach-role-policy --role-name "$name" --policy-arn arn:{partition}:iam::aws:policy/{AGENT_POLICY}
aws iam create-instance-profile --instance-profile-name "$name" >/dev/null
aws iam add-role-to-instance-profile --instance-profile-name "$name" --role-name "$name"
aws iam wait instance-profile-exists --instance-profile-name "$name"

# Its security group: nothing comes in; out go the database and HTTPS.
group=$(aws ec2 create-security-group --group-name "$name" --description "Bastion of rdsgate" --vpc-id "$vpc" --query GroupId --output text)
aws ec2 revoke-security-group-egress --group-id "$group" --ip-permissions 'IpProtocol=-1,IpRanges=[{{CidrIp=0.0.0.0/0}}]' >/dev/null
aws ec2 authorize-security-group-egress --group-id "$group" --ip-permissions "IpProtocol=tcp,FromPort=$port,ToPort=$port,UserIdGroupPairs=[{{GroupId=$database_group}}]" >/dev/null
aws ec2 authorize-security-group-egress --group-id "$group" --ip-permissions 'IpProtocol=tcp,FromPort=443,ToPort=443,IpRanges=[{{CidrIp=0.0.0.0/0}}]' >/dev/null

# The database lets the bastion in.
aws ec2 authorize-security-group-ingress --group-id "$database_group" --protocol tcp --port "$port" --source-group "$group" >/dev/null
"#,
        trust = posix(&trust),
    );
    if !plan.endpoints.is_empty() {
        let _ = write!(
            text,
            r#"
# Endpoints of Systems Manager, since the subnet is not known to have a way to it. Leave them out if it has a NAT gateway.
endpoint_group=$(aws ec2 create-security-group --group-name "$name-endpoints" --description "Endpoints of rdsgate" --vpc-id "$vpc" --query GroupId --output text)
aws ec2 authorize-security-group-ingress --group-id "$endpoint_group" --protocol tcp --port 443 --source-group "$group" >/dev/null
for service in {}; do
  aws ec2 create-vpc-endpoint --vpc-id "$vpc" --vpc-endpoint-type Interface --service-name "com.amazonaws.$AWS_DEFAULT_REGION.$service" \
    --subnet-ids "$subnet" --security-group-ids "$endpoint_group" --private-dns-enabled \
    --tag-specifications "ResourceType=vpc-endpoint,Tags=[{{Key=Name,Value=$name}}]" >/dev/null
done
"#,
            plan.endpoints.join(" "),
        );
    }
    let _ = write!(
        text,
        r#"
# The bastion: no key pair, no public IP, IMDSv2 only. A new profile takes some seconds to be known.
image=$(aws ssm get-parameter --name {IMAGE} --query Parameter.Value --output text)
tries=0
until instance=$(aws ec2 run-instances --image-id "$image" --instance-type {INSTANCE_TYPE} --subnet-id "$subnet" --security-group-ids "$group" \
  --no-associate-public-ip-address --iam-instance-profile "Name=$name" --metadata-options HttpTokens=required,HttpEndpoint=enabled \
  --tag-specifications "ResourceType=instance,Tags=[{{Key=Name,Value=$name}}]" --query 'Instances[0].InstanceId' --output text); do
  tries=$((tries + 1))
  [ "$tries" -lt 6 ] || exit 1
  sleep 5
done
"#
    );
    if let Some((kind, id)) = &plan.without_iam {
        let _ = write!(
            text,
            "\n# IAM authentication of the database.\naws rds modify-db-{kind} --db-{kind}-identifier {} --enable-iam-database-authentication --apply-immediately >/dev/null\n",
            posix(id),
        );
    }
    if let Some(policy) = &plan.policy {
        let policy = posix(&policy.to_string()).replace(NEW_BASTION, "'\"$instance\"'");
        let _ = write!(
            text,
            "\n# The policy of the caller: attach it to the user or role that runs rdsgate.\naws iam create-policy --policy-name \"$policy_name\" --policy-document {policy} >/dev/null\n",
        );
    }
    if !plan.sql.is_empty() {
        let _ = write!(text, "\n# In the database, as an administrator:\n{}", comment(&plan.sql));
    }
    let (target, user) = (shell(&plan.target), shell(&plan.user));
    let _ = write!(
        text,
        "\necho \"bastion: $instance\"\n{}",
        comment(&format!("Then: rdsgate doctor {target} --user {user}")),
    );
    text
}

pub(super) fn remove(plan: &Plan) -> String {
    format!(
        r#"#!/bin/sh
# Removes what rdsgate setup created, in the order in which AWS lets go of it. IAM authentication of the database and its
# user stay. What is missing gives an error, and the rest goes on.
set -u
{}
present() {{ [ -n "$1" ] && [ "$1" != None ]; }}

instances=$(aws ec2 describe-instances --filters "Name=tag:Name,Values=$name" Name=instance-state-name,Values=pending,running,stopping,stopped \
  --query 'Reservations[].Instances[].InstanceId' --output text)
if present "$instances"; then
  # shellcheck disable=SC2086
  aws ec2 terminate-instances --instance-ids $instances >/dev/null
  # shellcheck disable=SC2086
  aws ec2 wait instance-terminated --instance-ids $instances
fi

endpoints=$(aws ec2 describe-vpc-endpoints --filters "Name=tag:Name,Values=$name" --query 'VpcEndpoints[?State!=`deleted`].VpcEndpointId' --output text)
if present "$endpoints"; then
  # shellcheck disable=SC2086
  aws ec2 delete-vpc-endpoints --vpc-endpoint-ids $endpoints >/dev/null
  while present "$(aws ec2 describe-vpc-endpoints --filters "Name=tag:Name,Values=$name" --query 'VpcEndpoints[?State!=`deleted`].VpcEndpointId' --output text)"; do
    sleep 5
  done
fi

group_called() {{
  aws ec2 describe-security-groups --filters "Name=group-name,Values=$1" "Name=vpc-id,Values=$vpc" --query 'SecurityGroups[0].GroupId' --output text
}}
group=$(group_called "$name-endpoints")
if present "$group"; then aws ec2 delete-security-group --group-id "$group" >/dev/null; fi
group=$(group_called "$name")
if present "$group"; then
  aws ec2 revoke-security-group-ingress --group-id "$database_group" --protocol tcp --port "$port" --source-group "$group" >/dev/null
  aws ec2 delete-security-group --group-id "$group" >/dev/null
fi

aws iam remove-role-from-instance-profile --instance-profile-name "$name" --role-name "$name"
aws iam delete-instance-profile --instance-profile-name "$name"
aws iam detach-role-policy --role-name "$name" --policy-arn arn:{partition}:iam::aws:policy/{AGENT_POLICY}
aws iam delete-role --role-name "$name"
# Detach it from users and roles first.
aws iam delete-policy --policy-arn arn:{partition}:iam::{account}:policy/"$policy_name"
"#,
        head(plan),
        partition = plan.partition(),
        account = posix(&plan.account),
    )
}
