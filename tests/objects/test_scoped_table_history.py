"""BACKUP TABLE … WITH revision_history: moments between layers come back, and one at which a file is not known is refused."""
import random

import pytest

from harness.postgres import wait_until
from harness.wire import SqlError
from .scope import MARKERS, change_marked, holding, make_marked, with_small_segments
from .test_scoped_history import back_up, churn, now, windows
from .zoo import dump, leftovers

COLLECTION = "nodelocal://self/archive"
SUCCEEDED = "succeeded"
ROWS = "SELECT md5(string_agg(m::text, '|' ORDER BY m::text)) FROM {} m"


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


def test_moments_of_tables_and_nothing_of_others(marked_small):
    server, daemon = marked_small
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


def test_a_file_that_neither_layer_knows_is_refused(marked_small):
    server, daemon = marked_small
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


def test_a_catalog_that_was_rewritten_twice(marked_small):
    server, daemon = marked_small
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


def test_what_joined_or_left_the_tables(marked_small):
    server, daemon = marked_small
    server.sql("CREATE TABLE parted (id int, at int) PARTITION BY RANGE (at);"
               "CREATE TABLE outside AS SELECT g AS id, g % 100 AS at FROM generate_series(1, 5000) g", "shop")
    server.sql("CREATE TABLE beside AS SELECT generate_series(1, 10) AS id", "other")
    tables = "TABLE shop.mine, shop.parted, other.beside"
    back_up(daemon, tables, onto="")
    kept = TableMoments(server, "mine", "parted")
    kept.take()
    before, _ = kept.taken[-1]
    # Most of it was there before the first layer, which did not hold it.
    server.sql("ALTER TABLE parted ATTACH PARTITION outside FOR VALUES FROM (0) TO (100); UPDATE outside SET id = -id WHERE id < 10", "shop")
    joined = now(server)
    server.sql("DELETE FROM outside WHERE id > 4000", "shop")
    assert back_up(daemon, tables) == []
    server.sql("CREATE DATABASE united")
    for named, option in (("shop.parted", "new_table_name = 'never'"), ("shop.parted, other.beside", "into_db = 'united'")):
        error = daemon.error(f"RESTORE TABLE {named} FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{joined}' WITH {option}")
        assert error.sqlstate == "22023" and "outside" in error.message, error
    assert server.value("SELECT count(*) FROM pg_class WHERE relname IN ('parted', 'beside', 'outside')", "united") == "0"
    # Before it joined it was a stranger, and no pattern means it.
    daemon.sql(f"RESTORE TABLE shop.public.*, other.beside FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {before} WITH into_db = 'united'")
    assert server.value("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384 "
                        "AND relnamespace = 'public'::regnamespace", "united") == "beside mine parted"
    daemon.sql(f"VERIFY BACKUP LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {before}")
    # From the layer on that holds it, it comes back; and a table that is dropped, up to there.
    kept.take()
    server.sql("UPDATE mine SET t = 'last'", "shop")
    kept.take()
    server.sql("DROP TABLE mine", "shop")
    assert back_up(daemon, "TABLE shop.parted, other.beside") == []
    assert len(windows(daemon)) == 1
    kept.check(daemon)
    daemon.sql(f"VERIFY BACKUP LATEST IN '{COLLECTION}'")


