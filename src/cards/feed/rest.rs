//! Followers at rest: they hold what their channel holds, and whoever reads on for it tells them the next step.
//!
//! A follower that cannot be told all of it at once leaves its rest: it is woken, and looks for itself from where it
//! stands. So a slow socket costs those who read one attempt, and a rest is never needed to be right, only to be fast.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;

use super::Cursor;
use super::channel::Step;
use crate::realtime::Pushed;

/// Tells a follower a step. It must not wait.
pub type Tell = Box<dyn Fn(&Step) -> Pushed + Send + Sync>;

/// The place of a follower among those who rest.
pub(super) struct Slot(Mutex<Place>);

struct Place {
    cursor: Cursor,
    /// `None`: it rests no more.
    tell: Option<Tell>,
    waker: Option<Waker>,
}

impl Slot {
    pub fn new(cursor: Cursor, tell: Tell) -> Slot {
        Slot(Mutex::new(Place { cursor, tell: Some(tell), waker: None }))
    }

    pub fn rests(&self) -> bool {
        self.0.lock().tell.is_some()
    }

    /// Tells the step, if it begins where the follower stands. Gives whether the follower has it and rests on.
    pub fn tell(&self, step: &Step) -> bool {
        let mut place = self.0.lock();
        let Some(tell) = &place.tell else { return false };
        if place.cursor.holds_what(&step.patch.cursor) {
            return true;
        }
        let pushed = if place.cursor.holds_what(&step.from) { tell(step) } else { Pushed::Refused };
        if pushed != Pushed::Refused {
            place.cursor = step.patch.cursor.clone();
        }
        let rests = pushed == Pushed::Sent;
        if !rests {
            // What a follower holds may end with it, and its end may ask for this lock.
            let left = (place.tell.take(), place.waker.take());
            drop(place);
            wake(left);
        }
        rests
    }

    /// Ends the rest: the follower must look for itself.
    pub fn rouse(&self) {
        let left = {
            let mut place = self.0.lock();
            (place.tell.take(), place.waker.take())
        };
        wake(left);
    }
}

fn wake((tell, waker): (Option<Tell>, Option<Waker>)) {
    drop(tell);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The rest of one follower. It ends when dropped: then nothing more is told.
pub struct Rest(pub(super) Arc<Slot>);

impl Rest {
    /// Waits until the follower must look for itself, and says where it stands then.
    pub async fn left(self) -> Cursor {
        poll_fn(|context| {
            let mut place = self.0.0.lock();
            if place.tell.is_none() {
                return Poll::Ready(place.cursor.clone());
            }
            if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                place.waker = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        let left = {
            let mut place = self.0.0.lock();
            place.waker = None;
            place.tell.take()
        };
        drop(left);
    }
}
