//! What is posted to the URL of a trigger, check by check (§9.2).

use std::net::IpAddr;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Uuid as SqlUuid;
use diesel_async::RunQueryDsl;
use http::{HeaderMap, header};
use serde_json::Value;

use super::mapping::{self, Mapping, Problem};
use super::request_log::{self, Fate, Posted, Visit};
use super::shape::{self, Check};
use super::verification::Verification;
use super::{edit, target};
use crate::access::{Access, audit};
use crate::app::App;
use crate::db::Tx;
use crate::db::schema::triggers;
use crate::error::{Code, Error, Result, Violation};
use crate::events::TriggerSource;
use crate::flows::{self, Caller, Mode, StartRequest, Trigger};
use crate::ids::{EnvId, FlowId, OrgId, TriggerId};
use crate::text;

/// The largest body.
pub const BODY_BYTES: usize = 1 << 20;

/// A request that has passed the checks which need no body.
pub struct Knock {
    org: OrgId,
    trigger: Trigger,
    address: IpAddr,
}

/// What was done with a request.
#[derive(Debug)]
pub enum Taken {
    /// It became the sample.
    Captured,
    /// It started runs, now or before, under this invocation id.
    Started(String),
}

#[derive(QueryableByName)]
struct Located {
    #[diesel(sql_type = SqlUuid)]
    organisation_id: OrgId,
    #[diesel(sql_type = SqlUuid)]
    environment_id: EnvId,
}

/// Finds the trigger of a URL and checks address and rate. Who is not let in learns nothing of the trigger.
pub async fn knock(app: &App, id: TriggerId, address: IpAddr) -> Result<Knock> {
    let unknown = || Error::not_found("trigger");
    let conn = app.read().await?;
    let located: Option<Located> = sql_query(
        "SELECT environments.organisation_id, triggers.environment_id FROM triggers
         JOIN flows ON flows.environment_id = triggers.environment_id AND flows.id = triggers.flow_id
         JOIN environments ON environments.id = triggers.environment_id
         WHERE triggers.id = $1 AND triggers.kind = 'webhook' AND triggers.mode <> 'disabled'
           AND flows.archived_at IS NULL AND environments.archived_at IS NULL",
    )
    .bind::<SqlUuid, _>(id)
    .get_result(&mut &*conn)
    .await
    .optional()?;
    let located = located.ok_or_else(unknown)?;
    let trigger = flows::trigger(&conn, located.environment_id, id).await?.ok_or_else(unknown)?;
    drop(conn);
    let knock = Knock { org: located.organisation_id, trigger, address: address.to_canonical() };
    // The log is written for whoever is refused here too, so the rate comes before it.
    app.limits().trigger.take(id, app.clock().now())?;
    if !edit::admits(&knock.trigger.allowed_addresses, knock.address) {
        let error = Error::new(Code::AddressNotAllowed, "requests from this address are not allowed");
        return Err(knock.refused(app, error, 0).await);
    }
    Ok(knock)
}

/// A request that has passed every check which needs no mapping.
enum Admitted {
    Captured,
    Posted(Posted),
}

impl Knock {
    /// Writes a refusal down and gives it back. Of what was sent by somebody unknown nothing is kept.
    pub async fn refused(&self, app: &App, error: Error, bytes: usize) -> Error {
        self.note(app, error, Visit { address: self.address, bytes, kept: None }).await
    }

    async fn note(&self, app: &App, error: Error, visit: Visit) -> Error {
        let record = async |tx: &mut Tx| {
            request_log::record_in(tx, self.env(), self.trigger.id, visit, Fate::Refused(&error)).await
        };
        match app.transact(record).await {
            Ok(()) => error,
            Err(fault) => fault,
        }
    }

