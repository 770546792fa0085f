//! Test sends: one request now, with a sample event, whatever the state of the subscription.

use std::time::Duration;

use super::attempt::{self, Composed, DEADLINE, Keep, Target};
use super::carry::log_id;
use super::request_log::{self, Attempt, Entry};
use super::{credential, payload, sample, subscription};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::error::{Error, Result};
use crate::events::kind;
use crate::ids::{EventId, Id, RequestId, WebhookId};

/// What came of a test.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub request: RequestId,
    pub delivered: bool,
    pub status: Option<u16>,
    pub error: Option<&'static str>,
    pub duration: Duration,
}

/// Sends a sample of `kind`, or of the first type of the subscription, to its test URL or else its URL.
///
/// It is no analytics event, is not tried again and does not count as a failure. The log keeps all of it.
pub async fn send(app: &App, access: &Access, id: WebhookId, kind: Option<&str>) -> Result<Outcome> {
    access.require(Resource::WebhookSubscription, Level::Edit)?;
    if let Some(kind) = kind.filter(|kind| !kind::known(kind)) {
        return Err(Error::invalid("/type", format!("{kind:?} is not the name of an event")).parameter("type"));
    }
    let (subscription, convention, credential) = {
        let conn = app.read().await?;
        let found = subscription::find(&conn, access.env(), id).await?;
        let found = found.ok_or_else(|| Error::not_found(WebhookId::NOUN))?;
        let credential = match found.credential_id {
            Some(id) => credential::find(&conn, access.env(), id).await?,
            None => None,
        };
        (found, subscription::convention(&conn, access.env()).await?, credential)
    };
    let kind = kind.or(subscription.types.first().map(String::as_str)).unwrap_or_default();
    let at = app.clock().now();
    let event: EventId = app.ids().make(at);
    let sample = sample::event(kind, event, at, &subscription, app.ids())?;
    let url = subscription.test_url.as_deref().unwrap_or(&subscription.url);
    let target = Target::new(app, &subscription, &convention, credential.as_ref(), url)?;
    let request = payload::request_id(id, &[event]);
    let (composed, answer) = match target.compose(app, request, &[(event, &sample)], at).await {
        Ok(composed) => {
            let answer = attempt::send(app, &target, &composed, DEADLINE, Keep::Bytes).await;
            (composed, answer)
        }
        Err(uncomposed) => (Composed::default(), uncomposed.answer(id)),
    };
    let attempt = Attempt { id: log_id(app, at), at, request, first_event: event, events: 1, number: 1 };
    let entry = Entry::complete(&target, attempt, &composed, &answer);
    app.transact(async |tx| {
        request_log::write_in(tx, std::slice::from_ref(&entry)).await?;
        audit::record_in(tx, access, "webhook-subscription.test", id, &[]).await
    })
    .await?;
    Ok(Outcome {
        request,
        delivered: answer.delivered(),
        status: answer.status,
        error: answer.error,
        duration: answer.duration,
    })
}
