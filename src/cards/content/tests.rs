//! Content that is accepted, and everything that is refused.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::cards::render;

/// The content of the first ten minutes (specification §14).
pub(crate) fn offer() -> Value {
    json!({ "variables": [{ "name": "amount", "type": "number", "required": true }],
      "topCard": { "elements": [
        { "id": "h", "type": "headline", "attributes": { "text": "Hello {{ profile.name | default('there') }}" } },
        { "id": "t", "type": "text", "attributes": { "text": "You have {{ amount | number(2) }} to spend." } },
        { "id": "f", "type": "form", "children": [
          { "id": "c", "type": "dropdown", "attributes": { "name": "choice", "label": "Accept?",
              "options": [{ "title": "Yes", "value": "yes" }, { "title": "No", "value": "no" }] },
            "validations": { "required": { "value": true, "message": "Please choose" } } },
          { "id": "b", "type": "submitButton", "attributes": { "name": "accept", "text": "Send" } }] }] } })
}

/// Says what is wrong with content, one `pointer: detail` for each violation.
fn faults(document: &Value) -> Vec<String> {
    let error = Content::parse(document).expect_err("a fault");
    let shown = |v: &crate::error::Violation| format!("{}: {}", v.pointer.as_deref().unwrap_or(""), v.detail);
    error.violations().iter().map(shown).collect()
}

fn top(elements: Value) -> Value {
    json!({ "topCard": { "elements": elements } })
}

#[test]
fn the_first_ten_minutes() {
    let content = Content::parse(&offer()).unwrap();
    let context = render::Context { root: json!({ "profile": {}, "amount": 12 }), zone: jiff::tz::TimeZone::UTC };
    let card = render::card(&content, &context).unwrap();
    assert_eq!(card.top_card["elements"][0]["attributes"]["text"], "Hello there");
    assert_eq!(card.top_card["elements"][1]["attributes"]["text"], "You have 12.00 to spend.");
    assert_eq!(card.actions["dismiss"], json!({ "overflow": true, "swipe": true }));
    let answer = |values: Value| complete(&card.top_card, &card.subviews, "accept", values.as_object().unwrap());
    let completion = answer(json!({ "choice": "yes" })).unwrap();
    assert_eq!(Value::Object(completion.values), json!({ "choice": "yes", "accept": null }));
    let error = answer(json!({})).unwrap_err();
    assert_eq!(error.violations()[0].pointer.as_deref(), Some("/values/choice"));
    assert_eq!(error.violations()[0].detail, "Please choose");
}

