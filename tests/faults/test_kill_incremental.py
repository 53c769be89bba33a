"""kill -9 of holdfast while it takes an incremental layer."""
import pytest

from faults.helpers import COLLECTION, assert_clean
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until


@pytest.fixture(scope="module")
def source(module_lab):
    server = module_lab.postgres()
    make_bank(server)
    server.sql("CREATE TABLE big AS SELECT g AS id, repeat('x', 100) AS t FROM generate_series(1, 100000) g", "bank")
    return server


@pytest.mark.parametrize("point", ["backup.after_plan", "backup.copy", "backup.after_stop", "backup.after_manifest"])
def test_killed_incremental_goes_on_after_restart(lab, source, point):
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    source.sql("UPDATE big SET t = 'changed' WHERE id % 500 = 0", "bank")
    daemon.restart(pause_point=f"{point}=kill")
    try:
        daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH workers = 1")
        raise AssertionError(f"{point} was not reached")
    except ConnectionError:
        daemon.wait_killed()

    # What was copied before is copied again where it changed; a table in it is made anew.
    source.sql("UPDATE big SET t = 'again' WHERE id % 1000 = 0", "bank")
    source.sql("VACUUM FULL accounts", "bank")
    before = digest(source)
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
    # A layer whose end was fixed before the change ends before it; the next one has it.
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    assert_clean(daemon)

    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    server = lab.adopt(Postgres(lab.directory("restored", 0o755), data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, digest(server))
    server.amcheck()
