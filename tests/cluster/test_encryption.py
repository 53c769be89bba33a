"""Encrypted collections: the same comes back, nothing is readable without the key, and every change is noticed."""
import random

import pytest

from cluster.test_incremental import start_restored
from cluster.test_wal_archive import fetch, fetch_file, flushed, small_segments, wait_archived, work
from faults.helpers import assert_clean
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import wait_until

COLLECTION = "nodelocal://self/archive"
PASSPHRASE = "correct horse battery staple"
WITH = f"WITH encryption_passphrase = '{PASSPHRASE}'"
MARKER = "pineapple-4711-marker"
NEEDS_KEY = 'file appears encrypted -- try specifying one of "encryption_passphrase" or "kms"'


def fill(server):
    make_bank(server)
    server.sql(f"CREATE TABLE marked AS SELECT g AS id, '{MARKER} ' || g AS t FROM generate_series(1, 20000) g", "bank")


def containing(directory, *texts):
    """The files below a directory that hold one of the texts."""
    return [str(path) for path in directory.rglob("*") if path.is_file()
            and any(text.encode() in path.read_bytes() for text in texts)]


def restored(lab, source, daemon, name, source_text="LATEST", moment="", options=WITH):
    target = lab.root / name
    daemon.sql(f"RESTORE FROM {source_text} IN '{COLLECTION}'{moment} {options}, data_directory = '{target}'")
    server = start_restored(lab, source, target)
    result = digest(server, skip_unlogged=True)
    server.amcheck()
    server.stop()
    return result


def test_chain_comes_back_and_nothing_is_readable(lab):
    source = lab.postgres()
    fill(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}' {WITH}")
    at_first = digest(source, skip_unlogged=True)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}, compression = 'none'")
    source.sql(f"UPDATE marked SET t = '{MARKER} again' WHERE id % 100 = 0; CREATE TABLE later AS SELECT '{MARKER}' AS t", "bank")
    before = digest(source, skip_unlogged=True)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' {WITH}, compression = 'none'")
    wait_archived(daemon, source)

    # The archive packs WAL, so look at what is not packed: nothing is a pack, a manifest or a block map any more.
    clear = {path for path in daemon.files("archive")
             if not (daemon.collection("archive") / path).read_bytes().startswith(b"HFSEAL\r\n")}
    names = {path.rsplit("/", 1)[-1].split("-")[0] for path in clear}
    assert names == {"ENCRYPTION", "LATEST", "ARCHIVE"}, clear
    assert containing(daemon.collection("archive"), MARKER, "HFPACK", "customers") == []
    assert containing(daemon.store, PASSPHRASE, MARKER) == []
    assert PASSPHRASE not in daemon.log_text()
    jobs = str([daemon.sql(f"SHOW JOB {job['job_id']}").one() for job in daemon.jobs()])
    history = str(daemon.sql("SELECT * FROM information_schema.mv_backup_history").rows)
    assert PASSPHRASE not in jobs + history and "encryption_passphrase = '*****'" in jobs

    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' {WITH}, check_files")
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}' {WITH}").rows == [["No problems found!"]]
    layers = daemon.sql(f"SELECT DISTINCT end_time FROM [SHOW BACKUP FROM LATEST IN '{COLLECTION}' {WITH}] ORDER BY 1").rows
    assert len(layers) == 2
    assert_same(before, restored(lab, source, daemon, "target"))
    assert_same(at_first, restored(lab, source, daemon, "first", moment=f" AS OF SYSTEM TIME '{layers[0][0]}'"))

    # One table, and the whole cluster, from an empty store: the passphrase is all that is needed.
    daemon.sql(f"RESTORE TABLE bank.marked FROM LATEST IN '{COLLECTION}' {WITH}, new_table_name = 'copied'")
    assert source.value(f"SELECT count(*) FROM copied WHERE t LIKE '{MARKER}%'", "bank") == "20000"
    source.destroy()
    other = lab.holdfast(source, name="other", start=False)
    daemon.stop()
    other.io = daemon.io
    other.start()
    assert other.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' {WITH}").one()["status"] == "succeeded"
    assert_same(before, digest(source, skip_unlogged=True))


