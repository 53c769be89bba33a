"""kill -9 of holdfast, and of PostgreSQL, at every step of a backup."""
import pytest

from faults.helpers import (ARCHIVE_POINTS, BACKUP_POINTS, COLLECTION, HISTORY_POINTS, SYNTHETIC_POINTS, assert_clean,
                            assert_nothing_left, points_in_source, unfinished_objects)
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until
from harness.sample import make_sample


def test_pause_points_are_all_tested():
    assert points_in_source("backup") == {*BACKUP_POINTS, *ARCHIVE_POINTS, *SYNTHETIC_POINTS, *HISTORY_POINTS}


@pytest.fixture(scope="module")
def source(module_lab):
    server = module_lab.postgres()
    make_bank(server)
    make_sample(server)
    return server


def restored_digest(lab, daemon, source):
    """Lays the newest backup out elsewhere, starts it, gives its content."""
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    server = lab.adopt(Postgres(lab.directory("restored", 0o755), data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    return digest(server, skip_unlogged=True)


@pytest.mark.parametrize("point", BACKUP_POINTS)
def test_killed_backup_goes_on_after_restart(lab, source, point):
    daemon = lab.holdfast(source, pause_point=f"{point}=kill")
    try:
        daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH workers = 1")
        raise AssertionError(f"{point} was not reached")
    except ConnectionError:
        daemon.wait_killed()

    # Something changes meanwhile: it must be in the resumed backup.
    source.sql(f"CREATE TABLE \"after {point}\" AS SELECT generate_series(1, 100) AS id", "bank")
    source.sql("UPDATE accounts SET balance = balance + 1 WHERE id % 7 = 0", "bank")
    daemon.pause_point = None
    daemon.start()
    job = int(daemon.jobs()[0]["job_id"])
    daemon.wait_job(job)

    assert len(daemon.fulls("archive")) == 1
    assert daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH check_files").rows
    assert_clean(daemon)
    after = restored_digest(lab, daemon, source)
    if point in ("backup.after_stop", "backup.after_wal", "backup.after_verify", "backup.before_manifest",
                 "backup.after_manifest", "backup.after_latest"):
        # The end of the backup may have been fixed before the change.
        after = {key: value for key, value in after.items() if not key.startswith("bank ")}
        before = {key: value for key, value in digest(source, skip_unlogged=True).items() if not key.startswith("bank ")}
        assert_same(before, after)
    else:
        assert_same(digest(source, skip_unlogged=True), after)


@pytest.mark.parametrize("point", BACKUP_POINTS)
def test_killed_backup_can_be_canceled_after_restart(lab, source, point):
    daemon = lab.holdfast(source, pause_point=f"{point}=kill")
    try:
        daemon.sql(f"BACKUP INTO '{COLLECTION}'")
        raise AssertionError(f"{point} was not reached")
    except ConnectionError:
        daemon.wait_killed()
    finished = point in ("backup.after_manifest", "backup.after_latest")
    # Before it goes on, nothing that is listed is unfinished.
    daemon.pause_point = None if finished else f"{point}=stall,backup.after_lock=stall,backup.after_checkpoint_read=stall"
    daemon.start()
    job = int(daemon.jobs()[0]["job_id"])
    if not finished:
        assert daemon.fulls("archive") == []
    if finished:
        # The backup exists: there is nothing to take back.
        daemon.wait_job(job)
        assert len(daemon.fulls("archive")) == 1
    else:
        daemon.sql(f"CANCEL JOB {job}")
        daemon.wait_job(job, "canceled")
        assert_nothing_left(daemon)
    # Whatever is left of it in the server is gone too.
    daemon.restart()
    # Those of WAL archives stay with the backups that they are for; a backup's own goes with it.
    assert source.sql("SELECT * FROM pg_replication_slots WHERE temporary OR slot_name !~ '^holdfast_[0-9a-f]{16}$'").rows == []
    assert daemon.sql(f"BACKUP INTO '{COLLECTION}'").one()["status"] == "succeeded"


@pytest.mark.parametrize("point", ["backup.after_start", "backup.copy", "backup.after_copy", "backup.after_stop"])
def test_postgres_killed_during_backup(lab, point):
    source = lab.postgres()
    make_bank(source)
    go = lab.root / "go"
    daemon = lab.holdfast(source, pause_point=f"{point}=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "stall" in daemon.log_text() or f"{point}" in daemon.log_text(), 60, f"reaching {point}")
    source.kill9()
    go.touch()
    source.start()
    row = None

    def ended():
        nonlocal row
        row = daemon.job(job)
        return row["status"] in ("succeeded", "failed", "paused")
    wait_until(ended, 120, "the end of the job")
    if row["status"] == "failed":
        assert row["error"], row
        assert daemon.fulls("archive") == []
        assert unfinished_objects(daemon) == []
        assert daemon.sql(f"BACKUP INTO '{COLLECTION}'").one()["status"] == "succeeded"
    elif row["status"] == "paused":
        daemon.sql(f"RESUME JOB {job}")
        daemon.wait_job(job)
    assert len(daemon.fulls("archive")) == 1
    before = digest(source)
    assert_same(before, restored_digest(lab, daemon, source))


@pytest.mark.parametrize("point", ["backup.after_plan", "backup.copy", "backup.after_stop", "backup.before_manifest"])
def test_pause_resume_cancel_at_moments(lab, source, point):
    daemon = lab.holdfast(source, pause_point=f"{point}=stall@*")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    daemon.wait_job(job, "running")
    daemon.sql(f"PAUSE JOB {job} WITH REASON = 'test'")
    daemon.wait_job(job, "paused", timeout=5)
    daemon.restart(f"{point}=stall@*")
    assert daemon.job(job)["status"] == "paused"
    daemon.sql(f"RESUME JOB {job}")
    daemon.wait_job(job, "running")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled", timeout=10)
    assert_nothing_left(daemon)
    assert daemon.fulls("archive") == []


def test_client_that_cancels_cancels_its_backup(lab, source):
    daemon = lab.holdfast(source, pause_point="backup.copy=stall")
    connection = daemon.connect()
    connection.send(f"BACKUP INTO '{COLLECTION}'")
    job = int(wait_until(daemon.jobs, 60)[0]["job_id"])
    daemon.wait_job(job, "running")
    connection.cancel()
    from harness.wire import SqlError
    with pytest.raises(SqlError) as caught:
        connection.receive(20)
    assert caught.value.sqlstate == "57014"
    daemon.wait_job(job, "canceled")
    assert connection.query("SELECT 1").value() == "1"
    connection.close()
    assert_nothing_left(daemon)


def test_client_that_leaves_does_not_stop_its_backup(lab, source):
    daemon = lab.holdfast(source, pause_point=f"backup.copy=stall:{lab.root / 'go'}")
    connection = daemon.connect()
    connection.send(f"BACKUP INTO '{COLLECTION}'")
    job = int(wait_until(daemon.jobs, 60)[0]["job_id"])
    daemon.wait_job(job, "running")
    connection.close()
    (lab.root / "go").touch()
    daemon.wait_job(job)
    assert len(daemon.fulls("archive")) == 1


def test_clean_stop_during_a_backup_adopts_it_at_the_next_start(lab, source):
    daemon = lab.holdfast(source, pause_point="backup.copy=stall")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    daemon.wait_job(job, "running")
    assert daemon.stop() == 0
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(job)
    assert_clean(daemon)
