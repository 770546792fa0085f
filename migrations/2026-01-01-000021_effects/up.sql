CREATE TABLE effects (
    environment_id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_key text COLLATE "C" NOT NULL,
    status text NOT NULL CONSTRAINT effects_status_check
        CHECK (status IN ('intended', 'performing', 'succeeded', 'failed', 'unknown')),
    method text NOT NULL,
    url text NOT NULL,
    headers jsonb NOT NULL,
    body text,
    timeout_seconds smallint NOT NULL,
    attempts smallint NOT NULL DEFAULT 0,
    failures smallint NOT NULL DEFAULT 0,
    interruptions smallint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL,
    lease uuid,
    outcome jsonb,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT effects_pkey PRIMARY KEY (environment_id, run_id, step_key)
) WITH (fillfactor = 70);

CREATE INDEX effects_due_at_idx ON effects (due_at) WHERE status IN ('intended', 'performing');

COMMENT ON TABLE effects IS 'Requests that steps of runs make: the intent, and what came of it';
COMMENT ON COLUMN effects.due_at IS 'When it is performed, or when the attempt under way is taken for interrupted';
COMMENT ON COLUMN effects.lease IS 'The fence of the attempt under way: who does not hold it records nothing';

CREATE TABLE effect_attempts (
    environment_id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_key text COLLATE "C" NOT NULL,
    attempt smallint NOT NULL,
    status text NOT NULL CONSTRAINT effect_attempts_status_check
        CHECK (status IN ('performing', 'succeeded', 'failed', 'unknown')),
    http_status smallint,
    error text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT effect_attempts_pkey PRIMARY KEY (environment_id, run_id, step_key, attempt)
);

COMMENT ON TABLE effect_attempts IS 'Each try of a request of a step; unknown: it may have arrived';
