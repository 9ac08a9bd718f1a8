//! The password of a listener, which rdsgate's own clients must know before anything happens upstream. It is in a file that
//! only its owner may read; `rdsgate password` makes it. The file is looked at again for each client, so that a renewed password
//! counts at once.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use aws_lc_rs::rand;
use database_wire::{mysql, postgres::scram};
use safe_display::Secret;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::{
    causes,
    platform::{
        Exposure,
        files::{self, Stamp},
    },
    regular_file,
};

/// The fewest characters of a password. A guess takes a second at least.
const MIN_LENGTH: usize = 8;
/// The characters of a password that rdsgate makes.
const GENERATED_LENGTH: usize = 32;
/// 64 characters that need no quotes in a shell, a URL or an option file.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The password of a listener, as far as it takes to judge the proof of a client.
pub struct LocalPassword {
    /// The file that it was read from.
    pub file: PathBuf,
    /// For PostgreSQL.
    pub scram: scram::Verifier,
    /// For MySQL and MariaDB.
    pub mysql: mysql::Verifier,
    /// The file as it was when it was read.
    stamp: Stamp,
}

/// The password of a file that may be renewed while we run.
pub struct Renewed(Mutex<State>);

struct State {
    password: Arc<LocalPassword>,
    /// Whether the last look at the file found a password that cannot be used, which was logged.
    is_unusable: bool,
}

impl Renewed {
    /// Of the password that was read at the start.
    pub fn new(password: LocalPassword) -> Self {
        Self(Mutex::new(State { password: Arc::new(password), is_unusable: false }))
    }

    /// The password that counts now. Reads the file if it has changed, which takes some milliseconds; the last password stays valid
    /// while the file cannot be used.
    pub fn current(&self) -> Arc<LocalPassword> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let last = Arc::clone(&state.password);
        let path = &last.file;
        if std::fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == last.stamp) {
            state.is_unusable = false;
            return last;
        }
        match LocalPassword::of_file(path) {
            Ok(password) => {
                info!(file = %path.display(), "the local password was read again: its file has changed");
                *state = State { password: Arc::new(password), is_unusable: false };
            }
            Err(error) if !state.is_unusable => {
                let (cause, hint) = (causes::one_line(&error), error.hint().unwrap_or_default());
                warn!(cause, hint, "the local password was not read again; the last one stays valid");
                state.is_unusable = true;
            }
            Err(_) => {}
        }
        Arc::clone(&state.password)
    }
}

impl LocalPassword {
    /// Of the password in a file.
    ///
    /// # Errors
    /// As for [`read`](fn@read).
    pub fn of_file(path: &Path) -> Result<Self, Error> {
        let (password, stamp) = read_stamped(path)?;
        let no_random = || Error::Read(path.into(), io::Error::other(NO_RANDOM));
        let scram = scram::Verifier::new(&password).ok_or_else(no_random)?;
        Ok(Self { file: path.into(), scram, mysql: mysql::Verifier::new(&password), stamp })
    }
}

const NO_RANDOM: &str = "there are no random numbers";

/// The reason why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the local password in {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// Others can read or change the file.
    #[error("the local password in {} is not secret: others have access to the file (mode {mode:04o})", path.display())]
    Shared {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error("the local password in {} belongs to user id {owner}, who is neither you nor root", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The file lies where Windows may let other users in.
    #[error("the local password in {} may not be secret: the file lies outside your user profile", .0.display())]
    OutsideProfile(PathBuf),
    /// The first line is too short.
    #[error("the first line of {} is not a local password: expected {MIN_LENGTH} characters or more", .0.display())]
    Short(PathBuf),
    /// The first line has other characters than printable ASCII, which clients encode in various ways.
    #[error("the local password in {} has other characters than those of printable ASCII", .0.display())]
    Characters(PathBuf),
    /// There is a file already.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

impl Error {
    /// The remedy.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Read(path, cause) if cause.kind() == io::ErrorKind::NotFound => {
                Some(format!("make it: rdsgate password --file {}", path.display()))
            }
            Self::Shared { path, .. } => {
                Some(format!("run: chmod 600 {}. If others have read it: rdsgate password --renew", path.display()))
            }
            Self::OutsideProfile(_) => Some("keep it in your profile: rdsgate password makes it there".into()),
            Self::Foreign { .. } => Some("use a file of your own: rdsgate password makes one".into()),
            Self::Short(path) | Self::Characters(path) => {
                Some(format!("make another one: rdsgate password --renew --file {}", path.display()))
            }
            Self::Exists(_) => Some("use it as it is, or replace it with --renew".into()),
            Self::Read(..) | Self::Write(..) => None,
        }
    }
}

/// Reads the password: the first line of a file that other users cannot read.
///
/// # Errors
/// [`Error`], all but [`Error::Exists`] and [`Error::Write`].
pub fn read(path: &Path) -> Result<Secret<String>, Error> {
    read_stamped(path).map(|(password, _)| password)
}

