//! The element types of specification §4.4 as data: saving checks content against these tables, rendering follows
//! them, responses are read by them.

/// What an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    /// A text template.
    Text,
    /// A template of Markdown.
    Markdown,
    /// A template of a URL.
    Url,
    /// One of these words.
    Word(&'static [&'static str]),
    /// The name of an input or a submit button.
    Name,
    Flag,
    /// A whole number from 1.
    Count,
    Number,
    /// The first value of an input: of its type, or a template.
    Initial,
    /// An object whose strings are templates.
    Values,
    Link,
    Options,
    Items,
    /// An ISO 8601 duration.
    Interval,
}

/// An attribute of an element type.
pub(crate) struct Slot {
    pub name: &'static str,
    pub attribute: Attribute,
    pub required: bool,
}

/// Where an element may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a top card or subview.
    Block,
    ListItem,
    /// In a form.
    Input(Input),
    /// In a form or a row of buttons.
    Button,
    /// In a form.
    Row,
}

/// What an input answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Text,
    Number,
    Date,
    Choice,
    Checks,
    Switch,
    Stepper,
}

/// What the children of an element may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Children {
    None,
    ListItems,
    /// Inputs, buttons and rows of buttons.
    Controls,
    Buttons,
}

impl Children {
    pub fn admit(self, place: Place) -> bool {
        match self {
            Children::None => false,
            Children::ListItems => place == Place::ListItem,
            Children::Controls => matches!(place, Place::Input(_) | Place::Button | Place::Row),
            Children::Buttons => place == Place::Button,
        }
    }
}

/// An element type.
#[derive(Clone, Copy)]
pub(crate) struct Definition {
    pub name: &'static str,
    pub place: Place,
    pub children: Children,
    pub slots: &'static [Slot],
}

impl Definition {
    pub fn named(name: &str) -> Option<&'static Definition> {
        DEFINITIONS.iter().find(|definition| definition.name == name)
    }

    pub fn slot(&self, name: &str) -> Option<&'static Slot> {
        self.slots.iter().find(|slot| slot.name == name)
    }
}

const fn may(name: &'static str, attribute: Attribute) -> Slot {
    Slot { name, attribute, required: false }
}

const fn must(name: &'static str, attribute: Attribute) -> Slot {
    Slot { name, attribute, required: true }
}

const fn block(name: &'static str, slots: &'static [Slot]) -> Definition {
    Definition { name, place: Place::Block, children: Children::None, slots }
}

const fn parent(name: &'static str, children: Children, slots: &'static [Slot]) -> Definition {
    Definition { name, place: Place::Block, children, slots }
}

const fn input(name: &'static str, input: Input, slots: &'static [Slot]) -> Definition {
    Definition { name, place: Place::Input(input), children: Children::None, slots }
}

const fn button(name: &'static str, slots: &'static [Slot]) -> Definition {
    Definition { name, place: Place::Button, children: Children::None, slots }
}

/// The formats and heights that only a top card may use.
pub(crate) const BANNER: &str = "banner";

const APPEARANCE: Attribute = Attribute::Word(&["primary", "secondary"]);
const LAYOUT: Attribute = Attribute::Word(&["inline", "stacked"]);

