//! Where a project's file may lie: only where only the user and root could have put it, or could change it.
//!
//! The search goes from the working directory upwards. Each folder on the way, and the file itself, must belong to the user
//! or to root and not be writable by others; a sticky folder such as `/tmp` is not safe, since anybody can make a file in
//! it. Folders above the file do not matter: who can rename them cannot give away what they put in their place. The search
//! ends at the home folder, at another file system and at a folder that is not safe (git's `safe.directory` and OpenSSH's
//! `StrictModes` think alike).
//!
//! Where each user has a group of their own, files are made with the group's bit (umask 002). Such a group counts as the
//! user, unless an access control list stands behind that bit.
//!
//! On Windows a file is read where only the user could have put it by the rule of [`files`]: in the user's profile.

use std::{
    fmt,
    fs::Metadata,
    path::{Path, PathBuf},
};
#[cfg(unix)]
use std::{fs, os::unix::fs::MetadataExt as _};

use crate::platform::files;

/// The file looked for in the working directory and above.
pub const PROJECT_FILE: &str = ".rdsgate.toml";

/// The result of the search.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is no file.
    Nothing,
    /// The file, by its real path, to be read and checked by [`check`].
    File(PathBuf),
    /// There is a file that must not be read.
    Unsafe {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        reason: Reason,
    },
}

/// The reason why a project's file is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The file belongs to another user.
    Foreign {
        /// The file or folder.
        path: PathBuf,
        /// Its owner's user id.
        owner: u32,
    },
    /// Others can write it.
    Writable {
        /// The file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file lies outside the user's profile of Windows.
    OutsideProfile,
    /// The file lies above the home folder.
    BeyondHome,
    /// The file lies on another file system than the working directory.
    OtherFileSystem,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { path, owner } => {
                write!(f, "`{}` belongs to user id {owner}, neither to you nor to root", path.display())
            }
            Self::Writable { path, mode } => {
                write!(f, "others can write `{}` (mode {:04o})", path.display(), mode & 0o7777)
            }
            Self::OutsideProfile => {
                f.write_str("it lies outside your user profile, where other users may be able to write")
            }
            Self::BeyondHome => f.write_str("it lies above your home folder"),
            Self::OtherFileSystem => f.write_str("it lies on another file system than the working directory"),
        }
    }
}

impl Reason {
    /// The next step, beginning with a verb.
    pub(super) fn hint(&self, file: &Path) -> String {
        match self {
            Self::Writable { path, mode } if mode & 0o1000 == 0 => {
                let whom = if mode & 0o002 == 0 { "g" } else { "go" };
                format!("chmod {whom}-w {}", path.display())
            }
            Self::Writable { .. }
            | Self::Foreign { .. }
            | Self::OutsideProfile
            | Self::BeyondHome
            | Self::OtherFileSystem => {
                format!("name it if you trust everyone who can write it: --config {}", file.display())
            }
        }
    }
}

/// Looks for a project's file in `directory` and above, for the user with this id.
#[cfg(unix)]
pub(super) fn project_file(directory: &Path, home: Option<&Path>, user: u32) -> Found {
    let id = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let home = home.and_then(id);
    let mut device = None;
    let mut barrier = None;
    for folder in directory.ancestors() {
        let Ok(meta) = fs::metadata(folder) else { return Found::Nothing };
        if *device.get_or_insert(meta.dev()) != meta.dev() {
            barrier.get_or_insert(Reason::OtherFileSystem);
        }
        if let Err(reason) = check(folder, &meta, user) {
            barrier.get_or_insert(reason);
        }
        let path = folder.join(PROJECT_FILE);
        // Not a folder of that name, nor a link that leads nowhere.
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_dir()) {
            return match barrier.map_or_else(|| real(&path, user), Err) {
                Ok(real) => real.map_or(Found::Nothing, Found::File),
                Err(reason) => Found::Unsafe { path, reason },
            };
        }
        if home == Some((meta.dev(), meta.ino())) {
            barrier.get_or_insert(Reason::BeyondHome);
        }
    }
    Found::Nothing
}

/// The real path of a file that was found in a safe folder; `None` when it has just gone. A link must be ours or root's, and
/// lead into a safe folder.
#[cfg(unix)]
fn real(path: &Path, user: u32) -> Result<Option<PathBuf>, Reason> {
    let Ok(link) = fs::symlink_metadata(path) else { return Ok(None) };
    if !link.is_symlink() {
        return Ok(Some(path.to_owned()));
    }
    must_be_ours(path, link.uid(), user)?;
    let Ok(real) = fs::canonicalize(path) else { return Ok(None) };
    let folder = real.parent().unwrap_or(Path::new("/"));
    let Ok(meta) = fs::metadata(folder) else { return Ok(None) };
    check(folder, &meta, user)?;
    Ok(Some(real))
}

