ALTER TABLE triggers ADD COLUMN captured_at timestamptz;

CREATE INDEX triggers_paused_idx ON triggers (environment_id) WHERE mode = 'paused';

COMMENT ON COLUMN triggers.captured_at IS 'When the last request became the sample; null where every sample was pasted';

ALTER TABLE trigger_requests
    ADD COLUMN kept bytea,
    ADD COLUMN replayed_at timestamptz;

CREATE INDEX trigger_requests_kept_idx ON trigger_requests (at) WHERE kept IS NOT NULL;

COMMENT ON TABLE trigger_requests IS 'The last requests to each trigger URL and what became of them';
COMMENT ON COLUMN trigger_requests.kept IS 'Body and headers of a request of a recognised sender, sealed; for some days, so that it can be replayed';
COMMENT ON COLUMN trigger_requests.replayed_at IS 'When a member last started the flow with it';
