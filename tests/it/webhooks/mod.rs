//! Events reach receivers: signed, at least once, and no receiver delays another.

mod accounts;
mod crash;
mod credential;
mod delivery;
mod destination;
mod failure;
mod inspection;
mod law;
mod live;
mod mapping;
mod neighbours;
mod outside;
mod rest;
mod subscription;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use cardwire::access::{Access, Actor, Grants, RequestInfo, Viewer};
use cardwire::clock::Time;
use cardwire::ids::{EnvId, EventId, Id, Ids, MemberId, OrgId};
use cardwire::webhooks::draft::{self, Draft};
use cardwire::webhooks::reconcile::{self, Books};
use cardwire::webhooks::subscription::{Subscription, create};
use diesel::sql_query;
use diesel::sql_types::{Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};

use crate::support::TestApp;
use crate::support::receiver::{Received, Receiver};

/// A server with one environment, whose webhooks may go to loopback, and somebody who may do everything there.
struct Scene {
    test: TestApp,
    env: EnvId,
    access: Access,
}

impl Scene {
    async fn start() -> Scene {
        let test = TestApp::with(|config| {
            config.allow_destinations = vec!["127.0.0.0/8".parse().unwrap()];
            config.allow_http_destinations = true;
        })
        .await;
        Scene::of(test).await
    }

    async fn of(test: TestApp) -> Scene {
        let ids = Ids::seeded(7);
        let now = test.app.clock().now();
        let (org, env): (OrgId, EnvId) = (ids.make(now), ids.make(now));
        let conn = test.app.read().await.unwrap();
        sql_query("INSERT INTO organisations (id, name, created_at, updated_at) VALUES ($1, 'Acme', $2, $2)")
            .bind::<SqlUuid, _>(org)
            .bind::<Timestamptz, _>(now)
            .execute(&mut &*conn)
            .await
            .unwrap();
        sql_query(
            "INSERT INTO environments (id, organisation_id, name, created_at, updated_at) VALUES ($1, $2, 'Sandbox', $3, $3)",
        )
        .bind::<SqlUuid, _>(env)
        .bind::<SqlUuid, _>(org)
        .bind::<Timestamptz, _>(now)
        .execute(&mut &*conn)
        .await
        .unwrap();
        let grants = Arc::new(Grants::everything());
        let viewer = Viewer {
            org,
            actor: Actor::Member(ids.make::<MemberId>(now)),
            role: None,
            info: RequestInfo { address: Some(IpAddr::from([203, 0, 113, 9])) },
            expires_at: None,
            session: None,
            organisation_grants: grants.clone(),
            environments: [(env, grants)].into(),
        };
        let access = viewer.access(env).unwrap();
        Scene { test, env, access }
    }

    /// A subscription to completed and published cards.
    async fn subscribe(&self, receiver: &Receiver) -> Subscription {
        self.subscribe_with(receiver, json!({})).await
    }

    async fn subscribe_with(&self, receiver: &Receiver, more: Value) -> Subscription {
        let mut body = json!({ "types": ["card-published", "card-completed"], "url": receiver.url() });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        create(&self.test.app, &self.access, draft_of(&body)).await.unwrap()
    }

    /// Records an event as an operation would, and gives its id.
    async fn record(&self, name: &str) -> EventId {
        self.record_with(name, |_| {}).await
    }

    async fn record_with(&self, name: &str, change: impl FnOnce(&mut NewEvent)) -> EventId {
        let now = self.test.app.clock().now();
        let mut event = NewEvent::new(name, self.test.app.ids().make(now), now);
        change(&mut event);
        insert(&self.test.app.read().await.unwrap(), self.env, &event).await;
        event.id
    }

    async fn record_many(&self, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.record("card-published").await);
        }
        ids
    }

    async fn settle(&self) {
        self.test.settle().await;
        assert_eq!(self.books().await.unaccounted, 0, "every delivery came to an end or waits");
    }

    async fn advance(&self, by: Duration) {
        self.test.app.clock().advance(by);
        self.settle().await;
    }

    async fn books(&self) -> Books {
        reconcile::books(&self.test.app.read().await.unwrap()).await.unwrap()
    }

    /// Status and reason of a subscription.
    async fn status(&self, subscription: &Subscription) -> String {
        let query = format!(
            "SELECT concat_ws(' ', status, disabled_reason) AS value FROM webhook_subscriptions WHERE id = '{}'",
            subscription.id.uuid()
        );
        self.test.column(&query).await.remove(0)
    }

    /// Everything that waits for a subscription, in words.
    async fn waiting(&self) -> Vec<String> {
        self.test
            .column(
                "SELECT concat_ws(' ', 'beyond', head - cursor, 'open', cardinality(open), 'retries',
                     (SELECT count(*) FROM webhook_retries r WHERE r.webhook_id = s.webhook_id)) AS value
                 FROM webhook_streams s ORDER BY webhook_id",
            )
            .await
    }
}

fn draft_of(body: &Value) -> Draft {
    draft::read(body).unwrap()
}

/// A row of the record of events.
struct NewEvent {
    id: EventId,
    name: String,
    at: Time,
    template: Option<uuid::Uuid>,
    flow: Option<uuid::Uuid>,
    is_test: bool,
    payload: Value,
}

impl NewEvent {
    fn new(name: &str, id: EventId, at: Time) -> NewEvent {
        let payload = json!({
            "id": id, "analyticsEvent": name, "endUserId": "user-123", "timestamp": at,
            "properties": { "values": { "choice": "yes", "accept": null }, "buttonName": "accept" },
            "platformContext": { "isTest": false, "eventDetail": { "amount": "12" }, "flowInvocationId": "order-17" },
        });
        NewEvent { id, name: name.to_owned(), at, template: None, flow: None, is_test: false, payload }
    }
}

async fn insert(conn: &AsyncPgConnection, env: EnvId, event: &NewEvent) {
    sql_query(
        "INSERT INTO events (environment_id, id, name, end_user_id, occurred_at, received_at, is_test, template_id,
                             flow_id, payload)
         VALUES ($1, $2, $3, 'user-123', $4, $4, $5, $6, $7, $8)",
    )
    .bind::<SqlUuid, _>(env)
    .bind::<SqlUuid, _>(event.id)
    .bind::<Text, _>(&event.name)
    .bind::<Timestamptz, _>(event.at)
    .bind::<diesel::sql_types::Bool, _>(event.is_test)
    .bind::<Nullable<SqlUuid>, _>(event.template)
    .bind::<Nullable<SqlUuid>, _>(event.flow)
    .bind::<Text, _>(event.payload.to_string())
    .execute(&mut &*conn)
    .await
    .unwrap();
}

/// The ids of the events that came, in the order in which they came.
fn ids(received: &[Received]) -> Vec<String> {
    received.iter().map(|request| request.header("webhook-id").to_owned()).collect()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

fn texts(ids: &[EventId]) -> Vec<String> {
    sorted(ids.iter().map(ToString::to_string).collect())
}
