//! The names that a program takes from the operating system when it is given no database user.
//!
//! libpq takes the name of its effective user id in the user database (`pg_fe_getauthname`), as do pgx and pgjdbc;
//! libmysqlclient the same or `root` for user id 0, and else `USER`, `LOGNAME` or `LOGIN` (`read_user_name`); asyncpg and
//! PyMySQL ask Python's `getpass.getuser`, which reads `LOGNAME` and `USER` first; node-postgres reads `USER`.

use std::{env, fs};

use crate::listen::access::User;

const PASSWD: &str = "/etc/passwd";

/// Whether a client of `user` may have sent `name` only because it was given no database user.
pub(super) fn is_default(name: &[u8], user: User) -> bool {
    // Users of a directory service are not in the file; those variables are the same in their programs and in us.
    let own = || ["USER", "LOGNAME"].into_iter().filter_map(env::var_os);
    let in_passwd = |uid| fs::read_to_string(PASSWD).is_ok_and(|text| passwd_names(&text, uid, name));
    user.uid == Some(0) && name == b"root"
        || user.is_own && own().any(|own| own.as_encoded_bytes() == name)
        || user.uid.is_some_and(in_passwd)
}

/// Whether passwd(5) gives the user id this name.
fn passwd_names(text: &str, uid: u32, name: &[u8]) -> bool {
    text.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next().is_some_and(|field| field.as_bytes() == name)
            && fields.nth(1).is_some_and(|field| field.parse() == Ok(uid))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_id_may_have_several_names() {
        let text = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\nbroken\n::\n";
        for (uid, name, is) in [
            (0, "root", true),
            (0, "toor", true),
            (1000, "ada", true),
            (0, "ada", false),
            (1000, "root", false),
            (1000, "broken", false),
            (1000, "", false),
        ] {
            assert_eq!(passwd_names(text, uid, name.as_bytes()), is, "{uid} {name}");
        }
    }

    #[test]
    fn root_is_known_without_passwd() {
        assert!(is_default(b"root", User { uid: Some(0), is_own: false }));
        assert!(!is_default(b"app_user", User { uid: Some(0), is_own: false }));
        assert!(!is_default(b"root", User::UNKNOWN));
    }
}
