//! Statements written in SQL whose text never changes, prepared once per connection.

use std::marker::PhantomData;

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::Untyped;

/// A `sql_query` with binds that is kept prepared. Only for text that is a constant: every other text would
/// stay in the connection's cache.
///
/// Why: diesel prepares a plain `sql_query` anew each time, a round trip more for every batch of a hot path.
pub struct Prepared<Q>(pub Q);

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Prepared<Q> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, _: &Pg) -> QueryResult<bool> {
        Ok(true)
    }
}

impl<Q> QueryId for Prepared<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q> Query for Prepared<Q> {
    type SqlType = Untyped;
}

/// The same, of rows that are read by the places of their columns: `T` says what the statement gives.
///
/// Why: of rows with many columns, looking each up by its name costs more than reading it.
pub struct Placed<Q, T>(Prepared<Q>, PhantomData<T>);

impl<Q, T> Placed<Q, T> {
    pub fn new(statement: Q) -> Placed<Q, T> {
        Placed(Prepared(statement), PhantomData)
    }
}

impl<Q: QueryFragment<Pg>, T> QueryFragment<Pg> for Placed<Q, T> {
    fn walk_ast<'b>(&'b self, pass: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.0.walk_ast(pass)
    }

    fn is_safe_to_cache_prepared(&self, backend: &Pg) -> QueryResult<bool> {
        self.0.is_safe_to_cache_prepared(backend)
    }
}

impl<Q, T> QueryId for Placed<Q, T> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q, T> Query for Placed<Q, T> {
    type SqlType = T;
}
