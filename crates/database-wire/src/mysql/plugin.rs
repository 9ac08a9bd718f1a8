//! Authentication plugins.

/// An authentication plugin, by the name of its client side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plugin {
    /// `mysql_native_password`: SHA-1, no questions.
    Native,
    /// `caching_sha2_password`: SHA-256, and over plain TCP an answer in one step if the server knows the password.
    CachingSha2,
    /// `mysql_clear_password`: the password as it is, which for us is the token.
    Clear,
    /// Another one, its name made printable.
    Other(String),
}

impl From<&[u8]> for Plugin {
    fn from(name: &[u8]) -> Self {
        match name {
            b"mysql_native_password" => Self::Native,
            b"caching_sha2_password" => Self::CachingSha2,
            b"mysql_clear_password" => Self::Clear,
            other => Self::Other(other.escape_ascii().to_string()),
        }
    }
}

impl Plugin {
    /// The name.
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Native => b"mysql_native_password",
            Self::CachingSha2 => b"caching_sha2_password",
            Self::Clear => b"mysql_clear_password",
            Self::Other(name) => name.as_bytes(),
        }
    }
}
