//! Rendering: templates and a context become text, values and cards (specification §4.6).
//!
//! - `template` reads `{{ path | filter(arguments) }}` and refuses everything else,
//! - `filter` holds the filters,
//! - `escape` keeps inserted values from making links, markup or scripts,
//! - `card` renders the content of a template version for one customer.
//!
//! Rendering never looks anything up outside its [`Context`], and stops when it has written 256 KiB or worked
//! through 1 MiB of values, which takes less than 10 ms. A limit on work rather than time fails the same card
//! every time, not now and then on a busy machine.

mod card;
mod escape;
mod filter;
mod template;

use std::borrow::Cow;
use std::collections::HashSet;

use jiff::tz::TimeZone;
use serde_json::{Map, Value};

pub use card::{Rendered, card};
pub(crate) use template::fault_at;

use crate::error::{Error, Result};
use template::{Base, Expression, Piece, Segment};

/// The most bytes that one card, or one text of a flow, may become.
pub const MOST_OUTPUT: usize = 256 * 1024;

/// The most bytes of values that rendering may work through.
const MOST_WORK: usize = 1024 * 1024;

/// What names in templates mean: the parts of specification §8.4 and, in card templates, plain variable names.
#[derive(Clone)]
pub struct Context {
    /// An object.
    pub root: Value,
    /// Where dates are shown.
    pub zone: TimeZone,
}

impl Context {
    /// Adds plain variable names. The parts of the context keep their names.
    pub fn with_variables(mut self, variables: &Map<String, Value>) -> Context {
        if let Value::Object(root) = &mut self.root {
            for (name, value) in variables {
                root.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        self
    }
}

/// Checks a template when it is saved. The detail names line and column.
pub fn check_template(text: &str) -> Result<()> {
    template::parse(text).map(drop)
}

/// An expression of a template, as far as savers of content look at it.
pub(crate) struct Mention {
    /// The plain or dotted name; none for literals and subscripts.
    pub name: Option<String>,
    pub filtered: bool,
    pub offset: usize,
}

/// Checks a template and lists its expressions.
pub(crate) fn mentions(text: &str) -> Result<Vec<Mention>> {
    let pieces = template::parse(text)?;
    let mention = |piece: Piece<'_>| match piece {
        Piece::Text(_) => None,
        Piece::Expression(expression) => Some(Mention {
            name: expression.name(),
            filtered: !expression.filters.is_empty(),
            offset: expression.offset,
        }),
    };
    Ok(pieces.into_iter().filter_map(mention).collect())
}

/// Whether a URL template already begins with a scheme that runs as a script.
pub(crate) fn runs_as_script(url: &str) -> bool {
    escape::runs(url)
}

/// Renders a template to text. Unknown values are empty.
pub fn text(source: &str, context: &Context) -> Result<String> {
    Renderer::new(context).text(source)
}

/// Renders a URL: inserted values are percent-encoded unless the whole URL is one expression.
pub fn url(source: &str, context: &Context) -> Result<String> {
    Renderer::new(context).url(source)
}

/// Renders a template; one that is exactly one expression keeps the JSON type of its value.
pub fn value(source: &str, context: &Context) -> Result<Value> {
    Renderer::new(context).value(source)
}

/// Renders within the limits of one card.
struct Renderer<'c> {
    context: &'c Context,
    /// Names that are left in place for the app.
    runtime: HashSet<&'c str>,
    written: usize,
    worked: usize,
}

