//! Files and their owners. Windows has access control lists in the place of a mode. Those of the user's profile let in the user,
//! administrators and SYSTEM, and files made there inherit them: a file counts as ours alone if its real path lies in the profile. No
//! list is read or written.

use std::{
    fs::{self, File, FileType, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::platform::Exposure;

/// The user id of root, which Windows does not have.
pub const ROOT: u32 = 0;
/// The longest path of a unix socket, which Windows does not have here.
pub const LONGEST_SOCKET_PATH: usize = 107;

/// The user id of this process: Windows has none, so it is one that no peer has.
pub fn own_user() -> u32 {
    u32::MAX
}

/// The user id that stands for all that have none here; Windows has none.
pub fn overflow_user() -> u32 {
    u32::MAX
}

/// The folder for the records of running processes, in the local part of the profile.
pub fn runtime_folder(_variable: Option<&Path>) -> PathBuf {
    let local = etcetera::choose_base_strategy().map(|strategy| etcetera::BaseStrategy::cache_dir(&strategy));
    local.unwrap_or_else(|_| std::env::temp_dir()).join("rdsgate").join("run")
}

/// Makes a folder, and those above it that are missing.
///
/// # Errors
/// The system's error.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// New files have the access control list of their folder.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// A file keeps the access control list of its folder.
///
/// # Errors
/// None.
pub fn make_private(_file: &File) -> io::Result<()> {
    Ok(())
}

/// Opens a private file for reading and writing, and makes it if it is missing.
///
/// # Errors
/// The system's error.
pub fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Opens a file for reading.
///
/// # Errors
/// The system's error.
pub fn open_without_waiting(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// The name of a file type that is neither a regular file nor a folder.
pub fn kind(_kind: FileType) -> &'static str {
    "a device"
}

/// Whether only we can write the file or folder at a path.
pub fn only_we_write(path: &Path, _metadata: &Metadata) -> bool {
    is_in_profile(path)
}

/// Whether the file or folder at a path gives others nothing.
pub fn is_ours_alone(path: &Path, _metadata: &Metadata) -> bool {
    is_in_profile(path)
}

/// Whether everyone may be able to write the file at a path.
pub fn everyone_writes(path: &Path, _metadata: &Metadata) -> bool {
    !is_in_profile(path)
}

/// Whether a file may hold a secret of ours.
///
/// # Errors
/// The reason why not.
pub fn may_hold_secret(path: &Path, _metadata: &Metadata) -> Result<(), Exposure> {
    if is_in_profile(path) { Ok(()) } else { Err(Exposure::OutsideProfile) }
}

/// Whether the real path of an existing file or folder lies in the profile of our own user.
pub fn is_in_profile(path: &Path) -> bool {
    let profile = std::env::home_dir().and_then(|home| fs::canonicalize(home).ok());
    // A drive is not a profile.
    let profile = profile.filter(|profile| profile.file_name().is_some());
    fs::canonicalize(path).is_ok_and(|real| profile.is_some_and(|profile| real.starts_with(profile)))
}

/// Tells a file from one that was written later.
#[derive(Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    created: Option<SystemTime>,
    written: Option<SystemTime>,
}

impl Stamp {
    /// Of a file with this metadata.
    pub fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), created: metadata.created().ok(), written: metadata.modified().ok() }
    }
}

/// The number of a file, which the standard library does not tell.
pub fn number(_metadata: &Metadata) -> u64 {
    0
}
