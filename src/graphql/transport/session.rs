//! Who speaks on a websocket, until when, and how the token is renewed in place.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::access::authenticate::{self, Principal};
use crate::access::{RequestInfo, SdkAccess};
use crate::app::App;
use crate::clock::Time;
use crate::error::{Code, Error, Result};
use crate::realtime::{Full, Seat};

/// The client is told this long before its token ends.
const WARNING: Duration = Duration::from_secs(60);

/// An acknowledged connection.
pub struct Session {
    pub principal: Principal,
    pub info: RequestInfo,
    renewal: Renewal,
    warned: bool,
}

/// What the clock asks of a session.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    Nothing,
    Warning(Time),
    End,
}

/// The handle by which the mutation `renewConnection` reaches the connection it came by.
#[derive(Clone, Default)]
pub struct Renewal(Arc<Mutex<Option<SdkAccess>>>);

impl Renewal {
    /// Verifies a new token of the same customer and extends the connection. Gives the new end.
    pub async fn renew(&self, app: &App, current: &SdkAccess, token: &str) -> Result<Time> {
        let renewed = authenticate::renew(app, current, token).await?;
        let expires_at = renewed.expires_at;
        *self.0.lock() = Some(renewed);
        Ok(expires_at)
    }
}

impl Session {
    pub fn new(principal: Principal, address: IpAddr) -> Session {
        let info = RequestInfo { address: Some(address) };
        Session { principal, info, renewal: Renewal::default(), warned: false }
    }

    pub fn renewal(&self) -> &Renewal {
        &self.renewal
    }

    /// Takes a renewal over. Tells whether there was one.
    pub fn refresh(&mut self) -> bool {
        let renewed = self.renewal.0.lock().take();
        let is_new = renewed.is_some();
        if let Some(renewed) = renewed {
            self.principal = Principal::Sdk(renewed);
            self.warned = false;
        }
        is_new
    }

    /// Takes the place of the principal among the connections.
    pub fn sit(&self, seat: &Seat) -> Result<()> {
        let customer = match &self.principal {
            Principal::Sdk(access) => Some((access.env, access.customer)),
            _ => None,
        };
        seat.hold(self.principal.pass(), customer).map_err(no_place)
    }

    /// What is due now. A warning is due once.
    pub fn due(&mut self, now: Time) -> Due {
        self.refresh();
        match self.ends_at() {
            Some(end) if now >= end => Due::End,
            Some(end) if !self.warned && now >= end.minus(WARNING) => {
                self.warned = true;
                Due::Warning(end)
            }
            _ => Due::Nothing,
        }
    }

    /// How long until something is due.
    pub fn quiet_for(&self, now: Time) -> Option<Duration> {
        let end = self.ends_at()?;
        Some(if self.warned { end.since(now) } else { end.minus(WARNING).since(now) })
    }

    fn ends_at(&self) -> Option<Time> {
        match &self.principal {
            Principal::Sdk(access) => Some(access.expires_at),
            Principal::Member(viewer) | Principal::Credential(viewer) => viewer.expires_at,
            Principal::Anonymous | Principal::SdkAnonymous(_) => None,
        }
    }
}

/// Why a connection is not taken.
pub fn no_place(full: Full) -> Error {
    match full {
        Full::Stopping => Error::unavailable(1, "the server is stopping"),
        Full::Address | Full::Customer => Error::new(Code::RateLimited, "too many connections are open"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::SdkContext;
    use crate::ids::Ids;

    #[test]
    fn a_token_is_announced_to_end_and_ends() {
        let ids = Ids::seeded(1);
        let end = Time::parse("2026-01-01T01:00:00Z").unwrap();
        let access = |expires_at| SdkAccess {
            env: ids.unguessable(),
            customer: ids.unguessable(),
            user_id: "u".into(),
            key: ids.unguessable(),
            key_revision: 1,
            proof: Arc::default(),
            sdk: SdkContext::default(),
            info: RequestInfo::default(),
            expires_at,
        };
        let mut session = Session::new(Principal::Sdk(access(end)), [127, 0, 0, 1].into());
        assert_eq!(session.due(end.minus(Duration::from_secs(61))), Due::Nothing);
        assert_eq!(session.quiet_for(end.minus(Duration::from_secs(61))), Some(Duration::from_secs(1)));
        assert_eq!(session.due(end.minus(Duration::from_secs(60))), Due::Warning(end));
        assert_eq!(session.due(end.minus(Duration::from_secs(1))), Due::Nothing);
        assert_eq!(session.due(end), Due::End);
        *session.renewal.0.lock() = Some(access(end.plus(Duration::from_secs(600))));
        assert_eq!(session.due(end), Due::Nothing);
        assert_eq!(Session::new(Principal::Anonymous, [127, 0, 0, 1].into()).due(end), Due::Nothing);
    }
}
