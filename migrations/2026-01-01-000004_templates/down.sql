ALTER TABLE stream_templates DROP CONSTRAINT stream_templates_template_id_fkey;
DROP TABLE card_template_versions;
DROP TABLE card_templates;
