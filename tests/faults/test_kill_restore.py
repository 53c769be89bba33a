"""kill -9 of holdfast at every step of a restore; failed restores."""
import shutil

import pytest

from faults.helpers import COLLECTION, points_in_source
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until
from harness.sample import make_sample

# Those of single databases and tables are in tests/objects.
POINTS = sorted(point for point in points_in_source("restore") if ".objects_" not in point)


def test_there_are_pause_points():
    assert len(POINTS) >= 5, POINTS


def prepared(lab):
    source = lab.postgres()
    make_bank(source)
    make_sample(source, lab.directory("space"))
    daemon = lab.holdfast(source)
    before = digest(source, skip_unlogged=True)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return source, daemon, before


@pytest.mark.parametrize("point", POINTS)
def test_killed_restore_goes_on_after_restart(lab, point):
    source, daemon, before = prepared(lab)
    source.destroy()
    daemon.restart(f"{point}=kill")
    try:
        daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'")
        reached = False
    except ConnectionError:
        reached = True
    if not reached:
        # Points of a failed start, or of WITH data_directory, are not on this way.
        assert_same(before, digest(source, skip_unlogged=True))
        return
    daemon.wait_killed()
    daemon.pause_point = None
    daemon.start()
    job = max(int(row["job_id"]) for row in daemon.jobs())
    daemon.wait_job(job)
    assert_same(before, digest(source, skip_unlogged=True))
    leftovers = [path.name for path in source.root.iterdir() if path.is_dir() and path.name not in ("data", "s")]
    assert leftovers == [], leftovers


@pytest.mark.parametrize("point", POINTS)
def test_killed_restore_can_be_canceled_and_leaves_the_old_directory(lab, point):
    """The live directory holds no user objects, so it may be replaced; until it is, a cancel gives it back whole."""
    source, daemon, _ = prepared(lab)
    for database in ("bank", '"Mixed Case"', "moved"):
        source.sql(f"DROP DATABASE {database}")
    source.sql("DROP TABLESPACE fast")
    before = digest(source)
    daemon.restart(f"{point}=kill")
    try:
        daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'")
        return
    except ConnectionError:
        daemon.wait_killed()
    daemon.pause_point = ",".join(f"{name}=stall" for name in POINTS)
    daemon.start()
    job = max(int(row["job_id"]) for row in daemon.jobs())
    daemon.sql(f"CANCEL JOB {job}")
    row = daemon.wait_job(job, "canceled", "succeeded", timeout=60)
    if row["status"] == "canceled":
        wait_until(source.ready, 60, "the old server answering")
        assert_same(before, digest(source))
        leftovers = [path.name for path in source.root.iterdir() if path.is_dir() and path.name not in ("data", "s")]
        # What a server was started on is kept: users may have written to it.
        started = point in ("restore.after_start", "restore.after_ready")
        assert [name.startswith("data.failed-restore-") for name in leftovers] == [True] * started, leftovers


def test_restore_into_a_directory_resumes(lab):
    source, daemon, before = prepared(lab)
    target, space = lab.root / "target", lab.root / "mapped"
    daemon.restart("restore.file=stall" if "restore.file" in POINTS else f"{POINTS[0]}=stall")
    job = daemon.detached(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}', "
                          f"tablespace_mapping = '{lab.root / 'space'}={space}', detached")
    daemon.wait_job(job, "running")
    daemon.kill9()
    assert not (target / "global/pg_control").exists()
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(job)
    server = lab.adopt(Postgres(lab.directory("restored", 0o755), data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, digest(server, skip_unlogged=True))


def test_canceled_restore_into_a_directory_leaves_nothing(lab):
    _, daemon, _ = prepared(lab)
    target = lab.root / "target"
    daemon.restart(",".join(f"{name}=stall" for name in POINTS))
    job = daemon.detached(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}', "
                          f"tablespace_mapping = '{lab.root / 'space'}={lab.root / 'mapped'}', detached")
    daemon.wait_job(job, "running")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled", timeout=10)
    assert not target.exists() and not (lab.root / "mapped").exists()


def test_damaged_pack_fails_the_restore_and_leaves_the_live_directory(lab):
    source, daemon, _ = prepared(lab)
    for database in ("bank", '"Mixed Case"', "moved"):
        source.sql(f"DROP DATABASE {database}")
    source.sql("DROP TABLESPACE fast")
    before = digest(source)
    pack = max(daemon.collection("archive").rglob("*.pack"), key=lambda path: path.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 3] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(data)
    error = daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    assert error.sqlstate == "XX001" and pack.name in error.message + error.detail, error
    wait_until(source.ready, 60, "the live server answering")
    assert_same(before, digest(source))
    leftovers = [path.name for path in source.root.iterdir() if path.is_dir() and path.name not in ("data", "s")]
    assert leftovers == [], leftovers


def test_server_that_does_not_start_gives_the_old_directory_back(lab):
    source, daemon, _ = prepared(lab)
    for database in ("bank", '"Mixed Case"', "moved"):
        source.sql(f"DROP DATABASE {database}")
    source.sql("DROP TABLESPACE fast")
    before = digest(source)
    shim = lab.directory("bin", 0o755)
    for program in source.bin.iterdir():
        (shim / program.name).symlink_to(program)
    # A port that is taken: the restored server cannot start.
    manifest_conf = source.data / "postgresql.conf"
    daemon.sql("SELECT 1")
    shutil.copy2(manifest_conf, lab.root / "conf")
    other = lab.holdfast(source, name="second", arguments=["--pg-stop-command", f"{source.bin}/pg_ctl -D {source.data} -m fast -w stop",
                                                            "--pg-start-command", "exit 7"], start=False)
    other.io.rmdir()
    daemon.stop()
    daemon.io.rename(other.io)
    other.start()
    error = other.error(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    assert error.message, error
    # The start command never works here, so the server stays down; its directory is the old one again.
    source.start()
    assert_same(before, digest(source))
