//! Starts the rows of one part of a task.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::customers::existing;
use super::{Stride, Tally, Task, TaskKind, TaskStatus, advance_in, column};
use crate::db::schema::flow_task_parts;
use crate::db::{Prepared, Tx};
use crate::error::{Error, Result};
use crate::events::TriggerSource;
use crate::flows::engine::plan::reason;
use crate::flows::outcome::{EntryOutcome, EntryStatus};
use crate::flows::request::{Entry, StartRequest};
use crate::flows::start::{Caller, start_in};
use crate::ids::FlowId;

/// So many parts, at least as many as are started beside each other, are flushed to disk before the task is complete.
const LAST_PARTS: i32 = 4;

/// Starts the first part that nobody has begun, and gives the status of the task afterwards. `None`: others have begun
/// what is left.
pub(super) async fn start_part_in(tx: &mut Tx, task: &Task) -> Result<Option<TaskStatus>> {
    let of_task = flow_task_parts::environment_id.eq(task.environment_id).and(flow_task_parts::task_id.eq(task.id));
    let part: Option<(i32, i64, Value)> = flow_task_parts::table
        .filter(of_task)
        .order(flow_task_parts::part)
        .select((flow_task_parts::part, flow_task_parts::first_row, flow_task_parts::rows))
        .for_update()
        .skip_locked()
        .first(&mut tx.conn())
        .await
        .optional()?;
    let Some((part, first, rows)) = part else {
        // A file without rows is done at once.
        let empty = task.parts == 0;
        return if empty { Ok(Some(advance_in(tx, task, Stride::Part, Tally::default()).await?)) } else { Ok(None) };
    };
    let Value::Array(rows) = rows else { return Err(Error::internal("a part of a task is no list")) };
    if task.parts - task.part > LAST_PARTS {
        do_not_wait_for_disk(tx).await?;
    }
    let mut tally = Tally::default();
    match task.kind {
        TaskKind::Manual => start_customers_in(tx, task, rows, &mut tally).await?,
        _ => start_rows_in(tx, task, first, rows, &mut tally).await?,
    }
    let done = flow_task_parts::table.find((task.environment_id, task.id, part));
    diesel::delete(done).execute(&mut tx.conn()).await?;
    advance_in(tx, task, Stride::Part, tally).await.map(Some)
}

/// Lets the commit return before it is flushed. What is lost by a crash is lost as a whole, from the end: the rows are
/// stored, so the task begins again where it then stands, under the same invocations. Whatever leaves the server because
/// of these runs follows a commit that is flushed, and with it all before.
async fn do_not_wait_for_disk(tx: &Tx) -> Result<()> {
    let setting = diesel::sql_query("SELECT set_config('synchronous_commit', 'off', true)");
    Prepared(setting).execute(&mut tx.conn()).await?;
    Ok(())
}

fn caller(task: &Task) -> Caller {
    let source = if task.kind == TaskKind::Manual { TriggerSource::Manual } else { TriggerSource::Csv };
    Caller { mode: task.mode(), source, address: None, trigger: None }
}

/// Starts customers as one entry, under the task's id: so all runs of a manual start are one invocation. Who has been
/// erased since is not brought back.
async fn start_customers_in(tx: &mut Tx, task: &Task, rows: Vec<Value>, tally: &mut Tally) -> Result<()> {
    let flow = task.flow_id.ok_or_else(|| Error::internal("a manual start has no flow"))?;
    let named: Vec<String> = rows.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    let there = existing(tx.conn(), task.environment_id, &named).await?;
    tally.ignored = count(named.len() - there.len());
    if there.is_empty() {
        return Ok(());
    }
    let entry = json!({ "flowInvocationId": task.id, "target": { "type": "user", "targetUserIds": there } });
    let request = StartRequest { entries: vec![Entry::parse(&entry, "")] };
    let started = start_in(tx, task.environment_id, flow, &request, caller(task)).await?;
    for outcome in &started.entries {
        tally.accepted += count(outcome.accepted);
        tally.ignored += count(outcome.duplicate + outcome.ignored);
        tally.rejected += count(outcome.rejected);
        tell(tally, None, outcome);
    }
    Ok(())
}

/// The rows that start one flow.
#[derive(Default)]
struct Group {
    rows: Vec<i64>,
    entries: Vec<Entry>,
}

/// Starts the rows of a file, those of one flow together.
async fn start_rows_in(tx: &mut Tx, task: &Task, first: i64, rows: Vec<Value>, tally: &mut Tally) -> Result<()> {
    let header: Vec<String> = serde_json::from_value(task.header.clone())?;
    let mut groups: Vec<(FlowId, Group)> = Vec::new();
    for (row, cells) in (first..).zip(rows) {
        match read(task, &header, row, cells)? {
            Ok((flow, entry)) => {
                let place = groups.iter().position(|(other, _)| *other == flow).unwrap_or_else(|| {
                    groups.push((flow, Group::default()));
                    groups.len() - 1
                });
                groups[place].1.rows.push(row);
                groups[place].1.entries.push(entry);
            }
            Err(fault) => tally.refuse(row, &fault),
        }
    }
    for (flow, Group { rows, entries }) in groups {
        match start_in(tx, task.environment_id, flow, &StartRequest { entries }, caller(task)).await {
            Ok(started) => {
                for (row, outcome) in rows.into_iter().zip(&started.entries) {
                    match outcome.status() {
                        EntryStatus::Accepted => tally.accepted += 1,
                        EntryStatus::Duplicate | EntryStatus::Ignored => tally.ignored += 1,
                        EntryStatus::Rejected => tally.rejected += 1,
                    }
                    tell(tally, Some(row), outcome);
                }
            }
            // A row of a test batch that names a flow nobody has; the flow of a task was there when it began.
            Err(error) if task.flow_id.is_none() && error.code().status() < 500 => {
                rows.into_iter().for_each(|row| tally.refuse(row, &reason(&error)));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What a row asks for, or what is wrong with it.
fn read(task: &Task, header: &[String], row: i64, cells: Value) -> Result<Result<(FlowId, Entry), String>> {
    let cells: Vec<String> = match cells {
        Value::String(fault) => return Ok(Err(fault)),
        cells => serde_json::from_value(cells)?,
    };
    let flow = task.flow_id.map_or_else(|| column::flow_of(header, &cells), Ok);
    let entry = flow.and_then(|flow| Ok((flow, column::entry(header, &cells, format!("{}:{row}", task.id))?)));
    Ok(entry.map_err(|error| reason(&error)))
}

/// Notes what is wrong with an entry, naming the customer and the place in the entry.
fn tell(tally: &mut Tally, row: Option<i64>, outcome: &EntryOutcome) {
    for error in &outcome.errors {
        let whom = error.user_id.as_ref().map(|id| format!("{id}: ")).unwrap_or_default();
        let place = error.violation.pointer.as_deref().map(column::name_of).unwrap_or_default();
        let place = if place.is_empty() { place } else { format!("{place}: ") };
        tally.note(row, &format!("{whom}{place}{}", error.violation.detail));
    }
}

fn count(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}
