"""Which files tables have at a moment is known only when the catalogs are recovered. Where it is those of the backup, one recovery is enough."""
import pytest

from harness.postgres import wait_until
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"
ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)), count(*) FROM {} t"
AGAIN = "recovered the tables in a workshop"

BEFORE = """
CREATE TABLE steady (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t text);
ALTER TABLE steady ALTER t SET STORAGE EXTERNAL;
INSERT INTO steady (t) SELECT repeat(md5(i::text), 200) FROM generate_series(1, 300) i;
CREATE TABLE parts (id int, t text) PARTITION BY RANGE (id);
CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (200) PARTITION BY RANGE (id);
CREATE TABLE parts_highest PARTITION OF parts_high FOR VALUES FROM (150) TO (200);
INSERT INTO parts SELECT i, 'p' || i FROM generate_series(0, 199) i WHERE i NOT BETWEEN 100 AND 149;
CREATE TABLE rewritten AS SELECT i AS id, repeat('r', 500) AS t FROM generate_series(1, 500) i;
CREATE TABLE emptied AS SELECT i AS id FROM generate_series(1, 500) i;
CREATE TABLE old_name AS SELECT i AS id FROM generate_series(1, 500) i;
CREATE TABLE swapped_a AS SELECT i AS id, 'a' AS t FROM generate_series(1, 500) i;
CREATE TABLE swapped_b AS SELECT i AS id, 'b' AS t FROM generate_series(1, 500) i;
"""
AFTER = """
UPDATE steady SET t = repeat(md5((-id)::text), 200) WHERE id % 3 = 0;
INSERT INTO steady (t) VALUES ('another');
CREATE TABLE parts_between PARTITION OF parts_high FOR VALUES FROM (100) TO (150);
INSERT INTO parts SELECT i, 'q' || i FROM generate_series(100, 149) i;
DELETE FROM rewritten WHERE id % 2 = 0;
TRUNCATE emptied;
INSERT INTO emptied VALUES (7);
ALTER TABLE old_name RENAME TO new_name;
UPDATE new_name SET id = id + 1;
ALTER TABLE swapped_a RENAME TO swapped_c; ALTER TABLE swapped_b RENAME TO swapped_a; ALTER TABLE swapped_c RENAME TO swapped_b;
CREATE TABLE made_later AS SELECT i AS id, repeat('n', 3000) AS t FROM generate_series(1, 500) i;
"""
# Whether files that the backup has under another name, or for other tables, are fetched after the first look.
TABLES = {"steady": False, "parts": False, "rewritten": False, "emptied": False, "new_name": True, "swapped_a": True, "made_later": False}


@pytest.fixture(scope="module")
def backed_up(module_lab):
    server = module_lab.postgres()
    for database in ("shop", "rescue"):
        server.sql(f"CREATE DATABASE {database}")
    server.sql(BEFORE, "shop")
    daemon = module_lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    server.sql(AFTER, "shop")
    server.sql("VACUUM FULL rewritten", "shop")
    rows = {table: server.sql(ROWS.format(table), "shop").rows for table in TABLES}
    moment = server.value("SELECT clock_timestamp()")
    server.sql("DELETE FROM steady", "shop")
    lsn = server.value("SELECT pg_current_wal_flush_lsn()")

    def archived():
        reached = daemon.sql("SHOW WAL ARCHIVES").one()["archived_lsn"]
        return reached and server.value(f"SELECT '{reached}'::pg_lsn >= '{lsn}'") == "t"
    wait_until(archived, 60, "the WAL in the archive")
    return server, daemon, moment, rows


def restore(daemon, tables, moment, options=""):
    """How often more than one recovery was needed."""
    before = len(daemon.log_text())
    daemon.sql(f"RESTORE TABLE {tables} FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH into_db = 'rescue'{options}",
               database="shop")
    return daemon.log_text()[before:].count(AGAIN)


def test_tables_that_changed_behind_the_backup(backed_up):
    server, daemon, moment, rows = backed_up
    for table, again in TABLES.items():
        assert restore(daemon, table, moment) == again, table
        assert server.sql(ROWS.format(table), "rescue").rows == rows[table], table
    # WAL says of a sequence's position that it is up to 32 further.
    assert int(server.value("INSERT INTO steady (t) VALUES ('next') RETURNING id", "rescue")) in range(302, 335)
    assert leftovers(server, daemon) == []


def test_all_of_them_at_once_and_some_rows(backed_up):
    server, daemon, moment, rows = backed_up
    assert restore(daemon, "public.*", moment, ", into_schema = 'all'") == 0
    assert {table: server.sql(ROWS.format(f'"all".{table}'), "rescue").rows for table in TABLES} == rows
    # A filter is evaluated in whichever recovery was the last.
    for table, again in (("steady", 0), ("new_name", 1)):
        assert restore(daemon, table, moment, ", into_schema = 'some', where = 'id % 5 = 1'") == again
        assert server.sql(ROWS.format(f'"some".{table}'), "rescue").rows == \
            server.sql(ROWS.format(f'(SELECT * FROM "all".{table} WHERE id % 5 = 1)'), "rescue").rows
    assert leftovers(server, daemon) == []


def test_damaged_wal_is_told(backed_up):
    server, daemon, moment, rows = backed_up
    segments = {path: path.read_bytes() for path in (daemon.collection("archive") / "wal").rglob("*.wal")}
    for path, whole in segments.items():
        path.write_bytes(whole[:len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1:])
    try:
        error = daemon.error(f"RESTORE TABLE steady FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH into_db = 'rescue', into_schema = 'told'",
                             database="shop")
        assert error.sqlstate == "XX001" and any(path.name in str(error) for path in segments), error
    finally:
        for path, whole in segments.items():
            path.write_bytes(whole)
    assert leftovers(server, daemon) == []
    assert restore(daemon, "steady", moment, ", into_schema = 'told'") == 0
    assert server.sql(ROWS.format("told.steady"), "rescue").rows == rows["steady"]
