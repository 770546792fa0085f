//! A page of 20 cards through GraphQL, beside axum that runs the bare SQL and nothing else.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio_postgres::{Client, Statement};

use crate::load::{Outcome, drive};
use crate::report::{Report, millis, percentile};
use crate::subject::Subject;

const TIME: Duration = Duration::from_secs(6);
const TASKS: usize = 16;
/// Enough that no customer reaches the limit of SDK operations.
const CUSTOMERS: usize = 400;
const CARDS: usize = 20;

const QUERY: &str = "query($c: ID!) { feed(containerId: $c) { totalCount cards { id status topCard metadata { priority activeSince } } } }";

/// The cards of one customer in order: what any server would have to ask.
const BARE: &str = "SELECT c.id, c.status, c.definition, c.priority, c.active_since FROM cards c
    JOIN customers u ON u.environment_id = c.environment_id AND u.id = c.customer_id
    WHERE u.environment_id = $1 AND u.user_id = $2 AND c.status = 'active'
    ORDER BY c.priority, c.active_since DESC, c.created_at DESC, c.id LIMIT 20";

pub async fn run(subject: &Subject, report: &mut Report) {
    report.section(
        "A feed page of 20 cards",
        "16 connections for 6 s over 400 customers with 20 cards each. Cardwire verifies the customer's token, parses and \
         limits the query, reads the feed with its counts, and writes GraphQL. The floor is axum with one prepared \
         statement on the same database: no authentication, no filters, no counts.",
    );
    let token = subject.token("events").await;
    let customers: Vec<String> = (0..CUSTOMERS).map(|index| format!("page-{index}")).collect();
    for _ in 0..CARDS {
        subject.start_flows(&token, &customers).await;
    }
    subject.quiet("SELECT count(*) FROM cards").await;
    let ours = graphql(subject, &customers).await;
    let floor = bare(subject, &customers).await;
    let line = |mut outcome: Outcome| {
        format!(
            "{:.0} pages/s, p50 {}, p99 {}",
            outcome.per_second,
            millis(percentile(&mut outcome.latencies, 0.5)),
            millis(percentile(&mut outcome.latencies, 0.99))
        )
    };
    let ratio = 100.0 * ours.per_second / floor.per_second;
    report.row("Cardwire, GraphQL", line(ours));
    report.row("axum and the bare SQL", line(floor));
    report.row("ratio (aim: 50 %)", format!("{ratio:.0} %"));
}

async fn graphql(subject: &Subject, customers: &[String]) -> Outcome {
    let tokens: Arc<Vec<String>> =
        Arc::new(customers.iter().map(|customer| subject.customer_token(customer)).collect());
    let body = json!({ "query": QUERY, "variables": { "c": subject.text("/containerId") } }).to_string();
    let (http, url) = (subject.http.clone(), subject.url("/graphql"));
    drive(TASKS, TIME, move |number| {
        let (http, url, body, tokens) = (http.clone(), url.clone(), body.clone(), tokens.clone());
        async move {
            let token = &tokens[usize::try_from(number).unwrap() % tokens.len()];
            let request = http.post(&url).bearer_auth(token).header("x-cardwire-api-key", "web");
            let answer = request.header("content-type", "application/json").body(body).send().await.unwrap();
            let text = answer.text().await.unwrap();
            assert!(text.contains("\"totalCount\":20"), "{text}");
        }
    })
    .await
}

async fn bare(subject: &Subject, customers: &[String]) -> Outcome {
    let mut clients = Vec::new();
    for _ in 0..TASKS {
        let (client, connection) = tokio_postgres::connect(&subject.database().1, tokio_postgres::NoTls).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "the connection ends with its client")]
        tokio::spawn(async move { connection.await.unwrap_or(()) });
        let statement = client.prepare(BARE).await.unwrap();
        clients.push((client, statement));
    }
    let env: cardwire::ids::EnvId = subject.text("/environmentId").parse().unwrap();
    let peer =
        Arc::new(Peer { clients, env: cardwire::ids::Id::uuid(env), turn: std::sync::atomic::AtomicUsize::new(0) });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/{customer}", get(peer_page)).with_state(peer);
    #[expect(clippy::disallowed_methods, reason = "aborted below")]
    let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let (http, customers) = (subject.http.clone(), Arc::new(customers.to_vec()));
    let outcome = drive(TASKS, TIME, move |number| {
        let (http, url, customers) = (http.clone(), url.clone(), customers.clone());
        async move {
            let customer = &customers[usize::try_from(number).unwrap() % customers.len()];
            let text = http.get(format!("{url}/{customer}")).send().await.unwrap().text().await.unwrap();
            assert!(text.len() > 1000, "{text}");
        }
    })
    .await;
    serving.abort();
    outcome
}

struct Peer {
    clients: Vec<(Client, Statement)>,
    env: uuid::Uuid,
    turn: std::sync::atomic::AtomicUsize,
}

async fn peer_page(State(peer): State<Arc<Peer>>, Path(customer): Path<String>) -> Json<Value> {
    let turn = peer.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % peer.clients.len();
    let (client, statement) = &peer.clients[turn];
    let rows = client.query(statement, &[&peer.env, &customer]).await.unwrap();
    let cards: Vec<Value> = rows
        .iter()
        .map(|row| {
            let (id, status): (uuid::Uuid, String) = (row.get(0), row.get(1));
            let (definition, priority): (Value, i16) = (row.get(2), row.get(3));
            json!({ "id": id, "status": status, "topCard": definition["topCard"], "metadata": { "priority": priority } })
        })
        .collect();
    Json(json!({ "data": { "cards": cards } }))
}
