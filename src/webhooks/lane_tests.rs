//! What lanes do with outcomes, without a database or a receiver.

use http::{HeaderMap, Method};

use super::*;
use crate::events::trim::Omit;
use crate::ids::{Id, Ids};
use crate::secret::Secret;
use crate::webhooks::sign::{Encoding, Secrets, Signer};

fn now() -> Time {
    Time::from_millisecond(1_767_225_600_000)
}

fn id<T: Id>(seed: u64) -> T {
    Ids::seeded(seed).make(now())
}

fn target(batched: bool, max_retries: u32) -> Target {
    let secrets = Secrets { current: Secret::new("x".repeat(24)), previous: None };
    Target {
        env: id(1),
        webhook: id(2),
        method: Method::POST,
        url: "https://example.com/".parse().unwrap(),
        headers: HeaderMap::new(),
        signer: Signer { secrets, header: "x-cardwire-signature".into(), encoding: Encoding::Hex },
        credential: None,
        omit: Omit::default(),
        mapping: None,
        batched,
        max_retries,
        disable_after_failures: true,
    }
}

fn lane_of(target: Target, rows: i64) -> Lane {
    let claimed = Claimed {
        environment_id: id(1),
        webhook_id: id(2),
        lease: Uuid::nil(),
        head: rows,
        cursor: 0,
        open: Vec::new(),
        failures: 0,
        revision: 1,
        retry_at: None,
        tally: Tally::default(),
    };
    let mut lane = Lane::new(claimed, id(3), target, now());
    lane.load((1..=rows).map(row).collect(), usize::MAX);
    lane
}

fn lane(rows: i64) -> Lane {
    lane_of(target(false, 22), rows)
}

fn row(seq: i64) -> Waiting {
    let event_id = id(u64::try_from(seq).unwrap());
    Waiting { webhook_id: id(2), seq, event_id, received_at: now(), payload: Some(format!("{{\"seq\":{seq}}}")) }
}

fn begin_all(lane: &mut Lane, now: Time) -> Vec<Job> {
    std::iter::from_fn(|| lane.next(now)).collect()
}

fn status(status: u16) -> Answer {
    Answer { status: Some(status), ..Answer::default() }
}

fn postponed(effects: &[Effect]) -> Vec<(i64, i32, u64)> {
    let postponed = effects.iter().filter_map(|effect| match effect {
        Effect::Postpone(retry) => Some(retry),
        _ => None,
    });
    postponed.map(|retry| (retry.seq, retry.attempts, retry.due_at.since(now()).as_secs())).collect()
}

fn disabled(effects: &[Effect]) -> Option<Reason> {
    effects.iter().find_map(|effect| if let Effect::Disable(reason) = effect { Some(*reason) } else { None })
}

#[test]
fn success_moves_the_cursor_and_the_end_gives_the_stream_back() {
    let mut lane = lane(3);
    let mut jobs = begin_all(&mut lane, now());
    assert_eq!(jobs.len(), 3);
    assert!(lane.settle(&jobs.remove(2), &status(200), now(), 0.5).is_empty());
    let advance = lane.advance(now()).unwrap();
    assert_eq!((advance.cursor, advance.open, advance.release), (3, vec![1, 2], false));
    for job in jobs {
        lane.settle(&job, &status(204), now(), 0.5);
    }
    let advance = lane.advance(now()).unwrap();
    assert_eq!((advance.cursor, advance.open, advance.release), (3, vec![], true));
}

#[test]
fn the_failures_of_one_outage_count_once() {
    let mut lane = lane(8);
    let jobs = begin_all(&mut lane, now());
    assert_eq!(jobs.len(), 8);
    for job in jobs {
        let seq = job.seqs[0];
        assert_eq!(postponed(&lane.settle(&job, &status(500), now(), 0.5)), [(seq, 1, 5)]);
    }
    assert_eq!(lane.failures, 1);
    let advance = lane.advance(now()).unwrap();
    assert!(advance.release && advance.open.is_empty());
    assert_eq!(advance.paused_until, Some(now().plus(Duration::from_secs(5))));
}

#[test]
fn after_a_failure_one_request_at_a_time_until_a_success() {
    let mut lane = lane(30);
    let mut first = begin_all(&mut lane, now());
    lane.settle(&first.remove(0), &status(500), now(), 0.5);
    assert!(lane.next(now()).is_none());
    first.into_iter().for_each(|job| drop(lane.settle(&job, &Answer::failed("timeout"), now(), 0.5)));
    let later = now().plus(Duration::from_secs(5));
    let probe = lane.next(later).unwrap();
    assert!(lane.next(later).is_none());
    lane.settle(&probe, &status(500), later, 0.5);
    assert_eq!(lane.paused_until, Some(later.plus(Duration::from_secs(10))));
    let later = later.plus(Duration::from_secs(10));
    let probe = lane.next(later).unwrap();
    lane.settle(&probe, &status(200), later, 0.5);
    assert_eq!(lane.failures, 0);
    assert!(begin_all(&mut lane, later).len() > 1);
}

