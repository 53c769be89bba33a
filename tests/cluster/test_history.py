"""Revision history: RESTORE … AS OF SYSTEM TIME t has exactly the commits up to t."""
import random
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

from harness.postgres import Postgres, wait_until
from .test_wal_archive import flushed, wait_archived

COLLECTION = "nodelocal://self/archive"
ACCOUNTS = 200
ROWS_OF_LEDGER = "SELECT id, pg_xact_commit_timestamp(xmin) FROM ledger ORDER BY 2, 1"


def make_ledger(lab, **more):
    source = lab.postgres(conf={"track_commit_timestamp": "on", "min_wal_size": "80MB", "max_wal_size": "160MB"}, **more)
    source.sql("CREATE DATABASE bank")
    source.sql(f"""CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL);
        INSERT INTO account SELECT g, 1000 FROM generate_series(1, {ACCOUNTS}) g;
        CREATE TABLE ledger (id bigserial, source int, target int, amount int);
        CREATE TABLE noise (t text)""", "bank")
    return source


def transfer(source, seed, transfers):
    """Moves money; each transaction leaves one row in the ledger."""
    rng = random.Random(seed)
    with source.connect("bank") as session:
        for _ in range(transfers):
            a, b = sorted(rng.sample(range(1, ACCOUNTS + 1), 2))
            amount = rng.randint(-50, 50)
            session.send(f"""BEGIN; UPDATE account SET balance = balance - {amount} WHERE id = {a};
                UPDATE account SET balance = balance + {amount} WHERE id = {b};
                INSERT INTO ledger (source, target, amount) VALUES ({a}, {b}, {amount});
                INSERT INTO noise SELECT repeat(md5(random()::text), {rng.randint(1, 400)}); COMMIT""")
            session.receive()
            time.sleep(rng.random() / 500)  # there must be moments with no commit near


def work(source, seed, clients=3, transfers=60):
    threads = [threading.Thread(target=transfer, args=(source, f"{seed}-{i}", transfers)) for i in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def time_of(text):
    return datetime.fromisoformat(text + ":00" if text[-3] in "+-" else text)


def ledger(server):
    """Ids and commit times, in the order of the latter."""
    return [(int(i), time_of(t)) for i, t in server.sql(ROWS_OF_LEDGER, "bank").rows]


def moments(entries, rng, count):
    """Commit times, and moments between them, wherever no other commit is so close that the order in the WAL is not sure."""
    clear = [i for i in range(1, len(entries) - 1)
             if min(entries[i][1] - entries[i - 1][1], entries[i + 1][1] - entries[i][1]) > timedelta(microseconds=300)]
    for i in rng.sample(clear, count):
        yield entries[i][1]
        yield entries[i][1] + (entries[i + 1][1] - entries[i][1]) / 2


def spelled(moment):
    return f"'{moment.astimezone(timezone.utc).isoformat(sep=' ')}'"


def lay_out(lab, daemon, source, moment, name, collection=COLLECTION, subdirectory="LATEST"):
    target = lab.root / name
    daemon.sql(f"RESTORE FROM {subdirectory} IN '{collection}' AS OF SYSTEM TIME {moment} WITH data_directory = '{target}'")
    server = lab.adopt(Postgres(lab.directory(f"server-{name}", 0o755), version=source.version, data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    return server


def assert_holds(server, entries):
    assert {i for i, _ in ledger(server)} == {i for i, _ in entries}
    assert server.value("SELECT sum(balance) FROM account", "bank") == str(ACCOUNTS * 1000)
    rows = server.sql("""SELECT a.id FROM account a LEFT JOIN (SELECT id, sum(amount) AS moved FROM
        (SELECT source AS id, -amount AS amount FROM ledger UNION ALL SELECT target, amount FROM ledger) x GROUP BY id) m USING (id)
        WHERE a.balance <> 1000 + coalesce(moved, 0)""", "bank").rows
    assert rows == []
    server.amcheck()


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 15, 18])
def test_as_of_holds_exactly_the_commits_up_to_then(lab, version):
    source = make_ledger(lab, version=version)
    daemon = lab.holdfast(source)
    before = datetime.now(timezone.utc)
    work(source, "before", transfers=20)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    assert daemon.sql("SHOW WAL ARCHIVES").one()["mode"] == "full"
    work(source, "first")
    source.sql("SELECT pg_create_restore_point('halfway')")
    at_point = ledger(source)
    work(source, "second")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    work(source, "third")
    source.kill9()
    source.start()
    at_lsn, lsn = ledger(source), source.value("SELECT pg_current_wal_lsn()")
    work(source, "fourth")
    daemon.kill9()
    daemon.start()
    work(source, "fifth", transfers=30)
    entries = ledger(source)
    wait_archived(daemon, source)
    source.stop()

    windows = daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}'").dicts()
    assert len(windows) == 1 and windows[0]["timeline"] == "1", windows
    start = time_of(windows[0]["start_time"])
    assert entries[0][1] < start < entries[-1][1] <= time_of(windows[0]["end_time"])
    covered = [entry for entry in entries if entry[1] > start]
    rng = random.Random(f"{version}")
    for number, moment in enumerate(moments(covered, rng, 2)):
        server = lay_out(lab, daemon, source, spelled(moment), f"moment{number}")
        assert_holds(server, [entry for entry in entries if entry[1] <= moment])
        server.stop()
    server = lay_out(lab, daemon, source, f"LSN '{lsn}'", "lsn")
    assert_holds(server, at_lsn)
    server.stop()
    server = lay_out(lab, daemon, source, "RESTORE POINT 'halfway'", "point")
    assert_holds(server, at_point)
    server.stop()

    # What is not covered is refused before anything is touched, with what is.
    target = lab.root / "refused"
    for moment in (before, entries[-1][1] + timedelta(days=1)):
        error = daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH data_directory = '{target}'")
        assert error.sqlstate == "22023" and "do not cover requested time" in error.message
        assert windows[0]["start_time"][:19] in error.detail
    for wrong in ("LSN 'FF/0'", "LSN '0/10'", "RESTORE POINT 'nowhere'", "LSN 'x'"):
        assert daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {wrong} WITH data_directory = '{target}'").sqlstate in ("22023", "42704")
    assert not target.exists()


