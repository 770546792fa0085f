//! `cardwire demo`: a server with a ready environment, a page to look at, and a receiver of its webhooks.
//!
//! Cast: [`seed`] makes the environment through the public API alone, so that the demo shows what everybody can do;
//! [`keys`] plays the owner of an app who signs tokens; [`page`] serves the page and what it asks; [`receiver`]
//! verifies webhooks as a company's system would. Nothing of this is reachable from `cardwire serve`.

mod keys;
mod page;
mod receiver;
mod seed;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::command::{Opened, print, serve_until_stopped};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::secret::{Secret, random_token};

use self::page::Demo;
use self::seed::State;

/// Runs the demo until it is stopped.
pub async fn run(mut config: Config) -> Result<()> {
    for range in ["127.0.0.0/8", "::1/128"] {
        config.allow_destinations.extend(range.parse::<ipnet::IpNet>().ok());
    }
    config.allow_http_destinations = true;
    let mut state = State::load(&config.data_dir)?;
    if state.setup_token.is_none() {
        let token = config.setup_token.clone().unwrap_or_else(|| random_token(&Ids::random()));
        state.setup_token = Some(token.expose().to_owned());
        state.save()?;
    }
    config.setup_token = state.setup_token.as_deref().map(Secret::new);
    let opened = Opened::open(config).await?;
    let address = opened.listener.local_addr().map_err(Error::internal)?;
    let here = format!("http://{address}").replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]");
    let demo = Arc::new(Demo::new(opened.app.outbound().clone(), here.clone()));
    let routes = page::routes(demo.clone());
    serve_until_stopped(opened, routes, async move |app| {
        let ready = seed::run(app, &here, &mut state).await?;
        demo.begin(&state)?;
        introduce(&ready);
        Ok(ready)
    })
    .await
}

/// Says where the page is, and how to do by hand what its button does.
fn introduce(ready: &Value) {
    let text = |pointer: &str| ready.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (origin, environment, flow) = (text("/origin"), text("/environmentId"), text("/flowConfigId"));
    let (id, secret) = (text("/credentials/events/clientId"), text("/credentials/events/clientSecret"));
    let start = json!({ "flows": [{
        "target": { "type": "user", "targetUserIds": text("/customerId") },
        "payload": { "variables": { "amount": "12" } },
    }] });
    print(&format!(
        "\nThe demo page: {origin}/demo\nThe workbench member: {} / {}\n\nOr by hand, from another terminal:\n\n\
         TOKEN=$(curl -s -u '{id}:{secret}' -d grant_type=client_credentials {origin}/oauth2/token | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n\
         curl -s {origin}/v1/{environment}/action-flow/{flow}/start -H \"Authorization: Bearer $TOKEN\" -H 'Content-Type: application/json' -d '{start}'\n\
         sleep 1; curl -s \"{origin}/v1/{environment}/cards?limit=1\" -H \"Authorization: Bearer $TOKEN\"\n",
        text("/owner/email"),
        text("/owner/password"),
    ));
}
