//! A wire that can be cut: connections pass through to the server until the test decides otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A TCP proxy on loopback.
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Mutex<Wire>>,
    accepting: JoinHandle<()>,
}

struct Wire {
    whole: bool,
    cut: CancellationToken,
}

impl Proxy {
    /// Stands before the server at `origin`.
    #[expect(clippy::disallowed_methods, reason = "the handles are aborted with the proxy")]
    pub async fn before(origin: &str) -> Proxy {
        let target: SocketAddr = origin.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Arc::new(Mutex::new(Wire { whole: true, cut: CancellationToken::new() }));
        let shared = wire.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let cut = {
                    let wire = shared.lock();
                    if !wire.whole {
                        continue;
                    }
                    wire.cut.clone()
                };
                tokio::spawn(async move { cut.run_until_cancelled(pass(near, target)).await });
            }
        });
        Proxy { address, wire, accepting }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends every connection; new ones end at once.
    pub fn cut(&self) {
        let mut wire = self.wire.lock();
        wire.whole = false;
        std::mem::take(&mut wire.cut).cancel();
    }

    /// Lets connections through again.
    pub fn mend(&self) {
        self.wire.lock().whole = true;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn pass(mut near: TcpStream, target: SocketAddr) {
    if let Ok(mut far) = TcpStream::connect(target).await {
        // An end that resets its connection ends the pair.
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}
