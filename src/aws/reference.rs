//! SigV4 from its primitives, written for tests only and sharing nothing with the signer under test.

use std::fmt::Write;

use aws_lc_rs::{digest, hmac};

pub(super) const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub(super) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// Percent-encodes every byte that RFC 3986 does not call unreserved.
pub(super) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => write!(out, "%{byte:02X}").unwrap(),
        }
        out
    })
}

/// The signature of a GET without a body. `query` holds decoded pairs, `headers` lower-case names in order, `at` is like
/// `20261123T120000Z`, `scope` like `20261123/eu-central-1/rds-db/aws4_request`.
pub(super) fn signature(path: &str, query: &[(&str, &str)], headers: &[(&str, &str)], at: &str, scope: &str) -> String {
    let mut pairs: Vec<_> = query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.sort();
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let empty = hex(digest::digest(&digest::SHA256, b"").as_ref());
    let request = format!("GET\n{path}\n{}\n{lines}\n{}\n{empty}", pairs.join("&"), names.join(";"));
    let request = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
    let sign =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| sign(&key, part));
    hex(&sign(&key, &format!("AWS4-HMAC-SHA256\n{at}\n{scope}\n{request}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_encodes_all_but_unreserved_characters() {
        assert_eq!(super::encode("aZ09-._~ +/=é\\"), "aZ09-._~%20%2B%2F%3D%C3%A9%5C");
    }
}
