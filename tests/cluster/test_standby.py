"""holdfast beside a standby: backups, history and schedules, over a promotion; and what cannot be done there."""
import random

from harness.bank import make_bank
from harness.chain import Chain
from harness.digest import assert_same, digest
from harness.postgres import wait_until
from harness.standby import make_standby, promote, wait_job_of_standby, wait_replayed
from .test_history import assert_holds, lay_out, ledger, make_ledger, moments, spelled, time_of, work
from .test_wal_archive import wait_archived

COLLECTION = "nodelocal://self/archive"
RECEIVED = "SELECT pg_last_wal_receive_lsn()"


def back_up(daemon, primary, statement):
    wait_job_of_standby(daemon, primary, daemon.detached(statement))


def test_incrementals_and_history_go_on_over_a_promotion(lab):
    primary = make_ledger(lab)
    slots = primary.sql("SELECT slot_name FROM pg_replication_slots").rows
    standby = make_standby(lab, primary)
    daemon = lab.holdfast(standby)
    work(primary, "before", transfers=20)
    back_up(daemon, primary, f"BACKUP INTO '{COLLECTION}' WITH revision_history, detached")
    work(primary, "first", transfers=30)
    back_up(daemon, primary, f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history, detached")
    wait_replayed(standby, primary)
    at_layer = ledger(primary)
    work(primary, "second", transfers=30)
    wait_replayed(standby, primary)
    on_standby = ledger(primary)
    wait_archived(daemon, standby, standby.value(RECEIVED))

    # The primary has had nothing to do with it: no slot, and no session but the standby's.
    assert primary.sql("SELECT slot_name FROM pg_replication_slots").rows == [*slots, ["standby"]]
    assert primary.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'") == "1"
    assert primary.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%holdfast%'") == "0"

    promote(standby, primary)
    work(standby, "third", transfers=30)
    assert daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history").one()["status"] == "succeeded"
    chain = Chain(lab, standby, daemon)
    assert chain.last_change_source() == "WAL"
    assert [layer["stop"]["timeline"] for layer in chain.layers()] == [1, 1, 2]
    work(standby, "fourth", transfers=30)
    entries = ledger(standby)
    wait_archived(daemon, standby)
    chain.validate()

    windows = daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}'").dicts()
    assert [window["timeline"] for window in windows] == ["1", "2"], windows
    assert time_of(windows[-1]["end_time"]) >= entries[-1][1]
    start = time_of(windows[0]["start_time"])
    parts = {
        "standby": [entry for entry in entries if start < entry[1] <= on_standby[-1][1]],
        "promoted": [entry for entry in entries if entry[1] > on_standby[-1][1]],
    }
    for name, part in parts.items():
        for number, moment in enumerate(moments(part, random.Random(name), 1)):
            server = lay_out(lab, daemon, standby, spelled(moment), f"{name}{number}")
            assert_holds(server, [entry for entry in entries if entry[1] <= moment])
            server.stop()
    assert len(at_layer) < len(on_standby) < len(entries)
    before = digest(standby, skip_unlogged=True)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    chain.assert_restores(before)


