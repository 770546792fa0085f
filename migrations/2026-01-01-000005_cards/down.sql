DROP TABLE feed_changes;
DROP TABLE feed_heads;
DROP TABLE cards;
