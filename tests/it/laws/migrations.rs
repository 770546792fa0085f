//! Migrations go up, down and up again; constraints have names we chose; foreign keys are indexed; tables explained.

use cardwire::db::migrations;

use crate::support::TestApp;
use crate::support::database::TestDatabase;

#[tokio::test(flavor = "multi_thread")]
async fn migrations_go_both_ways() {
    let database = TestDatabase::create_empty().await;
    let applied = migrations::run(&database.url).await.unwrap();
    assert_eq!(migrations::revert_all(&database.url).await.unwrap(), applied.len());
    assert_eq!(migrations::run(&database.url).await.unwrap().len(), applied.len());
    assert!(!migrations::pending(&database.url).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn constraints_are_named_after_table_columns_and_kind() {
    let test = TestApp::start().await;
    let strays = test
        .column(
            "SELECT c.conname::text AS value FROM pg_constraint c
             JOIN pg_class t ON t.oid = c.conrelid
             WHERE c.connamespace = 'public'::regnamespace AND NOT t.relispartition
               AND t.relname NOT LIKE '\\_\\_diesel%'
               AND NOT (c.conname LIKE t.relname || '\\_%' AND c.conname ~ '_(pkey|key|fkey|check)$')",
        )
        .await;
    assert_eq!(strays, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_are_indexed() {
    let test = TestApp::start().await;
    let bare = test
        .column(
            "SELECT c.conname::text AS value FROM pg_constraint c
             JOIN pg_class t ON t.oid = c.conrelid
             WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace AND NOT t.relispartition
               AND NOT EXISTS (
                   SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid
                     AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)",
        )
        .await;
    assert_eq!(bare, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_says_what_it_is_for() {
    let test = TestApp::start().await;
    let silent = test
        .column(
            "SELECT relname::text AS value FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
               AND relname NOT LIKE '\\_\\_diesel%' AND obj_description(oid, 'pg_class') IS NULL",
        )
        .await;
    assert_eq!(silent, Vec::<String>::new());
}
