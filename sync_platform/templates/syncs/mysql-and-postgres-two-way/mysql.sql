CREATE TABLE clients (
    id BIGINT AUTO_INCREMENT PRIMARY KEY,
    email VARCHAR(190) UNIQUE,
    name VARCHAR(120),
    phone VARCHAR(40),
    credit DECIMAL(12,2),
    updated_at TIMESTAMP(6) NOT NULL DEFAULT now(6) ON UPDATE now(6)
);
