UPDATE webhook_retries SET attempts = 1 WHERE attempts = 0;
ALTER TABLE webhook_retries DROP CONSTRAINT webhook_retries_attempts_check;
ALTER TABLE webhook_retries ADD CONSTRAINT webhook_retries_attempts_check CHECK (attempts > 0);
COMMENT ON TABLE webhook_retries IS 'Failed requests that will be tried again; seq is the first of the deliveries the request carries';
ALTER TABLE webhook_streams DROP COLUMN dropped, DROP COLUMN given_up, DROP COLUMN delivered;
