DROP TABLE test_data_deletions;
DROP FUNCTION drop_passed_events(timestamptz);
DROP INDEX events_received_at_idx;
ALTER TABLE environments
    DROP COLUMN export_card_response,
    DROP COLUMN export_request_payload,
    DROP COLUMN export_test_cards;
