DROP TABLE trigger_events;
DROP TABLE trigger_firings;
DROP INDEX triggers_event_idx;
DELETE FROM triggers WHERE kind = 'event';
ALTER TABLE triggers
    DROP CONSTRAINT triggers_event_mode_check,
    DROP CONSTRAINT triggers_event_check,
    DROP CONSTRAINT triggers_event_name_check,
    DROP CONSTRAINT triggers_kind_check,
    DROP COLUMN since_xid,
    DROP COLUMN event_flow_id,
    DROP COLUMN event_template_id,
    DROP COLUMN condition,
    DROP COLUMN event_name,
    ADD CONSTRAINT triggers_kind_check CHECK (kind IN ('api', 'webhook'));