def test_wrong_missing_and_superfluous_keys(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    plain = "nodelocal://self/plain"
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}")
    daemon.sql(f"BACKUP INTO '{plain}'")
    full, = daemon.fulls("archive")
    files = daemon.files("archive")
    target = lab.root / "target"

    wrong = "WITH encryption_passphrase = 'wrong'"
    for statement in (f"RESTORE FROM LATEST IN '{COLLECTION}' {{}} data_directory = '{target}'",
                      f"RESTORE TABLE bank.customers FROM LATEST IN '{COLLECTION}' {{}} new_table_name = 'c'",
                      f"SHOW BACKUP FROM '{full}' IN '{COLLECTION}' {{}} check_files",
                      f"BACKUP INTO LATEST IN '{COLLECTION}' {{}} detached"):
        assert "failed to decrypt" in daemon.error(statement.format(wrong + ",")).message
        error = daemon.error(statement.format("WITH"))
        assert error.message == NEEDS_KEY and full in error.detail
    # A new full would share the WAL.
    assert "failed to decrypt" in daemon.error(f"BACKUP INTO '{COLLECTION}' {wrong}").message
    error = daemon.error(f"BACKUP INTO '{COLLECTION}'")
    assert error.message.startswith("cannot mix encrypted and plain WAL") and "collection of their own" in error.hint
    error = daemon.error(f"BACKUP INTO '{plain}' {WITH}")
    assert error.message.startswith("cannot mix encrypted and plain WAL") and "collection of their own" in error.hint
    for statement in ("RESTORE FROM LATEST IN '{}' {}", "SHOW BACKUP FROM LATEST IN '{}' {}", "BACKUP INTO LATEST IN '{}' {}"):
        error = daemon.error(statement.format(plain, WITH))
        assert error.message.startswith("could not find or read encryption information")
    assert daemon.error(f"BACKUP INTO '{COLLECTION}' WITH encryption_passphrase = ''").message == \
        "encryption_passphrase must not be empty"
    assert daemon.error(f"CREATE WAL ARCHIVE IN '{COLLECTION}'").message.startswith("cannot mix")
    assert daemon.error(f"CREATE WAL ARCHIVE IN '{plain}' {WITH}").message.startswith("cannot mix")

    # The names need no key; nothing was written.
    assert daemon.sql(f"SHOW BACKUPS IN '{COLLECTION}'").rows == [["/" + full]]
    assert [f for f in daemon.files("archive") if "/0000" not in f] == [f for f in files if "/0000" not in f]
    assert not target.exists()
    # A collection that was emptied while its archive runs.
    for path in sorted(daemon.collection("archive").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    error = daemon.error(f"BACKUP INTO '{COLLECTION}' {WITH}")
    assert "DROP WAL ARCHIVE" in error.hint, error
    daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' {WITH}")


def test_every_damage_is_found_and_named(lab):
    source = lab.postgres()
    fill(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}, protect = false")
    source.sql("UPDATE marked SET t = 'x'", "bank")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' {WITH}, protect = false")
    root = daemon.collection("archive")
    sealed = sorted(path for path in root.rglob("*") if path.is_file() and path.read_bytes().startswith(b"HFSEAL"))
    kinds = {}
    for path in sealed:
        kinds.setdefault(path.suffix, []).append(path)
    assert {".pack", ".wal", ""} <= set(kinds)
    chance = random.Random(4711)

    def assert_found(path, backup="LATEST"):
        name = str(path.relative_to(root))
        validate = daemon.sql(f"SHOW BACKUP VALIDATE FROM {backup} IN '{COLLECTION}' {WITH}").rows[0][0] \
            if not name.endswith("BACKUP_MANIFEST") else \
            daemon.error(f"SHOW BACKUP VALIDATE FROM {backup} IN '{COLLECTION}' {WITH}").message
        assert name in validate and "No problems" not in validate, validate
        if chance.random() < 0.2:
            error = daemon.error(f"RESTORE FROM {backup} IN '{COLLECTION}' {WITH}, data_directory = '{lab.root / 'no'}'")
            assert name in error.message + error.detail, error

    for paths in kinds.values():
        paths = [path for path in paths if "progress" not in str(path)]
        path = chance.choice(paths)
        whole = path.read_bytes()
        for _ in range(4):
            position = chance.randrange(len(whole))
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << chance.randrange(8)]) + whole[position + 1:])
            assert_found(path)
        for size in (0, 50, 64, len(whole) - 1, len(whole) // 2):
            path.write_bytes(whole[:size])
            assert_found(path)
        others = [other for other in paths if other != path]
        if others:
            path.write_bytes(chance.choice(others).read_bytes())
            assert_found(path)
        path.write_bytes(whole)

    # Every object, once; and each in the place of the one of the same name in a chain of the same passphrase.
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}, protect = false")
    first, second = sorted(daemon.fulls("archive"))
    for path in sealed:
        if "progress" in str(path):
            continue
        whole = path.read_bytes()
        position = chance.randrange(len(whole))
        damages = [whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1:]]
        twin = root / str(path.relative_to(root)).replace(first, second)
        if twin != path and twin.exists():
            damages.append(twin.read_bytes())
        for damaged in damages:
            path.write_bytes(damaged)
            assert_found(path, f"'{first}'")
        path.write_bytes(whole)
    for path in root.rglob("ENCRYPTION-INFO"):
        if first not in str(path):
            continue
        whole = path.read_bytes()
        for damaged in (whole[:-1], whole[:60] + bytes([whole[60] ^ 1]) + whole[61:], (root / second / path.name).read_bytes()):
            path.write_bytes(damaged)
            assert daemon.error(f"RESTORE FROM '{first}' IN '{COLLECTION}' {WITH}, data_directory = '{lab.root / 'no'}'").message
            assert not (lab.root / "no").exists()
        path.write_bytes(whole)
    for backup in (first, second):
        assert daemon.sql(f"SHOW BACKUP VALIDATE FROM '{backup}' IN '{COLLECTION}' {WITH}").rows == [["No problems found!"]]


