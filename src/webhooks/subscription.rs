//! Subscriptions: who wants to be called about which events, and how.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::draft::{Draft, Scope};
use super::{credential, mapping, sign, stream};
use crate::access::{Access, Level, Resource, audit};
use crate::app::App;
use crate::clock::Time;
use crate::db::Tx;
use crate::db::page::{Page, PageRequest};
use crate::error::{Error, Result};
use crate::ids::{EnvId, FlowId, Id, OrgId, OutgoingCredentialId, TemplateId, Tenanted, WebhookId};
use crate::secret::{Secret, Vault};

/// What webhook secrets are sealed for.
pub(super) const SEAL: &str = "webhook secret";

/// Who wants to be called about which events.
#[derive(Clone, QueryableByName)]
pub struct Subscription {
    #[diesel(sql_type = SqlUuid)]
    pub environment_id: EnvId,
    #[diesel(sql_type = SqlUuid)]
    pub id: WebhookId,
    #[diesel(sql_type = Nullable<Text>)]
    pub name: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    pub types: Vec<String>,
    #[diesel(sql_type = Text)]
    pub url: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub test_url: Option<String>,
    #[diesel(sql_type = Text)]
    pub method: String,
    #[diesel(sql_type = Jsonb)]
    pub headers: Value,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub template_id: Option<TemplateId>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub flow_id: Option<FlowId>,
    /// What the requests carry.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub credential_id: Option<OutgoingCredentialId>,
    /// The source of the script that gives the body.
    #[diesel(sql_type = Nullable<Text>)]
    pub mapping: Option<String>,
    /// Sealed.
    #[diesel(sql_type = Binary)]
    pub secret: Vec<u8>,
    /// Sealed; signs beside the new one until the overlap of a rotation ends.
    #[diesel(sql_type = Nullable<Binary>)]
    pub previous_secret: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub previous_secret_until: Option<Time>,
    #[diesel(sql_type = Bool)]
    pub include_test_events: bool,
    #[diesel(sql_type = Bool)]
    pub include_request_payload: bool,
    #[diesel(sql_type = Bool)]
    pub include_card_response: bool,
    #[diesel(sql_type = Bool)]
    pub batched: bool,
    #[diesel(sql_type = Integer)]
    pub max_retries: i32,
    #[diesel(sql_type = Bool)]
    pub disable_after_failures: bool,
    #[diesel(sql_type = Text)]
    pub status: String,
    #[diesel(sql_type = Nullable<Text>)]
    pub disabled_reason: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub disabled_at: Option<Time>,
    #[diesel(sql_type = Timestamptz)]
    pub created_at: Time,
    #[diesel(sql_type = Timestamptz)]
    pub updated_at: Time,
    #[diesel(sql_type = Integer)]
    pub revision: i32,
}

impl Subscription {
    pub fn active(&self) -> bool {
        self.status == "active"
    }

    /// The custom headers.
    pub fn custom_headers(&self) -> BTreeMap<String, String> {
        let Value::Object(map) = &self.headers else { return BTreeMap::new() };
        let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
        map.iter().filter_map(text).collect()
    }

    /// The secret as its owner sees it.
    pub fn reveal(&self, vault: &Vault) -> Result<Secret> {
        vault.open(SEAL, &self.secret)
    }

    /// The secrets that sign at `now`.
    pub fn secrets(&self, vault: &Vault, now: Time) -> Result<sign::Secrets> {
        let overlapping = self.previous_secret_until.is_some_and(|until| until > now);
        let previous = self.previous_secret.as_ref().filter(|_| overlapping);
        Ok(sign::Secrets {
            current: self.reveal(vault)?,
            previous: previous.map(|sealed| vault.open(SEAL, sealed)).transpose()?,
        })
    }
}

/// What an environment says about the requests of its webhooks.
#[derive(Clone, Debug, QueryableByName)]
pub struct Convention {
    #[diesel(sql_type = SqlUuid)]
    pub organisation_id: OrgId,
    #[diesel(sql_type = Text)]
    pub webhook_signature_header: String,
    #[diesel(sql_type = Text)]
    pub webhook_signature_encoding: String,
}

/// The signature settings of an environment.
pub async fn convention(conn: &AsyncPgConnection, env: EnvId) -> Result<Convention> {
    Ok(sql_query(
        "SELECT organisation_id, webhook_signature_header, webhook_signature_encoding FROM environments WHERE id = $1",
    )
    .bind::<SqlUuid, _>(env)
    .get_result(&mut &*conn)
    .await?)
}

