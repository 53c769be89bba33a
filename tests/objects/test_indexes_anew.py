"""Indexes are built anew from rows, those of large tables while rows of others are still copied: their files in the backup are not fetched, and whether
they are whole does not matter. VERIFY looks at them."""
import pytest

from cluster.test_wal_archive import wait_archived
from harness import environment as env
from harness.postgres import wait_until
from .zoo import blocks, dump, leftovers

COLLECTION = "nodelocal://self/archive"
DATABASE = f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'shop2'"
POINT = "restore.objects_early_index"

NEEDED_BY_LARGE = """
CREATE EXTENSION btree_gist;
CREATE FUNCTION twice(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
"""
SHOP = f"""{NEEDED_BY_LARGE}
CREATE TABLE large (id int PRIMARY KEY, number int NOT NULL UNIQUE DEFERRABLE, part int NOT NULL, body text NOT NULL, span int4range);
INSERT INTO large SELECT i, -i, i % 100, repeat(md5(i::text), 4), int4range(i * 2, i * 2 + 1) FROM generate_series(1, 100000) i;
CREATE INDEX large_part ON large (part, id) INCLUDE (number);
CREATE INDEX large_body ON large USING hash (body);
CREATE INDEX large_some ON large (upper(body)) WHERE part = 7;
ALTER INDEX large_some ALTER COLUMN 1 SET STATISTICS 300;
CREATE UNIQUE INDEX large_replica ON large (id, number);
ALTER TABLE large REPLICA IDENTITY USING INDEX large_replica;
ALTER TABLE large CLUSTER ON large_part;
CREATE INDEX large_twice ON large (twice(part));
ALTER TABLE large ADD CONSTRAINT large_span EXCLUDE USING gist (span WITH &&);
ALTER TABLE large ADD CONSTRAINT large_number EXCLUDE USING gist (number WITH =) WHERE (part = 8);
COMMENT ON INDEX large_part IS 'by part';
COMMENT ON CONSTRAINT large_pkey ON large IS 'the key';
CREATE VIEW by_key AS SELECT id, body FROM large GROUP BY id;
CREATE FUNCTION needs_key() RETURNS bigint LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT count(*) FROM (SELECT id, body FROM large GROUP BY id LIMIT 3) x; END;
CREATE TABLE parts (id int, at int, body text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200);
CREATE INDEX parts_at ON parts (at);
CREATE INDEX parts_high_body ON parts_high (body);
INSERT INTO parts SELECT i, 50 + i % 100, repeat(md5(i::text), 9) FROM generate_series(1, 120000) i;
CREATE TABLE refers (id int PRIMARY KEY, large int REFERENCES large, part int, FOREIGN KEY (id, part) REFERENCES parts);
INSERT INTO refers SELECT i, i, 50 + i % 100 FROM generate_series(1, 1000) i;
CREATE INDEX refers_needy ON refers (id) WHERE id > needs_key();
CREATE TABLE toasted (id int PRIMARY KEY, body text);
ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL;
INSERT INTO toasted SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW summary AS SELECT part, count(*) AS n, repeat('s', 3000) AS s FROM large GROUP BY part;
CREATE UNIQUE INDEX summary_part ON summary (part);
SELECT lo_from_bytea(4711, 'a large object');
"""
# Of users' tables, and what materialized views hold.
MADE_ANEW = """SELECT pg_relation_filepath(c.oid) FROM pg_class c WHERE c.oid >= 16384 AND c.relkind IN ('i', 'm')
    AND c.relnamespace <> 'pg_toast'::regnamespace"""
NEEDED = """SELECT pg_relation_filepath(c.oid) FROM pg_class c WHERE NOT c.relisshared AND pg_relation_size(c.oid) > 0 AND (c.oid < 16384
    OR c.relkind = 'r' OR c.relnamespace = 'pg_toast'::regnamespace AND c.relname !~ (SELECT 'pg_toast_' || oid FROM pg_class WHERE relname = 'summary'))"""


ROWS = "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM {} t"


def files(server, query):
    return [row[0] for row in server.sql(query, "shop").rows]