impl<'c> Renderer<'c> {
    fn new(context: &'c Context) -> Renderer<'c> {
        Renderer { context, runtime: HashSet::new(), written: 0, worked: 0 }
    }

    fn text(&mut self, source: &str) -> Result<String> {
        let mut output = String::with_capacity(source.len());
        for piece in template::parse(source)? {
            match piece {
                Piece::Text(text) => output.push_str(text),
                Piece::Expression(expression) => match self.left_in_place(&expression) {
                    Some(name) => output.push_str(&name),
                    None => output.push_str(&filter::display(&*self.evaluate(&expression)?)),
                },
            }
            self.bound(output.len())?;
        }
        self.write(output)
    }

    /// Renders Markdown: inserted values cannot make links or markup.
    fn markdown(&mut self, source: &str) -> Result<String> {
        let pieces = template::parse(source)?;
        let mut output = String::with_capacity(source.len());
        let mut destinations = escape::Destinations::default();
        for (index, piece) in pieces.iter().enumerate() {
            let expression = match piece {
                Piece::Text(text) => {
                    destinations.read(text);
                    output.push_str(text);
                    continue;
                }
                Piece::Expression(expression) => expression,
            };
            let after = match pieces.get(index + 1) {
                Some(Piece::Text(text)) => text,
                Some(Piece::Expression(_)) => "{",
                None => "",
            };
            if let Some(name) = self.left_in_place(expression) {
                output.push_str(&name);
            } else if destinations.whole(after) {
                let url = filter::display(&*self.evaluate(expression)?).into_owned();
                if escape::runs(&url) {
                    return Err(script());
                }
                output.push_str(&escape::destination(&url));
            } else {
                let value = self.evaluate(expression)?;
                let value = filter::display(&value);
                output.push_str(&match destinations.inside() {
                    true => filter::url_encode(&value),
                    false => escape::markdown(&value, &output),
                });
            }
            destinations.insert();
            self.bound(output.len())?;
        }
        self.write(output)
    }

    /// Renders a URL: inserted values are percent-encoded unless the whole URL is one expression.
    fn url(&mut self, source: &str) -> Result<String> {
        let pieces = template::parse(source.trim())?;
        let whole = pieces.len() == 1;
        let mut output = String::with_capacity(source.len());
        for piece in &pieces {
            match piece {
                Piece::Text(text) => output.push_str(text),
                Piece::Expression(expression) => match self.left_in_place(expression) {
                    Some(name) => output.push_str(&name),
                    None => {
                        let encoded =
                            expression.filters.last().is_some_and(|call| call.filter == filter::Filter::UrlEncode);
                        let value = self.evaluate(expression)?;
                        let value = filter::display(&value);
                        output.push_str(&match whole || encoded {
                            true => value,
                            false => Cow::Owned(filter::url_encode(&value)),
                        });
                    }
                },
            }
            self.bound(output.len())?;
        }
        if escape::runs(&output) {
            return Err(script());
        }
        self.write(output)
    }

    fn value(&mut self, source: &str) -> Result<Value> {
        if let [Piece::Expression(expression)] = template::parse(source.trim())?.as_slice()
            && self.left_in_place(expression).is_none()
        {
            let value = self.evaluate(expression)?.into_owned();
            self.written += size(&value);
            return self.bound(0).map(|()| value);
        }
        self.text(source).map(Value::String)
    }

    /// Renders every string in a JSON value.
    fn json(&mut self, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::String(source) => self.value(source)?,
            Value::Array(items) => Value::Array(items.iter().map(|item| self.json(item)).collect::<Result<_>>()?),
            Value::Object(fields) => Value::Object(
                fields.iter().map(|(key, field)| Ok((key.clone(), self.json(field)?))).collect::<Result<_>>()?,
            ),
            literal => literal.clone(),
        })
    }

    /// `{{name}}`, when the expression is a runtime variable.
    fn left_in_place(&self, expression: &Expression<'_>) -> Option<String> {
        let name = expression.name()?;
        self.runtime.contains(name.as_str()).then(|| format!("{{{{{name}}}}}"))
    }

    fn evaluate<'e>(&mut self, expression: &'e Expression<'_>) -> Result<Cow<'e, Value>>
    where
        'c: 'e,
    {
        let mut value = match &expression.base {
            Base::Literal(literal) => Cow::Borrowed(literal),
            Base::Path(segments) => find(&self.context.root, segments).map_or(Cow::Owned(Value::Null), Cow::Borrowed),
        };
        for call in &expression.filters {
            self.work(size(&value))?;
            value = call.filter.apply(value, &call.arguments, &self.context.zone);
        }
        self.work(size(&value))?;
        Ok(value)
    }

    fn work(&mut self, bytes: usize) -> Result<()> {
        // A constant for each step, so that very many small ones are bounded too.
        self.worked += bytes + 64;
        if self.worked > MOST_WORK { Err(Error::invalid("", "rendering takes too long")) } else { Ok(()) }
    }

    fn bound(&self, more: usize) -> Result<()> {
        match self.written + more > MOST_OUTPUT {
            true => Err(Error::invalid("", format!("rendered to more than {} KiB", MOST_OUTPUT / 1024))),
            false => Ok(()),
        }
    }

    fn write(&mut self, output: String) -> Result<String> {
        self.written += output.len();
        self.bound(0).map(|()| output)
    }
}

fn script() -> Error {
    Error::invalid("", "the URL would run as a script")
}

