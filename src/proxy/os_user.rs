//! The names that a program takes from the operating system when it is given no database user.
//!
//! libpq takes the name of its effective user id in the user database (`pg_fe_getauthname`), as do pgx and pgjdbc;
//! libmysqlclient the same or `root` for user id 0, and else `USER`, `LOGNAME` or `LOGIN` (`read_user_name`); asyncpg and
//! PyMySQL ask Python's `getpass.getuser`, which reads `LOGNAME` and `USER` first; node-postgres reads `USER`. On Windows all of them
//! take the name of the account or `USERNAME`.

use std::env;

use crate::listen::{access::User, passwd};

/// Whether a client of `user` may have sent `name` only because it was given no database user.
pub(super) fn is_default(name: &[u8], user: User) -> bool {
    // Users of a directory service are not in the file; those variables are the same in their programs and in us.
    let own = || ["USER", "LOGNAME", "USERNAME"].into_iter().filter_map(env::var_os);
    user.uid == Some(0) && name == b"root"
        || user.is_own && own().any(|own| own.as_encoded_bytes() == name)
        || user.uid.is_some_and(|uid| passwd::names(uid, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_without_passwd() {
        assert!(is_default(b"root", User { uid: Some(0), is_own: false }));
        assert!(!is_default(b"app_user", User { uid: Some(0), is_own: false }));
        assert!(!is_default(b"root", User::UNKNOWN));
    }
}
