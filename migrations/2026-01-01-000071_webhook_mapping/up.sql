ALTER TABLE webhook_subscriptions ADD COLUMN mapping text
    CONSTRAINT webhook_subscriptions_mapping_check CHECK (octet_length(mapping) BETWEEN 1 AND 65536);
COMMENT ON COLUMN webhook_subscriptions.mapping IS 'Source of a script whose function map(payload) gives the body that is sent';
