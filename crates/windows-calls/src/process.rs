//! A process, by its id: its account, start and program.

use std::{
    io,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle},
    path::PathBuf,
    ptr,
};

use windows_sys::{
    Win32::{
        Foundation::{ERROR_INSUFFICIENT_BUFFER, FILETIME, HANDLE, LocalFree, STILL_ACTIVE},
        Security::{
            Authorization::ConvertSidToStringSidW, GetTokenInformation, PSID, TOKEN_QUERY, TOKEN_USER, TokenUser,
        },
        System::Threading::{
            GetExitCodeProcess, GetProcessTimes, OpenProcess, OpenProcessToken, PROCESS_NAME_WIN32,
            PROCESS_QUERY_LIMITED_INFORMATION, QueryFullProcessImageNameW,
        },
    },
    core::PWSTR,
};

/// The account of the operating system, as [`Process::account`] has it.
pub const SYSTEM: &str = "S-1-5-18";
/// The longest string form of a SID: 15 parts of at most 10 digits, and the head.
const LONGEST_SID: usize = 256;
/// The longest path of a program in UTF-16 words.
const LONGEST_PATH: usize = 32_768;

/// A process that was running when it was opened. Its id is not given to another one as long as this exists.
#[derive(Debug)]
pub struct Process(OwnedHandle);

impl Process {
    /// Opens the process with an id.
    ///
    /// # Errors
    /// The process has ended, or belongs to another user and may not be queried.
    pub fn open(id: u32) -> io::Result<Self> {
        // SAFETY: a call without pointers.
        let handle = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, id) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is open, and nothing else has it.
        let process = Self(unsafe { OwnedHandle::from_raw_handle(handle) });
        if process.has_ended()? { Err(io::ErrorKind::NotFound.into()) } else { Ok(process) }
    }

    fn handle(&self) -> HANDLE {
        self.0.as_raw_handle()
    }

    fn has_ended(&self) -> io::Result<bool> {
        let mut code = 0;
        // SAFETY: the handle is open, and `code` is written to.
        done(unsafe { GetExitCodeProcess(self.handle(), &raw mut code) })?;
        Ok(code != STILL_ACTIVE.cast_unsigned())
    }

    /// The account that the process runs as: its security identifier, such as `S-1-5-21-…-1001`.
    ///
    /// # Errors
    /// The account does not let us look at it.
    pub fn account(&self) -> io::Result<String> {
        let mut token = ptr::null_mut();
        // SAFETY: the handle is open, and `token` is written to.
        done(unsafe { OpenProcessToken(self.handle(), TOKEN_QUERY, &raw mut token) })?;
        // SAFETY: the call has succeeded, so the handle is open, and nothing else has it.
        let token = unsafe { OwnedHandle::from_raw_handle(token) };
        let mut length = 0;
        // SAFETY: without room for the answer only its length is written.
        let sized =
            done(unsafe { GetTokenInformation(token.as_raw_handle(), TokenUser, ptr::null_mut(), 0, &raw mut length) });
        match sized {
            Err(error) if error.raw_os_error() == Some(ERROR_INSUFFICIENT_BUFFER.cast_signed()) => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(io::Error::other("the token of a process has no user")),
        }
        // Words of the size of a pointer, for their alignment.
        let room = usize::try_from(length).unwrap_or_default().max(size_of::<TOKEN_USER>());
        let mut answer = vec![0_usize; room.div_ceil(size_of::<usize>())];
        let buffer = answer.as_mut_ptr();
        // SAFETY: the buffer has at least `length` bytes and is aligned for the structure.
        done(unsafe { GetTokenInformation(token.as_raw_handle(), TokenUser, buffer.cast(), length, &raw mut length) })?;
        // SAFETY: the call has written a TOKEN_USER to the front of the buffer, which is large and aligned enough for it.
        let user = unsafe { buffer.cast::<TOKEN_USER>().read() };
        // The identifier lies in the buffer, which is still there.
        let text = text_of(user.User.Sid);
        drop(answer);
        text
    }

    /// When it started, in steps of 100 ns since 1601.
    ///
    /// # Errors
    /// The system's error.
    pub fn started(&self) -> io::Result<u64> {
        const NEVER: FILETIME = FILETIME { dwLowDateTime: 0, dwHighDateTime: 0 };
        let [mut created, mut ended, mut kernel, mut user] = [NEVER; 4];
        // SAFETY: the handle is open, and the four times are written to.
        done(unsafe {
            GetProcessTimes(self.handle(), &raw mut created, &raw mut ended, &raw mut kernel, &raw mut user)
        })?;
        Ok(u64::from(created.dwHighDateTime) << 32 | u64::from(created.dwLowDateTime))
    }

    /// The path of its program.
    ///
    /// # Errors
    /// The system's error.
    pub fn program(&self) -> io::Result<PathBuf> {
        let mut path = vec![0_u16; LONGEST_PATH];
        let mut length = u32::try_from(path.len()).unwrap_or_default();
        // SAFETY: the handle is open, and the buffer has `length` words.
        done(unsafe {
            QueryFullProcessImageNameW(self.handle(), PROCESS_NAME_WIN32, path.as_mut_ptr(), &raw mut length)
        })?;
        path.truncate(usize::try_from(length).unwrap_or_default());
        Ok(String::from_utf16_lossy(&path).into())
    }
}

/// The text of a security identifier, which must be valid or null.
fn text_of(sid: PSID) -> io::Result<String> {
    let mut text: PWSTR = ptr::null_mut();
    // SAFETY: the caller's identifier is valid, or null, which the call refuses; `text` is written to.
    done(unsafe { ConvertSidToStringSidW(sid, &raw mut text) })?;
    let mut words = Vec::new();
    for at in 0..LONGEST_SID {
        // SAFETY: the call has succeeded, so the text ends with a zero, which has not been met yet.
        match unsafe { text.add(at).read() } {
            0 => break,
            word => words.push(word),
        }
    }
    // SAFETY: the call has allocated the text, and nothing refers to it any more.
    unsafe { LocalFree(text.cast()) };
    String::from_utf16(&words).map_err(io::Error::other)
}

/// The result of a call that returns zero after a failure.
fn done(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
