//! What customers' apps do (specification 5.6): every operation is for the customer of the token alone.

mod connection;
mod me;

use async_graphql::MergedObject;

#[derive(MergedObject, Default)]
pub struct SdkQuery(me::MeQuery);

#[derive(MergedObject, Default)]
pub struct SdkMutation(connection::ConnectionMutation);
