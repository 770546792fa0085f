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
            Settings::AwsSigned { .. } => self.sign(parcel, app.clock().now()).map(|()| None),
        }
    }

    /// Forgets a token that was answered with 401.
    pub fn refused(&self, app: &App, token: &Secret) {
        app.outgoing_tokens().forget(self.id, self.revision, token);
    }

    fn sign(&self, parcel: Parcel<'_>, now: Time) -> Result<(), &'static str> {
        const FAULT: &str = "signing_failed";
        let Parcel { method, url, headers, body } = parcel;
        let Settings::AwsSigned { access_key_id, sign_query, .. } = &self.settings else { return Err(FAULT) };
        let (region, service) = scope(&self.settings, url).ok_or("signing_scope_unknown")?;
        let mut settings = SigningSettings::default();
        if *sign_query {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(QUERY_LIFE);
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
mod tests {
    use super::*;

    #[test]
    fn host_names_tell_region_and_service() {
        for (host, told) in [
            ("sqs.eu-west-1.amazonaws.com", Some(("eu-west-1", "sqs"))),
            ("a1b2.execute-api.ap-southeast-2.amazonaws.com", Some(("ap-southeast-2", "execute-api"))),
            ("iam.amazonaws.com", Some(("us-east-1", "iam"))),
            ("bucket.s3.amazonaws.com", Some(("us-east-1", "s3"))),
            ("x.lambda-url.eu-central-1.on.aws", Some(("eu-central-1", "lambda"))),
            ("sns.cn-north-1.amazonaws.com.cn", Some(("cn-north-1", "sns"))),
            ("example.com", None),
            ("amazonaws.com", None),
        ] {
            let told = told.map(|(region, service)| (region.to_owned(), service.to_owned()));
            assert_eq!(told_by(host), told, "{host}");
        }
    }

    /// The case `get-vanilla` of the published test suite of Signature Version 4.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let carried = Carried {
            id: crate::ids::Ids::seeded(1).unguessable(),
            revision: 1,
            settings: Settings::AwsSigned {
                access_key_id: "AKIDEXAMPLE".into(),
                sign_query: false,
                region: Some("us-east-1".into()),
                service: Some("service".into()),
            },
            secrets: Secrets { main: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(), session_token: None },
        };
        let mut url = Url::parse("https://example.amazonaws.com/").unwrap();
        let mut headers = HeaderMap::new();
        let parcel = Parcel { method: &Method::GET, url: &mut url, headers: &mut headers, body: b"" };
        carried.sign(parcel, Time::parse("2015-08-30T12:36:00Z").unwrap()).unwrap();
        assert_eq!(
            headers["authorization"],
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        );
    }
}
