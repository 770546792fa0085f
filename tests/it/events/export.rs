//! Batched files: every event of an hour once, in both formats, behind URLs that end.

use std::io::Read;
use std::time::Duration;

use cardwire::ids::{EnvId, EventId, Id};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use serde_json::{Value, json};

use super::life::{export_only, test_card};
use crate::support::client::Answer;
use crate::support::world::{CUSTOMER, World, access_token, text};
use crate::support::{node, until_async};

const MINUTE: Duration = Duration::from_secs(60);

/// A world, and a credential whose tokens outlive the hours.
struct Scene {
    world: World,
    credential: Value,
}

impl Scene {
    async fn start() -> Scene {
        let world = World::start().await;
        let credential = world.credential(&world.env, "WORKBENCH").await;
        Scene { world, credential }
    }

    async fn token(&self) -> String {
        access_token(&self.world.test, &self.credential).await
    }

    async fn ask(&self, token: &str, query: &str) -> Answer {
        self.world.test.client.get(token, &self.world.path(&format!("analytics/batched?{query}"))).await
    }

    /// The hours of the first of January.
    async fn hours(&self, format: &str) -> Value {
        let day = "from=2026-01-01T00:00:00Z&to=2026-01-01T12:00:00Z";
        self.ask(&self.token().await, &format!("{day}&format={format}")).await.data()
    }

