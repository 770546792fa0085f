//! Where an app's request takes place: the container it names, the stream shown there, and who is in front of it.
//!
//! Every operation of an app that names a container begins by entering its [`Scene`]: it refuses unknown
//! containers and keys that are not granted, and holds the contexts that the events of the request share.

use diesel_async::AsyncPgConnection;
use jiff::tz::TimeZone;

use crate::access::{SdkAccess, SdkContext, environment};
use crate::cards::instance::CardInstance;
use crate::cards::placement;
use crate::clock::{self, Time};
use crate::customers::{Customer, preferences, profile};
use crate::error::{Code, Error, Result};
use crate::events::{SdkEventContext, StreamContext};
use crate::ids::{ContainerId, EnvId};
use crate::streams::container::{self, Container};
use crate::streams::stream::{self, Stream};

/// A customer in front of a container.
pub struct Scene {
    pub customer: Customer,
    pub container: Container,
    pub stream: Stream,
    dnd: bool,
}

impl Scene {
    /// Enters the container for the customer of the token. The key must be granted to it.
    pub async fn enter(
        conn: &AsyncPgConnection,
        access: &SdkAccess,
        container: ContainerId,
        now: Time,
    ) -> Result<Scene> {
        let customer = profile::find(conn, access.env, access.customer).await?;
        let customer = customer.ok_or_else(|| Error::not_found("customer"))?;
        let container = container::find(conn, access.env, container).await?;
        let container = container.ok_or_else(|| Error::not_found("stream container"))?;
        if !container::granted(conn, access.env, container.id, access.key).await? {
            return Err(Error::new(Code::KeyNotGranted, "the API key is not granted to this container"));
        }
        let stream = stream::find(conn, access.env, container.stream_id).await?;
        let stream = stream.ok_or_else(|| Error::not_found("stream"))?;
        let dnd = do_not_disturb(conn, access.env, &customer, now).await?;
        Ok(Scene { customer, container, stream, dnd })
    }

    /// Tells whether a card belongs to the customer and is in the stream that the container shows.
    pub async fn shows(&self, conn: &AsyncPgConnection, card: &CardInstance) -> Result<bool> {
        if card.customer_id != self.customer.id {
            return Ok(false);
        }
        if self.stream.built_in {
            return Ok(true);
        }
        let streams = placement::streams_of(conn, card.environment_id, &[card]).await?;
        Ok(streams.get(&card.id).is_some_and(|streams| streams.contains(&self.stream.id)))
    }

    /// What events say of the app.
    pub fn sdk_context(&self, access: &SdkAccess) -> SdkEventContext {
        sdk_context(access, Some(self.container.id), self.dnd)
    }

    /// What events say of the stream.
    pub fn stream_context(&self) -> StreamContext {
        StreamContext { stream_id: self.stream.id, stream_name: self.stream.name.clone(), more: serde_json::Map::new() }
    }
}

/// What events say of an app, for requests without a container too.
pub fn sdk_context(access: &SdkAccess, container: Option<ContainerId>, dnd: bool) -> SdkEventContext {
    SdkEventContext { is_dnd_active: dnd, container_id: container, ..app_context(&access.sdk) }
}

/// What events say of an app to which nobody has signed in.
pub fn app_context(sdk: &SdkContext) -> SdkEventContext {
    let sdk = sdk.clone();
    SdkEventContext {
        platform: sdk.platform,
        sdk_version: sdk.sdk_version,
        sdk_device: sdk.device,
        sdk_timezone: sdk.timezone,
        is_dnd_active: false,
        container_id: None,
        client_app_version: sdk.app_version,
    }
}

/// Tells whether the customer's preferences forbid notifications now.
pub async fn do_not_disturb(conn: &AsyncPgConnection, env: EnvId, customer: &Customer, now: Time) -> Result<bool> {
    // Most customers have no windows: then no zone is asked for.
    let windows = customer.preferences.get("notifications").is_some();
    let zone = if windows { zone_of(conn, env, customer).await? } else { TimeZone::UTC };
    Ok(preferences::forbid(&customer.preferences, &zone, now))
}

/// The zone of the customer's profile, else of the environment.
pub async fn zone_of(conn: &AsyncPgConnection, env: EnvId, customer: &Customer) -> Result<TimeZone> {
    if let Some(zone) = customer.timezone.as_deref().and_then(|name| clock::zone(name).ok()) {
        return Ok(zone);
    }
    environment::zone(conn, env).await
}
