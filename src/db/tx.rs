//! A transaction: its connection, its one instant, and what will be announced once it is committed.

use std::collections::HashSet;

use diesel::sql_query;
use diesel_async::{AsyncPgConnection, RunQueryDsl, TransactionManager};

use super::{Connection, Prepared};
use crate::clock::Time;
use crate::error::Result;
use crate::ids::{Id, Ids};
use crate::realtime::Announcement;

type Manager = <AsyncPgConnection as diesel_async::AsyncConnection>::TransactionManager;

/// Everything done through a `Tx` happens together or not at all.
///
/// No network, file or sleep between [`Tx::begin`] and the commit. A `Tx` that is dropped is rolled back: its
/// connection is closed at once, for in the pool it would keep its locks until somebody took it.
pub struct Tx {
    /// Absent only while the transaction ends.
    conn: Option<Connection>,
    now: Time,
    ids: Ids,
    /// Each is said once; in which order does not matter.
    announcements: HashSet<Announcement>,
}

impl Tx {
    pub(crate) async fn begin(mut conn: Connection, now: Time, ids: Ids) -> Result<Tx> {
        Manager::begin_transaction(&mut *conn).await?;
        Ok(Tx { conn: Some(conn), now, ids, announcements: HashSet::new() })
    }

    /// Commits and gives the announcements, which may leave only now.
    pub(crate) async fn commit(mut self) -> Result<Vec<Announcement>> {
        if let Some(conn) = &mut self.conn {
            Manager::commit_transaction(&mut **conn).await?;
        }
        // The connection is good for others now.
        drop(self.conn.take());
        let mut announcements: Vec<_> = std::mem::take(&mut self.announcements).into_iter().collect();
        // Who looks at a screen comes before workers, who take what they are told to the same processors.
        announcements.sort_by_key(|announcement| matches!(announcement, Announcement::Wake(_)));
        Ok(announcements)
    }

    pub(crate) async fn roll_back(mut self) -> Result<()> {
        if let Some(conn) = &mut self.conn {
            Manager::rollback_transaction(&mut **conn).await?;
        }
        drop(self.conn.take());
        Ok(())
    }

    pub fn conn(&self) -> &AsyncPgConnection {
        match &self.conn {
            Some(conn) => conn,
            None => unreachable!("whoever ends the transaction owns it"),
        }
    }

    /// The instant of this transaction: the same at every call.
    pub fn now(&self) -> Time {
        self.now
    }

    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// A new id that sorts by the instant of this transaction.
    pub fn id<T: Id>(&self) -> T {
        self.ids.make(self.now)
    }

    /// Lets each statement keep one plan from here to the end of the transaction, whatever it is asked. For transactions
    /// that ask by key.
    ///
    /// Left to itself Postgres plans some of them anew each time, because it expects more of an array that it cannot see:
    /// longer than carrying them out takes. A plan that is kept goes by the keys however small a table is when it is made,
    /// and nothing is compiled for it.
    pub async fn keep_plans(&self) -> Result<()> {
        let keep = sql_query(
            "SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true),
                    set_config('jit', 'off', true)",
        );
        Prepared(keep).execute(&mut self.conn()).await?;
        Ok(())
    }

    /// Says something to whoever listens, after the commit. A hint: losing it must do no harm.
    pub fn announce(&mut self, announcement: Announcement) {
        self.announcements.insert(announcement);
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            drop(Connection::take(conn));
        }
    }
}
