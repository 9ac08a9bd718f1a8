//! A reply in XML as a tree of elements, as far as AWS's Query services need it: without attributes and namespaces.
//!
//! The caller bounds the length of the text; this module bounds the depth.

use quick_xml::{Reader, escape::resolve_predefined_entity, events::Event};

/// The greatest depth; replies of AWS are far shallower.
const DEPTH: usize = 64;

/// One element.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element {
    name: String,
    text: String,
    children: Vec<Self>,
}

/// The reply is not XML, or nested too deeply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed XML in the reply")]
pub struct NotXml;

impl Element {
    /// Reads a document to its root element.
    ///
    /// # Errors
    /// [`NotXml`].
    pub fn parse(document: &str) -> Result<Self, NotXml> {
        let mut reader = Reader::from_str(document);
        // The open elements, the innermost last. The first represents the document.
        let mut open = vec![Self::default()];
        loop {
            let event = reader.read_event().map_err(|_| NotXml)?;
            let depth = open.len();
            let current = open.last_mut().ok_or(NotXml)?;
            match event {
                Event::Start(start) if depth < DEPTH => {
                    open.push(Self::named(start.local_name().into_inner())?);
                }
                Event::Start(_) => return Err(NotXml),
                Event::Empty(empty) => current.children.push(Self::named(empty.local_name().into_inner())?),
                Event::End(_) => {
                    let element = open.pop().ok_or(NotXml)?;
                    open.last_mut().ok_or(NotXml)?.children.push(element);
                }
                Event::Text(text) => current.text.push_str(&text.xml10_content()),
                Event::CData(text) => current.text.push_str(&text.xml10_content()),
                Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                    Ok(Some(character)) => current.text.push(character),
                    Ok(None) => {
                        current.text.push_str(resolve_predefined_entity(&reference.into_inner()).ok_or(NotXml)?);
                    }
                    Err(_) => return Err(NotXml),
                },
                Event::Eof => break,
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
        match (open.pop(), open.pop()) {
            (Some(mut document), None) if document.children.len() == 1 => document.children.pop().ok_or(NotXml),
            _ => Err(NotXml),
        }
    }

    fn named(name: &str) -> Result<Self, NotXml> {
        // `< a>` has no name.
        if name.is_empty() { Err(NotXml) } else { Ok(Self { name: name.to_owned(), ..Self::default() }) }
    }

    /// The element's name, without a prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first child with this name.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The trimmed text of the element at a path of names; `None` if the element is missing or empty.
    pub fn text(&self, path: &[&str]) -> Option<&str> {
        let element = path.iter().try_fold(self, |element, name| element.child(name))?;
        Some(element.text.trim()).filter(|text| !text.is_empty())
    }

    /// The entries of a list, which AWS calls `item` in EC2 and `member` elsewhere.
    pub fn items(&self, name: &str) -> impl Iterator<Item = &Self> {
        let items = self.child(name).into_iter().flat_map(|list| &list.children);
        items.filter(|child| child.name == "item" || child.name == "member")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
    <requestId>8f7724cf</requestId>
    <reservationSet>
        <item><instancesSet>
            <item><instanceId>i-1</instanceId><vpcId>vpc-1</vpcId>
                <tagSet><item><key>Name</key><value>a &amp; b &#60;c&gt;</value></item></tagSet></item>
        </instancesSet></item>
        <item><instancesSet/></item>
    </reservationSet>
    <nextToken/>
</DescribeInstancesResponse>"#;

    #[test]
    fn an_answer_is_read_by_path_and_by_list() {
        let root = Element::parse(ANSWER).unwrap();
        assert_eq!(root.name(), "DescribeInstancesResponse");
        assert_eq!(root.text(&["requestId"]), Some("8f7724cf"));
        assert_eq!((root.text(&["nextToken"]), root.text(&["nothing", "here"])), (None, None));
        let reservations: Vec<_> = root.items("reservationSet").collect();
        assert_eq!(reservations.len(), 2);
        let instance = reservations[0].items("instancesSet").next().unwrap();
        assert_eq!(instance.text(&["vpcId"]), Some("vpc-1"));
        let tag = instance.items("tagSet").next().unwrap();
        assert_eq!((tag.text(&["key"]), tag.text(&["value"])), (Some("Name"), Some("a & b <c>")));
        assert_eq!(reservations[1].items("instancesSet").count(), 0);
    }

    #[test]
    fn a_document_that_is_cut_anywhere_is_refused() {
        for end in 0..ANSWER.trim_end().len() {
            assert_eq!(Element::parse(&ANSWER[..end]), Err(NotXml), "{end}");
        }
    }

    #[test]
    fn text_that_is_not_a_document_is_refused() {
        let deep = "<a>".repeat(DEPTH) + &"</a>".repeat(DEPTH);
        for text in ["", "words", "<a></b>", "<a/><b/>", "<a>&nbsp;</a>", "<a>&#x110000;</a>", "</a>", "< a/>", &deep] {
            assert_eq!(Element::parse(text), Err(NotXml), "{text}");
        }
        assert!(Element::parse(&("<a>".repeat(DEPTH - 1) + &"</a>".repeat(DEPTH - 1))).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[<>/a &;#x0-9]{0,60}") {
            let _ = Element::parse(&text);
        }
    }
}
