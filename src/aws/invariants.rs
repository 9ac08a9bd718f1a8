//! Properties that hold for any text of an API or of an AWS file. Each function is the body of a fuzz target (`fuzz/`) and of
//! a property test below, which feeds it texts that get further than noise does. It panics if a property is violated.

use crate::{
    aws::{
        profiles::{ini, words},
        time,
        xml::Element,
    },
    outbound::Proxies,
};

/// A file of profiles is read or refused with a line that it has. So are the values in it: commands, times, proxies.
pub fn reads_profiles(bytes: &[u8]) {
    let lines = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count() + 1;
    if let Err(malformed) = ini::read(bytes) {
        assert!((1..=lines).contains(&malformed.line));
    }
    let text = String::from_utf8_lossy(bytes);
    if let Some(words) = words::split(&text) {
        assert!(words.concat().len() <= text.len());
    }
    let _ = time::parse(&text);
    let proxies = Proxies::of(|_| Some(text.clone().into_owned()));
    let _ = (proxies.find(true, &text, 443), proxies.find(false, "example.com", 80));
}

/// Text that is read as XML has one root with a name, of which no more is kept than came, and white space behind it changes
/// nothing. All else is refused.
pub fn reads_xml(bytes: &[u8]) {
    let document = String::from_utf8_lossy(bytes);
    let Ok(root) = Element::parse(&document) else { return };
    assert!(!root.name().is_empty() && document.contains(root.name()));
    if let Some(text) = root.text(&[]) {
        assert!(!text.trim().is_empty() && text.trim() == text && text.len() <= document.len());
    }
    assert!(root.items(root.name()).count() <= document.matches('<').count());
    assert_eq!(Element::parse(&format!("{document}\n ")).as_ref(), Ok(&root));
    assert!(Element::parse(&format!("{document}<more/>")).is_err(), "a second root");
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::aws::xml::NotXml;

    /// Pieces of AWS files, times and URLs, in any order.
    fn scraps() -> impl Strategy<Value = String> {
        let scrap = select(vec![
            "[",
            "]",
            "profile ",
            "\"",
            "'",
            "\\",
            "=",
            ":",
            "\n",
            "\r",
            "  ",
            "#",
            ";",
            "k",
            "\u{e4}",
            "\u{feff}",
            "\u{2028}",
            "[DEFAULT]\n",
            "2026-11-28",
            "T",
            "10:11:12",
            ".5",
            "Z",
            "+01:00",
            "http://",
            "@",
            "%41",
            "/",
            "$",
            "{",
            "}",
        ]);
        vec(scrap, 0..16).prop_map(|scraps| scraps.concat())
    }

    /// Pieces of documents, mostly in an order that makes none.
    fn pieces() -> impl Strategy<Value = String> {
        let piece = select(vec![
            "<a>",
            "</a>",
            "<a/>",
            "< a/>",
            "<b c='d'>",
            "</b>",
            "<n:item>",
            "</n:item>",
            "&lt;",
            "&#65;",
            "&#0;",
            "&x;",
            "text",
            " ",
            "<![CDATA[<a>]]>",
            "<!-- - -->",
            "<?xml version='1.0'?>",
            "<!DOCTYPE a [<!ENTITY x 'y'>]>",
            "<",
            ">",
            "\u{feff}",
        ]);
        vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    /// Elements in elements, all of them closed.
    fn document() -> impl Strategy<Value = String> {
        let leaf = select(vec!["", "text", " a &amp; b ", "<![CDATA[</a>]]>", "&#x41;", "<!---->", "\r\n"]);
        leaf.prop_map(str::to_owned).prop_recursive(8, 64, 4, |inner| {
            (select(vec!["a", "item", "n:member"]), vec(inner, 0..4))
                .prop_map(|(name, inner)| format!("<{name}>{}</{name}>", inner.concat()))
        })
    }

    proptest! {
        #[test]
        fn any_text_is_read_whole_or_refused(text in prop_oneof![pieces(), document(), any::<String>()]) {
            reads_xml(text.as_bytes());
        }

        #[test]
        fn noise_breaks_nothing(bytes in vec(any::<u8>(), 0..200)) {
            reads_xml(&bytes);
        }

        #[test]
        fn what_is_well_formed_is_read(inner in document()) {
            let document = format!("<root>{inner}</root>");
            prop_assert_ne!(Element::parse(&document), Err(NotXml));
        }
    }

    proptest! {
        #[test]
        fn what_people_write_is_read_or_refused(text in scraps(), noise in vec(any::<u8>(), 0..64)) {
            reads_profiles(text.as_bytes());
            reads_profiles(&noise);
        }
    }
}
