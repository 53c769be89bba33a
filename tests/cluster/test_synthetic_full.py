"""BACKUP INTO … AS OF SYSTEM TIME: a full backup of the cluster as it was, out of a chain that has its history."""
import json
import random
import subprocess
from datetime import timedelta

import pytest

from cluster.test_backup_as_of import PASSPHRASE, up_to
from cluster.test_history import assert_holds, ledger, make_ledger, moments, spelled, time_of, work
from cluster.test_wal_archive import flushed, wait_archived
from faults.helpers import SYNTHETIC_POINTS, assert_clean, unfinished_objects
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until
from harness.sample import make_sample
from harness.small_disk import fill, small_disk

COLLECTION = "nodelocal://self/archive"


def workshops(daemon):
    root = daemon.store / "workshop"
    return sorted(root.iterdir()) if root.exists() else []


def manifests(daemon):
    return sum(path.endswith("BACKUP_MANIFEST") for path in daemon.files("archive"))


def take(daemon, moment, options=""):
    """Takes one and gives its subdirectory."""
    before = set(daemon.fulls("archive"))
    row = daemon.sql(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {moment}{options}").one()
    assert row["status"] == "succeeded"
    new = set(daemon.fulls("archive")) - before
    assert len(new) == 1, new
    assert workshops(daemon) == []
    assert_clean(daemon)
    return new.pop()


def lay_out(lab, daemon, source, subdirectory, name, moment="", options=""):
    target = lab.root / name
    daemon.sql(f"RESTORE FROM '{subdirectory}' IN '{COLLECTION}'{moment} WITH data_directory = '{target}'{options}")
    server = lab.adopt(Postgres(lab.directory(f"server-{name}", 0o755), version=source.version, data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    wait_until(lambda: server.value("SELECT pg_is_in_recovery()") == "f", 60, "the end of recovery")
    return server


def content(server):
    return digest(server, skip_unlogged=True, skip_sequences=True)


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 15, 18])
def test_it_has_what_was_there_and_is_a_full_like_any_other(lab, version):
    source = lab.postgres(version=version, conf={"max_prepared_transactions": "5", "track_commit_timestamp": "on"})
    space = lab.directory("space")
    make_sample(source, space)
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    source.sql("CREATE TABLE in_space TABLESPACE fast AS SELECT g AS id, md5(g::text) AS t FROM generate_series(1, 5000) g", "bank")
    source.sql("UPDATE accounts SET balance = balance + 1 WHERE id % 3 = 0", "bank")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    with source.connect("bank") as session:
        session.query("BEGIN")
        session.query("INSERT INTO in_space VALUES (-1, 'prepared')")
        session.query("PREPARE TRANSACTION 'kept'")
    source.sql("CHECKPOINT")
    source.sql("DELETE FROM accounts WHERE id % 5 = 0", "bank")
    source.sql("VACUUM FULL accounts", "bank")
    source.sql("CREATE DATABASE made_before")
    source.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id", "made_before")
    with source.connect("bank") as session:
        session.query("BEGIN")
        session.query("CREATE TABLE late AS SELECT generate_series(1, 100) AS id")
        session.query("PREPARE TRANSACTION 'late'")
    noted = content(source)
    moment = source.value("SELECT clock_timestamp()")
    # Everything that it must not have.
    source.sql("SELECT pg_sleep(0.01)")
    source.sql("COMMIT PREPARED 'kept'", "bank")
    source.sql("ROLLBACK PREPARED 'late'", "bank")
    source.sql("DROP DATABASE made_before")
    source.sql("UPDATE accounts SET balance = -1; TRUNCATE in_space; CREATE TABLE after_it (id int)", "bank")
    source.sql("CREATE ROLE later; CHECKPOINT")
    wait_archived(daemon, source)
    started = source.value("SELECT pg_postmaster_start_time()")

    synthetic = take(daemon, f"'{moment}'", " WITH revision_history")
    assert source.value("SELECT pg_postmaster_start_time()") == started
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    rows = daemon.sql(f"SHOW BACKUP FROM '{synthetic}' IN '{COLLECTION}' WITH check_files").dicts()
    assert {row["backup_type"] for row in rows} == {"full"}
    assert time_of(rows[0]["end_time"]) == time_of(moment)
    names = {row["object_name"] for row in rows}
    assert {"in_space", "made_before", "accounts"} <= names and not {"after_it", "late"} & names

    # Alone: the chain that it was made of goes.
    deleted = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'").dicts()
    assert [row["action"] for row in deleted][:2] == ["deleted", "kept"], deleted
    assert daemon.fulls("archive") == [synthetic]
    mapping = f", tablespace_mapping = '{space}={lab.root / 'space of the past'}'"
    server = lay_out(lab, daemon, source, synthetic, "past", options=mapping)
    assert_same(noted, content(server))
    assert server.value("SELECT string_agg(gid, ' ' ORDER BY gid) FROM pg_prepared_xacts") == "kept late"
    server.sql("COMMIT PREPARED 'kept'", "bank")
    assert server.value("SELECT t FROM in_space WHERE id = -1", "bank") == "prepared"
    server.sql("ROLLBACK PREPARED 'late'", "bank")
    server.amcheck()
    assert server.value("SELECT setting FROM pg_settings WHERE name = 'max_prepared_transactions'") == "5"
    assert server.value("SELECT count(*) FROM pg_settings WHERE name = 'recovery_target_action' AND setting = 'shutdown'") == "0"
    server.stop()
    daemon.sql(f"VERIFY BACKUP '{synthetic}' IN '{COLLECTION}'")

    # What is built on it: a layer of what changed since, and moments behind it.
    with source.connect("bank") as session:
        session.query("INSERT INTO in_space VALUES (-2, 'later')")
    source.sql("SELECT pg_sleep(0.01)")
    later, between = content(source), source.value("SELECT clock_timestamp()")
    source.sql("SELECT pg_sleep(0.01)")
    source.sql("INSERT INTO in_space SELECT g, 'last' FROM generate_series(1, 3000) g", "bank")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    layers = [json.loads(text) for (text,) in daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH as_json").rows]
    assert [layer.get("change_source") for layer in layers] == [None, "CHANGE_SOURCE_WAL"]
    mapping = f", tablespace_mapping = '{space}={lab.root / 'space of the last'}'"
    server = lay_out(lab, daemon, source, synthetic, "last", options=mapping)
    assert_same(content(source), content(server))
    server.amcheck()
    server.stop()
    mapping = f", tablespace_mapping = '{space}={lab.root / 'space between'}'"
    server = lay_out(lab, daemon, source, synthetic, "between", f" AS OF SYSTEM TIME '{between}'", mapping)
    assert_same(later, content(server))


def test_every_kind_of_moment_and_out_of_every_kind_of_layer(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    first = daemon.fulls("archive")[0]
    work(source, "first", clients=2, transfers=30)
    source.sql("SELECT pg_create_restore_point('halfway')")
    at_point = ledger(source)
    work(source, "second", clients=2, transfers=30)
    daemon.sql("CREATE MILESTONE 'stone' FOR bank")
    at_stone = ledger(source)
    work(source, "third", clients=2, transfers=30)
    at_lsn, lsn = ledger(source), source.value("SELECT pg_current_wal_lsn()")
    source.sql("CHECKPOINT")
    work(source, "fourth", clients=2, transfers=30)
    entries = ledger(source)
    wait_archived(daemon, source)
    middle = next(moments([entry for entry in entries if entry[1] > at_lsn[-1][1]], random.Random("4"), 1))
    # A WAL-only layer, and the end of a layer itself.
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(middle)} WITH revision_history")
    work(source, "fifth", clients=2, transfers=20)
    last = ledger(source)
    wait_archived(daemon, source)
    behind = next(moments(last[len(entries):], random.Random("5"), 1))
    for name, moment, expected in (
            ("point", "RESTORE POINT 'halfway'", at_point), ("stone", "MILESTONE 'stone'", at_stone), ("lsn", f"LSN '{lsn}'", at_lsn),
            ("end", spelled(middle), up_to(entries, middle)), ("behind", spelled(behind), up_to(last, behind))):
        subdirectory = take(daemon, moment)
        server = lay_out(lab, daemon, source, subdirectory, name)
        assert_holds(server, expected)
        server.stop()
        assert daemon.sql(f"SHOW BACKUP VALIDATE FROM '{subdirectory}' IN '{COLLECTION}'").rows == [["No problems found!"]]
    # Of the moment of the first full itself, and out of a synthetic one.
    end = daemon.sql(f"SHOW BACKUP FROM '{first}' IN '{COLLECTION}'").dicts()[0]["end_time"]
    server = lay_out(lab, daemon, source, take(daemon, f"'{end}'"), "start")
    assert_holds(server, [])
    server.stop()
    again = take(daemon, spelled(behind))
    server = lay_out(lab, daemon, source, again, "again")
    assert_holds(server, up_to(last, behind))
    # The newest state is LATEST, whatever was made last.
    take(daemon, "RESTORE POINT 'halfway'")
    assert daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'").dicts()[0]["end_time"] == \
        daemon.sql(f"SHOW BACKUP FROM '{again}' IN '{COLLECTION}'").dicts()[0]["end_time"]


def test_databases_and_tables_come_out_of_it(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    source.sql("CREATE DATABASE made_later")
    source.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id", "made_later")
    work(source, "first", clients=1, transfers=20)
    entries = ledger(source)
    source.sql("DROP DATABASE made_later")
    work(source, "second", clients=1, transfers=20)
    wait_archived(daemon, source)
    synthetic = take(daemon, spelled(entries[-1][1]))
    source.sql("CREATE DATABASE rescue")
    daemon.sql(f"RESTORE TABLE bank.public.ledger FROM '{synthetic}' IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert source.value("SELECT count(*) FROM ledger", "rescue") == str(len(entries))
    daemon.sql(f"RESTORE DATABASE made_later FROM '{synthetic}' IN '{COLLECTION}'")
    assert source.value("SELECT count(*) FROM t", "made_later") == "1000"
    rows = daemon.sql(f"SHOW BACKUP SCHEMAS FROM '{synthetic}' IN '{COLLECTION}'").dicts()
    assert any("noise" in (row.get("create_statement") or "") for row in rows)


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 15, 18])
def test_moments_that_end_with_a_checkpoint(lab, version):
    """Recovery that begins with the moment's last record, or right before it."""
    source = make_ledger(lab, version=version)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    expected = []
    for number, checkpoint in enumerate((source.stop, lambda: source.sql("CHECKPOINT"))):
        work(source, f"round {number}", clients=1, transfers=20)
        held = ledger(source)
        checkpoint()
        if not source.running():
            source.start()
        expected.append((source.value("SELECT checkpoint_lsn + 8 FROM pg_control_checkpoint()" if version > 13 else
                                      "SELECT (split_part(checkpoint_lsn::text, '/', 1) || '/' || "
                                      "upper(to_hex(('x' || lpad(split_part(checkpoint_lsn::text, '/', 2), 8, '0'))::bit(32)::int + 8)))"
                                      " FROM pg_control_checkpoint()"), held))
    work(source, "last", clients=1, transfers=20)
    wait_archived(daemon, source)
    for number, (lsn, held) in enumerate(expected):
        subdirectory = take(daemon, f"LSN '{lsn}'")
        manifest = json.loads(daemon.sql(f"SHOW BACKUP FROM '{subdirectory}' IN '{COLLECTION}' WITH as_json").rows[0][0])
        assert ("recovery_target" in manifest) == (number == 1), manifest.get("recovery_target")
        server = lay_out(lab, daemon, source, subdirectory, f"copy{number}")
        assert_holds(server, held)
        server.stop()


def test_what_nothing_covers_is_refused_before_anything_is_written(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    error = daemon.error(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME '-10s'")
    assert error.sqlstate == "58P01" and "no full backup" in error.message and "revision_history" in error.hint
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    source.sql("SELECT pg_sleep(0.5)")
    error = daemon.error(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME '-100ms'")
    assert error.sqlstate == "22023" and "no WAL behind a backup of this collection covers it" in error.message
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    entries = ledger(source)
    wait_archived(daemon, source)
    fulls = daemon.fulls("archive")
    for moment in (spelled(entries[0][1] - timedelta(days=100)), "LSN '0/10'", "LSN 'FFFF/0'"):
        error = daemon.error(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {moment}")
        assert error.sqlstate == "22023" and "do not cover requested time" in error.message, error
        assert "timeline 1" in error.detail and all(full in error.detail for full in fulls), error
    error = daemon.error(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME '2999-01-01 00:00:00'")
    assert error.sqlstate == "22023" and "cannot specify timestamp in the future" in error.message
    assert daemon.error(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME RESTORE POINT 'nowhere'").sqlstate == "42704"
    error = daemon.error(f"BACKUP DATABASE bank INTO '{COLLECTION}' AS OF SYSTEM TIME {spelled(entries[5][1])}")
    assert error.sqlstate == "0A000"
    assert daemon.fulls("archive") == fulls and workshops(daemon) == [] and unfinished_objects(daemon) == []


def test_in_a_collection_of_several_clusters_it_is_this_ones_past(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    entries = ledger(source)
    wait_archived(daemon, source)
    other = lab.postgres(name="other", checksums=False)  # of another initdb
    stranger = lab.holdfast(other, name="stranger")
    stranger.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    subprocess.run(["cp", "-a", f"{stranger.collection('archive')}/.", daemon.collection("archive")], check=True)
    subdirectory = take(daemon, spelled(entries[-3][1]))
    server = lay_out(lab, daemon, source, subdirectory, "copy")
    assert_holds(server, up_to(entries, entries[-3][1]))


def test_encrypted_with_a_chain_of_its_own_key(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history, {PASSPHRASE}")
    work(source, "first", clients=1)
    entries = ledger(source)
    wait_archived(daemon, source)
    middle = entries[30][1]
    for wrong in ("", " WITH encryption_passphrase = 'wrong'"):
        daemon.error(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {spelled(middle)}{wrong}")
    assert len(daemon.fulls("archive")) == 1 and unfinished_objects(daemon) == []
    subdirectory = take(daemon, spelled(middle), f" WITH {PASSPHRASE}, revision_history")
    assert (daemon.collection("archive") / subdirectory / "ENCRYPTION-INFO").exists()
    daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' WITH {PASSPHRASE}")
    assert daemon.fulls("archive") == [subdirectory]
    server = lay_out(lab, daemon, source, subdirectory, "middle", options=f", {PASSPHRASE}")
    assert_holds(server, up_to(entries, middle))
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH {PASSPHRASE}")
    server.stop()
    server = lay_out(lab, daemon, source, subdirectory, "now", options=f", {PASSPHRASE}")
    assert_holds(server, entries)
    assert "correct horse" not in daemon.log_text()


@pytest.mark.parametrize("point", SYNTHETIC_POINTS)
def test_killed_it_begins_again_after_restart(lab, point):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    first = daemon.fulls("archive")
    work(source, "first", clients=1)
    entries = ledger(source)
    moment = entries[len(entries) // 2][1]
    wait_archived(daemon, source)
    daemon.restart(pause_point=f"{point}=kill")
    with pytest.raises(ConnectionError):
        daemon.sql(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)}")
    daemon.wait_killed()
    if point not in ("backup.after_manifest", "backup.after_latest"):
        assert manifests(daemon) == 1
    work(source, "meanwhile", clients=1, transfers=10)
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
    (subdirectory,) = set(daemon.fulls("archive")) - set(first)
    assert_clean(daemon)
    assert workshops(daemon) == []
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM '{subdirectory}' IN '{COLLECTION}'").rows == [["No problems found!"]]
    server = lay_out(lab, daemon, source, subdirectory, "copy")
    assert_holds(server, up_to(entries, moment))


@pytest.mark.parametrize("point", ["backup.after_recovery", "backup.after_copy", "backup.after_catalog"])
def test_paused_and_resumed_or_canceled(lab, point):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    entries = ledger(source)
    moment = entries[-3][1]
    wait_archived(daemon, source)
    statement = f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH detached"
    before = daemon.files("archive")
    daemon.restart(pause_point=f"{point}=pause@*")
    job = daemon.detached(statement)
    daemon.wait_job(job, "paused")
    assert workshops(daemon) == []
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    left = [path for path in set(daemon.files("archive")) - set(before) if not path.startswith("wal/")]
    assert left == []
    job = daemon.detached(statement)
    daemon.wait_job(job, "paused")
    daemon.restart()
    daemon.sql(f"RESUME JOB {job}")
    daemon.wait_job(job)
    subdirectory = daemon.fulls("archive")[-1]
    server = lay_out(lab, daemon, source, subdirectory, "resumed")
    assert_holds(server, up_to(entries, moment))


def test_no_room_for_the_workshop(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source, start=False)
    with small_disk(lab.directory("small"), 256) as disk:
        daemon.store = disk
        daemon.start()
        daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
        work(source, "first", clients=1, transfers=20)
        moment = ledger(source)[-3][1]
        wait_archived(daemon, source)
        fulls = daemon.fulls("archive")
        fill(disk, 30 << 20)
        error = daemon.error(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)}")
        assert error.sqlstate == "53100" and "not enough free space" in error.message, error
        assert daemon.fulls("archive") == fulls and workshops(daemon) == [] and unfinished_objects(daemon) == []
        (disk / "ballast").unlink()
        take(daemon, spelled(moment))
        daemon.stop()


def test_a_history_that_the_server_has_left(lab):
    """What a layer of the chain cannot be: a full stands alone. No incremental can continue it."""
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    work(source, "first", clients=1, transfers=20)
    chosen = ledger(source)[-1][1]
    source.sql("SELECT pg_sleep(0.01)")
    work(source, "lost", clients=1, transfers=20)
    lost = ledger(source)
    source.sql("SELECT pg_switch_wal()")
    source.sql("INSERT INTO noise VALUES ('behind the switch')", "bank")
    wait_archived(daemon, source)
    source.sql("DROP DATABASE bank WITH (FORCE)")
    wait_archived(daemon, source)
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(chosen)}")
    wait_until(source.ready, 60, "the restored server answering")
    work(source, "new", clients=1, transfers=20)
    new = ledger(source)
    wait_archived(daemon, source, flushed(source))
    of_lost = take(daemon, spelled(lost[-5][1]))
    of_new = take(daemon, spelled(new[-5][1]))
    for name, subdirectory, expected in (("lost", of_lost, up_to(lost, lost[-5][1])), ("new", of_new, up_to(new, new[-5][1]))):
        server = lay_out(lab, daemon, source, subdirectory, name)
        assert_holds(server, expected)
        server.stop()
    error = daemon.error(f"BACKUP INTO '{of_lost}' IN '{COLLECTION}'")
    assert error.sqlstate == "55000" and "BACKUP INTO" in error.hint, error
    daemon.sql(f"BACKUP INTO '{of_new}' IN '{COLLECTION}'")
    server = lay_out(lab, daemon, source, of_new, "continued")
    assert_holds(server, new)


def test_configuration_from_outside_the_data_directory(lab):
    """As Debian has it; the settings of the last layer are what the full has."""
    source = make_ledger(lab)
    outside = lab.directory("etc", 0o755) / "pg_hba.conf"
    outside.write_text((source.data / "pg_hba.conf").read_text() + "# ours\n")
    source.configure({"hba_file": f"'{outside}'"})
    source.stop()
    source.start()
    daemon = lab.holdfast(source)
    source.sql("ALTER SYSTEM SET work_mem = '7MB'")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    auto_conf = (source.data / "postgresql.auto.conf").read_text()
    work(source, "first", clients=1, transfers=20)
    moment = ledger(source)[-3][1]
    wait_archived(daemon, source)
    subdirectory = take(daemon, spelled(moment))
    target = lab.root / "laid out"
    daemon.sql(f"RESTORE FROM '{subdirectory}' IN '{COLLECTION}' WITH data_directory = '{target}'")
    assert (target / "holdfast_external_config" / str(outside)[1:]).read_text() == outside.read_text()
    assert "work_mem = '7MB'" in (target / "postgresql.auto.conf").read_text()
    assert (target / "postgresql.auto.conf").read_text().startswith(auto_conf.rstrip("\n"))
    assert (target / "postgresql.conf").read_text() == (source.data / "postgresql.conf").read_text()


def test_wal_that_is_damaged_meanwhile_makes_no_backup(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    for number in range(3):
        work(source, f"round {number}", clients=1, transfers=10)
        source.sql("SELECT pg_switch_wal()")
    work(source, "last", clients=1, transfers=10)
    moment = ledger(source)[-2][1]
    wait_archived(daemon, source)
    daemon.restart(pause_point="backup.after_wal=pause")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH detached")
    daemon.wait_job(job, "paused")
    stored = sorted(path for path in daemon.files("archive") if path.startswith("wal/") and path.endswith(".wal"))
    segment = daemon.collection("archive") / stored[-3]
    whole = bytearray(segment.read_bytes())
    whole[len(whole) // 2] ^= 1
    segment.unlink()
    segment.write_bytes(whole)
    daemon.restart()
    daemon.sql(f"RESUME JOB {job}")
    row = daemon.wait_job(job, "failed")
    assert segment.name in row["error"], row
    assert len(daemon.fulls("archive")) == 1 and unfinished_objects(daemon) == [] and workshops(daemon) == []