/// Subscriptions together with the conventions of their environments.
pub(super) async fn with_conventions(
    conn: &AsyncPgConnection,
    wanted: impl IntoIterator<Item = (EnvId, WebhookId)>,
) -> Result<Vec<(Subscription, Convention)>> {
    let (envs, webhooks): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
    Ok(sql_query(
        "SELECT w.*, e.organisation_id, e.webhook_signature_header, e.webhook_signature_encoding
         FROM webhook_subscriptions w
         JOIN UNNEST($1::uuid[], $2::uuid[]) AS wanted (environment_id, id) USING (environment_id, id)
         JOIN environments e ON e.id = w.environment_id",
    )
    .bind::<Array<SqlUuid>, _>(envs)
    .bind::<Array<SqlUuid>, _>(webhooks)
    .load(&mut &*conn)
    .await?)
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: WebhookId) -> Result<Option<Subscription>> {
    Ok(sql_query("SELECT * FROM webhook_subscriptions WHERE environment_id = $1 AND id = $2")
        .bind::<SqlUuid, _>(env)
        .bind::<SqlUuid, _>(id)
        .get_result(&mut &*conn)
        .await
        .optional()?)
}

/// Finds a subscription and keeps others from changing it, or its stream, until the transaction ends.
///
/// The stream is locked first, as by those who deliver: one order, so that nobody waits in a circle.
pub(super) async fn find_locked_in(tx: &mut Tx, env: EnvId, id: WebhookId) -> Result<Subscription> {
    stream::lock_in(tx, env, id).await?;
    sql_query("SELECT * FROM webhook_subscriptions WHERE environment_id = $1 AND id = $2 FOR UPDATE")
        .bind::<SqlUuid, _>(env)
        .bind::<SqlUuid, _>(id)
        .get_result(&mut tx.conn())
        .await
        .optional()?
        .ok_or_else(|| Error::not_found(WebhookId::NOUN))
}

/// One subscription.
pub async fn read(app: &App, access: &Access, id: WebhookId) -> Result<Subscription> {
    access.require(Resource::WebhookSubscription, Level::View)?;
    find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found(WebhookId::NOUN))
}

/// All subscriptions of an environment, active and disabled, oldest first.
pub async fn list(app: &App, access: &Access) -> Result<Vec<Subscription>> {
    access.require(Resource::WebhookSubscription, Level::View)?;
    Ok(sql_query("SELECT * FROM webhook_subscriptions WHERE environment_id = $1 ORDER BY id")
        .bind::<SqlUuid, _>(access.env())
        .load(&mut &*app.read().await?)
        .await?)
}

/// A page of the subscriptions, or of those scoped to a template.
pub async fn page(
    app: &App,
    access: &Access,
    template: Option<TemplateId>,
    request: PageRequest<WebhookId>,
) -> Result<Page<Subscription>> {
    access.require(Resource::WebhookSubscription, Level::View)?;
    let rows = sql_query(
        "SELECT * FROM webhook_subscriptions
         WHERE environment_id = $1 AND ($2 IS NULL OR template_id = $2) AND ($3 IS NULL OR id > $3)
         ORDER BY id LIMIT $4",
    )
    .bind::<SqlUuid, _>(access.env())
    .bind::<Nullable<SqlUuid>, _>(template)
    .bind::<Nullable<SqlUuid>, _>(request.after)
    .bind::<BigInt, _>(request.limit())
    .load(&mut &*app.read().await?)
    .await?;
    Ok(request.page(rows))
}

/// Creates a subscription. It gets events recorded from now on.
pub async fn create(app: &App, access: &Access, draft: Draft) -> Result<Subscription> {
    access.require(Resource::WebhookSubscription, Level::Admin)?;
    if let Some(Some(source)) = &draft.mapping {
        let now = app.clock().now();
        let mut tried = blank(app.ids().make(now), now, access.env(), draft.scope);
        draft.clone().apply(&mut tried);
        mapping::check(app, source, &tried).await?;
    }
    app.transact(async |tx| {
        let env = access.env();
        let convention = convention(tx.conn(), env).await?;
        let draft = draft.check_new(app.outbound().rules(), &convention.webhook_signature_header)?;
        exists(tx.conn(), env, draft.scope.template, "/cardTemplateId").await?;
        exists(tx.conn(), env, draft.scope.flow, "/actionFlowConfigId").await?;
        let mut subscription = blank(tx.id(), tx.now(), env, draft.scope);
        let secret = draft.secret.clone().unwrap_or_else(|| sign::generate(tx.ids()));
        subscription.secret = app.vault().seal(tx.ids(), SEAL, &secret)?;
        draft.apply(&mut subscription);
        check_credential(tx.conn(), &subscription).await?;
        insert_in(tx, &subscription).await?;
        stream::create_in(tx, env, subscription.id).await?;
        audit::record_in(tx, access, "webhook-subscription.create", subscription.id, &[]).await?;
        Ok(subscription)
    })
    .await
}

