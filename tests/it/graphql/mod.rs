//! The GraphQL transports: HTTP and websockets, as outside clients see them.

mod documents;
mod http;
mod sse;
mod websocket;
