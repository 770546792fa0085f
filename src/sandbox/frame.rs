//! What the server and a child say to each other: JSON behind its length.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Call, Fault};
use crate::error::Result;

/// More than the memory of a script holds.
pub const LARGEST: usize = 32 << 20;

/// A call on its way to a child. The arguments are JSON texts, which only the engine reads.
#[derive(Serialize, Deserialize)]
pub struct Request {
    pub source: String,
    pub function: String,
    pub arguments: Vec<String>,
}

/// What a child says during a call.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The function is about to be called; it stands there. Told first, for a child that is killed says nothing more.
    Calling {
        line: Option<u32>,
        column: Option<u32>,
    },
    Value(Box<RawValue>),
    Fault(Fault),
}

impl Request {
    /// The frame of a call.
    pub fn of(call: Call<'_>) -> Result<Vec<u8>> {
        let arguments = call.arguments.iter().map(|value: &&Value| value.to_string()).collect();
        let request = Request { source: call.source.to_owned(), function: call.function.to_owned(), arguments };
        Ok(frame(&serde_json::to_vec(&request)?))
    }
}

/// Puts the length before a body.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], body].concat()
}

/// Reads one frame. `None`: the other side is gone.
pub fn read(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > LARGEST {
        return Err(io::Error::other("the frame is too large"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some(body))
}

/// Writes one frame.
pub fn write(to: &mut impl Write, reply: &Reply) -> io::Result<()> {
    to.write_all(&frame(&serde_json::to_vec(reply)?))?;
    to.flush()
}
