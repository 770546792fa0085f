//! Customers: the people who receive cards.
//!
//! Cast: a [`profile::Customer`] is the row with its profile; a [`change::Change`] is what a caller wants written;
//! [`preferences`] say when they may be disturbed, [`activity`] what they were last seen doing. Customers know
//! neither cards nor flows.

pub mod activity;
pub mod change;
pub mod list;
pub mod preferences;
pub mod profile;
pub mod test_account;

pub use profile::Customer;
