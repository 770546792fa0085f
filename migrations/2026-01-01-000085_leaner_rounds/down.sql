COMMENT ON TABLE run_steps IS 'Finished steps of runs with their outputs; a step finishes once in a run';

ALTER TABLE cards ALTER COLUMN definition TYPE jsonb USING definition::text::jsonb;

DROP INDEX events_in_use_idx;
