INSERT INTO people (id, email, first_name, last_name, company)
SELECT n, ' Person' || n || '@Example.com', 'First ' || n, 'Last ' || n, 'Company ' || n FROM generate_series(1, 40) n;
