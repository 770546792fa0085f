//! `cardwire doctor`: looks at what a server depends on, and says what to do.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Integer, Timestamptz};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};

use super::open::Database;
use super::print;
use crate::clock::{Clock, Time};
use crate::config::Config;
use crate::db::{embedded, migrations};
use crate::error::Error;
use crate::net::AddressRules;
use crate::webhooks::reconcile;

/// A clock that differs more from the database's makes timers and tokens come early or late.
const TOLERATED_SKEW: Duration = Duration::from_secs(2);
const OLDEST_POSTGRES: i32 = 140_000;
/// How far back the events lie that are compared with the deliveries made of them.
const WEBHOOKS_LOOKED_AT: Duration = Duration::from_secs(3600);

/// One finding: what was looked at, and what was seen or should be done.
type Finding = Result<String, String>;

/// Prints each finding. The error tells how many need attention.
pub async fn run(config: Config) -> Result<(), String> {
    let mut findings = vec![("directories", directories(&config)), ("address rules", address_rules(&config))];
    if config.database_url.is_none() {
        findings.push(("PostgreSQL binaries", binaries(&config)));
    }
    findings.extend(database(&config).await);
    let mut bad = 0;
    for (what, finding) in findings {
        match finding {
            Ok(seen) => print(&format!("ok    {what}: {seen}")),
            Err(advice) => {
                bad += 1;
                print(&format!("FAIL  {what}: {advice}"));
            }
        }
    }
    if bad == 0 { Ok(()) } else { Err(format!("{bad} of the checks need attention")) }
}

fn directories(config: &Config) -> Finding {
    let dir = &config.data_dir;
    let probe = dir.join(".doctor");
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"ok"))
        .and_then(|()| std::fs::remove_file(&probe))
        .map(|()| format!("{} can be written", dir.display()))
        .map_err(|error| {
            format!("{} cannot be written ({error}): name another with --data-dir or mend its owner", dir.display())
        })
}

fn address_rules(config: &Config) -> Finding {
    let rules = AddressRules::new(config);
    let metadata = [169, 254, 169, 254].into();
    if rules.permit(metadata) {
        return Err("the metadata service of clouds can be reached: narrow CARDWIRE_ALLOW_DESTINATIONS".to_owned());
    }
    let allowed: Vec<String> = config.allow_destinations.iter().map(ToString::to_string).collect();
    let plain = if config.allow_http_destinations { ", plain http allowed" } else { "" };
    match allowed.as_slice() {
        [] => Ok(format!("only public addresses can be reached{plain}")),
        _ => Ok(format!("public addresses and {} can be reached{plain}", allowed.join(", "))),
    }
}

fn binaries(config: &Config) -> Finding {
    embedded::find_binaries(config.postgres_bin.as_deref())
        .map(|dir| dir.display().to_string())
        .map_err(|error| error.cause().map_or_else(|| error.to_string(), ToString::to_string))
}

async fn database(config: &Config) -> Vec<(&'static str, Finding)> {
    let opened = match running(config) {
        Some(url) => Ok(Database::Foreign(url)),
        None => Database::open(config).await,
    };
    let database = match opened {
        Ok(database) => database,
        Err(error) => {
            let cause = error.cause().map_or_else(|| error.to_string(), ToString::to_string);
            return vec![("database", Err(cause))];
        }
    };
    let mut findings = vec![("database", Ok("answers".to_owned()))];
    match AsyncPgConnection::establish(database.url()).await {
        Ok(conn) => {
            findings.push(("database version", version(&conn).await));
            findings.push(("clock", skew(&conn).await));
            let schema = schema(database.url()).await;
            if schema.is_ok() {
                findings.push(("webhook deliveries", webhooks(&conn).await));
            }
            findings.push(("schema", schema));
        }
        Err(error) => findings[0].1 = Err(format!("{error}: check DATABASE_URL and that the server runs")),
    }
    database.close().await;
    findings
}

/// The database of a server that runs on this data directory: it is looked at, not started a second time.
fn running(config: &Config) -> Option<String> {
    if config.database_url.is_some() { None } else { embedded::running(&config.data_dir) }
}

#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Integer)]
    number: i32,
}

async fn version(conn: &AsyncPgConnection) -> Finding {
    let query = "SELECT current_setting('server_version_num')::int AS number";
    let found: Version = sql_query(query).get_result(&mut &*conn).await.map_err(|error| error.to_string())?;
    let (major, minor) = (found.number / 10_000, found.number % 10_000);
    if found.number < OLDEST_POSTGRES {
        return Err(format!("PostgreSQL {major}.{minor} is too old: 14 or newer is needed"));
    }
    Ok(format!("PostgreSQL {major}.{minor}"))
}

#[derive(QueryableByName)]
struct Instant {
    #[diesel(sql_type = Timestamptz)]
    instant: Time,
}

async fn skew(conn: &AsyncPgConnection) -> Finding {
    let before = Clock::system().now();
    let theirs: Instant = sql_query("SELECT clock_timestamp() AS instant")
        .get_result(&mut &*conn)
        .await
        .map_err(|error| error.to_string())?;
    let apart = before.since(theirs.instant).max(theirs.instant.since(before));
    if apart > TOLERATED_SKEW {
        return Err(format!("this clock and the database's are {} s apart: set both by NTP", apart.as_secs()));
    }
    Ok(format!("{} ms from the database's", apart.as_millis()))
}

/// Whether every delivery of a webhook came to an end or waits.
async fn webhooks(conn: &AsyncPgConnection) -> Finding {
    let since = Clock::system().now().minus(WEBHOOKS_LOOKED_AT);
    let looked = async { Ok::<_, Error>((reconcile::books(conn).await?, reconcile::unmatched(conn, since).await?)) };
    let (books, unmatched) =
        looked.await.map_err(|error| error.cause().map_or_else(|| error.to_string(), ToString::to_string))?;
    if books.unaccounted != 0 || unmatched != 0 {
        return Err(format!(
            "{} deliveries are unaccounted for and {unmatched} were never made: please report it, with what the \
             database or its disk went through",
            books.unaccounted
        ));
    }
    let ended = books.delivered + books.given_up + books.dropped;
    let waiting = books.fresh + books.open + books.retrying;
    Ok(format!("{} were to be made, {ended} came to an end and {waiting} wait", books.matched))
}

async fn schema(url: &str) -> Finding {
    match migrations::pending(url).await {
        Ok(false) => Ok("has the form of this version".to_owned()),
        Ok(true) => Err("is older than this version: run `cardwire migrate` (serve does it too)".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
