"""BACKUP DATABASE and BACKUP TABLE beside a standby: their catalogs and their files must be of the same moment there, too."""
import subprocess
import threading

import pytest

from harness.postgres import bin_directory, wait_until
from harness.standby import make_standby, promote, wait_job_of_standby, wait_replayed
from .scope import MARKERS, change_marked, holding, make_marked
from .zoo import dump, make_zoo

COLLECTION = "nodelocal://self/archive"
NO_UNLOGGED = ("--exclude-table-data=unlogged_table",)
ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"


@pytest.fixture
def pair(lab):
    """A primary, its standby, and the daemon of each: the standby's takes backups, the primary's restores them."""
    primary = lab.postgres(name="primary", conf={"autovacuum": "off"})
    make_marked(primary)
    primary.sql("CREATE TABLE generations AS SELECT 0 AS n, g AS id FROM generate_series(1, 500) g; CREATE INDEX ON generations (n)", "shop")
    standby = make_standby(lab, primary)
    return primary, standby, lab.holdfast(standby), lab.holdfast(primary, name="restorer")


def back_up(daemon, primary, what, options=""):
    wait_job_of_standby(daemon, primary, daemon.detached(f"BACKUP {what} '{COLLECTION}' WITH detached{options}"))


def hand_over(daemon, restorer):
    restorer.collection("archive").mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", f"{daemon.collection('archive')}/.", restorer.collection("archive")], check=True)


