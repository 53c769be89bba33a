"""BACKUP TABLE … WITH revision_history: moments between layers come back, and one at which a file is not known is refused."""
import pytest

from harness.postgres import wait_until
from .scope import MARKERS, change_marked, holding, make_marked
from .test_scoped_history import back_up, churn, now, windows, with_small_segments
from .zoo import dump, leftovers

COLLECTION = "nodelocal://self/archive"
SUCCEEDED = "succeeded"
ROWS = "SELECT md5(string_agg(m::text, '|' ORDER BY m::text)) FROM {} m"


@pytest.fixture
def marked(lab):
    server = with_small_segments(lab.postgres(start=False))
    make_marked(server)
    return server, lab.holdfast(server)


class TableMoments:
    """Quiet moments of some tables, and what was in them then."""

    def __init__(self, server, *tables):
        self.server, self.tables, self.taken = server, tables, []

    def take(self):
        content = [self.server.value(ROWS.format(table), "shop") for table in self.tables]
        self.taken.append((f"'{now(self.server)}'", content))
        self.server.sql("SELECT txid_current()", "shop")

    def check(self, daemon, collection=COLLECTION):
        for moment, content in self.taken:
            self.server.sql("CREATE DATABASE rescue")
            daemon.sql(f"RESTORE TABLE {', '.join('shop.' + table for table in self.tables)} FROM LATEST IN '{collection}' "
                       f"AS OF SYSTEM TIME {moment} WITH into_db = 'rescue', skip_missing_foreign_keys")
            assert [self.server.value(ROWS.format(table), "rescue") for table in self.tables] == content, moment
            self.server.amcheck()
            self.server.sql("DROP DATABASE rescue")


