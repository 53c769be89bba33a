"""The bank database of the examples."""

BANK = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL, email text UNIQUE, joined timestamptz NOT NULL);
CREATE TABLE accounts (id int PRIMARY KEY, customer_id int NOT NULL REFERENCES customers, balance numeric(12,2) NOT NULL);
CREATE INDEX accounts_customer ON accounts (customer_id);
INSERT INTO customers SELECT i, 'Customer ' || i, 'c' || i || '@example.com', timestamptz '2026-01-01' + i * interval '1 minute'
  FROM generate_series(1, 1000) i;
INSERT INTO accounts SELECT i, 1 + i % 1000, i * 10.25 FROM generate_series(1, 2000) i;
CREATE VIEW rich AS SELECT name, sum(balance) AS total FROM customers JOIN accounts ON customer_id = customers.id GROUP BY name;
CREATE SEQUENCE receipts;
ANALYZE
"""


def make_bank(postgres, database="bank"):
    postgres.sql(f"CREATE DATABASE {database}")
    with postgres.connect(database) as connection:
        connection.query(BANK)
