CREATE TABLE bills (
    number VARCHAR(20) PRIMARY KEY,
    total DECIMAL(14,4) NOT NULL,
    paid TINYINT(1),
    due DATE,
    written_at DATETIME(6),
    remark TEXT
);
