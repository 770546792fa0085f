DROP TABLE sdk_events;
