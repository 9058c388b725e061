CREATE TABLE clients (
    id bigint PRIMARY KEY,
    email text,
    balance numeric(12,2),
    active boolean,
    seen_at timestamptz,
    note text
);
