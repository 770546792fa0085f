//! Who is asking: from the headers of a request, or from the first message of a websocket (§2.2).

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, header};
use serde_json::Value;

use super::jwt::{self, Verified};
use super::sdk_failure::{self, Refusal};
use super::sdk_key::{self, SdkKey};
use super::{
    Actor, AppAccess, Proof, RequestInfo, SdkAccess, SdkContext, Viewer, claim_mapping, credential, member, session,
};
use crate::app::App;
use crate::customers::{change, profile};
use crate::error::{Code, Error, Result};
use crate::ids::{CustomerId, EnvId};
use crate::realtime::Pass;

/// The cookie that may carry a session token.
pub const SESSION_COOKIE: &str = "cardwire_session";
/// Must accompany the cookie: a foreign page cannot make a browser send it.
pub const CSRF_HEADER: &str = "x-cardwire-csrf";
const API_KEY_HEADER: &str = "x-cardwire-api-key";

const LONGEST_CONTEXT: usize = 256;
const LONGEST_APP_VERSION: usize = 128;

/// The one who asks.
#[derive(Clone, Debug)]
pub enum Principal {
    Anonymous,
    Member(Viewer),
    Credential(Viewer),
    Sdk(SdkAccess),
    /// An app before anybody has signed in to it.
    SdkAnonymous(AppAccess),
}

impl Principal {
    /// The member or credential, for the operations of the workbench.
    pub fn viewer(&self) -> Result<&Viewer> {
        match self {
            Principal::Member(viewer) | Principal::Credential(viewer) => Ok(viewer),
            Principal::Anonymous => Err(Error::new(Code::Unauthenticated, "sign in or send an access token")),
            Principal::Sdk(_) | Principal::SdkAnonymous(_) => {
                Err(Error::forbidden("this is not for customers in apps"))
            }
        }
    }

    /// What lets a connection of this principal in, for as long as it holds.
    pub fn pass(&self) -> Pass {
        match self {
            Principal::Sdk(access) => Pass::Key { env: access.env, key: access.key, revision: access.key_revision },
            Principal::Member(viewer) => viewer.session.clone().map_or(Pass::None, Pass::Session),
            Principal::Credential(Viewer { actor: Actor::Credential(credential), environments, .. }) => {
                let env = environments.keys().next().copied();
                env.map_or(Pass::None, |env| Pass::Credential { env, credential: *credential })
            }
            Principal::Credential(_) | Principal::Anonymous | Principal::SdkAnonymous(_) => Pass::None,
        }
    }

    /// The customer, for the operations of SDKs.
    pub fn sdk(&self) -> Result<&SdkAccess> {
        match self {
            Principal::Sdk(access) => Ok(access),
            Principal::Anonymous | Principal::SdkAnonymous(_) => {
                Err(Error::new(Code::Unauthenticated, "send the token of a customer and an API key"))
            }
            Principal::Member(_) | Principal::Credential(_) => Err(Error::forbidden("this is for customers in apps")),
        }
    }
}

/// What a request offers as proof.
#[derive(Default)]
struct Offer {
    bearer: Option<String>,
    cookie: Option<String>,
    api_key: Option<String>,
    sdk: SdkContext,
}

/// Authenticates a request. `peer` is the address at the other end of the connection.
pub async fn from_headers(app: &App, headers: &HeaderMap, peer: IpAddr) -> Result<Principal> {
    let info = RequestInfo { address: Some(client_address(app, headers, peer)) };
    let offer = Offer {
        bearer: bearer(headers)?,
        cookie: if headers.contains_key(CSRF_HEADER) { cookie(headers) } else { None },
        api_key: text(headers, API_KEY_HEADER)?,
        sdk: SdkContext {
            platform: text(headers, "x-cardwire-platform")?,
            sdk_version: text(headers, "x-cardwire-sdk-version")?,
            device: text(headers, "x-cardwire-device")?,
            timezone: text(headers, "x-cardwire-timezone")?,
            app_version: text(headers, "x-cardwire-app-version")?,
        },
    };
    identify(app, offer, info).await
}

/// Authenticates a websocket by the payload of its `connection_init`. Cookies do not count there: a foreign page
/// could open the socket.
pub async fn from_connection_init(app: &App, payload: &Value, address: IpAddr) -> Result<Principal> {
    let field = |name: &str| match payload.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Error::new(Code::BadRequest, format!("{name} must be a string")).at(format!("/{name}"))),
    };
    let offer = Offer {
        bearer: field("authToken")?.map(|token| token.strip_prefix("Bearer ").map_or(token.clone(), str::to_owned)),
        cookie: None,
        api_key: field("apiKey")?,
        sdk: SdkContext {
            platform: field("platform")?,
            sdk_version: field("sdkVersion")?,
            device: field("device")?,
            timezone: field("timezone")?,
            app_version: field("appVersion")?,
        },
    };
    identify(app, offer, RequestInfo { address: Some(address) }).await
}

