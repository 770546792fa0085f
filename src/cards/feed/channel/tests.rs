//! Several steps at once must do what they do one by one, and who rests must be told each once.

use futures_util::FutureExt;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::cards::feed::{Card, Counts, RemovalReason};
use crate::clock::Time;
use crate::db::StoredJson;
use crate::ids::Id;
use crate::realtime::Pushed;

fn card_id(number: u8) -> CardId {
    CardId::from_uuid(Uuid::from_u128(u128::from(number)))
}

fn json() -> StoredJson {
    StoredJson(serde_json::from_str("[]").unwrap())
}

/// A card whose priority tells which change it was made by.
fn card(number: u8, change: i16) -> Arc<Card> {
    let now = Time::from_millisecond(0);
    Arc::new(Card {
        id: card_id(number),
        created: now,
        lifecycle: Id::from_uuid(Uuid::nil()),
        priority: change,
        active_since: now,
        updated: now,
        expires: None,
        is_test: false,
        unseen: true,
        top_card: json(),
        subviews: json(),
        actions: json(),
        runtime_variables: json(),
        payload: None,
    })
}

fn cursor(number: i64, held: &[(CardId, i16)]) -> Cursor {
    let held = held.iter().map(|(card, _)| *card).collect();
    Cursor { epoch: 1, version: number, number, total: 0, stream: Id::from_uuid(Uuid::nil()), exposed: false, held }
}

/// What a client holds: cards in order, each as of some change.
fn apply(held: &mut Vec<(CardId, i16)>, patch: &Patch) {
    for removal in &patch.removals {
        let before = held.len();
        held.retain(|(card, _)| *card != removal.card);
        assert_eq!(held.len() + 1, before, "what is taken away was there");
    }
    held.retain(|(card, _)| !patch.upserts.iter().any(|upsert| upsert.card.id == *card));
    for upsert in &patch.upserts {
        held.insert(upsert.position, (upsert.card.id, upsert.card.priority));
    }
}

/// A step that takes some cards away and puts others in places of their own.
fn step(number: i64, held: &[(CardId, i16)], gone: &[u8], come: &[(u8, usize)]) -> (Step, Vec<(CardId, i16)>) {
    let change = i16::try_from(number).unwrap() + 1;
    let mut after: Vec<(CardId, i16)> = held.to_vec();
    after.retain(|(card, _)| !gone.iter().any(|number| card_id(*number) == *card));
    for (number, place) in come {
        after.retain(|(card, _)| *card != card_id(*number));
        after.insert((*place).min(after.len()), (card_id(*number), change));
    }
    let removals = held.iter().filter(|(card, _)| !after.iter().any(|(other, _)| other == card));
    let patch = Patch {
        from: number,
        to: number + 1,
        removals: removals.map(|(card, _)| Removal { card: *card, reason: RemovalReason::Dismiss }).collect(),
        upserts: after
            .iter()
            .enumerate()
            .filter(|(_, (_, changed))| *changed == change)
            .map(|(position, (id, _))| {
                let number = u8::try_from(id.uuid().as_u128()).unwrap();
                Upsert { card: card(number, change), position, reason: UpsertReason::Publish }
            })
            .collect(),
        counts: Counts { visible: 0, total: 0 },
        unseen: Vec::new(),
        cursor: cursor(number + 1, &after),
    };
    (Step::new(cursor(number, held), patch), after)
}

proptest! {
    #[test]
    fn merged_steps_do_what_they_do_one_by_one(
        changes in proptest::collection::vec(
            (
                proptest::collection::vec(0..8_u8, 0..3),
                proptest::collection::vec((0..8_u8, 0..6_usize), 0..4),
            ),
            1..12,
        ),
        skipped in 0..12_usize,
    ) {
        let (mut states, mut steps) = (vec![Vec::new()], Vec::new());
        for (number, (gone, come)) in changes.iter().enumerate() {
            let (step, after) = step(i64::try_from(number).unwrap(), &states[number], gone, come);
            steps.push(step);
            states.push(after);
        }
        let begin = skipped % steps.len();
        let merged = merge(steps[begin..].iter()).unwrap();
        let mut held = states[begin].clone();
        apply(&mut held, &merged.patch);
        prop_assert_eq!(&held, states.last().unwrap());
        prop_assert_eq!((merged.patch.from, merged.patch.to), (i64::try_from(begin).unwrap(), i64::try_from(steps.len()).unwrap()));
    }
}

/// A follower at rest that answers as it is told, and what it was told.
fn resting(at: i64, answers: Pushed) -> (Rest, Arc<Mutex<Vec<i64>>>) {
    let heard = Arc::<Mutex<Vec<i64>>>::default();
    let tell = {
        let heard = heard.clone();
        move |step: &Step| {
            heard.lock().push(step.patch.to);
            answers
        }
    };
    (Rest(Arc::new(Slot::new(cursor(at, &[]), Box::new(tell)))), heard)
}

/// From one number to another, with a card that comes and stays.
fn onward(from: i64, to: i64) -> Step {
    let (step, _) = step(from, &[], &[], &[]);
    let next = cursor(to, &[]);
    Step::new(step.from, Patch { to, cursor: next, ..step.patch })
}

#[test]
fn who_rests_is_told_each_step_once() {
    let (rest, heard) = resting(1, Pushed::Sent);
    assert!(rest.0.tell(&onward(1, 2)));
    assert!(rest.0.tell(&onward(1, 2)), "it has this one");
    assert!(rest.0.tell(&onward(2, 3)));
    assert_eq!(*heard.lock(), [2, 3]);
    let slot = rest.0.clone();
    drop(rest);
    assert!(!slot.tell(&onward(3, 4)) && !slot.rests(), "it has left");
    assert_eq!(*heard.lock(), [2, 3]);
}

#[test]
fn who_cannot_be_told_leaves_from_where_it_stands() {
    let cases = [
        (Pushed::Queued, onward(1, 2), 2, vec![2]),
        (Pushed::Refused, onward(1, 2), 1, vec![2]),
        // A step that begins elsewhere is not told.
        (Pushed::Sent, onward(2, 3), 1, vec![]),
    ];
    for (answer, step, stands, told) in cases {
        let (rest, heard) = resting(1, answer);
        assert!(!rest.0.tell(&step));
        let left = rest.left().now_or_never().unwrap();
        assert_eq!((left.number(), &*heard.lock()), (stands, &told));
    }
    let (rest, _) = resting(1, Pushed::Sent);
    let slot = rest.0.clone();
    let mut left = pin!(rest.left());
    assert!(left.as_mut().now_or_never().is_none());
    slot.rouse();
    assert_eq!(left.now_or_never().unwrap().number(), 1);
}
