"""Tablespaces that only the WAL knows of: replay of CREATE TABLESPACE goes to the directory that the live server has."""
import shutil
import subprocess

import pytest

from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until
from harness.wire import SqlError
from .test_history import COLLECTION, ledger, make_ledger, spelled, work
from .test_wal_archive import wait_archived

FILL = "CREATE TABLE in_space (id int) TABLESPACE space; INSERT INTO in_space SELECT generate_series(1, 1000)"


def held_by(directory):
    return sorted((str(path), path.lstat().st_mtime_ns) for path in directory.rglob("*"))


def content(server):
    return digest(server, skip_unlogged=True, skip_sequences=True)


def refused(daemon, target, moment, options=""):
    as_of = f" AS OF SYSTEM TIME {moment}" if moment else ""
    error = daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}'{as_of} WITH data_directory = '{target}'{options}")
    assert not (target / "global" / "pg_control").exists()
    return error


def restore(lab, daemon, source, name, moment, options=""):
    target = lab.root / name
    as_of = f" AS OF SYSTEM TIME {moment}" if moment else ""
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'{as_of} WITH data_directory = '{target}'{options}")
    server = lab.adopt(Postgres(lab.directory(f"server-{name}", 0o755), version=source.version, data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    wait_until(lambda: server.value("SELECT pg_is_in_recovery()") == "f", 60, "the end of recovery")
    return server


def location(server, oid):
    return server.value(f"SELECT pg_tablespace_location({oid})")


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 15, 18])
def test_one_that_was_made_later_goes_where_it_is_mapped(lab, version):
    source = make_ledger(lab, version=version)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    space = lab.directory("space")
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    # In use, though there is nothing in it: what the copy wrote there would be among the live server's files.
    wait_archived(daemon, source)
    empty = source.value("SELECT clock_timestamp()")
    source.sql("SELECT pg_sleep(0.01)")
    work(source, "more", clients=1, transfers=5)
    wait_archived(daemon, source)
    error = refused(daemon, lab.root / "copy", f"'{empty}'")
    assert error.sqlstate == "55000" and "is another server's" in error.message, error
    source.sql(FILL, "bank")
    work(source, "last", clients=1, transfers=5)
    wait_archived(daemon, source)
    oid = source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'space'")
    moment, before, held = spelled(ledger(source)[-1][1]), content(source), held_by(space)
    error = refused(daemon, lab.root / "copy", moment)
    assert error.sqlstate == "55000" and "whose files replay would change" in error.message and str(space) in error.message, error
    assert f"tablespace_mapping = '{oid}=/new/path'" in error.hint
    error = refused(daemon, lab.root / "copy", moment, ", tablespace_mapping = '/nowhere=/other'")
    assert error.sqlstate == "22023" and '"/nowhere" in option tablespace_mapping is not in the backup' in error.message, error
    (lab.directory("taken") / "precious").write_text("somebody's")
    error = refused(daemon, lab.root / "copy", moment, f", tablespace_mapping = '{oid}={lab.root / 'taken'}'")
    assert error.sqlstate == "55000" and "exists but is not empty" in error.message, error
    for name, key in (("by oid", oid), ("by location", space)):
        place = lab.root / f"space {name}"
        server = restore(lab, daemon, source, name, moment, f", tablespace_mapping = '{key}={place}'")
        assert location(server, oid) == str(place)
        assert_same(before, content(server))
        server.amcheck()
        server.stop()
        assert list(place.glob("PG_*/*/*")) != []
    assert held_by(space) == held
    assert_same(before, content(source))


