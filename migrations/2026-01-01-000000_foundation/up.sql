CREATE TABLE organisations (
    id uuid CONSTRAINT organisations_pkey PRIMARY KEY,
    name text NOT NULL CONSTRAINT organisations_name_check CHECK (length(name) BETWEEN 1 AND 256),
    inactivity_minutes integer NOT NULL DEFAULT 30
        CONSTRAINT organisations_inactivity_minutes_check CHECK (inactivity_minutes BETWEEN 1 AND 1440),
    retention_days jsonb NOT NULL DEFAULT '{"audit":365,"events":365,"cards":365,"sdkRequests":365}',
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1
);
COMMENT ON TABLE organisations IS 'The top of the hierarchy: owns environments, members, roles and groups.';

CREATE TABLE environments (
    id uuid CONSTRAINT environments_pkey PRIMARY KEY,
    organisation_id uuid NOT NULL CONSTRAINT environments_organisation_id_fkey REFERENCES organisations (id),
    name text NOT NULL CONSTRAINT environments_name_check CHECK (length(name) BETWEEN 1 AND 256),
    time_zone text NOT NULL DEFAULT 'UTC',
    expose_metadata_to_sdk boolean NOT NULL DEFAULT false,
    webhook_signature_header text NOT NULL DEFAULT 'x-cardwire-signature',
    webhook_signature_encoding text NOT NULL DEFAULT 'hex'
        CONSTRAINT environments_webhook_signature_encoding_check CHECK (webhook_signature_encoding IN ('hex', 'base64')),
    archived_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT environments_organisation_id_name_key UNIQUE (organisation_id, name)
);
COMMENT ON TABLE environments IS 'An isolated workspace; every other tenant table leads with its id.';

CREATE TABLE leases (
    name text CONSTRAINT leases_pkey PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL,
    until_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE leases IS 'Who does the work that one node at a time may do; the fence grows with each change of hands.';

-- Makes the day partitions of a table from the day of "from" on, as far as they are missing.
CREATE FUNCTION ensure_partitions(parent regclass, "from" timestamptz, days integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    day date;
    child text;
BEGIN
    FOR offset_days IN 0 .. days LOOP
        day := ("from" AT TIME ZONE 'UTC')::date + offset_days;
        child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
        IF to_regclass(child) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext(child));
            EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                child, parent, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
        END IF;
    END LOOP;
END $$;

-- Drops the day partitions of a table that end before "before".
CREATE FUNCTION drop_partitions(parent regclass, "before" timestamptz) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    child text;
    dropped integer := 0;
BEGIN
    FOR child IN
        SELECT relation.relname FROM pg_inherits
        JOIN pg_class relation ON relation.oid = pg_inherits.inhrelid
        WHERE pg_inherits.inhparent = parent
          -- CASE keeps the planner from reading dates out of the names of other tables.
          AND CASE WHEN relation.relname ~ '_[0-9]{8}$'
                   THEN to_date(right(relation.relname, 8), 'YYYYMMDD') < ("before" AT TIME ZONE 'UTC')::date
                   ELSE false END
    LOOP
        EXECUTE format('DROP TABLE %I', child);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