    /// Takes a whole request: a sample while one is awaited, a start otherwise.
    pub async fn enter(&self, app: &App, headers: &HeaderMap, body: &[u8]) -> Result<Taken> {
        let posted = match self.admit(app, headers, body).await {
            Ok(Admitted::Captured) => return Ok(Taken::Captured),
            Ok(Admitted::Posted(posted)) => posted,
            Err(error) => return Err(self.refused(app, error, body.len()).await),
        };
        let visit = Visit { address: self.address, bytes: body.len(), kept: request_log::seal(app, &posted)? };
        if self.trigger.mode == "paused" {
            let error = Error::new(Code::TriggerPaused, "the trigger is paused until somebody has looked at it");
            return Err(self.note(app, error, visit).await);
        }
        match self.understand(app, &posted).await {
            Ok(Ok(request)) => self.start(app, &request, visit).await,
            Ok(Err(error)) => Err(self.misunderstood(app, error, &posted.body, visit).await),
            Err(error) => Err(self.note(app, error, visit).await),
        }
    }

    async fn admit(&self, app: &App, headers: &HeaderMap, body: &[u8]) -> Result<Admitted> {
        if !is_json(headers) {
            return Err(Error::new(Code::UnsupportedMediaType, "send the body as application/json"));
        }
        if self.trigger.capture_until.is_some_and(|until| until > app.clock().now()) {
            let sample = parse(body)?;
            if self.capture(app, &sample, headers, body.len()).await? {
                return Ok(Admitted::Captured);
            }
            // Another request was faster and closed the window.
        }
        self.verify(app, headers, body)?;
        Ok(Admitted::Posted(Posted { body: parse(body)?, headers: mapping::headers(headers) }))
    }

    /// Stores a sample and closes the window, if it is still open.
    async fn capture(&self, app: &App, sample: &Value, headers: &HeaderMap, bytes: usize) -> Result<bool> {
        app.transact(async |tx| {
            let open = triggers::table.find((self.env(), self.trigger.id)).filter(triggers::capture_until.gt(tx.now()));
            let stored = diesel::update(open)
                .set((
                    triggers::sample.eq(sample),
                    triggers::sample_headers.eq(mapping::headers(headers)),
                    triggers::sample_at.eq(tx.now()),
                    triggers::captured_at.eq(tx.now()),
                    triggers::capture_until.eq(None::<crate::clock::Time>),
                    triggers::updated_at.eq(tx.now()),
                    triggers::revision.eq(triggers::revision + 1),
                ))
                .execute(&mut tx.conn())
                .await?;
            if stored > 0 {
                let visit = Visit { address: self.address, bytes, kept: None };
                request_log::record_in(tx, self.env(), self.trigger.id, visit, Fate::Captured).await?;
            }
            Ok(stored > 0)
        })
        .await
    }

    fn verify(&self, app: &App, headers: &HeaderMap, body: &[u8]) -> Result<()> {
        let (Some(settings), Some(sealed)) = (&self.trigger.verification, &self.trigger.secret) else { return Ok(()) };
        let verification: Verification = serde_json::from_value(settings.clone())?;
        let secret = app.vault().open(edit::SEAL, sealed)?;
        verification.check(&secret, headers, body, app.clock().now())
    }

    /// Compares, maps and reads a body. The inner error is for the sender.
    async fn understand(&self, app: &App, posted: &Posted) -> Result<Result<StartRequest>> {
        if self.trigger.mode == "live"
            && let Some(sample) = &self.trigger.sample
        {
            let mapping: Mapping = serde_json::from_value(self.trigger.mapping.clone())?;
            let check = Check::parse(&self.trigger.shape_check);
            let wrong = shape::mismatches(check, &mapping, sample, &posted.body);
            if !wrong.is_empty() {
                return Ok(Err(shape_mismatch(&wrong)));
            }
        }
        Ok(read(app, &self.trigger, posted).await?.map_err(mapping::failed))
    }