/// Changes what the draft mentions. An own secret replaces the old one at once and needs Admin.
pub async fn update(app: &App, access: &Access, id: WebhookId, draft: Draft) -> Result<Subscription> {
    access.require(Resource::WebhookSubscription, Level::Edit)?;
    if draft.secret.is_some() {
        access.require(Resource::WebhookSubscription, Level::Admin)?;
    }
    if let Some(Some(source)) = &draft.mapping {
        let mut subscription = read(app, access, id).await?;
        draft.clone().apply(&mut subscription);
        mapping::check(app, source, &subscription).await?;
    }
    app.transact(async |tx| {
        let env = access.env();
        let mut subscription = find_locked_in(tx, env, id).await?;
        if draft.expected_revision.is_some_and(|expected| expected != subscription.revision) {
            return Err(Error::conflict("the webhook subscription was changed meanwhile"));
        }
        let convention = convention(tx.conn(), env).await?;
        let draft = draft.check(app.outbound().rules(), &convention.webhook_signature_header)?;
        draft.scope.check_unchanged(&subscription)?;
        let changed = draft.changes(&subscription);
        if changed.is_empty() {
            return Ok(subscription);
        }
        if let Some(secret) = &draft.secret {
            subscription.secret = app.vault().seal(tx.ids(), SEAL, secret)?;
            (subscription.previous_secret, subscription.previous_secret_until) = (None, None);
        }
        draft.apply(&mut subscription);
        check_credential(tx.conn(), &subscription).await?;
        save_in(tx, &mut subscription).await?;
        audit::record_in(tx, access, "webhook-subscription.update", id, &changed).await?;
        Ok(subscription)
    })
    .await
}

/// Refuses a credential that is not there, that another Authorization header contradicts, or that does not know what
/// to sign for the URLs.
async fn check_credential(conn: &AsyncPgConnection, subscription: &Subscription) -> Result<()> {
    let Some(id) = subscription.credential_id else { return Ok(()) };
    let found = credential::find(conn, subscription.environment_id, id).await?;
    let found = found.ok_or_else(|| Error::invalid("/credentialId", "no outgoing credential has this id"))?;
    let named = subscription.custom_headers().into_keys().find(|name| name.eq_ignore_ascii_case("authorization"));
    if let Some(name) = named {
        let pointer = format!("/headers/{name}");
        return Err(Error::invalid(pointer, "the credential gives this header"));
    }
    credential::carry::check(&found, &subscription.url)?;
    subscription.test_url.as_deref().map_or(Ok(()), |url| credential::carry::check(&found, url))
}

/// A subscription with every default, before anything is said about it.
fn blank(id: WebhookId, now: Time, env: EnvId, scope: Scope) -> Subscription {
    Subscription {
        environment_id: env,
        id,
        name: None,
        types: Vec::new(),
        url: String::new(),
        test_url: None,
        method: "POST".to_owned(),
        headers: Value::Object(serde_json::Map::new()),
        template_id: scope.template,
        flow_id: scope.flow,
        credential_id: None,
        mapping: None,
        secret: Vec::new(),
        previous_secret: None,
        previous_secret_until: None,
        include_test_events: true,
        include_request_payload: true,
        include_card_response: true,
        batched: false,
        max_retries: 22,
        disable_after_failures: true,
        status: "active".to_owned(),
        disabled_reason: None,
        disabled_at: None,
        created_at: now,
        updated_at: now,
        revision: 1,
    }
}

