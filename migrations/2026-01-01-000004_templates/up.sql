CREATE TABLE card_templates (
    environment_id uuid NOT NULL
        CONSTRAINT card_templates_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT card_templates_name_check CHECK (length(name) BETWEEN 1 AND 256),
    state text NOT NULL CONSTRAINT card_templates_state_check
        CHECK (state IN ('draft', 'awaiting-approval', 'approved', 'published', 'changed', 'archived')),
    published_version integer,
    draft_version integer,
    archived_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT card_templates_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT card_templates_version_check CHECK (published_version IS NOT NULL OR draft_version IS NOT NULL),
    CONSTRAINT card_templates_archived_at_check CHECK ((state = 'archived') = (archived_at IS NOT NULL)),
    CONSTRAINT card_templates_published_check CHECK (state NOT IN ('published', 'changed') OR published_version IS NOT NULL)
);
COMMENT ON TABLE card_templates IS 'Definitions of cards: their name, state and which versions are in force and open.';

CREATE TABLE card_template_versions (
    environment_id uuid NOT NULL,
    template_id uuid NOT NULL,
    version integer NOT NULL CONSTRAINT card_template_versions_version_check CHECK (version >= 1),
    state text NOT NULL CONSTRAINT card_template_versions_state_check
        CHECK (state IN ('draft', 'awaiting-approval', 'approved', 'published', 'superseded')),
    name text NOT NULL,
    content jsonb NOT NULL,
    digest bytea NOT NULL CONSTRAINT card_template_versions_digest_check CHECK (length(digest) = 32),
    published_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT card_template_versions_pkey PRIMARY KEY (environment_id, template_id, version),
    CONSTRAINT card_template_versions_template_id_fkey FOREIGN KEY (environment_id, template_id)
        REFERENCES card_templates (environment_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX card_template_versions_published_key
    ON card_template_versions (environment_id, template_id) WHERE state = 'published';
CREATE UNIQUE INDEX card_template_versions_draft_key
    ON card_template_versions (environment_id, template_id) WHERE state IN ('draft', 'awaiting-approval', 'approved');
COMMENT ON TABLE card_template_versions IS 'The content of templates by version; what was published is never changed.';
COMMENT ON COLUMN card_template_versions.digest IS 'SHA-256 of the content: whoever holds content of that digest need not load it.';

ALTER TABLE stream_templates ADD CONSTRAINT stream_templates_template_id_fkey
    FOREIGN KEY (environment_id, template_id) REFERENCES card_templates (environment_id, id) ON DELETE CASCADE;
