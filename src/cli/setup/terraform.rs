//! Terraform, in HCL.

use std::fmt::Write as _;

use super::plan::{AGENT_POLICY, IMAGE, INSTANCE_TYPE, NEW_BASTION, Plan, comment};
use crate::cli::policy::document::{hcl, hcl_string};

pub(super) fn create(plan: &Plan) -> String {
    let quoted = hcl_string;
    let mut text = comment(&format!("A bastion for rdsgate: {}.", plan.cost()));
    let _ = write!(
        text,
        r#"
data "aws_partition" "current" {{}}

data "aws_ssm_parameter" "rdsgate_image" {{
  name = "{IMAGE}"
}}

resource "aws_iam_role" "rdsgate_bastion" {{
  name               = {name}
  assume_role_policy = jsonencode({trust})
}}

resource "aws_iam_role_policy_attachment" "rdsgate_bastion" {{
  role       = aws_iam_role.rdsgate_bastion.name
  policy_arn = "arn:${{data.aws_partition.current.partition}}:iam::aws:policy/{AGENT_POLICY}"
}}

resource "aws_iam_instance_profile" "rdsgate_bastion" {{
  name = {name}
  role = aws_iam_role.rdsgate_bastion.name
}}

# Nothing comes in; out go the database and HTTPS.
resource "aws_security_group" "rdsgate_bastion" {{
  name        = {name}
  description = "Bastion of rdsgate"
  vpc_id      = {vpc}
}}

resource "aws_vpc_security_group_egress_rule" "rdsgate_database" {{
  security_group_id            = aws_security_group.rdsgate_bastion.id
  referenced_security_group_id = {database}
  ip_protocol                  = "tcp"
  from_port                    = {port}
  to_port                      = {port}
}}

resource "aws_vpc_security_group_egress_rule" "rdsgate_https" {{
  security_group_id = aws_security_group.rdsgate_bastion.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}}

resource "aws_vpc_security_group_ingress_rule" "rdsgate_database" {{
  security_group_id            = {database}
  referenced_security_group_id = aws_security_group.rdsgate_bastion.id
  ip_protocol                  = "tcp"
  from_port                    = {port}
  to_port                      = {port}
}}

resource "aws_instance" "rdsgate_bastion" {{
  ami                         = data.aws_ssm_parameter.rdsgate_image.value
  instance_type               = "{INSTANCE_TYPE}"
  subnet_id                   = {subnet}
  vpc_security_group_ids      = [aws_security_group.rdsgate_bastion.id]
  iam_instance_profile        = aws_iam_instance_profile.rdsgate_bastion.name
  associate_public_ip_address = false

  metadata_options {{
    http_endpoint = "enabled"
    http_tokens   = "required"
  }}

  tags = {{
    Name = {name}
  }}

  # A newer image does not replace the bastion.
  lifecycle {{
    ignore_changes = [ami]
  }}
}}

output "rdsgate_bastion" {{
  value = aws_instance.rdsgate_bastion.id
}}
"#,
        name = quoted(&plan.name),
        trust = hcl(&plan.trust(), 1),
        vpc = quoted(&plan.vpc),
        subnet = quoted(&plan.subnet),
        database = quoted(&plan.database_group),
        port = plan.port,
    );
    if !plan.endpoints.is_empty() {
        let services: Vec<String> = plan.endpoints.iter().map(|service| quoted(service)).collect();
        let _ = write!(
            text,
            r#"
# The subnet is not known to have a way to Systems Manager. Leave these out if it has a NAT gateway.
data "aws_region" "current" {{}}

resource "aws_security_group" "rdsgate_endpoints" {{
  name        = {}
  description = "Endpoints of rdsgate"
  vpc_id      = {}
}}

resource "aws_vpc_security_group_ingress_rule" "rdsgate_endpoints" {{
  security_group_id            = aws_security_group.rdsgate_endpoints.id
  referenced_security_group_id = aws_security_group.rdsgate_bastion.id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}}

resource "aws_vpc_endpoint" "rdsgate" {{
  for_each            = toset([{}])
  vpc_id              = {}
  vpc_endpoint_type   = "Interface"
  service_name        = "com.amazonaws.${{data.aws_region.current.name}}.${{each.value}}"
  subnet_ids          = [{}]
  security_group_ids  = [aws_security_group.rdsgate_endpoints.id]
  private_dns_enabled = true
}}
"#,
            quoted(&format!("{}-endpoints", plan.name)),
            quoted(&plan.vpc),
            services.join(", "),
            quoted(&plan.vpc),
            quoted(&plan.subnet),
        );
    }
    if let Some(policy) = &plan.policy {
        let policy = hcl(policy, 1).replace(NEW_BASTION, "${aws_instance.rdsgate_bastion.id}");
        let _ = write!(
            text,
            "\n# Attach it to the user or role that runs rdsgate.\nresource \"aws_iam_policy\" \"rdsgate\" {{\n  name   = {}\n  policy = jsonencode({policy})\n}}\n",
            quoted(&plan.policy_name),
        );
    }
    if let Some((kind, id)) = &plan.without_iam {
        let todo = format!("On the {kind} {id} set: iam_database_authentication_enabled = true");
        let _ = write!(text, "\n{}", comment(&todo));
    }
    if !plan.sql.is_empty() {
        let _ = write!(text, "\n# In the database, as an administrator:\n{}", comment(&plan.sql));
    }
    text
}

pub(super) fn remove() -> String {
    "# Terraform knows the order. IAM authentication of the database and its user stay.\nterraform destroy\n".into()
}
