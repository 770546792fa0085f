//! Hints as bytes: a format, the node that speaks, and hints of a fixed length each.

use uuid::Uuid;

use crate::ids::Id;
use crate::realtime::{Announcement, Work};

const FORMAT: u8 = 1;
const FEED: u8 = 1;
const CONTAINER: u8 = 2;
const WAKE: u8 = 3;
/// Format and node.
pub const HEAD: usize = 1 + 8;
/// Kind, two ids, a number.
pub const HINT: usize = 1 + 16 + 16 + 8;

pub fn write(node: u64, hints: &[Announcement]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + hints.len() * HINT);
    bytes.push(FORMAT);
    bytes.extend(node.to_be_bytes());
    for hint in hints {
        let (kind, first, second, number) = match hint {
            Announcement::Feed { env, customer, version } => (FEED, env.uuid(), customer.uuid(), *version),
            Announcement::Container { env, container } => (CONTAINER, env.uuid(), container.uuid(), 0),
            Announcement::Wake(work) => (WAKE, Uuid::nil(), Uuid::nil(), *work as i64),
        };
        bytes.push(kind);
        bytes.extend(first.as_bytes());
        bytes.extend(second.as_bytes());
        bytes.extend(number.to_be_bytes());
    }
    bytes
}

/// The node and its hints. `None` for what another version of the server may have said.
pub fn read(bytes: &[u8]) -> Option<(u64, Vec<Announcement>)> {
    let (head, hints) = bytes.split_at_checked(HEAD)?;
    if head[0] != FORMAT || hints.len() % HINT != 0 {
        return None;
    }
    let node = u64::from_be_bytes(head[1..].try_into().ok()?);
    let hints = hints.chunks_exact(HINT).map(hint).collect::<Option<_>>()?;
    Some((node, hints))
}

fn hint(bytes: &[u8]) -> Option<Announcement> {
    let first = Uuid::from_slice(&bytes[1..17]).ok()?;
    let second = Uuid::from_slice(&bytes[17..33]).ok()?;
    let number = i64::from_be_bytes(bytes[33..].try_into().ok()?);
    match bytes[0] {
        FEED => {
            Some(Announcement::Feed { env: Id::from_uuid(first), customer: Id::from_uuid(second), version: number })
        }
        CONTAINER => Some(Announcement::Container { env: Id::from_uuid(first), container: Id::from_uuid(second) }),
        WAKE => Work::ALL.into_iter().find(|work| *work as i64 == number).map(Announcement::Wake),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    #[test]
    fn hints_come_as_they_went() {
        let ids = Ids::seeded(1);
        let mut hints = vec![
            Announcement::Feed { env: ids.unguessable(), customer: ids.unguessable(), version: i64::MAX },
            Announcement::Container { env: ids.unguessable(), container: ids.unguessable() },
        ];
        hints.extend(Work::ALL.map(Announcement::Wake));
        let bytes = write(7, &hints);
        assert_eq!(bytes.len(), HEAD + hints.len() * HINT);
        assert_eq!(read(&bytes), Some((7, hints)));
        assert_eq!(read(&write(8, &[])), Some((8, Vec::new())));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for bytes in [&b""[..], b"\x02\0\0\0\0\0\0\0\0", b"\x01\0\0", &[1; HEAD + 1], &[9; HEAD + HINT]] {
            assert_eq!(read(bytes), None);
        }
        let mut unknown = write(1, &[Announcement::Wake(Work::Flows)]);
        unknown[HEAD] = 77;
        assert_eq!(read(&unknown), None);
    }
}
