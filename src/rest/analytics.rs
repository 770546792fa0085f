//! `/v1/{env}/analytics`: events as they happen (specification 10.5), as far as the export settings let them out.

use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::value::RawValue;

use super::auth::Authenticated;
use crate::access::CredentialRole::{Events, Workbench};
use crate::app::App;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::events::log::{self, Filter, Place};
use crate::ids::{CardId, Id};

const DEFAULT_LIMIT: i64 = 100;
const MOST: i64 = 1000;
const DAY: Duration = Duration::from_secs(24 * 3600);

pub fn routes() -> Router<App> {
    Router::new().route("/v1/{env}/analytics", get(read))
}

#[derive(Serialize)]
struct Answer {
    data: Data,
}

/// The events as the bytes that were recorded.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    events: Vec<Box<RawValue>>,
    next_cursor: Option<String>,
}

async fn read(
    State(app): State<App>,
    Authenticated(access): Authenticated,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    access.require_role(&[Workbench, Events])?;
    let asked = Asked::parse(query.as_deref().unwrap_or_default(), app.clock().now())?;
    let page =
        log::export(&app, access.read_events()?, &asked.filter, asked.limit, asked.after).await.map_err(named)?;
    let next_cursor = page.rows.last().filter(|_| page.more).map(|row| row.place().cursor());
    let event = |row: log::Logged| RawValue::from_string(row.payload).map_err(Error::internal);
    let events = page.rows.into_iter().map(event).collect::<Result<_>>()?;
    Ok(Json(Answer { data: Data { events, next_cursor } }).into_response())
}

/// A fault of the filter, told by the name of its parameter.
fn named(error: Error) -> Error {
    let pointer = error.violations().first().and_then(|violation| violation.pointer.clone()).unwrap_or_default();
    match pointer.split('/').nth(1) {
        Some("types") => error.parameter("types"),
        Some("to") => error.parameter("to"),
        _ => error,
    }
}

/// What the query string asks for. Parameters nobody knows are ignored.
#[derive(Debug)]
struct Asked {
    filter: Filter,
    limit: i64,
    after: Option<Place>,
}

impl Asked {
    fn parse(query: &str, now: Time) -> Result<Asked> {
        let mut asked = Asked { filter: Filter::default(), limit: DEFAULT_LIMIT, after: None };
        let filter = &mut asked.filter;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()).filter(|(_, value)| !value.is_empty()) {
            match name.as_ref() {
                "from" => filter.from = Some(Time::parse(&value).map_err(|error| error.parameter("from"))?),
                "to" => filter.to = Some(Time::parse(&value).map_err(|error| error.parameter("to"))?),
                "types" => filter.types.get_or_insert_default().extend(value.split(',').map(str::to_owned)),
                "endUserId" => filter.end_user_id = Some(value.into_owned()),
                // An id of another shape is that of no card, so no event is about it.
                "cardInstanceId" => {
                    filter.card = Some(CardId::parse(&value).unwrap_or(Id::from_uuid(uuid::Uuid::nil())));
                }
                "flowInvocationId" => filter.invocation = Some(value.into_owned()),
                "isTest" => filter.is_test = Some(truth(&value)?),
                "limit" => asked.limit = limit(&value)?,
                "cursor" => asked.after = Some(place(&value)?),
                _ => {}
            }
        }
        if filter.from.is_none() {
            filter.from = Some(filter.to.unwrap_or(now).minus(DAY));
        }
        Ok(asked)
    }
}

fn truth(value: &str) -> Result<bool> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(Error::invalid("", "isTest must be true or false").parameter("isTest")),
    }
}

fn limit(value: &str) -> Result<i64> {
    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
    limit.ok_or_else(|| Error::invalid("", format!("limit must be between 1 and {MOST}")).parameter("limit"))
}

fn place(value: &str) -> Result<Place> {
    Place::read(value).ok_or_else(|| Error::invalid("", "is not a cursor of this list").parameter("cursor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Time {
        Time::parse("2026-03-27T00:00:00Z").unwrap()
    }

    #[test]
    fn without_a_word_it_is_the_last_day() {
        let asked = Asked::parse("unknown=1", now()).unwrap();
        assert_eq!(asked.filter.from, Some(Time::parse("2026-03-26T00:00:00Z").unwrap()));
        assert_eq!((asked.filter.to, asked.limit), (None, 100));
    }

    #[test]
    fn parameters() {
        let asked = Asked::parse(
            "types=card-published,card-completed&types=custom:a%20b&isTest=false&limit=7&endUserId=a%2Bb",
            now(),
        );
        let asked = asked.unwrap();
        assert_eq!(asked.filter.types.unwrap(), ["card-published", "card-completed", "custom:a b"]);
        assert_eq!((asked.filter.is_test, asked.limit), (Some(false), 7));
        assert_eq!(asked.filter.end_user_id.as_deref(), Some("a+b"));
    }

    #[test]
    fn mistakes_name_their_parameter() {
        for (query, parameter) in [
            ("from=soon", "from"),
            ("isTest=maybe", "isTest"),
            ("limit=1001", "limit"),
            ("limit=0", "limit"),
            ("cursor=x", "cursor"),
        ] {
            assert_eq!(Asked::parse(query, now()).unwrap_err().violations()[0].parameter, Some(parameter), "{query}");
        }
    }

    #[test]
    fn an_id_of_another_shape_asks_for_no_event_rather_than_for_all() {
        assert!(Asked::parse("cardInstanceId=nonsense", now()).unwrap().filter.card.is_some());
    }
}