    async fn start(&self, app: &App, request: &StartRequest, visit: Visit) -> Result<Taken> {
        let mode = if self.trigger.mode == "live" { Mode::Live } else { Mode::Test };
        let caller = Caller {
            mode,
            source: TriggerSource::Webhook,
            address: Some(self.address),
            trigger: Some(self.trigger.id),
        };
        let (address, bytes, kept) = (visit.address, visit.bytes, visit.kept.clone());
        let started = app
            .transact(async |tx| {
                let started = flows::start_in(tx, self.env(), self.flow(), request, caller).await?.or_refusal()?;
                let invocation = started.entries.into_iter().next().map(|entry| entry.invocation).unwrap_or_default();
                let fate = Fate::Started(&invocation);
                request_log::record_in(tx, self.env(), self.trigger.id, visit, fate).await?;
                Ok(invocation)
            })
            .await;
        match started {
            Ok(invocation) => Ok(Taken::Started(invocation)),
            Err(error) => Err(self.note(app, error, Visit { address, bytes, kept }).await),
        }
    }

    /// Pauses a live trigger that got what it does not understand (§9.6), in the transaction that writes it down.
    async fn misunderstood(&self, app: &App, error: Error, body: &Value, visit: Visit) -> Error {
        if self.trigger.mode != "live" {
            return self.note(app, error, visit).await;
        }
        let access = Access::system(self.org, self.env(), "triggers");
        let paused = app.transact(async |tx| {
            let live = triggers::table.find((self.env(), self.trigger.id)).filter(triggers::mode.eq("live"));
            let paused = diesel::update(live)
                .set((
                    triggers::mode.eq("paused"),
                    triggers::paused_at.eq(tx.now()),
                    triggers::paused_reason.eq(reason(&error)),
                    triggers::paused_shape.eq(shape::redacted(body)),
                    triggers::updated_at.eq(tx.now()),
                    triggers::revision.eq(triggers::revision + 1),
                ))
                .execute(&mut tx.conn())
                .await?;
            if paused > 0 {
                audit::record_in(tx, &access, "trigger.pause", self.trigger.id, &["mode"]).await?;
            }
            request_log::record_in(tx, self.env(), self.trigger.id, visit, Fate::Refused(&error)).await
        });
        match paused.await {
            Ok(()) => error,
            Err(fault) => fault,
        }
    }

    fn env(&self) -> EnvId {
        self.trigger.environment_id
    }

    fn flow(&self) -> FlowId {
        self.trigger.flow_id
    }
}

/// Maps what was posted and reads it as a start.
pub(super) async fn read(app: &App, trigger: &Trigger, posted: &Posted) -> Result<Result<StartRequest, Vec<Problem>>> {
    let mapping: Mapping = serde_json::from_value(trigger.mapping.clone())?;
    let mapped = mapping.apply(app.sandbox(), &posted.body, &posted.headers).await?;
    Ok(mapped.and_then(|mapped| target::read(&mapped)))
}

fn reason(error: &Error) -> String {
    let told = error.violations().iter().map(|one| format!("{}: {}", one.code.word(), one.detail));
    told.collect::<Vec<_>>().join("; ").replace('\0', "\u{fffd}").chars().take(1000).collect()
}

fn shape_mismatch(paths: &[String]) -> Error {
    let told = paths.iter().map(|path| Violation {
        code: Code::ShapeMismatch,
        detail: format!("{path} is missing or has another type than in the sample"),
        pointer: None,
        parameter: None,
    });
    Error::from_violations(told.collect())
}

/// Reads a body: every fault of it is `invalid_json` here, depth included.
fn parse(body: &[u8]) -> Result<Value> {
    let invalid = |detail: String| Error::new(Code::InvalidJson, detail);
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| invalid(format!("the body is not JSON: line {}, column {}", error.line(), error.column())))?;
    text::shallow(&value, "").map_err(|error| invalid(error.violations()[0].detail.clone()))?;
    if text::holds_nul(&value) {
        return Err(invalid("the body contains the character U+0000".to_owned()));
    }
    Ok(value)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}
