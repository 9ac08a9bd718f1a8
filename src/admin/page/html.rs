//! HTML, written from front to back. Markup is a constant of the program; text from configuration, clients and the far side enters
//! through [`Html::text`], [`Html::lines`] and [`Html::attribute`] only, which escape it.

use std::fmt::{Display, Write as _};

use safe_display::printable;

/// A growing document.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Appends markup.
    pub(super) fn markup(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Appends text on one line: control and bidirectional characters become visible.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        let text = text.to_string();
        self.escaped(&printable::line(&text));
        self
    }

    /// Appends text that may have several lines.
    pub(super) fn lines(&mut self, text: &str) -> &mut Self {
        self.escaped(&printable::lines(text));
        self
    }

    /// Appends an attribute to the tag that is open: ` name="value"`.
    pub(super) fn attribute(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.0.push(' ');
        self.0.push_str(name);
        self.0.push_str("=\"");
        self.text(value);
        self.0.push('"');
        self
    }

    /// The document.
    pub(super) fn finish(self) -> String {
        self.0
    }

    /// The characters that end text, an attribute in either kind of quotes, or one without quotes.
    fn escaped(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' | '<' | '>' | '"' | '\'' | '`' => {
                    let _ = write!(self.0, "&#{};", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Html)) -> String {
        let mut html = Html::default();
        write(&mut html);
        html.finish()
    }

    #[test]
    fn text_cannot_become_markup_or_leave_its_attribute() {
        let hostile = "</td><script>alert(`1`)</script>&amp; \"' onload='x";
        let text = written(|html| _ = html.text(hostile));
        assert_eq!(
            text,
            "&#60;/td&#62;&#60;script&#62;alert(&#96;1&#96;)&#60;/script&#62;&#38;amp; &#34;&#39; onload=&#39;x"
        );
        let tag = written(|html| _ = html.markup("<a").attribute("title", hostile).markup(">"));
        assert_eq!(tag, format!("<a title=\"{text}\">"));
    }

    #[test]
    fn characters_that_act_on_a_display_are_shown() {
        let text = "a\u{202e}b\u{0}c\nd\u{2066}\u{9b}";
        assert_eq!(written(|html| _ = html.text(text)), r"a\u{202e}b\u{0}c\nd\u{2066}\u{9b}");
        assert_eq!(written(|html| _ = html.lines("a\nb\u{202e}")), "a\nb\\u{202e}");
    }

    proptest! {
        #[test]
        fn nothing_written_as_text_has_a_meaning_in_html(text in "(?s:.)*") {
            let written = written(|html| _ = html.text(&text));
            prop_assert!(!written.contains(['<', '>', '"', '\'', '`']));
            prop_assert!(!written.contains(printable::controls));
            prop_assert!(written.split('&').skip(1).all(|rest| rest.starts_with('#')));
        }
    }
}
