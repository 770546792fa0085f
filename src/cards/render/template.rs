//! The syntax of templates: text with `{{ path | filter(arguments) }}`, and nothing else.
//!
//! A subset of Minijinja's expressions (specification §4.6). Why not Minijinja's own parser: it reads the legal
//! variable name `first-name` as a subtraction, its syntax tree is an unstable interface, and positions in text,
//! Markdown and URLs need the tree to escape what is inserted. With paths, literals and a fixed set of filters nothing of
//! its machinery would be left in use.

use serde_json::{Number, Value};

use super::filter::{self, Filter};
use crate::error::{Error, Result};

/// A part of a template.
#[derive(Debug, PartialEq)]
pub(crate) enum Piece<'t> {
    Text(&'t str),
    Expression(Expression<'t>),
}

/// What stands between `{{` and `}}`.
#[derive(Debug, PartialEq)]
pub(crate) struct Expression<'t> {
    pub base: Base<'t>,
    pub filters: Vec<Call>,
    /// Where in the template the expression begins, for messages.
    pub offset: usize,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Base<'t> {
    Path(Vec<Segment<'t>>),
    Literal(Value),
}

#[derive(Debug, PartialEq)]
pub(crate) enum Segment<'t> {
    Key(&'t str),
    Index(usize),
}

/// A filter with its literal arguments, one per parameter, null where absent.
#[derive(Debug, PartialEq)]
pub(crate) struct Call {
    pub filter: Filter,
    pub arguments: Vec<Value>,
}

impl Expression<'_> {
    /// The plain name, when the path is one: `order.id` may be a variable of that name.
    pub fn name(&self) -> Option<String> {
        let Base::Path(segments) = &self.base else { return None };
        let keys: Option<Vec<&str>> = segments
            .iter()
            .map(|segment| match segment {
                Segment::Key(key) => Some(*key),
                Segment::Index(_) => None,
            })
            .collect();
        keys.map(|keys| keys.join("."))
    }
}

/// Reads a template. Faults name line and column.
pub(crate) fn parse(source: &str) -> Result<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut reader = Reader { source, at: 0 };
    while reader.at < source.len() {
        let rest = reader.rest();
        let Some(brace) = opening(rest) else {
            pieces.push(Piece::Text(rest));
            break;
        };
        if brace > 0 {
            pieces.push(Piece::Text(&rest[..brace]));
            reader.at += brace;
        }
        match &rest[brace..brace + 2] {
            "{%" => return Err(reader.fault("statements are not allowed")),
            "{#" => return Err(reader.fault("comments are not allowed")),
            _ => pieces.push(Piece::Expression(reader.expression()?)),
        }
    }
    Ok(pieces)
}

/// The next `{{`, `{%` or `{#`.
fn opening(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes.windows(2).position(|pair| pair[0] == b'{' && matches!(pair[1], b'{' | b'%' | b'#'))
}

/// The fault at an offset of the source, with line and column.
pub(crate) fn fault_at(source: &str, offset: usize, detail: &str) -> Error {
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    Error::invalid("", format!("line {line}, column {column}: {detail}"))
}

