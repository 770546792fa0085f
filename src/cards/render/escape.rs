//! What inserted values may not do: make markup in Markdown, break out of a URL, or run as a script.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What would end a Markdown link destination or read as markup in it.
const BREAKING: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'(')
    .add(b')')
    .add(b'[')
    .add(b']')
    .add(b'\\')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'|')
    .add(b'^');

/// Schemes that browsers run rather than open.
const SCRIPTS: [&str; 3] = ["javascript", "data", "vbscript"];

/// Whether a URL would run as a script. Looks as browsers do: control characters and spaces do not count.
pub(crate) fn runs(url: &str) -> bool {
    let seen: String = url.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect();
    let scheme = seen.split([':', '/', '?', '#']).next().unwrap_or("");
    seen[scheme.len()..].starts_with(':') && SCRIPTS.iter().any(|script| scheme.eq_ignore_ascii_case(script))
}

/// A whole URL as the destination of a Markdown link. Entities are disarmed, so that none can spell a scheme.
pub(crate) fn destination(url: &str) -> String {
    utf8_percent_encode(url, BREAKING).to_string().replace('&', "&amp;")
}

/// Escapes a value for Markdown text that begins with `before`.
///
/// Emphasis, links, images, code, HTML, entities and bare addresses are disarmed everywhere, the marks of lists,
/// headings, quotes and rules where a line begins. Everything else, such as the point in 12.50, stays readable.
pub(crate) fn markdown(value: &str, before: &str) -> String {
    let mut escaped = String::with_capacity(value.len() + 8);
    let opening = before.rsplit('\n').next().unwrap_or("");
    for (index, line) in value.split('\n').enumerate() {
        if index > 0 {
            escaped.push('\n');
        }
        let begins = index > 0 || opening.trim_matches(of_block_mark).is_empty();
        // Indentation would make a block of code.
        let line = if begins { line.trim_start() } else { line };
        self::line(line.trim_end_matches('\r'), begins, &mut escaped);
    }
    escaped
}

/// What may stand before a value without moving it from the beginning of its line.
fn of_block_mark(c: char) -> bool {
    c.is_whitespace() || c.is_ascii_digit() || matches!(c, '-' | '+' | '*' | '>' | '.' | ')' | '#')
}

fn line(line: &str, begins: bool, escaped: &mut String) {
    let number = if begins { line.len() - line.trim_start_matches(|c: char| c.is_ascii_digit()).len() } else { 0 };
    for (index, character) in line.char_indices() {
        let next = line[index + character.len_utf8()..].chars().next();
        let mark = match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '{' | '}' | '|' | '~' | '&' | '@' => true,
            // An image, if a link follows the value.
            '!' => next.is_none(),
            '#' => begins && index == 0,
            // An address: http://…, mailto:…
            ':' => next.is_some_and(|next| !next.is_whitespace() && !next.is_ascii_digit()),
            '.' if line[..index].to_ascii_lowercase().ends_with("www") => true,
            '.' | ')' => number > 0 && index == number && next.is_none_or(char::is_whitespace),
            '-' | '+' | '=' => {
                begins && index == 0 && next.is_none_or(|next| next.is_whitespace() || next == character)
            }
            _ => false,
        };
        if mark {
            escaped.push('\\');
        }
        if character.is_control() && character != '\t' {
            continue;
        }
        escaped.push(character);
    }
}

/// Follows the literal parts of a Markdown text to know whether a value stands in the destination of a link.
#[derive(Default)]
pub(crate) struct Destinations {
    inside: bool,
    /// Nothing of the destination was seen before the value.
    fresh: bool,
}

impl Destinations {
    /// Takes in literal text.
    pub fn read(&mut self, text: &str) {
        let opened = ["](", "<", "]:"].iter().filter_map(|open| Some(text.rfind(open)? + open.len())).max();
        match opened {
            Some(end) => {
                let rest = text[end..].trim_start_matches(' ');
                let rest = rest.strip_prefix('<').unwrap_or(rest);
                self.inside = !rest.contains([')', '>', ' ', '\n', '\t']);
                self.fresh = rest.is_empty();
            }
            None if text.is_empty() => {}
            None => {
                self.inside &= !text.contains([')', '>', ' ', '\n', '\t']);
                self.fresh = false;
            }
        }
    }

    /// Takes in a value.
    pub fn insert(&mut self) {
        self.fresh = false;
    }

    pub fn inside(&self) -> bool {
        self.inside
    }

    /// Whether a value followed by `after` is the whole destination.
    pub fn whole(&self, after: &str) -> bool {
        self.inside && self.fresh && (after.is_empty() || after.starts_with([')', '>', ' ', '\n']))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scripts_are_recognised_in_disguise() {
        for url in ["javascript:alert(1)", " JavaScript:x", "java\nscript:x", "\u{1}data:text/html,x", "vbscript :x"] {
            assert!(runs(url), "{url:?}");
        }
        for url in ["https://x/javascript:1", "/data:1", "?data:1", "data", "mailto:a@b", "#javascript:x", ""] {
            assert!(!runs(url), "{url:?}");
        }
    }

    #[test]
    fn markdown_is_disarmed_and_stays_readable() {
        for (value, before, escaped) in [
            ("12.50", "You have ", "12.50"),
            ("-5", "", "-5"),
            ("a *b* [c](http://d)", "", r"a \*b\* \[c\](http\://d)"),
            ("at 12:30: go", "", "at 12:30: go"),
            ("www.x.org a@b.c", "", r"www\.x.org a\@b.c"),
            ("- item", "", r"\- item"),
            ("- item", "text ", "- item"),
            ("1. item\n2) x\n    code", "", "1\\. item\n2\\) x\ncode"),
            ("---", "\n", r"\---"),
            ("a\n===", "x", "a\n\\==="),
            ("&#42; <b>", "", r"\&#42; \<b\>"),
            ("# 1st! No #2!", "", r"\# 1st! No #2\!"),
        ] {
            assert_eq!(markdown(value, before), escaped, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn removing_the_escapes_gives_the_value_back(value in "[ -\\[\\]-~é]{0,40}") {
            let escaped = markdown(&value, "text ");
            prop_assert_eq!(escaped.replace('\\', ""), value);
        }

        #[test]
        fn no_active_mark_survives(value in "\\PC{0,40}") {
            let escaped = markdown(&value, "");
            let mut characters = escaped.chars();
            while let Some(character) = characters.next() {
                if character == '\\' {
                    characters.next();
                } else {
                    prop_assert!(!"`*_[]<>{}|~&@".contains(character), "{escaped}");
                }
            }
        }
    }
}