@pytest.mark.parametrize("point", ["backup.after_lock", "backup.copy", "backup.after_wal", "backup.after_manifest"])
def test_killed_encrypted_backup_goes_on(lab, point):
    source = lab.postgres()
    fill(source)
    daemon = lab.holdfast(source, pause_point=f"{point}=kill")
    try:
        daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}, workers = 1, compression = 'none'")
        raise AssertionError(f"{point} was not reached")
    except ConnectionError:
        daemon.wait_killed()
    assert containing(daemon.store, PASSPHRASE) == []
    before = digest(source)
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}' {WITH}").rows == [["No problems found!"]]
    assert_clean(daemon)
    assert_same(before, restored(lab, source, daemon, "target"))


@pytest.mark.parametrize("point", ["backup.after_plan", "backup.copy", "backup.before_manifest"])
def test_killed_encrypted_incremental_goes_on(lab, point):
    source = lab.postgres()
    fill(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}")
    source.sql("UPDATE marked SET t = 'changed' WHERE id % 500 = 0", "bank")
    daemon.restart(pause_point=f"{point}=kill")
    try:
        daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' {WITH}, workers = 1")
        raise AssertionError(f"{point} was not reached")
    except ConnectionError:
        daemon.wait_killed()
    before = digest(source)
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}' {WITH}").rows == [["No problems found!"]]
    assert_clean(daemon)
    assert_same(before, restored(lab, source, daemon, "target"))


def test_cancelled_encrypted_backup_leaves_only_the_key_of_the_wal(lab):
    source = lab.postgres()
    fill(source)
    daemon = lab.holdfast(source, pause_point=f"backup.after_wal=stall:{lab.root / 'go'}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' {WITH}, detached")
    wait_until(lambda: any(f.endswith(".wal") for f in daemon.files("archive")), 60, "the backup has put WAL")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    assert [f.rsplit("/", 1)[-1] for f in daemon.files("archive")] == ["ENCRYPTION-INFO"]


def test_schedule_keeps_the_passphrase_sealed(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    rows = daemon.sql(f"CREATE SCHEDULE hourly FOR BACKUP INTO '{COLLECTION}' {WITH} RECURRING '@hourly' "
                      "WITH SCHEDULE OPTIONS first_run = 'now'").dicts()
    assert "encryption_passphrase = '*****'" in rows[0]["backup_stmt"]

    def succeeded(schedule, count):
        jobs = daemon.sql(f"SHOW JOBS FOR SCHEDULE {schedule}").dicts()
        assert not any(job["status"] == "failed" for job in jobs), jobs
        return len(jobs) == count and all(job["status"] == "succeeded" for job in jobs)
    incremental, full = (int(row["schedule_id"]) for row in rows)
    wait_until(lambda: succeeded(full, 1), 60, "the first full")
    wait_until(lambda: daemon.sql(f"SHOW SCHEDULE {incremental}").one()["schedule_status"] == "ACTIVE", 60, "the incremental")
    daemon.sql(f"ALTER BACKUP SCHEDULE {incremental} EXECUTE IMMEDIATELY")
    wait_until(lambda: succeeded(incremental, 1), 60, "the incremental")
    assert containing(daemon.store, PASSPHRASE) == []
    assert PASSPHRASE not in daemon.log_text() + str(daemon.sql("SHOW SCHEDULES").rows)
    assert "failed to decrypt" in daemon.error(f"ALTER BACKUP SCHEDULE {full} SET WITH encryption_passphrase = 'other'").message
    error = daemon.error(f"ALTER BACKUP SCHEDULE {full} SET WITH encryption_passphrase = ''")
    assert "cannot mix encrypted and plain WAL" in error.message
    assert_same(digest(source), restored(lab, source, daemon, "target"))


def test_wal_fetch_opens_encrypted_wal(lab):
    server = small_segments(lab)
    server.sql("CREATE TABLE t (id int, v text)")
    daemon = lab.holdfast(server)
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}' {WITH}")
    begin = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    work(server)
    wait_archived(daemon, server, flushed(server))
    segments = sorted(path.name[:24] for path in daemon.collection("archive").rglob("*.wal"))
    wanted = segments[segments.index(begin) + 1]
    out = lab.directory("out") / "f"
    config = fetch_file(daemon, server, lab)
    assert fetch(config, wanted, out) == 126
    text = config.read_text()
    config.write_text(text + "encryption-passphrase=wrong\n")
    assert fetch(config, wanted, out) == 126 and not out.exists()
    config.write_text(text + f"encryption-passphrase={PASSPHRASE}\n")
    assert fetch(config, wanted, out) == 0
    original = server.data / "pg_wal" / wanted
    assert not original.exists() or out.read_bytes() == original.read_bytes()
    assert len(out.read_bytes()) == 1 << 20
    assert fetch(config, "00000009.history", out) == 1


