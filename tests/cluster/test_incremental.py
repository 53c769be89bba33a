"""Incremental layers: what changed is in them, and every layer of a chain can be restored."""
import json

import pytest

from harness import environment as env
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until
from harness.sample import make_sample

COLLECTION = "nodelocal://self/archive"


def full(daemon):
    assert daemon.sql(f"BACKUP INTO '{COLLECTION}'").one()["status"] == "succeeded"


def incremental(daemon):
    assert daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'").one()["status"] == "succeeded"


def layers(daemon):
    """The manifests of the newest chain, in order of time."""
    return [json.loads(row[0]) for row in daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH as_json").rows]


def stored(layer):
    return int(layer.get("stored_bytes", 0))


def start_restored(lab, source, directory):
    root = lab.directory(f"server-{directory.name}", 0o755)
    server = lab.adopt(Postgres(root, version=source.version, data=directory))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    return server


def restored_digest(lab, source, daemon, name, mapping="", moment=""):
    target = lab.root / name
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'{moment} WITH data_directory = '{target}'{mapping}")
    server = start_restored(lab, source, target)
    result = digest(server, skip_unlogged=True)
    server.amcheck()
    server.stop()
    return result


CHANGES = (
    # Blocks here and there, a table that grows.
    """UPDATE will_change SET v = v + 1 WHERE id % 1000 = 0; INSERT INTO will_grow SELECT generate_series(1, 30000)""",
    # Truncated at its end by VACUUM, and by TRUNCATE; dropped; created.
    """DELETE FROM will_shrink WHERE id > 2000; TRUNCATE will_be_truncated; DROP TABLE will_be_dropped;
       CREATE TABLE new_one AS SELECT generate_series(1, 5000) AS id; INSERT INTO will_be_truncated VALUES (7)""",
    # Grown again where it was cut off; files made anew.
    """INSERT INTO will_shrink SELECT g, repeat('again', 20) FROM generate_series(2001, 9000) g;
       CREATE INDEX ON new_one (id); TRUNCATE new_one""",
    # Nothing.
    "SELECT 1",
)
AFTER = {1: "VACUUM will_shrink", 2: "VACUUM FULL will_change"}


def make_tables(source):
    source.sql("""CREATE TABLE will_change (id int PRIMARY KEY, v int, filler text);
        INSERT INTO will_change SELECT g, g, repeat('x', 200) FROM generate_series(1, 40000) g;
        CREATE TABLE will_grow (id int); INSERT INTO will_grow SELECT generate_series(1, 1000);
        CREATE TABLE will_shrink (id int, t text);
        INSERT INTO will_shrink SELECT g, repeat('y', 100) FROM generate_series(1, 20000) g;
        CREATE TABLE will_be_truncated AS SELECT generate_series(1, 20000) AS id;
        CREATE TABLE will_be_dropped AS SELECT generate_series(1, 20000) AS id""", "bank")


@pytest.mark.versions
@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "plain"])
@pytest.mark.parametrize("version", [15, 17])
def test_every_layer_of_a_chain_restores(lab, version, checksums):
    source = lab.postgres(version=version, checksums=checksums)
    make_bank(source)
    make_tables(source)
    space = lab.directory("space")
    source.sql(f"CREATE TABLESPACE fast LOCATION '{space}'")
    daemon = lab.holdfast(source)
    at_first = digest(source, skip_unlogged=True)
    full(daemon)
    for number, change in enumerate(CHANGES):
        source.sql(change, "bank")
        if number in AFTER:
            source.sql(AFTER[number], "bank")
        if number == 1:
            source.sql("CREATE DATABASE copied TEMPLATE bank")
        if number == 2:
            source.sql("ALTER TABLE new_one SET TABLESPACE fast", "bank")
        before = digest(source, skip_unlogged=True)
        incremental(daemon)
        mapping = f", tablespace_mapping = '{space}={lab.root / f'space{number}'}'"
        assert_same(before, restored_digest(lab, source, daemon, f"target{number}", mapping))

    chain = layers(daemon)
    assert [layer["type"] for layer in chain] == ["BACKUP_TYPE_FULL"] + 4 * ["BACKUP_TYPE_INCREMENTAL"]
    assert {layer["change_source"] for layer in chain[1:]} == {"CHANGE_SOURCE_WAL"}
    ends = daemon.sql(f"SELECT DISTINCT end_time FROM [SHOW BACKUP FROM LATEST IN '{COLLECTION}'] ORDER BY 1").rows
    mapping = f", tablespace_mapping = '{space}={lab.root / 'space first'}'"
    first = restored_digest(lab, source, daemon, "first", mapping, f" AS OF SYSTEM TIME '{ends[0][0]}'")
    assert_same(at_first, first)

    # Nothing changed: what is stored is the control file, and what a checkpoint writes.
    assert stored(chain[4]) < 100_000 < stored(chain[0])
    # 40 rows of 40000, in as many blocks, and their indexes: not the tables.
    assert stored(chain[1]) < stored(chain[0]) / 4
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH check_files")
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]


