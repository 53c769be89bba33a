"""Restores of single objects that are killed, cancelled, hindered: finished in the end, or as if they had never been."""
import re
import time

import pytest

from harness import environment as env
from harness.postgres import wait_until
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"
TABLE = f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', detached"
DATABASE = f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'bank2', detached"

POINTS = ("restore.objects_after_checks", "restore.objects_after_catalogs", "restore.objects_after_recovery",
          "restore.objects_after_definitions", "restore.objects_copy", "restore.objects_after_copy",
          "restore.objects_before_final", "restore.objects_after_final")
# Those of large tables, of tables of several databases, and of roles, are in the tests of these.
MORE_POINTS = ("restore.objects_early_index", "restore.objects_between_commits", "restore.users_before_commit")


def test_these_are_all_points():
    names = set()
    for path in (env.ROOT / "src/restore").glob("*.cc"):
        names |= {name for name in re.findall(r'pause_point\(\s*"([a-z_.]+)"', path.read_text())
                  if name.startswith(("restore.objects", "restore.users"))}
    assert names == {*POINTS, *MORE_POINTS}


@pytest.fixture
def bank(lab):
    """A bank whose money never grows or shrinks, and that is backed up while it works."""
    server = lab.postgres(conf={"max_prepared_transactions": 5})
    server.sql("CREATE DATABASE bank")
    server.sql("""CREATE TABLE accounts (id int PRIMARY KEY, balance bigint, filler text DEFAULT repeat('x', 80));
        CREATE TABLE history (id bigserial PRIMARY KEY, what text);
        CREATE TABLE renamed_away (id int); CREATE TABLE rewritten AS SELECT i AS id FROM generate_series(1, 1000) i;
        INSERT INTO accounts SELECT i, 1000 FROM generate_series(1, 5000) i""", "bank")
    server.sql("CREATE DATABASE rescue")
    daemon = lab.holdfast(server)
    return server, daemon


def total(server, database):
    return server.sql("SELECT count(*), sum(balance) FROM accounts", database).rows


def clean(server, daemon):
    """No object, workshop or process of a restore is left."""
    wait_until(lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast restore%'") == "0",
               20, "the end of all sessions")
    return leftovers(server, daemon)


@pytest.mark.long
def test_killed_anywhere_it_goes_on(bank):
    server, daemon = bank
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    for point in POINTS:
        for statement, remove, database in ((TABLE, "DROP TABLE accounts", "rescue"), (DATABASE, "DROP DATABASE bank2", "bank2")):
            if statement == DATABASE and point not in ("restore.objects_copy", "restore.objects_before_final",
                                                       "restore.objects_after_final"):
                continue
            daemon.restart(f"{point}=kill")
            try:
                job = daemon.detached(statement)
            except ConnectionError:
                job = None
            daemon.wait_killed()
            daemon.pause_point = None
            daemon.start()
            job = job or daemon.jobs()[0]["job_id"]
            daemon.wait_job(int(job))
            assert total(server, database) == [["5000", "5000000"]], point
            assert clean(server, daemon) == [], point
            server.sql(remove, "rescue")


def test_cancel_collision_and_a_killed_server(bank, lab):
    server, daemon = bank
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    for statement in (TABLE, DATABASE):
        daemon.restart("restore.objects_after_copy=stall")
        job = daemon.detached(statement)
        wait_until(lambda: leftovers(server, daemon), 60, "something to remove")
        daemon.sql(f"CANCEL JOB {job}")
        daemon.wait_job(job, "canceled")
        assert clean(server, daemon) == []
    # A name that is taken while the job is at work.
    go = lab.root / "go"
    daemon.restart(f"restore.objects_before_final=stall:{go}@*")
    for statement, take, message in (
            (TABLE, "CREATE TABLE accounts (mine int)", 'relation "accounts" already exists'),
            (DATABASE, "CREATE DATABASE bank2", 'database "bank2" already exists')):
        if go.exists():
            go.unlink()
        job = daemon.detached(statement)
        wait_until(lambda: any("holdfast_restore" in name for name in leftovers(server, daemon)), 60, "the job at work")
        server.sql(take, "rescue")
        go.touch()
        row = daemon.wait_job(job, "failed")
        assert message in row["error"], row
        assert clean(server, daemon) == []
    assert server.sql("SELECT count(*) FROM information_schema.columns WHERE column_name = 'mine'", "rescue").rows == [["1"]]
    server.sql("DROP TABLE accounts; ", "rescue")
    # PostgreSQL is killed, and comes back.
    daemon.restart("restore.objects_after_definitions=stall")
    job = daemon.detached(TABLE)
    wait_until(lambda: "accounts" in str(server.sql("SELECT relname FROM pg_class WHERE relname = 'accounts'", "rescue").rows),
               60, "the table's definition")
    server.kill9()
    server.start()
    daemon.restart()
    daemon.wait_job(job)
    assert total(server, "rescue") == [["5000", "5000000"]]
    assert clean(server, daemon) == []


