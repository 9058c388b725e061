INSERT INTO customers (email, balance, active, seen_at, note)
SELECT concat('USER', n, '@example.com'), n / 100, n % 2, '2024-07-01 12:00:00' + INTERVAL n MINUTE,
       elt(1 + n % 3, 'it''s €', 'two\nlines', NULL)
FROM (WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 200) SELECT n FROM numbers) s;
