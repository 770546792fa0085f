DROP TABLE consumers;
DROP TABLE events;
