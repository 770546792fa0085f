ALTER TABLE trigger_requests DROP COLUMN kept, DROP COLUMN replayed_at;
COMMENT ON TABLE trigger_requests IS 'The last requests to each trigger URL and what became of them; no bodies';
DROP INDEX triggers_paused_idx;
ALTER TABLE triggers DROP COLUMN captured_at;