/// Content with every element type and every attribute.
fn everything() -> Value {
    let button = |id: &str, kind: &str| {
        json!({ "id": id, "type": kind, "attributes": {
        "text": "T", "appearance": "primary", "icon": "i" } })
    };
    json!({
        "variables": [{ "name": "balance", "type": "number", "runtime": true, "default": 0, "format": "0.00" },
            { "name": "first-name", "type": "string" }],
        "actions": { "dismiss": { "overflow": true, "swipe": false }, "snooze": { "overflow": true, "swipe": true },
            "voteUp": { "overflow": true, "feedback": true, "feedbackLabel": "Why, {{ first-name }}?" },
            "voteDown": { "overflow": false } },
        "delivery": { "priority": 3, "expiresInterval": "P1D", "snoozeInterval": "PT1H",
            "targetPlatforms": { "Web": true, "iOS": false } },
        "notification": { "sendNotifications": true, "title": "Hi {{ first-name }}", "body": "B", "sound": "s", "badge": 1 },
        "topCard": { "elements": [
            { "id": "1", "type": "category", "attributes": { "text": "C", "icon": "i", "iconUrl": "https://x/{{ id }}" } },
            { "id": "2", "type": "headline", "attributes": { "text": "H", "icon": "i", "iconUrl": "https://x/i" } },
            { "id": "3", "type": "text", "attributes": { "text": "**{{ balance }}** [x](https://x)", "expandable": true,
                "maxLines": 3, "moreLabel": "more", "lessLabel": "less" } },
            { "id": "4", "type": "list", "attributes": { "style": "number" }, "children": [
                { "id": "5", "type": "listItem", "attributes": { "text": "L", "icon": "i", "iconUrl": "https://x/i" } }] },
            { "id": "6", "type": "image", "attributes": { "format": "banner", "src": "https://x/i.png", "alt": "a",
                "label": "l", "description": "d", "height": "tall", "link": { "kind": "open" } } },
            { "id": "7", "type": "video", "attributes": { "format": "inline", "src": "https://x/v", "posterSrc": "https://x/p",
                "alt": "a", "label": "l", "description": "d", "height": "original" } },
            { "id": "8", "type": "form", "attributes": { "initialValues": { "text": "{{ first-name }}" } }, "children": [
                { "id": "9", "type": "textInput", "attributes": { "name": "text", "label": "l", "placeholder": "p",
                    "lines": 2, "maxLength": 10, "value": "{{ first-name }}" },
                    "validations": { "minLength": { "value": 1 }, "pattern": { "value": "^[a-z]+$", "message": "m" } } },
                { "id": "10", "type": "numberInput", "attributes": { "name": "number", "label": "l", "placeholder": "p",
                    "value": "{{ variables.count }}" }, "validations": { "min": { "value": 0 }, "max": { "value": 9 } } },
                { "id": "11", "type": "dateInput", "attributes": { "name": "date", "label": "l", "placeholder": "p",
                    "layout": "stacked", "value": "2026-01-01" }, "validations": { "minDate": { "value": "2026-01-01" } } },
                { "id": "12", "type": "dropdown", "attributes": { "name": "choice", "label": "l", "placeholder": "p",
                    "layout": "inline", "options": [{ "title": "T", "value": 1 }], "value": 1 } },
                { "id": "13", "type": "checkboxes", "attributes": { "name": "checks",
                    "items": [{ "key": "k", "label": "L", "checked": true }] }, "validations": { "minChecked": { "value": 1 } } },
                { "id": "14", "type": "switch", "attributes": { "name": "switch", "label": "l", "value": false } },
                { "id": "15", "type": "stepper", "attributes": { "name": "stepper", "label": "l", "min": 1, "max": 5,
                    "step": 0.5, "value": 2 } },
                { "id": "16", "type": "submitButton", "attributes": { "name": "send", "text": "T", "appearance": "primary",
                    "icon": "i", "values": { "code": "{{ variables.code }}" }, "link": { "kind": "subview", "subview": "more" } } },
                { "id": "17", "type": "linkButton", "attributes": { "text": "T", "appearance": "secondary", "icon": "i",
                    "link": { "kind": "url", "url": "https://x/?q={{ first-name }}", "target": "_blank" } } },
                button("18", "dismissButton"),
                { "id": "19", "type": "snoozeButton", "attributes": { "text": "T", "interval": "PT1H" } },
                { "id": "20", "type": "buttonRow", "children": [button("21", "voteUpButton"),
                    { "id": "22", "type": "voteDownButton", "attributes": { "feedback": true, "feedbackLabel": "F" } },
                    { "id": "23", "type": "linkButton", "attributes": { "link": { "kind": "payload", "payload": { "a": "{{ balance }}" } } } },
                    { "id": "24", "type": "linkButton", "attributes": { "link": { "kind": "none" } } }] }] },
            { "id": "25", "type": "divider" }] },
        "subviews": [{ "id": "more", "title": "More for {{ first-name }}", "elements": [
            { "id": "26", "type": "form", "children": [
                { "id": "27", "type": "textInput", "attributes": { "name": "text" } }] }] }]
    })
}

