CREATE TABLE invoices (
    number text PRIMARY KEY,
    total numeric(14,4),
    paid boolean,
    due date,
    written_at timestamptz,
    remark text,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
