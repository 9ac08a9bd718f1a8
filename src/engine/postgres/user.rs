//! The SQL that makes a user whose logins are IAM's.

/// The statements; the engine of RDS makes no difference.
pub(super) fn create(_rds_engine: &str, user: &str) -> String {
    let user = format!("\"{}\"", user.replace('"', "\"\""));
    format!("CREATE USER {user};\nGRANT rds_iam TO {user};\n")
}
