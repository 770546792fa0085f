-- The people who receive cards. The caller names them by `user_id`; `id` is ours and never leaves the house
-- except in audit entries.
CREATE TABLE customers (
    environment_id uuid NOT NULL CONSTRAINT customers_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL CONSTRAINT customers_user_id_check CHECK (char_length(user_id) BETWEEN 1 AND 256),
    user_type text NOT NULL DEFAULT 'live' CONSTRAINT customers_user_type_check CHECK (user_type IN ('live', 'test')),
    external_id text,
    name text,
    email text,
    phone text,
    city text,
    region text,
    country text,
    timezone text,
    custom jsonb NOT NULL DEFAULT '{}' CONSTRAINT customers_custom_check CHECK (jsonb_typeof(custom) = 'object'),
    tags text[] NOT NULL DEFAULT '{}',
    preferences jsonb NOT NULL DEFAULT '{}' CONSTRAINT customers_preferences_check CHECK (jsonb_typeof(preferences) = 'object'),
    preferences_updated_at timestamptz,
    first_seen_at timestamptz,
    last_seen_at timestamptz,
    last_web_seen_at timestamptz,
    last_ios_seen_at timestamptz,
    last_android_seen_at timestamptz,
    last_web_device text,
    last_ios_device text,
    last_android_device text,
    last_web_sdk_version text,
    last_ios_sdk_version text,
    last_android_sdk_version text,
    last_app_version text,
    last_published_card_at timestamptz,
    last_displayed_card_at timestamptz,
    last_completed_card_at timestamptz,
    last_dismissed_card_at timestamptz,
    last_expired_card_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT customers_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT customers_environment_id_user_id_key UNIQUE (environment_id, user_id)
) WITH (fillfactor = 80);

CREATE INDEX customers_tags_idx ON customers USING gin (tags);
CREATE INDEX customers_environment_id_test_idx ON customers (environment_id, id) WHERE user_type = 'test';

COMMENT ON TABLE customers IS 'People who receive cards: core profile fields, custom fields, tags, preferences and what they were last seen doing.';
