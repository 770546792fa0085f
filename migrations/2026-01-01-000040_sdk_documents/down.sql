DROP TABLE sdk_documents;
ALTER TABLE environments DROP COLUMN registered_documents_only;
