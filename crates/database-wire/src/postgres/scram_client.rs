//! The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), for a login with a password of ours.
//!
//! ```text
//!        ◀─ AuthenticationSASL: SCRAM-SHA-256[-PLUS]
//!   SASLInitialResponse: n,,n=,r=NONCE ─▶
//!        ◀─ AuthenticationSASLContinue: r=NONCE and the server's,s=SALT,i=4096
//!   SASLResponse: c=biws,r=…,p=PROOF ─▶
//!        ◀─ AuthenticationSASLFinal: v=SIGNATURE
//! ```
//!
//! Not that of `postgres-protocol`, which leaves a copy of the password in the memory that it frees. Here the password is read where it
//! is, and what is derived from it is zeroed.

use std::{borrow::Cow, num::NonZeroU32};

use aws_lc_rs::{constant_time::verify_slices_are_equal, pbkdf2, rand};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use safe_display::Secret;
use zeroize::{Zeroize as _, Zeroizing};

use super::{
    error::Error,
    scram::{KEY_LENGTH, NONCE_LENGTH, hash, keyed},
};

/// The most iterations that a server may ask for, as in `postgres-protocol` and pgjdbc: more take longer than a tenth of a second.
const MAX_ITERATIONS: u32 = 100_000;

const UNUSABLE: Error = Error::Scram("the server's first message cannot be used");
const UNPROVED: Error = Error::Scram("the server did not prove that it knows the password");

/// The statement about channel binding.
#[derive(Debug, Clone, Copy)]
pub(super) enum Binding<'a> {
    /// We cannot: the server's certificate has no hash for it.
    Unable,
    /// We can, and the server did not offer it.
    NotOffered,
    /// `tls-server-end-point`: the hash of the server's certificate.
    EndPoint(&'a [u8]),
}

/// The exchange after our first message.
pub(super) struct Exchange<'a> {
    binding: Binding<'a>,
    nonce: String,
}

/// The exchange after our proof.
pub(super) struct Proved {
    /// The server's, over all messages.
    signature: Zeroizing<[u8; KEY_LENGTH]>,
}

impl Binding<'_> {
    fn header(&self) -> &'static str {
        match self {
            Self::Unable => "n,,",
            Self::NotOffered => "y,,",
            Self::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    /// The header and the data, as the proof repeats them.
    fn input(&self) -> String {
        let data = if let Self::EndPoint(hash) = self { hash } else { &[][..] };
        BASE64.encode([self.header().as_bytes(), data].concat())
    }
}

impl<'a> Exchange<'a> {
    /// The exchange and our first message.
    ///
    /// # Errors
    /// [`Error::Scram`], where the system has no random numbers.
    pub(super) fn begin(binding: Binding<'a>) -> Result<(Self, String), Error> {
        let mut random = [0; NONCE_LENGTH];
        rand::fill(&mut random).map_err(|_| Error::Scram("there are no random numbers"))?;
        Ok(Self::with_nonce(binding, BASE64.encode(random)))
    }

    fn with_nonce(binding: Binding<'a>, nonce: String) -> (Self, String) {
        let first = format!("{}n=,r={nonce}", binding.header());
        (Self { binding, nonce }, first)
    }

    /// Our proof, as the reply to the server's first message.
    ///
    /// # Errors
    /// [`Error::Scram`] for a message that is malformed, for another nonce, or for too much work.
    pub(super) fn prove(self, password: &Secret<String>, server_first: &[u8]) -> Result<(Proved, String), Error> {
        let server_first = std::str::from_utf8(server_first).map_err(|_| UNUSABLE)?;
        let mut attributes = server_first.split(',');
        let mut attribute = |name: &str| attributes.next().and_then(|text| text.strip_prefix(name)).ok_or(UNUSABLE);
        let (nonce, salt, iterations) = (attribute("r=")?, attribute("s=")?, attribute("i=")?);
        let iterations: NonZeroU32 = iterations.parse().map_err(|_| UNUSABLE)?;
        let salt = BASE64.decode(salt).map_err(|_| UNUSABLE)?;
        let is_longer = nonce.len() > self.nonce.len() && nonce.starts_with(&self.nonce);
        if !is_longer || iterations.get() > MAX_ITERATIONS || attributes.next().is_some() {
            return Err(UNUSABLE);
        }
        let salted = salted(password, &salt, iterations);
        let without_proof = format!("c={},r={nonce}", self.binding.input());
        let messages = format!("n=,r={},{server_first},{without_proof}", self.nonce);
        let client_key = keyed(&*salted, b"Client Key");
        let mut proof = keyed(&*hash(&*client_key), messages.as_bytes());
        proof.iter_mut().zip(client_key.iter()).for_each(|(signature, key)| *signature ^= key);
        let signature = keyed(&*keyed(&*salted, b"Server Key"), messages.as_bytes());
        Ok((Proved { signature }, format!("{without_proof},p={}", BASE64.encode(*proof))))
    }
}

