//! A value that must not be shown: no `Debug`, no `Display`, zeroed on drop.
//!
//! Tokens, stream URLs and keys travel in a [`Secret`] so that no log line, error or `{:?}` can show one by accident.
//! It does not lock memory or hide from a debugger.

use zeroize::Zeroize;

/// Holds a secret and overwrites it when dropped. The only way to the value is [`Secret::expose`], easy to grep for.
#[derive(Clone)]
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a secret value.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Never pass it to a formatter.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