#[test]
fn every_element_and_attribute_is_known() {
    let content = Content::parse(&everything()).unwrap();
    assert_eq!(content.delivery().options.priority, Some(3));
    assert_eq!(content.delivery().options.platforms.as_deref(), Some(&[crate::cards::options::Platform::Web][..]));
    assert_eq!(content.notification().title.as_deref(), Some("Hi {{ first-name }}"));
    let used: std::collections::HashSet<&str> = kinds(content.document());
    let unused: Vec<_> = element::DEFINITIONS.iter().map(|d| d.name).filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

fn kinds(value: &Value) -> std::collections::HashSet<&str> {
    match value {
        Value::Array(items) => items.iter().flat_map(kinds).collect(),
        Value::Object(fields) => {
            let own = fields.get("type").and_then(Value::as_str);
            fields.values().flat_map(kinds).chain(own).collect()
        }
        _ => std::collections::HashSet::new(),
    }
}

#[test]
fn values_are_rendered_where_they_stand() {
    let content = Content::parse(&everything()).unwrap();
    let root = json!({ "variables": { "count": 7, "code": [1] }, "first-name": "A [b](c)" });
    let card = render::card(&content, &render::Context { root, zone: jiff::tz::TimeZone::UTC }).unwrap();
    let elements = &card.top_card["elements"];
    assert_eq!(elements[2]["attributes"]["text"], "**{{balance}}** [x](https://x)");
    let form = &elements[6]["children"];
    assert_eq!(form[0]["attributes"]["value"], "A [b](c)");
    assert_eq!(form[1]["attributes"]["value"], 7);
    assert_eq!(form[7]["attributes"]["values"], json!({ "code": [1] }));
    assert_eq!(form[8]["attributes"]["link"]["url"], "https://x/?q=A%20%5Bb%5D%28c%29");
    assert_eq!(form[11]["children"][2]["attributes"]["link"]["payload"]["a"], "{{balance}}");
    assert_eq!(card.subviews[0]["title"], "More for A [b](c)");
    assert_eq!(card.actions["voteUp"]["feedbackLabel"], "Why, A [b](c)?");
    let runtime = json!([{ "name": "balance", "type": "number", "default": 0, "format": "0.00" }]);
    assert_eq!(card.runtime_variables, runtime);
}

#[test]
fn unknown_things_are_refused() {
    for (document, fault) in [
        (json!(1), ": content must be an object"),
        (json!({}), "/topCard: topCard is required"),
        (json!({ "topCard": { "elements": [] }, "colour": 1 }), "/colour: unknown property `colour`"),
        (json!({ "topCard": { "elements": {} } }), "/topCard/elements: elements must be a list"),
        (top(json!([1])), "/topCard/elements/0: an element must be an object"),
        (top(json!([{ "id": "a", "type": "marquee" }])), "/topCard/elements/0/type: unknown element type `marquee`"),
        (
            top(json!([{ "id": "a", "type": "divider", "attributes": { "x": 1 } }])),
            "/topCard/elements/0/attributes/x: `divider` has no attribute `x`",
        ),
        (top(json!([{ "id": "a", "type": "divider", "x": 1 }])), "/topCard/elements/0/x: unknown property `x`"),
        (
            top(json!([{ "id": "a", "type": "divider" }, { "id": "a", "type": "divider" }])),
            "/topCard/elements/1/id: the id `a` is used twice",
        ),
        (top(json!([{ "type": "divider" }])), "/topCard/elements/0/id: an id must be a string of 1 to 128 characters"),
        (
            top(json!([{ "id": "a", "type": "divider" }, { "id": "b", "type": "category" }])),
            "/topCard/elements/1: a category stands first in the top card",
        ),
        (top(json!([{ "id": "a", "type": "linkButton" }])), "/topCard/elements/0: `linkButton` stands in a form only"),
        (
            top(json!([{ "id": "a", "type": "listItem", "attributes": { "text": "x" } }])),
            "/topCard/elements/0: `listItem` stands in a list only",
        ),
        (
            top(json!([{ "id": "a", "type": "form", "children": [{ "id": "b", "type": "divider" }] }])),
            "/topCard/elements/0/children/0: `divider` cannot stand in `form`",
        ),
        (top(json!([{ "id": "a", "type": "headline" }])), "/topCard/elements/0/attributes/text: text is required"),
        (
            top(json!([{ "id": "a", "type": "headline", "attributes": { "text": "x {{ 1 + 1 }}" } }])),
            "/topCard/elements/0/attributes/text: line 1, column 8: arithmetic is not allowed",
        ),
        (
            top(json!([{ "id": "a", "type": "headline", "attributes": { "text": "{{ a-b }}" } }])),
            "/topCard/elements/0/attributes/text: line 1, column 1: arithmetic is not allowed, and no variable `a-b` is declared",
        ),
        (
            top(json!([{ "id": "a", "type": "image", "attributes": { "src": "JavaScript:x" } }])),
            "/topCard/elements/0/attributes/src: the schemes javascript, data and vbscript are not allowed",
        ),
        (
            top(
                json!([{ "id": "a", "type": "image", "attributes": { "src": "x", "link": { "kind": "subview", "subview": "s" } } }]),
            ),
            "/topCard/elements/0/attributes/link/subview: must be the id of a subview",
        ),
        (
            top(json!([{ "id": "a", "type": "image", "attributes": { "src": "x", "height": "huge" } }])),
            "/topCard/elements/0/attributes/height: must be one of tall, medium, short, original",
        ),
        (
            json!({ "topCard": { "elements": [] }, "delivery": { "priority": 11 } }),
            "/delivery/priority: priority must be a whole number from 1 to 10",
        ),
        (
            json!({ "topCard": { "elements": [] }, "delivery": { "embargo": null } }),
            "/delivery/embargo: unknown property `embargo`",
        ),
        (
            json!({ "topCard": { "elements": [] }, "actions": { "dismiss": { "swipe": 1 } } }),
            "/actions/dismiss/swipe: swipe must be true or false",
        ),
        (
            json!({ "topCard": { "elements": [] }, "notification": { "title": "{% x %}" } }),
            "/notification/title: line 1, column 1: statements are not allowed",
        ),
        (
            json!({ "topCard": { "elements": [] }, "subviews": [{ "id": "s", "elements": [
            { "id": "a", "type": "image", "attributes": { "src": "x", "format": "banner" } }] }] }),
            "/subviews/0/elements/0/attributes/format: a banner stands in the top card only",
        ),
    ] {
        let faults = faults(&document);
        assert_eq!(faults, [fault], "{document}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let input = |id: &str, name: &str, validations: Value| json!({ "id": id, "type": "textInput", "attributes": { "name": name, "lines": 0 }, "validations": validations });
    let document = top(json!([{ "id": "f", "type": "form", "children": [
        input("a", "x", json!({ "max": { "value": 1 } })),
        input("b", "x", json!({ "pattern": { "value": "(" }, "odd": {} })),
    ] }]));
    let pointers: Vec<String> = faults(&document)
        .iter()
        .map(|fault| fault.split(':').next().unwrap_or("").replace("/topCard/elements/0/children", ""))
        .collect();
    assert_eq!(
        pointers,
        [
            "/0/attributes/lines",
            "/0/validations/max",
            "/1/attributes/lines",
            "/1/attributes/name",
            "/1/validations/odd",
            "/1/validations/pattern/value"
        ]
    );
}

#[test]
fn limits() {
    let dividers = |count: usize| {
        top((0..count).map(|index| json!({ "id": index.to_string(), "type": "divider" })).collect::<Vec<_>>().into())
    };
    assert!(Content::parse(&dividers(MOST_ELEMENTS)).is_ok());
    assert_eq!(faults(&dividers(MOST_ELEMENTS + 1)), [": more than 200 elements"]);
    let subviews: Vec<Value> = (0..=MOST_SUBVIEWS).map(|i| json!({ "id": i.to_string(), "elements": [] })).collect();
    assert_eq!(
        faults(&json!({ "topCard": { "elements": [] }, "subviews": subviews })),
        ["/subviews: more than 50 subviews"]
    );
    let long = "x".repeat(MOST_BYTES);
    let headline = top(json!([{ "id": "a", "type": "headline", "attributes": { "text": long } }]));
    assert_eq!(faults(&headline), [": content takes more than 512 KiB"]);
    let deep = (0..text::JSON_DEPTH).fold(json!(1), |inner, _| json!([inner]));
    assert_eq!(faults(&json!({ "topCard": deep })), [": JSON may be nested at most 32 deep"]);
}

#[test]
fn runtime_variables_take_no_filters() {
    let mut document = top(json!([{ "id": "a", "type": "headline", "attributes": { "text": "{{ b | upper }}" } }]));
    document["variables"] = json!([{ "name": "b", "type": "string", "runtime": true }]);
    assert_eq!(faults(&document).len(), 1);
}

proptest! {
    #[test]
    fn no_document_makes_the_check_panic(text in "[\\[\\]{}:,\"a-z0-9 ]{0,60}", kind in 0..element::DEFINITIONS.len()) {
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        let kind = element::DEFINITIONS[kind];
        let attributes: Map<String, Value> =
            kind.slots.iter().map(|slot| (slot.name.to_owned(), value.clone())).collect();
        let element = json!({ "id": "a", "type": kind.name, "attributes": attributes, "children": [value.clone()],
            "validations": { "required": value.clone() } });
        let _ = Content::parse(&top(json!([element])));
        let _ = Content::parse(&value);
    }
}
