//! Where requests must not go, and receivers that do not behave.

use std::time::Duration;

use cardwire::events::consumer::Reader;
use cardwire::webhooks::deliver::Deliverer;
use cardwire::webhooks::fanout::Fanout;
use cardwire::webhooks::{request_log, subscription, trial};
use cardwire::worker::{AnyWorker, settle};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Scene, draft_of, ids};
use crate::support::TestApp;
use crate::support::receiver::{Receiver, Reply};

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_refused_at_the_door_and_when_dialled() {
    let test = TestApp::with(|config| config.allow_http_destinations = true).await;
    let scene = Scene::of(test).await;
    let (app, access) = (&scene.test.app, &scene.access);
    for url in [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://2130706433/",
        "ftp://example.com/",
        "https://u:p@example.com/",
        "nonsense",
    ] {
        let draft = draft_of(&json!({ "types": ["card-published"], "url": url }));
        let Err(error) = subscription::create(app, access, draft).await else { panic!("{url} was accepted") };
        assert_eq!(error.violations()[0].pointer.as_deref(), Some("/url"), "{url}");
    }
    // A name can only be judged when it is resolved.
    let draft = draft_of(&json!({ "types": ["card-published"], "url": "http://localhost:9/" }));
    let subscription = subscription::create(app, access, draft).await.unwrap();
    let outcome = trial::send(app, access, subscription.id, None).await.unwrap();
    assert_eq!((outcome.delivered, outcome.error), (false, Some("destination_refused")));
    scene.record("card-published").await;
    scene.settle().await;
    let log = request_log::list(app, access, subscription.id, 1, None).await.unwrap().rows;
    assert_eq!(log[0].error.as_deref(), Some("destination_refused"));
    assert_eq!(scene.waiting().await, ["beyond 0 open 0 retries 1"], "it counts as a failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_needs_the_operator() {
    let scene = Scene::of(TestApp::start().await).await;
    let draft = draft_of(&json!({ "types": ["card-published"], "url": "http://example.com/" }));
    assert!(subscription::create(&scene.test.app, &scene.access, draft).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_receiver_delays_nobody() {
    let scene = Scene::start().await;
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    let hanging = scene.subscribe(&slow).await;
    scene.subscribe(&quick).await;
    slow.reply_always(Some(Reply::After(Duration::from_secs(60))));
    scene.record_many(50).await;
    let workers =
        [AnyWorker::new(Reader::new(Fanout)), AnyWorker::new(Deliverer::with_deadline(Duration::from_secs(2)))];
    let started = tokio::time::Instant::now();
    let settling = settle(&scene.test.app, &workers);
    let watching = async {
        while quick.received().len() < 50 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        started.elapsed()
    };
    let (settled, quick_took) = tokio::join!(settling, watching);
    settled.unwrap();
    assert!(quick_took < Duration::from_secs(2), "{quick_took:?}");
    let log = request_log::list(&scene.test.app, &scene.access, hanging.id, 1, None).await.unwrap().rows;
    assert_eq!(log[0].error.as_deref(), Some("timeout"));
    assert!(slow.received().len() < 50, "a window, not everything at once");
}

/// A server that answers every connection with these bytes and then goes on as it likes.
async fn raw(head: &'static str, flood: bool) -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "the handle is given to the test")]
    let serving = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 65536];
            let _ = socket.read(&mut request).await;
            let _ = socket.write_all(head.as_bytes()).await;
            while flood && socket.write_all(&[b'x'; 65536]).await.is_ok() {}
            drop(socket);
        }
    });
    (url, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_is_read_up_to_a_limit() {
    let scene = Scene::start().await;
    let (url, serving) = raw("HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n", true).await;
    let draft = draft_of(&json!({ "types": ["card-published"], "url": url }));
    let (app, access) = (&scene.test.app, &scene.access);
    let subscription = subscription::create(app, access, draft).await.unwrap();
    let outcome = trial::send(app, access, subscription.id, None).await.unwrap();
    assert!(outcome.delivered, "{outcome:?}");
    let log = request_log::list(app, access, subscription.id, 1, None).await.unwrap().rows;
    assert_eq!(log[0].response_bytes, 64 * 1024);
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_cut_off_is_no_success() {
    let scene = Scene::start().await;
    let (url, serving) = raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this", false).await;
    let draft = draft_of(&json!({ "types": ["card-published"], "url": url }));
    let (app, access) = (&scene.test.app, &scene.access);
    let subscription = subscription::create(app, access, draft).await.unwrap();
    let outcome = trial::send(app, access, subscription.id, None).await.unwrap();
    assert_eq!((outcome.delivered, outcome.error), (false, Some("response_broken")));
    serving.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_not_there_gets_it_later() {
    let scene = Scene::start().await;
    let draft = draft_of(&json!({ "types": ["card-published"], "url": "http://127.0.0.1:1/" }));
    let (app, access) = (&scene.test.app, &scene.access);
    let subscription = subscription::create(app, access, draft).await.unwrap();
    let event = scene.record("card-published").await;
    scene.settle().await;
    let log = request_log::list(app, access, subscription.id, 1, None).await.unwrap().rows;
    assert_eq!(log[0].error.as_deref(), Some("connection_failed"));
    let receiver = Receiver::start().await;
    let draft = draft_of(&json!({ "url": receiver.url() }));
    subscription::update(app, access, subscription.id, draft).await.unwrap();
    scene.advance(Duration::from_secs(6)).await;
    assert_eq!(ids(&receiver.received()), [event.to_string()]);
}
