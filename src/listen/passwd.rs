//! passwd(5) and group(5): the names of this machine's users and groups. Those of a directory service are not in the files. Windows
//! has no such files, and a folder `\\etc` there may be of any user.

use std::fs;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// Whether a user id has this name.
pub fn names(uid: u32, name: &[u8]) -> bool {
    read(PASSWD).is_some_and(|text| entries(&text).any(|entry| entry == (name, uid)))
}

/// The user id of a name.
pub fn id_of(name: &str) -> Option<u32> {
    id_in(PASSWD, name)
}

/// The group id of a name.
pub fn group_id_of(name: &str) -> Option<u32> {
    id_in(GROUP, name)
}

fn id_in(file: &str, name: &str) -> Option<u32> {
    let text = read(file)?;
    entries(&text).find(|(entry, _)| *entry == name.as_bytes()).map(|(_, uid)| uid)
}

fn read(file: &str) -> Option<String> {
    if cfg!(windows) { None } else { fs::read_to_string(file).ok() }
}

/// The names with their ids, which both files have in the same fields; a line that is not an entry is left out.
fn entries(text: &str) -> impl Iterator<Item = (&[u8], u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        Some((fields.next()?.as_bytes(), fields.nth(1)?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_id_may_have_several_names() {
        let text = "root:x:0:0:root:/root:/bin/bash\ntoor:x:0:0::/root:/bin/sh\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\nbroken\n::\n";
        let known: [(&[u8], u32); 3] = [(b"root", 0), (b"toor", 0), (b"ada", 1000)];
        assert_eq!(entries(text).collect::<Vec<_>>(), known);
        assert_eq!((id_of("root"), group_id_of("root")), (Some(0), Some(0)));
        assert!(names(0, b"root") && !names(1000, b"root") && id_of("no such user").is_none());
    }
}
