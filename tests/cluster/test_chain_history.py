"""Everything that changes a cluster's files, layer by layer, on each version: every layer restores to the source's pages."""
import pytest

from harness.chain import Chain, check_visibility
from harness.postgres import wait_until

SETUP = """
CREATE EXTENSION pg_visibility;
CREATE TABLE vm_cleared (id int PRIMARY KEY, v text);
INSERT INTO vm_cleared SELECT g, repeat('v', 300) FROM generate_series(1, 6000) g;
CREATE TABLE vm_tail (id int, v text);
INSERT INTO vm_tail SELECT g, repeat('v', 900) FROM generate_series(1, 4000) g;
CREATE TABLE truncated (id int PRIMARY KEY, v text);
INSERT INTO truncated SELECT g, repeat('t', 100) FROM generate_series(1, 5000) g;
CREATE TABLE rewritten (id int PRIMARY KEY, v int);
INSERT INTO rewritten SELECT g, g FROM generate_series(1, 5000) g;
CREATE TABLE clustered AS SELECT g AS id, (g * 7919) % 5000 AS v FROM generate_series(1, 5000) g;
CREATE INDEX clustered_v ON clustered (v);
CREATE TABLE words (id int, body tsvector, place point, tags int[]);
INSERT INTO words SELECT g, to_tsvector('simple', 'w' || g % 500), point(g, g), ARRAY[g % 100, g] FROM generate_series(1, 3000) g;
CREATE INDEX words_gin ON words USING gin (body);
CREATE INDEX words_tags ON words USING gin (tags) WITH (fastupdate = on);
CREATE INDEX words_gist ON words USING gist (place);
CREATE INDEX words_spgist ON words USING spgist (place);
CREATE INDEX words_hash ON words USING hash (id);
CREATE INDEX words_brin ON words USING brin (id);
CREATE TABLE moves AS SELECT g AS id FROM generate_series(1, 5000) g;
CREATE TABLE stays (id int PRIMARY KEY, v text) TABLESPACE fast;
INSERT INTO stays SELECT g, 'stays' FROM generate_series(1, 3000) g;
CREATE UNLOGGED TABLE unlogged AS SELECT g AS id FROM generate_series(1, 3000) g;
CREATE TABLE toasted (id int, v text);
ALTER TABLE toasted ALTER v SET STORAGE EXTERNAL;
INSERT INTO toasted SELECT g, repeat(md5(g::text), 200) FROM generate_series(1, 100) g;
CREATE SEQUENCE numbers;
SELECT lo_from_bytea(4711, 'a large object');
"""