def test_tables_in_full_and_incrementally(pair):
    primary, standby, daemon, restorer = pair
    slots = primary.sql("SELECT slot_name FROM pg_replication_slots").rows
    states = []
    for number in range(3):
        if number:
            change_marked(primary)
        wait_replayed(standby, primary)
        states.append(primary.value(ROWS.format("mine"), "shop"))
        back_up(daemon, primary, f"TABLE shop.mine INTO {'LATEST IN' if number else ''}", ", compression = 'none'")
    assert len(set(states)) == 3
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    root = daemon.collection("archive")
    assert holding(root, MARKERS["mine"])
    assert (holding(root, MARKERS["sibling"]), holding(root, MARKERS["stranger"])) == ([], [])
    # The primary has no work with it.
    assert primary.sql("SELECT slot_name FROM pg_replication_slots").rows == slots
    assert primary.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'") == "1"
    hand_over(daemon, restorer)
    ends = sorted({row["end_time"] for row in restorer.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'").dicts()})
    for number, end in enumerate(ends):
        restorer.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{end}' WITH new_table_name = 'then{number}'")
        assert primary.value(ROWS.format(f"then{number}"), "shop") == states[number]
    primary.amcheck()
    # After a promotion chains go on.
    primary.kill9()
    standby.sql("SELECT pg_promote()")
    wait_until(lambda: standby.value("SELECT pg_is_in_recovery()") == "f", 60, "the promotion")
    change_marked(standby)
    assert daemon.sql(f"BACKUP TABLE shop.mine INTO LATEST IN '{COLLECTION}'").one()["status"] == "succeeded"
    daemon.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' WITH new_table_name = 'again'")
    assert standby.value(ROWS.format("again"), "shop") == standby.value(ROWS.format("mine"), "shop")


@pytest.mark.parametrize("version", [13, 18])
def test_of_other_versions(lab, version):
    """Restored into a server of version 15, which takes older ones only."""
    primary = lab.postgres(name="primary", version=version, conf={"autovacuum": "off"})
    make_marked(primary)
    standby = make_standby(lab, primary)
    daemon = lab.holdfast(standby)
    for onto in ("", "LATEST IN"):
        wait_replayed(standby, primary)
        content = primary.value(ROWS.format("mine"), "shop")
        back_up(daemon, primary, f"TABLE shop.mine INTO {onto}")
        if not onto:
            change_marked(primary)
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    assert daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH check_files").dicts()[-1]["backup_type"] == "incremental"
    if version > 15:
        return
    daemon.stop()
    live = lab.postgres(name="live")
    live.sql("CREATE DATABASE rescue")
    restorer = lab.holdfast(live, "restorer", start=False, arguments=["--pg-bin", str(bin_directory(version))])
    restorer.io = daemon.io
    restorer.start()
    restorer.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert live.value(ROWS.format("mine"), "rescue") == content
    live.amcheck()


def test_a_database_in_full_and_incrementally(lab):
    primary = lab.postgres(name="primary")
    make_zoo(primary)
    standby = make_standby(lab, primary)
    daemon, restorer = lab.holdfast(standby), lab.holdfast(primary, name="restorer")
    back_up(daemon, primary, "DATABASE zoo INTO")
    primary.sql("CREATE TABLE later AS SELECT g AS id, md5(g::text) AS t FROM generate_series(1, 5000) g; DELETE FROM orders", "zoo")
    primary.sql("VACUUM FULL customers", "zoo")
    wait_replayed(standby, primary)
    before = dump(primary, "zoo", *NO_UNLOGGED)
    back_up(daemon, primary, "DATABASE zoo INTO LATEST IN")
    hand_over(daemon, restorer)
    restorer.sql(f"RESTORE DATABASE zoo FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'again'")
    assert dump(primary, "again", *NO_UNLOGGED) == before
    primary.amcheck()


def test_what_is_rewritten_meanwhile_comes_back_of_one_moment(pair):
    """Each transaction makes a new file of the table: one of them whole is in the backup, and its catalogs name that one."""
    primary, _, daemon, restorer = pair
    stop = threading.Event()
    done = []

    def write():
        with primary.connect("shop") as session:
            while not stop.is_set():
                generation = len(done) + 1
                session.query("BEGIN")
                session.query("TRUNCATE generations")
                session.query(f"INSERT INTO generations SELECT {generation}, g FROM generate_series(1, 500) g")
                session.query("COMMIT")
                done.append(generation)
                if generation % 4 == 0:
                    session.query("VACUUM FULL generations")
                stop.wait(1.5)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            back_up(daemon, primary, f"TABLE shop.generations INTO {'LATEST IN' if number else ''}")
    finally:
        stop.set()
        writer.join()
    hand_over(daemon, restorer)
    ends = sorted({row["end_time"] for row in restorer.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'").dicts()})
    held = []
    for number, end in enumerate(ends):
        restorer.sql(f"RESTORE TABLE shop.generations FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{end}' WITH new_table_name = 'held{number}'")
        ((generation, rows, ids),) = primary.sql(f"SELECT n, count(*), count(DISTINCT id) FROM held{number} GROUP BY n", "shop").rows
        assert (rows, ids) == ("500", "500")
        held.append(int(generation))
    assert held == sorted(held) and held[-1] <= len(done)
    primary.amcheck()


def test_replay_that_is_paused_is_waited_for(pair, lab):
    primary, standby, daemon, restorer = pair
    go = lab.root / "go"
    listed = lab.root / "listed"
    daemon.restart(pause_point=f"backup.after_copy=stall:{go},backup.after_control=stall:{listed}")
    job = daemon.detached(f"BACKUP TABLE shop.mine INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "reached pause point" in daemon.log_text(), 60, "the backup being held")
    standby.sql("SELECT pg_wal_replay_pause()")
    primary.sql("UPDATE mine SET t = 'late ' || id", "shop")
    position = primary.value("SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: standby.value(f"SELECT pg_last_wal_receive_lsn() >= '{position}'") == "t", 60, "the WAL's arrival")
    go.touch()
    wait_until(lambda: (daemon.job(job)["running_status"] or "").startswith("waiting for the standby to replay"), 60, "the backup waiting")
    # An index that is there when the backup ends, and neither when its catalogs are first looked at nor the second time.
    primary.sql("CREATE INDEX passing ON mine (t)", "shop")
    standby.sql("SELECT pg_wal_replay_resume()")
    wait_until(lambda: daemon.log_text().count("reached pause point") == 2, 60, "the backup being held again")
    primary.sql("DROP INDEX passing", "shop")
    wait_replayed(standby, primary)
    listed.touch()
    wait_job_of_standby(daemon, primary, job)
    assert "a table of the backup may have been redefined when the backup ended" in daemon.log_text()
    hand_over(daemon, restorer)
    restorer.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' WITH new_table_name = 'again'")
    assert primary.value(ROWS.format("again"), "shop") == primary.value(ROWS.format("mine"), "shop")


def test_wal_that_does_not_come_is_waited_for_and_a_promotion_is_not(pair, lab):
    primary, standby, daemon, restorer = pair

    def held(number):
        go = lab.root / f"go{number}"
        daemon.restart(pause_point=f"backup.after_copy=stall:{go}")
        job = daemon.detached(f"BACKUP TABLE shop.mine INTO '{COLLECTION}' WITH detached")
        wait_until(lambda: daemon.log_text().count("reached pause point") == number, 60, "the backup being held")
        return job, go

    def stream(setting):
        standby.sql(setting)
        standby.sql("SELECT pg_reload_conf()")

    def receivers(count):
        wait_until(lambda: standby.value("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'") == count, 60, "the receiver")
    receivers("1")
    job, go = held(1)
    stream("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'")
    receivers("0")
    go.touch()
    wait_until(lambda: (daemon.job(job)["running_status"] or "").startswith("waiting for the standby to receive WAL"), 60, "the backup waiting")
    stream(f"ALTER SYSTEM SET primary_conninfo = 'host={primary.sockets} port={primary.port} user=postgres'")
    wait_job_of_standby(daemon, primary, job)
    hand_over(daemon, restorer)
    restorer.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' WITH new_table_name = 'again'")
    assert primary.value(ROWS.format("again"), "shop") == primary.value(ROWS.format("mine"), "shop")
    receivers("1")
    job, go = held(2)
    promote(standby, primary)
    go.touch()
    assert "the standby was promoted during the backup" in daemon.wait_job(job, "failed", timeout=60)["error"]


def test_what_is_not_to_be_had_is_said(lab):
    kept = lab.directory("kept", 0o755)
    primary = lab.postgres(name="primary", conf={"archive_mode": "on", "archive_command": f"'cp %p {kept}/%f'"})
    make_marked(primary)
    standby = make_standby(lab, primary, streams=False, restore_command=f"'cp {kept}/%f %p 2>/dev/null'")
    daemon = lab.holdfast(standby)
    for what in ("DATABASE shop", "TABLE shop.mine"):
        error = daemon.error(f"BACKUP {what} INTO '{COLLECTION}' WITH revision_history")
        assert (error.sqlstate, error.message) == (
            "0A000", "BACKUP DATABASE and BACKUP TABLE with revision_history on a standby are not supported yet"), error
    job = daemon.detached(f"BACKUP TABLE shop.mine INTO '{COLLECTION}' WITH detached")
    error = daemon.wait_job(job, "failed")["error"]
    assert "the standby receives no WAL, so the moment of its catalogs is not known" in error, error
    assert daemon.fulls("archive") == [] and "planned " not in daemon.log_text()
    # A whole database is whatever its files are.
    back_up(daemon, primary, "DATABASE shop INTO")
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