pub(crate) const DEFINITIONS: &[Definition] = &[
    block("category", &[may("text", Attribute::Text), may("icon", Attribute::Text), may("iconUrl", Attribute::Url)]),
    block("headline", &[must("text", Attribute::Text), may("icon", Attribute::Text), may("iconUrl", Attribute::Url)]),
    block(
        "text",
        &[
            must("text", Attribute::Markdown),
            may("expandable", Attribute::Flag),
            may("maxLines", Attribute::Count),
            may("moreLabel", Attribute::Text),
            may("lessLabel", Attribute::Text),
        ],
    ),
    parent("list", Children::ListItems, &[may("style", Attribute::Word(&["bullet", "number", "comma"]))]),
    Definition {
        name: "listItem",
        place: Place::ListItem,
        children: Children::None,
        slots: &[must("text", Attribute::Text), may("icon", Attribute::Text), may("iconUrl", Attribute::Url)],
    },
    block(
        "image",
        &[
            may("format", Attribute::Word(&["inline", BANNER, "thumbnail", "text"])),
            must("src", Attribute::Url),
            may("alt", Attribute::Text),
            may("label", Attribute::Text),
            may("description", Attribute::Text),
            may("height", Attribute::Word(&["tall", "medium", "short", "original"])),
            may("link", Attribute::Link),
        ],
    ),
    block(
        "video",
        &[
            may("format", Attribute::Word(&["inline", BANNER, "thumbnail"])),
            must("src", Attribute::Url),
            may("posterSrc", Attribute::Url),
            may("alt", Attribute::Text),
            may("label", Attribute::Text),
            may("description", Attribute::Text),
            may("height", Attribute::Word(&["tall", "medium", "original"])),
        ],
    ),
    parent("form", Children::Controls, &[may("initialValues", Attribute::Values)]),
    input(
        "textInput",
        Input::Text,
        &[
            must("name", Attribute::Name),
            may("label", Attribute::Text),
            may("placeholder", Attribute::Text),
            may("lines", Attribute::Count),
            may("maxLength", Attribute::Count),
            may("value", Attribute::Initial),
        ],
    ),
    input(
        "numberInput",
        Input::Number,
        &[
            must("name", Attribute::Name),
            may("label", Attribute::Text),
            may("placeholder", Attribute::Text),
            may("value", Attribute::Initial),
        ],
    ),
    input(
        "dateInput",
        Input::Date,
        &[
            must("name", Attribute::Name),
            may("label", Attribute::Text),
            may("placeholder", Attribute::Text),
            may("layout", LAYOUT),
            may("value", Attribute::Initial),
        ],
    ),
    input(
        "dropdown",
        Input::Choice,
        &[
            must("name", Attribute::Name),
            may("label", Attribute::Text),
            may("placeholder", Attribute::Text),
            may("layout", LAYOUT),
            must("options", Attribute::Options),
            may("value", Attribute::Initial),
        ],
    ),
    input("checkboxes", Input::Checks, &[must("name", Attribute::Name), must("items", Attribute::Items)]),
    input(
        "switch",
        Input::Switch,
        &[must("name", Attribute::Name), may("label", Attribute::Text), may("value", Attribute::Initial)],
    ),
    input(
        "stepper",
        Input::Stepper,
        &[
            must("name", Attribute::Name),
            may("label", Attribute::Text),
            may("min", Attribute::Number),
            may("max", Attribute::Number),
            may("step", Attribute::Number),
            may("value", Attribute::Initial),
        ],
    ),
    button(
        "submitButton",
        &[
            must("name", Attribute::Name),
            may("text", Attribute::Text),
            may("appearance", APPEARANCE),
            may("icon", Attribute::Text),
            may("values", Attribute::Values),
            may("link", Attribute::Link),
        ],
    ),
    button(
        "linkButton",
        &[
            may("text", Attribute::Text),
            may("appearance", APPEARANCE),
            may("icon", Attribute::Text),
            may("link", Attribute::Link),
        ],
    ),
    button(
        "dismissButton",
        &[may("text", Attribute::Text), may("appearance", APPEARANCE), may("icon", Attribute::Text)],
    ),
    button(
        "snoozeButton",
        &[
            may("text", Attribute::Text),
            may("appearance", APPEARANCE),
            may("icon", Attribute::Text),
            may("interval", Attribute::Interval),
        ],
    ),
    button("voteUpButton", VOTE),
    button("voteDownButton", VOTE),
    Definition { name: "buttonRow", place: Place::Row, children: Children::Buttons, slots: &[] },
    block("divider", &[]),
];

const VOTE: &[Slot] = &[
    may("text", Attribute::Text),
    may("appearance", APPEARANCE),
    may("icon", Attribute::Text),
    may("feedback", Attribute::Flag),
    may("feedbackLabel", Attribute::Text),
];