def test_moments_of_tables_and_nothing_of_others(marked):
    server, daemon = marked
    root = daemon.collection("archive")
    server.sql("CREATE TABLE parted (id serial, at int, wide text) PARTITION BY RANGE (at);"
               "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);"
               "INSERT INTO parted (at, wide) SELECT g % 100, repeat(md5(g::text), 200) FROM generate_series(1, 300) g;"
               "CREATE UNLOGGED TABLE fleeting AS SELECT 1 AS id", "shop")
    kept = TableMoments(server, "mine", "parted")
    targets = "TABLE shop.mine, shop.parted, shop.fleeting"
    plain = ", compression = 'none'"
    back_up(daemon, targets, onto="", options=plain)
    for number in range(3):
        server.sql(f"UPDATE mine SET t = t || '{number}' WHERE id % 5 = 0; INSERT INTO parted (at, wide) SELECT 7, md5(random()::text) FROM generate_series(1, 50);"
                   f"CREATE INDEX passing ON mine (t); DROP INDEX passing", "shop")
        kept.take()
        # One file for another, and in a transaction that is given up.
        server.sql("VACUUM FULL mine", "shop")
        server.sql("BEGIN; TRUNCATE parted; ROLLBACK", "shop")
        change_marked_others(server)
        kept.take()
        server.sql(f"CREATE TABLE parted_x{number} PARTITION OF parted FOR VALUES FROM ({1000 + 100 * number}) TO ({1100 + 100 * number});"
                   f"INSERT INTO parted (at, wide) VALUES ({1000 + 100 * number}, 'new')", "shop")
        kept.take()
        churn(server)
        kept.take()
        assert back_up(daemon, targets, options=plain) == []
    assert len(windows(daemon)) == 1
    assert holding(root, MARKERS["mine"]) and holding(root, MARKERS["sibling"]) == [] and holding(root, MARKERS["stranger"]) == []
    kept.check(daemon)
    row = daemon.sql(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {kept.taken[-1][0]}").one()
    assert row["status"] == SUCCEEDED and int(row["tables"]) > 0
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    assert leftovers(server, daemon) == []


def change_marked_others(server):
    for table, database in (("sibling", "shop"), ("stranger", "other")):
        server.sql(f"UPDATE {table} SET t = '{MARKERS[table]} again ' || id WHERE id % 7 = 0; ANALYZE {table}", database)
        server.sql(f"VACUUM FULL {table}", database)
        server.sql(f"TRUNCATE {table}; INSERT INTO {table} SELECT g, '{MARKERS[table]} new' FROM generate_series(1, 300) g", database)


def test_a_file_that_neither_layer_knows_is_refused(marked):
    server, daemon = marked
    back_up(daemon, "TABLE shop.mine, shop.sibling", onto="")
    kept = TableMoments(server, "mine", "sibling")
    kept.take()
    server.sql("VACUUM FULL mine", "shop")
    between = now(server)
    before = dump(server, "shop")
    server.sql("UPDATE mine SET t = t || '?'", "shop")
    server.sql("VACUUM FULL mine", "shop")
    kept.take()
    assert back_up(daemon, "TABLE shop.mine, shop.sibling") == []
    assert len(windows(daemon)) == 1
    kept.check(daemon)
    server.sql("CREATE DATABASE rescue")
    empty = dump(server, "rescue")
    restore = f"FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{between}' WITH into_db = 'rescue'"
    error = daemon.error(f"RESTORE TABLE shop.mine {restore}")
    assert error.sqlstate == "22023" and 'table "shop.public.mine" had a file then' in error.message and "VACUUM FULL" in error.detail, error
    assert dump(server, "rescue") == empty and leftovers(server, daemon) == []
    # What is not concerned comes back.
    daemon.sql(f"RESTORE TABLE shop.sibling {restore}")
    start = before.index("COPY public.sibling")
    assert before[start:before.index("\\.", start)] in dump(server, "rescue")
    error = daemon.error(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{between}'")
    assert error.sqlstate == "22023" and "had a file then" in error.message, error


def test_a_catalog_that_was_rewritten_twice(marked):
    server, daemon = marked
    back_up(daemon, "TABLE shop.mine", onto="")
    moments = []
    for catalog in ("pg_class", "pg_attribute", "pg_statistic"):
        kept = TableMoments(server, "mine")
        kept.take()
        server.sql(f"VACUUM FULL {catalog}", "shop")
        moments.append(now(server))
        server.sql(f"VACUUM FULL {catalog}", "shop")
        kept.take()
        back_up(daemon, "TABLE shop.mine")
        kept.check(daemon)
    for moment in moments:
        error = daemon.error(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH new_table_name = 'never'")
        assert error.sqlstate == "22023" and "had a file then" in error.message, error
    assert leftovers(server, daemon) == []


def test_what_joined_or_left_the_tables(marked):
    server, daemon = marked
    server.sql("CREATE TABLE parted (id int, at int) PARTITION BY RANGE (at);"
               "CREATE TABLE outside AS SELECT g AS id, g % 100 AS at FROM generate_series(1, 5000) g", "shop")
    back_up(daemon, "TABLE shop.mine, shop.parted", onto="")
    kept = TableMoments(server, "mine", "parted")
    kept.take()
    # Most of it was there before the first layer, which did not hold it.
    server.sql("ALTER TABLE parted ATTACH PARTITION outside FOR VALUES FROM (0) TO (100); UPDATE outside SET id = -id WHERE id < 10", "shop")
    joined = now(server)
    server.sql("DELETE FROM outside WHERE id > 4000", "shop")
    assert back_up(daemon, "TABLE shop.mine, shop.parted") == []
    error = daemon.error(f"RESTORE TABLE shop.parted FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{joined}' WITH new_table_name = 'never'")
    assert error.sqlstate == "22023" and "outside" in error.message, error
    # From the layer on that holds it, it comes back; and a table that is dropped, up to there.
    kept.take()
    server.sql("UPDATE mine SET t = 'last'", "shop")
    kept.take()
    server.sql("DROP TABLE mine", "shop")
    assert back_up(daemon, "TABLE shop.parted") == []
    assert len(windows(daemon)) == 1
    kept.check(daemon)


def test_killed_while_its_history_is_stored(marked):
    server, daemon = marked
    back_up(daemon, "TABLE shop.mine", onto="")
    kept = TableMoments(server, "mine")
    server.sql("UPDATE mine SET t = 'one' WHERE id % 3 = 0", "shop")
    kept.take()
    churn(server)
    daemon.restart("backup.after_history=kill")
    job = daemon.detached(f"BACKUP TABLE shop.mine INTO LATEST IN '{COLLECTION}' WITH revision_history, detached")
    daemon.wait_killed()
    change_marked(server)
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(job)
    wait_until(lambda: int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) < 8_000_000, 90, "the slot moving on")
    assert len(windows(daemon)) == 1
    kept.check(daemon)
