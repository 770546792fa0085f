DROP TABLE container_keys;
DROP TABLE containers;
DROP TABLE stream_templates;
DROP TABLE streams;
DROP TABLE themes;
