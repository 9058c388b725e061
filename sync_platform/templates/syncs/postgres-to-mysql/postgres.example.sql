INSERT INTO invoices (number, total, paid, due, written_at, remark)
SELECT 'R-' || n, n * 0.0001, n % 2 = 0, date '2024-02-28' + n % 3,
       timestamptz '2024-07-01 10:00:00.000001Z' + n * interval '1 second', (ARRAY['it''s €', E'two\nlines', NULL])[1 + n % 3]
FROM generate_series(1, 200) n;
