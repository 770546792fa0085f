//! Cards: templates and their versions, and the card instances made from them.

pub mod action;
pub mod content;
pub mod erase;
pub mod feed_change;
pub mod filter;
pub mod instance;
pub mod lifecycle;
pub mod options;
pub mod render;
pub mod select;
pub mod template;
pub mod variable;
pub mod version;

pub use instance::CardInstance;
pub use lifecycle::Status;
