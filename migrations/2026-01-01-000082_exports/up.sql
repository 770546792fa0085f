CREATE TABLE export_hours (
    hour timestamptz NOT NULL CONSTRAINT export_hours_pkey PRIMARY KEY,
    from_xid bigint NOT NULL,
    to_xid bigint NOT NULL
);

COMMENT ON TABLE export_hours IS 'Hours that are over and whose events are known, so that their files can be written';
COMMENT ON COLUMN export_hours.to_xid IS 'Events of earlier transactions are in the files up to this hour; what commits later goes into a later hour';
COMMENT ON COLUMN export_hours.from_xid IS 'Events of earlier hours of transactions from here on were too late for their own files and are in these';

CREATE TABLE exports (
    environment_id uuid NOT NULL
        CONSTRAINT exports_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    hour timestamptz NOT NULL,
    status text NOT NULL CONSTRAINT exports_status_check CHECK (status IN ('waiting', 'ready')),
    due_at timestamptz NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    claim uuid,
    events bigint NOT NULL DEFAULT 0,
    ndjson_bytes bigint NOT NULL DEFAULT 0,
    parquet_bytes bigint NOT NULL DEFAULT 0,
    ready_at timestamptz,
    CONSTRAINT exports_pkey PRIMARY KEY (environment_id, hour),
    CONSTRAINT exports_ready_at_check CHECK ((status = 'ready') = (ready_at IS NOT NULL))
);

CREATE INDEX exports_due_idx ON exports (due_at) WHERE status = 'waiting';

COMMENT ON TABLE exports IS 'The files of an hour of an environment that had events; written once';
COMMENT ON COLUMN exports.claim IS 'The fence of whoever writes the files; of files that are ready the key of their bytes';

-- No foreign key: the rows leave with their day, not with their environment row by row.
CREATE TABLE export_chunks (
    environment_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    claim uuid NOT NULL,
    format text NOT NULL CONSTRAINT export_chunks_format_check CHECK (format IN ('ndjson', 'parquet')),
    number integer NOT NULL,
    bytes bytea NOT NULL,
    CONSTRAINT export_chunks_pkey PRIMARY KEY (environment_id, hour, claim, format, number)
) PARTITION BY RANGE (hour);

-- The bytes are compressed already.
ALTER TABLE export_chunks ALTER COLUMN bytes SET STORAGE EXTERNAL;

COMMENT ON TABLE export_chunks IS 'Files of exported events in pieces of bounded size; partitioned by day';

-- Replaces the earlier function: a day that is not yet in files is kept.
CREATE OR REPLACE FUNCTION drop_passed_events("before" timestamptz) RETURNS boolean LANGUAGE plpgsql
SET lock_timeout = '2s' AS $$
DECLARE
    child text;
    ends timestamptz;
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
    ends := (to_date(right(child, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC';
    EXECUTE format('SELECT EXISTS (SELECT FROM consumers, (SELECT xid, id FROM %I ORDER BY xid DESC, id DESC LIMIT 1) AS last
                    WHERE (consumers.xid, consumers.event_id) < (last.xid, last.id))', child) INTO unread;
    IF unread OR coalesce((SELECT max(hour) FROM export_hours) < ends, true)
       OR EXISTS (SELECT FROM exports WHERE status = 'waiting' AND hour <= ends) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %I', child);
    RETURN true;
END $$;
