//! Outcomes on their way to the database: everything that is saved in one transaction.

use std::collections::HashSet;

use super::backlog::{self, Numbered, Retry};
use super::lane::Effect;
use super::request_log::{self, Entry};
use super::status::{self, Reason};
use super::stream::{self, Advance, Advanced};
use crate::access::Access;
use crate::app::App;
use crate::error::Result;
use crate::ids::{EnvId, OrgId, WebhookId};

/// Outcomes that are not saved yet.
#[derive(Clone, Default)]
pub struct Outbox {
    pub entries: Vec<Entry>,
    pub advances: Vec<Advance>,
    pub disabled: Vec<(OrgId, EnvId, WebhookId, Reason)>,
    postponed: Vec<Retry>,
    finished: Vec<Numbered>,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        // Whatever is postponed, finished or disabled comes with the advance of its lane.
        self.entries.is_empty() && self.advances.is_empty()
    }

    pub fn note(&mut self, org: OrgId, env: EnvId, webhook: WebhookId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Postpone(retry) => self.postponed.push(retry),
                Effect::Finish(numbered) => self.finished.push(numbered),
                Effect::Disable(reason) => self.disabled.push((org, env, webhook, reason)),
            }
        }
    }

    /// Takes back what could not be saved, before what came later. Advances are made anew.
    pub fn put_back(&mut self, earlier: &Outbox) {
        self.entries.splice(0..0, earlier.entries.iter().cloned());
        self.postponed.splice(0..0, earlier.postponed.iter().cloned());
        self.finished.splice(0..0, earlier.finished.iter().copied());
        self.disabled.splice(0..0, earlier.disabled.iter().copied());
    }

    /// Saves all of it, or what concerns the streams that are still ours.
    pub async fn save(&self, app: &App) -> Result<Vec<Advanced>> {
        app.transact(async |tx| {
            let held: HashSet<WebhookId> = stream::lock_held_in(tx, &self.advances).await?.into_iter().collect();
            let postponed: Vec<&Retry> =
                self.postponed.iter().filter(|retry| held.contains(&retry.webhook_id)).collect();
            backlog::postpone_in(tx, &postponed).await?;
            let finished: Vec<Numbered> =
                self.finished.iter().filter(|done| held.contains(&done.webhook)).copied().collect();
            backlog::finish_in(tx, &finished).await?;
            let saved = stream::advance_in(tx, &self.advances).await?;
            request_log::write_in(tx, &self.entries).await?;
            for (org, env, webhook, reason) in &self.disabled {
                if held.contains(webhook) {
                    let system = Access::system(*org, *env, "webhooks");
                    status::disable_in(tx, &system, *webhook, *reason).await?;
                }
            }
            Ok(saved)
        })
        .await
    }
}
