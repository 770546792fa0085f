-- One card for one customer, rendered when it was made. `due_at` is the next timed change and follows from the
-- other columns, so no statement can forget it.
CREATE TABLE cards (
    environment_id uuid NOT NULL CONSTRAINT cards_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    customer_id uuid NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    template_id uuid NOT NULL,
    template_name text NOT NULL,
    template_version integer NOT NULL,
    send_notifications boolean NOT NULL,
    lifecycle_id uuid NOT NULL,
    flow_id uuid NOT NULL,
    flow_version integer NOT NULL,
    run_id uuid NOT NULL,
    step_key text NOT NULL,
    invocation text NOT NULL,
    trigger_source text NOT NULL,
    is_test boolean NOT NULL,
    status text NOT NULL CONSTRAINT cards_status_check
        CHECK (status IN ('embargoed', 'active', 'snoozed', 'completed', 'dismissed', 'cancelled', 'expired')),
    priority smallint NOT NULL CONSTRAINT cards_priority_check CHECK (priority BETWEEN 1 AND 10),
    stream_ids uuid[],
    target_platforms text[] NOT NULL CONSTRAINT cards_target_platforms_check
        CHECK (target_platforms <@ ARRAY['Web', 'iOS', 'Android'] AND cardinality(target_platforms) > 0),
    embargo_at timestamptz,
    expires_at timestamptz,
    unsnooze_at timestamptz,
    due_at timestamptz GENERATED ALWAYS AS (
        CASE status
            WHEN 'embargoed' THEN LEAST(embargo_at, expires_at)
            WHEN 'active' THEN expires_at
            WHEN 'snoozed' THEN LEAST(unsnooze_at, expires_at)
        END
    ) STORED,
    published_at timestamptz,
    active_since timestamptz,
    closed_at timestamptz,
    snooze_interval text,
    definition jsonb NOT NULL,
    runtime_variables jsonb NOT NULL,
    variables jsonb NOT NULL,
    detail jsonb NOT NULL,
    metadata jsonb NOT NULL,
    notification_detail jsonb NOT NULL,
    card_options jsonb NOT NULL,
    response jsonb,
    button_name text,
    unseen boolean NOT NULL DEFAULT true,
    feed_version bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT cards_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT cards_environment_id_run_id_step_key_key UNIQUE (environment_id, run_id, step_key),
    CONSTRAINT cards_embargo_at_check CHECK (status <> 'embargoed' OR embargo_at IS NOT NULL),
    CONSTRAINT cards_unsnooze_at_check CHECK (status <> 'snoozed' OR unsnooze_at IS NOT NULL),
    CONSTRAINT cards_active_since_check CHECK (status <> 'active' OR active_since IS NOT NULL)
) WITH (fillfactor = 80);

CREATE INDEX cards_environment_id_customer_id_active_idx ON cards (environment_id, customer_id) WHERE status = 'active';
CREATE INDEX cards_environment_id_customer_id_idx ON cards (environment_id, customer_id, id);
CREATE INDEX cards_environment_id_lifecycle_id_idx ON cards (environment_id, lifecycle_id);
CREATE INDEX cards_environment_id_invocation_idx ON cards (environment_id, invocation);
CREATE INDEX cards_environment_id_template_id_idx ON cards (environment_id, template_id, id);
CREATE INDEX cards_environment_id_flow_id_idx ON cards (environment_id, flow_id, id);
CREATE INDEX cards_due_at_idx ON cards (due_at) WHERE due_at IS NOT NULL;

COMMENT ON TABLE cards IS 'Card instances: what was rendered, for whom, from which flow, and in which state they are.';
COMMENT ON COLUMN cards.due_at IS 'The next timed change (embargo over, snooze over, expiry), derived.';
COMMENT ON COLUMN cards.stream_ids IS 'The explicit target streams; null means the streams that curate the template now.';
COMMENT ON COLUMN cards.snooze_interval IS 'How long a snooze lasts for which the app names no time; from the template.';
COMMENT ON COLUMN cards.feed_version IS 'The version of the customer''s feed at the last change of this card.';

-- The version of each customer's feed. Raised under its row lock in the transaction that changes the cards, so
-- version order is commit order. Narrow, half empty pages and no index on what changes: updates stay in the page.
CREATE TABLE feed_heads (
    environment_id uuid NOT NULL CONSTRAINT feed_heads_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    customer_id uuid NOT NULL,
    epoch bigint NOT NULL,
    version bigint NOT NULL,
    CONSTRAINT feed_heads_pkey PRIMARY KEY (environment_id, customer_id)
) WITH (fillfactor = 50);

COMMENT ON TABLE feed_heads IS 'The current version of each customer''s feed; the epoch says whether two versions can be compared.';

-- What changed in which version, kept some hours so that a client can resume.
CREATE TABLE feed_changes (
    environment_id uuid NOT NULL CONSTRAINT feed_changes_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    customer_id uuid NOT NULL,
    version bigint NOT NULL,
    card_id uuid NOT NULL,
    op text NOT NULL CONSTRAINT feed_changes_op_check CHECK (op IN (
        'publish', 'unsnooze', 'update', 'displayed', 'complete', 'dismiss', 'snooze', 'cancel', 'expire', 'delete')),
    before jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    CONSTRAINT feed_changes_pkey PRIMARY KEY (environment_id, customer_id, version, card_id, created_at)
) PARTITION BY RANGE (created_at);

SELECT ensure_partitions('feed_changes', now(), 7);

COMMENT ON TABLE feed_changes IS 'Changes of customers'' feeds by version, with what a card was before; partitioned by day.';
