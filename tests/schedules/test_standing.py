"""Whatever happens, in any order: each window of time that SHOW BACKUP WINDOWS promises restores, to exactly its commits.

Schedules, retention rules, failures of the storage, crashes of daemon and server and cancelled jobs are chosen by a seed. A longer run by hand:

    HOLDFAST_STANDING_STEPS=300 HOLDFAST_STANDING_SEED=$RANDOM /usr/bin/python3 -m pytest -p no:cacheprovider -q tests/schedules/test_standing.py
"""
import os
import random
import shutil
from datetime import timedelta

import pytest

from cluster.test_history import assert_holds, lay_out, ledger, make_ledger, spelled, time_of, transfer
from faults.helpers import BACKUP_POINTS, RETENTION_POINTS, SCHEDULE_POINTS
from harness.postgres import wait_until
from harness.wire import SqlError

COLLECTION = "nodelocal://self/archive"
STEPS = int(os.environ.get("HOLDFAST_STANDING_STEPS", "14"))
SEEDS = [int(os.environ["HOLDFAST_STANDING_SEED"])] if "HOLDFAST_STANDING_SEED" in os.environ else [1, 2]
WORKING = ("pending", "running", "pause-requested", "cancel-requested", "reverting")


class World:
    def __init__(self, lab, seed, log):
        self.lab, self.random, self.log = lab, random.Random(seed), log
        self.source = make_ledger(lab)
        self.daemon = lab.holdfast(self.source, log_level="info")
        self.archive = self.daemon.collection("archive")
        self.number = 0
        self.away = False
        rows = self.daemon.sql(f"CREATE SCHEDULE standing FOR BACKUP INTO '{COLLECTION}' WITH revision_history RECURRING '@hourly' "
                               "FULL BACKUP '@daily' WITH SCHEDULE OPTIONS first_run = 'now', on_execution_failure = 'reschedule'").dicts()
        self.incremental, self.full = (int(row["schedule_id"]) for row in rows)
        self.wait_idle()
        assert len(self.daemon.fulls("archive")) == 1

    def say(self, what):
        self.log.append(what)

    # -- what is asked

    def jobs(self):
        return self.daemon.sql("SELECT * FROM [SHOW JOBS] WHERE job_type <> 'WAL ARCHIVE'").dicts()

    def wait_idle(self):
        def idle():
            # Asked first: what a daemon that was killed has left unsettled stays so.
            def working():
                return any(job["status"] in WORKING for job in self.jobs())
            return not working() and self.daemon.unsettled_schedules() == 0 and not working()

        wait_until(idle, 120, "all jobs having ended")

    def answer(self, statement):
        """Its error is told, not raised: what is refused is refused, and the collection stays whole."""
        try:
            self.daemon.sql(statement, timeout=120)
            self.say(statement)
        except SqlError as error:
            self.say(f"{statement}: {error.sqlstate} {error.message}")
            assert error.sqlstate not in ("XX000", "XX001"), error

    # -- what can happen

    def work(self):
        self.number += 1
        self.say("work")
        transfer(self.source, f"work {self.number}", self.random.randint(5, 25))

    def switch_wal(self):
        self.source.sql("SELECT pg_switch_wal()")

    def run(self):
        what = self.random.choice(("", "", "FULL "))
        self.answer(f"ALTER BACKUP SCHEDULE {self.full} EXECUTE {what}IMMEDIATELY")
        if self.random.random() < 0.4:
            self.work()

    def change_rules(self):
        rule = self.random.choice(("keep_fulls = 1", "keep_fulls = 2", "keep_fulls = 0", "retention = ''", "retention = '3 s'"))
        self.answer(f"ALTER BACKUP SCHEDULE {self.full} SET SCHEDULE OPTION {rule}")

    def change_policy(self):
        policy = self.random.choice(("on_execution_failure = 'reschedule'", "on_execution_failure = 'pause'", "on_previous_running = 'start'",
                                     "on_previous_running = 'skip'", "on_previous_running = 'wait'"))
        self.answer(f"ALTER BACKUP SCHEDULE {self.full} SET SCHEDULE OPTION {policy}")

    def delete(self):
        rule = self.random.choice(("KEEP 1 FULLS", "KEEP 2 FULLS", "OLDER THAN '-2s'"))
        self.answer(f"DELETE BACKUPS {rule} IN '{COLLECTION}'")

    def pause_or_resume(self):
        for row in self.daemon.sql("SHOW SCHEDULES").dicts():
            if row["schedule_status"] == "PAUSED" and "initial" not in (row["state"] or ""):
                self.answer(f"RESUME SCHEDULE {row['id']}")
            elif self.random.random() < 0.2:
                self.answer(f"PAUSE SCHEDULE {row['id']}")

    def cancel(self):
        self.run()
        running = [job for job in self.jobs() if job["status"] == "running"]
        if running:
            self.answer(f"CANCEL JOB {running[0]['job_id']}")

    def crash_server(self):
        self.say("the server is killed")
        self.source.kill9()
        self.source.start()
        wait_until(self.source.ready, 60, "recovery after the crash")

    def crash_daemon(self):
        point = self.random.choice((*SCHEDULE_POINTS, *BACKUP_POINTS, *RETENTION_POINTS))
        self.say(f"the daemon is killed at {point}, or a little later")
        self.daemon.restart(f"{point}=kill")
        try:
            self.run()
            self.wait_idle()
            self.daemon.kill9()
        except ConnectionError:
            self.daemon.wait_killed()
        self.daemon.pause_point = None
        self.daemon.start()

    def storage_away(self):
        """For some of the runs, and for the archive."""
        self.say("the storage is away")
        kept = self.daemon.io / "kept"
        self.archive.rename(kept)
        self.archive.write_text("in the way")
        for _ in range(self.random.randint(1, 2)):
            self.run()
            self.wait_idle()
        assert not any(job["status"] in WORKING for job in self.jobs())
        self.archive.unlink()
        kept.rename(self.archive)
        self.say("the storage is back")

    EVENTS = (work, work, switch_wal, run, run, run, change_rules, change_policy, delete, pause_or_resume, cancel, crash_server, crash_daemon,
              storage_away)

    def step(self):
        self.random.choice(self.EVENTS)(self)
        self.wait_idle()

    # -- what must be true

    def check(self, every=False):
        fulls = self.daemon.fulls("archive")
        assert fulls, "no chain is left"
        entries = ledger(self.source)
        for full in fulls:
            assert self.daemon.sql(f"SHOW BACKUP VALIDATE FROM '{full}' IN '{COLLECTION}'").rows == [["No problems found!"]], full
        windows = [(full, window) for full in fulls
                   for window in self.daemon.sql(f"SHOW BACKUP WINDOWS FROM '{full}' IN '{COLLECTION}'").dicts()]
        assert {full for full, _ in windows} == set(fulls), windows
        for full, window in windows if every else [self.random.choice(windows)]:
            self.check_window(full, window, entries)

    def check_window(self, full, window, entries):
        start, end = time_of(window["start_time"]), time_of(window["end_time"])
        # Where commits are close the order of their times need not be that of the WAL.
        inside = [this for before, this, after in zip(entries, entries[1:], entries[2:])
                  if start < this[1] < end and min(this[1] - before[1], after[1] - this[1]) > timedelta(microseconds=300)]
        moment = self.random.choice(inside)[1] if inside else end
        self.say(f"restoring {moment} of {full}: {window['start_time']} to {window['end_time']}")
        self.number += 1
        server = lay_out(self.lab, self.daemon, self.source, spelled(moment), f"restored{self.number}", subdirectory=f"'{full}'")
        assert_holds(server, [entry for entry in entries if entry[1] <= moment])
        server.stop()
        shutil.rmtree(server.data)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_window_that_is_promised_restores(lab, seed):
    log = [f"seed {seed}"]
    try:
        world = World(lab, seed, log)
        for _ in range(STEPS):
            world.step()
            world.check()
        world.work()
        world.check(every=True)
        # In the end a run succeeds, whatever was before.
        world.answer(f"RESUME SCHEDULES (SELECT id FROM [SHOW SCHEDULES] WHERE schedule_status = 'PAUSED' AND state IS NULL)")
        world.answer(f"RESUME SCHEDULE {world.full}")
        before = len(world.daemon.fulls("archive"))
        world.answer(f"ALTER BACKUP SCHEDULE {world.full} SET SCHEDULE OPTION keep_fulls = 0, SET SCHEDULE OPTION retention = '', EXECUTE FULL IMMEDIATELY")
        world.wait_idle()
        assert len(world.daemon.fulls("archive")) == before + 1
    except BaseException:
        print("\n".join(log))
        raise