/// Verifies a new token for a connection that already belongs to a customer, who must be the same.
pub async fn renew(app: &App, current: &SdkAccess, token: &str) -> Result<SdkAccess> {
    let key = sdk_key::find(&*app.read().await?, current.env, current.key)
        .await?
        .ok_or_else(|| Error::new(Code::Unauthenticated, "the API key no longer exists"))?;
    let verified = verify(app, &key, token).await?;
    if verified.user_id != current.user_id {
        return Err(Error::new(Code::Unauthenticated, "the token is of another customer"));
    }
    Ok(SdkAccess { expires_at: verified.expires_at, key_revision: key.revision, ..current.clone() })
}

/// A principal as it is now: the grants of a member may have changed since the connection was opened.
pub async fn again(app: &App, principal: &Principal) -> Result<Option<Principal>> {
    let Principal::Member(Viewer { org, actor: Actor::Member(member), session, info, .. }) = principal else {
        return Ok(None);
    };
    let viewer = member::viewer(&*app.read().await?, *org, *member, info.clone()).await?;
    Ok(Some(Principal::Member(Viewer { session: session.clone(), ..viewer })))
}

/// The caller's address: the peer's, or what the nearest trusted proxy says.
pub fn client_address(app: &App, headers: &HeaderMap, peer: IpAddr) -> IpAddr {
    let trusted = |address: &IpAddr| {
        app.config()
            .trusted_proxies
            .iter()
            .any(|range| range.contains(&address.to_canonical()) || range.contains(address))
    };
    if !trusted(&peer) {
        return peer;
    }
    let forwarded = headers.get_all("x-forwarded-for").into_iter().filter_map(|value| value.to_str().ok());
    let hops: Vec<IpAddr> =
        forwarded.flat_map(|value| value.split(',')).filter_map(|hop| hop.trim().parse().ok()).collect();
    // From the right, the first hop that is not ours: what stands left of it anybody may have written.
    hops.iter().rev().find(|hop| !trusted(hop)).or(hops.first()).copied().unwrap_or(peer)
}

async fn identify(app: &App, offer: Offer, info: RequestInfo) -> Result<Principal> {
    match offer {
        Offer { bearer: Some(_), cookie: Some(_), .. } | Offer { cookie: Some(_), api_key: Some(_), .. } => Err(both()),
        Offer { cookie: Some(token), .. } => session::viewer(app, &token, info).await.map(Principal::Member),
        Offer { api_key: Some(name), bearer: Some(token), sdk, .. } => {
            if token.starts_with(session::PREFIX) {
                return Err(both());
            }
            let sdk = checked(sdk)?;
            customer(app, &name, &token, sdk, info).await.map(Principal::Sdk)
        }
        Offer { api_key: Some(name), sdk, .. } => {
            anonymous(app, &name, checked(sdk)?, info).await.map(Principal::SdkAnonymous)
        }
        Offer { bearer: Some(token), .. } if token.starts_with(session::PREFIX) => {
            session::viewer(app, &token, info).await.map(Principal::Member)
        }
        Offer { bearer: Some(token), .. } => credential::viewer(app, &token, info).await.map(Principal::Credential),
        Offer { .. } => Ok(Principal::Anonymous),
    }
}

fn both() -> Error {
    Error::new(Code::BadRequest, "authenticate in one way, not in two")
}

async fn customer(app: &App, name: &str, token: &str, sdk: SdkContext, info: RequestInfo) -> Result<SdkAccess> {
    let candidates = sdk_key::named(&*app.read().await?, name).await?;
    let environments: Vec<EnvId> = candidates.iter().map(|key| key.environment_id).collect();
    let mut refusal = Error::new(Code::Unauthenticated, "the API key is unknown");
    let mut accepted: Vec<(SdkKey, Verified)> = Vec::new();
    for key in candidates {
        match verify(app, &key, token).await {
            Ok(verified) => accepted.push((key, verified)),
            Err(error) => refusal = error,
        }
    }
    let (key, verified) = match accepted.len() {
        0 => {
            note_refusal(app, &environments, name, token, &refusal).await;
            return Err(refusal);
        }
        1 => accepted.remove(0),
        // The name says nothing about the environment, and a guess could show one environment's cards in another.
        _ => return Err(Error::new(Code::Unauthenticated, "several environments accept the token under this API key")),
    };
    let customer = ensure_customer(app, &key, &verified).await?;
    let proof = Proof { key_name: key.name, claims: verified.claims.into_iter().map(|(name, _)| name).collect() };
    Ok(SdkAccess {
        env: key.environment_id,
        customer,
        user_id: verified.user_id,
        key: key.id,
        key_revision: key.revision,
        proof: Arc::new(proof),
        sdk,
        info,
        expires_at: verified.expires_at,
    })
}