impl Proved {
    /// Whether the server has proved in its last message that it knows the password.
    ///
    /// # Errors
    /// [`Error::Scram`] if not.
    pub(super) fn finish(self, server_final: &[u8]) -> Result<(), Error> {
        let signature = server_final.strip_prefix(b"v=").ok_or(UNPROVED)?;
        let signature = BASE64.decode(signature).map_err(|_| UNPROVED)?;
        verify_slices_are_equal(&signature, &*self.signature).map_err(|_| UNPROVED)
    }
}

/// The password as SASLprep (RFC 4013) has it, or as it is where SASLprep prohibits it: the same as the server does.
fn salted(password: &Secret<String>, salt: &[u8], iterations: NonZeroU32) -> Zeroizing<[u8; KEY_LENGTH]> {
    let password = password.expose();
    let mut prepared = stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password));
    let mut salted = Zeroizing::new([0; KEY_LENGTH]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, prepared.as_bytes(), &mut *salted);
    if let Cow::Owned(prepared) = &mut prepared {
        prepared.zeroize();
    }
    salted
}

#[cfg(test)]
mod tests {
    use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

    use super::*;

    /// RFC 7677, section 3, whose client names itself; PostgreSQL's do not, so that only the proof differs.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    fn exchange(binding: Binding<'_>) -> Exchange<'_> {
        Exchange::with_nonce(binding, NONCE.into()).0
    }

    fn password(text: &str) -> Secret<String> {
        Secret::new(text.into())
    }

    /// Our proof for the nonce of another implementation, and its own.
    #[test]
    fn proof_is_that_of_another_implementation() {
        for binding in [Binding::Unable, Binding::NotOffered, Binding::EndPoint(b"hash")] {
            // Of these, SASLprep changes the third and prohibits the fourth.
            for text in ["pencil", "p\"\\' ssw\u{f6}rd", "I\u{ad}X\u{a0}\u{2168}", "a\u{7}b"] {
                let theirs = match binding {
                    Binding::Unable => ChannelBinding::unsupported(),
                    Binding::NotOffered => ChannelBinding::unrequested(),
                    Binding::EndPoint(hash) => ChannelBinding::tls_server_end_point(hash.to_vec()),
                };
                let mut theirs = ScramSha256::new(text.as_bytes(), theirs);
                let first = String::from_utf8(theirs.message().to_vec()).unwrap();
                let (_, nonce) = first.split_once("n=,r=").unwrap();
                let (ours, our_first) = Exchange::with_nonce(binding, nonce.into());
                assert_eq!(our_first, first);
                let server_first = format!("r={nonce}server,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
                theirs.update(server_first.as_bytes()).unwrap();
                let (proved, proof) = ours.prove(&password(text), server_first.as_bytes()).unwrap();
                assert_eq!(proof.as_bytes(), theirs.message(), "{text:?}");
                let server_final = format!("v={}", BASE64.encode(*proved.signature));
                theirs.finish(server_final.as_bytes()).unwrap();
                proved.finish(server_final.as_bytes()).unwrap();
            }
        }
    }

    #[test]
    fn first_message_of_a_server_is_read_exactly() {
        assert!(exchange(Binding::Unable).prove(&password("pencil"), SERVER_FIRST.as_bytes()).is_ok());
        for message in [
            "",
            "r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=*,i=4096",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=0",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=-1",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=100001",
            "r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,x=y",
            "s=W22ZaJ0SNY7soEsUEjb6gQ==,r=rOprNGfwEbeRWgbNEkqOx,i=4096",
        ] {
            assert!(exchange(Binding::Unable).prove(&password("pencil"), message.as_bytes()).is_err(), "{message}");
        }
    }

    #[test]
    fn server_that_does_not_know_the_password_proves_nothing() {
        let signature_of = |text| exchange(Binding::Unable).prove(&password(text), SERVER_FIRST.as_bytes()).unwrap().0;
        let wrong = format!("v={}", BASE64.encode(*signature_of("another").signature));
        for message in [&*wrong, "v=", "v=*", "e=other-error", ""] {
            assert!(signature_of("pencil").finish(message.as_bytes()).is_err(), "{message}");
        }
    }
}
