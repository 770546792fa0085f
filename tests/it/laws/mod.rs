//! Laws: what must hold for the whole house, whoever adds to it.

mod errors;
mod imports;
mod isolation;
mod migrations;
mod payloads;
mod routes;
pub mod schema;
