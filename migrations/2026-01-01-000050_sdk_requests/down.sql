DROP TABLE sdk_failures;
ALTER TABLE sdk_keys DROP COLUMN claim_mappings;
