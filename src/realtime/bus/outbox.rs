//! What a node has announced and not yet told the others: a change of the same feed is one hint, the newest.

use std::collections::{HashMap, HashSet};

use crate::ids::{ContainerId, CustomerId, EnvId};
use crate::realtime::{Announcement, Work};

/// More than this is forgotten: the others find it by their sweeps, and the memory is bounded.
const MOST: usize = 20_000;

#[derive(Default)]
pub struct Outbox {
    feeds: HashMap<(EnvId, CustomerId), i64>,
    containers: HashSet<(EnvId, ContainerId)>,
    works: HashSet<Work>,
}

impl Outbox {
    pub fn put(&mut self, announcement: &Announcement) {
        match *announcement {
            Announcement::Wake(work) => {
                self.works.insert(work);
            }
            _ if self.feeds.len() + self.containers.len() >= MOST => {}
            Announcement::Feed { env, customer, version } => {
                let newest = self.feeds.entry((env, customer)).or_insert(version);
                *newest = version.max(*newest);
            }
            Announcement::Container { env, container } => {
                self.containers.insert((env, container));
            }
        }
    }

    /// Everything that was put in since the last call.
    pub fn take(&mut self) -> Vec<Announcement> {
        let feeds = self.feeds.drain().map(|((env, customer), version)| Announcement::Feed { env, customer, version });
        let containers = self.containers.drain().map(|(env, container)| Announcement::Container { env, container });
        feeds.chain(containers).chain(self.works.drain().map(Announcement::Wake)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;

    #[test]
    fn the_newest_version_of_a_feed_is_kept() {
        let ids = Ids::seeded(1);
        let (env, customer) = (ids.unguessable(), ids.unguessable());
        let mut outbox = Outbox::default();
        for version in [3, 7, 5] {
            outbox.put(&Announcement::Feed { env, customer, version });
        }
        outbox.put(&Announcement::Wake(Work::Flows));
        let taken = outbox.take();
        assert_eq!(taken, [Announcement::Feed { env, customer, version: 7 }, Announcement::Wake(Work::Flows)]);
        assert_eq!(outbox.take(), []);
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let ids = Ids::seeded(1);
        let mut outbox = Outbox::default();
        for version in 0..i64::try_from(MOST).unwrap() + 100 {
            outbox.put(&Announcement::Feed { env: ids.unguessable(), customer: ids.unguessable(), version });
        }
        assert_eq!(outbox.take().len(), MOST);
    }
}
