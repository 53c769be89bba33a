"""A database with one of each: every kind of object that a restore of single databases and tables must bring back."""
from harness import environment as env

ZOO = r"""
CREATE TYPE mood AS ENUM ('sad', 'ok', 'ha''ppy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE pair AS (a int, m mood);
CREATE TYPE span AS RANGE (subtype = float8);
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.noted := true; RETURN NEW; END';
CREATE EXTENSION hstore;
CREATE EXTENSION btree_gist;

CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL, email text UNIQUE, noted boolean,
    CONSTRAINT named CHECK (length(name) < 100));
INSERT INTO customers (name, email) SELECT 'customer ' || i, i || '@example.org' FROM generate_series(1, 2000) i;
CREATE TRIGGER customers_note BEFORE INSERT ON customers FOR EACH ROW EXECUTE FUNCTION note();
CREATE INDEX customers_partial ON customers (lower(name)) INCLUDE (email) WHERE id > 10;
CREATE INDEX customers_twice ON customers (twice(id));
CREATE STATISTICS customers_stats (dependencies) ON id, name FROM customers;
COMMENT ON TABLE customers IS 'who pays';
COMMENT ON COLUMN customers.name IS 'as on the bill';
ALTER TABLE customers ALTER name SET STATISTICS 50;
CREATE RULE customers_keep AS ON DELETE TO customers WHERE OLD.id = 1 DO INSTEAD NOTHING;
ALTER TABLE customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY customers_all ON customers USING (id > 0);

CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL,
    CONSTRAINT orders_customer FOREIGN KEY (customer) REFERENCES customers DEFERRABLE INITIALLY DEFERRED,
    m mood DEFAULT 'ok', amount numeric(10, 2), p positive, cents bigint GENERATED ALWAYS AS (amount * 100) STORED);
INSERT INTO orders (customer, amount, p) SELECT i % 2000 + 1, i, i FROM generate_series(1, 5000) i;

CREATE TABLE odd (a pair, b mood[], c span, d int4range, e hstore, f positive[], g regclass, h regclass[], i pair[],
    j jsonb, k bytea, l inet, m timestamptz, n interval, o bit(3), p float8, q numeric, r uuid, s tsvector, t money,
    u date, v char(5), w name, x "char", y xml, z int2[][]);
INSERT INTO odd SELECT ROW(i, 'ok'::mood)::pair, '{sad,ha''ppy}', '[1.5,2.5)', '[1,5)', 'a=>1', '{1,2}', 'customers', '{orders,odd}',
    ARRAY[ROW(1, 'sad'::mood)::pair], '{"a": [1, null]}', '\x00ff', '10.0.0.1/8', '2026-01-01 00:00:00.123456+00', '1 mon 2 days', B'101',
    'NaN', 1e-30, '00000000-0000-0000-0000-000000000001', 'a:1 b', 12.34, '0044-03-15 BC', 'ab', 'nm', 'c', '<a/>', '{{1,2},{3,4}}'
    FROM generate_series(1, 50) i;

CREATE TABLE toasted (id int PRIMARY KEY, body text);
ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL;
INSERT INTO toasted SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 200) i;
CREATE UNLOGGED TABLE unlogged_table (id int PRIMARY KEY);
INSERT INTO unlogged_table SELECT generate_series(1, 100);
CREATE TABLE no_columns ();
INSERT INTO no_columns DEFAULT VALUES;
CREATE TABLE rooms (room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
INSERT INTO rooms VALUES (1, '[2026-01-01,2026-01-02)'), (1, '[2026-01-02,2026-01-03)');
CREATE TABLE reshaped (a int, gone text, b text);
INSERT INTO reshaped SELECT i, 'x', 'b' FROM generate_series(1, 100) i;
ALTER TABLE reshaped DROP gone;
ALTER TABLE reshaped ADD c int DEFAULT 7;

CREATE TABLE parts (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parts_east PARTITION OF parts FOR VALUES IN ('east') PARTITION BY RANGE (id);
CREATE TABLE parts_east_low PARTITION OF parts_east FOR VALUES FROM (0) TO (500);
CREATE TABLE parts_east_high PARTITION OF parts_east FOR VALUES FROM (500) TO (5000);
CREATE TABLE parts_west PARTITION OF parts FOR VALUES IN ('west');
CREATE INDEX parts_id ON parts (id);
INSERT INTO parts SELECT i, CASE WHEN i % 2 = 0 THEN 'east' ELSE 'west' END FROM generate_series(1, 2000) i;
CREATE TABLE parent (id int, kind text);
CREATE TABLE child (extra text) INHERITS (parent);
INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 10) i;
INSERT INTO child SELECT i, 'c', 'e' FROM generate_series(1, 10) i;

CREATE SEQUENCE counter START 41;
SELECT nextval('counter');
CREATE TABLE counted (id int DEFAULT nextval('counter'), v text);
INSERT INTO counted (v) SELECT 'v' FROM generate_series(1, 10);

CREATE SCHEMA "Größe und Maß";
CREATE TABLE "Größe und Maß"."Tab.elle mit ""Zitat"" drin" (id int PRIMARY KEY, "Wert €" text);
INSERT INTO "Größe und Maß"."Tab.elle mit ""Zitat"" drin" SELECT i, repeat('ä', i % 50) FROM generate_series(1, 300) i;
CREATE VIEW big_orders AS SELECT o.id, c.name FROM orders o JOIN customers c ON c.id = o.customer WHERE amount > 4000;
CREATE MATERIALIZED VIEW totals AS SELECT region, count(*) FROM parts GROUP BY region;
CREATE UNIQUE INDEX totals_region ON totals (region);
CREATE MATERIALIZED VIEW more_totals AS SELECT count(*) FROM totals;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far (id int) SERVER nowhere;
CREATE PUBLICATION all_orders FOR TABLE orders;
CREATE AGGREGATE total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
SELECT lo_from_bytea(4711, 'a large object');
SELECT lo_from_bytea(4712, decode(repeat('ab', 3000000), 'hex'));
COMMENT ON SCHEMA public IS 'the usual one';
"""


