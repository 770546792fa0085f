//! Cardwire: cards for customers inside other people's apps.
//!
//! The map, in reading order. ARCHITECTURE.md tells the story; each area's module names its cast.

#![recursion_limit = "256"]

pub mod clock;
pub mod error;
pub mod ids;

mod text;

pub mod access;
pub mod cards;
pub mod customers;
pub mod events;
pub mod flows;
pub mod streams;
pub mod webhooks;

pub mod graphql;
pub mod rest;
