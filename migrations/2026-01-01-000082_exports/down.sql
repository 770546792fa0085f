DROP TABLE export_chunks;
DROP TABLE exports;
DROP TABLE export_hours;

CREATE OR REPLACE FUNCTION drop_passed_events("before" timestamptz) RETURNS boolean LANGUAGE plpgsql
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
