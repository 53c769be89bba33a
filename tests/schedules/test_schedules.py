"""Schedules that really run: the pair, crashes, storage that is away."""
import sqlite3
import urllib.request

from harness.bank import make_bank
from harness.postgres import wait_until


def change_state(daemon, statement, *parameters):
    """Changes the state file of a daemon that is stopped, as a crash or time would have."""
    state = sqlite3.connect(daemon.store / "holdfast.db")
    state.execute(statement, parameters)
    state.commit()
    state.close()


def schedule(daemon, schedule_id):
    return daemon.sql(f"SHOW SCHEDULE {schedule_id}").one()


def jobs_of(daemon, schedule_id):
    return daemon.sql(f"SHOW JOBS FOR SCHEDULE {schedule_id}").dicts()


def create(daemon, collection, recurring="'@daily' FULL BACKUP ALWAYS", options="first_run = 'now'", uri=None):
    """The ids of the schedules, incrementals first."""
    uri = uri or f"nodelocal://self/{collection}"
    rows = daemon.sql(f"CREATE SCHEDULE {collection} FOR BACKUP INTO '{uri}' RECURRING {recurring} "
                      f"WITH SCHEDULE OPTIONS {options}").dicts()
    return [int(row["schedule_id"]) for row in rows]


def wait_succeeded(daemon, schedule_id, count=1):
    def done():
        rows = jobs_of(daemon, schedule_id)
        return len(rows) == count and all(row["status"] == "succeeded" for row in rows)
    wait_until(done, 60, f"{count} jobs of schedule {schedule_id}")


def test_runs_at_once_again_on_request_and_after_a_restart(lab):
    postgres = lab.postgres()
    make_bank(postgres)
    daemon = lab.holdfast(postgres)
    daily, = create(daemon, "daily")
    wait_succeeded(daemon, daily)
    assert len(daemon.fulls("daily")) == 1
    row = schedule(daemon, daily)
    assert (row["schedule_status"], row["state"]) == ("ACTIVE", None)
    assert row["next_run"].endswith("00:00:00+00")
    assert jobs_of(daemon, daily)[0]["user_name"] == "postgres"

    daemon.sql(f"ALTER BACKUP SCHEDULE {daily} EXECUTE IMMEDIATELY")
    wait_succeeded(daemon, daily, 2)

    def metrics():
        return urllib.request.urlopen(f"http://127.0.0.1:{daemon.http_port}/metrics", timeout=10).read().decode()
    run = f'holdfast_schedule_runs_total{{schedule_id="{daily}",label="daily",backup_type="full",result="success"}} 2.000'
    wait_until(lambda: run in metrics(), 60, "the second run in the metrics")
    assert 'holdfast_collection_last_success_stored_bytes{collection="nodelocal://self/daily"}' in metrics()

    # The pair: its incremental is let loose by the first full.
    incremental, full = create(daemon, "pair", "'@hourly'", "on_execution_failure = 'retry'")
    wait_succeeded(daemon, full)
    wait_until(lambda: schedule(daemon, incremental)["schedule_status"] == "ACTIVE", 60, "the incremental is let loose")
    assert schedule(daemon, incremental)["next_run"] is not None

    # Control of a schedule's jobs, and of a schedule that is dropped while its job goes on.
    assert daemon.sql(f"CANCEL JOBS FOR SCHEDULE {daily}").tag == "CANCEL JOBS FOR SCHEDULES 0"

    # A time that passed while the daemon was down is made up for once.
    daemon.stop()
    change_state(daemon, "UPDATE schedules SET next_run = next_run - 86400 * 1000000 * 40 WHERE id = ?", daily)
    daemon.start()
    wait_succeeded(daemon, daily, 3)
    # The scheduler has looked at it again by the time that a later statement of its is seen.
    daemon.sql(f"ALTER BACKUP SCHEDULE {full} EXECUTE FULL IMMEDIATELY")
    wait_succeeded(daemon, full, 2)
    assert len(jobs_of(daemon, daily)) == 3
    assert daemon.sql(f"DROP SCHEDULES (SELECT id FROM [SHOW SCHEDULES])").tag == "DROP SCHEDULES 3"


def test_a_run_that_is_killed_goes_on_and_is_not_repeated(lab):
    postgres = lab.postgres()
    daemon = lab.holdfast(postgres, pause_point="backup.after_lock=kill")
    killed, = create(daemon, "killed")
    daemon.wait_killed()
    for point in ("backup.after_copy=kill", "backup.after_manifest=kill"):
        daemon.pause_point = point
        daemon.start()
        daemon.wait_killed()
    daemon.pause_point = None
    daemon.start()
    wait_succeeded(daemon, killed)
    assert len(daemon.fulls("killed")) == 1

    # Killed between the claim and the job: made up for.
    newest = max(int(row["job_id"]) for row in daemon.jobs())
    daemon.stop()
    claim = "UPDATE schedules SET claimed = next_run - 86400000000, claimed_after_job = ? WHERE id = ?"
    change_state(daemon, claim, newest, killed)
    daemon.start()
    wait_succeeded(daemon, killed, 2)

    # Killed between the job and the end of the claim: seen, not repeated.
    daemon.stop()
    change_state(daemon, claim, newest, killed)
    daemon.start()
    other, = create(daemon, "other")
    wait_succeeded(daemon, other)
    assert len(jobs_of(daemon, killed)) == 2