def test_without_wal_pages_are_compared(lab):
    source = lab.postgres(conf={"max_wal_size": "32MB", "min_wal_size": "32MB"})
    make_bank(source)
    make_tables(source)
    daemon = lab.holdfast(source)
    full(daemon)
    for change in CHANGES[:3]:
        source.sql(change, "bank")
        source.sql("VACUUM will_shrink", "bank")
        # Push what was written out of pg_wal, and nothing archives it.
        for _ in range(4):
            source.sql("SELECT pg_switch_wal(); CHECKPOINT")
        for segment in sorted((source.data / "pg_wal").glob("0*"))[:-1]:
            segment.unlink()
        before = digest(source)
        incremental(daemon)
        assert layers(daemon)[-1]["change_source"] == "CHANGE_SOURCE_PAGE_LSN"
        assert_same(before, restored_digest(lab, source, daemon, f"target{len(layers(daemon))}"))


def test_pages_that_vacuum_marked_are_in_a_layer_without_wal(lab):
    """Without checksums the mark that all rows are visible leaves the page's LSN, but the visibility map has it, too."""
    source = lab.postgres(checksums=False, conf={"autovacuum": "off", "wal_log_hints": "off"})
    source.sql("CREATE TABLE marked (id int PRIMARY KEY, v text); INSERT INTO marked SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i")
    source.sql("CHECKPOINT")
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH protect = false")
    source.sql("VACUUM marked")
    for _ in range(3):
        source.sql("SELECT pg_switch_wal(); CHECKPOINT")
    for segment in sorted((source.data / "pg_wal").glob("0*"))[:-1]:
        segment.unlink()
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH protect = false")
    assert layers(daemon)[-1]["change_source"] == "CHANGE_SOURCE_PAGE_LSN"

    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    server = start_restored(lab, source, target)
    server.sql("DELETE FROM marked WHERE id % 3 = 0")
    without_the_map = server.value("SET enable_indexonlyscan = off; SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM marked")
    by_the_map = server.value("SET enable_seqscan = off; SET enable_bitmapscan = off; SELECT count(id) FROM marked WHERE id > 0")
    assert (without_the_map, by_the_map) == ("13334", "13334")
    server.sql("CREATE EXTENSION pg_visibility")
    assert server.sql("SELECT * FROM pg_check_visible('marked')").rows == []


