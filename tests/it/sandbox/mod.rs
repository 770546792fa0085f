//! Scripts end within their limits, whatever they try, and say where they failed.

use std::time::{Duration, Instant};

use cardwire::app::App;
use cardwire::error::{Code, Error};
use cardwire::sandbox::{Call, Fault, Sandbox};
use serde_json::{Value, json};

use crate::support::TestApp;

fn sandbox() -> Sandbox {
    Sandbox::new(env!("CARGO_BIN_EXE_cardwire").into())
}

async fn map(sandbox: &Sandbox, source: &str) -> Result<Value, Fault> {
    let payload = json!({ "customer": { "id": "u-1" }, "total": 12.5 });
    let headers = json!({ "x-topic": "paid" });
    sandbox.call(Call { source, function: "map", arguments: &[&payload, &headers] }).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_gets_json_and_gives_json() {
    let sandbox = sandbox();
    for (source, value) in [
        (
            "function map(p, h) { return { targetUserIds: [p.customer.id], topic: h['x-topic'], t: p.total * 2 } }",
            json!({ "targetUserIds": ["u-1"], "topic": "paid", "t": 25 }),
        ),
        ("const map = p => Object.keys(p);", json!(["customer", "total"])),
        ("function map() { return new Date(0) }", json!("1970-01-01T00:00:00.000Z")),
        ("function map() { return Math.max(1, 2) }", json!(2)),
        (
            "function map() { return { a: undefined, b: null, c: NaN, d: 'ü\\u0000😀' } }",
            json!({ "b": null, "c": null, "d": "ü\0😀" }),
        ),
    ] {
        assert_eq!(map(&sandbox, source).await, Ok(value), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_has_its_line_and_column() {
    let sandbox = sandbox();
    for (source, message, line, column) in [
        ("function map(p) {\n  return p.nobody.id;\n}", "TypeError", 2, 19),
        ("function map(p) {\n  return {;\n}", "SyntaxError", 2, 11),
        ("function map() {\n  throw new Error('not today');\n}", "Error: not today", 2, 18),
        ("function inner() { null.x }\nfunction map() {\n  inner();\n}", "TypeError", 1, 25),
        ("\n\n  function map() { throw 5 }", "thrown: 5", 3, 3),
        ("function other() {}", "no function `map`", 1, 1),
        ("\nfunction map() {}", "must return", 2, 1),
        ("async function map() { return {} }", "must return", 1, 1),
        ("function map() { const a = {}; a.a = a; return a }", "circular", 1, 1),
    ] {
        let fault = map(&sandbox, source).await.unwrap_err();
        assert!(fault.message.contains(message), "{source}: {fault:?}");
        let near = (fault.line, fault.column.map(|found| found.abs_diff(column) <= 14));
        assert_eq!(near, (Some(line), Some(true)), "{source}: {fault:?}");
        let error = Error::from(fault);
        assert_eq!(error.code(), Code::MappingFailed);
        assert!(error.violations()[0].detail.contains(&format!("line {line}")), "{error}");
    }
}

/// Each of these asks for more than there is.
const BOMBS: &[(&str, &str)] = &[
    ("endless loop", "function map() { while (true) {} }"),
    ("endless loop at the top", "while (true) {}\nfunction map() {}"),
    ("endless loop that catches", "function map() { while (true) { try { while (true) {} } catch (e) {} } }"),
    (
        "native search",
        "function map() { return 'a'.repeat(1e5).indexOf('a'.repeat(3e4) + 'b') + 'a'.repeat(1e6).indexOf('a'.repeat(5e5) + 'b') }",
    ),
    ("native power", "function map() { return { n: String(BigInt(2) ** BigInt(3e7)) } }"),
    ("native fill", "function map() { const a = []; a.length = 4294967295; return { n: a.indexOf(1) } }"),
    (
        "native sort",
        "function map() { const a = new Array(1e5); for (let i = 0; i < 1e5; i++) a[i] = i ^ 0x5555; for (;;) a.sort().reverse() }",
    ),
    ("memory of arrays", "function map() { const a = []; for (;;) a.push(new Array(1000).fill(a.length)) }"),
    ("memory of text", "function map() { let s = 'x'; for (;;) s += s + Math.random() }"),
    ("memory at once", "function map() { return { n: new ArrayBuffer(1e9).byteLength } }"),
    ("deep recursion", "function map() { return map() }"),
    ("deep recursion in JSON", "function map() { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a }"),
    ("regular expression", "function map() { return { n: /^(a+)+$/.test('a'.repeat(40) + 'b') } }"),
    ("toJSON without end", "function map() { return { toJSON() { for (;;) {} } } }"),
    (
        "getter on the error",
        "function map() { const e = new Error('x'); Object.defineProperty(e, 'message', { get() { for (;;) {} } }); throw e }",
    ),
    (
        "a proxy of proxies",
        "function map() { let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); return { n: p.x } }",
    ),
    ("generator without end", "function* g() { for (;;) yield 1 }\nfunction map() { return [...g()] }"),
];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_for_too_much_ends_in_time() {
    let sandbox = sandbox();
    for (what, source) in BOMBS {
        let started = Instant::now();
        let fault = map(&sandbox, source).await.expect_err(what);
        assert!(started.elapsed() < Duration::from_secs(3), "{what}: {:?} {fault:?}", started.elapsed());
        assert!(fault.line.is_some() && fault.column.is_some() && !fault.message.is_empty(), "{what}: {fault:?}");
        let next = map(&sandbox, "function map(p) { return p.customer }").await;
        assert_eq!(next, Ok(json!({ "id": "u-1" })), "after {what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_to_reach() {
    let sandbox = sandbox();
    for name in [
        "require",
        "process",
        "fetch",
        "XMLHttpRequest",
        "WebSocket",
        "setTimeout",
        "setInterval",
        "std",
        "os",
        "print",
        "console",
        "scriptArgs",
        "Deno",
        "Bun",
        "window",
        "loadScript",
        "navigator",
    ] {
        let source = format!("function map() {{ return {{ kind: typeof {name} }} }}");
        assert_eq!(map(&sandbox, &source).await, Ok(json!({ "kind": "undefined" })), "{name}");
    }
    for source in [
        "import * as os from 'os';\nfunction map() { return {} }",
        "function map() { return import('fs') }",
        "function map() { return { x: require('fs').readFileSync('/etc/passwd') } }",
    ] {
        assert!(map(&sandbox, source).await.is_err(), "{source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_leaves_nothing_behind() {
    let sandbox = sandbox();
    let poison = "Object.prototype.poison = 1; Array.prototype.map = null; JSON.stringify = () => '{\"forged\":1}';
        JSON.parse = () => 7; globalThis.kept = 1; Object.freeze(Object.prototype);
        function map(p) { return { own: p.customer.id } }";
    assert_eq!(map(&sandbox, poison).await, Ok(json!({ "own": "u-1" })));
    let look =
        "function map() { return { p: typeof {}.poison, k: typeof kept, m: typeof [].map, j: JSON.stringify([1]) } }";
    for _ in 0..20 {
        let seen = json!({ "p": "undefined", "k": "undefined", "m": "function", "j": "[1]" });
        assert_eq!(map(&sandbox, look).await, Ok(seen));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_answers_while_bombs_run() {
    let test = TestApp::start().await;
    let bomb = async |app: &App| {
        let value = json!({});
        let source = "function map() { return { n: String(BigInt(2) ** BigInt(3e7)) } }";
        app.sandbox().call(Call { source, function: "map", arguments: &[&value] }).await.unwrap()
    };
    let bombs = futures_util::future::join_all((0..4).map(|_| bomb(&test.app)));
    let answers = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let started = Instant::now();
            assert_eq!(test.client.send("GET", "/readyz", &[], "").await.status, 200);
            slowest = slowest.max(started.elapsed());
        }
        slowest
    };
    let (faults, slowest) = tokio::join!(bombs, answers);
    assert!(faults.iter().all(Result::is_err), "{faults:?}");
    assert!(slowest < Duration::from_millis(400), "an answer took {slowest:?} while bombs ran");
}
