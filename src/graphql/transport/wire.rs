//! One websocket as bytes: frames in and out, for the task that serves it and for those who tell it something.
//!
//! A message that many sockets wait for is written by whoever has it ([`Outlet`]), as long as the socket takes it
//! whole: no task is woken for it. What a socket does not take at once is kept, and the task of the socket sees to it.
//!
//! Texts are framed here, in memory that lasts until the socket has taken them: the codec would keep room for the
//! largest that it ever wrote, for each connection. It reads, and answers pings and closes.
//!
//! Why not the stream that an upgrade gives: it stands behind two boxes and two wakers, and only its owner can write.

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use crate::realtime::Pushed;

/// Read buffers are per connection; small ones let one machine hold many.
const READ_BUFFER: usize = 512;
/// The header of a frame that is not masked.
const LONGEST_HEADER: usize = 10;

/// A connection that speaks the websocket protocol.
pub struct Wire {
    stream: TcpStream,
    codec: Mutex<Codec>,
}

struct Codec {
    context: WebSocketContext,
    /// The end of a text that the socket has not taken. It begins when nothing else is open, and goes before the rest.
    rest: Vec<u8>,
    /// Whether the socket has taken everything.
    flushed: bool,
}

impl Wire {
    /// Goes on from what was read together with the request. Messages may have `limit` bytes.
    pub fn new(stream: TcpStream, read: Vec<u8>, limit: usize) -> Wire {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let context = WebSocketContext::from_partially_read(read, Role::Server, Some(config));
        Wire { stream, codec: Mutex::new(Codec { context, rest: Vec::new(), flushed: true }) }
    }

    /// The next message. Pings are answered.
    pub async fn receive(&self) -> Result<Message, Error> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    fn poll_receive(&self, context: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            // A frame may have come together with the one before.
            let read = self.codec.lock().using(&self.stream, |codec, io| codec.read(io));
            match read {
                Err(error) if blocks(&error) => ready!(self.stream.poll_read_ready(context))?,
                read => return Poll::Ready(read),
            }
        }
    }

    /// Writes a text to its end.
    pub async fn say(&self, parts: &[&str]) -> Result<(), Error> {
        loop {
            let said = self.codec.lock().say(&self.stream, parts)?;
            match said {
                Pushed::Sent => return Ok(()),
                Pushed::Queued => return self.flush().await,
                Pushed::Refused => self.flush().await?,
            }
        }
    }

    /// Writes a message that is no text to its end.
    pub async fn send(&self, message: Message) -> Result<(), Error> {
        let written = self.codec.lock().using(&self.stream, |codec, io| codec.write(io, message));
        match written {
            Err(error) if !blocks(&error) => Err(error),
            _ => self.flush().await,
        }
    }

    /// Writes what the socket has not taken yet.
    pub async fn flush(&self) -> Result<(), Error> {
        poll_fn(|context| {
            loop {
                if self.codec.lock().flush(&self.stream)? {
                    return Poll::Ready(Ok(()));
                }
                ready!(self.stream.poll_write_ready(context))?;
            }
        })
        .await
    }

    /// Whether something waits for the socket to take it.
    pub fn is_clogged(&self) -> bool {
        !self.codec.lock().flushed
    }
}

