//! A receiver of webhooks: keeps what it got and answers as it is told.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// When it came, and what was answered.
    pub at: Instant,
    pub status: u16,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// `data.analyticsEvent`.
    pub fn event(&self) -> String {
        self.json()["data"]["analyticsEvent"].as_str().unwrap_or_default().to_owned()
    }
}

/// How to answer one request.
#[derive(Clone, Debug)]
pub enum Reply {
    Status(u16),
    StatusWith(u16, &'static str, String),
    Body(u16, String),
    /// 200 with a body of JSON.
    Json(Value),
    /// Wait before answering 200.
    After(Duration),
    /// Never answer.
    Hang,
    /// Answer 200, and then a byte now and then without end.
    Trickle,
    /// Answer 200, and then as many bytes as the other side takes, without end.
    Flood,
    /// Answer 200 with little that unpacks into much.
    GzipBomb,
    /// Answer 200 and break off in the middle of the body.
    Break,
}

#[derive(Default)]
struct Inner {
    received: Vec<Received>,
    /// Answers for the next requests; 200 once they are used up.
    replies: VecDeque<Reply>,
    always: Option<Reply>,
}

/// An HTTP server on loopback.
pub struct Receiver {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    serving: JoinHandle<()>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        Receiver::closing(|_| {}).await
    }

    /// A receiver whose connections end with a reset: with [`Reply::Break`], in the middle of an answer.
    pub async fn that_resets() -> Receiver {
        let linger = |socket: &mut TcpStream| rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO));
        Receiver::closing(move |socket| linger(socket).unwrap()).await
    }

    /// A receiver that says of each connection how it will end.
    #[expect(clippy::disallowed_methods, reason = "the handle is kept and aborted with the receiver")]
    async fn closing(how: impl FnMut(&mut TcpStream) + Send + 'static) -> Receiver {
        let inner = Arc::new(Mutex::new(Inner::default()));
        let router = Router::new().fallback(receive).with_state(inner.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move { axum::serve(listener.tap_io(how), router).await.unwrap() });
        Receiver { address, inner, serving }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Everything received so far.
    pub fn received(&self) -> Vec<Received> {
        self.inner.lock().received.clone()
    }

    /// Sets the answers of the next requests.
    pub fn reply_next(&self, replies: impl IntoIterator<Item = Reply>) {
        self.inner.lock().replies.extend(replies);
    }

    /// Sets the answer of every request for which no other is set; `None` is 200.
    pub fn reply_always(&self, reply: Option<Reply>) {
        self.inner.lock().always = reply;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(
    State(inner): State<Arc<Mutex<Inner>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let reply = {
        let mut inner = inner.lock();
        let reply = inner.replies.pop_front().or_else(|| inner.always.clone()).unwrap_or(Reply::Status(200));
        let status = match &reply {
            Reply::Status(status) | Reply::StatusWith(status, ..) | Reply::Body(status, _) => *status,
            _ => 200,
        };
        inner.received.push(Received { method, uri, headers, body, at: Instant::now(), status });
        reply
    };
    let status = |code| StatusCode::from_u16(code).unwrap();
    match reply {
        Reply::Status(code) => status(code).into_response(),
        Reply::StatusWith(code, name, value) => (status(code), [(name, value)]).into_response(),
        Reply::Body(code, body) => (status(code), body).into_response(),
        Reply::Json(body) => axum::Json(body).into_response(),
        Reply::After(time) => {
            tokio::time::sleep(time).await;
            StatusCode::OK.into_response()
        }
        Reply::Hang => std::future::pending().await,
        Reply::Trickle => endless(b"x", Duration::from_millis(50)),
        Reply::Flood => endless(&[b'x'; 64 * 1024], Duration::ZERO),
        Reply::GzipBomb => ([("content-encoding", "gzip")], bomb()).into_response(),
        Reply::Break => {
            let pieces = [Ok(Bytes::from_static(b"only this")), Err(std::io::Error::other("broken off"))];
            Body::from_stream(stream::iter(pieces)).into_response()
        }
    }
}

fn endless(piece: &'static [u8], pause: Duration) -> Response {
    let pieces = stream::repeat(Bytes::from_static(piece)).then(move |piece| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, std::io::Error>(piece)
    });
    Body::from_stream(pieces).into_response()
}

/// Sixty-four megabytes of nothing.
fn bomb() -> Bytes {
    static PACKED: LazyLock<Bytes> = LazyLock::new(|| {
        let mut packing = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for _ in 0..1024 {
            packing.write_all(&[0; 64 * 1024]).unwrap();
        }
        packing.finish().unwrap().into()
    });
    PACKED.clone()
}
