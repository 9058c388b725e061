INSERT INTO clients (email, name, phone, credit)
SELECT concat('client', n, '@example.com'), concat('Client ', n), concat('030-', n), n / 4
FROM (WITH RECURSIVE numbers AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 100) SELECT n FROM numbers) s;
