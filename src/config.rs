//! Configuration: `CARDWIRE_*` variables and flags, checked as a whole so that every mistake is reported at once.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use url::Url;

use crate::secret::{Secret, Vault};

/// What can be set, by flag or by variable. Values are checked by [`Settings::check`].
#[derive(Args, Clone)]
pub struct Settings {
    /// Address and port to listen on; port 0 picks a free one
    #[arg(long, env = "CARDWIRE_LISTEN", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Origin under which clients reach this server, scheme included [default: plain http at the listening address]
    #[arg(long, env = "CARDWIRE_ORIGIN")]
    origin: Option<String>,
    /// Directory of the private database, the master key and other files of this server
    #[arg(long, env = "CARDWIRE_DATA_DIR", default_value = "data")]
    data_dir: PathBuf,
    /// PostgreSQL connection string; without it a private cluster is kept in the data directory
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Connections to the database, beside half as many that only read feeds and a few that look at the record of events
    #[arg(long, env = "CARDWIRE_DATABASE_CONNECTIONS", default_value = "16")]
    database_connections: String,
    /// Directory with the PostgreSQL server binaries, when they are not in a usual place
    #[arg(long, env = "CARDWIRE_POSTGRES_BIN")]
    postgres_bin: Option<PathBuf>,
    /// Key that seals secrets at rest: 32 bytes in base64 [default: generated into the data directory]
    #[arg(long, env = "CARDWIRE_MASTER_KEY", hide_env_values = true)]
    master_key: Option<String>,
    /// One-time token for setting up an empty database [default: generated and printed]
    #[arg(long, env = "CARDWIRE_SETUP_TOKEN", hide_env_values = true)]
    setup_token: Option<String>,
    /// Address ranges that outgoing requests may reach although they are private, separated by commas
    #[arg(long, env = "CARDWIRE_ALLOW_DESTINATIONS", default_value = "")]
    allow_destinations: String,
    /// Allow plain http for outgoing requests: true or false
    #[arg(long, env = "CARDWIRE_ALLOW_HTTP_DESTINATIONS", default_value = "false")]
    allow_http_destinations: String,
    /// Address ranges of proxies whose X-Forwarded-For is believed, separated by commas
    #[arg(long, env = "CARDWIRE_TRUSTED_PROXIES", default_value = "")]
    trusted_proxies: String,
    /// Origins allowed to call from browsers, separated by commas, or *
    #[arg(long, env = "CARDWIRE_CORS_ORIGINS", default_value = "*")]
    cors_origins: String,
    /// Answer GraphQL introspection: true or false
    #[arg(long, env = "CARDWIRE_INTROSPECTION", default_value = "true")]
    introspection: String,
    /// Largest body of REST and GraphQL requests, in bytes
    #[arg(long, env = "CARDWIRE_BODY_LIMIT", default_value = "5242880")]
    body_limit: String,
    /// REST requests a second of one API credential; twice as many in a burst
    #[arg(long, env = "CARDWIRE_REST_RATE", default_value = "100")]
    rest_rate: String,
    /// Access tokens a second for one client id
    #[arg(long, env = "CARDWIRE_TOKEN_RATE", default_value = "5")]
    token_rate: String,
    /// SDK operations a second of one customer; three times as many in a burst
    #[arg(long, env = "CARDWIRE_SDK_RATE", default_value = "20")]
    sdk_rate: String,
    /// Connections that one customer may have open: websockets and event streams
    #[arg(long, env = "CARDWIRE_CUSTOMER_CONNECTIONS", default_value = "50")]
    customer_connections: String,
    /// Connections that may be open from one address
    #[arg(long, env = "CARDWIRE_ADDRESS_CONNECTIONS", default_value = "10000")]
    address_connections: String,
    /// NATS server that carries hints between servers that share a database [default: PostgreSQL carries them]
    #[arg(long, env = "CARDWIRE_NATS_URL", hide_env_values = true)]
    nats_url: Option<String>,
    /// Requests a second to one trigger URL; four times as many in a burst
    #[arg(long, env = "CARDWIRE_TRIGGER_RATE", default_value = "50")]
    trigger_rate: String,
    /// Address for /metrics alone; without it /metrics is served with everything else
    #[arg(long, env = "CARDWIRE_METRICS_LISTEN")]
    metrics_listen: Option<String>,
    /// Seconds that running requests and sockets get to end at shutdown
    #[arg(long, env = "CARDWIRE_DRAIN_SECONDS", default_value = "10")]
    drain_seconds: String,
    /// Log format: text or json
    #[arg(long, env = "CARDWIRE_LOG_FORMAT", default_value = "text")]
    log_format: String,
    /// Log filter, such as info or cardwire=debug
    #[arg(long, env = "CARDWIRE_LOG", default_value = "info")]
    log: String,
    /// File that receives one JSON object when requests can be served
    #[arg(long, env = "CARDWIRE_READY_FILE")]
    ready_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Which browsers may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    Any,
    These(Vec<String>),
}