async fn insert_in(tx: &mut Tx, new: &Subscription) -> Result<()> {
    sql_query(
        "INSERT INTO webhook_subscriptions (environment_id, id, name, types, url, test_url, method, headers, template_id,
             flow_id, secret, include_test_events, include_request_payload, include_card_response, batched, max_retries,
             disable_after_failures, created_at, updated_at, credential_id, mapping)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18, $19, $20)",
    )
    .bind::<SqlUuid, _>(new.environment_id)
    .bind::<SqlUuid, _>(new.id)
    .bind::<Nullable<Text>, _>(&new.name)
    .bind::<Array<Text>, _>(&new.types)
    .bind::<Text, _>(&new.url)
    .bind::<Nullable<Text>, _>(&new.test_url)
    .bind::<Text, _>(&new.method)
    .bind::<Jsonb, _>(&new.headers)
    .bind::<Nullable<SqlUuid>, _>(new.template_id)
    .bind::<Nullable<SqlUuid>, _>(new.flow_id)
    .bind::<Binary, _>(&new.secret)
    .bind::<Bool, _>(new.include_test_events)
    .bind::<Bool, _>(new.include_request_payload)
    .bind::<Bool, _>(new.include_card_response)
    .bind::<Bool, _>(new.batched)
    .bind::<Integer, _>(new.max_retries)
    .bind::<Bool, _>(new.disable_after_failures)
    .bind::<Timestamptz, _>(new.created_at)
    .bind::<Nullable<SqlUuid>, _>(new.credential_id)
    .bind::<Nullable<Text>, _>(&new.mapping)
    .execute(&mut tx.conn())
    .await?;
    Ok(())
}

/// Writes what may change, and tells whoever delivers for it to read it anew.
pub(super) async fn save_in(tx: &mut Tx, changed: &mut Subscription) -> Result<()> {
    changed.revision += 1;
    changed.updated_at = tx.now();
    sql_query(
        "UPDATE webhook_subscriptions SET name = $3, types = $4, url = $5, test_url = $6, method = $7, headers = $8,
             secret = $9, previous_secret = $10, previous_secret_until = $11, include_test_events = $12,
             include_request_payload = $13, include_card_response = $14, batched = $15, max_retries = $16,
             disable_after_failures = $17, updated_at = $18, revision = $19, credential_id = $20,
             mapping = $21
         WHERE environment_id = $1 AND id = $2",
    )
    .bind::<SqlUuid, _>(changed.environment_id)
    .bind::<SqlUuid, _>(changed.id)
    .bind::<Nullable<Text>, _>(&changed.name)
    .bind::<Array<Text>, _>(&changed.types)
    .bind::<Text, _>(&changed.url)
    .bind::<Nullable<Text>, _>(&changed.test_url)
    .bind::<Text, _>(&changed.method)
    .bind::<Jsonb, _>(&changed.headers)
    .bind::<Binary, _>(&changed.secret)
    .bind::<Nullable<Binary>, _>(&changed.previous_secret)
    .bind::<Nullable<Timestamptz>, _>(changed.previous_secret_until)
    .bind::<Bool, _>(changed.include_test_events)
    .bind::<Bool, _>(changed.include_request_payload)
    .bind::<Bool, _>(changed.include_card_response)
    .bind::<Bool, _>(changed.batched)
    .bind::<Integer, _>(changed.max_retries)
    .bind::<Bool, _>(changed.disable_after_failures)
    .bind::<Timestamptz, _>(changed.updated_at)
    .bind::<Integer, _>(changed.revision)
    .bind::<Nullable<SqlUuid>, _>(changed.credential_id)
    .bind::<Nullable<Text>, _>(&changed.mapping)
    .execute(&mut tx.conn())
    .await?;
    stream::revise_in(tx, changed.environment_id, changed.id).await
}

#[derive(QueryableByName)]
struct Found {
    #[diesel(sql_type = Bool)]
    found: bool,
}

/// Refuses a scope that names nothing in the environment.
async fn exists<T: Tenanted>(conn: &AsyncPgConnection, env: EnvId, id: Option<T>, pointer: &str) -> Result<()> {
    let Some(id) = id else { return Ok(()) };
    // The table is a constant of the id's type, never a caller's text.
    let query = format!("SELECT EXISTS (SELECT FROM {} WHERE environment_id = $1 AND id = $2) AS found", T::TABLE);
    let answer: Found =
        sql_query(query).bind::<SqlUuid, _>(env).bind::<SqlUuid, _>(id.uuid()).get_result(&mut &*conn).await?;
    if answer.found { Ok(()) } else { Err(Error::invalid(pointer, format!("no {} has this id", T::NOUN))) }
}
