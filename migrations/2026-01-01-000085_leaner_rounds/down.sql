ALTER TABLE cards ALTER COLUMN definition TYPE jsonb USING definition::text::jsonb;

DROP INDEX events_in_use_idx;
