//! Customers: the people who receive cards.
//!
//! Cast: a [`profile::Customer`] is the row with its profile; [`preferences`] say when they may be disturbed.
//! Customers know neither cards nor flows.

pub mod preferences;
pub mod profile;

pub use profile::Customer;