/// Settings that have been checked. `Debug` shows no secret.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub origin: Option<Url>,
    pub data_dir: PathBuf,
    pub database_url: Option<Secret>,
    pub database_connections: usize,
    pub postgres_bin: Option<PathBuf>,
    pub master_key: Option<MasterKey>,
    pub setup_token: Option<Secret>,
    pub allow_destinations: Vec<IpNet>,
    pub allow_http_destinations: bool,
    pub trusted_proxies: Vec<IpNet>,
    pub cors_origins: CorsOrigins,
    pub introspection: bool,
    pub body_limit: usize,
    pub rates: Rates,
    pub connections: Connections,
    pub carrier: Carrier,
    pub metrics_listen: Option<SocketAddr>,
    pub drain: Duration,
    pub log_format: LogFormat,
    pub log: String,
    pub ready_file: Option<PathBuf>,
    /// The executable of which sandboxes are children.
    pub program: PathBuf,
}

/// How often one caller may call, in requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    pub rest: u32,
    pub token: u32,
    pub sdk: u32,
    pub trigger: u32,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates { rest: 100, token: 5, sdk: 20, trigger: 50 }
    }
}

/// How many connections one caller may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    pub per_customer: usize,
    pub per_address: usize,
}

impl Default for Connections {
    fn default() -> Connections {
        Connections { per_customer: 50, per_address: 10_000 }
    }
}

/// What carries hints between the servers that share a database.
#[derive(Clone, Debug)]
pub enum Carrier {
    /// There are no others.
    None,
    /// The database itself, under this connection string.
    Postgres(Secret),
    /// A NATS server at this URL.
    Nats(Secret),
}

/// The bytes of the master key.
#[derive(Clone, Copy)]
pub struct MasterKey(pub [u8; 32]);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl Settings {
    /// Checks every setting. The errors name the flag and the variable.
    pub fn check(self) -> Result<Config, Vec<String>> {
        let mut errors = Errors(Vec::new());
        let listen = errors.read("listen", "an address and port such as 127.0.0.1:8080", || self.listen.parse().ok());
        let origin = errors.read("origin", "an http or https URL without a path", || match &self.origin {
            None => Some(None),
            Some(text) => Url::parse(text)
                .ok()
                .filter(|url| matches!(url.scheme(), "http" | "https") && url.path() == "/" && url.query().is_none())
                .map(Some),
        });
        let connections = errors
            .read("database-connections", "a number from 2 to 1000", || number(&self.database_connections, 2, 1000));
        let master_key = errors.read("master-key", "32 bytes in base64", || match &self.master_key {
            None => Some(None),
            Some(text) => Vault::parse_key(text).map(|key| Some(MasterKey(key))),
        });
        let ranges = "address ranges such as 10.0.0.0/8,::1/128";
        let allow_destinations = errors.read("allow-destinations", ranges, || networks(&self.allow_destinations));
        let trusted_proxies = errors.read("trusted-proxies", ranges, || networks(&self.trusted_proxies));
        let allow_http =
            errors.read("allow-http-destinations", "true or false", || self.allow_http_destinations.parse().ok());
        let introspection = errors.read("introspection", "true or false", || self.introspection.parse().ok());
        let body_limit =
            errors.read("body-limit", "a number from 1024 to 1073741824", || number(&self.body_limit, 1024, 1 << 30));
        let rest_rate = errors.read("rest-rate", RATE, || rate(&self.rest_rate));
        let token_rate = errors.read("token-rate", RATE, || rate(&self.token_rate));
        let sdk_rate = errors.read("sdk-rate", RATE, || rate(&self.sdk_rate));
        let trigger_rate = errors.read("trigger-rate", RATE, || rate(&self.trigger_rate));
        let places = "a number from 1 to 10000000";
        let per_customer =
            errors.read("customer-connections", places, || number(&self.customer_connections, 1, 10_000_000));
        let per_address =
            errors.read("address-connections", places, || number(&self.address_connections, 1, 10_000_000));
        let carrier = errors.read("nats-url", "a URL such as nats://user:password@host:4222", || {
            match (&self.nats_url, &self.database_url) {
                (Some(url), _) => {
                    let known = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "nats" | "tls" | "ws" | "wss"));
                    known.then(|| Carrier::Nats(Secret::new(url)))
                }
                (None, Some(database)) => Some(Carrier::Postgres(Secret::new(database))),
                // A private cluster has one server.
                (None, None) => Some(Carrier::None),
            }
        });
        let metrics_listen = errors.read("metrics-listen", "an address and port", || match &self.metrics_listen {
            None => Some(None),
            Some(text) => text.parse().ok().map(Some),
        });
        let drain = errors.read("drain-seconds", "a number from 0 to 3600", || number(&self.drain_seconds, 0, 3600));
        let log_format = errors.read("log-format", "text or json", || match self.log_format.as_str() {
            "text" => Some(LogFormat::Text),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let setup_token = errors.read("setup-token", "16 characters or more", || match &self.setup_token {
            None => Some(None),
            Some(text) => (text.chars().count() >= 16).then(|| Some(Secret::new(text))),
        });
        if self.database_url.is_some() && self.master_key.is_none() {
            errors.0.push(
                "--master-key (CARDWIRE_MASTER_KEY) is required with DATABASE_URL: make one with `openssl rand -base64 32` \
                 and keep it, sealed secrets open with no other"
                    .to_owned(),
            );
        }
        if !errors.0.is_empty() {
            return Err(errors.0);
        }
        let missing = || vec!["a setting is missing".to_owned()];
        Ok(Config {
            listen: listen.ok_or_else(missing)?,
            origin: origin.ok_or_else(missing)?,
            data_dir: self.data_dir,
            database_url: self.database_url.map(Secret::new),
            database_connections: connections.ok_or_else(missing)?,
            postgres_bin: self.postgres_bin,
            master_key: master_key.ok_or_else(missing)?,
            setup_token: setup_token.ok_or_else(missing)?,
            allow_destinations: allow_destinations.ok_or_else(missing)?,
            allow_http_destinations: allow_http.ok_or_else(missing)?,
            trusted_proxies: trusted_proxies.ok_or_else(missing)?,
            cors_origins: cors(&self.cors_origins),
            introspection: introspection.ok_or_else(missing)?,
            body_limit: body_limit.ok_or_else(missing)?,
            rates: Rates {
                rest: rest_rate.ok_or_else(missing)?,
                token: token_rate.ok_or_else(missing)?,
                sdk: sdk_rate.ok_or_else(missing)?,
                trigger: trigger_rate.ok_or_else(missing)?,
            },
            connections: Connections {
                per_customer: per_customer.ok_or_else(missing)?,
                per_address: per_address.ok_or_else(missing)?,
            },
            carrier: carrier.ok_or_else(missing)?,
            metrics_listen: metrics_listen.ok_or_else(missing)?,
            drain: Duration::from_secs(drain.ok_or_else(missing)? as u64),
            log_format: log_format.ok_or_else(missing)?,
            log: self.log,
            ready_file: self.ready_file,
            program: own_program(),
        })
    }
}