/// Whether a file or folder belongs to the user (by id) or to root, and others cannot write it.
#[cfg(unix)]
pub(super) fn check(path: &Path, meta: &Metadata, user: u32) -> Result<(), Reason> {
    must_be_ours(path, meta.uid(), user)?;
    let by_group = meta.mode() & 0o020 != 0 && (files::has_acl(path) || !is_private_group(meta.gid(), meta.uid()));
    if meta.mode() & 0o002 != 0 || by_group {
        return Err(Reason::Writable { path: path.to_owned(), mode: meta.mode() });
    }
    Ok(())
}

#[cfg(unix)]
fn must_be_ours(path: &Path, owner: u32, user: u32) -> Result<(), Reason> {
    if [0, user].contains(&owner) { Ok(()) } else { Err(Reason::Foreign { path: path.to_owned(), owner }) }
}

/// Whether a group is its owner's alone, as far as this machine's own lists say so.
#[cfg(unix)]
fn is_private_group(group: u32, owner: u32) -> bool {
    let list = |path: &str| fs::read_to_string(path).unwrap_or_default();
    private_in(&list("/etc/passwd"), &list("/etc/group"), group, owner)
}

/// A user's own group has the user's number or name, and no other member: useradd(8), USERGROUPS_ENAB; directory services
/// that make such groups give them the user's number.
#[cfg(unix)]
fn private_in(passwd: &str, groups: &str, group: u32, owner: u32) -> bool {
    let number = |text: Option<&&str>| text.and_then(|text| text.parse::<u32>().ok());
    let mut name = None;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let is_owner = number(fields.get(2)) == Some(owner);
        if is_owner {
            name = fields.first().copied();
        } else if number(fields.get(3)) == Some(group) {
            return false;
        }
    }
    let mut is_own = group == owner;
    for line in groups.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if number(fields.get(2)) != Some(group) {
            continue;
        }
        is_own |= name.is_some() && fields.first().copied() == name;
        let mut members =
            fields.get(3).into_iter().flat_map(|members| members.split(',')).filter(|one| !one.is_empty());
        if members.any(|member| Some(member) != name) {
            return false;
        }
    }
    is_own
}

/// Looks for a project's file in `directory` and above.
#[cfg(windows)]
pub(super) fn project_file(directory: &Path, _home: Option<&Path>, _user: u32) -> Found {
    let mut paths = directory.ancestors().map(|folder| folder.join(PROJECT_FILE));
    let Some(path) = paths.find(|path| std::fs::metadata(path).is_ok_and(|meta| !meta.is_dir())) else {
        return Found::Nothing;
    };
    if !files::is_in_profile(&path) {
        return Found::Unsafe { path, reason: Reason::OutsideProfile };
    }
    if !path.is_symlink() {
        return Found::File(path);
    }
    std::fs::canonicalize(path).map_or(Found::Nothing, Found::File)
}

