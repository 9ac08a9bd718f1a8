//! C strings, which both protocols write.

/// A text that cannot be a C string, because it holds a NUL: the name of its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Nul(pub(crate) &'static str);

/// Appends a C string. `what` names it in the error when it holds a NUL, which would cut it short for the peer.
pub(crate) fn put_cstr(out: &mut Vec<u8>, text: &[u8], what: &'static str) -> Result<(), Nul> {
    if text.contains(&0) {
        return Err(Nul(what));
    }
    out.extend_from_slice(text);
    out.push(0);
    Ok(())
}
