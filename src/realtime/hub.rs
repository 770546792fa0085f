//! Who listens to which feed in this process.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Announcement;
use crate::ids::{ContainerId, CustomerId, EnvId};

/// The listeners of this process.
#[derive(Clone, Default)]
pub struct Hub {
    feeds: Arc<Mutex<HashMap<(EnvId, CustomerId), Vec<Arc<Notify>>>>>,
    containers: Arc<Mutex<HashMap<(EnvId, ContainerId), Vec<Arc<Notify>>>>>,
}

impl Hub {
    /// Passes a hint on to those whom it concerns.
    pub fn announce(&self, announcement: &Announcement) {
        match announcement {
            Announcement::Feed { env, customer, .. } => {
                for listener in self.feeds.lock().get(&(*env, *customer)).into_iter().flatten() {
                    listener.notify_one();
                }
            }
            Announcement::Container { env, container } => {
                for listener in self.containers.lock().get(&(*env, *container)).into_iter().flatten() {
                    listener.notify_one();
                }
            }
            Announcement::Wake(_) => {}
        }
    }
}
