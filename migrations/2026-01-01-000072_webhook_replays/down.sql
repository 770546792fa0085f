DROP TABLE webhook_replays;
ALTER TABLE webhook_streams DROP COLUMN replayed;
DROP INDEX webhook_requests_event_id_idx;
