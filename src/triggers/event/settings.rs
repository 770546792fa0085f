//! Which events fire a trigger, as members write it.

use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{Bool, Nullable, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::error::{Error, Result, Violations};
use crate::events::kind;
use crate::flows::condition::Condition;
use crate::ids::{EnvId, FlowId, TemplateId};

/// What members set; absent fields stay. `Some(None)` takes a restriction away.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// A standard name, or `custom:` and the name of a custom event.
    pub event_name: Option<String>,
    /// Asked of the envelope, whose parts it names: `properties.values.choice`.
    pub condition: Option<Option<Value>>,
    /// The template whose cards the event must concern.
    pub template: Option<Option<TemplateId>>,
    /// The flow from which the event must stem.
    pub flow: Option<Option<FlowId>>,
}

#[derive(QueryableByName)]
struct Known {
    #[diesel(sql_type = Bool)]
    template: bool,
    #[diesel(sql_type = Bool)]
    flow: bool,
}

impl Settings {
    /// Tells whether anything is set.
    pub(in crate::triggers) fn any(&self) -> bool {
        self.event_name.is_some() || self.condition.is_some() || self.template.is_some() || self.flow.is_some()
    }

    pub(in crate::triggers) fn check(&self, violations: &mut Violations) {
        if let Some(name) = self.event_name.as_deref().filter(|name| !kind::known(name)) {
            violations.add("/eventName", format!("{name:?} is not the name of an event"));
        }
        if let Some(Some(condition)) = &self.condition {
            Condition::parse(condition, "/where", violations);
        }
    }

    /// Refuses restrictions to what the environment does not have.
    pub(in crate::triggers) async fn must_name_what_exists(&self, conn: &AsyncPgConnection, env: EnvId) -> Result<()> {
        let (template, flow) = (self.template.flatten(), self.flow.flatten());
        if template.is_none() && flow.is_none() {
            return Ok(());
        }
        let known: Known = sql_query(
            "SELECT $2 IS NULL OR EXISTS (SELECT FROM card_templates WHERE environment_id = $1 AND id = $2) AS template,
                    $3 IS NULL OR EXISTS (SELECT FROM flows WHERE environment_id = $1 AND id = $3) AS flow",
        )
        .bind::<SqlUuid, _>(env)
        .bind::<Nullable<SqlUuid>, _>(template)
        .bind::<Nullable<SqlUuid>, _>(flow)
        .get_result(&mut &*conn)
        .await?;
        let mut violations = Violations::new();
        if !known.template {
            violations.extend(Error::invalid("/cardTemplateId", "no card template has this id"));
        }
        if !known.flow {
            violations.extend(Error::invalid("/actionFlowConfigId", "no action flow has this id"));
        }
        violations.finish()
    }
}
