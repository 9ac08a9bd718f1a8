//! The DNS messages needed for following aliases (RFC 1035): a query for an address, and the CNAMEs of the reply.
//!
//! Sans-IO. Replies are untrusted: every read is bounded, a name has at most 255 bytes, and compression pointers may only point
//! backwards, so they cannot form a loop.

use crate::target::Host;

/// RFC 1035, 3.2.2.
const A: u16 = 1;
const CNAME: u16 = 5;
const IN: u16 = 1;
/// The longest name, RFC 1035, 2.3.4.
const NAME_LIMIT: usize = 255;
/// The number of records that are read from a reply.
const RECORDS: u16 = 64;
/// The size of the receive buffer. Replies to queries without EDNS have at most 512 bytes (RFC 1035, 2.3.4); some servers send
/// more.
pub(super) const MESSAGE_LIMIT: usize = 4096;

/// A reply cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Not a DNS message, or one that ends too early.
    #[error("the reply is malformed")]
    Malformed,
    /// A reply to another query: late, or forged.
    #[error("the reply is for another question")]
    Other,
    /// RFC 1035, 4.1.1, RCODE.
    #[error("the server replied with code {0}")]
    Refused(u8),
}

/// A CNAME record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alias {
    pub(super) owner: String,
    pub(super) target: String,
}

