//! Manual starts: a published flow for customers who exist already (specification 8.8).

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::json;

use super::file::{Totals, seal_in, store};
use super::{NewTask, TaskKind, TaskStatus, insert_in, refuse_unstartable};
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::db::schema::customers;
use crate::error::{Error, Result};
use crate::flows::flow;
use crate::flows::start::Mode;
use crate::ids::{EnvId, FlowId, TaskId};

/// The most customers of one manual start.
pub const MOST_CUSTOMERS: usize = 10_000;
/// Customers of one part.
const PART: usize = 500;

/// Whom a manual start would reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preview {
    /// Those of the customers who exist.
    pub count: i64,
    pub limit: usize,
}

/// Counts those whom a start would reach, also when they are too many.
pub async fn preview(app: &App, access: &Access, user_ids: &[String]) -> Result<Preview> {
    access.require(Resource::SendToCustomers, Level::Edit)?;
    let there = customers::table
        .filter(customers::environment_id.eq(access.env()).and(customers::user_id.eq_any(user_ids)))
        .count();
    Ok(Preview { count: there.get_result(&mut &*app.read().await?).await?, limit: MOST_CUSTOMERS })
}

/// Starts the published flow in the background for those of the customers who exist; the others are ignored. All
/// runs are one invocation, which has the id of the task.
pub async fn start_for_customers(app: &App, access: &Access, flow: FlowId, user_ids: &[String]) -> Result<TaskId> {
    access.require(Resource::SendToCustomers, Level::Edit)?;
    let env = access.env();
    let found = flow::find(&*app.read().await?, env, flow).await?;
    refuse_unstartable(found.as_ref(), Mode::Live)?;
    if user_ids.is_empty() || user_ids.len() > MOST_CUSTOMERS {
        let (count, rule) = (user_ids.len(), format!("a manual start has 1 to {MOST_CUSTOMERS} customers"));
        return Err(Error::invalid("/customerIds", format!("{rule}, not {count}")));
    }
    let there = existing(&*app.read().await?, env, user_ids).await?;
    let size = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let new = NewTask {
        flow: Some(flow),
        kind: TaskKind::Manual,
        mode: Mode::Live,
        header: json!([]),
        version: None,
        status: TaskStatus::Receiving,
    };
    app.transact(async |tx| {
        let id = insert_in(tx, access, &new).await?;
        let mut totals = Totals { rows: size(user_ids.len()), parts: 0, ignored: size(user_ids.len() - there.len()) };
        for (place, part) in there.chunks(PART).enumerate() {
            store(tx.conn(), env, id, totals.parts, size(place * PART + 1), json!(part)).await?;
            totals.parts += 1;
        }
        seal_in(tx, env, id, totals).await?;
        Ok(id)
    })
    .await
}

/// Those of the ids that are customers', each once.
pub(super) async fn existing(conn: &AsyncPgConnection, env: EnvId, user_ids: &[String]) -> Result<Vec<String>> {
    let found = customers::table
        .filter(customers::environment_id.eq(env).and(customers::user_id.eq_any(user_ids)))
        .order(customers::user_id)
        .select(customers::user_id);
    Ok(found.load(&mut &*conn).await?)
}
