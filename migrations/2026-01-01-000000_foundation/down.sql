DROP FUNCTION drop_partitions;
DROP FUNCTION ensure_partitions;
DROP TABLE leases;
DROP TABLE environments;
DROP TABLE organisations;
