"""What PostgreSQL keeps for the next layer of databases with revision history, how much of it, and what is said when it is gone."""
import shutil

from cluster.test_wal_archive import wait_archived
from harness.postgres import wait_until
from .scope import change_marked, make_marked, with_small_segments
from .test_scoped_history import Moments, back_up, churn, now, windows
from .test_scoped_rights import write_wal

COLLECTION = "nodelocal://self/archive"


def test_wal_is_kept_until_the_next_layer(marked_small):
    server, daemon = marked_small
    kept = Moments(server)
    back_up(daemon, onto="")
    for _ in range(2):
        change_marked(server)
        kept.take()
        churn(server)
        kept.take()
        wait_archived(daemon, server)
        assert int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) > 20_000_000
        daemon.restart()
        assert back_up(daemon) == []
        wait_until(lambda: int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) < 8_000_000, 90, "the slot moving on")
    assert len(windows(daemon)) == 1
    kept.check(daemon)
    # A new chain of the same takes over what is kept, and one that is deleted lets go of it.
    churn(server)
    back_up(daemon, onto="")
    wait_until(lambda: int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) < 8_000_000, 90, "the slot moving on")
    kept.check(daemon, f"'{daemon.fulls('archive')[0]}'")


def test_each_chain_has_its_own(marked_small):
    server, daemon = marked_small
    chains = {}
    for name in ("shop", "other"):
        chains[name] = Moments(server, name)
        back_up(daemon, f"DATABASE {name}", onto="")
    fulls = dict(zip(chains, daemon.fulls("archive")))
    change_marked(server)
    for kept in chains.values():
        kept.take()
    churn(server)
    for name, full in fulls.items():
        assert back_up(daemon, f"DATABASE {name}", onto=f"'{full}' IN ") == []
        churn(server)
    for name, kept in chains.items():
        kept.check(daemon, f"'{fulls[name]}'")
    # What is gone keeps nothing.
    wait_archived(daemon, server)
    assert int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) > 20_000_000
    for full in fulls.values():
        for directory in (full, f"incrementals/{full}"):
            shutil.rmtree(daemon.collection("archive") / directory)
    daemon.restart()
    wait_until(lambda: int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"] or 1 << 30) < 8_000_000, 90, "the slot moving on")


def test_tables_of_databases_of_one_template_are_not_the_same(marked_small):
    server, daemon = marked_small
    server.sql("CREATE DATABASE twin TEMPLATE shop")
    for database in ("shop", "twin"):
        back_up(daemon, f"TABLE {database}.mine", onto="")
    fulls = daemon.fulls("archive")
    churn(server)
    for database, full in zip(("shop", "twin"), fulls):
        assert back_up(daemon, f"TABLE {database}.mine", onto=f"'{full}' IN ") == []


def test_a_late_layer_of_the_chain_before_does_not_let_go(marked_small):
    server, daemon = marked_small
    back_up(daemon, onto="")
    (before,) = daemon.fulls("archive")
    back_up(daemon, onto="")
    back_up(daemon, onto=f"'{before}' IN ")
    kept = Moments(server)
    kept.take()
    churn(server)
    assert back_up(daemon) == []
    kept.check(daemon)


def test_beyond_the_limit_there_is_a_gap(lab):
    server = with_small_segments(lab.postgres(start=False))
    make_marked(server)
    daemon = lab.holdfast(server, arguments=["--wal-keep-limit", "12MB"])
    back_up(daemon, onto="")
    first_end = windows(daemon)[0][1]
    kept = Moments(server)
    slot = daemon.sql("SHOW WAL ARCHIVES").one()["slot"]
    position = f"SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'"
    held = server.value(position)
    lost = now(server)
    churn(server)
    wait_until(lambda: server.value(f"SELECT ({position}) > '{held}'::pg_lsn + 12000000") == "t", 60, "the slot moving on")
    server.sql("CHECKPOINT")
    # The archive itself goes on.
    assert daemon.sql("SHOW WAL ARCHIVES").one()["status"] == "running"
    notices = back_up(daemon)
    assert len(notices) == 1 and "cannot be restored: PostgreSQL no longer has WAL segment" in notices[0], notices
    change_marked(server)
    kept.take()
    assert back_up(daemon) == []
    found = windows(daemon)
    assert len(found) == 2 and found[0] == (first_end, first_end) and found[1][0] < found[1][1], found
    error = daemon.error(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{lost}' WITH new_db_name = 'never'")
    assert error.sqlstate == "22023" and "do not cover requested time" in error.message and ";" in error.detail
    kept.check(daemon)
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    # One attempt's WAL in each layer: what was put before the gap showed is gone.
    own = {path.split("/wal/")[0]: set() for path in daemon.files("archive") if "/wal/" in path}
    for path in daemon.files("archive"):
        if "/wal/" in path:
            own[path.split("/wal/")[0]].add(path.split("/wal/")[1].split("/")[0])
    assert [len(attempts) for attempts in own.values()] == [1, 1, 1], own


def test_a_slot_that_may_keep_little(lab):
    server = lab.postgres(start=False, conf={"max_slot_wal_keep_size": "'12MB'"})
    with_small_segments(server)
    make_marked(server)
    daemon = lab.holdfast(server)
    kept = Moments(server)
    back_up(daemon, onto="")
    for _ in range(12):
        write_wal(server, 2)
        wait_archived(daemon, server)
    wait_until(lambda: int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) < 8_000_000, 90, "the slot moving on")
    server.sql("CHECKPOINT")
    notices = back_up(daemon)
    assert any("cannot be restored: PostgreSQL no longer has WAL segment" in notice for notice in notices), notices
    assert daemon.sql("SHOW WAL ARCHIVES").one()["status"] == "running"
    change_marked(server)
    kept.take()
    assert back_up(daemon) == []
    kept.check(daemon)


def test_after_the_archive_was_dropped(marked_small):
    server, daemon = marked_small
    kept = Moments(server)
    back_up(daemon, onto="")
    change_marked(server)
    daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
    churn(server)
    notices = back_up(daemon)
    assert any("reading every page" in notice for notice in notices), notices
    assert any("cannot be restored: PostgreSQL no longer has WAL segment" in notice for notice in notices), notices
    change_marked(server)
    kept.take()
    churn(server)
    assert back_up(daemon) == []
    found = windows(daemon)
    assert len(found) == 2 and found[1][0] < found[1][1], found
    kept.check(daemon)
