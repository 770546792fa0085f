DROP TABLE webhook_requests;
DROP TABLE webhook_retries;
DROP TABLE webhook_deliveries;
DROP TABLE webhook_streams;
DROP TABLE webhook_subscriptions;