# Statements before each layer; "database: statement" where it is not `work`.
LAYERS = (
    # Bits that records clear in the visibility map without naming it.
    ("DELETE FROM vm_cleared WHERE id % 700 = 1", "UPDATE vm_cleared SET v = 'hot' WHERE id % 700 = 2",
     "UPDATE vm_cleared SET id = -id WHERE id % 700 = 3", "BEGIN; SELECT 1 FROM vm_cleared WHERE id % 700 = 4 FOR UPDATE; ROLLBACK",
     "BEGIN; SELECT 1 FROM vm_cleared WHERE id % 700 = 5 FOR KEY SHARE; SAVEPOINT a; "
     "UPDATE vm_cleared SET v = 'sub' WHERE id % 700 = 5; ROLLBACK TO a; SELECT 1 FROM vm_cleared WHERE id % 700 = 5 FOR UPDATE; COMMIT",
     # A truncation that goes through a page of the map.
     "DELETE FROM vm_tail WHERE id > 1500", "VACUUM vm_tail", "TRUNCATE truncated", "INSERT INTO truncated VALUES (1, 'again')",
     "VACUUM FULL rewritten", "CLUSTER clustered USING clustered_v", "REINDEX TABLE words",
     "postgres: CREATE DATABASE copied TEMPLATE work STRATEGY wal_log",
     "postgres: CREATE DATABASE copied_as_files TEMPLATE work STRATEGY file_copy", "postgres: CREATE DATABASE moved",
     "moved: CREATE TABLE t AS SELECT generate_series(1, 3000) AS a",
     "postgres: DROP DATABASE will_be_dropped"),
    # What was cut off grows again; what was copied changes.
    ("INSERT INTO vm_tail SELECT g, 'grown' FROM generate_series(1501, 9000) g", "DELETE FROM vm_tail WHERE id = 1400",
     "copied: DELETE FROM vm_cleared WHERE id % 500 = 9", "copied: INSERT INTO words SELECT g, to_tsvector('simple', 'new'), "
     "point(g, 1), ARRAY[g] FROM generate_series(9000, 9500) g",
     "BEGIN; INSERT INTO rewritten SELECT g, 1 FROM generate_series(6000, 6500) g; SAVEPOINT s; CREATE TABLE never (a int); "
     "INSERT INTO never VALUES (1); ROLLBACK TO s; SAVEPOINT s2; CREATE TABLE in_subtransaction AS SELECT 1 AS a; RELEASE s2; COMMIT",
     "BEGIN; TRUNCATE rewritten; INSERT INTO rewritten VALUES (1, 1); ROLLBACK",
     "BEGIN; DELETE FROM moves WHERE id % 3 = 0; PREPARE TRANSACTION 'kept'",
     "BEGIN; CREATE TABLE prepared AS SELECT g AS a FROM generate_series(1, 2000) g; PREPARE TRANSACTION 'committed'",
     "COMMIT PREPARED 'committed'", "BEGIN; DROP TABLE truncated; PREPARE TRANSACTION 'rolled back'", "ROLLBACK PREPARED 'rolled back'",
     "ALTER TABLE unlogged SET LOGGED", "ALTER TABLE toasted SET UNLOGGED", "SELECT lo_put(4711, 0, repeat('much ', 2000)::bytea)",
     "SELECT count(nextval('numbers')) FROM generate_series(1, 100)", "crash", "postgres: CHECKPOINT", "switch"),
    ("COMMIT PREPARED 'kept'", "ALTER TABLE moves SET TABLESPACE fast", "ALTER TABLE stays SET TABLESPACE pg_default",
     "ALTER TABLE toasted SET LOGGED", "moved: DELETE FROM t WHERE a < 100",
     "postgres: ALTER DATABASE moved SET TABLESPACE fast", "VACUUM (FREEZE) vm_tail",
     "VACUUM words", "DROP INDEX words_hash", "CREATE INDEX words_hash ON words USING hash (id)",
     "CREATE MATERIALIZED VIEW seen AS SELECT * FROM vm_cleared", "promote", "INSERT INTO stays SELECT g, 'after' FROM generate_series(5000, 6000) g",
     "UPDATE vm_cleared SET v = 'promoted' WHERE id % 90 = 7"),
)


def run(chain, statement):
    """One step on the source."""
    source = chain.source
    if statement == "crash":
        source.kill9()
        source.start()
        wait_until(source.ready, 60, "recovery after the crash")
    elif statement == "switch":
        source.sql("SELECT pg_switch_wal()")
    elif statement == "promote":
        chain.fail_over()
    else:
        database, separator, text = statement.partition(": ")
        if not separator or database not in ("postgres", "copied", "moved"):
            database, text = "work", statement
        if chain.source.version < 15:
            text = text.partition(" STRATEGY ")[0]
        source.sql(text, database)


@pytest.mark.versions
@pytest.mark.parametrize("version, checksums", [
    (version, checksums) for version in (13, 15, 17, 18) for checksums in (True, False) if version != 13 or not checksums],
    ids=lambda value: {True: "checksums", False: "plain"}[value] if isinstance(value, bool) else str(value))
def test_every_layer_has_the_pages_of_its_moment(lab, version, checksums):
    source = lab.postgres(version=version, checksums=checksums, conf={
        "autovacuum": "off", "max_prepared_transactions": "5", "wal_keep_size": "'1GB'"})
    source.sql(f"CREATE TABLESPACE fast LOCATION '{lab.directory('space')}'")
    source.sql("CREATE DATABASE will_be_dropped")
    source.sql("CREATE DATABASE work")
    with source.connect("work") as session:
        for statement in SETUP.split(";\n"):
            session.query(statement)
    source.sql("VACUUM (FREEZE)", "work")
    daemon = lab.holdfast(source)
    chain = Chain(lab, source, daemon)
    chain.full()
    expected = []
    for statements in LAYERS:
        for statement in statements:
            run(chain, statement)
        expected.append(chain.layer())
    layers = chain.layers()
    assert {layer["change_source"] for layer in layers[1:]} == {"CHANGE_SOURCE_WAL"}
    for (_, pages), layer in zip(expected[:-1], layers[1:-1]):
        chain.assert_pages(pages, layer)
    before, pages = expected[-1]
    chain.assert_restores(before, layers[-1], pages_of=pages)
    check_visibility(source)
    chain.validate()
