DROP INDEX webhook_requests_xid_idx;
ALTER TABLE webhook_requests DROP COLUMN xid;
