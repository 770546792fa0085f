-- Followers read the log in the order of its commits. Rows from before have the place before all others.
ALTER TABLE webhook_requests ADD COLUMN xid bigint NOT NULL DEFAULT 0;
ALTER TABLE webhook_requests ALTER COLUMN xid SET DEFAULT (pg_current_xact_id()::text::bigint);
COMMENT ON COLUMN webhook_requests.xid IS 'The transaction that logged the attempt: (xid, id) below the oldest running transaction is commit-safe order';

-- Many attempts are logged in one transaction: equal keys share their entry, so each costs a few bytes.
CREATE INDEX webhook_requests_xid_idx ON webhook_requests (environment_id, webhook_id, xid);
