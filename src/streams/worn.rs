//! The themes that a container wears, as apps ask for them (specification 4.1).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::container;
use super::theme::{self, Theme};
use crate::app::App;
use crate::error::{Code, Error, Result};
use crate::ids::{ContainerId, EnvId, SdkKeyId};
use crate::secret::token_hash;

/// A theme and the one that takes its place in the dark.
#[derive(Clone, Debug)]
pub struct Worn {
    pub light: Theme,
    pub dark: Option<Theme>,
}

impl Worn {
    pub fn light(&self) -> &Value {
        &self.light.document
    }

    /// The same as light where there is no dark theme.
    pub fn dark(&self) -> &Value {
        self.dark.as_ref().map_or(&self.light.document, |theme| &theme.document)
    }

    /// Every value of a key `fontFamily` in either document: what an app must load.
    pub fn font_families(&self) -> Vec<String> {
        let mut fonts = BTreeSet::new();
        collect_fonts(self.light(), &mut fonts);
        collect_fonts(self.dark(), &mut fonts);
        fonts.into_iter().collect()
    }

    /// Changes when a document does.
    pub fn etag(&self) -> String {
        hex::encode(&token_hash(&json!([self.light(), self.dark()]).to_string())[..16])
    }
}

/// Finds what a container wears. The key must be granted to it.
pub async fn worn(app: &App, env: EnvId, key: SdkKeyId, container: ContainerId) -> Result<Worn> {
    let conn = app.read().await?;
    let container = container::find(&conn, env, container).await?;
    let container = container.ok_or_else(|| Error::not_found("stream container"))?;
    if !container::granted(&conn, env, container.id, key).await? {
        return Err(Error::new(Code::KeyNotGranted, "the API key is not granted to this container"));
    }
    let light = theme::find(&conn, env, container.theme_id).await?;
    let dark = match container.dark_theme_id {
        Some(dark) => theme::find(&conn, env, dark).await?,
        None => None,
    };
    Ok(Worn { light: light.ok_or_else(|| Error::not_found("theme"))?, dark })
}

fn collect_fonts(document: &Value, fonts: &mut BTreeSet<String>) {
    match document {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(family) if name == "fontFamily" => {
                        fonts.insert(family.clone());
                    }
                    _ => collect_fonts(value, fonts),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_fonts(item, fonts)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fonts_are_found_wherever_they_are_named() {
        let mut fonts = BTreeSet::new();
        let document = json!({"card": {"headline": {"fontFamily": "Inter"}, "text": [{"fontFamily": "Lora"}]},
            "system": {"fontFamily": "Inter"}, "variables": {"fontFamily": 7}});
        collect_fonts(&document, &mut fonts);
        assert_eq!(fonts.into_iter().collect::<Vec<_>>(), ["Inter", "Lora"]);
    }
}
