//! How a resolver takes the writing of its messages over from the engine.
//!
//! The engine parses, validates and authorises an operation. From then on it would keep the parsed document for each
//! subscriber and execute it anew for each message. A resolver that can write its messages by itself leaves a stream
//! of texts in the [`Handover`] and ends its own; when the engine has ended, [`Answers`] goes on with the texts. What it
//! can say while nobody pulls goes through the [`Outlet`] that it finds there.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_graphql::{PathSegment, Response, ServerError};
use futures_util::stream::{BoxStream, Stream, StreamExt};
use parking_lot::Mutex;

use super::selection::Root;
use super::wire::Outlet;
use crate::error::{Error, Result};

/// The messages of a subscription: the text of each one's `data`. An error is the last one.
pub type Texts = BoxStream<'static, Result<Arc<str>>>;

/// What an operation asks for, and the place where its resolver may leave its messages.
#[derive(Clone)]
pub struct Handover {
    pub root: Arc<Root>,
    /// Operations with the same number select the same fields.
    pub form: u64,
    place: Arc<Mutex<Place>>,
}

#[derive(Default)]
struct Place {
    texts: Option<Texts>,
    outlet: Option<Outlet>,
}

impl Handover {
    pub fn new(root: Arc<Root>, form: u64) -> Handover {
        Handover { root, form, place: Arc::default() }
    }

    /// Says where messages go out. Without an outlet all of them are pulled.
    pub fn lead_to(&self, outlet: Outlet) {
        self.place.lock().outlet = Some(outlet);
    }

    pub fn outlet(&self) -> Option<Outlet> {
        self.place.lock().outlet.take()
    }

    pub fn give(&self, texts: Texts) {
        self.place.lock().texts = Some(texts);
    }
}

/// What an operation answers.
pub enum Answer {
    Response(Box<Response>),
    /// The text of the data; there are no errors.
    Data(Arc<str>),
}

/// The answers of an operation, one after another.
pub enum Answers {
    Engine(BoxStream<'static, Response>, Option<Handover>),
    Written(Texts, Arc<Root>),
    Ended,
}

impl Stream for Answers {
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Answer>> {
        loop {
            let next = match &mut *self {
                Answers::Engine(responses, handover) => match ready!(responses.poll_next_unpin(context)) {
                    Some(response) => return Poll::Ready(Some(Answer::Response(Box::new(response)))),
                    None => handover.take().and_then(|handover| {
                        let texts = handover.place.lock().texts.take()?;
                        Some(Answers::Written(texts, handover.root))
                    }),
                },
                Answers::Written(texts, root) => match ready!(texts.poll_next_unpin(context)) {
                    Some(Ok(text)) => return Poll::Ready(Some(Answer::Data(text))),
                    Some(Err(error)) => return Poll::Ready(Some(failed(error, root))),
                    None => None,
                },
                Answers::Ended => return Poll::Ready(None),
            };
            *self = next.unwrap_or(Answers::Ended);
        }
    }
}

/// The answer that the engine gives when a message of a subscription fails.
fn failed(error: Error, root: &Root) -> Answer {
    let error: ServerError = async_graphql::Error::from(error).into_server_error(root.position);
    let path = vec![PathSegment::Field(root.key.to_string())];
    Answer::Response(Box::new(Response::from_errors(vec![error.with_path(path)])))
}
