//! Themes: documents that apps read to style streams, cards and elements (specification §4.1).

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value};

use super::{in_use, name_taken};
use crate::access::{Access, Level, Resource, audit, expect_revision};
use crate::app::App;
use crate::clock::Time;
use crate::db::page::{Page, PageRequest};
use crate::db::schema::themes;
use crate::db::{OnConstraint, Tx, violated};
use crate::error::{Error, Result, Violations};
use crate::ids::{EnvId, ThemeId};
use crate::text;

/// The name of the theme that every environment is born with.
pub const DEFAULT_NAME: &str = "Default";

/// The keys of a document; what is below them is the apps' affair.
const PARTS: [&str; 5] = ["variables", "container", "card", "subview", "system"];
const MOST_BYTES: usize = 512 * 1024;

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = themes)]
pub struct Theme {
    pub environment_id: EnvId,
    pub id: ThemeId,
    pub name: String,
    pub document: Value,
    /// The default theme of the environment.
    pub built_in: bool,
    pub created_at: Time,
    pub updated_at: Time,
    pub revision: i32,
}

/// What a theme says; what is absent stays, or is empty in a new theme.
#[derive(Clone, Debug, Default, AsChangeset)]
#[diesel(table_name = themes)]
pub struct Settings {
    pub name: Option<String>,
    pub document: Option<Value>,
}

impl Settings {
    fn check(&self) -> Result<()> {
        let mut violations = Violations::new();
        if let Some(name) = &self.name {
            violations.check(text::object_name(name, "/name"));
        }
        if let Some(document) = &self.document {
            violations.check(check_document(document).map_err(|error| error.at("/document")));
        }
        violations.finish()
    }

    fn fields(&self) -> Vec<&'static str> {
        let fields = [self.name.as_ref().map(|_| "name"), self.document.as_ref().map(|_| "document")];
        fields.into_iter().flatten().collect()
    }
}

fn check_document(document: &Value) -> Result<()> {
    let Some(parts) = document.as_object() else { return Err(Error::invalid("", "a document must be an object")) };
    text::shallow(document, "")?;
    if serde_json::to_string(document)?.len() > MOST_BYTES {
        return Err(Error::invalid("", format!("a document takes at most {} KiB", MOST_BYTES / 1024)));
    }
    let mut violations = Violations::new();
    for (name, part) in parts {
        let pointer = format!("/{}", text::pointer_token(name));
        if !PARTS.contains(&name.as_str()) {
            violations.add(pointer, format!("unknown key `{name}`; there are {}", PARTS.join(", ")));
        } else if !part.is_object() {
            violations.add(pointer, format!("{name} must be an object"));
        }
    }
    violations.finish()
}

pub async fn create(app: &App, access: &Access, settings: Settings) -> Result<Theme> {
    access.require(Resource::Theme, Level::Edit)?;
    let name = settings.name.as_deref().ok_or_else(|| Error::invalid("/name", "a name is required"))?;
    settings.check()?;
    let empty = Value::Object(Map::new());
    app.transact(async |tx| {
        let theme: Theme = diesel::insert_into(themes::table)
            .values((
                themes::environment_id.eq(access.env()),
                themes::id.eq(tx.id::<ThemeId>()),
                themes::name.eq(name),
                themes::document.eq(settings.document.as_ref().unwrap_or(&empty)),
                themes::created_at.eq(tx.now()),
                themes::updated_at.eq(tx.now()),
            ))
            .returning(Theme::as_select())
            .get_result(&mut tx.conn())
            .await
            .on_constraint("themes_environment_id_name_key", || name_taken("theme"))?;
        audit::record_in(tx, access, "theme.create", theme.id, &settings.fields()).await?;
        Ok(theme)
    })
    .await
}

