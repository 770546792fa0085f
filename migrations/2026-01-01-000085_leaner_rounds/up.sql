-- What is waited for is a small part of what is recorded: its reader looks at nothing else.
CREATE INDEX events_in_use_idx ON events (xid, id)
    WHERE name IN ('card-completed', 'card-dismissed', 'card-snoozed', 'card-expired', 'card-cancelled', 'card-displayed',
                   'card-voted-up', 'card-voted-down');

-- A definition is written whole and read whole: taking it apart at each writing was a fifth of making a card.
ALTER TABLE cards ALTER COLUMN definition TYPE json USING definition::text::json;

-- A run that is moved to another version may come by a step again.
COMMENT ON TABLE run_steps IS 'Finished steps of runs with their outputs; of a step that a run comes by again, the last time';
