CREATE TABLE leases (
    name text CONSTRAINT leases_pkey PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL,
    until_at timestamptz NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE leases IS 'Who does the work that one node at a time may do; the fence grows with each change of hands.';
