//! Follows what happens to triggers while members look on: captured samples and pauses.
//!
//! Triggers are looked at now and then. What happens twice between two looks is told once, as it is by then.

use std::collections::HashMap;
use std::time::Duration;

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::stream::{Stream, unfold};

use super::edit;
use crate::access::{Access, Level, Resource};
use crate::app::App;
use crate::clock::Time;
use crate::db::schema::triggers;
use crate::error::Result;
use crate::flows::{self, Trigger};
use crate::ids::{EnvId, TriggerId};

const LOOK: Duration = Duration::from_millis(250);
/// The most triggers of an environment that are looked at.
const MOST: i64 = 1_000;

/// When each trigger was last captured, or paused.
type Marks = HashMap<TriggerId, Time>;

/// What is followed.
#[derive(Clone, Copy)]
enum Wanted {
    Captures(TriggerId),
    Pauses,
}

struct Follower {
    app: App,
    env: EnvId,
    wanted: Wanted,
    known: Marks,
    /// Triggers of which is still to be told.
    news: Vec<TriggerId>,
}

/// The trigger whenever a request has become its sample, from now on.
pub async fn captures(
    app: &App,
    access: &Access,
    id: TriggerId,
) -> Result<impl Stream<Item = Result<Trigger>> + use<>> {
    edit::read(app, access, id).await?;
    follow(app, access.env(), Wanted::Captures(id)).await
}

/// Each trigger of the environment that the server pauses, from now on.
pub async fn pauses(app: &App, access: &Access) -> Result<impl Stream<Item = Result<Trigger>> + use<>> {
    access.require(Resource::ActionFlow, Level::View)?;
    follow(app, access.env(), Wanted::Pauses).await
}

async fn follow(app: &App, env: EnvId, wanted: Wanted) -> Result<impl Stream<Item = Result<Trigger>> + use<>> {
    let known = marks(&*app.read().await?, env, wanted).await?;
    let follower = Follower { app: app.clone(), env, wanted, known, news: Vec::new() };
    // An error is the last item.
    Ok(unfold(Some(follower), |state| async move {
        let mut follower = state?;
        match follower.next().await {
            Ok(trigger) => Some((Ok(trigger), Some(follower))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Follower {
    async fn next(&mut self) -> Result<Trigger> {
        loop {
            while let Some(id) = self.news.pop() {
                // One that was deleted meanwhile is of no interest any more.
                if let Some(trigger) = flows::trigger(&*self.app.read().await?, self.env, id).await? {
                    return Ok(trigger);
                }
            }
            tokio::time::sleep(LOOK).await;
            let seen = marks(&*self.app.read().await?, self.env, self.wanted).await?;
            let mut news: Vec<_> = seen.iter().filter(|(id, at)| self.known.get(*id) != Some(at)).collect();
            news.sort_unstable_by_key(|(_, at)| std::cmp::Reverse(**at));
            self.news = news.into_iter().map(|(id, _)| *id).collect();
            self.known = seen;
        }
    }
}

async fn marks(conn: &AsyncPgConnection, env: EnvId, wanted: Wanted) -> Result<Marks> {
    let of_environment = triggers::table.filter(triggers::environment_id.eq(env));
    let rows: Vec<(TriggerId, Option<Time>)> = match wanted {
        Wanted::Captures(id) => {
            let one = of_environment.filter(triggers::id.eq(id)).select((triggers::id, triggers::captured_at));
            one.load(&mut &*conn).await?
        }
        Wanted::Pauses => {
            let paused = of_environment.filter(triggers::mode.eq("paused")).order(triggers::paused_at.desc());
            paused.limit(MOST).select((triggers::id, triggers::paused_at)).load(&mut &*conn).await?
        }
    };
    Ok(rows.into_iter().filter_map(|(id, at)| Some((id, at?))).collect())
}