#[test]
fn twenty_three_consecutive_failures_disable() {
    let mut lane = lane(100);
    let mut at = now();
    for count in 1..=23 {
        let job = lane.next(at).unwrap();
        let rest = begin_all(&mut lane, at);
        let effects = lane.settle(&job, &status(500), at, 0.5);
        rest.into_iter().for_each(|job| drop(lane.settle(&job, &status(500), at, 0.5)));
        assert_eq!(disabled(&effects), (count == 23).then_some(Reason::Failures), "{count}");
        at = lane.paused_until.unwrap();
    }
    assert!(lane.next(at).is_none(), "it begins nothing more");
    assert!(lane.advance(at).unwrap().release);
}

#[test]
fn gone_disables_at_once_and_one_attempt_may_be_all() {
    let mut gone = lane(2);
    let job = gone.next(now()).unwrap();
    assert_eq!(disabled(&gone.settle(&job, &status(410), now(), 0.5)), Some(Reason::Gone));
    let mut strict = lane_of(target(false, 0), 2);
    let job = strict.next(now()).unwrap();
    let effects = strict.settle(&job, &status(302), now(), 0.5);
    assert_eq!(disabled(&effects), Some(Reason::Failures));
    assert!(postponed(&effects).is_empty());
}

#[test]
fn an_event_is_given_up_after_its_own_attempts() {
    for (attempts, kept) in [(1, true), (2, false)] {
        let mut lane = lane_of(Target { disable_after_failures: false, ..target(false, 2) }, 0);
        let retry = Retry { environment_id: id(1), webhook_id: id(2), seq: 7, seqs: vec![7], attempts, due_at: now() };
        assert!(lane.load_retries(vec![(retry, vec![row(7)])]).is_empty());
        lane.paused_until = None;
        let job = lane.next(now()).unwrap();
        let effects = lane.settle(&job, &status(500), now(), 0.5);
        assert_eq!(!postponed(&effects).is_empty(), kept, "{attempts}");
        assert_eq!(matches!(effects[..], [Effect::Finish(Numbered { seq: 7, .. })]), !kept);
        assert_eq!(disabled(&effects), None);
    }
}

#[test]
fn a_receiver_may_ask_for_a_longer_pause() {
    let mut lane = lane(1);
    let job = lane.next(now()).unwrap();
    let mut answer = status(503);
    answer.headers.insert("retry-after", "120".parse().unwrap());
    assert_eq!(postponed(&lane.settle(&job, &answer, now(), 0.5)), [(1, 1, 120)]);
    assert_eq!(lane.paused_until, Some(now().plus(Duration::from_secs(120))));
}

fn saved(lane: &mut Lane, now: Time) {
    lane.saved(&Advanced { webhook_id: id(2), revision: 1, retry_at: None }, now);
}

#[test]
fn batches_wait_for_a_hundred_or_five_seconds() {
    let mut lane = lane_of(target(true, 22), 130);
    assert_eq!(postponed(&lane.form(now())), [(1, 0, 0)]);
    let later = now().plus(BATCH_WAIT);
    assert_eq!(lane.form(later).len(), 1, "the rest after its time");
    let mut young = lane_of(target(true, 22), 3);
    assert!(young.form(now()).is_empty());
    let advance = young.advance(now()).unwrap();
    assert!(advance.release);
    assert_eq!((advance.cursor, advance.ready_at), (0, Some(later)));
}

#[test]
fn a_batch_begins_when_it_is_written_down() {
    let mut lane = lane_of(target(true, 22), 130);
    lane.form(now());
    assert!(lane.next(now()).is_none(), "not before");
    let advance = lane.advance(now()).unwrap();
    assert_eq!((advance.cursor, &advance.open, advance.release), (100, &vec![], false));
    lane.not_saved();
    assert!(lane.next(now()).is_none(), "nor when that fails");
    lane.advance(now()).unwrap();
    saved(&mut lane, now());
    let job = lane.next(now()).unwrap();
    assert_eq!(job.seqs, (1..=100).collect::<Vec<_>>());
    assert!(matches!(lane.settle(&job, &status(200), now(), 0.5)[..], [Effect::Finish(Numbered { seq: 1, .. })]));
    assert_eq!(lane.advance(now()).unwrap().tally, Tally { delivered: 100, ..Tally::default() });
}

