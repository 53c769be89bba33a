"""kill -9 of holdfast at every step of a scheduled run: of the scheduler, of its backup, and of the deletion that follows."""
import pytest

from faults.helpers import BACKUP_POINTS, COLLECTION, RETENTION_POINTS, SCHEDULE_POINTS, assert_clean, points_in_source
from harness.bank import make_bank
from harness.chain import Chain
from harness.digest import digest
from harness.postgres import wait_until


def test_pause_points_are_all_tested():
    assert points_in_source("schedule") == set(SCHEDULE_POINTS)


@pytest.fixture(scope="module")
def source(module_lab):
    server = module_lab.postgres()
    make_bank(server)
    return server


def jobs_of(daemon, schedule, kind):
    return [row for row in daemon.sql(f"SHOW JOBS FOR SCHEDULE {schedule}").dicts() if row["job_type"] == kind]


def wait_runs(daemon, schedule, count):
    """Until so many runs, with the deletion that follows each, have ended."""
    def ended():
        if daemon.unsettled_schedules() or len(jobs_of(daemon, schedule, "BACKUP")) < count:
            return False
        return all(row["status"] == "succeeded" for row in daemon.sql(f"SHOW JOBS FOR SCHEDULE {schedule}").dicts())
    wait_until(ended, 90, f"{count} runs of the schedule")
    assert len(jobs_of(daemon, schedule, "DELETE BACKUPS")) >= count


@pytest.mark.parametrize("point", [*SCHEDULE_POINTS, *BACKUP_POINTS, *RETENTION_POINTS])
def test_killed_run_takes_place_once(lab, source, point):
    daemon = lab.holdfast(source)
    schedule = int(daemon.sql(f"CREATE SCHEDULE nightly FOR BACKUP INTO '{COLLECTION}' RECURRING '@yearly' FULL BACKUP ALWAYS "
                              "WITH SCHEDULE OPTIONS first_run = 'now', keep_fulls = 1").one()["schedule_id"])
    wait_runs(daemon, schedule, 1)
    first = daemon.fulls("archive")
    before = digest(source)
    daemon.restart(pause_point=f"{point}=kill")
    try:
        daemon.sql(f"ALTER BACKUP SCHEDULE {schedule} EXECUTE IMMEDIATELY")
    except ConnectionError:
        pass  # it was dead before it could answer
    daemon.wait_killed()

    daemon.pause_point = None
    daemon.start()
    wait_runs(daemon, schedule, 2)
    backups = jobs_of(daemon, schedule, "BACKUP")
    assert len(backups) == 2, backups
    fulls = daemon.fulls("archive")
    assert len(fulls) == 1 and fulls != first, fulls
    runs = daemon.sql(f"SELECT status FROM information_schema.mv_backup_history WHERE schedule_id = {schedule}").rows
    assert runs == [["Success"]] * 2
    row = daemon.sql(f"SHOW SCHEDULE {schedule}").one()
    assert (row["schedule_status"], row["state"], row["jobsrunning"]) == ("ACTIVE", None, "0")
    assert_clean(daemon)
    chain = Chain(lab, source, daemon)
    chain.validate()
    if point in SCHEDULE_POINTS:
        chain.assert_restores(before)