@pytest.mark.parametrize("point,said", [("backup.after_start", "backup started"), ("backup.after_copy", "planned ")])
def test_one_that_was_made_while_the_backup_ran(lab, point, said):
    """Of a restore beside the live server without AS OF: the WAL of the backup itself names the live directory."""
    source = make_ledger(lab)
    go = lab.root / "go"
    daemon = lab.holdfast(source, pause_point=f"{point}=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: said in daemon.log_text(), 60, said)
    source.sql("SELECT pg_sleep(2)")
    space = lab.directory("space")
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    source.sql(FILL, "bank")
    before = content(source)
    go.touch()
    daemon.wait_job(job)
    oid, held = source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'space'"), held_by(space)
    error = refused(daemon, lab.root / "copy", None)
    assert error.sqlstate == "55000" and f"tablespace_mapping = '{oid}=/new/path'" in error.hint, error
    place = lab.root / "elsewhere"
    server = restore(lab, daemon, source, "mapped", None, f", tablespace_mapping = '{oid}={place}'")
    assert location(server, oid) == str(place)
    assert_same(before, content(server))
    assert held_by(space) == held


def test_it_is_known_after_a_return_to_the_past_too(lab):
    """The new timeline's first segment begins with what replay had read: with the record as the restore had changed it."""
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    space, moved = lab.directory("space"), lab.root / "moved"
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    source.sql(FILL, "bank")
    work(source, "first", clients=1, transfers=5)
    oid, before, moment = (source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'space'"), content(source),
                           spelled(ledger(source)[-1][1]))
    wait_archived(daemon, source)
    source.sql("DROP DATABASE bank WITH (FORCE)")
    source.sql("DROP TABLESPACE space")
    wait_archived(daemon, source)
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment} WITH tablespace_mapping = '{oid}={moved}'")
    wait_until(source.ready, 60, "the restored server answering")
    assert location(source, oid) == str(moved) and list(space.iterdir()) == []
    assert_same(before, content(source))
    work(source, "new", clients=1, transfers=5)
    wait_archived(daemon, source)
    after, held, later = content(source), held_by(moved), spelled(ledger(source)[-1][1])
    # Its first place is free again; it is taken, for whenever the copy is started.
    server = restore(lab, daemon, source, "first place", later)
    assert location(server, oid) == str(space)
    assert_same(after, content(server))
    server.stop()
    other = lab.root / "other"
    server = restore(lab, daemon, source, "another", later, f", tablespace_mapping = '{space}={other}'")
    assert location(server, oid) == str(other)
    assert_same(after, content(server))
    assert held_by(moved) == held


def test_a_free_place_is_taken_until_a_server_is_started_there(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    space = lab.directory("space")
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    source.sql(FILL, "bank")
    work(source, "first", clients=1, transfers=5)
    before, moment = content(source), spelled(ledger(source)[-1][1])
    source.sql("DROP TABLE in_space", "bank")
    source.sql("DROP TABLESPACE space")
    wait_archived(daemon, source)
    # A restore that is canceled gives it back; one that was killed goes on with it.
    target = lab.root / "copy"
    statement = f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment} WITH data_directory = '{target}', detached"
    daemon.restart(pause_point="restore.after_recovery_files=pause@*")
    job = daemon.detached(statement)
    daemon.wait_job(job, "paused")
    assert [path.name[:3] for path in space.iterdir()] == ["PG_"]
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    assert list(space.iterdir()) == [] and not target.exists()
    daemon.restart(pause_point="restore.after_recovery_files=kill")
    with pytest.raises(ConnectionError):
        daemon.sql(statement.replace(", detached", ""))
    daemon.wait_killed()
    daemon.pause_point = None
    daemon.start()
    daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
    with pytest.raises(SqlError, match="already in use as a tablespace"):
        source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    server = lab.adopt(Postgres(lab.directory("server", 0o755), data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, content(server))


def test_a_layer_of_the_past_and_a_restore_that_is_killed(lab):
    source = make_ledger(lab)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    space, place, target = lab.directory("space"), lab.root / "place", lab.root / "copy"
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    source.sql(FILL, "bank")
    work(source, "first", clients=1, transfers=5)
    before, moment, held = content(source), spelled(ledger(source)[-1][1]), held_by(space)
    wait_archived(daemon, source)
    result = daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment} WITH revision_history")
    assert any('tablespace "space" was made after the layer' in text for _, text in result.notices), result.notices
    oid = source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'space'")
    statement = f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}', tablespace_mapping = '{oid}={place}'"
    for point in ("restore.after_create", "restore.after_recovery_files"):
        daemon.restart(pause_point=f"{point}=pause@*")
        job = daemon.detached(statement + ", detached")
        daemon.wait_job(job, "paused")
        assert place.exists()
        daemon.sql(f"CANCEL JOB {job}")
        daemon.wait_job(job, "canceled")
        assert not place.exists() and not target.exists()
        daemon.restart(pause_point=f"{point}=kill")
        with pytest.raises(ConnectionError):
            daemon.sql(statement)
        daemon.wait_killed()
        daemon.pause_point = None
        daemon.start()
        daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
        server = lab.adopt(Postgres(lab.directory(f"server {point}", 0o755), data=target))
        server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
        server.start()
        wait_until(server.ready, 60, "the restored server answering")
        assert location(server, oid) == str(place)
        assert_same(before, content(server))
        server.stop()
        shutil.rmtree(target)
        shutil.rmtree(place)
    assert held_by(space) == held


