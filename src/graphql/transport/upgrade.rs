//! The handshake that makes a websocket of a request (RFC 6455, 4.2).

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::upgrade;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use super::protocol::SUB_PROTOCOL;
use crate::error::{Code, Error, Result};

/// A request that asks for a websocket.
pub struct Upgrade {
    accept: String,
    /// Whether the client speaks our protocol.
    pub spoken: bool,
    connection: OnUpgrade,
}

impl Upgrade {
    pub fn read(parts: &mut Parts) -> Result<Upgrade> {
        let headers = &parts.headers;
        let refused = |detail| Err(Error::new(Code::BadRequest, detail));
        if !names(headers, header::CONNECTION, "upgrade") || !names(headers, header::UPGRADE, "websocket") {
            return refused("a websocket needs Connection: upgrade and Upgrade: websocket");
        }
        if !names(headers, header::SEC_WEBSOCKET_VERSION, "13") {
            return refused("a websocket needs Sec-WebSocket-Version: 13");
        }
        let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
            return refused("a websocket needs Sec-WebSocket-Key");
        };
        let accept = derive_accept_key(key.as_bytes());
        let spoken = names(headers, header::SEC_WEBSOCKET_PROTOCOL, SUB_PROTOCOL);
        match parts.extensions.remove::<OnUpgrade>() {
            Some(connection) => Ok(Upgrade { accept, spoken, connection }),
            None => refused("this connection cannot become a websocket"),
        }
    }

    /// The answer, after which the connection is a websocket.
    pub fn response(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.spoken {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUB_PROTOCOL));
        }
        response
    }

    /// The connection after the answer, with what was read beyond the request. `None`: the client has left.
    pub async fn connection(self) -> Option<(TcpStream, Vec<u8>)> {
        let upgraded = self.connection.await.ok()?;
        match upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            // A copy: what was read lies in a buffer as large as a request may need.
            Ok(parts) => Some((parts.io.into_inner(), parts.read_buf.to_vec())),
            Err(_) => {
                tracing::error!("a connection that became a websocket is not the one that was accepted");
                None
            }
        }
    }
}

/// Whether a header that lists words has this one among them.
fn names(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|other| other.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const ASKED: [(&str, &str); 5] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "graphql-ws, graphql-transport-ws"),
    ];

    fn parts(without: &str) -> Parts {
        let mut request = Request::new(());
        for (name, value) in ASKED.into_iter().filter(|(name, _)| *name != without) {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let connection = hyper::upgrade::on(Request::new(()));
        if without != "connection itself" {
            request.extensions_mut().insert(connection);
        }
        request.into_parts().0
    }

    #[test]
    fn a_handshake_is_answered_as_the_standard_shows() {
        let upgrade = Upgrade::read(&mut parts("")).unwrap();
        let response = upgrade.response();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], SUB_PROTOCOL);
    }

    #[test]
    fn what_is_no_handshake_is_refused() {
        for without in ["connection", "upgrade", "sec-websocket-version", "sec-websocket-key", "connection itself"] {
            let refused = Upgrade::read(&mut parts(without)).err().map(|error| error.code());
            assert_eq!(refused, Some(Code::BadRequest), "{without}");
        }
        let upgrade = Upgrade::read(&mut parts("sec-websocket-protocol")).unwrap();
        assert!(!upgrade.spoken && !upgrade.response().headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL));
    }
}
