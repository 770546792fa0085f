//! Cards: templates and their versions, and the card instances made from them.

pub mod lifecycle;
pub mod options;
pub mod select;
