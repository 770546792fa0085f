-- No foreign key: a credential that was deleted meanwhile fails the step, and does not keep its deletion from anybody.
ALTER TABLE effects ADD COLUMN credential_id uuid;
COMMENT ON COLUMN effects.credential_id IS 'The outgoing credential without which the request is not made';