def test_one_location_of_two_tablespaces_one_after_the_other(lab):
    source = make_ledger(lab)
    space = lab.directory("space")
    source.sql(f"CREATE TABLESPACE first LOCATION '{space}'")
    source.sql("CREATE TABLE early TABLESPACE first AS SELECT generate_series(1, 500) AS id", "bank")
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    source.sql("DROP TABLE early", "bank")
    source.sql("DROP TABLESPACE first")
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    source.sql(FILL, "bank")
    work(source, "first", clients=1, transfers=5)
    oid = source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'space'")
    before, moment, held = content(source), spelled(ledger(source)[-1][1]), held_by(space)
    wait_archived(daemon, source)
    one, other = lab.root / "one", lab.root / "other"
    error = refused(daemon, lab.root / "copy", moment, f", tablespace_mapping = '{space}={one}'")
    assert error.sqlstate == "55000" and f"'{oid}=/new/path'" in error.hint, error
    server = restore(lab, daemon, source, "copy", moment, f", tablespace_mapping = '{oid}={other},{space}={one}'")
    assert location(server, oid) == str(other)
    assert_same(before, content(server))
    server.stop()
    daemon.sql(f"BACKUP INTO '{COLLECTION}' AS OF SYSTEM TIME {moment}")
    server = restore(lab, daemon, source, "of the full", None, f", tablespace_mapping = '{space}={lab.root / 'third'}'")
    assert location(server, oid) == str(lab.root / "third")
    assert_same(before, content(server))
    assert held_by(space) == held


def copy_collections(source, target):
    target.stop()
    shutil.rmtree(target.io)
    subprocess.run(["cp", "-a", source.io, target.io], check=True)
    target.start()


def test_another_server_keeps_its_tablespaces(lab):
    """A restore into an instance of the same host moves nothing away and shares nothing: neither of the backup's, nor of the WAL's."""
    owner = make_ledger(lab)
    space, later = lab.directory("space"), lab.directory("later")
    owner.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    owner.sql(FILL, "bank")
    keeper = lab.holdfast(owner)
    keeper.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    owner.sql(f"CREATE TABLESPACE later LOCATION '{later}'")
    work(owner, "more", clients=1, transfers=5)
    oid, before, moment = (owner.value("SELECT oid FROM pg_tablespace WHERE spcname = 'later'"), content(owner), spelled(ledger(owner)[-1][1]))
    wait_archived(keeper, owner)
    owner.sql("CHECKPOINT")
    held = held_by(space), held_by(later)
    server = lab.postgres(name="fresh")
    # What is restored is configured with the owner's port.
    control = f"{server.bin}/pg_ctl -D {server.data} -l {server.log} -w"
    daemon = lab.holdfast(server, name="restorer", arguments=[
        "--pg-stop-command", f"{control} -m fast stop",
        "--pg-start-command", f"{control} -o '-p {server.port} -k {server.sockets}' start"])
    copy_collections(keeper, daemon)
    statement = f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment}"
    mapped = f"{space}={lab.root / 'space here'}"

    def assert_refused():
        for options, place in (("", space), (f" WITH tablespace_mapping = '{mapped}'", later)):
            error = daemon.error(statement + options)
            assert error.sqlstate == "55000" and f'directory "{place}/PG_' in error.message and "tablespace_mapping" in error.hint, error
            assert (held_by(space), held_by(later)) == held
        return error
    assert f'The server that runs on "{owner.data}" has it' in assert_refused().detail
    owner.stop()
    assert "No link in" in assert_refused().detail
    owner.start()
    server.destroy()
    assert f'The server that runs on "{owner.data}" has it' in assert_refused().detail
    daemon.sql(f"{statement} WITH tablespace_mapping = '{mapped},{oid}={lab.root / 'later here'}'")
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, content(server))
    assert_same(before, content(owner))


