//! The SQL that makes a user whose logins are IAM's.

/// The statements. Aurora DSQL maps IAM roles to its own ("Using database roles and IAM authentication"); for RDS, the engine makes
/// no difference.
pub(super) fn create(rds_engine: &str, user: &str) -> String {
    let user = format!("\"{}\"", user.replace('"', "\"\""));
    if rds_engine == "aurora-dsql" {
        if user == "\"admin\"" {
            return "-- Every cluster has the role admin. Its logins need dsql:DbConnectAdmin, and no SQL.\n".into();
        }
        return format!(
            "CREATE ROLE {user} WITH LOGIN;\nAWS IAM GRANT {user} TO 'arn:aws:iam::<account>:role/<role>';\n"
        );
    }
    format!("CREATE USER {user};\nGRANT rds_iam TO {user};\n")
}
