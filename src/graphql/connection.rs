//! Lists as connections: `nodes`, `edges`, `pageInfo`, over the pages of [`crate::db::page`].

use std::borrow::Cow;

use async_graphql::{Object, OutputType, SimpleObject, TypeName};

use crate::db::page::Page;
use crate::ids::Id;

/// One page of a list.
pub struct Connection<N: OutputType> {
    edges: Vec<Edge<N>>,
    more: bool,
    total: Option<i64>,
}

struct Edge<N: OutputType> {
    cursor: String,
    node: N,
}

/// Whether a list goes on, and where.
#[derive(SimpleObject)]
pub struct PageInfo {
    pub has_next_page: bool,
    /// The `after` of the next page.
    pub end_cursor: Option<String>,
}

impl<N: OutputType> Connection<N> {
    /// A page of rows whose cursor is their id.
    pub fn of<R, T: Id + std::fmt::Display>(page: Page<R>, id: impl Fn(&R) -> T, node: impl Fn(R) -> N) -> Self {
        let edges = page.rows.into_iter().map(|row| Edge { cursor: id(&row).to_string(), node: node(row) }).collect();
        Connection { edges, more: page.more, total: None }
    }

    /// A page of rows with cursors of another kind.
    pub fn paged<R>(page: Page<R>, cursor: impl Fn(&R) -> String, node: impl Fn(R) -> N) -> Self {
        let edges = page.rows.into_iter().map(|row| Edge { cursor: cursor(&row), node: node(row) }).collect();
        Connection { edges, more: page.more, total: None }
    }

    /// A list that is short by nature and comes whole.
    pub fn whole<R>(rows: Vec<R>, cursor: impl Fn(&R) -> String, node: impl Fn(R) -> N) -> Self {
        let edges = rows.into_iter().map(|row| Edge { cursor: cursor(&row), node: node(row) }).collect();
        Connection { edges, more: false, total: None }
    }

    /// Adds the number of rows in the whole list.
    pub fn with_total(mut self, total: i64) -> Self {
        self.total = Some(total);
        self
    }
}

impl<N: OutputType> TypeName for Connection<N> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Connection", N::type_name()).into()
    }
}

/// One page of a list.
#[Object(name_type)]
impl<N: OutputType> Connection<N> {
    async fn nodes(&self) -> Vec<&N> {
        self.edges.iter().map(|edge| &edge.node).collect()
    }

    async fn edges(&self) -> Vec<EdgeOf<'_, N>> {
        self.edges.iter().map(EdgeOf).collect()
    }

    async fn page_info(&self) -> PageInfo {
        PageInfo { has_next_page: self.more, end_cursor: self.edges.last().map(|edge| edge.cursor.clone()) }
    }

    /// The number of rows in the whole list, where it is known.
    async fn total_count(&self) -> Option<i64> {
        self.total
    }
}

struct EdgeOf<'a, N: OutputType>(&'a Edge<N>);

impl<N: OutputType> TypeName for EdgeOf<'_, N> {
    fn type_name() -> Cow<'static, str> {
        format!("{}Edge", N::type_name()).into()
    }
}

/// A row and its place in the list.
#[Object(name_type)]
impl<N: OutputType> EdgeOf<'_, N> {
    async fn cursor(&self) -> &str {
        &self.0.cursor
    }

    async fn node(&self) -> &N {
        &self.0.node
    }
}
