//! The scalars of the schema: `ID` for every typed id, `DateTime`, `Duration`, `TimeZone`, `URL`, `JSON`, `JSONObject`.

use std::borrow::Cow;

use async_graphql::parser::types::Field;
use async_graphql::registry::Registry;
use async_graphql::{
    ContextSelectionSet, ID, InputType, InputValueError, InputValueResult, OutputType, Positioned, Scalar, ScalarType,
    ServerResult, Value,
};

use crate::clock::{self, Period, Time};
use crate::db::StoredJson;
use crate::error::Error;
use crate::ids::{self, Id};

/// Turns a refused value into an input error that keeps its code and its text (see [`super::errors`]).
fn refuse<T: InputType>(error: &Error) -> InputValueError<T> {
    let violation = &error.violations()[0];
    InputValueError::custom(&violation.detail)
        .with_extension("code", violation.code.word())
        .with_extension("detail", violation.detail.clone())
}

/// Reads a string scalar with a parser of the domain.
fn read<T: InputType, U>(value: Value, parse: impl FnOnce(&str) -> crate::error::Result<U>) -> InputValueResult<U>
where
    U: InputType,
{
    match value {
        Value::String(text) => parse(&text).map_err(|error| refuse(&error)),
        other => Err(InputValueError::<T>::expected_type(other).propagate()),
    }
}

macro_rules! id_scalars {
    ($($id:ident),* $(,)?) => {$(
        impl InputType for ids::$id {
            type RawValueType = Self;

            fn type_name() -> Cow<'static, str> {
                <ID as InputType>::type_name()
            }

            fn create_type_info(registry: &mut Registry) -> String {
                <ID as InputType>::create_type_info(registry)
            }

            fn parse(value: Option<Value>) -> InputValueResult<Self> {
                match value.unwrap_or_default() {
                    Value::String(text) => Id::parse(&text).map_err(|error| refuse(&error)),
                    Value::Number(_) => Err(refuse(&Error::not_found(<ids::$id as Id>::NOUN))),
                    other => Err(InputValueError::expected_type(other)),
                }
            }

            fn to_value(&self) -> Value {
                Value::String(self.to_string())
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }
        }

        impl OutputType for ids::$id {
            fn type_name() -> Cow<'static, str> {
                <ID as OutputType>::type_name()
            }

            fn create_type_info(registry: &mut Registry) -> String {
                <ID as OutputType>::create_type_info(registry)
            }

            async fn resolve(&self, _: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
                Ok(Value::String(self.to_string()))
            }
        }
    )*};
}

id_scalars!(
    OrgId,
    EnvId,
    MemberId,
    InvitationId,
    RoleId,
    GroupId,
    AuditId,
    SdkFailureId,
    OutgoingCredentialId,
    CredentialId,
    SdkKeyId,
    ThemeId,
    TemplateId,
    StreamId,
    ContainerId,
    CardId,
    LifecycleId,
    FlowId,
    RunId,
    TaskId,
    InvocationId,
    BatchId,
    TriggerId,
    TriggerRequestId,
    CustomerId,
    EventId,
    WebhookId,
    RequestId,
    ReplayId,
);

/// An RFC 3339 instant, written in UTC with milliseconds.
#[Scalar(name = "DateTime")]
impl ScalarType for Time {
    fn parse(value: Value) -> InputValueResult<Self> {
        read::<Time, Time>(value, Time::parse)
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

/// An ISO 8601 duration such as `PT30M`, in the words it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Duration {
    text: String,
    period: Period,
}

impl Duration {
    pub fn parse(text: &str) -> crate::error::Result<Duration> {
        Ok(Duration { text: text.to_owned(), period: Period::parse(text)? })
    }

    /// A duration that was checked when it was stored.
    pub fn stored(text: &str) -> Option<Duration> {
        Duration::parse(text).ok()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn period(&self) -> Period {
        self.period
    }

    pub fn into_text(self) -> String {
        self.text
    }
}

/// An ISO 8601 duration; decimals and mixed units are allowed.
#[Scalar(name = "Duration")]
impl ScalarType for Duration {
    fn parse(value: Value) -> InputValueResult<Self> {
        read::<Duration, Duration>(value, Duration::parse)
    }