fn read_stamped(path: &Path) -> Result<(Secret<String>, Stamp), Error> {
    let file = regular_file::read(path).map_err(|cause| Error::Read(path.into(), cause))?;
    let bytes = Zeroizing::new(file.bytes);
    files::may_hold_secret(path, &file.metadata).map_err(|exposure| match exposure {
        Exposure::Foreign(owner) => Error::Foreign { path: path.into(), owner },
        Exposure::Shared(mode) => Error::Shared { path: path.into(), mode },
        Exposure::OutsideProfile => Error::OutsideProfile(path.into()),
    })?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let printable = line.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match std::str::from_utf8(line) {
        Ok(password) if printable && password.len() >= MIN_LENGTH => {
            Ok((Secret::new(password.to_owned()), Stamp::of(&file.metadata)))
        }
        Ok(_) if printable => Err(Error::Short(path.into())),
        _ => Err(Error::Characters(path.into())),
    }
}

/// Makes a file with a random password that only its owner can read. `renew` replaces one that is there, in one step.
///
/// # Errors
/// [`Error::Exists`], [`Error::Write`].
pub fn create(path: &Path, renew: bool) -> Result<(), Error> {
    let failed = |cause| Error::Write(path.into(), cause);
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::make_private_folder(folder).map_err(failed)?;
    }
    if !renew {
        return match open_new(path) {
            Ok(file) => write(file).map_err(failed),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Err(Error::Exists(path.into())),
            Err(cause) => Err(failed(cause)),
        };
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(name);
    let replaced = open_new(&new).and_then(write).and_then(|()| std::fs::rename(&new, path));
    replaced.map_err(|cause| {
        let _ = std::fs::remove_file(&new);
        failed(cause)
    })
}

fn open_new(path: &Path) -> io::Result<File> {
    files::private(OpenOptions::new().write(true).create_new(true)).open(path)
}

fn write(mut file: File) -> io::Result<()> {
    // Whatever the umask has taken away.
    files::make_private(&file)?;
    let mut random = Zeroizing::new([0; GENERATED_LENGTH]);
    rand::fill(&mut *random).map_err(|_| io::Error::other(NO_RANDOM))?;
    let mut line = Zeroizing::new(Vec::with_capacity(GENERATED_LENGTH + 1));
    line.extend(random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 64))));
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    };

    use super::*;

    fn file_of(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn password_is_the_first_line() {
        for text in ["correct horse", "correct horse\n", "correct horse\r\nanother line\n"] {
            let (_folder, path) = file_of(text, 0o600);
            assert_eq!(read(&path).map(|password| password.expose().clone()).unwrap(), "correct horse");
        }
    }

    #[test]
    fn file_that_others_can_read_is_refused_in_words() {
        for mode in [0o640, 0o604, 0o620, 0o777] {
            let (_folder, path) = file_of("correct horse\n", mode);
            let Err(error) = read(&path) else { panic!("{mode:o} was read") };
            let said = format!("is not secret: others have access to the file (mode {mode:04o})");
            assert!(error.to_string().ends_with(&said), "{error}");
            assert!(error.hint().unwrap().starts_with("run: chmod 600 "));
        }
        for mode in [0o600, 0o400] {
            let (_folder, path) = file_of("correct horse\n", mode);
            assert!(read(&path).is_ok(), "{mode:o}");
        }
    }

    #[test]
    fn renewed_password_counts_at_once_and_the_last_one_while_there_is_none() {
        let (_folder, path) = file_of("correct horse\n", 0o600);
        let renewed = Renewed::new(LocalPassword::of_file(&path).unwrap_or_else(|error| panic!("{error}")));
        let first = renewed.current();
        assert!(Arc::ptr_eq(&first, &renewed.current()), "nothing has changed");
        create(&path, true).unwrap();
        let second = renewed.current();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &renewed.current()));
        for unusable in ["short", ""] {
            fs::write(&path, unusable).unwrap();
            assert!(Arc::ptr_eq(&second, &renewed.current()), "{unusable:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(Arc::ptr_eq(&second, &renewed.current()), "without a file");
        fs::write(&path, "battery staple\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(Arc::ptr_eq(&second, &renewed.current()), "others can read it");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let third = renewed.current();
        assert!(!Arc::ptr_eq(&second, &third));
        assert!(Arc::ptr_eq(&third, &renewed.current()));
    }

    #[test]
    fn file_without_a_usable_password_is_refused() {
        for text in ["", "\ncorrect horse", "1234567\n"] {
            let (_folder, path) = file_of(text, 0o600);
            assert!(matches!(read(&path), Err(Error::Short(_))), "{text:?}");
        }
        for text in ["pässword!", "a\tlonger one", "null\0null"] {
            let (_folder, path) = file_of(text, 0o600);
            assert!(matches!(read(&path), Err(Error::Characters(_))), "{text:?}");
        }
        let (folder, path) = file_of("x", 0o600);
        assert!(matches!(read(folder.path()), Err(Error::Read(..))));
        let missing = read(&path.with_extension("none")).err().unwrap();
        assert!(missing.hint().unwrap().starts_with("make it: rdsgate password --file "));
    }

    #[test]
    fn generated_password_is_random_and_secret_and_not_replaced_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/folder/password");
        create(&path, false).unwrap();
        let first = read(&path).map(|password| password.expose().clone()).unwrap();
        assert_eq!(first.len(), GENERATED_LENGTH);
        assert!(first.bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert!(matches!(create(&path, false), Err(Error::Exists(_))));
        assert_eq!(*read(&path).unwrap_or_else(|error| panic!("{error}")).expose(), first);
        create(&path, true).unwrap();
        assert_ne!(*read(&path).unwrap_or_else(|error| panic!("{error}")).expose(), first);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
    }
}
