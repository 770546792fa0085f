//! Claims of a verified token that become fields of the customer's profile (§3.5).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_json_path::JsonPath;

use crate::customers::profile::CORE_FIELDS;
use crate::error::{Result, Violations};

/// Mappings of one key.
const MOST: usize = 20;
const LONGEST_CLAIM: usize = 256;

/// `{"claim": "$.path", "field": "profile_field"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimMapping {
    /// A JSONPath into the claims.
    pub claim: String,
    /// The profile field that takes the value.
    pub field: String,
}

/// Checks the mappings of one key; every violation has its pointer.
pub(super) fn check(mappings: &[ClaimMapping]) -> Result<()> {
    let mut violations = Violations::new();
    if mappings.len() > MOST {
        violations.add("/claimMappings", format!("has at most {MOST} entries"));
    }
    for (index, ClaimMapping { claim, field }) in mappings.iter().enumerate() {
        let place = format!("/claimMappings/{index}");
        if claim.len() > LONGEST_CLAIM {
            violations.add(format!("{place}/claim"), format!("has at most {LONGEST_CLAIM} bytes"));
        } else if let Err(error) = JsonPath::parse(claim) {
            violations.add(format!("{place}/claim"), format!("is not a JSONPath: {error}"));
        }
        if !CORE_FIELDS.contains(&field.as_str()) {
            violations.add(format!("{place}/field"), format!("must be one of {}", CORE_FIELDS.join(", ")));
        } else if mappings[..index].iter().any(|earlier| earlier.field == *field) {
            violations.add(format!("{place}/field"), "is mapped twice");
        }
    }
    violations.finish()
}

/// What a token says of the profile. A path that names nothing, several values or no plain value says nothing.
pub(super) fn apply(mappings: &[ClaimMapping], claims: &Map<String, Value>) -> Map<String, Value> {
    let claims = Value::Object(claims.clone());
    let said = mappings.iter().filter_map(|mapping| {
        let path = JsonPath::parse(&mapping.claim).ok()?;
        let text = match path.query(&claims).at_most_one().ok()?? {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        Some((mapping.field.clone(), Value::String(text)))
    });
    said.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(claim: &str, field: &str) -> ClaimMapping {
        ClaimMapping { claim: claim.into(), field: field.into() }
    }

    #[test]
    fn plain_values_are_taken_and_nothing_else() {
        let claims = json!({"email": "ana@example.org", "address": {"city": "Porto"}, "plan": 3, "roles": ["a", "b"], "none": null});
        let mappings = [
            mapping("$.email", "email"),
            mapping("$.address.city", "city"),
            mapping("$.plan", "external_id"),
            mapping("$.roles[*]", "name"),
            mapping("$.address", "region"),
            mapping("$.none", "phone"),
            mapping("$.absent", "country"),
        ];
        let said = apply(&mappings, claims.as_object().unwrap());
        assert_eq!(Value::Object(said), json!({"email": "ana@example.org", "city": "Porto", "external_id": "3"}));
    }

    #[test]
    fn mappings_that_say_nothing_are_refused() {
        let error = check(&[
            mapping("email", "email"),
            mapping("$.a", "user_type"),
            mapping("$.b", "city"),
            mapping("$.c", "city"),
        ])
        .unwrap_err();
        let pointers: Vec<_> = error.violations().iter().filter_map(|violation| violation.pointer.as_deref()).collect();
        assert_eq!(pointers, ["/claimMappings/0/claim", "/claimMappings/1/field", "/claimMappings/3/field"]);
    }
}
