-- What is written whole and read whole need not be taken apart in between.
ALTER TABLE cards ALTER COLUMN runtime_variables TYPE json USING runtime_variables::text::json,
    ALTER COLUMN variables TYPE json USING variables::text::json,
    ALTER COLUMN detail TYPE json USING detail::text::json,
    ALTER COLUMN metadata TYPE json USING metadata::text::json,
    ALTER COLUMN notification_detail TYPE json USING notification_detail::text::json,
    ALTER COLUMN card_options TYPE json USING card_options::text::json;
ALTER TABLE starts ALTER COLUMN payload TYPE json USING payload::text::json,
    ALTER COLUMN variables TYPE json USING variables::text::json;
ALTER TABLE runs ALTER COLUMN variables TYPE json USING variables::text::json;
ALTER TABLE run_steps ALTER COLUMN input TYPE json USING input::text::json,
    ALTER COLUMN output TYPE json USING output::text::json;

-- Nobody asks what a card was before: patches say what it is.
ALTER TABLE feed_changes DROP COLUMN before;
COMMENT ON TABLE feed_changes IS 'Changes of customers'' feeds by version; partitioned by day.';

-- There are ever more rows of these, and whoever asks goes by an index: a small sample tells enough. With the usual one,
-- looking at them again as they grew was a twelfth of all processor time while many flows were started.
DO $$
DECLARE
    busy record;
BEGIN
    FOR busy IN
        SELECT relation.relname, string_agg(format('ALTER COLUMN %I SET STATISTICS 20', attribute.attname), ', ') AS changes
        FROM pg_class relation JOIN pg_attribute attribute ON attribute.attrelid = relation.oid
        WHERE relation.relnamespace = current_schema()::regnamespace AND relation.relname IN (
            'events', 'cards', 'feed_changes', 'starts', 'invocations', 'runs', 'run_steps', 'webhook_deliveries',
            'webhook_requests')
          AND attribute.attnum > 0 AND NOT attribute.attisdropped AND coalesce(attribute.attstattarget, -1) <> 0
        GROUP BY relation.relname
    LOOP
        EXECUTE format('ALTER TABLE %I %s', busy.relname, busy.changes);
    END LOOP;
END $$;
-- No plan asks what is in it.
ALTER TABLE events ALTER COLUMN payload SET STATISTICS 0;

-- Replaces the earlier function: a new day is sampled as its table says, which Postgres does not pass on.
CREATE OR REPLACE FUNCTION ensure_partitions(parent regclass, "from" timestamptz, days integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    day date;
    child text;
    sampling text;
BEGIN
    FOR offset_days IN 0 .. days LOOP
        day := ("from" AT TIME ZONE 'UTC')::date + offset_days;
        child := format('%s_%s', parent, to_char(day, 'YYYYMMDD'));
        IF to_regclass(child) IS NULL THEN
            PERFORM pg_advisory_xact_lock(hashtext(child));
            EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                child, parent, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            SELECT string_agg(format('ALTER COLUMN %I SET STATISTICS %s', attname, attstattarget), ', ') INTO sampling
            FROM pg_attribute WHERE attrelid = parent AND attnum > 0 AND NOT attisdropped AND attstattarget >= 0;
            IF sampling IS NOT NULL THEN
                EXECUTE format('ALTER TABLE %I %s', child, sampling);
            END IF;
        END IF;
    END LOOP;
END $$;
