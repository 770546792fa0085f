ALTER TABLE webhook_subscriptions DROP COLUMN credential_id;
DROP TABLE outgoing_credentials;
