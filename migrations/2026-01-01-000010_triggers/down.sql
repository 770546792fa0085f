DROP TABLE trigger_requests;
DELETE FROM triggers WHERE kind <> 'api';
DROP INDEX triggers_id_key;
ALTER TABLE triggers
    DROP CONSTRAINT triggers_kind_check,
    DROP CONSTRAINT triggers_mode_check,
    DROP CONSTRAINT triggers_api_check,
    DROP CONSTRAINT triggers_verification_check,
    DROP CONSTRAINT triggers_paused_check,
    DROP COLUMN name,
    DROP COLUMN mapping,
    DROP COLUMN shape_check,
    DROP COLUMN allowed_addresses,
    DROP COLUMN verification,
    DROP COLUMN secret,
    DROP COLUMN sample,
    DROP COLUMN sample_headers,
    DROP COLUMN sample_at,
    DROP COLUMN capture_until,
    DROP COLUMN paused_at,
    DROP COLUMN paused_reason,
    DROP COLUMN paused_shape,
    DROP COLUMN revision,
    ADD CONSTRAINT triggers_kind_check CHECK (kind IN ('api')),
    ADD CONSTRAINT triggers_mode_check CHECK (mode IN ('live'));
