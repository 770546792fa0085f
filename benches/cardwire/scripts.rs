//! Mapping by script: calls of the sandbox a second, and how long one takes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cardwire::sandbox::{Call, Sandbox};
use serde_json::{Value, json};

use crate::load::{Outcome, drive};
use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

const TIME: Duration = Duration::from_secs(4);

/// An order of a shop becomes an entry: what mappings do, with a loop over twenty lines.
const SOURCE: &str = "function map(body, headers) {
    let total = 0;
    const names = [];
    for (const line of body.lines) { total += line.price * line.count; names.push(line.name.toUpperCase()); }
    return { targetUserIds: [body.customer.id],
             variables: { total, names: names.join(', '), first: /^(\\w+)/.exec(body.customer.name)[1] } };
}";

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "Mapping by script",
        "A script maps a body of 1.5 KB: a loop over twenty lines, a regular expression, an object. Every call gets an \
         engine made for it, in a child process that was kept from the call before; beside it the same with a child \
         process of its own for each call. One at a time, the caller and the child take turns on one core. The last \
         rows are `previewMapping` over HTTP with 16 connections: authentication, GraphQL and the check of what came \
         out are in them.",
    );
    let kept = Arc::new(Sandbox::new(program()));
    for at_once in [1, 2] {
        let sandbox = kept.clone();
        let outcome = drive(at_once, TIME, move |number| {
            let sandbox = sandbox.clone();
            async move { call(&sandbox, number).await }
        });
        tell(report, &format!("engine of its own, {at_once} at a time"), outcome.await);
    }
    let outcome = drive(1, TIME, |number| async move { call(&Sandbox::new(program()), number).await });
    tell(report, "process of its own, 1 at a time", outcome.await);
    let token = subject.token("workbench").await;
    let (http, url, env) = (subject.http.clone(), subject.url("/graphql"), subject.text("/environmentId"));
    let outcome = drive(16, TIME, move |number| {
        let (http, url, token, env) = (http.clone(), url.clone(), token.clone(), env.clone());
        async move {
            let query = "query($env: ID!, $sample: JSON!, $mapping: JSONObject!) {
                previewMapping(input: { environmentId: $env, sample: $sample, mapping: $mapping }) {
                    output errors { message } } }";
            let mapping = json!({ "type": "script", "source": SOURCE });
            let variables = json!({ "env": env, "sample": sample(number), "mapping": mapping });
            let request = http.post(&url).bearer_auth(&token).json(&json!({ "query": query, "variables": variables }));
            let answer: Value = request.send().await.unwrap().json().await.unwrap();
            assert_eq!(answer.pointer("/data/previewMapping/errors"), Some(&json!([])), "{answer}");
        }
    });
    tell(report, "`previewMapping`, 16 connections", outcome.await);
}

fn tell(report: &mut Report, what: &str, mut outcome: Outcome) {
    let (half, most) =
        (millis(percentile(&mut outcome.latencies, 0.5)), millis(percentile(&mut outcome.latencies, 0.99)));
    report.row(what, format!("{:.0} calls/s, p50 {half}, p99 {most}", outcome.per_second));
}

fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_cardwire"))
}

fn sample(number: u64) -> Value {
    let line = |n: u64| json!({ "name": format!("article number {n}"), "price": n * 3 + 1, "count": n % 4 + 1 });
    let lines: Vec<Value> = (0..20).map(line).collect();
    json!({ "customer": { "id": format!("customer-{number}"), "name": "Ada Lovelace" }, "lines": lines })
}

async fn call(sandbox: &Sandbox, number: u64) {
    let (body, headers) = (sample(number), json!({}));
    let called = sandbox.call(Call { source: SOURCE, function: "map", arguments: &[&body, &headers] }).await;
    let mapped = called.unwrap().unwrap();
    assert_eq!(mapped["variables"]["first"], "Ada");
    assert_eq!(mapped["targetUserIds"][0], body["customer"]["id"]);
}
