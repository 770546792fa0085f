//! In which streams cards are now (specification 5.1).

use std::collections::HashMap;

use diesel_async::AsyncPgConnection;

use crate::cards::instance::CardInstance;
use crate::error::Result;
use crate::ids::{CardId, EnvId, StreamId, TemplateId};
use crate::streams::stream;

/// The streams of each card now: its explicit ones, else those that curate its template.
pub async fn streams_of(
    conn: &AsyncPgConnection,
    env: EnvId,
    cards: &[&CardInstance],
) -> Result<HashMap<CardId, Vec<StreamId>>> {
    let curated = curating(conn, env, cards.iter().copied().filter(|card| card.stream_ids.is_none())).await?;
    let streams = |card: &CardInstance| match &card.stream_ids {
        Some(explicit) => explicit.clone(),
        None => curated.get(&card.template_id).cloned().unwrap_or_default(),
    };
    Ok(cards.iter().map(|card| (card.id, streams(card))).collect())
}

async fn curating(
    conn: &AsyncPgConnection,
    env: EnvId,
    cards: impl Iterator<Item = &CardInstance>,
) -> Result<HashMap<TemplateId, Vec<StreamId>>> {
    let mut templates: Vec<TemplateId> = cards.map(|card| card.template_id).collect();
    templates.sort_unstable();
    templates.dedup();
    if templates.is_empty() {
        return Ok(HashMap::new());
    }
    stream::of_template(conn, env, &templates).await
}
