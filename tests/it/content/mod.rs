//! Content over GraphQL: themes, streams, containers, card templates.

mod streams;
mod templates;
