//! The SQL that makes a user whose logins are IAM's.

/// The statement, which MariaDB words in its own way.
pub(super) fn create(rds_engine: &str, user: &str) -> String {
    let user = account_name(user);
    let plugin = match rds_engine {
        "mariadb" => "VIA AWSAuthenticationPlugin USING 'RDS'",
        _ => "WITH AWSAuthenticationPlugin AS 'RDS'",
    };
    format!("CREATE USER {user} IDENTIFIED {plugin} REQUIRE SSL;\n")
}

/// A MySQL account. Where a backslash means itself or not is a setting of the server's, but never between backticks
/// ("Specifying Account Names").
fn account_name(user: &str) -> String {
    if user.contains(['\'', '\\']) { format!("`{}`@`%`", user.replace('`', "``")) } else { format!("'{user}'@'%'") }
}