def test_backup_of_a_busy_server_gives_one_moment(bank, lab):
    """Everything that rewrites, drops and renames while the backup runs; the table's money must be all there."""
    server, daemon = bank
    go = lab.root / "go"
    daemon.restart(f"backup.after_plan=stall:{go}")
    server.sql("CREATE DATABASE noise")
    server.sql("CREATE TABLE n AS SELECT i, md5(i::text) AS t FROM generate_series(1, 2000) i; CREATE INDEX ON n (t)", "noise")
    # Open across the start of the backup: its file is in no catalog then.
    with server.connect("bank") as open_one, server.connect("bank") as prepared:
        open_one.query("BEGIN; TRUNCATE rewritten; INSERT INTO rewritten VALUES (7)")
        job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
        wait_until(lambda: "started" in str(daemon.job(job)) or daemon.job(job)["status"] == "running", 60, "the backup")
        time.sleep(1)
        open_one.query("COMMIT")
        prepared.query("BEGIN; UPDATE accounts SET balance = 0; PREPARE TRANSACTION 'open at the end'")
        server.sql("UPDATE n SET t = t || 'x'", "noise")
        server.sql("VACUUM FULL n", "noise")
        for i in range(1, 200):
            server.sql(f"INSERT INTO history (what) VALUES ('{i}')", "bank")
        server.sql("VACUUM FULL pg_attribute", "bank")
        server.sql("VACUUM FULL pg_class", "bank")
        server.sql("ALTER TABLE rewritten RENAME TO older; ALTER TABLE renamed_away RENAME TO rewritten;"
                   "INSERT INTO rewritten SELECT 42", "bank")
        go.touch()
        daemon.wait_job(job)
    daemon.restart()
    row = daemon.sql(f"RESTORE TABLE bank.public.*, bank.public.history FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'").one()
    assert row["status"] == "succeeded"
    assert total(server, "rescue") == [["5000", "5000000"]]
    assert server.sql("SELECT id FROM rewritten", "rescue").rows == [["42"]]
    assert server.sql("SELECT id FROM older", "rescue").rows == [["7"]]
    assert server.value("SELECT count(*) FROM history", "rescue") == "199"
    row = daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'bank2'").one()
    assert total(server, "bank2") == [["5000", "5000000"]]
    server.sql("ROLLBACK PREPARED 'open at the end'", "bank")
    # An incremental on it: each block from the newest layer that has it.
    server.sql("UPDATE accounts SET balance = balance + CASE id % 2 WHEN 0 THEN 5 ELSE -5 END; DELETE FROM history WHERE id > 100;"
               "ALTER TABLE accounts ADD added int DEFAULT 3", "bank")
    server.sql("VACUUM history", "bank")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    daemon.sql(f"RESTORE TABLE bank.public.accounts, bank.public.history FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', into_schema = 'later'")
    assert server.sql("SELECT count(*), sum(balance), min(balance), sum(added) FROM later.accounts",
                      "rescue").rows == [["5000", "5000000", "995", "15000"]]
    assert server.value("SELECT count(*) FROM later.history", "rescue") == "100"
    replaced = re.findall(r"WAL of the objects is ready: records=(\d+) replaced=(\d+)", daemon.log_text())
    assert all(0 < int(gone) < int(records) for records, gone in replaced), replaced
    assert clean(server, daemon) == []