@pytest.fixture(scope="module")
def backed_up(module_lab):
    server = module_lab.postgres(checksums=False, conf={"autovacuum": "off"})
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE DATABASE rescue")
    server.sql(NEEDED_BY_LARGE, "rescue")
    server.sql(SHOP, "shop", timeout=600)
    server.sql("VACUUM ANALYZE", "shop")
    content = blocks(dump(server, "shop"))
    daemon = module_lab.holdfast(server)
    # Every index that is made anew is garbage in the backup.
    rows = {table: server.value(ROWS.format(table), "shop") for table in ("large", "toasted")}
    made_anew, needed = files(server, MADE_ANEW), files(server, NEEDED)
    server.stop()
    for path in made_anew:
        whole = server.data / path
        whole.write_bytes(b"\xa5" * whole.stat().st_size)
    server.start()
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return server, daemon, content, rows, made_anew, needed


@pytest.fixture
def shop(backed_up):
    """As it was backed up: nothing restored yet, and no job stopped anywhere."""
    server, daemon, *rest = backed_up
    server.sql("DROP DATABASE IF EXISTS shop2")
    if daemon.pause_point is not None:
        daemon.restart()
    return server, daemon, *rest


def check(server, database):
    """Every index is there, valid and right."""
    server.sql("CREATE EXTENSION IF NOT EXISTS amcheck", database)
    env.run(server.bin / "pg_amcheck", "-h", server.sockets, "-p", server.port, "-U", "postgres", "--heapallindexed", "--parent-check",
            "-d", database, timeout=900)
    assert server.value("SELECT count(*) FROM pg_index WHERE NOT indisvalid OR NOT indisready", database) == "0"
    server.sql("DROP EXTENSION amcheck", database)


def indexes(server, database, table="large"):
    return server.sql(f"""SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid), indisclustered, indisreplident, indisprimary,
        obj_description(indexrelid, 'pg_class') FROM pg_index WHERE indrelid = '{table}'::regclass ORDER BY 1""", database).rows


def test_only_what_rows_are_made_of_is_fetched(shop, module_lab):
    server, daemon, content, _, made_anew, needed = shop
    go = module_lab.root / "go"
    daemon.restart(f"restore.objects_copy=stall:{go}")
    job = daemon.detached(f"{DATABASE}, detached")
    wait_until(lambda: "restore.objects_copy" in daemon.log_text(), 120, "the job at its first table")
    workshop = daemon.store / "workshop" / str(job)
    assert [path for path in made_anew if (workshop / "data" / path).exists()] == []
    assert [path for path in needed if not (workshop / "data" / path).exists()] == []
    assert len(made_anew) > 15 and len(needed) > 80
    # Who plans a query there looks for no index.
    query = "SELECT count(*), (SELECT sum(length(body)) FROM toasted) FROM large WHERE id < 1000 AND part = 7"
    rows = env.run(server.bin / "psql", "-X", "-A", "-t", "-h", workshop / "s", "-p", "5432", "-c", query, "shop").stdout
    assert rows.strip() == "10|4800000"
    go.touch()
    daemon.wait_job(job, timeout=300)
    assert blocks(dump(server, "shop2")) == content
    assert indexes(server, "shop2") == indexes(server, "shop")
    check(server, "shop2")
    assert leftovers(server, daemon) == []


def test_verify_looks_at_indexes(shop):
    _, daemon, *_ = shop
    error = daemon.error(f"VERIFY BACKUP LATEST IN '{COLLECTION}'")
    assert error.sqlstate == "XX001" and "index" in error.message and "is damaged" in error.message, error


