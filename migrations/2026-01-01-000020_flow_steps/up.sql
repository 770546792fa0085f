ALTER TABLE tokens
    ADD COLUMN wait_card uuid,
    ADD COLUMN wait_until timestamptz,
    ADD COLUMN reached_at timestamptz;

COMMENT ON COLUMN tokens.wait_card IS 'The card whose events the step waits for';
COMMENT ON COLUMN tokens.wait_until IS 'When that wait ends, whatever happens';
COMMENT ON COLUMN tokens.reached_at IS 'When the step was first executed, where it takes more than one round';

-- Work is taken by turns from every environment, so the indexes are walked from environment to environment.
DROP INDEX tokens_ready_idx;
DROP INDEX tokens_wake_at_idx;
CREATE INDEX tokens_ready_idx ON tokens (lane, environment_id, wake_at) WHERE status = 'ready';
CREATE INDEX tokens_wake_at_idx ON tokens (environment_id, wake_at) WHERE status <> 'ready';
CREATE INDEX tokens_wait_card_idx ON tokens (environment_id, wait_card) WHERE wait_card IS NOT NULL;

ALTER TABLE run_steps
    ADD COLUMN path text,
    ADD COLUMN input jsonb,
    ADD COLUMN started_at timestamptz;
UPDATE run_steps SET started_at = finished_at;
ALTER TABLE run_steps ALTER COLUMN started_at SET NOT NULL;

COMMENT ON COLUMN run_steps.path IS 'The named path on which the run went on';
COMMENT ON COLUMN run_steps.input IS 'What the step was given, where its configuration does not say it already';

CREATE TABLE notifications (
    environment_id uuid NOT NULL,
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    step_key text COLLATE "C" NOT NULL,
    customer_id uuid NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    detail jsonb NOT NULL,
    container_ids uuid[] NOT NULL,
    card_id uuid,
    is_test boolean NOT NULL,
    status text NOT NULL CONSTRAINT notifications_status_check CHECK (status IN ('pending')),
    created_at timestamptz NOT NULL,
    CONSTRAINT notifications_pkey PRIMARY KEY (environment_id, id),
    CONSTRAINT notifications_environment_id_run_id_step_key_key UNIQUE (environment_id, run_id, step_key)
);

COMMENT ON TABLE notifications IS 'What flows want customers'' devices to be told';
