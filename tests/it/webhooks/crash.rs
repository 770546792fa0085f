//! Workers that end in the middle: nothing is lost, and repeats are recognisable.

use std::collections::HashSet;
use std::time::Duration;

use cardwire::events::consumer::{self, Reader};
use cardwire::webhooks::deliver::{self, Deliverer};
use cardwire::webhooks::fanout::Fanout;
use cardwire::worker::{AnyWorker, Worker, settle};
use diesel::sql_query;
use diesel_async::RunQueryDsl;

use super::{Scene, ids, texts};
use crate::support::receiver::{Receiver, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_dropped_in_flight_loses_nothing() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let app = &scene.test.app;
    let events = texts(&scene.record_many(40).await);
    settle(app, &[AnyWorker::new(Reader::new(Fanout))]).await.unwrap();
    for round in 0..6 {
        // Some requests are answered, others hang when the worker ends.
        receiver.reply_next((0..round).map(|_| Reply::Status(200)));
        receiver.reply_always(Some(Reply::After(Duration::from_secs(60))));
        let before = receiver.received().len();
        let deliverer = Deliverer::default();
        let dying = async {
            while receiver.received().len() < before + 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            result = async { loop { deliverer.run(app).await?; } } => { let _: cardwire::error::Result<()> = result; }
            () = dying => {}
        }
        drop(deliverer);
        receiver.reply_always(None);
    }
    settle(app, &[AnyWorker::new(Deliverer::default())]).await.unwrap();
    let received = receiver.received();
    let distinct: HashSet<String> = ids(&received).into_iter().collect();
    assert_eq!(distinct, events.into_iter().collect());
    for id in &distinct {
        let bodies: HashSet<_> =
            received.iter().filter(|request| request.header("webhook-id") == id).map(|request| &request.body).collect();
        assert_eq!(bodies.len(), 1, "a repeat is the same request");
    }
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_gives_back_what_it_leased() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let app = &scene.test.app;
    scene.record("card-published").await;
    settle(app, &[AnyWorker::new(Reader::new(Fanout))]).await.unwrap();
    receiver.reply_always(Some(Reply::After(Duration::from_secs(60))));
    let deliverer = Deliverer::default();
    tokio::select! {
        result = async { loop { deliverer.run(app).await?; } } => { let _: cardwire::error::Result<()> = result; }
        () = async { while receiver.received().is_empty() { tokio::time::sleep(Duration::from_millis(5)).await; } } => {}
    }
    let held = "SELECT holder AS value FROM webhook_streams WHERE holder IS NOT NULL
                UNION ALL SELECT holder FROM consumers WHERE holder IS NOT NULL";
    assert_eq!(scene.test.column(held).await.len(), 2);
    drop(deliverer);
    deliver::release(app).await.unwrap();
    consumer::release(app, app.node()).await.unwrap();
    assert_eq!(scene.test.column(held).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_holder_is_silent_is_taken_over() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let event = scene.record("card-published").await;
    settle(&scene.test.app, &[AnyWorker::new(Reader::new(Fanout))]).await.unwrap();
    let lease = "UPDATE webhook_streams SET lease = gen_random_uuid(), holder = 'another', leased_until = '2026-01-01T00:00:10Z'";
    sql_query(lease).execute(&mut &*scene.test.app.read().await.unwrap()).await.unwrap();
    scene.settle().await;
    assert_eq!(receiver.received().len(), 0, "it belongs to another process");
    scene.advance(Duration::from_secs(10)).await;
    assert_eq!(ids(&receiver.received()), [event.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_moved_neither_loses_nor_holds_up_anything() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let day = Duration::from_secs(24 * 3600);
    let mut events = Vec::new();
    for (forward, back) in [(day, Duration::ZERO), (Duration::ZERO, day), (2 * day, day)] {
        events.extend(scene.record_many(3).await);
        settle(&scene.test.app, &[AnyWorker::new(Reader::new(Fanout))]).await.unwrap();
        // Another process took the stream, by a clock like ours, and died.
        let lease = "UPDATE webhook_streams SET lease = gen_random_uuid(), holder = 'another', leased_until = $1";
        let until = scene.test.app.clock().now().plus(Duration::from_secs(10));
        let lease = sql_query(lease).bind::<diesel::sql_types::Timestamptz, _>(until);
        lease.execute(&mut &*scene.test.app.read().await.unwrap()).await.unwrap();
        scene.test.app.clock().advance(forward);
        scene.test.app.clock().set_back(back);
        scene.settle().await;
        assert_eq!(super::sorted(ids(&receiver.received())), texts(&events), "each once, and at once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_lost_its_lease_writes_no_progress() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    scene.subscribe(&receiver).await;
    let app = &scene.test.app;
    receiver.reply_always(Some(Reply::After(Duration::from_secs(3))));
    let event = scene.record("card-published").await;
    settle(app, &[AnyWorker::new(Reader::new(Fanout))]).await.unwrap();
    let deliverer = Deliverer::default();
    let stealing = async {
        while receiver.received().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let steal = "UPDATE webhook_streams SET lease = gen_random_uuid(), holder = 'another', leased_until = '2026-01-01T00:00:10Z'";
        sql_query(steal).execute(&mut &*app.read().await.unwrap()).await.unwrap();
    };
    let (ran, ()) = tokio::join!(deliverer.run(app), stealing);
    ran.unwrap();
    assert_eq!(scene.waiting().await, ["beyond 1 open 0 retries 0"]);
    receiver.reply_always(None);
    scene.advance(Duration::from_secs(10)).await;
    assert_eq!(ids(&receiver.received()), [event.to_string(), event.to_string()]);
}