impl Config {
    /// The configuration of an in-process server for tests and benches: a free port, the given database.
    pub fn for_database(url: &str, data_dir: PathBuf) -> Config {
        Config {
            listen: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0),
            origin: None,
            data_dir,
            database_url: Some(Secret::new(url)),
            database_connections: 10,
            postgres_bin: None,
            master_key: Some(MasterKey([42; 32])),
            setup_token: None,
            allow_destinations: Vec::new(),
            allow_http_destinations: false,
            trusted_proxies: Vec::new(),
            cors_origins: CorsOrigins::Any,
            introspection: true,
            body_limit: 5 << 20,
            rates: Rates::default(),
            connections: Connections::default(),
            carrier: Carrier::None,
            metrics_listen: None,
            drain: Duration::from_secs(2),
            log_format: LogFormat::Text,
            log: "warn".to_owned(),
            ready_file: None,
            program: own_program(),
        }
    }
}

/// The executable of this process.
fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("cardwire"))
}

struct Errors(Vec<String>);

impl Errors {
    fn read<T>(&mut self, flag: &str, form: &str, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let value = read();
        if value.is_none() {
            let variable = flag.to_uppercase().replace('-', "_");
            self.0.push(format!("--{flag} (CARDWIRE_{variable}) must be {form}"));
        }
        value
    }
}

fn number(text: &str, least: usize, most: usize) -> Option<usize> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

const RATE: &str = "a number from 1 to 1000000";

fn rate(text: &str) -> Option<u32> {
    number(text, 1, 1_000_000).and_then(|rate| u32::try_from(rate).ok())
}

fn networks(text: &str) -> Option<Vec<IpNet>> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse::<IpNet>().ok().or_else(|| part.parse::<IpAddr>().ok().map(IpNet::from)))
        .collect()
}

fn cors(text: &str) -> CorsOrigins {
    if text.trim() == "*" {
        return CorsOrigins::Any;
    }
    CorsOrigins::These(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn check(line: &[&str]) -> Result<Config, Vec<String>> {
        Line::parse_from([&["cardwire"], line].concat()).settings.check()
    }

    #[test]
    fn every_mistake_is_reported_at_once() {
        let errors =
            check(&["--listen", "nowhere", "--drain-seconds", "soon", "--allow-destinations", "10/33"]).unwrap_err();
        assert_eq!(errors.len(), 3, "{errors:?}");
        assert!(errors[0].contains("CARDWIRE_LISTEN"));
    }

    #[test]
    fn a_foreign_database_needs_a_master_key() {
        let errors = check(&["--database-url", "postgres://x:pw@y/z"]).unwrap_err();
        assert!(errors[0].contains("CARDWIRE_MASTER_KEY"), "{errors:?}");
    }

    #[test]
    fn secrets_are_not_printed() {
        let key = "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2U=";
        let config = check(&["--database-url", "postgres://x:pw@y/z", "--master-key", key]).unwrap();
        let printed = format!("{config:?}");
        assert!(!printed.contains("pw") && !printed.contains(key), "{printed}");
    }
}
