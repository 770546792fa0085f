ALTER TABLE environments
    ADD COLUMN export_test_cards boolean NOT NULL DEFAULT true,
    ADD COLUMN export_request_payload boolean NOT NULL DEFAULT true,
    ADD COLUMN export_card_response boolean NOT NULL DEFAULT true;

COMMENT ON COLUMN environments.export_test_cards IS 'Whether exported events include those of tests';
COMMENT ON COLUMN environments.export_request_payload IS 'Whether exported events tell what the start request carried';
COMMENT ON COLUMN environments.export_card_response IS 'Whether exported events tell what the customer answered';

-- Rows come nearly in the order of their receipt, so a few bytes per megabyte find those of an hour.
CREATE INDEX events_received_at_idx ON events USING brin (received_at);

-- Drops the oldest day partition of events that ends before "before", if every reader has passed all of it.
-- One at a time, so that each has its own short lock; false when there is none.
CREATE FUNCTION drop_passed_events("before" timestamptz) RETURNS boolean LANGUAGE plpgsql
SET lock_timeout = '2s' AS $$
DECLARE
    child text;
    unread boolean;
BEGIN
    SELECT relation.relname INTO child FROM pg_inherits
    JOIN pg_class relation ON relation.oid = pg_inherits.inhrelid
    WHERE pg_inherits.inhparent = 'events'::regclass
      AND CASE WHEN relation.relname ~ '_[0-9]{8}$'
               THEN to_date(right(relation.relname, 8), 'YYYYMMDD') < ("before" AT TIME ZONE 'UTC')::date
               ELSE false END
    ORDER BY relation.relname LIMIT 1;
    IF child IS NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM consumers, (SELECT xid, id FROM %I ORDER BY xid DESC, id DESC LIMIT 1) AS last
                    WHERE (consumers.xid, consumers.event_id) < (last.xid, last.id))', child) INTO unread;
    IF unread THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', child);
    RETURN true;
END $$;

CREATE TABLE test_data_deletions (
    environment_id uuid NOT NULL
        CONSTRAINT test_data_deletions_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    before timestamptz NOT NULL,
    status text NOT NULL CONSTRAINT test_data_deletions_status_check CHECK (status IN ('running', 'complete')),
    cards bigint NOT NULL DEFAULT 0,
    events bigint NOT NULL DEFAULT 0,
    passed_at timestamptz NOT NULL DEFAULT '-infinity',
    passed_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT test_data_deletions_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT test_data_deletions_finished_at_check CHECK ((status = 'running') = (finished_at IS NULL))
) WITH (fillfactor = 50);

CREATE INDEX test_data_deletions_running_idx ON test_data_deletions (created_at) WHERE status = 'running';

COMMENT ON TABLE test_data_deletions IS 'Deletions of test cards and test events, done in the background, and how far each has come';
COMMENT ON COLUMN test_data_deletions.passed_at IS 'Test events up to here, by (occurred_at, id), are gone';
