"""A cluster whose objects are there because each is easy to lose: odd names, empty, unlogged, large, partitioned."""

SAMPLE = """
CREATE SCHEMA "Größe und Maß";
CREATE TABLE "Größe und Maß"."Tabelle mit Leerzeichen" (id int PRIMARY KEY, "Wert €" text);
INSERT INTO "Größe und Maß"."Tabelle mit Leerzeichen" SELECT i, repeat('ä', i % 50) FROM generate_series(1, 3000) i;
CREATE TABLE empty_table (id int PRIMARY KEY);
CREATE TABLE toasted (id int PRIMARY KEY, body text);
ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL;
INSERT INTO toasted SELECT i, repeat(md5(i::text), 400) FROM generate_series(1, 300) i;
CREATE UNLOGGED TABLE unlogged_table (id int PRIMARY KEY);
INSERT INTO unlogged_table SELECT generate_series(1, 1000);
CREATE TABLE parts (id int, region text) PARTITION BY LIST (region);
CREATE TABLE parts_east PARTITION OF parts FOR VALUES IN ('east');
CREATE TABLE parts_west PARTITION OF parts FOR VALUES IN ('west');
INSERT INTO parts SELECT i, CASE WHEN i % 2 = 0 THEN 'east' ELSE 'west' END FROM generate_series(1, 2000) i;
CREATE TABLE will_be_truncated AS SELECT generate_series(1, 5000) AS id;
TRUNCATE will_be_truncated;
CREATE TABLE will_be_rewritten (id int, note text);
INSERT INTO will_be_rewritten SELECT i, 'note' FROM generate_series(1, 5000) i;
ALTER TABLE will_be_rewritten ALTER id TYPE bigint;
CREATE TABLE was_dropped AS SELECT generate_series(1, 5000) AS id;
DROP TABLE was_dropped;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE moods (id int GENERATED ALWAYS AS IDENTITY, m mood DEFAULT 'ok', doubled int GENERATED ALWAYS AS (7) STORED);
INSERT INTO moods (m) SELECT 'happy' FROM generate_series(1, 500);
CREATE FUNCTION double(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
CREATE INDEX moods_expression ON moods (double(id));
CREATE TABLE documents (id int PRIMARY KEY, body jsonb, words tsvector);
INSERT INTO documents SELECT i, jsonb_build_object('n', i, 'tags', ARRAY['a', 'b']), to_tsvector('english', 'word' || i) FROM generate_series(1, 2000) i;
CREATE INDEX documents_gin ON documents USING gin (body);
CREATE INDEX documents_words ON documents USING gist (words);
CREATE INDEX documents_hash ON documents USING hash (id);
CREATE INDEX documents_brin ON documents USING brin (id);
CREATE TABLE points (p point);
INSERT INTO points SELECT point(i, i) FROM generate_series(1, 1000) i;
CREATE INDEX points_spgist ON points USING spgist (p);
CREATE MATERIALIZED VIEW totals AS SELECT region, count(*) FROM parts GROUP BY region;
CREATE SEQUENCE counter START 41;
SELECT nextval('counter');
SELECT lo_from_bytea(4711, 'a large object');
COMMENT ON TABLE toasted IS 'has out-of-line values';
"""


def make_sample(postgres, tablespace_directory=None):
    """The database "Mixed Case" with everything above, roles, settings and (if asked) a tablespace."""
    postgres.sql("CREATE ROLE app LOGIN PASSWORD 'not a secret'")
    postgres.sql("CREATE ROLE readers")
    postgres.sql("GRANT readers TO app")
    postgres.sql('CREATE DATABASE "Mixed Case" OWNER app')
    postgres.sql("""ALTER DATABASE "Mixed Case" SET work_mem = '5MB'""")
    with postgres.connect("Mixed Case") as connection:
        connection.query(SAMPLE)
        connection.query("GRANT SELECT ON toasted TO readers")
        if tablespace_directory:
            connection.query(f"CREATE TABLESPACE fast LOCATION '{tablespace_directory}'")
            connection.query("CREATE TABLE elsewhere (id int PRIMARY KEY USING INDEX TABLESPACE fast, t text) TABLESPACE fast")
            connection.query("INSERT INTO elsewhere SELECT i, md5(i::text) FROM generate_series(1, 5000) i")
    if tablespace_directory:
        postgres.sql("CREATE DATABASE moved TABLESPACE fast")
        postgres.sql("CREATE TABLE t AS SELECT generate_series(1, 100) AS id", "moved")
