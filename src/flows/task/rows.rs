//! Starts the rows of one part of a task.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use serde_json::{Value, json};

use super::customers::existing;
use super::{Stand, Tally, Task, TaskKind, TaskStatus, advance_in, column};
use crate::db::Tx;
use crate::db::schema::flow_task_parts;
use crate::error::{Error, Result};
use crate::events::TriggerSource;
use crate::flows::engine::plan::reason;
use crate::flows::outcome::{EntryOutcome, EntryStatus};
use crate::flows::request::{Entry, StartRequest};
use crate::flows::start::{Caller, start_in};
use crate::ids::FlowId;

/// Starts the next part and moves the task's place, and gives the status of the task afterwards.
pub(super) async fn start_part_in(tx: &mut Tx, task: &Task) -> Result<TaskStatus> {
    let key = (task.environment_id, task.id, task.part);
    let part: Option<(i64, Value)> = flow_task_parts::table
        .find(key)
        .select((flow_task_parts::first_row, flow_task_parts::rows))
        .first(&mut tx.conn())
        .await
        .optional()?;
    let mut tally = Tally::default();
    if let Some((first, rows)) = part {
        let Value::Array(rows) = rows else { return Err(Error::internal("a part of a task is no list")) };
        match task.kind {
            TaskKind::Manual => start_customers_in(tx, task, rows, &mut tally).await?,
            _ => start_rows_in(tx, task, first, rows, &mut tally).await?,
        }
        diesel::delete(flow_task_parts::table.find(key)).execute(&mut tx.conn()).await?;
    }
    let part = task.part + 1;
    let status = if part >= task.parts { TaskStatus::Complete } else { TaskStatus::Processing };
    advance_in(tx, task, &Stand { part, place: None, found: 0, status }, tally).await?;
    Ok(status)
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
