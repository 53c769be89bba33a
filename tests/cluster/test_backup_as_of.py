"""BACKUP … AS OF SYSTEM TIME t: the layer holds exactly the commits up to t, and the chain goes on from it."""
import random
from datetime import datetime, timedelta, timezone

import pytest

from cluster.test_history import assert_holds, lay_out, ledger, make_ledger, moments, spelled, time_of, work
from cluster.test_wal_archive import flushed, wait_archived
from faults.helpers import assert_clean, unfinished_objects
from harness.postgres import Postgres, wait_until

COLLECTION = "nodelocal://self/archive"
PASSPHRASE = "encryption_passphrase = 'correct horse battery staple'"


def restore(lab, daemon, source, name, subdirectory="LATEST", moment="", options=""):
    """The newest layer, or a moment, laid out and started."""
    target = lab.root / name
    daemon.sql(f"RESTORE FROM {subdirectory} IN '{COLLECTION}'{moment} WITH data_directory = '{target}'{options}")
    server = lab.adopt(Postgres(lab.directory(f"server-{name}", 0o755), version=source.version, data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    return server


def up_to(entries, moment):
    return [entry for entry in entries if entry[1] <= moment]


def layers(daemon, options=""):
    """End times and types of the layers, oldest first."""
    seen = []
    for row in daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'{options}").dicts():
        pair = (time_of(row["end_time"]), row["backup_type"])
        if pair not in seen:
            seen.append(pair)
    return seen


def packs(daemon):
    return [path for path in daemon.files("archive") if path.endswith(".pack")]


def assert_valid(daemon, options=""):
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'{options}").rows == [["No problems found!"]]
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH check_files{options.replace(' WITH', ',')}")


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 15, 18])
def test_a_wal_only_layer_holds_exactly_the_commits_up_to_then(lab, version):
    source = make_ledger(lab, version=version)
    daemon = lab.holdfast(source)
    work(source, "before", transfers=10)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first")
    for statement in ("VACUUM FULL noise", "CREATE INDEX ON ledger (source)"):
        source.sql(statement, "bank")
    work(source, "second", transfers=30)
    entries = ledger(source)
    wait_archived(daemon, source)
    held = packs(daemon)
    start = layers(daemon)[0][0]
    rng = random.Random(f"{version}")
    first, _ = moments([entry for entry in entries if entry[1] > start], rng, 1)
    row = daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(first)} WITH revision_history").one()
    assert row["status"] == "succeeded"
    # It stores nothing of its own, ends at the moment, and is what is restored now.
    assert packs(daemon) == held
    assert layers(daemon)[-1] == (first, "incremental")
    assert_valid(daemon)
    server = restore(lab, daemon, source, "first")
    assert_holds(server, up_to(entries, first))
    server.stop()

    # A second one on the first, by LSN; an ordinary layer on that; moments between and behind all of them.
    work(source, "third", transfers=20)
    at_lsn, lsn = ledger(source), source.value("SELECT pg_current_wal_lsn()")
    work(source, "fourth", transfers=20)
    wait_archived(daemon, source)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME LSN '{lsn}'")
    server = restore(lab, daemon, source, "lsn")
    assert_holds(server, at_lsn)
    server.stop()
    for statement in ("DELETE FROM noise WHERE ctid::text LIKE '(1%'", "VACUUM noise"):
        source.sql(statement, "bank")
    work(source, "fifth", transfers=20)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    at_layer = ledger(source)
    work(source, "sixth", transfers=20)
    entries = ledger(source)
    wait_archived(daemon, source)
    assert [kind for _, kind in layers(daemon)] == ["full", "incremental", "incremental", "incremental"]
    assert_valid(daemon)
    server = restore(lab, daemon, source, "layer")
    assert_holds(server, at_layer)
    server.stop()
    ends = [end for end, _ in layers(daemon)]
    for number, (low, high) in enumerate(((ends[1], ends[2]), (ends[2], ends[3]), (ends[3], entries[-1][1]))):
        moment = next(moments([entry for entry in entries if low < entry[1] < high], rng, 1))
        server = lay_out(lab, daemon, source, spelled(moment), f"between{number}")
        assert_holds(server, up_to(entries, moment))
        server.stop()
    # Each layer by its own end time.
    server = lay_out(lab, daemon, source, spelled(first), "again")
    assert_holds(server, up_to(entries, first))


