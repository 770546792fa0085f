-- No foreign key on environments: a row per fact must not lock the one row that every writer shares.
CREATE TABLE events (
    environment_id uuid NOT NULL,
    id uuid NOT NULL,
    name text NOT NULL,
    custom boolean NOT NULL DEFAULT false,
    customer_id uuid,
    end_user_id text,
    occurred_at timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    -- A bigint rather than xid8, so that positions are plain numbers to every reader.
    xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint),
    is_test boolean NOT NULL,
    template_id uuid,
    flow_id uuid,
    run_id uuid,
    card_id uuid,
    payload text NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (environment_id, id, received_at)
) PARTITION BY RANGE (received_at);

CREATE INDEX events_xid_id_idx ON events (xid, id);
CREATE INDEX events_environment_id_occurred_at_idx ON events (environment_id, occurred_at, id);
CREATE INDEX events_environment_id_end_user_id_idx ON events (environment_id, end_user_id, occurred_at, id)
    WHERE end_user_id IS NOT NULL;

COMMENT ON TABLE events IS 'Everything that happened, once, with the exact bytes that are signed and exported; partitioned by day of receipt';
COMMENT ON COLUMN events.xid IS 'The transaction that recorded the event: (xid, id) below the oldest running transaction is commit-safe order';
COMMENT ON COLUMN events.payload IS 'The envelope as JSON text, byte for byte as it is sent';

CREATE TABLE consumers (
    name text NOT NULL,
    shard smallint NOT NULL DEFAULT 0,
    xid bigint NOT NULL DEFAULT 0,
    event_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    lease uuid,
    holder text,
    leased_until timestamptz,
    CONSTRAINT consumers_pkey PRIMARY KEY (name, shard),
    CONSTRAINT consumers_lease_check CHECK ((lease IS NULL) = (leased_until IS NULL) AND (lease IS NULL) = (holder IS NULL))
) WITH (fillfactor = 50);

COMMENT ON TABLE consumers IS 'How far each reader of events has come; only the holder of the lease may move it';
COMMENT ON COLUMN consumers.lease IS 'The fence: changes with every taking, and every write asks for it';
