//! What is written without the engine is what the engine writes.

use std::sync::Arc;

use async_graphql::parser::parse_query;
use async_graphql::parser::types::DocumentOperations;
use async_graphql::{EmptyMutation, EmptySubscription, Schema, Variables};
use proptest::prelude::*;
use serde_json::json;

use super::super::feed::{FeedRemovalReason, FeedResyncReason, FeedUpsertReason};
use super::*;
use crate::cards::feed::{Card, ResyncReason};
use crate::clock::Time;
use crate::db::StoredJson;
use crate::ids::Ids;

fn card(ids: &Ids, expires: Option<Time>) -> FeedCard {
    let json = |text: &str| StoredJson(serde_json::from_str(text).unwrap());
    let time = |text: &str| Time::parse(text).unwrap();
    FeedCard(Arc::new(Card {
        id: ids.unguessable(),
        created: time("2026-01-01T00:00:00Z"),
        lifecycle: ids.unguessable(),
        priority: 3,
        active_since: time("2026-01-02T00:00:00.125Z"),
        updated: time("2026-01-03T00:00:00Z"),
        expires,
        is_test: true,
        unseen: false,
        top_card: json(r#"{"elements":[{"type":"text","text":"Grüße \"A\"\n"}],"b":1,"a":1.50}"#),
        subviews: json("[]"),
        actions: json("{}"),
        runtime_variables: json(r#"[{"name":"x"}]"#),
        payload: expires.map(|_| json(r#"{"k":null}"#)),
    }))
}

fn updates() -> [FeedUpdate; 3] {
    let ids = Ids::seeded(7);
    let expires = Some(Time::parse("2026-02-01T00:00:00Z").unwrap());
    let snapshot = FeedSnapshot {
        version: 9_007_199_254_740_993,
        cards: vec![card(&ids, None), card(&ids, expires)],
        visible_count: 2,
        total_count: 3,
        unseen_card_ids: vec![ids.unguessable()],
        resume_token: "token".to_owned(),
    };
    let upsert = |reason, position| FeedUpsert { card: card(&ids, expires), position, reason };
    let removal = |reason| FeedRemoval { card_id: ids.unguessable(), reason };
    let patch = FeedPatch {
        from: 1,
        to: 2,
        upserts: FeedUpsertReason::items().iter().zip(0..).map(|(item, place)| upsert(item.value, place)).collect(),
        removals: FeedRemovalReason::items().iter().map(|item| removal(item.value)).collect(),
        visible_count: 0,
        total_count: -1,
        unseen_card_ids: Vec::new(),
        resume_token: String::new(),
    };
    let resync = FeedResync { reason: FeedResyncReason::from(ResyncReason::TooOld), resume_token: None };
    [FeedUpdate::Snapshot(snapshot), FeedUpdate::Patch(patch), FeedUpdate::Resync(resync)]
}

struct Query;

#[async_graphql::Object]
impl Query {
    async fn feed(&self, of: usize) -> Option<FeedUpdate> {
        updates().into_iter().nth(of)
    }
}

/// What the engine writes, and what is written without it.
async fn both(selection: &str, of: usize, variables: serde_json::Value) -> (String, String) {
    let query = format!(
        "query($yes: Boolean!) {{ news: feed(of: {of}) {{ {selection} {USES} always: __typename }} }} {FRAGMENTS}"
    );
    let document = parse_query(&query).unwrap();
    let DocumentOperations::Single(operation) = &document.operations else { panic!("one operation") };
    let variables = Variables::from_json(variables);
    let root = Root::of(&document, &operation.node, &variables).expect("a selection that can be laid out");
    let request = async_graphql::Request::new(&query).variables(variables);
    let answer = Schema::new(Query, EmptyMutation, EmptySubscription).execute(request).await;
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    let written = data(updates().get(of).unwrap(), &root).unwrap();
    (serde_json::to_string(&answer.data).unwrap(), written)
}

/// A document must use what it declares.
const USES: &str =
    "... on FeedSnapshot @skip(if: true) { cards { ...Card } } ... @include(if: $yes) { last: __typename }";
const FRAGMENTS: &str = "
    fragment Card on FeedCard { id metadata { ...Meta } topCard unseen }
    fragment Meta on FeedCardMetadata { priority expires }";
const CARD: &str = "__typename id status created lifecycleId topCard subviews actions runtimeVariables isTest unseen
    metadata { __typename priority activeSince updated expires payload }";

fn everything() -> String {
    let counts = "visibleCount totalCount unseenCardIds resumeToken";
    format!(
        "__typename
         ... on FeedSnapshot {{ version cards {{ {CARD} }} {counts} }}
         ... on FeedPatch {{ from to upserts {{ __typename card {{ {CARD} }} position reason }}
            removals {{ __typename cardId reason }} {counts} }}
         ... on FeedResync {{ reason resumeToken }}"
    )
}

#[tokio::test]
async fn every_field_is_written_as_the_engine_writes_it() {
    for of in 0..3 {
        let (engine, written) = both(&everything(), of, json!({ "yes": true })).await;
        assert_eq!(engine, written);
        assert!(engine.len() > 60);
    }
}

/// The selection of the test above names every field that the schema has.
#[test]
fn no_field_of_the_schema_is_forgotten() {
    let sdl = crate::graphql::schema::sdl();
    let selection = everything();
    let mut fields = 0;
    for kind in ["FeedSnapshot", "FeedPatch", "FeedResync", "FeedUpsert", "FeedRemoval", "FeedCard", "FeedCardMetadata"]
    {
        let body = sdl.split_once(&format!("\ntype {kind} {{")).expect(kind).1.split_once("\n}").unwrap().0;
        let names = body.lines().filter_map(|line| line.strip_prefix('\t')?.split_once(':').map(|(name, _)| name));
        for name in names.filter(|name| name.chars().all(char::is_alphanumeric)) {
            fields += 1;
            assert!(selection.split_whitespace().any(|word| word == name), "{kind}.{name}");
        }
    }
    assert!(fields > 35, "{fields}");
    // Only the message is of several types: fragments further down always hold.
    assert!(sdl.lines().filter(|line| line.starts_with("union ") && line.contains("Feed")).count() == 1);
}

/// Selections as clients write them: in any order, with aliases, fragments, switches and repetition.
fn selections() -> impl Strategy<Value = String> {
    let parts = prop::sample::select(vec![
        "__typename",
        "kind: __typename",
        "... on FeedSnapshot { version v: version cards { ...Card } }",
        "... on FeedSnapshot { cards { isTest other: topCard metadata { payload } ...Card } totalCount }",
        "... on FeedPatch { to from resumeToken upserts { card { ...Card id } } }",
        "... on FeedPatch { upserts { reason position @skip(if: $yes) } gone: removals { cardId } }",
        "... on FeedPatch { removals @include(if: $yes) { reason r: reason } __typename }",
        "... on FeedResync { resumeToken reason @include(if: false) }",
        "... { __typename ... on FeedResync { why: reason } }",
        "... @skip(if: $yes) { hidden: __typename }",
    ]);
    prop::collection::vec(parts, 1..8).prop_map(|parts| parts.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_selection_is_written_as_the_engine_writes_it(selection in selections(), of in 0_usize..3, yes: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (engine, written) = runtime.block_on(both(&selection, of, json!({ "yes": yes })));
        prop_assert_eq!(engine, written);
    }
}
