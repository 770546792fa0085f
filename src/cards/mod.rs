//! Cards: templates and their versions, and the card instances made from them.
//!
//! Cast: a [`template`] has [`version`]s of [`content`], which [`render`] turns into what one customer sees. A
//! [`deliver::Order`] becomes a [`CardInstance`]; [`interact`] is what its customer does with it, [`bulk`] what
//! servers and members do, [`timers`] what time does. All changes of state go through `transition`, which also
//! writes the event and the [`feed_change`].
//!
//! Row locks are taken in this order, so that nobody waits in a circle: cards by id, customers by id, feed heads by
//! customer id. Cards know neither flows nor webhooks: an order says where it comes from, and events tell the rest.

pub mod action;
pub mod bulk;
pub mod content;
pub mod deliver;
pub mod displayed;
pub mod erase;
pub mod feed;
pub mod feed_change;
pub mod filter;
pub mod instance;
pub mod interact;
pub mod lifecycle;
pub mod options;
pub mod placement;
pub mod render;
pub mod scene;
pub mod select;
pub mod template;
pub mod test_data;
pub mod timers;
pub mod track;
pub(crate) mod transition;
pub mod update;
pub mod variable;
pub mod version;
pub mod withdraw;

pub use instance::CardInstance;
pub use lifecycle::Status;
