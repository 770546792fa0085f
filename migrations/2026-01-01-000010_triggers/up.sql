ALTER TABLE triggers
    DROP CONSTRAINT triggers_kind_check,
    DROP CONSTRAINT triggers_mode_check,
    ADD COLUMN name text NOT NULL DEFAULT '' CONSTRAINT triggers_name_check CHECK (char_length(name) <= 256),
    ADD COLUMN mapping jsonb NOT NULL DEFAULT '{"type":"none"}'
        CONSTRAINT triggers_mapping_check CHECK (jsonb_typeof(mapping) = 'object'),
    ADD COLUMN shape_check text NOT NULL DEFAULT 'mapped'
        CONSTRAINT triggers_shape_check_check CHECK (shape_check IN ('mapped', 'strict', 'off')),
    ADD COLUMN allowed_addresses text[] NOT NULL DEFAULT '{}',
    ADD COLUMN verification jsonb,
    ADD COLUMN secret bytea,
    ADD COLUMN sample jsonb,
    ADD COLUMN sample_headers jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN sample_at timestamptz,
    ADD COLUMN capture_until timestamptz,
    ADD COLUMN paused_at timestamptz,
    ADD COLUMN paused_reason text,
    ADD COLUMN paused_shape jsonb,
    ADD COLUMN revision integer NOT NULL DEFAULT 1,
    ADD CONSTRAINT triggers_kind_check CHECK (kind IN ('api', 'webhook')),
    ADD CONSTRAINT triggers_mode_check CHECK (mode IN ('test', 'live', 'paused', 'disabled')),
    ADD CONSTRAINT triggers_api_check CHECK (kind <> 'api' OR mode = 'live'),
    ADD CONSTRAINT triggers_verification_check CHECK ((verification IS NULL) = (secret IS NULL)),
    ADD CONSTRAINT triggers_paused_check CHECK (
        (mode = 'paused') = (paused_at IS NOT NULL) AND (mode = 'paused') = (paused_reason IS NOT NULL));

-- The URL of a trigger names nothing but its id.
CREATE UNIQUE INDEX triggers_id_key ON triggers (id);

COMMENT ON COLUMN triggers.verification IS 'How requests are signed, without the secret';
COMMENT ON COLUMN triggers.secret IS 'The shared secret of signatures, sealed';
COMMENT ON COLUMN triggers.capture_until IS 'Until then the next request becomes the sample and starts nothing';
COMMENT ON COLUMN triggers.paused_shape IS 'Paths and types of the request that paused the trigger, none of its values';

CREATE TABLE trigger_requests (
    environment_id uuid NOT NULL,
    trigger_id uuid NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    status smallint NOT NULL,
    code text,
    detail text,
    bytes integer NOT NULL,
    address text NOT NULL,
    invocation text,
    CONSTRAINT trigger_requests_pkey PRIMARY KEY (environment_id, trigger_id, id),
    CONSTRAINT trigger_requests_trigger_id_fkey FOREIGN KEY (environment_id, trigger_id)
        REFERENCES triggers (environment_id, id) ON DELETE CASCADE
);

COMMENT ON TABLE trigger_requests IS 'The last requests to each trigger URL and what became of them; no bodies';
