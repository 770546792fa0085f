//! Customers: the people who receive cards.
//!
//! Cast: a customer's profile and its writes ([`preferences`] say when they may be disturbed). Customers know
//! neither cards nor flows.

pub mod preferences;