def make_zoo(postgres, database="zoo", owner="postgres"):
    """The database `database` with everything above."""
    postgres.sql(f'CREATE DATABASE "{database}" OWNER {owner}')
    postgres.sql(f"""ALTER DATABASE "{database}" SET work_mem = '5MB'""")
    postgres.sql(f"""ALTER DATABASE "{database}" SET search_path = "$user", public""")
    postgres.sql(f"""COMMENT ON DATABASE "{database}" IS 'one of each'""")
    with postgres.connect(database) as connection:
        connection.query(ZOO)


def dump(postgres, database, *options):
    """What pg_dump says about a database, without what differs at each run."""
    text = env.run(env.DEBIAN_BIN / "pg_dump", "-h", postgres.sockets, "-p", postgres.port, "-U", "postgres",
                   *options, database).stdout
    return "\n".join(line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "--")))


def blocks(text):
    """The statements of a dump: their order follows from OIDs, which are new."""
    stripped = (block.strip() for block in text.split("\n\n"))
    return sorted(block for block in stripped if block and not block.startswith("SET default_"))


def leftovers(postgres, daemon):
    """What a restore of objects may not leave: hidden databases, schemas and roles, workshops and their processes."""
    found = [row[0] for row in postgres.sql("SELECT datname FROM pg_database WHERE datname LIKE 'holdfast%' UNION ALL "
                                            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'holdfast_restore%'").rows]
    for database in postgres.databases():
        if database != "template0":
            found += [row[0] for row in postgres.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'holdfast%'",
                                                     database).rows]
    workshops = daemon.store / "workshop"
    if workshops.exists():
        found += [str(path) for path in workshops.iterdir()]
    return found
