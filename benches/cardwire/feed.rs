//! The live feed at scale: pushes a second of processor time, memory of a connection, a storm of reconnects, and the
//! same subscription on a Node server beside it.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::report::Report;
use crate::startup::resident;
use crate::subject::Subject;

const QUERY: &str = "subscription($c: ID!, $t: String) { feed(containerId: $c, resumeToken: $t) { __typename
    ... on FeedSnapshot { resumeToken totalCount cards { id topCard } }
    ... on FeedPatch { from to resumeToken totalCount upserts { position reason card { id topCard } } removals { cardId reason } } } }";
/// Changes of the container that are pushed to every subscriber.
const CHANGES: u64 = 200;

pub async fn run(subject: &Subject, report: &mut Report) {
    raise_file_limit();
    pushes(subject, report).await;
    memory(subject, report).await;
    storm(subject, report).await;
}

/// Ten thousand sockets are ten thousand files, here and in the processes that are started from here.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        println!("  the limit of open files stays: {error}");
    }
}

/// Sockets that subscribe and count what comes.
struct Crowd {
    live: Arc<Semaphore>,
    patches: Arc<AtomicU64>,
    tokens: Arc<Mutex<Vec<Option<String>>>>,
    tasks: JoinSet<()>,
}

/// Who one member of a crowd is, and where it comes.
#[derive(Clone)]
struct Caller {
    url: String,
    token: String,
    container: String,
    resume: Option<String>,
}

impl Crowd {
    fn new(size: usize) -> Crowd {
        let tokens = Arc::new(Mutex::new(vec![None; size]));
        Crowd { live: Arc::new(Semaphore::new(0)), patches: Arc::default(), tokens, tasks: JoinSet::new() }
    }

    fn send_in(&mut self, index: usize, caller: Caller) {
        let (live, patches, tokens) = (self.live.clone(), self.patches.clone(), self.tokens.clone());
        self.tasks.spawn(async move { listen(index, caller, &live, &patches, &tokens).await });
    }

    /// Waits until so many are live.
    async fn live(&self, count: usize, patience: Duration) {
        let all = u32::try_from(count).unwrap();
        let live = tokio::time::timeout(patience, self.live.acquire_many(all)).await;
        live.expect("every subscriber becomes live").unwrap().forget();
    }

    async fn heard(&self, count: u64) {
        let heard = async {
            while self.patches.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(120), heard).await.expect("every patch comes");
    }
}

