//! Streams, the containers that show them, and the themes they wear.
//!
//! Cast: a [`stream`] curates card templates; a [`container`] is the slot in an app that shows exactly one stream to
//! the SDK keys it was granted to; a [`theme`] says how that looks. Every environment is born with the stream *All
//! cards* and a default theme ([`create_built_ins_in`]), which cannot be edited or deleted.
//!
//! Names are unique in an environment. What is used cannot be deleted: foreign keys say so, not checks before.
//! Whoever changes what a container shows announces the container, so that open feeds look again. Streams know
//! templates by id only; cards decide what is in a stream.

pub mod container;
pub mod stream;
pub mod theme;
pub mod worn;

use crate::db::Tx;
use crate::error::{Code, Error, Result};
use crate::ids::EnvId;

/// Makes the stream *All cards* and the default theme of a new environment.
pub(crate) async fn create_built_ins_in(tx: &mut Tx, env: EnvId) -> Result<()> {
    stream::create_all_cards_in(tx, env).await?;
    theme::create_default_in(tx, env).await
}

fn name_taken(what: &str) -> Error {
    Error::new(Code::AlreadyExists, format!("a {what} has this name")).at("/name")
}

fn in_use(what: &str, by: &str) -> Error {
    Error::new(Code::InUse, format!("the {what} is used by a {by}"))
}