def test_a_partition_that_left_and_is_vacuumed_while_the_layer_is_taken(lab):
    """Without checksums that names its pages without their content. A layer with history has WAL of what was its own before."""
    server = with_small_segments(lab.postgres(start=False, checksums=False, conf={"autovacuum": "off"}))
    make_marked(server)
    daemon = lab.holdfast(server)
    server.sql("CREATE TABLE parted (id int, at int) PARTITION BY RANGE (at); CREATE TABLE stays PARTITION OF parted FOR VALUES FROM (0) TO (100);"
               "CREATE TABLE leaves PARTITION OF parted FOR VALUES FROM (100) TO (200); INSERT INTO parted SELECT g, g % 200 FROM generate_series(1, 20000) g", "shop")
    back_up(daemon, "TABLE shop.parted", onto="")
    server.sql("ALTER TABLE parted DETACH PARTITION leaves", "shop")
    go = lab.root / "go"
    daemon.restart(f"backup.after_start=stall:{go}")
    job = daemon.detached(f"BACKUP TABLE shop.parted INTO LATEST IN '{COLLECTION}' WITH revision_history, detached")
    wait_until(lambda: f"job={job} backup started" in daemon.log_text(), 60, "the backup's start")
    server.sql("VACUUM leaves", "shop")
    go.touch()
    daemon.wait_job(job)
    server.sql("CREATE DATABASE rescue")
    daemon.sql(f"RESTORE TABLE shop.parted FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert server.value(ROWS.format("parted"), "rescue") == server.value(ROWS.format("parted"), "shop")
    daemon.sql(f"VERIFY BACKUP LATEST IN '{COLLECTION}'")


def test_killed_while_its_history_is_stored(marked_small):
    server, daemon = marked_small
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


class Changes:
    """Random changes of tables in scope, and of one beside them; each is one kind of rewriting, or of not rewriting."""

    def __init__(self, server, seed):
        self.server, self.random, self.number = server, random.Random(seed), 0
        server.sql("CREATE TABLE wide (id bigserial PRIMARY KEY, v text, n int); ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;"
                   "CREATE TABLE parted (id int, at int) PARTITION BY LIST (at); CREATE TABLE parted_d PARTITION OF parted DEFAULT;"
                   "CREATE TABLE beside AS SELECT g AS id, 0 AS at FROM generate_series(1, 100) g", "shop")
        for _ in range(4):
            self.insert()

    def sql(self, *statements):
        for statement in statements:
            self.server.sql(statement, "shop")

    def insert(self):
        self.sql("INSERT INTO wide (v, n) SELECT repeat(md5(random()::text), g % 120), g FROM generate_series(1, 200) g",
                 "INSERT INTO parted SELECT g, g % 5 FROM generate_series(1, 200) g")

    def update(self):
        self.sql(f"UPDATE wide SET n = n + 1, v = v || 'x' WHERE id % {self.random.randint(2, 9)} = 0", "DELETE FROM parted WHERE random() < 0.1")

    def vacuum(self):
        self.sql("DELETE FROM wide WHERE id > (SELECT max(id) - 60 FROM wide)", "VACUUM wide")

    def abort(self):
        self.sql("BEGIN; TRUNCATE wide; INSERT INTO wide (v) VALUES ('never'); CREATE INDEX never ON wide (n); ROLLBACK")

    def partition(self):
        self.number += 1
        self.sql(f"CREATE TABLE parted_{self.number} PARTITION OF parted FOR VALUES IN ({100 + self.number})",
                 f"INSERT INTO parted SELECT g, {100 + self.number} FROM generate_series(1, 50) g")

    def drop_partition(self):
        if self.number:
            self.sql(f"DROP TABLE IF EXISTS parted_{self.random.randint(1, self.number)}")

    def attach(self):
        self.number += 1
        self.sql(f"CREATE TABLE joined{self.number} AS SELECT id, {100 + self.number} AS at FROM beside",
                 f"ALTER TABLE parted ATTACH PARTITION joined{self.number} FOR VALUES IN ({100 + self.number})")

    def rewrite(self):
        self.sql(self.random.choice(("VACUUM FULL wide", "CLUSTER wide USING wide_pkey", "ALTER TABLE wide ALTER n TYPE bigint USING n + 1",
                                     "TRUNCATE wide RESTART IDENTITY", "VACUUM FULL parted_d", "TRUNCATE parted_d")))
        self.insert()

    def index(self):
        self.sql(self.random.choice(("REINDEX TABLE wide", "DROP INDEX IF EXISTS wide_n; CREATE INDEX wide_n ON wide (n)")))

    def others(self):
        change_marked_others(self.server)

    def step(self):
        often = (self.insert, self.update, self.vacuum, self.abort, self.partition, self.drop_partition, self.index, self.others)
        self.random.choice(often * 2 + (self.rewrite, self.attach))()


@pytest.mark.parametrize("seed", (1, 2))
def test_a_moment_is_right_or_refused(marked_small, seed):
    server, daemon = marked_small
    changes = Changes(server, seed)
    targets = "TABLE shop.wide, shop.parted"
    back_up(daemon, targets, onto="", options=", compression = 'none'")
    kept = TableMoments(server, "wide", "parted")
    for _ in range(3):
        for _ in range(4):
            for _ in range(changes.random.randint(1, 3)):
                changes.step()
            kept.take()
        if changes.random.random() < 0.3:
            server.kill9()
            server.start()
        assert back_up(daemon, targets, options=", compression = 'none'") == []
    assert len(windows(daemon)) == 1
    for marker in ("sibling", "stranger"):
        assert holding(daemon.collection("archive"), MARKERS[marker]) == []
    right = 0
    for moment, content in kept.taken:
        server.sql("CREATE DATABASE rescue")
        for table, rows in zip(kept.tables, content):
            try:
                daemon.sql(f"RESTORE TABLE shop.{table} FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment} WITH into_db = 'rescue'")
            except SqlError as error:
                assert error.sqlstate == "22023" and "had a file then" in error.message, error
                continue
            assert server.value(ROWS.format(table), "rescue") == rows, (moment, table)
            right += 1
        server.sql("DROP DATABASE rescue")
    assert right > len(kept.taken)
    assert leftovers(server, daemon) == []


def test_tables_beside_a_whole_database(marked_small):
    server, daemon = marked_small
    targets = "TABLE shop.mine, other.*"
    back_up(daemon, targets, onto="")
    kept = TableMoments(server, "mine")
    # Of the whole database every file is kept.
    server.sql("VACUUM FULL stranger", "other")
    change_marked_others(server)
    stranger = server.value(ROWS.format("stranger"), "other")
    kept.take()
    change_marked_others(server)
    assert back_up(daemon, targets) == []
    kept.check(daemon)
    server.sql("CREATE DATABASE rescue")
    daemon.sql(f"RESTORE TABLE other.stranger FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {kept.taken[0][0]} WITH into_db = 'rescue'")
    assert server.value(ROWS.format("stranger"), "rescue") == stranger
    assert daemon.sql(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {kept.taken[0][0]}").one()["status"] == SUCCEEDED
