//! Feed messages as text, by a selection that is laid out: what the engine would write, without executing a document
//! for each subscriber and message.
//!
//! One `entry` for each type names the fields that the schema gives it; a test holds them against the schema and
//! against what the engine writes.

use async_graphql::resolver_utils::EnumType;
use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};

use super::feed::{
    FeedCard, FeedCardMetadata, FeedPatch, FeedRemoval, FeedResync, FeedSnapshot, FeedUpdate, FeedUpsert,
};
use crate::graphql::transport::{Field, Root, Selection};

/// The `data` of a message.
pub fn data(update: &FeedUpdate, root: &Root) -> serde_json::Result<String> {
    struct Data<'a>(&'a FeedUpdate, &'a Root);

    impl Serialize for Data<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let Data(update, Root { key, selection, .. }) = self;
            let mut data = serializer.serialize_map(Some(1))?;
            match update {
                FeedUpdate::Snapshot(of) => data.serialize_entry(key, &Selected { of, selection })?,
                FeedUpdate::Patch(of) => data.serialize_entry(key, &Selected { of, selection })?,
                FeedUpdate::Resync(of) => data.serialize_entry(key, &Selected { of, selection })?,
            }
            data.end()
        }
    }

    serde_json::to_string(&Data(update, root))
}

/// An object whose fields can be asked for.
trait Object {
    /// Its own name, and those of the unions it is in.
    const NAMES: &'static [&'static str];

    /// Writes one field.
    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error>;
}

/// An object with what is asked of it.
struct Selected<'a, T> {
    of: &'a T,
    selection: &'a Selection,
}

impl<T: Object> Serialize for Selected<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for field in self.selection.of(T::NAMES) {
            match &*field.name {
                "__typename" => map.serialize_entry(&field.key, T::NAMES[0])?,
                _ => self.of.entry(field, &mut map)?,
            }
        }
        map.end()
    }
}

/// A list of objects with what is asked of each.
struct Each<'a, T> {
    of: &'a [T],
    selection: &'a Selection,
}

impl<T: Object> Serialize for Each<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.of.iter().map(|of| Selected { of, selection: self.selection }))
    }
}

/// The name of a value in the schema.
fn name<E: EnumType>(value: E) -> Option<&'static str> {
    E::items().iter().find(|item| item.value == value).map(|item| item.name)
}

fn unknown<M: SerializeMap>(field: &Field) -> Result<(), M::Error> {
    Err(M::Error::custom(format!("no text is known for the field {}", field.name)))
}

impl Object for FeedSnapshot {
    const NAMES: &'static [&'static str] = &["FeedSnapshot", "FeedUpdate"];

    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error> {
        let Field { key, selection, .. } = field;
        match &*field.name {
            "version" => map.serialize_entry(key, &self.version),
            "cards" => map.serialize_entry(key, &Each { of: &self.cards, selection }),
            "visibleCount" => map.serialize_entry(key, &self.visible_count),
            "totalCount" => map.serialize_entry(key, &self.total_count),
            "unseenCardIds" => map.serialize_entry(key, &self.unseen_card_ids),
            "resumeToken" => map.serialize_entry(key, &self.resume_token),
            _ => unknown::<M>(field),
        }
    }
}

impl Object for FeedPatch {
    const NAMES: &'static [&'static str] = &["FeedPatch", "FeedUpdate"];

    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error> {
        let Field { key, selection, .. } = field;
        match &*field.name {
            "from" => map.serialize_entry(key, &self.from),
            "to" => map.serialize_entry(key, &self.to),
            "upserts" => map.serialize_entry(key, &Each { of: &self.upserts, selection }),
            "removals" => map.serialize_entry(key, &Each { of: &self.removals, selection }),
            "visibleCount" => map.serialize_entry(key, &self.visible_count),
            "totalCount" => map.serialize_entry(key, &self.total_count),
            "unseenCardIds" => map.serialize_entry(key, &self.unseen_card_ids),
            "resumeToken" => map.serialize_entry(key, &self.resume_token),
            _ => unknown::<M>(field),
        }
    }
}

impl Object for FeedResync {
    const NAMES: &'static [&'static str] = &["FeedResync", "FeedUpdate"];

    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error> {
        match &*field.name {
            "reason" => map.serialize_entry(&field.key, &name(self.reason)),
            "resumeToken" => map.serialize_entry(&field.key, &self.resume_token),
            _ => unknown::<M>(field),
        }
    }
}

impl Object for FeedUpsert {
    const NAMES: &'static [&'static str] = &["FeedUpsert"];

    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error> {
        let Field { key, selection, .. } = field;
        match &*field.name {
            "card" => map.serialize_entry(key, &Selected { of: &self.card, selection }),
            "position" => map.serialize_entry(key, &self.position),
            "reason" => map.serialize_entry(key, &name(self.reason)),
            _ => unknown::<M>(field),
        }
    }
}

impl Object for FeedRemoval {
    const NAMES: &'static [&'static str] = &["FeedRemoval"];

    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error> {
        match &*field.name {
            "cardId" => map.serialize_entry(&field.key, &self.card_id),
            "reason" => map.serialize_entry(&field.key, &name(self.reason)),
            _ => unknown::<M>(field),
        }
    }
}

impl Object for FeedCard {
    const NAMES: &'static [&'static str] = &["FeedCard"];

    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error> {
        let Field { key, selection, .. } = field;
        match &*field.name {
            "id" => map.serialize_entry(key, &self.0.id),
            "status" => map.serialize_entry(key, "active"),
            "created" => map.serialize_entry(key, &self.0.created),
            "lifecycleId" => map.serialize_entry(key, &self.0.lifecycle),
            "topCard" => map.serialize_entry(key, &self.0.top_card.0),
            "subviews" => map.serialize_entry(key, &self.0.subviews.0),
            "actions" => map.serialize_entry(key, &self.0.actions.0),
            "metadata" => map.serialize_entry(key, &Selected { of: &FeedCardMetadata(&self.0), selection }),
            "runtimeVariables" => map.serialize_entry(key, &self.0.runtime_variables.0),
            "isTest" => map.serialize_entry(key, &self.0.is_test),
            "unseen" => map.serialize_entry(key, &self.0.unseen),
            _ => unknown::<M>(field),
        }
    }
}

impl Object for FeedCardMetadata<'_> {
    const NAMES: &'static [&'static str] = &["FeedCardMetadata"];

    fn entry<M: SerializeMap>(&self, field: &Field, map: &mut M) -> Result<(), M::Error> {
        let key = &field.key;
        match &*field.name {
            "priority" => map.serialize_entry(key, &self.0.priority),
            "activeSince" => map.serialize_entry(key, &self.0.active_since),
            "updated" => map.serialize_entry(key, &self.0.updated),
            "expires" => map.serialize_entry(key, &self.0.expires),
            "payload" => map.serialize_entry(key, &self.0.payload.as_ref().map(|payload| &payload.0)),
            _ => unknown::<M>(field),
        }
    }
}

#[cfg(test)]
mod tests;
