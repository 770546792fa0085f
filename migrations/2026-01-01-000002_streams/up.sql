CREATE TABLE themes (
    environment_id uuid NOT NULL CONSTRAINT themes_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT themes_name_check CHECK (length(name) BETWEEN 1 AND 256),
    document jsonb NOT NULL CONSTRAINT themes_document_check CHECK (jsonb_typeof(document) = 'object'),
    built_in boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT themes_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT themes_environment_id_name_key UNIQUE (environment_id, name)
);
CREATE UNIQUE INDEX themes_environment_id_built_in_key ON themes (environment_id) WHERE built_in;
COMMENT ON TABLE themes IS 'How streams, cards and elements look; opaque documents for apps.';
COMMENT ON COLUMN themes.built_in IS 'The default theme of the environment; exactly one.';

CREATE TABLE streams (
    environment_id uuid NOT NULL CONSTRAINT streams_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT streams_name_check CHECK (length(name) BETWEEN 1 AND 256),
    built_in boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT streams_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT streams_environment_id_name_key UNIQUE (environment_id, name)
);
CREATE UNIQUE INDEX streams_environment_id_built_in_key ON streams (environment_id) WHERE built_in;
COMMENT ON TABLE streams IS 'Curated collections of card templates whose cards are shown together.';
COMMENT ON COLUMN streams.built_in IS 'All cards: shows every card of the customer; exactly one.';

-- The reference to card_templates is added where that table is made.
CREATE TABLE stream_templates (
    environment_id uuid NOT NULL,
    stream_id uuid NOT NULL,
    template_id uuid NOT NULL,
    CONSTRAINT stream_templates_pkey PRIMARY KEY (environment_id, stream_id, template_id),
    CONSTRAINT stream_templates_stream_id_fkey FOREIGN KEY (environment_id, stream_id)
        REFERENCES streams (environment_id, id) ON DELETE CASCADE
);
CREATE INDEX stream_templates_template_id_idx ON stream_templates (environment_id, template_id);
COMMENT ON TABLE stream_templates IS 'Which templates a stream curates.';

CREATE TABLE containers (
    environment_id uuid NOT NULL CONSTRAINT containers_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT containers_name_check CHECK (length(name) BETWEEN 1 AND 256),
    card_limit integer NOT NULL DEFAULT 50 CONSTRAINT containers_card_limit_check CHECK (card_limit BETWEEN 1 AND 500),
    stream_id uuid NOT NULL,
    theme_id uuid NOT NULL,
    dark_theme_id uuid,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT containers_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT containers_environment_id_name_key UNIQUE (environment_id, name),
    CONSTRAINT containers_stream_id_fkey FOREIGN KEY (environment_id, stream_id)
        REFERENCES streams (environment_id, id),
    CONSTRAINT containers_theme_id_fkey FOREIGN KEY (environment_id, theme_id)
        REFERENCES themes (environment_id, id),
    CONSTRAINT containers_dark_theme_id_fkey FOREIGN KEY (environment_id, dark_theme_id)
        REFERENCES themes (environment_id, id)
);
CREATE INDEX containers_stream_id_idx ON containers (environment_id, stream_id);
CREATE INDEX containers_theme_id_idx ON containers (environment_id, theme_id);
CREATE INDEX containers_dark_theme_id_idx ON containers (environment_id, dark_theme_id);
COMMENT ON TABLE containers IS 'Slots in apps, each of which shows exactly one stream.';

CREATE TABLE container_keys (
    environment_id uuid NOT NULL,
    container_id uuid NOT NULL,
    sdk_key_id uuid NOT NULL,
    CONSTRAINT container_keys_pkey PRIMARY KEY (environment_id, container_id, sdk_key_id),
    CONSTRAINT container_keys_container_id_fkey FOREIGN KEY (environment_id, container_id)
        REFERENCES containers (environment_id, id) ON DELETE CASCADE,
    CONSTRAINT container_keys_sdk_key_id_fkey FOREIGN KEY (environment_id, sdk_key_id)
        REFERENCES sdk_keys (environment_id, id) ON DELETE CASCADE
);
CREATE INDEX container_keys_sdk_key_id_idx ON container_keys (environment_id, sdk_key_id);
COMMENT ON TABLE container_keys IS 'Which SDK keys may show a container.';