struct Reader<'t> {
    source: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.source[self.at..]
    }

    fn fault(&self, detail: &str) -> Error {
        fault_at(self.source, self.at, detail)
    }

    fn skip_space(&mut self) {
        self.at = self.source.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c: char| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn expression(&mut self) -> Result<Expression<'t>> {
        let offset = self.at;
        self.at += 2;
        self.skip_space();
        let base = self.base()?;
        let mut filters = Vec::new();
        loop {
            self.skip_space();
            if self.take("}}") {
                return Ok(Expression { base, filters, offset });
            }
            if self.rest().is_empty() {
                return Err(fault_at(self.source, offset, "the expression is not closed with `}}`"));
            }
            if !self.take("|") {
                return Err(self.unexpected());
            }
            self.skip_space();
            filters.push(self.call()?);
        }
    }

    /// Says why what stands here is not part of the language.
    fn unexpected(&self) -> Error {
        let detail = match self.rest().chars().next() {
            None => "the expression is not closed with `}}`",
            Some('(') => "calls are not allowed",
            Some('+' | '-' | '*' | '/' | '%' | '~') => "arithmetic is not allowed",
            Some('}') => "an expression ends with `}}`",
            Some(_) => "only `path | filter(arguments)` is allowed here",
        };
        self.fault(detail)
    }

    fn base(&mut self) -> Result<Base<'t>> {
        if let Some(literal) = self.literal()? {
            return Ok(Base::Literal(literal));
        }
        if !self.rest().starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            return Err(match self.rest().chars().next() {
                Some('}') => self.fault("the expression is empty"),
                _ => self.unexpected(),
            });
        }
        let mut segments = vec![Segment::Key(self.take_while(of_name))];
        loop {
            if self.take(".") {
                let key = self.take_while(of_name);
                if key.is_empty() {
                    return Err(self.fault("a name must follow the dot"));
                }
                segments.push(Segment::Key(key));
            } else if self.take("[") {
                segments.push(self.subscript()?);
            } else {
                return Ok(Base::Path(segments));
            }
        }
    }

    fn subscript(&mut self) -> Result<Segment<'t>> {
        self.skip_space();
        let segment = if let Some(quote) = self.quote() {
            let rest = self.rest();
            let end = rest.find(quote).ok_or_else(|| self.fault("the string is not closed"))?;
            self.at += end + quote.len_utf8();
            Segment::Key(&rest[..end])
        } else {
            let digits = self.take_while(|c| c.is_ascii_digit());
            Segment::Index(digits.parse().map_err(|_| self.fault("a subscript is a string or a whole number"))?)
        };
        self.skip_space();
        if self.take("]") { Ok(segment) } else { Err(self.fault("the subscript is not closed with `]`")) }
    }

    fn quote(&mut self) -> Option<char> {
        ['"', '\''].into_iter().find(|quote| self.take(quote.encode_utf8(&mut [0; 4])))
    }

    fn literal(&mut self) -> Result<Option<Value>> {
        if let Some(quote) = self.quote() {
            return self.string(quote).map(|text| Some(Value::String(text)));
        }
        let sign = self.rest().starts_with('-') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit());
        if !sign && !self.rest().starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(None);
        }
        let start = self.at;
        self.at += usize::from(sign);
        self.take_while(|c| c.is_ascii_digit());
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            self.at += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        let text = &self.source[start..self.at];
        let number = text.parse::<i64>().map(Number::from).ok().or_else(|| Number::from_f64(text.parse().ok()?));
        number.map(|number| Some(Value::Number(number))).ok_or_else(|| self.fault("this is not a number"))
    }

    /// The rest of a quoted string; a backslash makes the next character literal, `\n` and `\t` excepted.
    fn string(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut characters = self.rest().char_indices();
        while let Some((index, character)) = characters.next() {
            match character {
                '\\' => match characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, escaped)) => text.push(escaped),
                    None => break,
                },
                _ if character == quote => {
                    self.at += index + quote.len_utf8();
                    return Ok(text);
                }
                _ => text.push(character),
            }
        }
        Err(self.fault("the string is not closed"))
    }

    fn call(&mut self) -> Result<Call> {
        let start = self.at;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let Some(filter) = Filter::named(name) else {
            let known = filter::ALL.map(Filter::name).join(", ");
            return Err(fault_at(self.source, start, &format!("unknown filter `{name}`; there are {known}")));
        };
        let mut arguments = vec![Value::Null; filter.parameters().len()];
        let mut position = 0;
        self.skip_space();
        if self.take("(") {
            self.skip_space();
            while !self.take(")") {
                if position > 0 && !self.take(",") {
                    return Err(self.fault("expected `,` or `)`"));
                }
                self.skip_space();
                let start = self.at;
                let slot = self.named_argument(filter)?.unwrap_or(position);
                let literal = self.literal()?.ok_or_else(|| self.fault("an argument is a string or a number"))?;
                let Some(argument) = arguments.get_mut(slot) else {
                    return Err(fault_at(self.source, start, &format!("too many arguments for `{name}`")));
                };
                *argument = literal;
                position += 1;
                self.skip_space();
            }
        }
        filter.check(&arguments).map_err(|detail| fault_at(self.source, start, &detail))?;
        Ok(Call { filter, arguments })
    }

    /// The position of the parameter in `tz="UTC"`, when the argument is named.
    fn named_argument(&mut self, filter: Filter) -> Result<Option<usize>> {
        let start = self.at;
        let name = self.take_while(|c| c.is_ascii_alphabetic() || c == '_');
        if name.is_empty() {
            return Ok(None);
        }
        self.skip_space();
        let Some(position) = filter.parameters().iter().position(|parameter| *parameter == name) else {
            return Err(fault_at(self.source, start, "an argument is a string or a number"));
        };
        if !self.take("=") {
            return Err(self.fault("an argument is a string or a number"));
        }
        self.skip_space();
        Ok(Some(position))
    }
}

