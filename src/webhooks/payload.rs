//! The body of a request: exactly the bytes that are signed and sent.

use sha2::{Digest, Sha256};

use crate::ids::{EnvId, EventId, Id, RequestId, WebhookId};

/// The most events one batch carries.
pub const BATCH: usize = 100;

/// What stands around the data.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    pub request: RequestId,
    pub env: EnvId,
    pub webhook: WebhookId,
}

impl Envelope {
    /// A body with one event.
    pub fn single(&self, event: &str) -> String {
        self.write(false, event)
    }

    /// A body with several events in a list.
    pub fn batch(&self, events: &[impl AsRef<str>]) -> String {
        let mut list = String::with_capacity(events.iter().map(|event| event.as_ref().len() + 1).sum::<usize>() + 2);
        list.push('[');
        for (index, event) in events.iter().enumerate() {
            if index > 0 {
                list.push(',');
            }
            list.push_str(event.as_ref());
        }
        list.push(']');
        self.write(true, &list)
    }

    fn write(&self, batched: bool, data: &str) -> String {
        let Envelope { request, env, webhook } = self;
        format!(
            r#"{{"requestId":"{request}","environmentId":"{env}","webhookId":"{webhook}","isBatched":{batched},"data":{data}}}"#
        )
    }
}

/// The id of the request that carries these events to this subscription.
///
/// Derived rather than drawn, so that a repeat after a crash has the same id without anything being stored before
/// the first attempt. It sorts by the first event.
pub fn request_id(webhook: WebhookId, events: &[EventId]) -> RequestId {
    let mut digest = Sha256::new();
    digest.update(webhook.uuid().as_bytes());
    for event in events {
        digest.update(event.uuid().as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    if let Some(first) = events.first() {
        bytes[..6].copy_from_slice(&first.uuid().as_bytes()[..6]);
    }
    RequestId::from_uuid(
        uuid::Builder::from_bytes(bytes)
            .with_variant(uuid::Variant::RFC4122)
            .with_version(uuid::Version::SortRand)
            .into_uuid(),
    )
}

/// The `webhook-id` of a request: the event's id, or that of the request when it carries a batch.
pub fn message_id(request: RequestId, event: Option<EventId>) -> String {
    event.map_or_else(|| request.to_string(), |event| event.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::ids::Ids;

    fn id<T: Id>(seed: u64) -> T {
        Ids::seeded(seed).make(Time::from_millisecond(1_767_225_600_000))
    }

    fn envelope() -> Envelope {
        Envelope { request: id(1), env: id(2), webhook: id(3) }
    }

    #[test]
    fn bodies_have_the_documented_members_in_their_order() {
        let Envelope { request, env, webhook } = envelope();
        assert_eq!(
            envelope().single(r#"{"id":"evt_1"}"#),
            format!(
                r#"{{"requestId":"{request}","environmentId":"{env}","webhookId":"{webhook}","isBatched":false,"data":{{"id":"evt_1"}}}}"#
            )
        );
        assert_eq!(
            envelope().batch(&["{}", r#"{"a":1}"#]),
            format!(
                r#"{{"requestId":"{request}","environmentId":"{env}","webhookId":"{webhook}","isBatched":true,"data":[{{}},{{"a":1}}]}}"#
            )
        );
    }

    #[test]
    fn the_stored_bytes_of_an_event_are_kept() {
        let stored = r#"{"z":1.0,"a":"\u00e9","n":1e3}"#;
        assert!(envelope().single(stored).ends_with(&format!("\"data\":{stored}}}")));
    }

    #[test]
    fn a_request_has_one_id_whoever_sends_it() {
        let events: Vec<EventId> = vec![id(5), id(6)];
        assert_eq!(request_id(id(3), &events), request_id(id(3), &events));
        assert_ne!(request_id(id(3), &events), request_id(id(4), &events));
        assert_ne!(request_id(id(3), &events), request_id(id(3), &events[..1]));
        assert_eq!(request_id(id(3), &events).uuid().get_version_num(), 7);
        assert_eq!(request_id(id(3), &events).uuid().as_bytes()[..6], events[0].uuid().as_bytes()[..6]);
    }

    #[test]
    fn message_ids() {
        let event: EventId = id(5);
        assert_eq!(message_id(id(1), Some(event)), event.to_string());
        assert_eq!(message_id(id(1), None), id::<RequestId>(1).to_string());
    }
}