def test_a_table_alone(shop):
    server, daemon, _, rows, *_ = shop
    daemon.sql(f"RESTORE TABLE shop.public.large, shop.public.toasted FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert indexes(server, "rescue") == indexes(server, "shop")
    assert {table: server.value(ROWS.format(table), "rescue") for table in rows} == rows
    check(server, "rescue")
    server.sql("DROP TABLE large, toasted", "rescue")
    assert leftovers(server, daemon) == []


@pytest.mark.long
def test_interrupted_at_an_index(shop):
    server, daemon, content, *_ = shop
    # The first is a primary key, the others are built beside other rows.
    for number in (1, 4):
        daemon.restart(f"{POINT}=kill@{number}")
        try:
            job = daemon.detached(f"{DATABASE}, detached")
        except ConnectionError:
            job = None
        daemon.wait_killed(180)
        daemon.pause_point = None
        daemon.start()
        daemon.wait_job(int(job or daemon.jobs()[0]["job_id"]), timeout=300)
        assert blocks(dump(server, "shop2")) == content
        server.sql("DROP DATABASE shop2")
        assert leftovers(server, daemon) == []
    daemon.restart(f"{POINT}=stall@2")
    job = daemon.detached(f"{DATABASE}, detached")
    wait_until(lambda: POINT in daemon.log_text(), 120, "an index")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    wait_until(lambda: leftovers(server, daemon) == [], 60, "nothing left")
    daemon.restart(f"{POINT}=fail@3")
    daemon.wait_job(daemon.detached(f"{DATABASE}, detached"), "failed", timeout=300)
    wait_until(lambda: leftovers(server, daemon) == [], 60, "nothing left")


def test_indexes_that_change_behind_the_backup(lab):
    """Their records are left out of the WAL; files that are made in it are not."""
    server = lab.postgres(conf={"autovacuum": "off"})
    server.sql("CREATE DATABASE shop")
    server.sql("""CREATE TABLE t (id int PRIMARY KEY, v int, body text); CREATE INDEX t_v ON t (v); CREATE INDEX t_gone ON t (body); CREATE INDEX t_again ON t (v, id);
        CREATE TABLE toasted (id int PRIMARY KEY, body text); ALTER TABLE toasted ALTER body SET STORAGE EXTERNAL;
        CREATE TABLE swapped (id int PRIMARY KEY);
        INSERT INTO t SELECT i, i % 10, md5(i::text) FROM generate_series(1, 3000) i; INSERT INTO toasted SELECT i, repeat(md5(i::text), 200) FROM generate_series(1, 50) i""", "shop")
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    server.sql("""INSERT INTO t SELECT i, i % 10, md5(i::text) FROM generate_series(3001, 9000) i; DELETE FROM t WHERE id % 3 = 0;
        REINDEX INDEX t_again; DROP INDEX t_gone; CREATE INDEX t_new ON t USING gin (to_tsvector('simple', body));
        UPDATE toasted SET body = repeat(md5((-id)::text), 200) WHERE id % 2 = 0; CREATE TABLE later AS SELECT * FROM t; CREATE INDEX later_id ON later (id)""", "shop")
    for statement in ("VACUUM FULL toasted", "REINDEX TABLE CONCURRENTLY t", "VACUUM t", "CLUSTER t USING t_v"):
        server.sql(statement, "shop")
    moment, content = server.value("SELECT clock_timestamp()"), blocks(dump(server, "shop"))
    server.sql("DROP TABLE t", "shop")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    wait_archived(daemon, server)
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH new_db_name = 'shop2'")
    assert blocks(dump(server, "shop2")) == content
    check(server, "shop2")
    assert leftovers(server, daemon) == []


@pytest.mark.parametrize("table, statement", (("t", "TRUNCATE t"), ("pg_class", "VACUUM FULL pg_class")))
def test_a_file_that_only_seems_to_be_an_index(lab, table, statement):
    """Which files hold rows is read from pages with rolled back rows in them: a table may get the file that one of those gives to an index."""
    server = lab.postgres(conf={"autovacuum": "off"})
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE TABLE t (id int, v int); CREATE INDEX t_v ON t (v); CREATE TABLE next (id int)", "shop")
    next_file = int(server.value("SELECT pg_relation_filenode('next')", "shop"))
    daemon = lab.holdfast(server)
    with server.connect("shop") as rolled_back:
        rolled_back.query("BEGIN")
        for file in range(next_file + 1, next_file + 60):
            rolled_back.query(f"UPDATE pg_class SET relfilenode = {file} WHERE relname = 't_v'")
        daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
        rolled_back.query("ROLLBACK")
    server.sql(statement, "shop")
    server.sql("INSERT INTO t SELECT i, i % 10 FROM generate_series(1, 3000) i", "shop")
    assert next_file < int(server.value(f"SELECT pg_relation_filenode('{table}')", "shop")) < next_file + 60
    moment, content = server.value("SELECT clock_timestamp()"), blocks(dump(server, "shop"))
    server.sql("DROP TABLE t", "shop")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    wait_archived(daemon, server)
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH new_db_name = 'shop2'")
    assert "recovering with all files" in daemon.log_text()
    assert blocks(dump(server, "shop2")) == content
    assert leftovers(server, daemon) == []
