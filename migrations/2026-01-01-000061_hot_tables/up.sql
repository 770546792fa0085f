-- Each row of these tables locked the one row of its environment, where every writer met every other. An environment
-- is deleted by a function that empties all its tables itself.
ALTER TABLE customers DROP CONSTRAINT customers_environment_id_fkey;
ALTER TABLE cards DROP CONSTRAINT cards_environment_id_fkey;
ALTER TABLE feed_heads DROP CONSTRAINT feed_heads_environment_id_fkey;
ALTER TABLE feed_changes DROP CONSTRAINT feed_changes_environment_id_fkey;

-- A branch or a timer is decided together with the step before it, at the same instant.
ALTER TABLE run_steps ADD COLUMN place smallint NOT NULL DEFAULT 0;

COMMENT ON COLUMN run_steps.place IS 'The order among the steps of a run that finished at the same instant';
