//! Files beside an operation: the GraphQL multipart request convention (specification 2.2).
//!
//! The parts come in the order of the convention: `operations`, `map`, then the files. A file is written to a
//! temporary file without a name as it comes, so memory stays flat whatever its size. Only members and API
//! credentials may send files: a body of this kind is one that a foreign page can make a browser send, and both of
//! them prove themselves in a header that such a page cannot set.

use std::collections::BTreeMap;

use async_graphql::UploadValue;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use multer::{Constraints, Field, Multipart, SizeLimit};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::endpoint::Operation;
use super::http::parse;
use crate::error::{Code, Error, Result};
use crate::flows::MOST_BYTES;

/// The most files of one operation.
const FILES: usize = 4;
/// What `map` may take.
const MAP_BYTES: u64 = 16 * 1024;

/// The files of an operation, each with the place in the variables where it belongs.
#[derive(Default)]
pub struct Uploads(Vec<(String, UploadValue)>);

impl Uploads {
    /// Puts the files into the variables of a request.
    pub fn attach(self, request: &mut async_graphql::Request) {
        for (place, file) in self.0 {
            request.set_upload(&place, file);
        }
    }
}

/// The boundary of a multipart body; `None` for bodies of other kinds.
pub fn boundary(headers: &HeaderMap) -> Option<String> {
    let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    multer::parse_boundary(kind).ok()
}

/// Reads an operation of at most `limit` bytes, and its files.
pub async fn receive(body: Body, boundary: String, limit: usize) -> Result<(Operation, Uploads)> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    let file = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    let sizes = SizeLimit::new().for_field("operations", limit).for_field("map", MAP_BYTES).per_field(file);
    let mut parts =
        Multipart::with_constraints(body.into_data_stream(), boundary, Constraints::new().size_limit(sizes));
    let operations = named(&mut parts, "operations").await?.bytes().await.map_err(|error| broken(&error))?;
    let operation = Operation::read(parse(&operations)?)?;
    let map = named(&mut parts, "map").await?.bytes().await.map_err(|error| broken(&error))?;
    let places: BTreeMap<String, Vec<String>> =
        serde_json::from_slice(&map).map_err(|_| refused("map must be an object of lists of paths"))?;
    if places.len() > FILES || places.values().any(|paths| paths.len() != 1) {
        return Err(refused(format!("map names at most {FILES} files, each with one place")));
    }
    let mut uploads = Uploads::default();
    while let Some(part) = parts.next_field().await.map_err(|error| broken(&error))? {
        let place = part.name().and_then(|name| places.get(name)).and_then(|paths| paths.first()).cloned();
        let place = place.ok_or_else(|| refused("there is a part that map does not name"))?;
        if uploads.0.iter().any(|(other, _)| *other == place) {
            return Err(refused("there is a file twice"));
        }
        uploads.0.push((place, spool(part).await?));
    }
    if uploads.0.len() < places.len() {
        return Err(refused("there is no file for a name in map"));
    }
    Ok((operation, uploads))
}

/// The next part, which must have this name.
async fn named(parts: &mut Multipart<'static>, name: &str) -> Result<Field<'static>> {
    let part = parts.next_field().await.map_err(|error| broken(&error))?;
    part.filter(|part| part.name() == Some(name))
        .ok_or_else(|| refused(format!("the part `{name}` is not in its place")))
}

/// Writes a file to the disk.
async fn spool(mut part: Field<'static>) -> Result<UploadValue> {
    let filename = part.file_name().unwrap_or_default().to_owned();
    let content_type = part.content_type().map(ToString::to_string);
    let mut file = tokio::fs::File::from_std(tempfile::tempfile().map_err(Error::internal)?);
    while let Some(bytes) = part.chunk().await.map_err(|error| broken(&error))? {
        file.write_all(&bytes).await.map_err(Error::internal)?;
    }
    file.flush().await.map_err(Error::internal)?;
    file.rewind().await.map_err(Error::internal)?;
    Ok(UploadValue { filename, content_type, content: file.into_std().await })
}

fn broken(error: &multer::Error) -> Error {
    match error {
        multer::Error::FieldSizeExceeded { limit, .. } | multer::Error::StreamSizeExceeded { limit } => {
            Error::new(Code::PayloadTooLarge, format!("a part is larger than {limit} bytes"))
        }
        _ => Error::new(Code::BadRequest, "the parts of the body could not be read to their end"),
    }
}

fn refused(detail: impl Into<String>) -> Error {
    Error::new(Code::BadRequest, detail)
}