/// Whether only the user can write a file or folder.
#[cfg(windows)]
pub(super) fn check(path: &Path, _meta: &Metadata, _user: u32) -> Result<(), Reason> {
    if files::is_in_profile(path) { Ok(()) } else { Err(Reason::OutsideProfile) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn us() -> u32 {
        files::own_user()
    }

    struct Folders(tempfile::TempDir);

    impl Folders {
        /// `home/project/src`, with a file in `project`.
        fn new() -> Self {
            let folders = Self(tempfile::tempdir().unwrap());
            fs::create_dir_all(folders.path("home/project/src")).unwrap();
            fs::write(folders.path("home/project/.rdsgate.toml"), "").unwrap();
            for path in ["", "home", "home/project", "home/project/src"] {
                folders.mode(path, 0o755);
            }
            folders.mode("home/project/.rdsgate.toml", 0o644);
            folders
        }

        fn path(&self, name: &str) -> PathBuf {
            // The system's folder for temporary files may be a link.
            self.0.path().canonicalize().unwrap().join(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn search(&self) -> Found {
            project_file(&self.path("home/project/src"), Some(&self.path("home")), us())
        }
    }

    #[test]
    fn file_in_safe_folders_is_found_by_its_real_path() {
        let folders = Folders::new();
        assert_eq!(folders.search(), Found::File(folders.path("home/project/.rdsgate.toml")));
        // Above the home folder nothing is read, and in it everything is.
        fs::rename(folders.path("home/project/.rdsgate.toml"), folders.path("home/.rdsgate.toml")).unwrap();
        assert_eq!(folders.search(), Found::File(folders.path("home/.rdsgate.toml")));
        symlink("../.rdsgate.toml", folders.path("home/project/.rdsgate.toml")).unwrap();
        assert_eq!(folders.search(), Found::File(folders.path("home/.rdsgate.toml")), "the link's end");
        fs::remove_file(folders.path("home/project/.rdsgate.toml")).unwrap();
        fs::rename(folders.path("home/.rdsgate.toml"), folders.path(".rdsgate.toml")).unwrap();
        assert_eq!(folders.search(), Found::Unsafe { path: folders.path(".rdsgate.toml"), reason: Reason::BeyondHome });
    }

    #[test]
    fn folder_that_others_can_write_ends_the_search() {
        for folder in ["home/project/src", "home/project"] {
            for mode in [0o777, 0o1777, 0o757] {
                let folders = Folders::new();
                folders.mode(folder, mode);
                let path = folders.path("home/project/.rdsgate.toml");
                let Found::Unsafe { path: found, reason } = folders.search() else { panic!("{folder} {mode:o}") };
                assert_eq!(found, path);
                assert_eq!(
                    reason.to_string(),
                    format!("others can write `{}` (mode {mode:04o})", folders.path(folder).display())
                );
            }
        }
        let folders = Folders::new();
        folders.mode("home", 0o777);
        assert!(matches!(folders.search(), Found::File(_)), "folders above the file do not matter");
        folders.mode("home/project/.rdsgate.toml", 0o666);
        let path = folders.path("home/project/.rdsgate.toml");
        let reason = check(&path, &fs::metadata(&path).unwrap(), us()).unwrap_err();
        assert_eq!(reason.hint(&path), format!("chmod go-w {}", path.display()));
    }

    #[test]
    fn link_into_a_folder_that_others_can_write_is_not_followed() {
        let folders = Folders::new();
        fs::create_dir(folders.path("shared")).unwrap();
        fs::rename(folders.path("home/project/.rdsgate.toml"), folders.path("shared/x.toml")).unwrap();
        folders.mode("shared", 0o1777);
        symlink(folders.path("shared/x.toml"), folders.path("home/project/.rdsgate.toml")).unwrap();
        let Found::Unsafe { reason, .. } = folders.search() else { panic!("it was followed") };
        assert_eq!(reason, Reason::Writable { path: folders.path("shared"), mode: 0o041_777 });
        fs::remove_file(folders.path("shared/x.toml")).unwrap();
        assert_eq!(folders.search(), Found::Nothing, "a link that leads nowhere");
    }

    #[test]
    fn group_counts_as_the_user_where_it_is_the_users_alone() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\nbob:x:1001:100::/home/bob:/bin/sh\n";
        let groups = "root:x:0:\nada:x:1000:\nusers:x:100:\nbob:x:1002:bob\nstaff:x:50:ada,bob\nwheel:x:1001:ada\n";
        for (group, owner, private) in [
            (1000, 1000, true),
            (0, 0, true),
            (1002, 1001, true),
            (1001, 1001, false),
            (100, 1001, false),
            (50, 1000, false),
            (1000, 0, false),
            (1000, 1001, false),
            // Of a directory service: the number is all that is known.
            (70_000, 70_000, true),
            (70_000, 70_001, false),
        ] {
            assert_eq!(private_in(passwd, groups, group, owner), private, "group {group} of {owner}");
        }
        assert!(!private_in("sync:x:5:0::/:/bin/sync\n", "", 0, 0), "somebody else's first group");
    }

    #[test]
    fn file_or_folder_of_another_user_is_ignored() {
        const NOBODY: u32 = 65_534;
        for path in ["home/project/.rdsgate.toml", "home/project", "home/project/src"] {
            let folders = Folders::new();
            // Root gives the file away; anybody else looks at it as another user, for whom all of it is foreign.
            let (user, path, owner) = if us() == 0 {
                std::os::unix::fs::chown(folders.path(path), Some(NOBODY), None).unwrap();
                (0, path, NOBODY)
            } else {
                (us() + 1, "home/project/src", us())
            };
            let reason = match project_file(&folders.path("home/project/src"), Some(&folders.path("home")), user) {
                Found::Unsafe { reason, .. } => reason,
                Found::File(file) => check(&file, &fs::metadata(&file).unwrap(), user).unwrap_err(),
                Found::Nothing => panic!("{path}"),
            };
            assert_eq!(reason, Reason::Foreign { path: folders.path(path), owner });
        }
    }
}
