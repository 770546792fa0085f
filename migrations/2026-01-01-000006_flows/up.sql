CREATE TABLE flows (
    environment_id uuid NOT NULL CONSTRAINT flows_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT flows_name_check CHECK (char_length(name) BETWEEN 1 AND 256),
    description text NOT NULL DEFAULT '' CONSTRAINT flows_description_check CHECK (char_length(description) <= 4000),
    metadata jsonb NOT NULL DEFAULT '{}' CONSTRAINT flows_metadata_check CHECK (jsonb_typeof(metadata) = 'object'),
    published_version integer,
    draft_version integer,
    archived_at timestamptz,
    status text NOT NULL GENERATED ALWAYS AS (
        CASE
            WHEN archived_at IS NOT NULL THEN 'archived'
            WHEN published_version IS NULL THEN 'draft'
            WHEN draft_version IS NULL THEN 'published'
            ELSE 'changed'
        END
    ) STORED,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT flows_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT flows_version_check CHECK (published_version IS NOT NULL OR draft_version IS NOT NULL)
);

COMMENT ON TABLE flows IS 'Action flows: what they are called, which version is in force and which one is being edited';
COMMENT ON COLUMN flows.published_version IS 'The version that live runs start with; null while never published';
COMMENT ON COLUMN flows.draft_version IS 'The version that is open for edits; null when nothing was edited since publication';

CREATE TABLE flow_versions (
    environment_id uuid NOT NULL,
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    definition jsonb NOT NULL CONSTRAINT flow_versions_definition_check CHECK (jsonb_typeof(definition) = 'object'),
    published_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT flow_versions_pkey PRIMARY KEY (environment_id, flow_id, version),
    CONSTRAINT flow_versions_environment_id_flow_id_fkey FOREIGN KEY (environment_id, flow_id)
        REFERENCES flows (environment_id, id) ON DELETE CASCADE,
    CONSTRAINT flow_versions_version_check CHECK (version > 0)
);

COMMENT ON TABLE flow_versions IS 'The definitions of flows; one that is published never changes again, because runs keep to it';

-- The one key between areas besides environments: a template that a flow sends must not vanish under it, and only
-- the database can say so while both are being changed.
CREATE TABLE flow_templates (
    environment_id uuid NOT NULL,
    flow_id uuid NOT NULL,
    version integer NOT NULL,
    template_id uuid NOT NULL,
    CONSTRAINT flow_templates_pkey PRIMARY KEY (environment_id, flow_id, version, template_id),
    CONSTRAINT flow_templates_version_fkey FOREIGN KEY (environment_id, flow_id, version)
        REFERENCES flow_versions (environment_id, flow_id, version) ON DELETE CASCADE,
    CONSTRAINT flow_templates_template_id_fkey FOREIGN KEY (environment_id, template_id)
        REFERENCES card_templates (environment_id, id)
);

CREATE INDEX flow_templates_template_id_idx ON flow_templates (environment_id, template_id);

COMMENT ON TABLE flow_templates IS 'The card templates that the published version and the draft of each flow in use send';

CREATE TABLE triggers (
    environment_id uuid NOT NULL,
    id uuid NOT NULL,
    flow_id uuid NOT NULL,
    kind text NOT NULL CONSTRAINT triggers_kind_check CHECK (kind IN ('api')),
    mode text NOT NULL CONSTRAINT triggers_mode_check CHECK (mode IN ('live')),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT triggers_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT triggers_environment_id_flow_id_fkey FOREIGN KEY (environment_id, flow_id)
        REFERENCES flows (environment_id, id) ON DELETE CASCADE
);

CREATE INDEX triggers_environment_id_flow_id_idx ON triggers (environment_id, flow_id);
CREATE UNIQUE INDEX triggers_api_key ON triggers (environment_id, flow_id) WHERE kind = 'api';

COMMENT ON TABLE triggers IS 'What can start a flow; every flow has exactly one trigger of kind api';

-- The tables below take a row or more for every start. They have no foreign keys, so that starts do not queue for
-- locks on the one flow and the one environment that all of them share.

CREATE TABLE batches (
    environment_id uuid NOT NULL,
    id uuid NOT NULL,
    flow_id uuid NOT NULL,
    flow_version integer NOT NULL,
    is_test boolean NOT NULL,
    source text NOT NULL CONSTRAINT batches_source_check
        CHECK (source IN ('api', 'webhook', 'segment', 'event', 'sfmc', 'marketo', 'manual', 'csv')),
    trigger_id uuid,
    templates jsonb NOT NULL,
    definition jsonb,
    accepted_at timestamptz NOT NULL,
    CONSTRAINT batches_pkey PRIMARY KEY (environment_id, id)
);