def test_what_nothing_covers_is_refused(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    error = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '-10s'")
    assert error.sqlstate == "58P01" and "no full backup" in error.message and "revision_history" in error.hint
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    source.sql("SELECT pg_sleep(0.5)")
    error = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '-100ms'")
    assert error.sqlstate == "22023" and "no WAL behind a backup of this collection covers it" in error.message
    assert "Leave AS OF SYSTEM TIME out" in error.hint
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    wait_archived(daemon, source)
    end = layers(daemon)[-1][0]
    for moment in (end, end - timedelta(seconds=1), end - timedelta(days=100)):
        error = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)}")
        assert error.sqlstate == "22023"
        assert error.message.startswith("`AS OF SYSTEM TIME` ")
        assert "must be greater than the previous backup's end time of" in error.message
    for moment in ("'2999-01-01 00:00:00'", spelled(datetime.now(timezone.utc) + timedelta(minutes=1))):
        error = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment}")
        assert error.sqlstate == "22023" and "cannot specify timestamp in the future" in error.message
    for wrong in ("LSN '0/10'", "LSN 'FFFF/0'", "RESTORE POINT 'nowhere'"):
        assert daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {wrong}").sqlstate in ("22023", "42704")
    assert len(layers(daemon)) == 2
    assert unfinished_objects(daemon) == []


def test_a_moment_that_is_only_just_over(lab):
    """CockroachDB's users write AS OF SYSTEM TIME '-10s' into every backup, also of idle servers."""
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    entries = ledger(source)
    source.sql("SELECT pg_sleep(1.2)")
    for _ in range(2):
        daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '-1s' WITH revision_history")
        source.sql("SELECT pg_sleep(1.2)")
    # One client sees its own commit in its next backup.
    work(source, "second", clients=1, transfers=20)
    more = ledger(source)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(more[-1][1])}")
    assert [kind for _, kind in layers(daemon)] == ["full"] + ["incremental"] * 3
    assert_valid(daemon)
    server = restore(lab, daemon, source, "last")
    assert_holds(server, more)
    server.stop()
    server = lay_out(lab, daemon, source, spelled(layers(daemon)[1][0]), "idle")
    assert_holds(server, entries)


def test_encrypted_and_retained(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    for _ in range(2):
        daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history, {PASSPHRASE}")
    work(source, "first", clients=1)
    entries = ledger(source)
    wait_archived(daemon, source)
    middle = entries[30][1]
    for wrong in ("", " WITH encryption_passphrase = 'wrong'"):
        daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(middle)}{wrong}")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(middle)} WITH {PASSPHRASE}")
    assert_valid(daemon, f" WITH {PASSPHRASE}")
    # A table that is made later comes back from a layer that ends before a whole one has seen it.
    source.sql("CREATE TABLE later AS SELECT generate_series(1, 500) AS id", "bank")
    work(source, "second", clients=1, transfers=5)
    wait_archived(daemon, source)
    result = daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(ledger(source)[-1][1])} WITH {PASSPHRASE}")
    assert any("SHOW BACKUP lists for this layer the objects of" in message for _, message in result.notices), result.notices
    assert "later" not in {row["object_name"] for row in daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH {PASSPHRASE}").dicts()}
    source.sql("DROP TABLE later", "bank")
    source.sql("CREATE DATABASE rescue")
    daemon.sql(f"RESTORE TABLE bank.public.later FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', {PASSPHRASE}")
    assert source.value("SELECT count(*) FROM later", "rescue") == "500"
    # What the layers need is kept.
    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' WITH {PASSPHRASE}").dicts()
    assert [row["action"] for row in rows][:2] == ["deleted", "kept"], rows
    assert_valid(daemon, f" WITH {PASSPHRASE}")
    server = restore(lab, daemon, source, "first", moment=f" AS OF SYSTEM TIME {spelled(middle)}", options=f", {PASSPHRASE}")
    assert_holds(server, up_to(entries, middle))


@pytest.mark.parametrize("point", ["backup.after_lock", "backup.after_wal", "backup.before_manifest", "backup.after_manifest"])
def test_killed_it_goes_on_after_restart(lab, point):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1)
    entries = ledger(source)
    moment = entries[len(entries) // 2][1]
    wait_archived(daemon, source)
    daemon.restart(pause_point=f"{point}=kill")
    with pytest.raises(ConnectionError):
        daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)}")
    daemon.wait_killed()
    work(source, "meanwhile", clients=1, transfers=10)
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
    assert layers(daemon)[-1] == (moment, "incremental")
    assert_valid(daemon)
    assert_clean(daemon)
    server = restore(lab, daemon, source, "copy")
    assert_holds(server, up_to(entries, moment))