def test_follows_the_history_of_the_server_and_nothing_else(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    # No full yet: one is taken.
    incremental(daemon)
    incremental(daemon)
    assert [layer["type"] for layer in layers(daemon)] == ["BACKUP_TYPE_FULL", "BACKUP_TYPE_INCREMENTAL"]
    full_path = daemon.fulls("archive")[0]
    source.sql("CREATE TABLE later AS SELECT generate_series(1, 10000) AS id", "bank")
    incremental(daemon)

    # A restore begins a timeline that the chain lies on.
    source.destroy()
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    assert source.value("SELECT count(*) FROM later", "bank") == "10000"
    source.sql("DELETE FROM later WHERE id % 2 = 0", "bank")
    assert daemon.sql(f"BACKUP INTO '{full_path}' IN '{COLLECTION}'").one()["status"] == "succeeded"
    before = digest(source)
    assert_same(before, restored_digest(lab, source, daemon, "second"))
    assert layers(daemon)[-1]["start"]["timeline"] > layers(daemon)[-1]["base"]["start"]["timeline"]

    # Put back to a state before the last layer.
    source.stop()
    old = lab.root / "old"
    env.run("cp", "-a", source.data, old)
    source.start()
    source.sql("UPDATE later SET id = id + 1", "bank")
    incremental(daemon)
    source.stop()
    source.destroy()
    env.run("cp", "-a", old, source.data)
    source.start()
    refused = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    assert refused.sqlstate == "55000" and "behind the previous backup" in refused.message

    # A new chain; and checksums switched off behind its back.
    full(daemon)
    incremental(daemon)
    source.stop()
    env.run(source.bin / "pg_checksums", "--disable", "-D", source.data)
    source.start()
    refused = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    assert refused.sqlstate == "55000" and "checksums" in refused.message
    assert "BACKUP INTO" in refused.hint
    # Nothing is left of what was refused.
    assert len(layers(daemon)) == 2


@pytest.mark.long
def test_a_standby_that_is_behind_is_waited_for(lab):
    """Pages of a standby may be older than the base that was taken on the primary: its layer must not end before it."""
    source = lab.postgres(conf={"max_replication_slots": "4", "autovacuum": "off"})
    make_bank(source)
    standby_data = lab.root / "standby-data"
    env.run(source.bin / "pg_basebackup", "-h", source.sockets, "-p", source.port, "-U", "postgres", "-D", standby_data,
            "-R", "-c", "fast", "-X", "stream", "-C", "-S", "standby")
    standby = lab.adopt(Postgres(lab.directory("standby", 0o755), data=standby_data))
    standby.configure({"port": standby.port, "unix_socket_directories": f"'{standby.sockets}'"})
    standby.start()
    primary_daemon = lab.holdfast(source)
    standby_daemon = lab.holdfast(standby, name="hf2", start=False)
    standby_daemon.io = primary_daemon.io
    standby_daemon.start()

    # Slow, so that the standby can come past its start, but not to its end.
    base = primary_daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached, max_rate = '4MB'")
    wait_until(lambda: "copying" in (primary_daemon.job(base)["running_status"] or ""), 60, "the full copying")
    source.sql("CHECKPOINT")
    position = source.value("SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t", 60, "replay")
    standby.sql("CHECKPOINT")
    standby.sql("SELECT pg_wal_replay_pause()")
    wait_until(lambda: standby.value("SELECT pg_get_wal_replay_pause_state()") == "paused", 60, "the pause")
    source.sql("CREATE TABLE late AS SELECT generate_series(1, 1000) AS id")
    primary_daemon.wait_job(base, "succeeded")

    job = standby_daemon.detached(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH detached")
    wait_until(lambda: "replay" in (standby_daemon.job(job)["running_status"] or ""), 120, "the wait for the standby")
    # What the standby has then ends with a segment, and there must still be a record for recovery to stop at.
    source.sql("SELECT pg_switch_wal()")
    standby.sql("SELECT pg_wal_replay_resume()")

    def finished():
        source.sql("SELECT pg_switch_wal()")
        source.sql("CREATE TABLE IF NOT EXISTS more (id int); INSERT INTO more VALUES (1)")
        return standby_daemon.job(job)["status"] == "succeeded"
    wait_until(finished, 120, "the incremental")

    target = lab.root / "of-standby"
    primary_daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    server = start_restored(lab, source, target)
    assert server.value("SELECT count(*) FROM late") == "1000"
    server.amcheck()


def copy_data(server, source, target):
    """Of a stopped server: a snapshot of its disk, taken or put back."""
    env.run("sh", "-c", f"rm -rf {target} && cp -a {source} {target}")


def test_a_server_that_was_set_back_is_refused(lab):
    """PGDATA comes back from a snapshot that is older than the full, on the same timeline, and writes past the full's end."""
    server = lab.postgres(conf={"wal_keep_size": "512MB"})
    server.sql("CREATE TABLE t (id int, v text); INSERT INTO t SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g")
    daemon = lab.holdfast(server)
    server.stop()
    snapshot = lab.root / "snapshot"
    copy_data(server, server.data, snapshot)
    server.start()
    server.sql("UPDATE t SET v = 'of the history that is left' WHERE id % 3 = 0")
    full(daemon)
    daemon.stop()
    server.stop()
    copy_data(server, snapshot, server.data)
    server.start()
    for _ in range(3):
        server.sql("UPDATE t SET v = 'of the other one' WHERE id % 7 = 0; SELECT pg_switch_wal()")
        server.sql("CHECKPOINT; SELECT pg_switch_wal()")
    daemon.start()
    error = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    assert error.sqlstate == "55000" and "has another history than the previous backup" in error.message, error.message
    assert "BACKUP INTO" in error.hint
    assert len(layers(daemon)) == 1
