CREATE TABLE customers (
    id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
    email VARCHAR(80) UNIQUE,
    balance DECIMAL(12,2),
    active TINYINT(1),
    seen_at DATETIME,
    note TEXT,
    updated_at TIMESTAMP(6) NOT NULL DEFAULT now(6) ON UPDATE now(6)
);