def test_a_restore_that_is_taken_back_leaves_no_tablespace(lab):
    archived = lab.root / "archived"
    source = make_ledger(lab)
    source.stop()
    source.configure({"archive_mode": "on", "archive_command": f"'echo %f >>{archived}'"})
    source.start()
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    space, go = lab.directory("space"), lab.root / "go"
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    source.sql(FILL, "bank")
    work(source, "first", clients=1, transfers=5)
    before, moment = content(source), spelled(ledger(source)[-1][1])
    source.sql("DROP DATABASE bank WITH (FORCE)")
    source.sql("DROP TABLESPACE space")
    wait_archived(daemon, source)
    statement = f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment}"
    daemon.restart(pause_point=f"restore.after_start=stall:{go}")
    job = daemon.detached(f"{statement} WITH detached")
    wait_until(lambda: list(space.glob("PG_*/*/*")) and source.ready(), 60, "the restored server answering")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    wait_until(source.ready, 60, "the old server answering")
    # Somebody may have written to the server, which was up: what it had is kept, and in nobody's way.
    kept = list(space.iterdir())
    assert [".failed-restore-" in path.name for path in kept] == [True] and list(kept[0].glob("*/*")), kept
    assert len(list(source.root.glob("data.failed-restore-*"))) == 1, list(source.root.iterdir())
    # It is whoever's again: of the one that was there.
    source.sql(f"CREATE TABLESPACE other LOCATION '{space}'")
    daemon.restart()
    last = source.value("SELECT pg_walfile_name(pg_switch_wal())")
    wait_until(lambda: last in archived.read_text(), 60, "the WAL of the server that is replaced being archived")
    archived.write_text("")
    daemon.sql(statement)
    wait_until(source.ready, 60, "the restored server answering")
    assert location(source, source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'space'")) == str(space)
    assert_same(before, content(source))

    # What was laid out is not handed over: the archive has it, with other bytes where a record was changed.
    source.sql("CHECKPOINT")
    source.sql("SELECT txid_current(), pg_switch_wal()")
    source.sql("CHECKPOINT")
    wait_until(lambda: any(len(name) == 24 for name in archived.read_text().split()), 60, "a segment being archived")
    assert [name for name in archived.read_text().split() if name[:24] <= last] == []


def test_no_two_tablespaces_get_one_place(lab):
    """A mapping may not lead to where another tablespace is made behind the backup: both links would lead to the same files."""
    source = make_ledger(lab)
    space, later = lab.directory("space"), lab.directory("later")
    source.sql(f"CREATE TABLESPACE space LOCATION '{space}'")
    source.sql("CREATE TABLE early TABLESPACE space AS SELECT generate_series(1, 500) AS id", "bank")
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    source.sql(f"CREATE TABLESPACE later LOCATION '{later}'")
    work(source, "first", clients=1, transfers=5)
    oid = source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'later'")
    before, moment = content(source), spelled(ledger(source)[-1][1])
    wait_archived(daemon, source)
    source.sql("DROP TABLESPACE later")
    mapping = f"{space}={later}"
    error = refused(daemon, lab.root / "copy", moment, f", tablespace_mapping = '{mapping}'")
    assert error.sqlstate == "55000" and "where another tablespace is restored to" in error.message and f"'{oid}=/new/path" in error.hint, error
    assert list(later.iterdir()) == []
    server = restore(lab, daemon, source, "copy", moment, f", tablespace_mapping = '{mapping},{oid}={lab.root / 'apart'}'")
    assert location(server, oid) == str(lab.root / "apart")
    assert_same(before, content(server))
