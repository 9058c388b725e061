CREATE TABLE people (
    id int PRIMARY KEY,
    email text,
    first_name text,
    last_name text,
    company text,
    status text NOT NULL DEFAULT 'new',
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
