"""Restores of single objects into a server that is at work, beside each other, and without room."""
import threading
import time

import pytest

from harness.postgres import wait_until
from harness.small_disk import fill, small_disk
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"


def make(server):
    server.sql("CREATE DATABASE bank")
    server.sql("""CREATE TABLE accounts (id int PRIMARY KEY, balance bigint, filler text DEFAULT repeat('x', 80));
        INSERT INTO accounts SELECT i, 1000 FROM generate_series(1, 60000) i;
        CREATE TABLE orders (id int PRIMARY KEY, account int REFERENCES accounts, amount int);
        INSERT INTO orders SELECT i, i, i FROM generate_series(1, 60000) i; CREATE INDEX ON orders (amount);
        CREATE TABLE ticks (at timestamptz, i int)""", "bank")


class Writers:
    """Write to a table that restored ones refer to; the longest that one of them waited is kept."""

    def __init__(self, server, database, statements):
        self.longest, self.count, self.failures = 0.0, 0, []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(server, database, text)) for text in statements]

    def _work(self, server, database, text):
        with server.connect(database) as connection:
            number = 0
            while not self._stop.is_set():
                number += 1
                began = time.monotonic()
                try:
                    connection.query(text.format(number % 60000 + 1))
                except Exception as error:  # whatever it is, the test shows it
                    self.failures.append(error)
                    return
                self.longest = max(self.longest, time.monotonic() - began)
                self.count += 1

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def test_no_writer_waits_for_it(lab):
    server = lab.postgres()
    make(server)
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    server.sql("DROP TABLE orders", "bank")
    go = lab.root / "go"
    daemon.restart(f"restore.objects_after_copy=stall:{go},restore.objects_before_final=stall:{go}")
    job = daemon.detached(f"RESTORE TABLE bank.public.orders FROM LATEST IN '{COLLECTION}' WITH detached")
    with Writers(server, "bank", ("UPDATE accounts SET balance = balance + 1 WHERE id = {}", "INSERT INTO ticks VALUES (now(), {})",
                                  "SELECT sum(balance) FROM accounts WHERE id < {}")) as writers:
        wait_until(lambda: any("holdfast_restore" in name for name in leftovers(server, daemon)), 60, "the job at work")
        time.sleep(0.5)
        go.touch()
        daemon.wait_job(job)
        # The foreign key was validated while they wrote.
        assert server.value("SELECT convalidated FROM pg_constraint WHERE contype = 'f'", "bank") == "t"
    assert writers.failures == [] and writers.count > 100
    # A loaded machine alone makes them wait; a lock held for the copy or the indexes would be longer than the job's own pauses.
    assert writers.longest < 5, writers.longest
    assert server.value("SELECT count(*) FROM orders", "bank") == "60000"
    assert leftovers(server, daemon) == []


def test_two_at_once(lab):
    server = lab.postgres()
    make(server)
    for database in ("one", "two"):
        server.sql(f"CREATE DATABASE {database}")
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    ok = ", detached"
    jobs = [daemon.detached(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{COLLECTION}' WITH into_db = '{database}'{ok}")
            for database in ("one", "two")]
    jobs.append(daemon.detached(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'three'{ok}"))
    for job in jobs:
        daemon.wait_job(job)
    for database in ("one", "two", "three"):
        assert server.sql("SELECT count(*), sum(balance) FROM accounts", database).rows == [["60000", "60000000"]]
    # The same name in the same place: one gets it, and nothing is left of the other.
    server.sql("DROP TABLE accounts", "one")
    go = lab.root / "go"
    daemon.restart(f"restore.objects_before_final=stall:{go}@*")
    jobs = [daemon.detached(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{COLLECTION}' WITH into_db = 'one'{ok}") for _ in range(2)]
    wait_until(lambda: sum("holdfast_restore" in name and name.endswith("_1") for name in leftovers(server, daemon)) >= 2, 60, "both at work")
    go.touch()
    rows = [daemon.wait_job(job, "succeeded", "failed") for job in jobs]
    assert sorted(row["status"] for row in rows) == ["failed", "succeeded"]
    assert any('relation "accounts" already exists' in (row["error"] or "") for row in rows), rows
    assert server.value("SELECT count(*) FROM accounts", "one") == "60000"
    assert leftovers(server, daemon) == []


@pytest.mark.parametrize("room", (2, 24))
def test_no_room_for_the_workshop(lab, room):
    server = lab.postgres()
    make(server)
    server.sql("CREATE DATABASE rescue")
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    daemon.stop()
    with small_disk(lab.directory("small"), 256) as disk:
        daemon.store = disk
        daemon.start()
        fill(disk, room << 20)
        job = daemon.detached(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', detached")
        row = daemon.wait_job(job, "paused", "failed")
        assert "No space left" in row["error"] or "not enough free space" in row["error"], row
        assert leftovers(server, daemon) == []
        error = daemon.error(f"VERIFY BACKUP LATEST IN '{COLLECTION}'")
        assert error.sqlstate == "53100", error
        (disk / "ballast").unlink()
        if row["status"] == "paused":
            daemon.sql(f"RESUME JOB {job}")
            daemon.wait_job(job)
            assert server.value("SELECT count(*) FROM accounts", "rescue") == "60000"
        assert leftovers(server, daemon) == []
        daemon.stop()
