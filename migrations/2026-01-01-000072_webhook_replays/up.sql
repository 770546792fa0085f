-- From an event to the requests that carried it.
CREATE INDEX webhook_requests_event_id_idx ON webhook_requests (environment_id, event_id);

ALTER TABLE webhook_streams ADD COLUMN replayed bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN webhook_streams.replayed IS 'Deliveries that had come to an end and were made to wait once more';

CREATE TABLE webhook_replays (
    environment_id uuid NOT NULL,
    id uuid NOT NULL,
    webhook_id uuid NOT NULL,
    from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL,
    types text[],
    status text NOT NULL DEFAULT 'running',
    passed_at timestamptz NOT NULL,
    passed_id uuid NOT NULL,
    found bigint NOT NULL DEFAULT 0,
    queued bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT webhook_replays_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT webhook_replays_webhook_id_fkey FOREIGN KEY (environment_id, webhook_id)
        REFERENCES webhook_subscriptions (environment_id, id) ON DELETE CASCADE,
    CONSTRAINT webhook_replays_status_check CHECK (status IN ('running', 'completed', 'cancelled')),
    CONSTRAINT webhook_replays_finished_check CHECK ((status = 'running') = (finished_at IS NULL)),
    CONSTRAINT webhook_replays_range_check CHECK (from_at < to_at)
);
CREATE UNIQUE INDEX webhook_replays_running_key ON webhook_replays (environment_id, webhook_id) WHERE status = 'running';
CREATE INDEX webhook_replays_webhook_id_idx ON webhook_replays (environment_id, webhook_id, id);

COMMENT ON TABLE webhook_replays IS 'Jobs that send a range of past events to one subscription again';
COMMENT ON COLUMN webhook_replays.passed_at IS 'With passed_id: the last event that was looked at, in the order of receipt';
COMMENT ON COLUMN webhook_replays.found IS 'Events of the range that the subscription covers, so far';
COMMENT ON COLUMN webhook_replays.queued IS 'Those of them that were queued; the others were waiting anyway';