def test_storage_that_is_away(lab):
    postgres = lab.postgres()
    daemon = lab.holdfast(postgres)
    daemon.sql("CREATE EXTERNAL CONNECTION archive AS 'nodelocal://self/archive'")
    ids = {}
    for policy in ("reschedule", "pause", "retry"):
        ids[policy], = create(daemon, policy, uri=f"external://archive/{policy}",
                              options=f"first_run = '2100-01-01', on_execution_failure = '{policy}'")
    # A file where the directory was.
    archive = daemon.collection("archive")
    archive.rename(daemon.io / "kept")
    archive.write_text("in the way")
    for schedule_id in ids.values():
        daemon.sql(f"ALTER BACKUP SCHEDULE {schedule_id} EXECUTE IMMEDIATELY")
    for schedule_id in ids.values():
        wait_until(lambda: "last run failed" in (schedule(daemon, schedule_id)["state"] or ""), 60, "the failure")
    rows = {policy: schedule(daemon, schedule_id) for policy, schedule_id in ids.items()}
    assert rows["pause"]["schedule_status"] == "PAUSED" and rows["pause"]["next_run"] is None
    assert rows["reschedule"]["schedule_status"] == "ACTIVE"
    assert rows["reschedule"]["next_run"].endswith("00:00:00+00")
    soon = daemon.sql("SELECT next_run < now() + interval '61 seconds' FROM [SHOW SCHEDULES] WHERE label = 'retry'")
    assert soon.value() == "t"

    failures = daemon.sql("SELECT schedule_id, status, error_message <> '' FROM information_schema.mv_backup_history "
                          f"WHERE schedule_id IN ({ids['reschedule']}, {ids['pause']}) ORDER BY 1").rows
    assert failures == [[str(schedule_id), "Failure", "t"] for schedule_id in sorted([ids["reschedule"], ids["pause"]])]

    # Back again: the connection leads to the same collection, and a run succeeds.
    archive.unlink()
    (daemon.io / "kept").rename(archive)
    daemon.sql(f"ALTER BACKUP SCHEDULE {ids['retry']} EXECUTE IMMEDIATELY")
    wait_until(lambda: any(row["status"] == "succeeded" for row in jobs_of(daemon, ids["retry"])), 60, "the run")
    wait_until(lambda: schedule(daemon, ids["retry"])["state"] is None, 60, "the state is clear")
    daemon.sql(f"RESUME SCHEDULE {ids['pause']}")
    assert schedule(daemon, ids["pause"])["state"] is None

    # A run that fails before it has a job leaves its row too.
    daemon.sql("DROP EXTERNAL CONNECTION archive")
    daemon.sql(f"ALTER BACKUP SCHEDULE {ids['reschedule']} EXECUTE IMMEDIATELY")
    missing = 'external connection "archive" does not exist'
    wait_until(lambda: schedule(daemon, ids["reschedule"])["state"] == f"last run failed: {missing}", 60, "the failure")
    last = daemon.sql("SELECT job_id, error_code, error_message, backup_path FROM information_schema.mv_backup_history "
                      f"WHERE schedule_id = {ids['reschedule']} ORDER BY backup_id DESC LIMIT 1").rows
    assert last == [[None, "42704", missing, "external://archive/reschedule"]]


def test_labels_of_others_are_not_told(lab):
    postgres = lab.postgres()
    postgres.sql("CREATE ROLE visitor LOGIN")
    daemon = lab.holdfast(postgres)
    create(daemon, "payroll", options="first_run = '2100-01-01'")
    statement = "CREATE SCHEDULE IF NOT EXISTS {} FOR BACKUP INTO 'nodelocal://self/x' RECURRING '@daily' FULL BACKUP ALWAYS"
    # The same answer whether or not somebody else has a schedule of that name.
    known = daemon.error(statement.format("payroll"), user="visitor", tcp=True)
    unknown = daemon.error(statement.format("other"), user="visitor", tcp=True)
    assert (known.sqlstate, known.message) == (unknown.sqlstate, unknown.message)
    assert known.sqlstate == "42501"
    # Whoever sees it is told.
    assert daemon.sql(statement.format("payroll")).notices


def test_deletes_old_backups_after_each_success(lab):
    postgres = lab.postgres()
    make_bank(postgres)
    daemon = lab.holdfast(postgres)
    daily, = create(daemon, "kept", options="first_run = 'now', keep_fulls = 2, retention = '0 s'")

    def deletions():
        return [job for job in jobs_of(daemon, daily) if job["job_type"] == "DELETE BACKUPS"]

    def succeeded(count):
        rows = deletions()
        return len(rows) == count and all(row["status"] == "succeeded" for row in rows)

    for count in range(1, 4):
        wait_until(lambda: succeeded(count), 60, f"{count} deletions")
        assert len(daemon.fulls("kept")) == min(count, 2)
        if count < 3:
            daemon.sql(f"ALTER BACKUP SCHEDULE {daily} EXECUTE IMMEDIATELY")
    assert deletions()[0]["user_name"] == "postgres"
    assert schedule(daemon, daily)["state"] is None

    # No more: the schedule goes on without.
    daemon.sql(f"ALTER BACKUP SCHEDULE {daily} SET SCHEDULE OPTION keep_fulls = 0, SET SCHEDULE OPTION retention = ''")
    daemon.sql(f"ALTER BACKUP SCHEDULE {daily} EXECUTE IMMEDIATELY")
    wait_until(lambda: len(daemon.fulls("kept")) == 3, 60, "the fourth backup")
    assert succeeded(3)
