//! Cards: templates and their versions, and the card instances made from them.

pub mod action;
pub mod feed_change;
pub mod instance;
pub mod lifecycle;
pub mod options;
pub mod select;

pub use instance::CardInstance;
pub use lifecycle::Status;
