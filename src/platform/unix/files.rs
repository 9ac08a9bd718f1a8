//! Files and their owners.

use std::{
    fs::{DirBuilder, File, FileType, Metadata, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

use crate::platform::Exposure;

/// The user id of root.
pub const ROOT: u32 = 0;
/// The longest path of a unix socket in bytes: `sun_path` of unix(7) without its NUL.
pub const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };
/// The overflow user id where the kernel does not say (`DEFAULT_OVERFLOWUID` in `linux/highuid.h`).
const OVERFLOW: u32 = 65_534;
/// The bits of a file's mode that give the group and others anything.
const OTHERS: u32 = 0o077;
/// As libpq has it for keys: a group may read what root gives it, such as a secret that is mounted into a container.
const OTHERS_OF_ROOT: u32 = 0o037;

/// The effective user id of this process.
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The user id that stands for all that have none here (user_namespaces(7), "Unmapped user and group IDs").
pub fn overflow_user() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW)
}

/// The folder for sockets and other files of running processes: in `$XDG_RUNTIME_DIR`, or else one in the temporary folder.
pub fn runtime_folder(variable: Option<&Path>) -> PathBuf {
    match variable.filter(|path| path.is_absolute()) {
        Some(path) => path.join("rdsgate"),
        None => std::env::temp_dir().join(format!("rdsgate-{}", own_user())),
    }
}

/// Makes a folder that only its owner can enter, and those above it that are missing.
///
/// # Errors
/// The system's error.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes new files readable by their owner only.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Makes an open file of ours readable by its owner only.
///
/// # Errors
/// The system's error.
pub fn make_private(file: &File) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))
}

/// Opens a private file for reading and writing, and makes it if it is missing. Does not follow a link, and waits for nothing.
///
/// # Errors
/// The system's error.
pub fn open_private(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
}

/// Opens a file for reading, without waiting for a writer, and without making a terminal ours.
///
/// # Errors
/// The system's error.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// The name of a file type that is neither a regular file nor a folder.
pub fn kind(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

/// Whether the file or folder at a path belongs to our own user, and only they can write it.
pub fn only_we_write(_path: &Path, metadata: &Metadata) -> bool {
    metadata.uid() == own_user() && metadata.mode() & 0o022 == 0
}

/// Whether the file or folder at a path belongs to our own user, and gives others nothing.
pub fn is_ours_alone(_path: &Path, metadata: &Metadata) -> bool {
    metadata.uid() == own_user() && metadata.mode() & OTHERS == 0
}

/// Whether everyone can write the file at a path. The group's bit does not count: where each user has a group of their own, files are
/// made with it.
pub fn everyone_writes(_path: &Path, metadata: &Metadata) -> bool {
    metadata.mode() & 0o002 != 0
}

/// Whether a file may hold a secret of ours: it belongs to our own user or to root, and others cannot read it.
///
/// # Errors
/// The reason why not.
pub fn may_hold_secret(_path: &Path, metadata: &Metadata) -> Result<(), Exposure> {
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    let forbidden = match owner {
        owner if owner == own_user() => OTHERS,
        ROOT => OTHERS_OF_ROOT,
        owner => return Err(Exposure::Foreign(owner)),
    };
    if mode & forbidden == 0 { Ok(()) } else { Err(Exposure::Shared(mode)) }
}

/// Tells a file from one that was written later. The time of the last change of its inode covers its permissions.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp {
    file: (u64, u64),
    length: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file with this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { file: (metadata.dev(), metadata.ino()), length: metadata.len(), changed }
    }
}

/// The number of a file that a replaced one does not share.
pub fn number(metadata: &Metadata) -> u64 {
    metadata.ino()
}

/// Whether an access control list names further users or groups: their rights show as the group's.
#[cfg(target_os = "linux")]
pub fn has_acl(path: &Path) -> bool {
    let mut none: [u8; 0] = [];
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut none).is_ok()
}

/// Whether an access control list names further users or groups. Those of macOS do not show in the mode and are not looked at.
#[cfg(not(target_os = "linux"))]
pub fn has_acl(_path: &Path) -> bool {
    false
}
