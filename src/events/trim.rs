//! Leaves parts out of a stored envelope for those who must not see them, and touches nothing else of its bytes.

use std::borrow::Cow;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::error::Result;

/// What is left out of an envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omit {
    /// `eventDetail`, `eventNotificationDetail` and `payloadMetadata`: what the start request carried.
    pub request_payload: bool,
    /// `properties.values`: what the customer answered.
    pub card_response: bool,
}

impl Omit {
    /// Gives the envelope without what is to be left out.
    pub fn from_payload(self, payload: &str) -> Result<Cow<'_, str>> {
        if self == Omit::default() {
            return Ok(Cow::Borrowed(payload));
        }
        let mut envelope: Members = serde_json::from_str(payload)?;
        if self.request_payload {
            envelope.without("platformContext", &["eventDetail", "eventNotificationDetail", "payloadMetadata"])?;
        }
        if self.card_response {
            envelope.without("properties", &["values"])?;
        }
        Ok(Cow::Owned(serde_json::to_string(&envelope)?))
    }
}

/// The members of a JSON object in their order, their values as the text they came as.
struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// Takes the named members out of the object that stands at `key`, if there is one.
    fn without(&mut self, key: &str, names: &[&str]) -> Result<()> {
        let Some((_, value)) = self.0.iter_mut().find(|(name, _)| name == key) else { return Ok(()) };
        if !value.get().starts_with('{') {
            return Ok(());
        }
        let mut inner: Members = serde_json::from_str(value.get())?;
        inner.0.retain(|(name, _)| !names.contains(&name.as_str()));
        *value = serde_json::value::to_raw_value(&inner)?;
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYLOAD: &str = r#"{"id":"evt_1","properties":{"values":{"b":1.0,"a":null},"buttonName":"x"},"platformContext":{"isTest":false,"eventDetail":{"z":"1"},"payloadMetadata":{},"eventNotificationDetail":{},"flowVersion":3}}"#;

    #[test]
    fn nothing_to_omit_borrows_the_bytes() {
        assert!(matches!(Omit::default().from_payload(PAYLOAD).unwrap(), Cow::Borrowed(same) if same == PAYLOAD));
    }

    #[test]
    fn parts_are_left_out_and_the_order_stays() {
        let both = Omit { request_payload: true, card_response: true };
        assert_eq!(
            both.from_payload(PAYLOAD).unwrap(),
            r#"{"id":"evt_1","properties":{"buttonName":"x"},"platformContext":{"isTest":false,"flowVersion":3}}"#
        );
        let response = Omit { card_response: true, ..Omit::default() };
        assert!(response.from_payload(PAYLOAD).unwrap().contains(r#""eventDetail":{"z":"1"}"#));
        let request = Omit { request_payload: true, ..Omit::default() };
        assert!(request.from_payload(PAYLOAD).unwrap().contains(r#"{"b":1.0,"a":null}"#));
    }

    #[test]
    fn an_envelope_without_the_parts_stays_whole() {
        let both = Omit { request_payload: true, card_response: true };
        assert_eq!(
            both.from_payload(r#"{"id":"evt_1","properties":null}"#).unwrap(),
            r#"{"id":"evt_1","properties":null}"#
        );
    }
}