/// Changes a theme, the default one included. Containers that wear it do not move a card, so nothing is announced.
pub async fn update(
    app: &App,
    access: &Access,
    id: ThemeId,
    settings: Settings,
    expected: Option<i32>,
) -> Result<Theme> {
    access.require(Resource::Theme, Level::Edit)?;
    settings.check()?;
    app.transact(async |tx| {
        let changed: Option<Theme> = diesel::update(themes::table.find((access.env(), id)))
            .set((&settings, themes::updated_at.eq(tx.now()), themes::revision.eq(themes::revision + 1)))
            .returning(Theme::as_select())
            .get_result(&mut tx.conn())
            .await
            .optional()
            .on_constraint("themes_environment_id_name_key", || name_taken("theme"))?;
        let changed = changed.ok_or_else(|| Error::not_found("theme"))?;
        expect_revision(changed.revision - 1, expected)?;
        audit::record_in(tx, access, "theme.update", id, &settings.fields()).await?;
        Ok(changed)
    })
    .await
}

/// Deletes a theme that no container wears. The default theme stays.
pub async fn delete(app: &App, access: &Access, id: ThemeId) -> Result<()> {
    access.require(Resource::Theme, Level::Admin)?;
    app.transact(async |tx| {
        let deleted: Option<bool> = diesel::delete(themes::table.find((access.env(), id)))
            .returning(themes::built_in)
            .get_result(&mut tx.conn())
            .await
            .optional()
            .map_err(|error| match violated(&error) {
                Some("containers_theme_id_fkey" | "containers_dark_theme_id_fkey") => in_use("theme", "container"),
                _ => error.into(),
            })?;
        match deleted {
            None => return Err(Error::not_found("theme")),
            Some(true) => return Err(Error::conflict("the default theme cannot be deleted")),
            Some(false) => {}
        }
        audit::record_in(tx, access, "theme.delete", id, &[]).await
    })
    .await
}

pub async fn view(app: &App, access: &Access, id: ThemeId) -> Result<Theme> {
    access.require(Resource::Theme, Level::View)?;
    find(&*app.read().await?, access.env(), id).await?.ok_or_else(|| Error::not_found("theme"))
}

/// Lists the themes of an environment, oldest first; with `name`, those whose name contains it.
pub async fn list(app: &App, access: &Access, name: Option<&str>, page: PageRequest<ThemeId>) -> Result<Page<Theme>> {
    access.require(Resource::Theme, Level::View)?;
    let mut query = themes::table
        .filter(themes::environment_id.eq(access.env()))
        .order(themes::id)
        .limit(page.limit())
        .select(Theme::as_select())
        .into_boxed();
    if let Some(name) = name {
        query = query.filter(themes::name.ilike(text::containing(name)));
    }
    if let Some(after) = page.after {
        query = query.filter(themes::id.gt(after));
    }
    let rows = query.load(&mut &*app.read().await?).await?;
    Ok(page.page(rows))
}

pub async fn find(conn: &AsyncPgConnection, env: EnvId, id: ThemeId) -> Result<Option<Theme>> {
    Ok(themes::table.find((env, id)).select(Theme::as_select()).first(&mut &*conn).await.optional()?)
}

/// The theme of containers for which none was chosen.
pub async fn find_default(conn: &AsyncPgConnection, env: EnvId) -> Result<ThemeId> {
    let default = themes::table.filter(themes::environment_id.eq(env).and(themes::built_in));
    Ok(default.select(themes::id).first(&mut &*conn).await?)
}

pub(super) async fn create_default_in(tx: &mut Tx, env: EnvId) -> Result<()> {
    let document: Map<String, Value> =
        PARTS.iter().map(|part| ((*part).to_owned(), Value::Object(Map::new()))).collect();
    diesel::insert_into(themes::table)
        .values((
            themes::environment_id.eq(env),
            themes::id.eq(tx.id::<ThemeId>()),
            themes::name.eq(DEFAULT_NAME),
            themes::document.eq(Value::Object(document)),
            themes::built_in.eq(true),
            themes::created_at.eq(tx.now()),
            themes::updated_at.eq(tx.now()),
        ))
        .execute(&mut tx.conn())
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_have_known_parts_that_are_objects() {
        assert!(check_document(&json!({ "card": { "radius": 4 } })).is_ok());
        let error = check_document(&json!({ "card": 1, "footer": {} })).unwrap_err();
        let pointers: Vec<_> = error.violations().iter().filter_map(|violation| violation.pointer.as_deref()).collect();
        assert_eq!(pointers, ["/card", "/footer"]);
        assert!(check_document(&json!([])).is_err());
    }
}
