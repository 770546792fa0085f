//! Start requests: who is accepted, what is a duplicate, what is refused.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::stage::{Stage, brief, counts, entry, offer};

#[tokio::test(flavor = "multi_thread")]
async fn an_invocation_starts_one_run_for_each_customer() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let entries = json!([entry("order-17", &json!(["user-1", "user-2", "user-1"]))]);
    assert_eq!(stage.start(&flow, entries.clone()).await, ["accepted 2 1 0 0"]);
    stage.test.settle().await;
    assert_eq!(stage.start(&flow, entries).await, ["duplicate 0 3 0 0"]);
    assert_eq!(stage.start(&flow, json!([entry("order-17", &json!("user-3"))])).await, ["accepted 1 0 0 0"]);
    stage.test.settle().await;
    assert_eq!(
        stage.events().await,
        counts(&[
            ("action-flow-completed", 3),
            ("action-flow-started", 3),
            ("action-flow-step-completed", 3),
            ("card-published", 3)
        ])
    );
    assert_eq!(
        stage.column("SELECT definition #>> '{topCard,elements,0,attributes,text}' AS value FROM cards").await.len(),
        3
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_requests_that_race_one_starts_the_run() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let entries = json!([entry("race", &json!(["a", "b", "c"])), entry("race-2", &json!("a"))]);
    let answers = futures_util::future::join_all((0..8).map(|_| stage.start(&flow, entries.clone()))).await;
    let accepted = |place: usize| answers.iter().filter(|answer| answer[place].starts_with("accepted")).count();
    assert!(accepted(0) >= 1, "{answers:?}");
    assert_eq!(accepted(1), 1, "{answers:?}");
    stage.test.settle().await;
    assert_eq!(stage.column("SELECT id::text AS value FROM runs").await.len(), 4);
    assert_eq!(stage.column("SELECT id::text AS value FROM cards").await.len(), 4);
    assert_eq!(stage.events().await["action-flow-started"], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_come_together_keep_what_is_theirs() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let request = async |n: usize| {
        let mut own = entry(&format!("order-{n}"), &json!(format!("user-{n}")));
        let kind = n % 4;
        match kind {
            0 => own["payload"]["variables"]["amount"] = "many".into(),
            1 => own["flowInvocationId"] = "shared".into(),
            _ => own["payload"]["variables"]["amount"] = n.into(),
        }
        if kind == 1 {
            own["target"]["targetUserIds"] = "user-shared".into();
        }
        (n, stage.send(&flow, "start", json!([own])).await)
    };
    let answers = futures_util::future::join_all((0..64).map(request)).await;
    let mut shared = Vec::new();
    for (n, answer) in &answers {
        match n % 4 {
            0 => {
                let told = "validation_failed /flows/0/payload/variables/amount".to_owned();
                assert_eq!((answer.status, answer.errors()), (400, vec![told]));
            }
            1 => shared.extend(brief(answer)),
            _ => {
                assert_eq!(brief(answer), ["accepted 1 0 0 0"]);
                let run = format!(
                    "SELECT starts.variables ->> 'amount' AS value FROM runs JOIN starts USING (lifecycle_id)
                     WHERE runs.invocation = 'order-{n}'"
                );
                assert_eq!(stage.column(&run).await, [n.to_string()]);
            }
        }
    }
    shared.sort_unstable();
    assert_eq!(shared[0], "accepted 1 0 0 0");
    assert!(shared[1..].iter().all(|entry| entry == "duplicate 0 1 0 0"), "{shared:?}");
    let batches: HashSet<String> = answers
        .iter()
        .filter(|(n, _)| n % 4 > 1)
        .map(|(_, answer)| answer.data()["batchId"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(batches.len(), 32, "each request has a batch of its own");
    assert_eq!(stage.column("SELECT id::text AS value FROM batches").await.len(), 33);
    stage.test.settle().await;
    assert_eq!(stage.events().await["card-published"], 33);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_flow_is_told_to_all() {
    let stage = Stage::set().await;
    let flow = stage.draft(offer(&stage.template)).await;
    let request = |n: usize| {
        let own = json!([entry("", &json!(format!("user-{n}")))]);
        let (stage, flow) = (&stage, &flow);
        async move { stage.send(flow, "start", own).await }
    };
    for answer in futures_util::future::join_all((0..16).map(request)).await {
        assert_eq!((answer.status, answer.errors()), (409, vec!["not_published".to_owned()]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_without_an_invocation_id_gets_one() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let mut bare = entry("", &json!("user-1"));
    bare.as_object_mut().unwrap().remove("flowInvocationId");
    let answer = stage.send(&flow, "start", json!([bare, bare])).await.data();
    assert!(answer["batchId"].as_str().unwrap().starts_with("batch_"));
    let id = |place: usize| answer["flows"][place]["flowInvocationId"].as_str().unwrap().to_owned();
    assert!(id(0).starts_with("finv_"));
    assert_ne!(id(0), id(1));
    assert_eq!(stage.events().await["action-flow-started"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_was_never_published_starts_in_tests_only() {
    let stage = Stage::set().await;
    let flow = stage.draft(offer(&stage.template)).await;
    let entries = json!([entry("x", &json!([stage.owner_id, "stranger"]))]);
    let refused = stage.send(&flow, "start", entries.clone()).await;
    assert_eq!((refused.status, refused.errors()), (409, vec!["not_published".to_owned()]));
    assert_eq!(brief(&stage.send(&flow, "test", entries.clone()).await), ["accepted 1 0 1 0"]);
    stage.test.settle().await;
    assert_eq!(
        stage.column("SELECT user_id || ' ' || is_test AS value FROM cards").await,
        [format!("{} true", stage.owner_id)]
    );
    assert_eq!(stage.column("SELECT is_test::text AS value FROM events GROUP BY is_test").await, ["true"]);
    assert_eq!(stage.column("SELECT user_id AS value FROM customers").await, std::slice::from_ref(&stage.owner_id));

    stage.publish(&flow).await;
    assert_eq!(stage.start(&flow, entries.clone()).await, ["accepted 2 0 0 0"], "tests have invocations of their own");
    assert_eq!(brief(&stage.send(&flow, "test", entries).await), ["duplicate 0 1 1 0"]);
    let strangers = json!([entry("y", &json!(["stranger", "nobody"]))]);
    assert_eq!(brief(&stage.send(&flow, "test", strangers).await), ["ignored 0 0 2 0"]);
    assert_eq!(stage.events().await["action-flow-started"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_entry_stays_with_it() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let user = |payload: Value| json!({ "target": { "type": "user", "targetUserIds": "a" }, "payload": payload });
    let entries = json!([
        entry("good", &json!(["a", ""])),
        user(json!({})),
        user(json!({ "variables": { "amount": "many" } })),
        user(json!({ "variables": { "amount": 1 }, "cardOptions": { "expires": "2025-12-31T23:59:59Z" } })),
        user(json!({ "variables": { "amount": 1 }, "cardOptions": { "targetStreamIds": ["strm_01h455vb4pex5vsknk084sn02q"] } })),
        { "target": { "type": "segment", "segmentId": "seg_x" } },
    ]);
    let answer = stage.send(&flow, "start", entries.clone()).await;
    assert_eq!(
        brief(&answer),
        [
            "accepted 1 0 0 1",
            "rejected 0 0 0 1",
            "rejected 0 0 0 1",
            "rejected 0 0 0 1",
            "rejected 0 0 0 1",
            "rejected 0 0 0 0"
        ]
    );
    let data = answer.data();
    let pointers: Vec<&Value> = (0..6).map(|place| &data["flows"][place]["errors"][0]["source"]["pointer"]).collect();
    assert_eq!(
        pointers,
        [
            "/flows/0/target/targetUserIds/1",
            "/flows/1/payload/variables/amount",
            "/flows/2/payload/variables/amount",
            "/flows/3/payload/cardOptions/expires",
            "/flows/4/payload/cardOptions/targetStreamIds/0",
            "/flows/5/target/type",
        ]
    );
    assert_eq!(data["flows"][1]["errors"][0]["userId"], "a");
    let rest: Vec<Value> = entries.as_array().unwrap()[1..].to_vec();
    let refused = stage.send(&flow, "start", Value::from(rest)).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.errors()[0], "validation_failed /flows/0/payload/variables/amount");
    assert_eq!(refused.json()["errors"][0]["userId"], "a");
    assert_eq!(stage.events().await["action-flow-started"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_a_duplicate_even_when_it_would_be_refused_today() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let mut once = entry("once", &json!("a"));
    once["payload"]["cardOptions"] = json!({ "expires": "2026-01-01T00:30:00Z" });
    assert_eq!(stage.start(&flow, json!([once])).await, ["accepted 1 0 0 0"]);
    stage.test.advance(std::time::Duration::from_secs(1800)).await;
    assert_eq!(stage.start(&flow, json!([once])).await, ["duplicate 0 1 0 0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_customer_does_not_come_into_being() {
    let stage = Stage::set().await;
    let flow = stage
        .flow(json!({ "variables": [{ "name": "amount", "type": "number", "required": true, "profileField": "plan" }],
            "steps": [{ "key": "end", "parent": "start", "type": "end" }] }))
        .await;
    let entries = json!([{ "target": { "type": "user", "targetUserIds": ["a", "b"] } }]);
    assert_eq!(stage.send(&flow, "start", entries).await.status, 400);
    assert_eq!(stage.column("SELECT user_id AS value FROM customers").await, [""; 0]);
    assert_eq!(stage.events().await, counts(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_not_start_requests_are_refused() {
    let stage = Stage::set().await;
    let flow = stage.flow(offer(&stage.template)).await;
    let path = stage.path(&flow, "start");
    for (body, errors) in [
        (json!({}), "validation_failed /flows"),
        (json!({ "flows": [] }), "validation_failed /flows"),
        (json!([]), "validation_failed "),
    ] {
        let answer = stage.test.client.call(&stage.events, "POST", &path, body.clone()).await;
        assert_eq!((answer.status, answer.errors()), (400, vec![errors.to_owned()]), "{body}");
    }
    let entries = json!({ "flows": [entry("x", &json!("a"))] });
    let workbench = stage.test.client.call(&stage.workbench, "POST", &path, entries.clone()).await;
    assert_eq!((workbench.status, workbench.errors()), (403, vec!["forbidden".to_owned()]));
    let unknown = stage.path("flow_01h455vb4pex5vsknk084sn02q", "start");
    let unknown = stage.test.client.call(&stage.events, "POST", &unknown, entries).await;
    assert_eq!((unknown.status, unknown.errors()), (404, vec!["not_found".to_owned()]));
    assert_eq!(stage.events().await, counts(&[]));
}
