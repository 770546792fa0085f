-- What apps say of their customers in tokens, and which of their requests failed.

ALTER TABLE sdk_keys ADD COLUMN claim_mappings jsonb NOT NULL DEFAULT '[]'
    CONSTRAINT sdk_keys_claim_mappings_check CHECK (jsonb_typeof(claim_mappings) = 'array');

CREATE TABLE sdk_failures (
    environment_id uuid NOT NULL CONSTRAINT sdk_failures_environment_id_fkey REFERENCES environments (id),
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    status integer NOT NULL,
    code text NOT NULL,
    operation text,
    key_name text NOT NULL,
    claims text[] NOT NULL,
    CONSTRAINT sdk_failures_pkey PRIMARY KEY (environment_id, id)
);
COMMENT ON TABLE sdk_failures IS 'The last requests of apps that failed, so that members can see why. Names of claims, never values.';
