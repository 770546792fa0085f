//! The GraphQL transports: HTTP and websockets, as outside clients see them.

mod http;
mod sse;
mod websocket;
