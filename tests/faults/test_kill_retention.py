"""kill -9 of holdfast at every step of DELETE BACKUPS."""
import pytest

from faults.helpers import COLLECTION, RETENTION_POINTS, assert_clean, points_in_source
from harness import environment as env
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until


def test_pause_points_are_all_tested():
    assert points_in_source("retention") == set(RETENTION_POINTS)


@pytest.fixture(scope="module")
def source(module_lab):
    server = module_lab.postgres()
    make_bank(server)
    return server


def every_layer_is_whole(daemon):
    """What is listed can be restored, and LATEST is listed."""
    fulls = daemon.fulls("archive")
    assert fulls
    for full in [f"'{full}'" for full in fulls] + ["LATEST"]:
        rows = daemon.sql(f"SHOW BACKUP VALIDATE FROM {full} IN '{COLLECTION}'").rows
        assert rows and all(row == ["No problems found!"] for row in rows), f"{full}: {rows}"
    return fulls


@pytest.mark.parametrize("point", RETENTION_POINTS)
def test_killed_deletion_goes_on_after_restart(lab, source, point):
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    for _ in range(2):
        source.sql("UPDATE accounts SET balance = balance + 1", "bank")
        daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    doomed = daemon.fulls("archive")[0]
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    # LATEST of the doomed chain is what a deletion has to move.
    for latest in sorted((daemon.collection("archive") / "metadata/latest").iterdir())[:1]:
        latest.unlink()
    nth = "@2" if point == "retention.manifest" else ""
    daemon.restart(pause_point=f"{point}=kill{nth}")
    try:
        daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'")
        raise AssertionError(f"{point} was not reached")
    except ConnectionError:
        daemon.wait_killed()

    # What a crash leaves is looked at before the job goes on.
    daemon.pause_point = "retention.after_lock=pause"
    daemon.start()
    job = int(daemon.jobs()[0]["job_id"])
    daemon.wait_job(job, "paused")
    every_layer_is_whole(daemon)
    daemon.restart()
    daemon.sql(f"RESUME JOB {job}")
    daemon.wait_job(job)

    fulls = every_layer_is_whole(daemon)
    assert len(fulls) == 1 and doomed not in fulls
    left = [path for path in daemon.files("archive") if doomed in path or "DELETING" in path or "RETENTION" in path]
    assert left == []
    assert_clean(daemon)

    before = digest(source)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    server = lab.adopt(Postgres(lab.directory("restored", 0o755), data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, digest(server))


def test_a_restore_keeps_its_chain(lab, source):
    daemon = lab.holdfast(source, pause_point="restore.after_create=pause")
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    first = daemon.fulls("archive")[0]
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    target = lab.root / "target"
    restoring = daemon.detached(f"RESTORE FROM '{first}' IN '{COLLECTION}' WITH data_directory = '{target}', detached")
    daemon.wait_job(restoring, "paused")
    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'").dicts()
    assert rows[0]["action"] == "kept" and f"restore job {restoring}" in rows[0]["reason"]
    daemon.sql(f"RESUME JOB {restoring}")
    daemon.wait_job(restoring)
    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'").dicts()
    assert rows[0]["action"] == "deleted"


def test_a_restore_is_refused_while_its_backup_is_deleted(lab, source):
    daemon = lab.holdfast(source, pause_point="retention.manifest=pause")
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    first = daemon.fulls("archive")[0]
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    job = daemon.detached(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' WITH detached")
    daemon.wait_job(job, "paused")
    error = daemon.error(f"RESTORE FROM '{first}' IN '{COLLECTION}' WITH data_directory = '{lab.root / 'target'}'")
    assert error.sqlstate == "55006" and "is being deleted" in error.message
    error = daemon.error(f"BACKUP INTO '{first}' IN '{COLLECTION}'")
    assert error.sqlstate == "55006" and "is being deleted" in error.message
    error = daemon.error(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'")
    assert error.sqlstate == "55006" and "another DELETE BACKUPS" in error.message

    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    daemon.sql(f"BACKUP INTO '{first}' IN '{COLLECTION}'")
    every_layer_is_whole(daemon)
    assert_clean(daemon)


def test_what_a_killed_and_forgotten_backup_left_is_found(lab, source):
    """The store of the daemon is lost, and with it the job."""
    daemon = lab.holdfast(source, pause_point="backup.after_copy=kill")
    try:
        daemon.sql(f"BACKUP INTO '{COLLECTION}'")
        raise AssertionError("backup.after_copy was not reached")
    except ConnectionError:
        daemon.wait_killed()
    daemon.pause_point = None
    daemon.store.rename(daemon.root / "lost")
    env.make_directory(daemon.store)
    daemon.start()
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'").dicts()
    # It may still be at work somewhere.
    assert [row["action"] for row in rows] == ["kept", "kept"]
    assert "is not finished" in rows[0]["reason"]