/// Makes a recursive query for the IPv4 address of `host`. The reply contains every alias on the way to it.
pub(super) fn question(id: u16, host: &Host) -> Vec<u8> {
    let mut message = Vec::with_capacity(host.as_str().len() + 18);
    message.extend(id.to_be_bytes());
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in host.as_str().split('.') {
        // A host's labels are at most 63 bytes long.
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(A.to_be_bytes());
    message.extend(IN.to_be_bytes());
    message
}

/// Reads the aliases in the reply to [`question`]. There may be none, and the last name need not exist.
pub(super) fn aliases(message: &[u8], id: u16, host: &Host) -> Result<Vec<Alias>, Error> {
    let mut reader = Reader { message, at: 0 };
    if reader.u16()? != id {
        return Err(Error::Other);
    }
    let (flags, code) = (reader.u8()?, reader.u8()? & 0xf);
    let (questions, answers) = (reader.u16()?, reader.u16()?);
    reader.skip(4)?;
    if flags & 0x80 == 0 || questions != 1 {
        return Err(Error::Malformed);
    }
    if reader.name()? != host.as_str() || reader.u16()? != A || reader.u16()? != IN {
        return Err(Error::Other);
    }
    // 3: the name, or the last one in the chain, does not exist.
    if code != 0 && code != 3 {
        return Err(Error::Refused(code));
    }
    let mut aliases = Vec::new();
    for _ in 0..answers.min(RECORDS) {
        let owner = reader.name()?;
        let (kind, class) = (reader.u16()?, reader.u16()?);
        reader.skip(4)?;
        let length = usize::from(reader.u16()?);
        let end = reader.at.checked_add(length).filter(|end| *end <= message.len()).ok_or(Error::Malformed)?;
        if kind == CNAME && class == IN {
            let target = reader.name()?;
            if reader.at != end {
                return Err(Error::Malformed);
            }
            aliases.push(Alias { owner, target });
        }
        reader.at = end;
    }
    Ok(aliases)
}

struct Reader<'a> {
    message: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Result<u8, Error> {
        let byte = *self.message.get(self.at).ok_or(Error::Malformed)?;
        self.at += 1;
        Ok(byte)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Error> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.message.len()).ok_or(Error::Malformed)?;
        Ok(())
    }

    /// Reads a name, in lower case and without a trailing dot. Pointers: RFC 1035, 4.1.4.
    fn name(&mut self) -> Result<String, Error> {
        let mut name = String::new();
        // The position after the name: behind its first pointer.
        let mut after = None;
        // Each pointer must point before the target of the previous one.
        let mut earliest = self.at;
        loop {
            match self.u8()? {
                0 => break,
                length @ 1..=63 => {
                    let end = self.at + usize::from(length);
                    let label = self.message.get(self.at..end).ok_or(Error::Malformed)?;
                    self.at = end;
                    if !name.is_empty() {
                        name.push('.');
                    }
                    // A label may contain a dot (RFC 2181, 11), which the dotted form cannot represent.
                    let label = std::str::from_utf8(label).ok().filter(|label| !label.contains('.'));
                    let label = label.ok_or(Error::Malformed)?;
                    name.push_str(&label.to_ascii_lowercase());
                    if name.len() > NAME_LIMIT {
                        return Err(Error::Malformed);
                    }
                }
                high @ 0xc0..=0xff => {
                    let to = usize::from(high & 0x3f) << 8 | usize::from(self.u8()?);
                    if to >= earliest {
                        return Err(Error::Malformed);
                    }
                    after.get_or_insert(self.at);
                    (earliest, self.at) = (to, to);
                }
                64..=0xbf => return Err(Error::Malformed),
            }
        }
        self.at = after.unwrap_or(self.at);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: u16 = 0x1234;

    fn host() -> Host {
        "db.example.com".parse().unwrap()
    }

    /// A reply with compressed names: db.example.com is an alias of orders.rds.example, which has an address.
    fn answer() -> Vec<u8> {
        let mut message = question(ID, &host());
        message[2..4].copy_from_slice(&[0x81, 0x80]);
        message[7] = 2;
        message.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 20]);
        message.extend(b"\x06orders\x03RDS\x07example\0");
        message.extend([0xc0, 44, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 1]);
        message
    }

    #[test]
    fn query_has_the_form_of_the_rfc() {
        let expected = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02db\x07example\x03com\0\0\x01\0\x01";
        assert_eq!(question(ID, &host()), expected);
    }

    #[test]
    fn aliases_are_read_with_and_without_compression() {
        let alias = Alias { owner: "db.example.com".into(), target: "orders.rds.example".into() };
        assert_eq!(aliases(&answer(), ID, &host()), Ok(vec![alias.clone()]));
        let mut gone = answer();
        gone[3] |= 3;
        assert_eq!(aliases(&gone, ID, &host()), Ok(vec![alias]), "the last name need not exist");
        let mut none = question(ID, &host());
        none[2] |= 0x80;
        assert_eq!(aliases(&none, ID, &host()), Ok(vec![]));
    }

    #[test]
    fn reply_to_another_query_and_refusal_are_errors() {
        assert_eq!(aliases(&answer(), ID + 1, &host()), Err(Error::Other));
        assert_eq!(aliases(&answer(), ID, &"db.example.org".parse().unwrap()), Err(Error::Other));
        assert_eq!(aliases(&question(ID, &host()), ID, &host()), Err(Error::Malformed), "a query is not a reply");
        let mut refused = answer();
        refused[3] |= 5;
        assert_eq!(aliases(&refused, ID, &host()), Err(Error::Refused(5)));
    }

    #[test]
    fn truncated_reply_is_malformed() {
        let answer = answer();
        for end in 0..answer.len() {
            assert_eq!(aliases(&answer[..end], ID, &host()), Err(Error::Malformed), "{end}");
        }
    }

    #[test]
    fn label_with_a_dot_is_malformed() {
        // The name asked for, as one label; the target, as one label.
        let mut message = answer();
        message.splice(12..28, *b"\x0edb.example.com\0");
        assert_eq!(aliases(&message, ID, &host()), Err(Error::Malformed));
        let mut message = answer();
        let at = message.len() - 16 - 20;
        message.splice(at..at + 20, *b"\x12orders.RDS.example\0");
        assert_eq!(aliases(&message, ID, &host()), Err(Error::Malformed));
    }

    #[test]
    fn pointer_to_itself_or_forwards_is_malformed() {
        for to in [32, 33, 200] {
            let mut message = answer();
            message[33] = to;
            assert_eq!(aliases(&message, ID, &host()), Err(Error::Malformed), "{to}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_message_does_not_panic(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut message = answer()[..32].to_vec();
            message[7] = 3;
            message.extend(tail);
            let _ = aliases(&message, ID, &host());
        }
    }
}
