//! Law: no event is lost to a transaction that commits late, and no place moves without its lease.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cardwire::events::consumer::{self, Reader};
use cardwire::flows::CardWaits;
use cardwire::ids::{EventId, Ids};
use cardwire::triggers::event::Matcher;
use cardwire::webhooks::deliver::Deliverer;
use cardwire::webhooks::fanout::Fanout;
use cardwire::worker::{AnyWorker, settle};
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
        let mut place = consumer::take(app, "law", "law").await.unwrap().unwrap();
        let mut seen = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        // Once all are there, one more look finds none: what is read twice would be read then.
        while Instant::now() < deadline {
            let facts = place.read(&conn, app.clock().now(), 7).await.unwrap();
            if facts.is_empty() && seen.len() >= COMMITTED {
                break;
            }
            seen.extend(facts.iter().map(|fact| fact.id));
            if let Some(last) = facts.last() {
                place.pass(app, last.position()).await.unwrap();
            }
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
    let place = consumer::take(app, "law", "one").await.unwrap().unwrap();
    assert_eq!(place.position().xid, 0);
    assert!(consumer::take(app, "law", "two").await.unwrap().is_none());
    app.clock().advance(Duration::from_secs(10));
    assert!(consumer::take(app, "law", "two").await.unwrap().is_some(), "a silent holder loses it");
    assert!(consumer::take(app, "law", "one").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_move_a_crash_took_back_begins_where_the_database_is() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let app = &scene.test.app;
    let place = "SELECT xid || ' ' || event_id AS value FROM consumers WHERE name = 'webhooks'";
    let reader = AnyWorker::new(Reader::new(Fanout));
    let first = scene.record("card-published").await;
    settle(app, std::slice::from_ref(&reader)).await.unwrap();
    let before = scene.test.column(place).await;
    // Events that concern nobody: passing them does not wait for the disk.
    scene.record("card-displayed").await;
    settle(app, std::slice::from_ref(&reader)).await.unwrap();
    assert_ne!(scene.test.column(place).await, before);
    let (xid, event) = before[0].split_once(' ').unwrap();
    let back = format!("UPDATE consumers SET xid = {xid}, event_id = '{event}' WHERE name = 'webhooks'");
    app.read().await.unwrap().batch_execute(&back).await.unwrap();
    let second = scene.record("card-published").await;
    assert!(settle(app, std::slice::from_ref(&reader)).await.is_err(), "the place is not where the reader left it");
    settle(app, std::slice::from_ref(&reader)).await.unwrap();
    scene.settle().await;
    assert_eq!(super::sorted(ids(&receiver.received())), super::sorted(texts(&[first, second])));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_look_opens_days_that_are_long_past() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let app = &scene.test.app;
    let workers = || {
        [
            AnyWorker::new(Reader::new(Fanout)),
            AnyWorker::new(Reader::new(Matcher)),
            AnyWorker::new(Reader::new(CardWaits)),
            AnyWorker::new(Deliverer::default()),
        ]
    };
    let first = scene.record("card-published").await;
    settle(app, &workers()).await.unwrap();
    let past = app.clock().now().minus(Duration::from_secs(60 * 24 * 3600)).timestamp();
    let days = format!("SELECT ensure_partitions('events', '{past}', 20)");
    app.read().await.unwrap().batch_execute(&days).await.unwrap();
    let mut delivered = vec![first];
    for _ in 0..3 {
        delivered.push(scene.record("card-published").await);
        settle(app, &workers()).await.unwrap();
        // A connection tells what it opened once a second, when it is used.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!(ids(&receiver.received()), texts(&delivered));
    let opened = async |days: &str| {
        let sum = format!(
            "SELECT sum(idx_scan)::text AS value FROM pg_stat_user_tables
             WHERE relname ~ '^events_[0-9]{{8}}$' AND relname {days}"
        );
        scene.test.column(&sum).await.remove(0)
    };
    assert_ne!(opened("> 'events_20251130'").await, "0");
    assert_eq!(opened("< 'events_20251130'").await, "0");
}
