//! How many cards there are: of a feed, and of a customer in all.

use async_graphql::{Context, Object, SimpleObject, Subscription};
use futures_util::stream::{Stream, unfold};
use serde_json::json;

use super::feed::{CardFilterInput, read_filters};
use crate::access::SdkAccess;
use crate::app::App;
use crate::cards::feed::{self, Counts, Metrics, UserMetrics, View};
use crate::error::Result;
use crate::graphql::context::{app, sdk};
use crate::ids::{CardId, ContainerId};
use crate::realtime::Listener;
use crate::secret::token_hash;

#[derive(Default)]
pub struct CountsQuery;

#[derive(Default)]
pub struct CountsSubscription;

/// How many cards a feed has.
#[derive(SimpleObject)]
pub struct CardCount {
    /// Cards after filter and limit.
    visible_count: i64,
    /// All active cards of the stream, whatever filter and limit.
    total_count: i64,
}

impl From<Counts> for CardCount {
    fn from(counts: Counts) -> CardCount {
        CardCount { visible_count: counts.visible, total_count: counts.total }
    }
}

/// The cards of a customer, or the news that they are as the token says.
#[derive(SimpleObject)]
#[graphql(name = "UserMetrics")]
pub struct UserMetricsAnswer {
    /// The cards are as `ifToken` says; `cards` is null.
    unchanged: bool,
    token: String,
    cards: Option<UserCards>,
}

/// The cards of a customer, in all and in each container.
#[derive(SimpleObject)]
pub struct UserCards {
    total: CardMetrics,
    /// The containers that the API key is granted to.
    by_container: Vec<ContainerMetrics>,
}

/// Some active cards.
#[derive(SimpleObject)]
pub struct CardMetrics {
    active: usize,
    unseen: usize,
    active_card_ids: Vec<CardId>,
    unseen_card_ids: Vec<CardId>,
}

/// The active cards in the stream of a container.
#[derive(SimpleObject)]
pub struct ContainerMetrics {
    container_id: ContainerId,
    #[graphql(flatten)]
    cards: CardMetrics,
}

impl From<Metrics> for CardMetrics {
    fn from(metrics: Metrics) -> CardMetrics {
        CardMetrics {
            active: metrics.active.len(),
            unseen: metrics.unseen.len(),
            active_card_ids: metrics.active,
            unseen_card_ids: metrics.unseen,
        }
    }
}

impl From<UserMetrics> for UserCards {
    fn from(metrics: UserMetrics) -> UserCards {
        let containers = metrics.by_container.into_iter();
        UserCards {
            total: metrics.total.into(),
            by_container: containers
                .map(|(container_id, cards)| ContainerMetrics { container_id, cards: cards.into() })
                .collect(),
        }
    }
}

/// A text that is equal for equal metrics.
fn token_of(metrics: &UserMetrics) -> String {
    let parts = |metrics: &Metrics| json!([metrics.active, metrics.unseen]);
    let containers: Vec<_> = metrics.by_container.iter().map(|(id, metrics)| json!([id, parts(metrics)])).collect();
    hex::encode(&token_hash(&json!([parts(&metrics.total), containers]).to_string())[..16])
}

fn answer(metrics: UserMetrics, held: Option<&str>) -> UserMetricsAnswer {
    let token = token_of(&metrics);
    let unchanged = held == Some(token.as_str());
    UserMetricsAnswer { unchanged, token, cards: (!unchanged).then(|| metrics.into()) }
}

#[Object]
impl CountsQuery {
    /// How many cards a feed has.
    async fn card_count(
        &self,
        ctx: &Context<'_>,
        container_id: ContainerId,
        filters: Option<Vec<CardFilterInput>>,
    ) -> Result<CardCount> {
        let view = View::new(sdk(ctx)?, container_id, read_filters(filters)?);
        Ok(feed::counts(app(ctx)?, &view).await?.into())
    }

    /// The active and unseen cards of the customer.
    async fn user_metrics(&self, ctx: &Context<'_>, if_token: Option<String>) -> Result<UserMetricsAnswer> {
        let metrics = feed::user_metrics(app(ctx)?, sdk(ctx)?).await?;
        Ok(answer(metrics, if_token.as_deref()))
    }
}

#[Subscription]
impl CountsSubscription {
    /// How many cards a feed has: at once, and whenever either number changes.
    async fn card_count(
        &self,
        ctx: &Context<'_>,
        container_id: ContainerId,
        filters: Option<Vec<CardFilterInput>>,
    ) -> Result<impl Stream<Item = async_graphql::Result<CardCount>> + 'static> {
        let app = app(ctx)?.clone();
        let view = View::new(sdk(ctx)?, container_id, read_filters(filters)?);
        let listener = app.hub().listen(view.env, view.customer, &[container_id]);
        let read = move || {
            let (app, view) = (app.clone(), view.clone());
            async move { feed::counts(&app, &view).await }
        };
        Ok(watch(listener, read, CardCount::from))
    }

    /// The active and unseen cards of the customer: at once, and whenever they change.
    async fn user_metrics(
        &self,
        ctx: &Context<'_>,
    ) -> Result<impl Stream<Item = async_graphql::Result<UserMetricsAnswer>> + 'static> {
        let (app, access): (App, SdkAccess) = (app(ctx)?.clone(), sdk(ctx)?.clone());
        let containers: Vec<ContainerId> = feed::user_metrics(&app, &access).await?.by_container.into_keys().collect();
        let listener = app.hub().listen(access.env, access.customer, &containers);
        let read = move || {
            let (app, access) = (app.clone(), access.clone());
            async move { feed::user_metrics(&app, &access).await }
        };
        Ok(watch(listener, read, |metrics| answer(metrics, None)))
    }
}

/// What `read` gives: at once, and after each ring if it is something else than before. An error is the last item.
fn watch<T, U, F>(
    listener: Listener,
    read: impl Fn() -> F + Send + 'static,
    show: impl Fn(T) -> U + Send + 'static,
) -> impl Stream<Item = async_graphql::Result<U>> + 'static
where
    T: PartialEq + Clone + Send + 'static,
    U: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let begin = Some((listener, read, show, None::<T>));
    unfold(begin, |state| async move {
        let (listener, read, show, held) = state?;
        loop {
            if held.is_some() {
                listener.changed().await;
            }
            match read().await {
                Ok(value) if held.as_ref() == Some(&value) => {}
                Ok(value) => {
                    let item = show(value.clone());
                    return Some((Ok(item), Some((listener, read, show, Some(value)))));
                }
                Err(error) => return Some((Err::<U, _>(async_graphql::Error::from(error)), None)),
            }
        }
    })
}
