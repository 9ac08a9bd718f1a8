//! Reading and writing the protocol's primitive types. All integers are big endian.
//!
//! Reading never panics and never allocates: what is not there is `None`, and the caller names the message that was
//! cut short.

/// A bounded view of bytes from a peer, taken from the front.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    /// Bytes up to the next NUL, which is consumed and not returned.
    pub(super) fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|&b| b == 0)?;
        let (text, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.split_first()?.1;
        Some(text)
    }

    /// All that is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends a message: the tag (startup packets have none), a length that counts itself, and the body.
pub(super) fn put_message<E>(
    out: &mut Vec<u8>,
    tag: Option<u8>,
    body: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    out.extend(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out)?;
    let length = u32::try_from(out.len() - start).expect("we write no message of 4 GiB");
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c_string::{Nul, put_cstr};

    #[test]
    fn a_reader_takes_what_is_there_and_nothing_more() {
        let mut reader = Reader::new(b"Z\0\0\x01\x02one\0\0rest");
        assert_eq!(reader.byte(), Some(b'Z'));
        assert_eq!(reader.u32(), Some(0x0102));
        assert_eq!(reader.cstr(), Some(&b"one"[..]));
        assert_eq!(reader.cstr(), Some(&b""[..]));
        assert_eq!(reader.cstr(), None, "no terminator");
        assert!(!reader.is_empty());
        assert_eq!(reader.rest(), b"rest");
        assert_eq!(Reader::new(&[0, 0, 1]).u32(), None);
        assert_eq!(Reader::new(&[]).byte(), None);
    }

    #[test]
    fn a_message_counts_its_length_field_but_not_its_tag() {
        let mut out = vec![0xff];
        put_message(&mut out, Some(b'p'), |out| put_cstr(out, b"secret", "password")).unwrap();
        assert_eq!(out, b"\xffp\0\0\0\x0bsecret\0");
        assert_eq!(put_cstr(&mut out, b"a\0b", "user"), Err(Nul("user")));
    }
}
