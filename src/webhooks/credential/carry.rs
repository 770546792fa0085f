//! Puts a credential into a request that is about to leave.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Method, header};
use url::Url;

use super::Credential;
use super::kind::{Secrets, Settings};
use super::token::Grant;
use crate::app::App;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::ids::OutgoingCredentialId;
use crate::secret::Secret;

/// How long a signature in a query is good.
const QUERY_LIFE: Duration = Duration::from_secs(300);

/// A credential opened for use.
pub struct Carried {
    id: OutgoingCredentialId,
    revision: i32,
    settings: Settings,
    secrets: Secrets,
}

/// A request as far as credentials concern it.
pub struct Parcel<'a> {
    pub method: &'a Method,
    pub url: &'a mut Url,
    pub headers: &'a mut HeaderMap,
    pub body: &'a [u8],
}

impl Carried {
    pub fn open(app: &App, credential: &Credential) -> Result<Carried> {
        Ok(Carried {
            id: credential.id,
            revision: credential.revision,
            settings: credential.settings()?,
            secrets: credential.secrets(app)?,
        })
    }

    /// Adds the credential. The error is a word for the request log; such a request must not leave. Gives the access
    /// token that was used, so that it can be forgotten when it is refused.
    pub async fn put(&self, app: &App, parcel: Parcel<'_>) -> Result<Option<Arc<Secret>>, &'static str> {
        match &self.settings {
            Settings::Basic { username } => {
                let pair = STANDARD.encode(format!("{username}:{}", self.secrets.main));
                authorise(parcel.headers, &format!("Basic {pair}"))?;
                Ok(None)
            }
            Settings::OauthClientCredentials { identity_url, client_id, scope, scheme } => {
                let grant = Grant {
                    id: self.id,
                    revision: self.revision,
                    identity_url,
                    client_id,
                    client_secret: &self.secrets.main,
                    scope: scope.as_deref(),
                    scheme: *scheme,
                };
                let token = app.outgoing_tokens().get(app, &grant).await?;
                authorise(parcel.headers, &format!("Bearer {}", token.expose()))?;
                Ok(Some(token))
            }
            Settings::AwsSigned { .. } => self.sign(parcel, app.clock().now(), QUERY_LIFE).map(|()| None),
        }
    }

    /// Forgets a token that was answered with 401.
    pub fn refused(&self, app: &App, token: &Secret) {
        app.outgoing_tokens().forget(self.id, self.revision, token);
    }

    /// Signs; a signature in the query is good for `query_life`.
    fn sign(&self, parcel: Parcel<'_>, now: Time, query_life: Duration) -> Result<(), &'static str> {
        const FAULT: &str = "signing_failed";
        let Parcel { method, url, headers, body } = parcel;
        let Settings::AwsSigned { access_key_id, sign_query, .. } = &self.settings else { return Err(FAULT) };
        let (region, service) = scope(&self.settings, url).ok_or("signing_scope_unknown")?;
        let mut settings = SigningSettings::default();
        if *sign_query {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(query_life);
        }
        let secret = self.secrets.main.clone();
        let identity =
            Credentials::new(access_key_id, secret, self.secrets.session_token.clone(), None, "cardwire").into();
        let millis = u64::try_from(now.as_millisecond()).map_err(|_| FAULT)?;
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name(&service)
            .time(SystemTime::UNIX_EPOCH + Duration::from_millis(millis))
            .settings(settings)
            .build()
            .map_err(|_| FAULT)?
            .into();
        let given = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable =
            SignableRequest::new(method.as_str(), url.as_str(), given, SignableBody::Bytes(body)).map_err(|_| FAULT)?;
        let (instructions, _) = sign(signable, &params).map_err(|_| FAULT)?.into_parts();
        let mut signed = http::Request::builder().uri(url.as_str()).body(()).map_err(|_| FAULT)?;
        instructions.apply_to_request_http1x(&mut signed);
        *url = Url::parse(&signed.uri().to_string()).map_err(|_| FAULT)?;
        headers.extend(std::mem::take(signed.headers_mut()));
        Ok(())
    }
}

fn authorise(headers: &mut HeaderMap, text: &str) -> Result<(), &'static str> {
    let mut value = HeaderValue::try_from(text).map_err(|_| "credential_malformed")?;
    value.set_sensitive(true);
    headers.insert(header::AUTHORIZATION, value);
    Ok(())
}

/// Refuses a URL for which an AWS credential does not know what to sign.
pub(in crate::webhooks) fn check(credential: &Credential, url: &str) -> Result<()> {
    let settings = credential.settings()?;
    let url = Url::parse(url).map_err(Error::internal)?;
    if matches!(settings, Settings::AwsSigned { .. }) && scope(&settings, &url).is_none() {
        let detail = "the host name does not tell region and service: give them in the credential";
        return Err(Error::invalid("/credentialId", detail));
    }
    Ok(())
}

/// Region and service of an AWS signature: those of the credential, else what the host name tells.
fn scope(settings: &Settings, url: &Url) -> Option<(String, String)> {
    let Settings::AwsSigned { region, service, .. } = settings else { return None };
    let host = url.host_str().unwrap_or_default();
    let (told_region, told_service) = told_by(host).unzip();
    Some((region.clone().or(told_region)?, service.clone().or(told_service)?))
}

/// `queue.amazonaws.com`, `sqs.eu-west-1.amazonaws.com`, `x.execute-api.eu-west-1.amazonaws.com`,
/// `x.lambda-url.eu-west-1.on.aws`.
fn told_by(host: &str) -> Option<(String, String)> {
    let suffixes = [".amazonaws.com.cn", ".amazonaws.com", ".on.aws"];
    let prefix = suffixes.iter().find_map(|suffix| host.strip_suffix(suffix))?;
    let mut labels = prefix.rsplit('.');
    let last = labels.next()?;
    let is_region = last.matches('-').count() >= 2 && last.ends_with(|c: char| c.is_ascii_digit());
    let (region, service) = if is_region { (last, labels.next()?) } else { ("us-east-1", last) };
    let service = if service == "lambda-url" { "lambda" } else { service };
    Some((region.to_owned(), service.to_owned()))
}

#[cfg(test)]
#[path = "carry_tests.rs"]
mod tests;
