CREATE TABLE people (
    hubspot_id BIGINT UNSIGNED PRIMARY KEY,
    email VARCHAR(190) UNIQUE,
    first_name VARCHAR(80),
    last_name VARCHAR(80),
    stage VARCHAR(40),
    created_at TIMESTAMP(3) NULL
);
