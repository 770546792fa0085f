//! Where a client stands in a feed, and the sealed text in which it carries that with it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::View;
use crate::app::App;
use crate::ids::{CardId, Id, StreamId};
use crate::secret::{hmac_sha256, same};

const FORMAT: u8 = 2;
const SEAL: usize = 16;
/// Format, epoch, version, number, total, stream, exposed.
const FIXED: usize = 1 + 8 + 8 + 8 + 8 + 16 + 1;

/// What a client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// 0 while the customer's feed never changed.
    pub(super) epoch: i64,
    /// The version of the customer's feed at which it was read.
    pub(super) version: i64,
    /// The version that the client was told: `version` and the changes of the container and its stream.
    pub(super) number: i64,
    pub(super) total: i64,
    pub(super) stream: StreamId,
    /// Whether the cards came with the metadata of their start requests.
    pub(super) exposed: bool,
    /// The cards that the client shows, in order.
    pub(super) held: Arc<[CardId]>,
}

impl Cursor {
    /// The version that the client was told.
    pub fn number(&self) -> i64 {
        self.number
    }

    /// The version of the customer's feed at which it was read.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Whether a client that stands here holds what one holds that stands there.
    pub(super) fn holds_what(&self, other: &Cursor) -> bool {
        (self.number, self.epoch, self.total, self.stream) == (other.number, other.epoch, other.total, other.stream)
            && self.exposed == other.exposed
            && self.held == other.held
    }

    /// Seals the cursor for the client of a view. It opens only for the same customer, container, platform and
    /// filter.
    pub fn seal(&self, app: &App, view: &View) -> String {
        let mut bytes = Vec::with_capacity(FIXED + self.held.len() * 16 + SEAL);
        bytes.push(FORMAT);
        for number in [self.epoch, self.version, self.number, self.total] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(self.stream.uuid().as_bytes());
        bytes.push(u8::from(self.exposed));
        for card in self.held.iter() {
            bytes.extend(card.uuid().as_bytes());
        }
        let seal = seal(&key(app), view, &bytes);
        bytes.extend(seal);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Opens a token. `None`: it is not one of ours, or it is of another feed.
    pub fn open(app: &App, view: &View, token: &str) -> Option<Cursor> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, given) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
        if !same(&seal(&key(app), view, body), given) {
            return None;
        }
        Cursor::decode(body)
    }

    fn decode(body: &[u8]) -> Option<Cursor> {
        let (fixed, held) = body.split_at_checked(FIXED)?;
        let (format, fixed) = fixed.split_first()?;
        let (numbers, stream) = fixed.split_at_checked(32)?;
        let (exposed, stream) = stream.split_last()?;
        if *format != FORMAT || held.len() % 16 != 0 {
            return None;
        }
        let number = |index: usize| Some(i64::from_be_bytes(numbers.get(index * 8..index * 8 + 8)?.try_into().ok()?));
        let card = |bytes: &[u8]| uuid::Uuid::from_slice(bytes).ok().map(CardId::from_uuid);
        Some(Cursor {
            epoch: number(0)?,
            version: number(1)?,
            number: number(2)?,
            total: number(3)?,
            stream: StreamId::from_uuid(uuid::Uuid::from_slice(stream).ok()?),
            exposed: *exposed == 1,
            held: held.chunks_exact(16).map(card).collect::<Option<_>>()?,
        })
    }
}

fn key(app: &App) -> [u8; 32] {
    app.vault().derive("feed resume token")
}

/// Binds the text to the view. Lengths keep one part from passing for another.
fn seal(key: &[u8; 32], view: &View, body: &[u8]) -> [u8; SEAL] {
    let platform = view.platform.as_deref().unwrap_or_default();
    let lengths = [platform.len().to_be_bytes(), view.filter.canonical().len().to_be_bytes()].concat();
    let mac = hmac_sha256(
        key,
        &[
            view.env.uuid().as_bytes(),
            view.customer.uuid().as_bytes(),
            view.container.uuid().as_bytes(),
            &lengths,
            platform.as_bytes(),
            view.filter.canonical().as_bytes(),
            body,
        ],
    );
    let mut seal = [0; SEAL];
    seal.copy_from_slice(&mac[..SEAL]);
    seal
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cards::filter::{CardFilter, Filter};
    use crate::ids::Ids;

    #[test]
    fn a_cursor_opens_for_its_own_view_only() {
        let ids = Ids::seeded(1);
        let view = View {
            env: ids.unguessable(),
            customer: ids.unguessable(),
            key: ids.unguessable(),
            container: ids.unguessable(),
            platform: Some("Web".into()),
            filter: Filter::default(),
        };
        let cursor = Cursor {
            epoch: 3,
            version: 7,
            number: 8,
            total: 2,
            stream: ids.unguessable(),
            exposed: true,
            held: [ids.unguessable(), ids.unguessable()].into(),
        };
        let mut body = vec![FORMAT];
        for number in [3_i64, 7, 8, 2] {
            body.extend(number.to_be_bytes());
        }
        body.extend(cursor.stream.uuid().as_bytes());
        body.push(1);
        for card in cursor.held.iter() {
            body.extend(card.uuid().as_bytes());
        }
        assert_eq!(Cursor::decode(&body), Some(cursor));
        assert_eq!(Cursor::decode(&body[..body.len() - 1]), None);
        let sealed = seal(&[1; 32], &view, &body);
        let other = |change: &dyn Fn(&mut View)| {
            let mut other = view.clone();
            change(&mut other);
            seal(&[1; 32], &other, &body)
        };
        let filter = CardFilter { field: "priority".into(), op: "eq".into(), value: json!(1) };
        assert_eq!(sealed, other(&|_| {}));
        assert_ne!(sealed, other(&|view| view.platform = None));
        assert_ne!(sealed, other(&|view| view.customer = ids.unguessable()));
        assert_ne!(sealed, other(&|view| view.container = ids.unguessable()));
        assert_ne!(sealed, other(&|view| view.filter = Filter::parse(std::slice::from_ref(&filter)).unwrap()));
    }
}