#[test]
fn whoever_takes_over_sends_the_same_batches() {
    // A batch of two, formed after its five seconds, is a row like a failed request.
    let mut first = lane_of(target(true, 22), 2);
    let Some(Effect::Postpone(written)) = first.form(now().plus(BATCH_WAIT)).pop() else { panic!("no batch") };
    let cursor = first.advance(now()).unwrap().cursor;
    let mut second = lane_of(target(true, 22), 0);
    second.ledger = Ledger::new(cursor, &[]);
    second.load((cursor + 1..=cursor + 120).map(row).collect(), 120);
    second.load_retries(vec![(written, vec![row(1), row(2)])]);
    assert_eq!(second.next(now()).unwrap().seqs, [1, 2], "not mixed with what came later");
    second.form(now());
    assert_eq!(second.formed[0].seqs, (3..=102).collect::<Vec<_>>());
}

#[test]
fn what_is_delivered_again_is_not_read_again_before_that_is_saved() {
    let mut lane = lane(1);
    let retry =
        || Retry { environment_id: id(1), webhook_id: id(2), seq: 7, seqs: vec![7], attempts: 1, due_at: now() };
    lane.load_retries(vec![(retry(), vec![row(7)])]);
    let job = lane.next(now()).unwrap();
    assert!(lane.next(now()).is_some(), "another goes on beside it");
    lane.settle(&job, &status(200), now(), 0.5);
    lane.load_retries(vec![(retry(), vec![row(7)])]);
    assert!(lane.next(now()).is_none(), "the row is still there, but its outcome is known");
    lane.advance(now()).unwrap();
    saved(&mut lane, now());
    lane.load_retries(vec![(retry(), vec![row(7)])]);
    assert!(lane.next(now()).is_some());
}

#[test]
fn nothing_begins_while_the_end_is_saved() {
    let mut lane = lane(0);
    let advance = lane.advance(now()).unwrap();
    assert!(advance.release);
    lane.load(vec![row(1)], 1);
    assert!(lane.next(now()).is_none());
    lane.not_saved();
    assert!(lane.next(now()).is_some());
}

#[test]
fn nothing_begins_while_the_stream_may_be_anothers() {
    // The database went away with the answer: perhaps the stream was given back.
    let mut lane = lane(1);
    let job = lane.next(now()).unwrap();
    lane.settle(&job, &status(200), now(), 0.5);
    let given_back = lane.advance(now()).unwrap();
    lane.not_saved();
    lane.doubt();
    lane.look_again();
    assert_eq!(lane.wants(now()), None);
    lane.load(vec![row(2)], 1);
    assert!(lane.next(now()).is_none());
    let again = lane.advance(now()).unwrap();
    assert_eq!(again.tally, given_back.tally, "what was perhaps saved is not counted twice");
    saved(&mut lane, now());
    assert_eq!(lane.next(now()).unwrap().seqs, [2]);
}

#[test]
fn a_lane_in_doubt_asks_even_when_nothing_changed() {
    let mut lane = lane(1);
    let job = lane.next(now()).unwrap();
    assert!(lane.advance(now()).is_none());
    lane.doubt();
    assert!(lane.advance(now()).is_some());
    drop(job);
}

#[test]
fn every_number_comes_to_one_end() {
    let mut lane = lane_of(target(false, 0), 0);
    lane.claimed.head = 9;
    lane.load(vec![row(3), Waiting { payload: None, ..row(4) }, row(5), row(6)], 9);
    let jobs = begin_all(&mut lane, now());
    for (job, code) in jobs.iter().zip([200, 200, 500]) {
        lane.settle(job, &status(code), now(), 0.5);
    }
    let tally = lane.advance(now()).unwrap().tally;
    assert_eq!(tally, Tally { delivered: 2, given_up: 1, dropped: 6 }, "1, 2, 4 and 7 to 9 had no row or no event");
}

#[test]
fn events_that_retention_took_are_passed_over() {
    let mut lane = lane(0);
    lane.load(vec![Waiting { payload: None, ..row(1) }, row(2)], 3);
    let job = lane.next(now()).unwrap();
    assert_eq!(job.seqs, [2]);
    lane.settle(&job, &status(200), now(), 0.5);
    assert_eq!(lane.advance(now()).unwrap().cursor, 2);
}

#[test]
fn a_changed_subscription_is_read_anew_when_nothing_is_under_way() {
    let mut lane = lane(50);
    let jobs = begin_all(&mut lane, now());
    lane.saved(&Advanced { webhook_id: id(2), revision: 2, retry_at: None }, now());
    assert!(lane.next(now()).is_none());
    jobs.into_iter().for_each(|job| drop(lane.settle(&job, &status(200), now(), 0.5)));
    let advance = lane.advance(now()).unwrap();
    assert!(advance.release);
    assert_eq!((advance.cursor, advance.open), (8, vec![]));
}