impl Codec {
    fn using<T>(&mut self, stream: &TcpStream, work: impl FnOnce(&mut WebSocketContext, &mut Io<'_>) -> T) -> T {
        work(&mut self.context, &mut Io { stream, rest: &mut self.rest })
    }

    /// Takes a text over, and writes as much of it as the socket takes. Refuses while something else is open.
    fn say(&mut self, stream: &TcpStream, parts: &[&str]) -> Result<Pushed, Error> {
        if !self.context.can_write() {
            return Err(Error::AlreadyClosed);
        }
        if !self.flush(stream)? {
            return Ok(Pushed::Refused);
        }
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        let mut frame = Vec::with_capacity(LONGEST_HEADER + length);
        header.format(length as u64, &mut frame)?;
        parts.iter().for_each(|part| frame.extend_from_slice(part.as_bytes()));
        self.flushed = write_off(stream, &mut frame)?;
        self.rest = frame;
        Ok(if self.flushed { Pushed::Sent } else { Pushed::Queued })
    }

    /// Gives whether the socket has taken everything.
    fn flush(&mut self, stream: &TcpStream) -> Result<bool, Error> {
        self.flushed = match self.using(stream, |codec, io| io.write_rest().and_then(|()| codec.flush(io))) {
            Ok(()) => true,
            Err(error) if blocks(&error) => false,
            Err(error) => return Err(error),
        };
        Ok(self.flushed)
    }
}

fn blocks(error: &Error) -> bool {
    matches!(error, Error::Io(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Writes bytes, and keeps those that the socket does not take. Gives whether it took all.
fn write_off(stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) if written == bytes.len() => *bytes = Vec::new(),
            Ok(written) => drop(bytes.drain(..written)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The socket as the codec wants it: what would wait is an error.
struct Io<'a> {
    stream: &'a TcpStream,
    rest: &'a mut Vec<u8>,
}

impl Io<'_> {
    fn write_rest(&mut self) -> Result<(), Error> {
        if write_off(self.stream, self.rest)? { Ok(()) } else { Err(Error::Io(ErrorKind::WouldBlock.into())) }
    }
}

impl Read for Io<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(into)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if write_off(self.stream, self.rest)? {
            self.stream.try_write(bytes)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where the messages of one operation go out.
pub struct Outlet {
    wire: Arc<Wire>,
    /// The operation's id as JSON.
    id: Box<str>,
}

impl Outlet {
    pub fn new(wire: Arc<Wire>, id: &str) -> Outlet {
        Outlet { wire, id: serde_json::Value::from(id).to_string().into() }
    }

    /// Sends data that is text already, if the socket takes it.
    pub fn push(&self, data: &str) -> Pushed {
        let said = self.wire.codec.lock().say(&self.wire.stream, &next(&self.id, data));
        // The task of the socket meets the error as soon as it looks.
        said.unwrap_or(Pushed::Refused)
    }
}

/// A message with data that is text already, of the operation with this id as JSON.
pub fn next<'a>(id: &'a str, data: &'a str) -> [&'a str; 5] {
    [r#"{"type":"next","id":"#, id, r#","payload":{"data":"#, data, "}}"]
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::task::spawn_blocking;
    use tungstenite::WebSocket;

    use super::*;

    #[tokio::test]
    async fn what_a_socket_does_not_take_goes_out_later_and_in_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wire = Arc::new(Wire::new(listener.accept().await.unwrap().0, Vec::new(), 1 << 20));
        wire.say(&["hel", "lo"]).await.unwrap();
        let outlet = Outlet::new(wire.clone(), "1");
        let large = "x".repeat(100_000);
        let mut pushed = 0;
        loop {
            pushed += 1;
            match outlet.push(&format!(r#"[{pushed},"{large}"]"#)) {
                Pushed::Sent => assert!(!wire.is_clogged()),
                Pushed::Queued => break,
                Pushed::Refused => panic!("nothing waited before"),
            }
        }
        assert!(wire.is_clogged());
        assert_eq!(outlet.push("null"), Pushed::Refused);
        let reader = spawn_blocking(move || {
            let mut socket = WebSocket::from_raw_socket(client, Role::Client, None);
            let mut read = || socket.read().unwrap().into_text().unwrap();
            assert_eq!(read(), "hello");
            for number in 1..=pushed {
                let head = format!(r#"{{"type":"next","id":"1","payload":{{"data":[{number},""#);
                let message = read();
                assert!(message.starts_with(&head) && message.ends_with("\"]}}"), "{number}");
            }
        });
        wire.flush().await.unwrap();
        assert!(!wire.is_clogged());
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn frames_that_come_together_are_read_one_by_one() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let wire = Wire::new(listener.accept().await.unwrap().0, Vec::new(), 1000);
        let mut socket = WebSocket::from_raw_socket(client, Role::Client, None);
        for number in 0..3 {
            socket.write(Message::text(number.to_string())).unwrap();
        }
        socket.write(Message::text("x".repeat(1001))).unwrap();
        socket.flush().unwrap();
        for number in 0..3 {
            assert_eq!(wire.receive().await.unwrap(), Message::text(number.to_string()));
        }
        assert!(matches!(wire.receive().await, Err(Error::Capacity(_))));
    }
}
