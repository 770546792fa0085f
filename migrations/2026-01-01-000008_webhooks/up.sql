CREATE TABLE webhook_subscriptions (
    environment_id uuid NOT NULL,
    id uuid NOT NULL,
    name text,
    types text[] NOT NULL,
    url text NOT NULL,
    test_url text,
    method text NOT NULL DEFAULT 'POST',
    headers jsonb NOT NULL DEFAULT '{}',
    template_id uuid,
    flow_id uuid,
    secret bytea NOT NULL,
    previous_secret bytea,
    previous_secret_until timestamptz,
    include_test_events boolean NOT NULL DEFAULT true,
    include_request_payload boolean NOT NULL DEFAULT true,
    include_card_response boolean NOT NULL DEFAULT true,
    batched boolean NOT NULL DEFAULT false,
    max_retries integer NOT NULL DEFAULT 22,
    disable_after_failures boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'active',
    disabled_reason text,
    disabled_at timestamptz,
    since_xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT webhook_subscriptions_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT webhook_subscriptions_environment_id_fkey FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE CASCADE,
    CONSTRAINT webhook_subscriptions_types_check CHECK (cardinality(types) > 0),
    CONSTRAINT webhook_subscriptions_method_check CHECK (method IN ('POST', 'PUT')),
    CONSTRAINT webhook_subscriptions_max_retries_check CHECK (max_retries BETWEEN 0 AND 100),
    CONSTRAINT webhook_subscriptions_status_check CHECK (status IN ('active', 'disabled')),
    CONSTRAINT webhook_subscriptions_disabled_check CHECK (
        (status = 'disabled') = (disabled_reason IS NOT NULL) AND (status = 'disabled') = (disabled_at IS NOT NULL)),
    CONSTRAINT webhook_subscriptions_disabled_reason_check CHECK (disabled_reason IN ('api', 'member', 'failures', 'gone')),
    CONSTRAINT webhook_subscriptions_previous_secret_check CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL))
);

COMMENT ON TABLE webhook_subscriptions IS 'Who wants to be called about which events, and how';
COMMENT ON COLUMN webhook_subscriptions.secret IS 'Sealed; with previous_secret while a rotation overlaps';
COMMENT ON COLUMN webhook_subscriptions.since_xid IS 'The transaction that created or enabled the subscription: events of earlier ones are not for it';

CREATE TABLE webhook_streams (
    environment_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    head bigint NOT NULL DEFAULT 0,
    cursor bigint NOT NULL DEFAULT 0,
    open bigint[] NOT NULL DEFAULT '{}',
    ready_at timestamptz,
    retry_at timestamptz,
    paused_until timestamptz,
    failures integer NOT NULL DEFAULT 0,
    revision integer NOT NULL DEFAULT 1,
    lease uuid,
    holder text,
    leased_until timestamptz,
    CONSTRAINT webhook_streams_pkey PRIMARY KEY (environment_id, webhook_id),
    CONSTRAINT webhook_streams_webhook_id_fkey FOREIGN KEY (environment_id, webhook_id)
        REFERENCES webhook_subscriptions (environment_id, id) ON DELETE CASCADE,
    CONSTRAINT webhook_streams_lease_check CHECK ((lease IS NULL) = (leased_until IS NULL) AND (lease IS NULL) = (holder IS NULL))
) WITH (fillfactor = 50);

COMMENT ON TABLE webhook_streams IS 'One narrow row per subscription: how far its log is written and delivered, its pause after failures, and who works on it';
COMMENT ON COLUMN webhook_streams.cursor IS 'Every delivery up to here has an outcome, except those in open';
COMMENT ON COLUMN webhook_streams.open IS 'Deliveries at or below the cursor whose outcome is unknown';
COMMENT ON COLUMN webhook_streams.ready_at IS 'When what waits beyond the cursor may be sent; null when nothing waits';
COMMENT ON COLUMN webhook_streams.retry_at IS 'The earliest due time in webhook_retries';
COMMENT ON COLUMN webhook_streams.lease IS 'The fence: changes with every taking, is cleared by whoever changes the subscription, and every write asks for it';
COMMENT ON COLUMN webhook_streams.paused_until IS 'No request before this instant, after consecutive failures';

-- Partitioned by the event's receipt, so that one event is one row per subscription by constraint.
CREATE TABLE webhook_deliveries (
    environment_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    seq bigint NOT NULL,
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT webhook_deliveries_pkey PRIMARY KEY (environment_id, webhook_id, seq, received_at),
    CONSTRAINT webhook_deliveries_event_id_key UNIQUE (environment_id, webhook_id, event_id, received_at)
) PARTITION BY RANGE (received_at);

COMMENT ON TABLE webhook_deliveries IS 'Insert-only log of which events are for which subscription, numbered per subscription';

CREATE TABLE webhook_retries (
    environment_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    seq bigint NOT NULL,
    seqs bigint[] NOT NULL,
    attempts integer NOT NULL,
    due_at timestamptz NOT NULL,
    CONSTRAINT webhook_retries_pkey PRIMARY KEY (environment_id, webhook_id, seq),
    CONSTRAINT webhook_retries_webhook_id_fkey FOREIGN KEY (environment_id, webhook_id)
        REFERENCES webhook_streams (environment_id, webhook_id) ON DELETE CASCADE,
    CONSTRAINT webhook_retries_attempts_check CHECK (attempts > 0)
);
CREATE INDEX webhook_retries_due_at_idx ON webhook_retries (environment_id, webhook_id, due_at);

COMMENT ON TABLE webhook_retries IS 'Failed requests that will be tried again; seq is the first of the deliveries the request carries';

CREATE TABLE webhook_requests (
    environment_id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    request_id uuid NOT NULL,
    event_id uuid,
    events integer NOT NULL,
    attempt integer NOT NULL,
    duration_ms integer NOT NULL,
    url text NOT NULL,
    method text NOT NULL,
    status smallint,
    error text,
    is_test boolean NOT NULL,
    request_headers jsonb NOT NULL,
    request_bytes integer NOT NULL,
    request_body text,
    response_headers jsonb NOT NULL,
    response_bytes integer NOT NULL,
    response_body text,
    CONSTRAINT webhook_requests_pkey PRIMARY KEY (environment_id, webhook_id, at, id)
) PARTITION BY RANGE (at);

COMMENT ON TABLE webhook_requests IS 'The log of outgoing requests; bodies and header values only for tests';
