-- What became of the deliveries of a stream, so that none can vanish unnoticed.
ALTER TABLE webhook_streams
    ADD COLUMN delivered bigint NOT NULL DEFAULT 0,
    ADD COLUMN given_up bigint NOT NULL DEFAULT 0,
    ADD COLUMN dropped bigint NOT NULL DEFAULT 0;

UPDATE webhook_streams s SET delivered = s.cursor - cardinality(s.open) - (
    SELECT coalesce(sum(cardinality(r.seqs)), 0) FROM webhook_retries r
    WHERE r.environment_id = s.environment_id AND r.webhook_id = s.webhook_id);

COMMENT ON COLUMN webhook_streams.delivered IS 'Deliveries that the receiver took';
COMMENT ON COLUMN webhook_streams.given_up IS 'Deliveries whose last attempt failed';
COMMENT ON COLUMN webhook_streams.dropped IS 'Deliveries that waited when the subscription was disabled, or whose event retention had taken';

-- A batch is written down before it is sent for the first time.
ALTER TABLE webhook_retries DROP CONSTRAINT webhook_retries_attempts_check;
ALTER TABLE webhook_retries ADD CONSTRAINT webhook_retries_attempts_check CHECK (attempts >= 0);
COMMENT ON TABLE webhook_retries IS 'Requests that are to be made at a time: failed ones, and batches from the moment they are formed; seq is the first of the deliveries the request carries';
