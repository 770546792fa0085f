ALTER TABLE environments ADD COLUMN registered_documents_only boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN environments.registered_documents_only IS 'Whether SDK keys may run no other documents than those of sdk_documents';

CREATE TABLE sdk_documents (
    environment_id uuid NOT NULL CONSTRAINT sdk_documents_environment_id_fkey REFERENCES environments (id),
    hash text NOT NULL CONSTRAINT sdk_documents_hash_check CHECK (hash ~ '^[0-9a-f]{64}$'),
    document text NOT NULL CONSTRAINT sdk_documents_document_check CHECK (octet_length(document) <= 65536),
    created_at timestamptz NOT NULL,
    CONSTRAINT sdk_documents_pkey PRIMARY KEY (environment_id, hash)
);
COMMENT ON TABLE sdk_documents IS 'GraphQL documents that apps registered, by the SHA-256 of their text: sent by hash, and the only ones where the environment says so.';