fn of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_a_path_with_filters_is_refused_with_its_place() {
        for (source, detail) in [
            ("{% if x %}", "line 1, column 1: statements are not allowed"),
            ("a\nbé {# x #}", "line 2, column 4: comments are not allowed"),
            ("{{ 1 + 1 }}", "line 1, column 6: arithmetic is not allowed"),
            ("{{ a - b }}", "line 1, column 6: arithmetic is not allowed"),
            ("{{ a ~ b }}", "line 1, column 6: arithmetic is not allowed"),
            ("{{ -a }}", "line 1, column 4: arithmetic is not allowed"),
            ("{{ range(9) }}", "line 1, column 9: calls are not allowed"),
            ("{{ a.upper() }}", "line 1, column 11: calls are not allowed"),
            ("{{ a if b }}", "line 1, column 6: only `path | filter(arguments)` is allowed here"),
            ("{{ a == b }}", "line 1, column 6: only `path | filter(arguments)` is allowed here"),
            ("{{ [1] }}", "line 1, column 4: only `path | filter(arguments)` is allowed here"),
            ("{{ }}", "line 1, column 4: the expression is empty"),
            ("x {{ a", "line 1, column 3: the expression is not closed with `}}`"),
            ("{{ a }", "line 1, column 6: an expression ends with `}}`"),
            ("{{ a. }}", "line 1, column 6: a name must follow the dot"),
            ("{{ a['b }}", "line 1, column 7: the string is not closed"),
            ("{{ a | truncate(b) }}", "line 1, column 17: an argument is a string or a number"),
            ("{{ a | truncate }}", "line 1, column 8: `truncate` needs a whole number"),
            ("{{ a | upper(1) }}", "line 1, column 14: too many arguments for `upper`"),
            ("{{ a | date('%!') }}", "line 1, column 8: `%!` is not a date pattern"),
            ("{{ a | date(tz='Mars') }}", "line 1, column 8: `Mars` is not an IANA time zone name"),
        ] {
            let error = parse(source).expect_err(source);
            assert_eq!(error.violations()[0].detail, detail, "{source}");
        }
        let error = parse("{{ a | shout }}").unwrap_err();
        assert!(
            error.violations()[0].detail.starts_with("line 1, column 8: unknown filter `shout`; there are default,")
        );
    }

    #[test]
    fn the_language_is_accepted() {
        for source in [
            "",
            "no { braces } }} here",
            "{{ name }}",
            "{{name|upper|truncate( 3 )}}",
            "{{ variables['first-name'] }} {{ first-name }}",
            "{{ list[0].x.1 }}",
            "{{ 'it\\'s' }}{{ \"{{\" }}{{ 1.5 }}{{ -2 }}",
            "{{ due | date('short', 'Pacific/Auckland') | default(\"soon\") }}",
            "{{ due | date(tz = 'UTC') }}{{ n | number(decimals=2) }}{{ l | join('; ') }}",
        ] {
            assert!(parse(source).is_ok(), "{source}: {:?}", parse(source));
        }
    }

    #[test]
    fn dotted_paths_are_names() {
        let pieces = parse("{{ order.id }}").unwrap();
        let [Piece::Expression(expression)] = pieces.as_slice() else { panic!("one expression") };
        assert_eq!(expression.name().as_deref(), Some("order.id"));
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(source in "[{}%#|()'\"a-z0-9.\\[\\] é\n-]{0,40}") {
            let _ = parse(&source);
        }

        #[test]
        fn plain_text_is_itself(source in "[^{]{0,40}") {
            let pieces = parse(&source).unwrap();
            prop_assert!(pieces.len() <= 1);
            prop_assert!(pieces.iter().all(|piece| *piece == Piece::Text(&source)));
        }
    }
}
