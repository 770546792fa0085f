CREATE TABLE outgoing_credentials (
    environment_id uuid NOT NULL CONSTRAINT outgoing_credentials_environment_id_fkey REFERENCES environments (id) ON DELETE CASCADE,
    id uuid NOT NULL,
    name text NOT NULL CONSTRAINT outgoing_credentials_name_check CHECK (char_length(name) BETWEEN 1 AND 256),
    settings jsonb NOT NULL CONSTRAINT outgoing_credentials_settings_check
        CHECK (settings ->> 'type' IN ('oauth-client-credentials', 'aws-signed', 'basic')),
    secrets bytea NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision integer NOT NULL DEFAULT 1,
    CONSTRAINT outgoing_credentials_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT outgoing_credentials_environment_id_name_key UNIQUE (environment_id, name)
);

COMMENT ON TABLE outgoing_credentials IS 'How our requests prove to other systems who sends them';
COMMENT ON COLUMN outgoing_credentials.secrets IS 'Sealed; write-only for callers';

ALTER TABLE webhook_subscriptions ADD COLUMN credential_id uuid;
ALTER TABLE webhook_subscriptions ADD CONSTRAINT webhook_subscriptions_credential_id_fkey
    FOREIGN KEY (environment_id, credential_id) REFERENCES outgoing_credentials (environment_id, id);
CREATE INDEX webhook_subscriptions_credential_id_idx ON webhook_subscriptions (environment_id, credential_id);