    fn to_value(&self) -> Value {
        Value::String(self.text.clone())
    }
}

/// The name of a time zone, known to exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone(pub String);

/// An IANA time zone name.
#[Scalar(name = "TimeZone")]
impl ScalarType for TimeZone {
    fn parse(value: Value) -> InputValueResult<Self> {
        read::<TimeZone, TimeZone>(value, |text| {
            clock::zone(text)?;
            Ok(TimeZone(text.to_owned()))
        })
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// An absolute URL in the words it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

/// An absolute URL.
#[Scalar(name = "URL")]
impl ScalarType for Url {
    fn parse(value: Value) -> InputValueResult<Self> {
        read::<Url, Url>(value, |text| {
            url::Url::parse(text).map_err(|_| Error::invalid("", "is not an absolute URL"))?;
            Ok(Url(text.to_owned()))
        })
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// Any JSON value.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Json(pub serde_json::Value);

/// A JSON object.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct JsonObject(pub serde_json::Map<String, serde_json::Value>);

impl JsonObject {
    pub fn into_value(self) -> serde_json::Value {
        serde_json::Value::Object(self.0)
    }

    /// Wraps a stored value; anything but an object becomes an empty one.
    pub fn of(value: serde_json::Value) -> JsonObject {
        match value {
            serde_json::Value::Object(map) => JsonObject(map),
            _ => JsonObject::default(),
        }
    }
}

/// Any JSON value.
#[Scalar(name = "JSON")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Json(value.into_json()?))
    }

    fn to_value(&self) -> Value {
        Value::from_json(self.0.clone()).unwrap_or_default()
    }
}

/// A JSON object.
#[Scalar(name = "JSONObject")]
impl ScalarType for JsonObject {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value.into_json()? {
            serde_json::Value::Object(map) => Ok(JsonObject(map)),
            _ => Err(InputValueError::custom("an object is expected")),
        }
    }

    fn to_value(&self) -> Value {
        Value::from_json(serde_json::Value::Object(self.0.clone())).unwrap_or_default()
    }
}

/// JSON that goes out as it lies in the database, without being read into a tree.
impl OutputType for StoredJson {
    fn type_name() -> Cow<'static, str> {
        <Json as OutputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Json as OutputType>::create_type_info(registry)
    }

    async fn resolve(&self, _: &ContextSelectionSet<'_>, _: &Positioned<Field>) -> ServerResult<Value> {
        Ok(async_graphql::to_value(&self.0).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::{EmptyMutation, EmptySubscription, Object, Schema};

    use super::*;
    use crate::ids::{CardId, Ids, TemplateId};

    struct Root;

    #[Object]
    impl Root {
        async fn card(&self, id: CardId) -> CardId {
            id
        }

        async fn wait(&self, of: Duration) -> Duration {
            of
        }

        async fn echo(&self, value: JsonObject) -> JsonObject {
            value
        }

        async fn stored(&self) -> StoredJson {
            StoredJson(serde_json::from_str(r#"{"b":1,"a":[true]}"#).unwrap())
        }
    }

    async fn run(query: &str) -> serde_json::Value {
        let response = Schema::new(Root, EmptyMutation, EmptySubscription).execute(query).await;
        serde_json::to_value(crate::graphql::errors::finish(response)).unwrap()
    }

    #[tokio::test]
    async fn an_id_of_another_kind_is_not_found() {
        let ids = Ids::random();
        let card: CardId = ids.unguessable();
        let template: TemplateId = ids.unguessable();
        assert_eq!(run(&format!("{{ card(id: \"{card}\") }}")).await["data"]["card"], card.to_string());
        for wrong in [format!("\"{template}\""), "\"x\"".to_owned(), "7".to_owned()] {
            let answer = run(&format!("{{ card(id: {wrong}) }}")).await;
            assert_eq!(answer["errors"][0]["extensions"]["code"], "not_found", "{wrong}");
            assert_eq!(answer["errors"][0]["message"], "card not found");
        }
    }

    #[tokio::test]
    async fn durations_keep_their_words() {
        assert_eq!(run("{ wait(of: \"P0.5Y\") }").await["data"]["wait"], "P0.5Y");
        assert_eq!(run("{ wait(of: \"soon\") }").await["errors"][0]["extensions"]["code"], "validation_failed");
    }

    #[tokio::test]
    async fn stored_json_is_written_as_it_is() {
        let response = Schema::new(Root, EmptyMutation, EmptySubscription).execute("{ stored }").await;
        assert_eq!(serde_json::to_string(&response.data).unwrap(), r#"{"stored":{"b":1,"a":[true]}}"#);
        assert_eq!(run("{ echo(value: {a: [1, \"x\"]}) }").await["data"]["echo"]["a"][1], "x");
    }
}
