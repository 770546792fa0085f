DROP TABLE notifications;
ALTER TABLE run_steps DROP COLUMN path, DROP COLUMN input, DROP COLUMN started_at;
DROP INDEX tokens_wait_card_idx;
DROP INDEX tokens_wake_at_idx;
DROP INDEX tokens_ready_idx;
CREATE INDEX tokens_ready_idx ON tokens (lane, wake_at) WHERE status = 'ready';
CREATE INDEX tokens_wake_at_idx ON tokens (wake_at) WHERE status <> 'ready';
ALTER TABLE tokens DROP COLUMN wait_card, DROP COLUMN wait_until, DROP COLUMN reached_at;
