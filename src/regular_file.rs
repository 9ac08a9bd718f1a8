//! Reading a file whose name came from a configuration: a regular file of a bounded size, or an error.
//!
//! A name may point to a FIFO without a writer, to a device or to an endless file. None of these may block the process or fill its
//! memory.

use std::{
    fs::{FileType, Metadata},
    io::{self, Read as _},
    path::Path,
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::platform::files;

/// The largest file that is read, in bytes: above any configuration and any bundle of roots (AWS's has 170 kB).
pub const MAX_LENGTH: u64 = 1 << 20;

/// A SHA-256.
pub type Sha256 = [u8; 32];

/// The SHA-256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Sha256 {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// A file that was read completely.
#[derive(Debug)]
pub struct RegularFile {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The metadata of the file that was read.
    pub metadata: Metadata,
}

/// Reads a regular file of at most [`MAX_LENGTH`] bytes. Never waits for a writer.
///
/// # Errors
/// The system's error, or another kind of file, or a larger one.
pub fn read(path: &Path) -> io::Result<RegularFile> {
    // Opening a device can have effects, so the name is checked first. The opened file is checked again.
    must_be_regular(std::fs::metadata(path)?.file_type())?;
    let file = files::open_without_waiting(path)?;
    let metadata = file.metadata()?;
    must_be_regular(metadata.file_type())?;
    let mut bytes = Vec::new();
    file.take(MAX_LENGTH + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_LENGTH {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(RegularFile { bytes, metadata })
}

fn must_be_regular(kind: FileType) -> io::Result<()> {
    let name = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        kind => files::kind(kind),
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {name}, expected a regular file")))
}

#[cfg(all(test, unix))]
mod tests {
    use std::{
        fs::{self, File},
        os::unix::net::UnixListener,
    };

    use super::*;

    #[test]
    fn only_regular_files_of_a_bounded_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        for name in ["file", "link"] {
            assert_eq!(read(&path(name)).unwrap().bytes, b"text");
        }
        let made = std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap();
        assert!(made.success());
        std::os::unix::fs::symlink(path("fifo"), path("to-fifo")).unwrap();
        let _listener = UnixListener::bind(path("socket")).unwrap();
        File::create(path("large")).unwrap().set_len(MAX_LENGTH + 1).unwrap();
        File::create(path("largest")).unwrap().set_len(MAX_LENGTH).unwrap();
        assert_eq!(read(&path("largest")).unwrap().bytes.len() as u64, MAX_LENGTH);
        for (path, said) in [
            (path("fifo"), "it is a FIFO, expected a regular file"),
            (path("to-fifo"), "it is a FIFO, expected a regular file"),
            (path("socket"), "it is a socket, expected a regular file"),
            ("/dev/zero".into(), "it is a device, expected a regular file"),
            (path("large"), "it is larger than 1 MiB"),
            (path(""), "is a directory"),
            (path("none"), "No such file or directory (os error 2)"),
        ] {
            assert_eq!(read(&path).unwrap_err().to_string(), said, "{}", path.display());
        }
    }
}