def test_restore_in_place_and_back_to_the_old_future(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1)
    chosen = ledger(source)[-1]
    source.sql("SELECT pg_sleep(0.01)")
    work(source, "lost", clients=1)
    old = ledger(source)
    wait_archived(daemon, source)
    source.sql("DROP DATABASE bank WITH (FORCE)")
    wait_archived(daemon, source)

    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(chosen[1])}")
    wait_until(source.ready, 60, "the restored server answering")
    assert_holds(source, [entry for entry in old if entry[1] <= chosen[1]])
    work(source, "new", clients=1)
    new = ledger(source)
    wait_archived(daemon, source, flushed(source))
    windows = daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}'").dicts()
    assert [w["timeline"] for w in windows] == ["1", "2"]

    # The old future, though the server went on without it; then the new one.
    middle = old[len(old) - 20]
    server = lay_out(lab, daemon, source, spelled(middle[1]), "old")
    assert_holds(server, [entry for entry in old if entry[1] <= middle[1]])
    server.stop()
    middle = new[-10]
    server = lay_out(lab, daemon, source, spelled(middle[1]), "new")
    assert_holds(server, [entry for entry in new if entry[1] <= middle[1]])
    server.stop()
    # An incremental layer goes on from the restored history.
    assert daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history").one()["status"] == "succeeded"
    work(source, "newer", clients=1)
    newer = ledger(source)
    wait_archived(daemon, source)
    server = lay_out(lab, daemon, source, spelled(newer[-5][1]), "newer")
    assert_holds(server, [entry for entry in newer if entry[1] <= newer[-5][1]])
    server.stop()


@pytest.mark.long
def test_an_idle_server_can_be_restored_to_a_moment_without_commits(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "only", clients=1, transfers=5)
    entries = ledger(source)
    source.sql("SELECT pg_sleep(2.5)")
    moment = datetime.now(timezone.utc) - timedelta(seconds=1)
    last = time_of(daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}'").dicts()[-1]["end_time"])
    wait_until(lambda: time_of(daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}'").dicts()[-1]["end_time"]) > moment, 90,
               f"the archive saying that nothing was committed after {last}")
    server = lay_out(lab, daemon, source, spelled(moment), "idle")
    assert_holds(server, entries)
    server.stop()


def test_a_dropped_table_comes_back_alone_as_it_was(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=2)
    source.sql("CREATE TABLE later AS SELECT generate_series(1, 1000) AS id", "bank")
    source.sql("VACUUM FULL ledger", "bank")
    work(source, "second", clients=1)
    before = {table: source.sql(f"SELECT * FROM {table} ORDER BY 1", "bank").rows for table in ("ledger", "account")}
    moment = source.value("SELECT now()")
    source.sql("SELECT pg_sleep(0.01)")
    source.sql("UPDATE account SET balance = 0; DROP TABLE ledger", "bank")
    source.sql("CREATE DATABASE rescue")
    wait_archived(daemon, source)
    daemon.sql(f"RESTORE TABLE bank.public.ledger, bank.public.account, bank.public.later FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH into_db = 'rescue'")
    for table, rows in before.items():
        assert source.sql(f"SELECT * FROM {table} ORDER BY 1", "rescue").rows == rows
    assert source.value("SELECT count(*) FROM later", "rescue") == "1000"
    error = daemon.error(f"RESTORE TABLE bank.public.never FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH into_db = 'rescue'")
    assert error.sqlstate == "42P01" and "never" in error.message
    daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH new_db_name = 'bank_then'")
    for table, rows in before.items():
        assert source.sql(f"SELECT * FROM {table} ORDER BY 1", "bank_then").rows == rows
    assert source.value("SELECT count(*) FROM later", "bank_then") == "1000"
    source.amcheck()


def test_a_database_that_was_dropped_comes_back_as_of_right_before(lab):
    """PostgreSQL removes a database's files, and says that it is invalid, before it commits that."""
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=30)
    entries = ledger(source)
    source.sql("DROP DATABASE bank WITH (FORCE)")
    dropped = source.value("SELECT clock_timestamp()")
    source.sql("CREATE TABLE later ()")
    wait_archived(daemon, source)
    server = lay_out(lab, daemon, source, spelled(entries[-1][1]), "before")
    assert_holds(server, entries)
    server.stop()
    server = lay_out(lab, daemon, source, f"'{dropped}'", "behind")
    assert "bank" not in server.databases()
    server.stop()
    daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(entries[-1][1])}")
    assert source.value("SELECT count(*) FROM ledger", "bank") == str(len(entries))