    /// Lines of the NDJSON file of an hour.
    async fn lines(&self, hour: &str) -> Vec<String> {
        let url = text(&self.hours("ndjson").await[hour][0]);
        let (status, bytes, _) = download(&url, None).await;
        assert_eq!(status, 200);
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    async fn recorded(&self, condition: &str) -> Vec<String> {
        let order = "ORDER BY occurred_at, id";
        self.world.test.column(&format!("SELECT payload AS value FROM events WHERE {condition} {order}")).await
    }
}

/// Status, bytes and content encoding of what a URL gives to anybody.
#[expect(clippy::disallowed_methods, reason = "tests call the server under test on loopback")]
async fn download(url: &str, accept: Option<&str>) -> (u16, Vec<u8>, Option<String>) {
    let mut request = reqwest::Client::new().get(url);
    if let Some(accept) = accept {
        request = request.header("accept-encoding", accept);
    }
    let response = request.send().await.unwrap();
    let encoding = response.headers().get("content-encoding").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), response.bytes().await.unwrap().to_vec(), encoding)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_an_hour_are_in_its_files_once() {
    let scene = Scene::start().await;
    let world = &scene.world;
    for number in 0..20 {
        world.send_card(&format!("order-{number}"), &format!("{CUSTOMER}-{number}")).await;
    }
    test_card(world).await;
    world.test.advance(64 * MINUTE).await;
    assert_eq!(scene.hours("ndjson").await["2026-01-01T01"], Value::Null, "the hour is not closed yet");
    world.test.advance(2 * MINUTE).await;
    let recorded = scene.recorded("received_at < '2026-01-01T01:00Z'").await;
    assert_eq!(scene.lines("2026-01-01T01").await, recorded);

    let url = text(&scene.hours("ndjson").await["2026-01-01T01"][0]);
    assert!(url.starts_with(&format!("{}/v1/{}/analytics/files/2026-01-01T01.ndjson?", world.test.origin, world.env)));
    let (_, packed, encoding) = download(&url, Some("gzip")).await;
    assert_eq!(encoding.as_deref(), Some("gzip"));
    let mut unpacked = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked.lines().collect::<Vec<_>>(), recorded);

    let parquet = text(&scene.hours("parquet").await["2026-01-01T01"][0]);
    let (status, bytes, _) = download(&parquet, None).await;
    assert_eq!(status, 200);
    let reader = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    let rows: Vec<Value> = rows
        .map(|row| {
            let event: Value = serde_json::from_str(row.get_string(5).unwrap()).unwrap();
            assert_eq!(
                (&event["id"], &event["endUserId"]),
                (&json!(row.get_string(0).unwrap()), &json!(row.get_string(2).unwrap()))
            );
            assert_eq!(&event["analyticsEvent"], row.get_string(1).unwrap());
            assert_eq!(event["platformContext"]["isTest"], row.get_bool(4).unwrap());
            json!(row.get_string(5).unwrap())
        })
        .collect();
    assert_eq!(rows, recorded);
    // A reader of others' making reads the same.
    let input = json!({ "ndjson": url, "parquet": parquet });
    node::run(&node::packages("exports").join("read.mjs"), &input, async |_| Value::Null).await;

    world.test.advance(60 * MINUTE).await;
    assert_eq!(scene.hours("ndjson").await["2026-01-01T02"], json!([]), "an hour without events");
    assert_eq!(download(&url, None).await.0, 410);
    let fresh = text(&scene.hours("ndjson").await["2026-01-01T01"][0]);
    assert_eq!(download(&fresh, None).await.0, 200);
    for changed in
        [fresh.replace("T01.ndjson", "T01.parquet"), fresh.replace("expires=17", "expires=18"), format!("{fresh}x")]
    {
        assert_eq!(download(&changed, None).await.0, 401, "{changed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_checked() {
    let scene = Scene::start().await;
    let token = scene.token().await;
    for (query, parameter) in [
        ("to=2026-01-01T00:00:00Z", "from"),
        ("from=2026-01-01T00:00:00Z", "to"),
        ("from=soon&to=2026-01-01T00:00:00Z", "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z", "to"),
        ("from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z&format=csv", "format"),
    ] {
        let answer = scene.ask(&token, query).await;
        assert_eq!(
            (answer.status, &answer.json()["errors"][0]["source"]["parameter"]),
            (400, &json!(parameter)),
            "{query}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_follow_the_settings_at_the_time_they_are_written() {
    let mut scene = Scene::start().await;
    let shop = scene.world.credential(&scene.world.env, "EVENTS").await;
    scene.world.send_card("order-17", CUSTOMER).await;
    test_card(&scene.world).await;
    export_only(&scene.world, json!({ "testCards": false, "requestPayload": false })).await;
    scene.world.test.advance(66 * MINUTE).await;
    let lines = scene.lines("2026-01-01T01").await;
    assert_eq!(lines.len(), scene.recorded("NOT is_test AND received_at < '2026-01-01T01:00Z'").await.len());
    for line in lines {
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&event["platformContext"]["isTest"], &event["platformContext"]["eventDetail"]),
            (&json!(false), &Value::Null)
        );
    }
    scene.world.events = access_token(&scene.world.test, &shop).await;
    test_card(&scene.world).await;
    scene.world.test.advance(60 * MINUTE).await;
    assert_eq!(scene.hours("ndjson").await["2026-01-01T02"], json!([]), "nothing that may leave");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_commits_after_its_hour_was_written_is_in_the_next_files() {
    let scene = Scene::start().await;
    let world = &scene.world;
    world.send_card("order-17", CUSTOMER).await;
    let url = world.test.app.config().database_url.clone().unwrap();
    let mut late = AsyncPgConnection::establish(url.expose()).await.unwrap();
    let (env, id) =
        (world.env.parse::<EnvId>().unwrap().uuid(), EventId::parse("evt_01h455vb4pex5vsknk084sn02q").unwrap());
    late.batch_execute(&format!(
        "BEGIN; INSERT INTO events (environment_id, id, name, custom, occurred_at, received_at, is_test, payload)
         VALUES ('{env}', '{}', 'late', true, '2026-01-01T00:30Z', '2026-01-01T00:30Z', false, '{{\"id\":\"{id}\"}}')",
        id.uuid()
    ))
    .await
    .unwrap();
    world.test.advance(110 * MINUTE).await;
    let first = scene.lines("2026-01-01T01").await;
    late.batch_execute("COMMIT").await.unwrap();
    // Other tests have transactions on the same cluster: what was late is safe when those before it are over.
    let safe = "SELECT (max(xid) < pg_snapshot_xmin(pg_current_snapshot())::text::bigint)::text AS value FROM events";
    until_async("older transactions end", async || world.test.column(safe).await == ["true"]).await;
    assert!(!first.is_empty());
    world.test.advance(60 * MINUTE).await;
    assert_eq!(scene.lines("2026-01-01T01").await, first, "what was written stays");
    assert_eq!(scene.lines("2026-01-01T02").await, [format!("{{\"id\":\"{id}\"}}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_written_once_whoever_ends_on_the_way() {
    let scene = Scene::start().await;
    let world = &scene.world;
    world.send_card("order-17", CUSTOMER).await;
    let beside = world.test.beside(|_| {}).await;
    world.test.app.clock().advance(66 * MINUTE);
    tokio::join!(world.test.settle(), beside.settle());
    world.test.settle().await;
    let claims = "SELECT DISTINCT claim::text AS value FROM export_chunks";
    let written = world.test.column(claims).await;
    assert_eq!(written.len(), 1);
    let before = scene.lines("2026-01-01T01").await;

    // A writer that has stored every piece and ends before it says so.
    let undone = "UPDATE exports SET status = 'waiting', ready_at = NULL, due_at = due_at + interval '120 seconds'
        RETURNING status AS value";
    world.test.column(undone).await;
    world.test.settle().await;
    assert_eq!(scene.hours("ndjson").await["2026-01-01T01"], Value::Null, "the hour is somebody else's");
    world.test.advance(5 * MINUTE).await;
    let again = world.test.column(claims).await;
    assert!(again.len() == 1 && again != written, "the pieces of the first attempt are gone");
    assert_eq!(scene.lines("2026-01-01T01").await, before);
}