async fn listen(
    index: usize,
    caller: Caller,
    live: &Semaphore,
    patches: &AtomicU64,
    tokens: &Mutex<Vec<Option<String>>>,
) {
    let init = json!({ "type": "connection_init",
        "payload": { "apiKey": "web", "authToken": caller.token, "platform": "Web" } });
    let variables = json!({ "c": caller.container, "t": caller.resume });
    let subscribe = json!({ "id": "1", "type": "subscribe", "payload": { "query": QUERY, "variables": variables } });
    let mut request = caller.url.into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    socket.send(Message::Text(init.to_string().into())).await.unwrap();
    let acknowledged = socket.next().await;
    assert!(matches!(&acknowledged, Some(Ok(Message::Text(_)))), "{acknowledged:?}");
    socket.send(Message::Text(subscribe.to_string().into())).await.unwrap();
    let mut first = true;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        if !text.contains("\"next\"") {
            assert!(!text.contains("\"error\""), "{text}");
            continue;
        }
        if first {
            first = false;
            let message: Value = serde_json::from_str(&text).unwrap();
            tokens.lock()[index] = message["payload"]["data"]["feed"]["resumeToken"].as_str().map(str::to_owned);
            live.add_permits(1);
        } else {
            patches.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn caller(subject: &Subject, customer: &str, resume: Option<String>) -> Caller {
    Caller {
        url: subject.url("/graphql").replace("http", "ws"),
        token: subject.customer_token(customer),
        container: subject.text("/containerId"),
        resume,
    }
}

/// Seconds of processor time that a process has used.
fn processor_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// The owner of the demo changes how many cards the container shows.
struct Owner {
    session: String,
}

impl Owner {
    async fn sign_in(subject: &Subject) -> Owner {
        let query = "mutation($i: SignInInput!) { signIn(input: $i) { sessionToken } }";
        let input = json!({ "email": subject.text("/owner/email"), "password": subject.text("/owner/password") });
        let request = subject.http.post(subject.url("/graphql"));
        let answer: Value = request
            .json(&json!({ "query": query, "variables": { "i": input } }))
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let session = answer["data"]["signIn"]["sessionToken"].as_str();
        Owner { session: session.unwrap_or_else(|| panic!("no session: {answer}")).to_owned() }
    }

    async fn show(&self, subject: &Subject, cards: u64) {
        let query = "mutation($id: ID!, $n: Int!) { updateStreamContainer(input: { id: $id, cardLimit: $n }) { streamContainer { id } } }";
        let body = json!({ "query": query, "variables": { "id": subject.text("/containerId"), "n": cards } });
        let request = subject.http.post(subject.url("/graphql")).bearer_auth(&self.session).json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        assert!(answer["errors"].is_null(), "{answer}");
    }
}

async fn pushes(subject: &Subject, report: &mut Report) {
    report.section(
        "Pushes",
        "A change of the container's limit is one commit that every live feed of it must be told: each subscriber gets a \
         patch with a card or a removal. Personal: 500 customers with a socket each, so each patch is read and written \
         for itself. Identical: 1000 sockets of one customer, so a change is read and written once and told to all. \
         Processor time is that of the server process alone, without the database and without the clients. The peer is \
         graphql-ws with graphql-js and an in-memory publish: no database, no authentication, no versions.",
    );
    let owner = Owner::sign_in(subject).await;
    let token = subject.token("events").await;
    let customers: Vec<String> = (0..500).map(|index| format!("push-{index}")).collect();
    for _ in 0..2 {
        subject.start_flows(&token, &customers).await;
        subject.start_flows(&token, &["push-one".to_owned()]).await;
    }
    subject.quiet("SELECT count(*) FROM cards").await;
    for (name, sockets, aim) in [("personal feeds", 500, "40,000"), ("identical subscriptions", 1000, "120,000")] {
        owner.show(subject, 2).await;
        let mut crowd = Crowd::new(sockets);
        for index in 0..sockets {
            let customer = customers.get(index).filter(|_| sockets == 500).map_or("push-one", String::as_str);
            crowd.send_in(index, caller(subject, customer, None));
        }
        crowd.live(sockets, Duration::from_secs(60)).await;
        let (began, used) = (Instant::now(), processor_seconds(subject.pid()));
        for change in 0..CHANGES {
            owner.show(subject, 1 + change % 2).await;
            crowd.heard((change + 1) * sockets as u64).await;
        }
        let pushed = (CHANGES * sockets as u64) as f64;
        let (took, used) = (began.elapsed().as_secs_f64(), processor_seconds(subject.pid()) - used);
        report.row(&format!("{name}, pushes a second"), format!("{:.0}", pushed / took));
        report.row(&format!("{name}, pushes a second of processor time (aim: {aim})"), format!("{:.0}", pushed / used));
    }
    // What the figures above include beside the pushes, when those who left have left.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = processor_seconds(subject.pid());
    for change in 0..CHANGES {
        owner.show(subject, 1 + change % 2).await;
    }
    let used = processor_seconds(subject.pid()) - used;
    report.row(
        "of that the change itself, processor time without a subscriber",
        format!("{:.2} ms", used * 1000.0 / CHANGES as f64),
    );
    owner.show(subject, 50).await;
    report.row("the floor: as many plain writes, a second of processor time", format!("{:.0}", floor().await));
    let peer = Peer::start().await;
    let mut crowd = Crowd::new(1000);
    for index in 0..1000 {
        let caller = Caller { url: peer.url.clone(), token: String::new(), container: "c".to_owned(), resume: None };
        crowd.send_in(index, caller);
    }
    crowd.live(1000, Duration::from_secs(60)).await;
    let (began, used) = (Instant::now(), processor_seconds(peer.child.id()));
    for change in 0..CHANGES {
        peer.publish(subject).await;
        crowd.heard((change + 1) * 1000).await;
    }
    let pushed = (CHANGES * 1000) as f64;
    let (took, used) = (began.elapsed().as_secs_f64(), processor_seconds(peer.child.id()) - used);
    report.row("graphql-ws on Node, pushes a second", format!("{:.0}", pushed / took));
    report.row("graphql-ws on Node, pushes a second of processor time", format!("{:.0}", pushed / used));
}

/// What the kernel allows: a thread that does nothing but write 1000 bytes to each of 1000 sockets, and waits after each
/// round until the peers have read them, as a change waits for its subscribers.
async fn floor() -> f64 {
    const SOCKETS: usize = 1000;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut readers = JoinSet::new();
    let mut sockets = Vec::with_capacity(SOCKETS);
    let heard = Arc::<AtomicUsize>::default();
    for _ in 0..SOCKETS {
        let mut reader = TcpStream::connect(address).await.unwrap();
        let heard = heard.clone();
        readers.spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                heard.fetch_add(read, Ordering::Relaxed);
            }
        });
        let socket = listener.accept().await.unwrap().0.into_std().unwrap();
        socket.set_nonblocking(false).unwrap();
        sockets.push(socket);
    }
    let writer = tokio::task::spawn_blocking(move || {
        let used = || {
            let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
        };
        let (mut writing, mut written, message) = (Duration::ZERO, 0, [b'x'; 1000]);
        for _ in 0..CHANGES {
            let before = used();
            sockets.iter_mut().for_each(|socket| socket.write_all(&message).unwrap());
            writing += used() - before;
            written += message.len() * SOCKETS;
            while heard.load(Ordering::Relaxed) < written {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        writing.as_secs_f64()
    });
    let used = writer.await.unwrap();
    while readers.join_next().await.is_some() {}
    (CHANGES * SOCKETS as u64) as f64 / used
}

/// The server of `benches/peers/feed`.
struct Peer {
    child: Child,
    url: String,
}

impl Peer {
    async fn start() -> Peer {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/feed");
        if !directory.join("node_modules").exists() {
            let install = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&directory).status();
            assert!(install.expect("the peer needs Node with npm").success());
        }
        let ready = std::env::temp_dir().join(format!("cardwire-bench-peer-{}", std::process::id()));
        let _ = fs::remove_file(&ready);
        let child = Command::new("node")
            .arg(directory.join("server.mjs"))
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the peer needs Node");
        let deadline = Instant::now() + Duration::from_secs(30);
        let port = loop {
            match fs::read_to_string(&ready) {
                Ok(port) if !port.is_empty() => break port,
                _ => assert!(Instant::now() < deadline, "the peer does not start"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Peer { child, url: format!("ws://127.0.0.1:{}/graphql", port.trim()) }
    }

    async fn publish(&self, subject: &Subject) {
        let url = self.url.replace("ws://", "http://").replace("/graphql", "/publish");
        assert_eq!(subject.http.post(url).send().await.unwrap().status(), 204);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn memory(subject: &Subject, report: &mut Report) {
    report.section(
        "Memory of a connection",
        "10,000 sockets of 10,000 customers, each with one live container that shows no card. Resident memory of the \
         server process before and after; what the kernel holds for a connection is not in it.",
    );
    const SOCKETS: usize = 10_000;
    // The first connections make what all share.
    let mut warm = Crowd::new(200);
    for index in 0..200 {
        warm.send_in(index, caller(subject, &format!("warm-{index}"), None));
    }
    warm.live(200, Duration::from_secs(60)).await;
    let before = resident(subject.pid());
    let mut crowd = Crowd::new(SOCKETS);
    for index in 0..SOCKETS {
        crowd.send_in(index, caller(subject, &format!("memory-{index}"), None));
        if index % 200 == 199 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    crowd.live(SOCKETS, Duration::from_secs(180)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = resident(subject.pid()) - before;
    report.row(
        "one connection with one live container (aim: 10 KB)",
        format!("{:.1} KB", grown * 1024.0 / SOCKETS as f64),
    );
}

async fn storm(subject: &Subject, report: &mut Report) {
    report.section(
        "Reconnect storm",
        "5,000 sockets with a live container each are dropped at once and come back at once, each with its resume token. \
         The time runs until the last is live again.",
    );
    const SOCKETS: usize = 5_000;
    let customers: Vec<String> = (0..SOCKETS).map(|index| format!("memory-{index}")).collect();
    let mut crowd = Crowd::new(SOCKETS);
    for (index, customer) in customers.iter().enumerate() {
        crowd.send_in(index, caller(subject, customer, None));
        if index % 200 == 199 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    crowd.live(SOCKETS, Duration::from_secs(120)).await;
    let tokens = crowd.tokens.lock().clone();
    let callers: Vec<Caller> =
        customers.iter().zip(tokens).map(|(customer, token)| caller(subject, customer, token)).collect();
    crowd.tasks.abort_all();
    while crowd.tasks.join_next().await.is_some() {}
    let snapshots = metric(subject, "cardwire_feed_snapshots").await;
    let mut again = Crowd::new(SOCKETS);
    let began = Instant::now();
    for (index, caller) in callers.into_iter().enumerate() {
        again.send_in(index, caller);
    }
    again.live(SOCKETS, Duration::from_secs(120)).await;
    report.row("5,000 sockets live again (aim: 10 s)", format!("{:.2} s", began.elapsed().as_secs_f64()));
    let read = metric(subject, "cardwire_feed_snapshots").await - snapshots;
    report.row("snapshots that were read for it (aim: a handful)", format!("{read:.0}"));
}

/// A counter of the server.
async fn metric(subject: &Subject, name: &str) -> f64 {
    let text = subject.http.get(subject.url("/metrics")).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name) && !line.starts_with('#'));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
}
