//! What the cells of a row mean: column names in dot notation build the entry of a start request (specification 8.7).

use serde_json::{Map, Value, json};

use crate::error::{Error, Result, Violations};
use crate::flows::request::Entry;
use crate::ids::{FlowId, Id};

/// The most columns of a file.
const COLUMNS: usize = 100;
const TARGET: &str = "target.targetUserIds";
const FLOW: &str = "flowConfigId";
const INVOCATION: &str = "flowInvocationId";

/// Checks the names of the columns.
pub(super) fn check(names: &[String], flow: Flow) -> Result<()> {
    let mut violations = Violations::new();
    if names.len() > COLUMNS {
        violations.add("", format!("a file has at most {COLUMNS} columns"));
    }
    let required: &[&str] = if flow == Flow::InRow { &[TARGET, FLOW] } else { &[TARGET] };
    for name in required.iter().filter(|name| !names.iter().any(|column| column == *name)) {
        violations.add("", format!("the column `{name}` is missing"));
    }
    for (place, name) in names.iter().enumerate() {
        let known = name == TARGET || name == INVOCATION || (name == FLOW && flow == Flow::InRow);
        if !known && part(name).is_none() {
            violations.add("", format!("`{name}` is not the name of a column"));
        }
        if names[..place].contains(name) {
            violations.add("", format!("the column `{name}` is there twice"));
        }
    }
    violations.finish()
}

/// Where a row's flow is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    OfTask,
    InRow,
}

/// A column of the payload: the object it belongs to, and its name in it.
fn part(name: &str) -> Option<(&str, &str)> {
    let (object, field) = name.strip_prefix("payload.")?.split_once('.')?;
    let known = matches!(object, "variables" | "cardOptions" | "metadata" | "notificationDetail");
    (known && !field.is_empty()).then_some((object, field))
}

/// The column that a pointer into an entry comes from.
pub(super) fn name_of(pointer: &str) -> String {
    pointer.trim_start_matches('/').replace('/', ".")
}

/// The flow that a row names.
pub(super) fn flow_of(names: &[String], cells: &[String]) -> Result<FlowId> {
    let place = names.iter().position(|name| name == FLOW);
    let id = place.and_then(|place| cells.get(place)).map(String::as_str).unwrap_or_default();
    FlowId::parse(id.trim())
}

/// The entry that a row asks for. Its invocation is `fallback` where the row has none.
pub(super) fn entry(names: &[String], cells: &[String], fallback: String) -> Result<Entry> {
    if names.len() != cells.len() {
        let (has, should) = (cells.len(), names.len());
        return Err(Error::invalid("", format!("the row has {has} cells and not {should}")));
    }
    let mut payload: Map<String, Value> = Map::new();
    let (mut users, mut invocation) = (Vec::new(), fallback);
    for (name, cell) in names.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        if name == TARGET {
            users = cell.split(';').map(str::trim).filter(|id| !id.is_empty()).collect();
        } else if name == INVOCATION {
            invocation.clone_from(cell);
        } else if let Some((object, field)) = part(name) {
            let value = if object == "cardOptions" { option(field, cell) } else { Value::from(cell.as_str()) };
            let object = payload.entry(object).or_insert_with(|| json!({}));
            object[field] = value;
        }
    }
    if users.is_empty() {
        return Err(Error::invalid("", "the row names no customer"));
    }
    let entry = json!({ "flowInvocationId": invocation, "target": { "type": "user", "targetUserIds": users },
        "payload": payload });
    Ok(Entry::parse(&entry, ""))
}

/// A delivery option as the text of a cell says it.
fn option(field: &str, cell: &str) -> Value {
    match field {
        "priority" => cell.trim().parse::<i64>().map_or_else(|_| Value::from(cell), Value::from),
        "targetStreamIds" | "targetPlatforms" => cell.split(';').map(|part| Value::from(part.trim())).collect(),
        _ => Value::from(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_the_target_is_required() {
        for (columns, flow, faults) in [
            (&["target.targetUserIds"][..], Flow::OfTask, 0),
            (&["flowInvocationId", "target.targetUserIds", "payload.variables.a.b"], Flow::OfTask, 0),
            (&["payload.variables.a"], Flow::OfTask, 1),
            (&["target.targetUserIds", "colour", "payload.variables", "payload.x.y"], Flow::OfTask, 3),
            (&["target.targetUserIds", "target.targetUserIds"], Flow::OfTask, 1),
            (&["target.targetUserIds", "flowConfigId"], Flow::OfTask, 1),
            (&["target.targetUserIds"], Flow::InRow, 1),
            (&["target.targetUserIds", "flowConfigId"], Flow::InRow, 0),
        ] {
            let found = check(&names(columns), flow).err().map_or(0, |error| error.violations().len());
            assert_eq!(found, faults, "{columns:?}");
        }
    }

    #[test]
    fn rows_build_entries() {
        let columns = names(&[
            "target.targetUserIds",
            "flowInvocationId",
            "payload.variables.amount",
            "payload.cardOptions.priority",
            "payload.cardOptions.targetPlatforms",
            "payload.metadata.a",
        ]);
        let row = |cells: &[&str]| entry(&columns, &names(cells), "task:7".to_owned());
        let whole = row(&["a; b;", "mine", "12", "2", "Web;iOS", "x"]).unwrap();
        assert!(whole.faults.is_empty(), "{:?}", whole.faults);
        assert_eq!(whole.user_ids, ["a", "b"]);
        assert_eq!(whole.invocation.as_deref(), Some("mine"));
        assert_eq!(whole.payload.variables["amount"], "12");
        assert_eq!(whole.payload.card_options.priority, Some(2));
        assert_eq!(whole.payload.metadata["a"], "x");
        let bare = row(&["a", "", "", "", "", ""]).unwrap();
        assert_eq!(bare.invocation.as_deref(), Some("task:7"));
        assert!(bare.payload.variables.is_empty(), "an empty cell is no value");
        assert!(!row(&["a", "", "", "eleven", "", ""]).unwrap().faults.is_empty());
        assert!(row(&["", "", "", "", "", ""]).is_err());
        assert!(row(&["a"]).is_err());
    }
}
