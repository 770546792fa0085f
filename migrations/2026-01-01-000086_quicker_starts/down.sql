CREATE OR REPLACE FUNCTION ensure_partitions(parent regclass, "from" timestamptz, days integer) RETURNS void LANGUAGE plpgsql AS $$
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

DO $$
DECLARE
    busy record;
BEGIN
    FOR busy IN
        SELECT relation.relname, string_agg(format('ALTER COLUMN %I SET STATISTICS -1', attribute.attname), ', ') AS changes
        FROM pg_class relation JOIN pg_attribute attribute ON attribute.attrelid = relation.oid
        WHERE relation.relnamespace = current_schema()::regnamespace AND relation.relkind IN ('r', 'p')
          AND attribute.attnum > 0 AND NOT attribute.attisdropped AND attribute.attstattarget = 20
        GROUP BY relation.relname
    LOOP
        EXECUTE format('ALTER TABLE %I %s', busy.relname, busy.changes);
    END LOOP;
END $$;
ALTER TABLE events ALTER COLUMN payload SET STATISTICS -1;

ALTER TABLE feed_changes ADD COLUMN before jsonb NOT NULL DEFAULT 'null';
ALTER TABLE feed_changes ALTER COLUMN before DROP DEFAULT;
COMMENT ON TABLE feed_changes IS 'Changes of customers'' feeds by version, with what a card was before; partitioned by day.';

ALTER TABLE run_steps ALTER COLUMN input TYPE jsonb USING input::text::jsonb,
    ALTER COLUMN output TYPE jsonb USING output::text::jsonb;
ALTER TABLE runs ALTER COLUMN variables TYPE jsonb USING variables::text::jsonb;
ALTER TABLE starts ALTER COLUMN payload TYPE jsonb USING payload::text::jsonb,
    ALTER COLUMN variables TYPE jsonb USING variables::text::jsonb;
ALTER TABLE cards ALTER COLUMN runtime_variables TYPE jsonb USING runtime_variables::text::jsonb,
    ALTER COLUMN variables TYPE jsonb USING variables::text::jsonb,
    ALTER COLUMN detail TYPE jsonb USING detail::text::jsonb,
    ALTER COLUMN metadata TYPE jsonb USING metadata::text::jsonb,
    ALTER COLUMN notification_detail TYPE jsonb USING notification_detail::text::jsonb,
    ALTER COLUMN card_options TYPE jsonb USING card_options::text::jsonb;
