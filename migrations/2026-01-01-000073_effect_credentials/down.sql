ALTER TABLE effects DROP COLUMN credential_id;