def test_moments_and_deletion_of_encrypted_chains(lab):
    source = lab.postgres()
    fill(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}, revision_history")
    source.sql(f"CREATE TABLE between AS SELECT '{MARKER}' AS t", "bank")
    moment, before = source.value("SELECT now()"), digest(source, skip_unlogged=True)
    source.sql("SELECT pg_sleep(0.01)")
    source.sql("DROP TABLE marked", "bank")
    wait_archived(daemon, source)
    assert len(daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}' {WITH}").rows) == 1
    assert_same(before, restored(lab, source, daemon, "moment", moment=f" AS OF SYSTEM TIME '{moment}'"))
    assert containing(daemon.collection("archive"), MARKER) == []

    # What cannot be read is not deleted.
    first, = daemon.fulls("archive")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}")
    for key, word in (("", "encrypted"), ("encryption_passphrase = 'wrong'", "encrypted")):
        rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' {'WITH ' + key if key else ''}").dicts()
        assert {row["action"] for row in rows} == {"kept"} and all(word in row["reason"] for row in rows), rows
    daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' {WITH}, dry_run")
    assert len(daemon.fulls("archive")) == 2
    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' {WITH}").dicts()
    assert "deleted" in {row["action"] for row in rows}, rows
    assert first not in daemon.fulls("archive") and len(daemon.fulls("archive")) == 1
    assert not [path for path in daemon.files("archive") if first in path]
    after = digest(source, skip_unlogged=True)
    assert_same(after, restored(lab, source, daemon, "last"))


def test_another_passphrase_is_let_in(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH}")
    before = {path: (daemon.collection("archive") / path).read_bytes() for path in daemon.files("archive") if "ENCRYPTION-INFO" in path}
    alter = f"ALTER BACKUP LATEST IN '{COLLECTION}' ADD NEW_PASSPHRASE = '%s' WITH OLD_PASSPHRASE = '%s'"
    new = "a later and longer phrase"
    error = daemon.error(alter % (new, "not it"))
    assert (error.sqlstate, error.message) == ("22023", "failed to decrypt — maybe incorrect key"), error
    assert daemon.error(alter % ("", PASSPHRASE)).sqlstate == "22023"
    assert daemon.sql(alter % (new, PASSPHRASE)).tag == "ALTER BACKUP"
    infos = [path for path in daemon.files("archive") if "ENCRYPTION-INFO" in path]
    assert sum(path.endswith("/ENCRYPTION-INFO-2") for path in infos) == 2, infos
    for path, content in before.items():
        assert (daemon.collection("archive") / path).read_bytes() == content, f"{path} was overwritten"

    # The new one does everything, the old one still opens what it opened.
    opened = f"WITH encryption_passphrase = '{new}'"
    source.sql("INSERT INTO customers VALUES (-1, 'later', 'later', now())", "bank")
    expected = digest(source, skip_unlogged=True)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' {opened}")
    assert_same(expected, restored(lab, source, daemon, "new", options=opened))
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' {WITH}, check_files")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {opened}")
    assert "failed to decrypt" in daemon.error(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' {WITH}").message
    shown = daemon.log_text() + str([daemon.sql(f"SHOW JOB {job['job_id']}").one() for job in daemon.jobs()])
    assert new not in shown and PASSPHRASE not in shown
    assert containing(daemon.store, new, PASSPHRASE) == []
