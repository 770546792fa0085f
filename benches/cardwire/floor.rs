//! What Postgres itself needs: the rows that runs have left, inserted once more and nothing else.

use std::time::Instant;

use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::subject::Subject;

const RUNS_TOGETHER: i64 = 200;
const CONNECTIONS: i64 = 2;

/// A table that a run leaves rows in, and how those `t` belong to the runs `r`.
pub const TABLES: &[(&str, &str)] = &[
    ("customers", "t.environment_id = r.environment_id AND t.id = r.customer_id"),
    ("invocations", "t.environment_id = r.environment_id AND t.run_id = r.id"),
    ("starts", "t.environment_id = r.environment_id AND t.lifecycle_id = r.lifecycle_id"),
    ("runs", "t.environment_id = r.environment_id AND t.id = r.id"),
    ("run_steps", "t.environment_id = r.environment_id AND t.run_id = r.id"),
    ("cards", "t.environment_id = r.environment_id AND t.run_id = r.id"),
    ("feed_heads", "t.environment_id = r.environment_id AND t.customer_id = r.customer_id"),
    ("feed_changes", "t.environment_id = r.environment_id AND t.customer_id = r.customer_id"),
    ("events", "t.environment_id = r.environment_id AND t.run_id = r.id"),
];

/// Inserts the rows of the runs of some customers again, into empty tables of the same form and indexes. Runs a second.
pub async fn rows_of_runs(subject: &Subject, customers: &str) -> f64 {
    let (client, _driver) = connect(subject).await;
    let numbered = format!(
        "DROP SCHEMA IF EXISTS floor CASCADE; CREATE SCHEMA floor;
         CREATE TABLE floor.numbered AS
             SELECT environment_id, id, customer_id, lifecycle_id, (row_number() OVER (ORDER BY id) - 1) / {RUNS_TOGETHER} AS part
             FROM runs WHERE user_id LIKE '{customers}';
         ANALYZE floor.numbered"
    );
    client.batch_execute(&numbered).await.unwrap();
    let mut inserts = Vec::new();
    for (table, rows) in TABLES {
        let written = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
             WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''";
        let columns: String = client.query_one(written, &[table]).await.unwrap().get(0);
        let prepare = format!(
            "{}
             CREATE TABLE floor.from_{table} AS SELECT r.part, t.* FROM floor.numbered r JOIN public.{table} t ON {rows};
             CREATE INDEX ON floor.from_{table} (part); ANALYZE floor.from_{table}",
            alike("floor", table, "INCLUDING ALL")
        );
        client.batch_execute(&prepare).await.unwrap();
        let insert =
            format!("INSERT INTO floor.{table} ({columns}) SELECT {columns} FROM floor.from_{table} WHERE part = $1");
        inserts.push(insert);
    }
    let runs: i64 = client.query_one("SELECT count(*) FROM floor.numbered", &[]).await.unwrap().get(0);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(connect(subject).await);
    }
    let began = Instant::now();
    let mut working = JoinSet::new();
    for (first, (mut client, driver)) in (0..).zip(clients) {
        let inserts = inserts.clone();
        working.spawn(async move {
            let mut prepared = Vec::new();
            for insert in &inserts {
                prepared.push(client.prepare(insert).await.unwrap());
            }
            for part in (first..=runs / RUNS_TOGETHER).step_by(usize::try_from(CONNECTIONS).unwrap()) {
                let transaction = client.transaction().await.unwrap();
                for statement in &prepared {
                    transaction.execute(statement, &[&part]).await.unwrap();
                }
                transaction.commit().await.unwrap();
            }
            drop(driver);
        });
    }
    while let Some(ended) = working.join_next().await {
        ended.unwrap();
    }
    let rate = runs as f64 / began.elapsed().as_secs_f64();
    client.batch_execute("DROP SCHEMA floor CASCADE").await.unwrap();
    rate
}

/// Makes a table in another schema that has the form of one of ours and is sampled as that is.
pub fn alike(schema: &str, table: &str, including: &str) -> String {
    format!(
        "CREATE TABLE {schema}.{table} (LIKE public.{table} {including});
         DO $$ BEGIN
             EXECUTE (SELECT coalesce('ALTER TABLE {schema}.{table} '
                     || string_agg(format('ALTER COLUMN %I SET STATISTICS %s', attname, attstattarget), ', '), 'SELECT')
                 FROM pg_attribute WHERE attrelid = 'public.{table}'::regclass AND attnum > 0 AND NOT attisdropped
                     AND attstattarget >= 0);
         END $$;"
    )
}

/// A connection, and what drives it until it is dropped.
async fn connect(subject: &Subject) -> (Client, JoinSet<()>) {
    let (client, connection) = tokio_postgres::connect(&subject.database().1, NoTls).await.unwrap();
    let mut driver = JoinSet::new();
    driver.spawn(async move { connection.await.unwrap() });
    (client, driver)
}
