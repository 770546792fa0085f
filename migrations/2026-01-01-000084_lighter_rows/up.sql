-- A look at the record need not open the days before a reader's last move.
ALTER TABLE consumers ADD COLUMN moved_at timestamptz;
COMMENT ON COLUMN consumers.moved_at IS 'When the place was last moved; events that are still to be passed were received at most two days before';

-- No plan asks what is in these; comparing samples of them was most of the work of analysing their tables.
ALTER TABLE starts ALTER COLUMN payload SET STATISTICS 0, ALTER COLUMN variables SET STATISTICS 0;
ALTER TABLE runs ALTER COLUMN variables SET STATISTICS 0;
ALTER TABLE run_steps ALTER COLUMN input SET STATISTICS 0, ALTER COLUMN output SET STATISTICS 0;
ALTER TABLE customers ALTER COLUMN preferences SET STATISTICS 0, ALTER COLUMN custom SET STATISTICS 0;
ALTER TABLE cards ALTER COLUMN runtime_variables SET STATISTICS 0, ALTER COLUMN definition SET STATISTICS 0,
    ALTER COLUMN variables SET STATISTICS 0, ALTER COLUMN detail SET STATISTICS 0,
    ALTER COLUMN metadata SET STATISTICS 0, ALTER COLUMN notification_detail SET STATISTICS 0,
    ALTER COLUMN card_options SET STATISTICS 0, ALTER COLUMN response SET STATISTICS 0;

-- Most customers and runs are written twice within moments: with less room on its page, two of three second versions
-- went elsewhere and into every index.
ALTER TABLE customers SET (fillfactor = 50);
ALTER TABLE runs SET (fillfactor = 50);

-- Most customers have no tag; an index of empty lists tells nothing.
DROP INDEX customers_tags_idx;
CREATE INDEX customers_tags_idx ON customers USING gin (tags) WHERE tags <> '{}';
