-- No foreign key on environments: a row per fact must not lock the one row that every writer shares.
CREATE TABLE sdk_events (
    environment_id uuid NOT NULL,
    event_id uuid NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT sdk_events_pkey PRIMARY KEY (environment_id, event_id)
);
CREATE INDEX sdk_events_received_at_idx ON sdk_events (received_at);
COMMENT ON TABLE sdk_events IS 'Ids of the events that apps reported in the last 30 days, so that a repeat is recognised';
