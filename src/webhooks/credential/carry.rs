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

    fn signed(method: &Method, path: &str, given: &[(&'static str, &'static str)], session: Option<&str>) -> HeaderMap {
        let carried = Carried {
            id: crate::ids::Ids::seeded(1).unguessable(),
            revision: 1,
            settings: Settings::AwsSigned {
                access_key_id: "AKIDEXAMPLE".into(),
                sign_query: false,
                region: Some("us-east-1".into()),
                service: Some("service".into()),
            },
            secrets: Secrets {
                main: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
                session_token: session.map(str::to_owned),
            },
        };
        let mut url = Url::parse(&format!("https://example.amazonaws.com{path}")).unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let parcel = Parcel { method, url: &mut url, headers: &mut headers, body: b"" };
        carried.sign(parcel, Time::parse("2015-08-30T12:36:00Z").unwrap()).unwrap();
        headers
    }

    /// The session token of the published test suite.
    const SESSION: &str = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==";

    /// A case of the published test suite of Signature Version 4.
    struct Published {
        name: &'static str,
        method: &'static str,
        path: &'static str,
        headers: &'static [(&'static str, &'static str)],
        signature: &'static str,
    }

    const PUBLISHED: &[Published] = &[
        Published {
            name: "get-vanilla",
            method: "GET",
            path: "/",
            headers: &[],
            signature: "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        },
        Published {
            name: "post-vanilla",
            method: "POST",
            path: "/",
            headers: &[],
            signature: "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        },
        Published {
            name: "get-vanilla-empty-query-key",
            method: "GET",
            path: "/?Param1=value1",
            headers: &[],
            signature: "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
        },
        Published {
            name: "get-vanilla-query-order-key-case",
            method: "GET",
            path: "/?Param2=value2&Param1=value1",
            headers: &[],
            signature: "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        },
        Published {
            name: "get-vanilla-query-order-encoded",
            method: "GET",
            path: "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1",
            headers: &[],
            signature: "371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
        },
        Published {
            name: "get-vanilla-query-unreserved",
            method: "GET",
            path: "/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            headers: &[],
            signature: "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
        },
        Published {
            name: "get-unreserved",
            method: "GET",
            path: "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            headers: &[],
            signature: "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        },
        Published {
            name: "post-vanilla-query",
            method: "POST",
            path: "/?Param1=value1",
            headers: &[],
            signature: "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
        },
        Published {
            name: "post-header-key-sort",
            method: "POST",
            path: "/",
            headers: &[("my-header1", "value1")],
            signature: "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
        },
        Published {
            name: "post-header-value-case",
            method: "POST",
            path: "/",
            headers: &[("my-header1", "VALUE1")],
            signature: "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        },
        Published {
            name: "get-header-key-duplicate",
            method: "GET",
            path: "/",
            headers: &[("my-header1", "value2"), ("my-header1", "value2"), ("my-header1", "value1")],
            signature: "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        },
        Published {
            name: "get-header-value-trim",
            method: "GET",
            path: "/",
            headers: &[("my-header1", "value1"), ("my-header2", "\"a   b   c\"")],
            signature: "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        },
    ];

    fn signature(headers: &HeaderMap) -> &str {
        headers["authorization"].to_str().unwrap().rsplit("Signature=").next().unwrap()
    }

    #[test]
    fn the_published_examples_are_signed_as_published() {
        for case in PUBLISHED {
            let method = Method::from_bytes(case.method.as_bytes()).unwrap();
            let headers = signed(&method, case.path, case.headers, None);
            assert_eq!(signature(&headers), case.signature, "{}", case.name);
        }
        // The case `post-sts-header-before`.
        let headers = signed(&Method::POST, "/", &[], Some(SESSION));
        assert_eq!(signature(&headers), "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");
    }
}
