"""Tables at moments far behind the backup: of the WAL between, of which most concerns others, recovery gets only what the tables need."""
import re

import pytest

from cluster.test_wal_archive import wait_archived
from harness.postgres import bin_directory
from .test_scoped_history import now, with_small_segments
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"
ROWS = "SELECT md5(string_agg(m::text, '|' ORDER BY id)), count(*) FROM mine m"
LEFT_OUT = re.compile(r"WAL of the objects is ready: records=(\d+) replaced=(\d+) bytes=(\d+)")

TABLES = """
CREATE TABLE mine (id bigint PRIMARY KEY, at point, t text);
CREATE INDEX mine_at ON mine USING gist (at);
ALTER TABLE mine ALTER t SET STORAGE EXTERNAL;
INSERT INTO mine SELECT g, point(g % 37, g % 41), repeat(md5(g::text), 4) FROM generate_series(1, 3000) g;
CREATE TABLE sibling (id bigint PRIMARY KEY, t text);
"""
# Subtransactions, some of them given up; and a value beside the table.
CHANGE = """
DO $$ BEGIN FOR i IN 1..90 LOOP BEGIN
    UPDATE mine SET t = md5(i || '{number}'), at = point(i, {number}) WHERE id = i * 7 + {number};
    IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
  EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$;
INSERT INTO mine SELECT {number}00000 + g, point(g, g), repeat('{number}', 3000) FROM generate_series(1, 60) g;
DELETE FROM mine WHERE id % 97 = {number} AND id < 1000;
"""


class Others:
    """Writes WAL that does not concern the table: in small transactions, and in records longer than a small segment."""

    def __init__(self, server, rows):
        self.server, self.rows, self.next = server, rows, 1

    def write(self):
        for database in ("shop", "other"):
            self.server.sql(f"INSERT INTO sibling SELECT g, repeat(md5(g::text), 8) FROM generate_series({self.next}, {self.next + self.rows}) g", database)
            self.server.sql("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 2500000))", database)
            self.server.sql(f"DO $$ BEGIN FOR i IN 1..200 LOOP UPDATE sibling SET t = 'u' || i WHERE id = {self.next} + i; COMMIT; END LOOP; END $$", database)
        self.next += self.rows + 1


def change(server, others, number):
    """Of transactions that are open meanwhile one is committed, one rolled back; a row is locked by several at once."""
    with server.connect("shop") as committed, server.connect("shop") as given_up, server.connect("shop") as locking:
        committed.query(f"BEGIN; UPDATE mine SET t = 'committed {number}' WHERE id BETWEEN 1000 AND 1100")
        given_up.query("BEGIN; UPDATE mine SET t = 'never' WHERE id BETWEEN 1200 AND 1300; DELETE FROM mine WHERE id BETWEEN 1400 AND 1500")
        locking.query(f"BEGIN; SELECT FROM mine WHERE id = {2000 + number} FOR KEY SHARE; INSERT INTO mine VALUES (-{number})")
        others.write()
        with server.connect("shop") as second:
            second.query(f"BEGIN; SELECT FROM mine WHERE id = {2000 + number} FOR SHARE; UPDATE mine SET t = 'second' WHERE id = {2100 + number}")
            others.write()
            second.query("COMMIT")
        locking.query("COMMIT")
        server.sql(CHANGE.format(number=number), "shop")
        if number % 2 == 0:
            server.sql("SELECT pg_switch_wal()")
            server.sql("CHECKPOINT")
        others.write()
        committed.query("COMMIT")
        given_up.query("ROLLBACK")
    if number == 2:
        server.sql("VACUUM mine", "shop")


def take_moments(server, daemon, others):
    """Quiet moments, and what was in the table then."""
    taken = []
    for number in range(1, 5):
        change(server, others, number)
        if number == 3:
            # Its last record may be lost on the way, and what follows begins on the next page.
            server.stop("immediate")
            server.start()
        taken.append((now(server), server.sql(ROWS, "shop").rows))
        # A later commit shows that the moment is covered.
        server.sql("SELECT txid_current()", "shop")
        others.write()
    server.sql("SELECT pg_switch_wal()")
    wait_archived(daemon, server)
    return taken


def prepare(server):
    for database in ("shop", "other"):
        server.sql(f"CREATE DATABASE {database}")
        server.sql(TABLES, database)


def restore(live, daemon, moment):
    live.sql("CREATE DATABASE rescue")
    daemon.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH into_db = 'rescue'")
    rows = live.sql(ROWS, "rescue").rows
    live.sql("DROP DATABASE rescue")
    return rows


def test_of_small_segments(lab):
    server = with_small_segments(lab.postgres(start=False))
    prepare(server)
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    begin = server.value("SELECT pg_current_wal_lsn()")
    taken = take_moments(server, daemon, Others(server, 1500))
    for moment, rows in taken:
        assert restore(server, daemon, moment) == rows, moment
    written = int(server.value(f"SELECT pg_current_wal_lsn() - '{begin}'"))
    # The last moment is behind nearly all of it.
    _, _, last = LEFT_OUT.findall(daemon.log_text())[-1]
    assert int(last) < written / 2, f"{last} bytes for recovery of {written}"
    # Everything at once: pages, links between them and indexes are looked at.
    assert daemon.sql(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{taken[-1][0]}'").one()["status"] == "succeeded"
    assert leftovers(server, daemon) == []


@pytest.mark.parametrize("version", (13, 18))
def test_of_other_versions(lab, version):
    source = lab.postgres("source", version=version, conf={"autovacuum": "off"})
    prepare(source)
    daemon = lab.holdfast(source, "old")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    taken = take_moments(source, daemon, Others(source, 12000))
    for moment, _ in taken[1::2]:
        assert daemon.sql(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}'").one()["status"] == "succeeded"
    if version > 15:
        return  # into an older server it does not go
    daemon.stop()
    live = lab.postgres("live")
    other = lab.holdfast(live, "new", start=False, arguments=["--pg-bin", str(bin_directory(version))])
    other.io = daemon.io
    other.start()
    for moment, rows in taken:
        assert restore(live, other, moment) == rows, moment