COMMENT ON TABLE batches IS 'Start requests: the flow version and the template versions that their runs keep to';
COMMENT ON COLUMN batches.templates IS 'For live runs the version of each template, for tests the drafts themselves as they were';
COMMENT ON COLUMN batches.definition IS 'For tests the flow''s draft as it was; null where flow_version is published';

CREATE TABLE starts (
    environment_id uuid NOT NULL,
    lifecycle_id uuid NOT NULL,
    batch_id uuid NOT NULL,
    invocation text NOT NULL,
    payload jsonb NOT NULL,
    variables jsonb NOT NULL,
    CONSTRAINT starts_pkey PRIMARY KEY (environment_id, lifecycle_id)
);

COMMENT ON TABLE starts IS 'Entries of start requests: what all runs of an entry were given, stored once however many customers it has';
COMMENT ON COLUMN starts.variables IS 'The resolved flow variables of every run that has none of its own';

CREATE TABLE invocations (
    environment_id uuid NOT NULL,
    flow_id uuid NOT NULL,
    is_test boolean NOT NULL,
    invocation text COLLATE "C" NOT NULL,
    customer_id uuid NOT NULL,
    run_id uuid NOT NULL,
    CONSTRAINT invocations_pkey PRIMARY KEY (environment_id, flow_id, is_test, invocation, customer_id)
);

COMMENT ON TABLE invocations IS 'Which invocations have started a run; never forgotten, so that a repeated request starts nothing';

CREATE TABLE runs (
    environment_id uuid NOT NULL,
    id uuid NOT NULL,
    flow_id uuid NOT NULL,
    flow_version integer NOT NULL,
    lifecycle_id uuid NOT NULL,
    batch_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    invocation text NOT NULL,
    is_test boolean NOT NULL,
    hops smallint NOT NULL DEFAULT 0,
    status text NOT NULL CONSTRAINT runs_status_check CHECK (status IN ('running', 'completed', 'failed', 'cancelled')),
    open_steps integer NOT NULL CONSTRAINT runs_open_steps_check CHECK (open_steps >= 0),
    failed_steps integer NOT NULL DEFAULT 0,
    variables jsonb,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT runs_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT runs_finished_at_check CHECK ((status = 'running') = (finished_at IS NULL))
) WITH (fillfactor = 80);

CREATE INDEX runs_environment_id_flow_id_idx ON runs (environment_id, flow_id, id);
CREATE INDEX runs_environment_id_customer_id_idx ON runs (environment_id, customer_id, id);

COMMENT ON TABLE runs IS 'Executions of a flow, one for each customer of an invocation';
COMMENT ON COLUMN runs.open_steps IS 'How many steps are queued or waiting; a run is over when none is';
COMMENT ON COLUMN runs.variables IS 'The resolved flow variables where they differ from those of the start';

CREATE TABLE tokens (
    environment_id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_key text COLLATE "C" NOT NULL,
    status text NOT NULL CONSTRAINT tokens_status_check CHECK (status IN ('ready', 'waiting', 'retrying')),
    lane smallint NOT NULL,
    wake_at timestamptz NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    CONSTRAINT tokens_pkey PRIMARY KEY (environment_id, run_id, step_key)
) WITH (fillfactor = 50);

CREATE INDEX tokens_ready_idx ON tokens (lane, wake_at) WHERE status = 'ready';
CREATE INDEX tokens_wake_at_idx ON tokens (wake_at) WHERE status <> 'ready';

COMMENT ON TABLE tokens IS 'The places where runs are now: steps that are queued, waiting or to be tried again; a finished step leaves';
COMMENT ON COLUMN tokens.lane IS 'Which work goes first: 0 customer interaction, 1 timers, 2 single starts, 3 bulk starts';

CREATE TABLE run_steps (
    environment_id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_key text COLLATE "C" NOT NULL,
    step_type text NOT NULL,
    status text NOT NULL CONSTRAINT run_steps_status_check CHECK (status IN ('completed', 'failed')),
    output jsonb NOT NULL,
    message text,
    finished_at timestamptz NOT NULL,
    CONSTRAINT run_steps_pkey PRIMARY KEY (environment_id, run_id, step_key)
);

COMMENT ON TABLE run_steps IS 'Finished steps of runs with their outputs; a step finishes once in a run';
