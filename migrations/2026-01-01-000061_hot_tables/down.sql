ALTER TABLE run_steps DROP COLUMN place;

ALTER TABLE feed_changes ADD CONSTRAINT feed_changes_environment_id_fkey
    FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE CASCADE;
ALTER TABLE feed_heads ADD CONSTRAINT feed_heads_environment_id_fkey
    FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE CASCADE;
ALTER TABLE cards ADD CONSTRAINT cards_environment_id_fkey
    FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE CASCADE;
ALTER TABLE customers ADD CONSTRAINT customers_environment_id_fkey
    FOREIGN KEY (environment_id) REFERENCES environments (id) ON DELETE CASCADE;
