//! Law: no event is lost to a transaction that commits late, and no place moves without its lease.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cardwire::events::consumer::{self, Position};
use cardwire::ids::{EventId, Id, Ids};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use futures_util::future::join_all;

use super::{NewEvent, Scene, ids, insert, texts};
use crate::support::receiver::Receiver;

const WRITERS: u64 = 6;
const TRANSACTIONS: u64 = 40;
/// Every tenth transaction is rolled back.
const COMMITTED: usize = (WRITERS * TRANSACTIONS * 9 / 10) as usize;
/// How long the reader waits for all: a transaction of any database of the cluster may hold events back.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writers whose transactions overlap and last differently long, so that they commit out of the order of their ids.
async fn write(url: &str, scene: &Scene, writer: u64) -> Vec<EventId> {
    let mut conn = AsyncPgConnection::establish(url).await.unwrap();
    let source = Ids::seeded(1000 + writer);
    let mut written = Vec::new();
    for transaction in 0..TRANSACTIONS {
        conn.batch_execute("BEGIN").await.unwrap();
        let now = scene.test.app.clock().now();
        let event = NewEvent::new("card-published", source.make(now), now);
        insert(&conn, scene.env, &event).await;
        tokio::time::sleep(Duration::from_millis((writer * 7 + transaction * 3) % 13)).await;
        if transaction % 10 == 9 {
            conn.batch_execute("ROLLBACK").await.unwrap();
        } else {
            conn.batch_execute("COMMIT").await.unwrap();
            written.push(event.id);
        }
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_transactions_that_commit_late_are_read_once_each() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let url = scene.test.app.config().database_url.clone().unwrap();
    let app = &scene.test.app;
    let reading = async {
        let conn = app.read().await.unwrap();
        let (mut position, mut seen) =
            (Position { xid: 0, event_id: EventId::from_uuid(uuid::Uuid::nil()) }, Vec::new());
        let deadline = Instant::now() + PATIENCE;
        // Once all are there, one more look finds none: what is read twice would be read then.
        while Instant::now() < deadline {
            let facts = consumer::read(&conn, position, 7).await.unwrap();
            if facts.is_empty() && seen.len() >= COMMITTED {
                break;
            }
            seen.extend(facts.iter().map(|fact| fact.id));
            position = facts.last().map_or(position, consumer::Fact::position);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        seen
    };
    let fanning = async {
        for _ in 0..20 {
            scene.settle().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let writing = join_all((0..WRITERS).map(|writer| write(url.expose(), &scene, writer)));
    let (written, seen, ()) = tokio::join!(writing, reading, fanning);
    let written: Vec<EventId> = written.into_iter().flatten().collect();
    assert_eq!(written.len(), COMMITTED);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len(), "none twice");
    assert_eq!(texts(&seen), texts(&written));
    scene.settle().await;
    assert_eq!(super::sorted(ids(&receiver.received())), texts(&written));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_has_one_holder() {
    let scene = Scene::start().await;
    let app = &scene.test.app;
    let (_, start) = consumer::take(app, "law", "one").await.unwrap().unwrap();
    assert_eq!(start.xid, 0);
    assert!(consumer::take(app, "law", "two").await.unwrap().is_none());
    app.clock().advance(Duration::from_secs(10));
    assert!(consumer::take(app, "law", "two").await.unwrap().is_some(), "a silent holder loses it");
    assert!(consumer::take(app, "law", "one").await.unwrap().is_none());
}
