//! The schema that a mapped request must have (§9.3).

use serde_json::{Value, json};

use super::mapping::Problem;
use crate::error::Violation;
use crate::flows::StartRequest;

/// The properties of a mapped request.
pub const PROPERTIES: &[&str] =
    &["targetUserIds", "flowInvocationId", "cardOptions", "variables", "notificationDetail", "metadata"];

/// Reads a mapped request as a start request, or says everything that is wrong with it.
pub fn read(mapped: &Value) -> Result<StartRequest, Vec<Problem>> {
    let Some(object) = mapped.as_object() else { return Err(vec![Problem::new("", "the request must be an object")]) };
    let surprises = object.keys().filter(|name| !PROPERTIES.contains(&name.as_str()));
    let mut problems: Vec<Problem> = surprises
        .map(|name| {
            Problem::new(&format!("/{}", crate::text::pointer_token(name)), format!("unknown property `{name}`"))
        })
        .collect();
    let payload = json!({ "cardOptions": mapped["cardOptions"], "variables": mapped["variables"],
        "notificationDetail": mapped["notificationDetail"], "metadata": mapped["metadata"] });
    let target = json!({ "type": "user", "targetUserIds": mapped["targetUserIds"] });
    let request = StartRequest::of_entry(&json!({
        "flowInvocationId": mapped["flowInvocationId"], "target": target, "payload": payload }));
    for entry in &request.entries {
        problems.extend(entry.faults.iter().chain(&entry.refused_ids).map(problem));
    }
    if problems.is_empty() { Ok(request) } else { Err(problems) }
}

/// A mapped request has no `target` and no `payload` around its properties.
fn problem(violation: &Violation) -> Problem {
    let pointer = violation.pointer.as_deref().unwrap_or_default();
    let inner = pointer.strip_prefix("/target/").or_else(|| pointer.strip_prefix("/payload/"));
    let pointer = inner.map_or_else(|| pointer.to_owned(), |inner| format!("/{inner}"));
    Problem::new(&pointer, violation.detail.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_target_is_required() {
        for (mapped, pointers) in [
            (json!({ "targetUserIds": ["a"] }), &[][..]),
            (
                json!({ "targetUserIds": "a", "variables": {}, "metadata": {}, "notificationDetail": {},
                "flowInvocationId": "x", "cardOptions": { "priority": 5 } }),
                &[],
            ),
            (json!([]), &[""]),
            (json!({}), &["/targetUserIds"]),
            (json!({ "targetUserIds": [] }), &["/targetUserIds"]),
            (json!({ "targetUserIds": ["a", ""] }), &["/targetUserIds/1"]),
            (json!({ "targetUserIds": "a", "more": 1 }), &["/more"]),
            (json!({ "targetUserIds": "a", "cardOptions": { "priority": 50 } }), &["/cardOptions/priority"]),
            (
                json!({ "targetUserIds": "a", "variables": [], "flowInvocationId": 1 }),
                &["/variables", "/flowInvocationId"],
            ),
        ] {
            let found = read(&mapped).err().unwrap_or_default();
            let mut found: Vec<_> = found.iter().filter_map(|problem| problem.path.as_deref()).collect();
            let mut pointers = pointers.to_vec();
            found.sort_unstable();
            pointers.sort_unstable();
            assert_eq!(found, pointers, "{mapped}");
        }
    }
}
