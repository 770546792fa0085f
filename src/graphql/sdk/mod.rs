//! What customers' apps do (specification 5.6): every operation is for the customer of the token alone.

mod actions;
mod connection;
mod counts;
mod events;
mod feed;
mod follow;
mod me;
mod written;

use async_graphql::{MergedObject, MergedSubscription};

#[derive(MergedObject, Default)]
pub struct SdkQuery(me::MeQuery, feed::FeedQuery, counts::CountsQuery);

#[derive(MergedObject, Default)]
pub struct SdkMutation(actions::ActionMutation, events::EventsMutation, me::MeMutation, connection::ConnectionMutation);

#[derive(MergedSubscription, Default)]
pub struct SdkSubscription(feed::FeedSubscription, counts::CountsSubscription);
