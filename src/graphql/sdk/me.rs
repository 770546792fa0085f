//! The customer themself.

use async_graphql::{Context, InputObject, Object};

use crate::customers::change;
use crate::customers::profile::{self, Customer};
use crate::error::{Error, Result};
use crate::graphql::context::{app, sdk};
use crate::graphql::scalars::JsonObject;

#[derive(Default)]
pub struct MeQuery;

#[derive(Default)]
pub struct MeMutation;

/// What a customer may say of themself. Fields that are not named stay, null clears.
#[derive(InputObject)]
pub struct UpdateMeInput {
    profile: Option<JsonObject>,
    preferences: Option<JsonObject>,
}

/// The customer who is signed in to the app.
pub struct Me(pub Customer);

#[Object]
impl MeQuery {
    /// The customer of the token.
    async fn me(&self, ctx: &Context<'_>) -> Result<Me> {
        let access = sdk(ctx)?;
        let conn = app(ctx)?.read().await?;
        let customer = profile::find(&conn, access.env, access.customer).await?;
        customer.map(Me).ok_or_else(|| Error::not_found("customer"))
    }
}

#[Object]
impl MeMutation {
    /// Changes the profile or the preferences of the customer of the token.
    async fn update_me(&self, ctx: &Context<'_>, input: UpdateMeInput) -> Result<Me> {
        let (profile, preferences) =
            (input.profile.map(JsonObject::into_value), input.preferences.map(JsonObject::into_value));
        change::update_me(app(ctx)?, sdk(ctx)?, profile, preferences).await.map(Me)
    }
}

/// The customer who is signed in to the app.
#[Object]
impl Me {
    /// The customer's id as the app's owner knows it.
    async fn user_id(&self) -> &str {
        &self.0.user_id
    }

    async fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    async fn email(&self) -> Option<&str> {
        self.0.email.as_deref()
    }

    async fn timezone(&self) -> Option<&str> {
        self.0.timezone.as_deref()
    }

    /// Every profile field that has a value, custom fields included.
    async fn profile(&self) -> JsonObject {
        JsonObject(self.0.profile())
    }

    async fn preferences(&self) -> JsonObject {
        JsonObject::of(self.0.preferences.clone())
    }
}