def test_paused_and_canceled(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    moment = ledger(source)[-1][1]
    wait_archived(daemon, source)
    daemon.restart(pause_point="backup.after_wal=pause")
    job = daemon.detached(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH detached")
    daemon.wait_job(job, "paused")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    assert unfinished_objects(daemon) == [] and len(layers(daemon)) == 1
    daemon.restart()
    job = daemon.detached(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH detached")
    daemon.wait_job(job)
    assert len(layers(daemon)) == 2


def test_a_future_that_was_left_is_not_added_to_the_chain(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    chosen = ledger(source)[-1][1]
    source.sql("SELECT pg_sleep(0.01)")
    work(source, "lost", clients=1, transfers=20)
    lost = ledger(source)[-5][1]
    wait_archived(daemon, source)
    source.sql("DROP DATABASE bank WITH (FORCE)")
    wait_archived(daemon, source)
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(chosen)}")
    wait_until(source.ready, 60, "the restored server answering")
    work(source, "new", clients=1, transfers=20)
    new = ledger(source)
    wait_archived(daemon, source, flushed(source))
    error = daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(lost)}")
    assert error.sqlstate == "55000" and "not in the history of timeline 2" in error.message
    assert unfinished_objects(daemon) == []
    # On the history that the server has, across the change of timelines.
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(new[-5][1])}")
    assert_valid(daemon)
    server = restore(lab, daemon, source, "copy")
    assert_holds(server, up_to(new, new[-5][1]))
    server.stop()
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    server = restore(lab, daemon, source, "next")
    assert_holds(server, new)


@pytest.mark.parametrize("suffix", [".wal", ".blocks"])
def test_wal_that_does_not_lead_there_makes_no_layer(lab, suffix):
    """Lost, or not what follows, between the statement and the manifest."""
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    for round_number in range(3):
        work(source, f"round {round_number}", clients=1, transfers=10)
        source.sql("SELECT pg_switch_wal()")
    work(source, "last", clients=1, transfers=10)
    moment = ledger(source)[-1][1]
    wait_archived(daemon, source)
    daemon.restart(pause_point="backup.after_wal=pause")
    job = daemon.detached(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH detached")
    daemon.wait_job(job, "paused")
    # The second of the whole segments behind the backup, with its map; or that map alone, exchanged for another one's.
    stored = sorted(path for path in daemon.files("archive") if path.startswith("wal/") and path.endswith(".wal"))
    root = daemon.collection("archive")
    segment, other = root / stored[-3], root / stored[-2]
    if suffix == ".wal":
        segment.unlink()
        segment.with_suffix(".blocks").unlink()
    else:
        segment.with_suffix(".blocks").write_bytes(other.with_suffix(".blocks").read_bytes())
    daemon.restart()
    daemon.sql(f"RESUME JOB {job}")
    row = daemon.wait_job(job, "failed")
    assert segment.name in row["error"] or "block map" in row["error"] or "does not lead" in row["error"], row
    assert unfinished_objects(daemon) == [] and len(layers(daemon)) == 1
