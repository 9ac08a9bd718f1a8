//! Properties that hold for arbitrary bytes from a name server. The function is the body of a fuzz target (`fuzz/`) and of the
//! property tests below, which feed it almost valid messages.
//!
//! It panics if a property is violated.

use crate::{
    discover::dns::{self, Alias, Error},
    target::Host,
};

/// A reply with another id is never accepted. A reply with the right id is refused, or has no more aliases than its bytes can hold,
/// each with names of at most 255 bytes in lower case.
pub fn reads_aliases(bytes: &[u8]) {
    let host: Host = "db.example.com".parse().expect("a host name");
    let [high, low, ..] = *bytes else {
        return assert_eq!(dns::aliases(bytes, 0, &host), Err(Error::Malformed));
    };
    let id = u16::from_be_bytes([high, low]);
    assert_eq!(dns::aliases(bytes, !id, &host), Err(Error::Other));
    let Ok(aliases) = dns::aliases(bytes, id, &host) else { return };
    let question = dns::question(id, &host);
    let answered = bytes.get(12..question.len()).map(<[u8]>::to_ascii_lowercase);
    assert_eq!(answered.as_deref(), question.get(12..), "the reply is for another query");
    // A record has at least one byte of name, ten fixed bytes and another name.
    assert!(aliases.len() <= bytes.len().saturating_sub(question.len()) / 12);
    for Alias { owner, target } in &aliases {
        for name in [owner, target] {
            assert!(name.len() <= 255 && *name == name.to_ascii_lowercase());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    /// A name: labels, then the end or a pointer.
    fn name() -> impl Strategy<Value = Vec<u8>> {
        let label = select(vec![&b"\x02db"[..], b"\x07example", b"\x03COM", b"\x01\xff", b"\x3fshort", b"\x40"]);
        let end = prop_oneof![Just(vec![0]), (0xc0..=0xc1_u8, 0..80_u8).prop_map(|(high, low)| vec![high, low])];
        (vec(label, 0..4), end).prop_map(|(labels, end)| [labels.concat(), end].concat())
    }

    fn record() -> impl Strategy<Value = Vec<u8>> {
        let kind = select(vec![&[0, 5, 0, 1][..], &[0, 5, 0, 1], &[0, 1, 0, 1], &[0, 5, 0, 3]]);
        (name(), kind, name(), select(vec![0, 0, 0, 1])).prop_map(|(owner, kind, target, wrong)| {
            let length = u16::try_from(target.len() + wrong).unwrap();
            [&owner[..], kind, &[0, 0, 0, 60], &length.to_be_bytes(), &target].concat()
        })
    }

    /// A reply whose records are valid or almost valid.
    fn answer() -> impl Strategy<Value = Vec<u8>> {
        (any::<bool>(), vec(record(), 0..5), 0..6_u8).prop_map(|(shouted, records, count)| {
            let mut message = dns::question(0x1234, &"db.example.com".parse().unwrap());
            message[2..4].copy_from_slice(&[0x81, 0x80]);
            message[7] = count;
            if shouted {
                message[13..15].make_ascii_uppercase();
            }
            [message, records.concat()].concat()
        })
    }

    proptest! {
        #[test]
        fn almost_valid_reply_is_read_within_bounds_or_refused(bytes in answer()) {
            reads_aliases(&bytes);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..200)) {
            reads_aliases(&bytes);
        }
    }
}