async fn verify(app: &App, key: &SdkKey, token: &str) -> Result<Verified> {
    let now = app.clock().now();
    match key.published_at() {
        Some(url) => {
            let kid = jwt::unverified_key_id(token);
            let keys = app.published_keys().at(app, &url?, kid.as_deref()).await?;
            jwt::verify(token, &keys, &key.rules(), now)
        }
        None => jwt::verify(token, &key.stored_keys()?, &key.rules(), now),
    }
}

/// The customer of a verified token. Only the first authentication writes, and one whose claims say something new.
async fn ensure_customer(app: &App, key: &SdkKey, verified: &Verified) -> Result<CustomerId> {
    let env = key.environment_id;
    let known = profile::find_by_user_id(&*app.read().await?, env, &verified.user_id).await?;
    let customer = match known {
        Some(known) => known,
        None => {
            let user_ids = [verified.user_id.clone()];
            let ensured = app.transact(async |tx| profile::ensure_in(tx, env, &user_ids).await).await?;
            ensured.into_iter().next().ok_or_else(|| Error::internal("a customer was not made"))?
        }
    };
    let mappings = key.claim_mappings()?;
    if !mappings.is_empty() {
        change::take_claims(app, &customer, claim_mapping::apply(&mappings, &verified.claims)).await?;
    }
    Ok(customer.id)
}

async fn note_refusal(app: &App, environments: &[EnvId], name: &str, token: &str, refusal: &Error) {
    let claims = jwt::unverified_claim_names(token);
    for env in environments {
        let refusal = Refusal { code: refusal.code(), operation: None, key_name: name, claims: &claims };
        sdk_failure::note(app, *env, refusal).await;
    }
}

async fn anonymous(app: &App, name: &str, sdk: SdkContext, info: RequestInfo) -> Result<AppAccess> {
    match sdk_key::named(&*app.read().await?, name).await?.as_slice() {
        [] => Err(Error::new(Code::Unauthenticated, "the API key is unknown")),
        [key] => Ok(AppAccess { env: key.environment_id, key: key.id, sdk, info }),
        _ => Err(Error::new(Code::Unauthenticated, "several environments have an API key of this name")),
    }
}

fn checked(sdk: SdkContext) -> Result<SdkContext> {
    let platforms = ["Web", "iOS", "Android"];
    if sdk.platform.as_deref().is_some_and(|platform| !platforms.contains(&platform)) {
        return Err(Error::new(Code::BadRequest, "the platform must be Web, iOS or Android"));
    }
    if sdk.timezone.as_deref().is_some_and(|zone| crate::clock::zone(zone).is_err()) {
        return Err(Error::new(Code::BadRequest, "the timezone is not an IANA time zone name"));
    }
    let long = |text: &Option<String>, most: usize| text.as_ref().is_some_and(|text| text.chars().count() > most);
    if long(&sdk.sdk_version, LONGEST_CONTEXT)
        || long(&sdk.device, LONGEST_CONTEXT)
        || long(&sdk.app_version, LONGEST_APP_VERSION)
    {
        return Err(Error::new(Code::BadRequest, "a value of the SDK context is too long"));
    }
    Ok(SdkContext { app_version: sdk.app_version.or_else(|| Some("unknown".to_owned())), ..sdk })
}

fn bearer(headers: &HeaderMap) -> Result<Option<String>> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(Some(token.to_owned())),
        _ => Err(Error::new(Code::Unauthenticated, "the Authorization header must be Bearer and a token")),
    }
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, token)| token.to_owned())
}

fn text(headers: &HeaderMap, name: &'static str) -> Result<Option<String>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| Error::new(Code::BadRequest, format!("the header {name} is not UTF-8")))?;
    if text.chars().count() > LONGEST_CONTEXT {
        return Err(Error::new(
            Code::BadRequest,
            format!("the header {name} has more than {LONGEST_CONTEXT} characters"),
        ));
    }
    Ok(Some(text.to_owned()))
}