def test_its_end_time_tells_what_is_in_it(lab):
    """What the standby replays between the backup's last file and its end is not."""
    primary = make_ledger(lab)
    standby = make_standby(lab, primary)
    go = lab.root / "go"
    daemon = lab.holdfast(standby, pause_point=f"backup.after_control=stall:{go}")
    work(primary, "before", clients=1, transfers=20)
    wait_replayed(standby, primary)
    standby.sql("CHECKPOINT")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "reached pause point" in daemon.log_text(), 60, "the backup being held")
    work(primary, "meanwhile", clients=1, transfers=20)
    wait_replayed(standby, primary)
    standby.sql("CHECKPOINT")
    go.touch()
    wait_job_of_standby(daemon, primary, job)
    end = time_of(daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'").dicts()[0]["end_time"])
    entries = ledger(primary)
    server = lay_out(lab, daemon, standby, f"'{end}'", "copy")
    assert_holds(server, [entry for entry in entries if entry[1] <= end])
    assert entries[0][1] < end < entries[-1][1]
    server.stop()

    # Nor is a commit the backup's when there was none before it, whatever the clock says at its end.
    primary.sql("CHECKPOINT")
    wait_replayed(standby, primary)
    standby.sql("CHECKPOINT")
    go = lab.root / "go on"
    daemon.restart(pause_point=f"backup.after_control=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: daemon.log_text().count("reached pause point") == 2, 60, "the backup being held")
    work(primary, "late", clients=1, transfers=1)
    wait_replayed(standby, primary)
    go.touch()
    wait_job_of_standby(daemon, primary, job)
    later = time_of(daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'").dicts()[0]["end_time"])
    assert end < later < ledger(primary)[-1][1]
    server = lay_out(lab, daemon, standby, f"'{later}'", "copy of nothing new")
    assert_holds(server, entries)


def test_schedules_run_beside_a_standby(lab):
    primary = lab.postgres(name="primary")
    make_bank(primary)
    standby = make_standby(lab, primary)
    daemon = lab.holdfast(standby)
    rows = daemon.sql(f"CREATE SCHEDULE pair FOR BACKUP INTO '{COLLECTION}' RECURRING '@hourly' FULL BACKUP '@daily' "
                      "WITH SCHEDULE OPTIONS first_run = 'now', keep_fulls = 1").dicts()
    incremental, full = (int(row["schedule_id"]) for row in rows)

    def jobs(schedule):
        return [row for row in daemon.sql(f"SHOW JOBS FOR SCHEDULE {schedule}").dicts() if row["job_type"] == "BACKUP"]

    def wait_succeeded(schedule, count):
        wait_until(lambda: len(jobs(schedule)) == count, 60, f"job {count} of the schedule")
        wait_job_of_standby(daemon, primary, int(max(jobs(schedule), key=lambda row: int(row["job_id"]))["job_id"]))

    wait_succeeded(full, 1)
    wait_until(lambda: daemon.sql(f"SHOW SCHEDULE {incremental}").one()["schedule_status"] == "ACTIVE", 20, "the incremental")
    primary.sql("UPDATE accounts SET balance = balance + 1", "bank")
    wait_replayed(standby, primary)
    daemon.sql(f"ALTER BACKUP SCHEDULE {incremental} EXECUTE IMMEDIATELY")
    wait_succeeded(incremental, 1)

    promote(standby, primary)
    standby.sql("UPDATE accounts SET balance = balance + 1 WHERE id % 2 = 0", "bank")
    before = digest(standby)
    daemon.sql(f"ALTER BACKUP SCHEDULE {incremental} EXECUTE IMMEDIATELY")
    wait_until(lambda: [row["status"] for row in jobs(incremental)] == ["succeeded"] * 2, 60, "the incremental after the promotion")
    chain = Chain(lab, standby, daemon)
    assert len(chain.layers()) == 3
    chain.assert_restores(before)
    # A new full lets the old chain go.
    daemon.sql(f"ALTER BACKUP SCHEDULE {full} EXECUTE FULL IMMEDIATELY")
    wait_until(lambda: len(daemon.fulls("archive")) == 1 and len(chain.layers()) == 1, 60, "one full")
    assert {row["status"] for row in jobs(full)} == {"succeeded"}


def test_a_promotion_ends_the_backup(lab):
    """docs/concurrency.md: what the server says of the end would be of another timeline."""
    primary = lab.postgres(name="primary")
    make_bank(primary)
    standby = make_standby(lab, primary)
    go = lab.root / "go"
    daemon = lab.holdfast(standby, pause_point=f"backup.after_copy=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "reached pause point" in daemon.log_text(), 60, "the backup being held")
    promote(standby, primary)
    go.touch()
    row = daemon.wait_job(job, "failed")
    assert "promoted" in row["error"], row
    assert daemon.fulls("archive") == []
    assert daemon.sql(f"BACKUP INTO '{COLLECTION}'").one()["status"] == "succeeded"
    before = digest(standby)
    Chain(lab, standby, daemon).assert_restores(before)


def test_what_cannot_be_done_beside_a_standby_is_said(lab):
    primary = lab.postgres(name="primary")
    standby = make_standby(lab, primary)
    daemon = lab.holdfast(standby)
    back_up(daemon, primary, f"BACKUP INTO '{COLLECTION}' WITH detached")
    make_bank(primary)
    back_up(daemon, primary, f"BACKUP INTO '{COLLECTION}' WITH detached")
    before = digest(primary)
    for statement in ("RESTORE", "RESTORE DATABASE", "RESTORE TABLE"):
        what = {"RESTORE": "", "RESTORE DATABASE": " bank", "RESTORE TABLE": " bank.public.accounts"}[statement]
        name = " WITH new_db_name = 'other'" if statement == "RESTORE DATABASE" else ""
        error = daemon.error(f"{statement}{what} FROM LATEST IN '{COLLECTION}'{name}")
        assert (error.sqlstate, error.message) == ("25006", f"cannot execute {statement} during recovery"), error
        assert "pg_promote()" in error.hint
    assert_same(before, digest(standby))
    # Beside it is no matter.
    server = Chain(lab, standby, daemon).recovered()
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, digest(server))


def test_a_standby_that_streams_nothing(lab):
    """It gets its WAL from an archive: backups are possible, the history of moments is not, and that is said."""
    kept = lab.directory("kept", 0o755)
    primary = lab.postgres(name="primary", conf={"archive_mode": "on", "archive_command": f"'cp %p {kept}/%f'"})
    make_bank(primary)
    standby = make_standby(lab, primary, streams=False, restore_command=f"'cp {kept}/%f %p 2>/dev/null'")
    daemon = lab.holdfast(standby)
    error = daemon.error(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    assert (error.sqlstate, error.message) == ("55000", "the standby receives no WAL, so it cannot be archived"), error
    error = daemon.error(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    assert (error.sqlstate, error.message) == ("55000", "the standby receives no WAL, so it cannot be archived"), error
    primary.sql("UPDATE accounts SET balance = 0", "bank")
    primary.sql("SELECT pg_switch_wal()")
    wait_until(lambda: standby.value("SELECT sum(balance) FROM accounts", "bank") == "0.00", 60, "replay")
    back_up(daemon, primary, f"BACKUP INTO '{COLLECTION}' WITH detached")
    server = Chain(lab, standby, daemon).recovered()
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert server.value("SELECT sum(balance) FROM accounts", "bank") == "0.00"
    server.amcheck()


def test_a_standby_that_answers_nothing(lab):
    primary = lab.postgres(name="primary")
    standby = make_standby(lab, primary)
    daemon = lab.holdfast(standby)
    standby.stop()
    standby.configure({"hot_standby": "off"})
    standby.start(wait=False)
    file = standby.data / "postmaster.pid"
    wait_until(lambda: file.exists() and "standby" in file.read_text(), 60, "the standby running")
    error = daemon.error(f"BACKUP INTO '{COLLECTION}'")
    assert error.sqlstate == "57P03" and "hot_standby" in f"{error.message} {error.detail} {error.hint}", error
