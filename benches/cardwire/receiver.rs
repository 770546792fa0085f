//! A receiver that costs next to nothing, so that a bench of senders does not measure it: it reads requests of
//! HTTP/1.1, counts them, and answers all with the same bytes, or never.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const LONGEST: Duration = Duration::from_secs(180);

pub struct Receiver {
    pub url: String,
    state: Arc<State>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    count: AtomicU64,
    last: Mutex<Option<Instant>>,
    hangs: AtomicBool,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let state = Arc::new(State::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let shared = state.clone();
        #[expect(clippy::disallowed_methods, reason = "aborted when the receiver is dropped")]
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, shared.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Receiver { url, state, serving }
    }

    /// From now on nothing is answered.
    pub fn hang(&self) {
        self.state.hangs.store(true, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.state.count.load(Ordering::Relaxed)
    }

    /// Waits until so many requests came, and tells when the last one did.
    pub async fn wait_for(&self, count: u64) -> Instant {
        let deadline = Instant::now() + LONGEST;
        while self.count() < count {
            assert!(Instant::now() < deadline, "{} of {count} came", self.count());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.state.last.lock().unwrap_or_else(Instant::now)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Serves one connection until it ends.
async fn serve(mut socket: TcpStream, state: Arc<State>) {
    let mut held = Vec::with_capacity(16 * 1024);
    loop {
        while let Some(length) = request_length(&held) {
            held.drain(..length);
            state.count.fetch_add(1, Ordering::Relaxed);
            *state.last.lock() = Some(Instant::now());
            if state.hangs.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if socket.write_all(ANSWER).await.is_err() {
                return;
            }
        }
        if socket.read_buf(&mut held).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

/// The length of the first request, once all of it is there.
fn request_length(held: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let head = held.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let name = held[..head].windows(NAME.len()).position(|bytes| bytes.eq_ignore_ascii_case(NAME))?;
    let digits = held[name + NAME.len()..head].iter().take_while(|byte| byte.is_ascii_digit());
    let body = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    (held.len() >= head + body).then_some(head + body)
}