/// Follows a path. At each object the longest joined name wins, so that a variable `order.id` is found.
fn find<'v>(value: &'v Value, segments: &[Segment<'_>]) -> Option<&'v Value> {
    let Some((first, rest)) = segments.split_first() else { return Some(value) };
    match (value, first) {
        (Value::Array(items), Segment::Index(index)) => find(items.get(*index)?, rest),
        (Value::Array(items), Segment::Key(key)) => find(items.get(key.parse::<usize>().ok()?)?, rest),
        (Value::Object(fields), Segment::Index(index)) => find(fields.get(&index.to_string())?, rest),
        (Value::Object(fields), Segment::Key(key)) => {
            if let Some(found) = fields.get(*key).and_then(|field| find(field, rest)) {
                return Some(found);
            }
            let mut joined = (*key).to_owned();
            for (index, segment) in rest.iter().enumerate() {
                let Segment::Key(key) = segment else { return None };
                joined.push('.');
                joined.push_str(key);
                if let Some(found) = fields.get(&joined).and_then(|field| find(field, &rest[index + 1..])) {
                    return Some(found);
                }
            }
            None
        }
        _ => None,
    }
}

/// About how many bytes a value has.
fn size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 2,
        Value::Object(fields) => fields.iter().map(|(key, field)| key.len() + size(field) + 4).sum::<usize>() + 2,
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn context(root: Value) -> Context {
        Context { root, zone: TimeZone::UTC }
    }

    fn check(source: &str, expected: &str) {
        let context = context(json!({
            "amount": 12, "name": "Ana <b>", "none": null, "tags": ["a", "b"], "order.id": "o-1", "first-name": "Bo",
            "variables": { "first-name": "Bo" }, "profile": { "name": null }, "flag": true, "price": 12.0,
        }));
        assert_eq!(text(source, &context).unwrap(), expected, "{source}");
    }

    #[test]
    fn texts() {
        check("Hello {{ profile.name | default('there') }}", "Hello there");
        check("{{ amount | number(2) }}", "12.00");
        check("[{{ nothing.at.all }}{{ none }}]", "[]");
        check("{{ tags }} {{ tags | join('+') }} {{ tags | length }} {{ tags.1 }}{{ tags[0] }}", "a, b a+b 2 ba");
        check("{{ order.id }} {{ first-name }} {{ variables['first-name'] | upper }}", "o-1 Bo BO");
        check("{{ flag }} {{ price }} {{ 'x' | capitalize }}", "true 12 X");
        check("{{ name | urlencode }}", "Ana%20%3Cb%3E");
        check("{{ name | lower | truncate(3) | trim }}", "an…");
    }

    #[test]
    fn a_whole_expression_keeps_its_type() {
        let context = context(json!({ "amount": 12, "list": [1] }));
        assert_eq!(value(" {{ amount }} ", &context).unwrap(), json!(12));
        assert_eq!(value("{{ list }}", &context).unwrap(), json!([1]));
        assert_eq!(value("{{ gone }}", &context).unwrap(), Value::Null);
        assert_eq!(value("{{ amount }}!", &context).unwrap(), json!("12!"));
    }

    #[test]
    fn urls() {
        let context =
            context(json!({ "q": "a b&c", "url": "https://x.org/?a=b", "bad": "java\tscript:x", "s": "data" }));
        let url = |source: &str| Renderer::new(&context).url(source);
        assert_eq!(url("https://x.org/?q={{ q }}").unwrap(), "https://x.org/?q=a%20b%26c");
        assert_eq!(url("https://x.org/?q={{ q | urlencode }}").unwrap(), "https://x.org/?q=a%20b%26c");
        assert_eq!(url("{{ url }}").unwrap(), "https://x.org/?a=b");
        assert!(url("{{ bad }}").is_err());
        assert!(url("{{ s }}:text/html,x").is_err());
    }

    #[test]
    fn links_in_markdown() {
        let context = context(json!({ "url": "https://x.org/a(b)?c&d", "bad": "JAVASCRIPT:x", "t": "](http://evil)" }));
        let markdown = |source: &str| Renderer::new(&context).markdown(source);
        assert_eq!(markdown("[go]({{ url }}) on").unwrap(), "[go](https://x.org/a%28b%29?c&amp;d) on");
        assert_eq!(markdown("[{{ t }}](https://x)").unwrap(), r"[\](http\://evil)](https://x)");
        assert_eq!(markdown("[go](https://x/{{ t }})").unwrap(), "[go](https://x/%5D%28http%3A%2F%2Fevil%29)");
        assert!(markdown("[go]({{ bad }})").is_err());
        assert_eq!(markdown("[go]({{ bad }}{{ t }})").unwrap(), "[go](JAVASCRIPT%3Ax%5D%28http%3A%2F%2Fevil%29)");
    }

    #[test]
    fn work_and_output_are_capped() {
        let context = context(json!({ "big": "x".repeat(200 * 1024) }));
        assert!(text("{{ big }}{{ big }}", &context).is_err());
        assert!(text("{{ big | upper | lower | upper | lower | upper | lower | truncate(1) }}", &context).is_err());
        assert!(text("{{ big | upper | truncate(1) }}", &context).is_ok());
    }

    proptest! {
        #[test]
        fn inserted_text_arrives_unchanged(inserted in "\\PC{0,40}") {
            let context = context(json!({ "v": inserted }));
            prop_assert_eq!(text("<{{ v }}>", &context).unwrap(), format!("<{inserted}>"));
            prop_assert_eq!(value("{{ v }}", &context).unwrap(), json!(inserted));
        }

        #[test]
        fn inserted_urls_never_run(inserted in "[ \tjJavascriptd:/{}a-z]{0,24}") {
            let context = context(json!({ "v": inserted }));
            for source in ["{{ v }}", "{{ v }}:x", "java{{ v }}", "https://x/{{ v }}"] {
                if let Ok(url) = Renderer::new(&context).url(source) {
                    prop_assert!(!escape::runs(&url));
                }
            }
        }
    }
}
