"""Back up a whole cluster, bring it back, compare everything."""
import pytest

from harness import environment as env
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import ALL_VERSIONS, Postgres, wait_until
from harness.sample import make_sample
from harness.standby import make_standby, wait_replayed

COLLECTION = "nodelocal://self/archive"


def back_up(daemon, options=""):
    row = daemon.sql(f"BACKUP INTO '{COLLECTION}'{options}").one()
    assert row["status"] == "succeeded"
    return row


def restore_here(daemon):
    row = daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'").one()
    assert row["status"] == "succeeded"
    return row


def start_restored(lab, source, directory, port=None):
    """Starts PostgreSQL on a directory that RESTORE laid out, with ports of its own."""
    root = lab.directory(f"server-{directory.name}", 0o755)
    server = lab.adopt(Postgres(root, version=source.version, data=directory))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert server.value("SELECT pg_is_in_recovery()") == "f"
    return server


@pytest.mark.versions
@pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "plain"])
@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_destroyed_data_directory_comes_back(lab, version, checksums):
    source = lab.postgres(version=version, checksums=checksums)
    make_sample(source, lab.directory("space"))
    make_bank(source)
    daemon = lab.holdfast(source)
    before = digest(source, skip_unlogged=True)
    back_up(daemon)

    source.destroy()
    restore_here(daemon)

    assert source.value("SELECT pg_is_in_recovery()") == "f"
    assert_same(before, digest(source, skip_unlogged=True))
    assert source.value("SELECT count(*) FROM unlogged_table", "Mixed Case") == "0"
    source.amcheck()
    # The restored server is backed up like any other.
    back_up(daemon)


@pytest.mark.versions
@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_layout_in_another_directory(lab, version):
    source = lab.postgres(version=version)
    space = lab.directory("space")
    make_sample(source, space)
    daemon = lab.holdfast(source)
    before = digest(source, skip_unlogged=True)
    back_up(daemon, " WITH compression = 'lz4'")

    target, other_space = lab.root / "target", lab.root / "other space"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}', "
               f"tablespace_mapping = '{space}={other_space}'")
    restored = start_restored(lab, source, target)

    # Nothing of its recovery is left that a standby made of it would obey, too.
    assert "recovery_target" not in (target / "postgresql.auto.conf").read_text()
    assert restored.value("SELECT count(*) FROM pg_file_settings WHERE name = 'hot_standby' OR name LIKE 'recovery%' OR name LIKE 'restore%'") == "0"

    assert_same(before, digest(restored, skip_unlogged=True))
    location = restored.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'")
    assert location == str(other_space)
    restored.amcheck()
    # The source went on undisturbed.
    assert_same(before, digest(source, skip_unlogged=True))


def test_a_standby_of_a_restored_server_follows_it(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    back_up(daemon)
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    restored = start_restored(lab, source, target)
    standby = make_standby(lab, restored)
    restored.sql("CREATE TABLE later AS SELECT 7 AS id", "bank")
    wait_replayed(standby, restored)
    assert standby.value("SELECT pg_is_in_recovery()") == "t"
    assert standby.value("SELECT id FROM later", "bank") == "7"


def test_each_codec_restores_the_same(lab):
    source = lab.postgres()
    make_sample(source)
    daemon = lab.holdfast(source)
    before = digest(source, skip_unlogged=True)
    for number, codec in enumerate(("zstd:1", "zstd:9", "lz4", "none")):
        back_up(daemon, f" WITH compression = '{codec}'")
        target = lab.root / f"target{number}"
        daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
        restored = start_restored(lab, source, target)
        assert_same(before, digest(restored, skip_unlogged=True))
        restored.stop()


def test_older_backup_restores_its_own_moment(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    before = digest(source)
    back_up(daemon)
    source.sql("DELETE FROM accounts; DROP VIEW rich; CREATE TABLE later (id int)", "bank")
    back_up(daemon)
    first, second = daemon.fulls("archive")

    daemon.sql(f"RESTORE FROM '{first}' IN '{COLLECTION}' WITH data_directory = '{lab.root / 'one'}'")
    daemon.sql(f"RESTORE FROM '/{second}' IN '{COLLECTION}' WITH data_directory = '{lab.root / 'two'}'")
    assert_same(before, digest(start_restored(lab, source, lab.root / "one")))
    assert_same(digest(source), digest(start_restored(lab, source, lab.root / "two")))


def test_changes_while_the_backup_runs_are_in_it(lab):
    """The end of a backup is its moment: what was committed before it is restored."""
    source = lab.postgres()
    make_bank(source)
    go = lab.root / "go"
    daemon = lab.holdfast(source, pause_point=f"backup.copy=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "stall" in daemon.log_text() or "copy" in (daemon.job(job)["running_status"] or ""), 60)
    source.sql("UPDATE accounts SET balance = balance + 1; CREATE TABLE during AS SELECT generate_series(1, 10000) AS id; "
               "DROP TABLE IF EXISTS nothing; TRUNCATE TABLE during; INSERT INTO during VALUES (1)", "bank")
    source.sql("CREATE DATABASE made_during")
    before = digest(source)
    go.touch()
    daemon.wait_job(job)
    source.destroy()
    restore_here(daemon)
    assert_same(before, digest(source))


def test_previous_directory_is_kept(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    back_up(daemon)
    source.sql("DROP DATABASE bank")
    (source.data / "a_file_of_mine").write_text("keep me")
    restore_here(daemon)

    assert source.value("SELECT count(*) FROM accounts", "bank") == "2000"
    kept = [path for path in source.root.iterdir() if path.is_dir() and (path / "a_file_of_mine").exists()]
    assert len(kept) == 1 and kept[0] != source.data, list(source.root.iterdir())
    assert (kept[0] / "global/pg_control").exists()


def test_a_restored_server_that_asks_for_a_password_stays(lab):
    """The restored pg_hba.conf wants a password that the daemon does not have: nothing is wrong with the server, which others can use."""
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    before = digest(source)
    rules = (source.data / "pg_hba.conf").read_text()
    # The server that runs has not read it; the backup has it.
    (source.data / "pg_hba.conf").write_text("local all all scram-sha-256\n")
    back_up(daemon)
    source.destroy()
    result = daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    assert result.one()["status"] == "succeeded"
    assert any("cannot log in" in notice for _, notice in result.notices), result.notices
    (source.data / "pg_hba.conf").write_text(rules)
    env.run(source.bin / "pg_ctl", "-D", source.data, "reload")
    wait_until(source.ready, 60, "the restored server letting us in")
    assert source.value("SELECT pg_is_in_recovery()") == "f"
    assert_same(before, digest(source))


def test_refuses_an_instance_with_user_objects(lab):
    source = lab.postgres()
    daemon = lab.holdfast(source)
    back_up(daemon)
    source.sql("CREATE DATABASE shop")
    source.sql("CREATE TABLE in_postgres (id int)")
    error = daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    assert error.message.startswith(
        "full cluster restore can only be run on a cluster with no tables or databases but found 2 "), error.message
    assert "shop" in error.message and "in_postgres" in error.message
    assert source.value("SELECT count(*) FROM in_postgres") == "0"

    source.sql("DROP DATABASE shop")
    source.sql("DROP TABLE in_postgres")
    restore_here(daemon)


def test_restore_into_a_new_host_with_an_empty_store(lab):
    """The collection alone is enough: other daemon, empty store, empty PGDATA."""
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    before = digest(source)
    back_up(daemon)
    daemon.stop()
    source.destroy()

    other = lab.holdfast(source, name="other", start=False)
    other.io.rmdir()
    daemon.io.rename(other.io)
    other.start()
    assert len(other.fulls("archive")) == 1
    restore_here(other)
    assert_same(before, digest(source))


def test_configuration_files_outside_the_data_directory(lab):
    """Debian keeps postgresql.conf, pg_hba.conf and pg_ident.conf in /etc: they are taken along and laid beside."""
    source = lab.postgres(start=False)
    etc = lab.directory("etc")
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        (source.data / name).rename(etc / name)
    with open(etc / "postgresql.conf", "a", encoding="utf-8") as file:
        file.write(f"data_directory = '{source.data}'\nhba_file = '{etc}/pg_hba.conf'\nident_file = '{etc}/pg_ident.conf'\n"
                   "work_mem = '7MB'\n")
    env.run(source.bin / "pg_ctl", "-D", etc, "-l", source.log, "-w", "start")
    make_bank(source)
    daemon = lab.holdfast(source)
    back_up(daemon)

    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    found = {path.name: path for path in target.rglob("*.conf")}
    assert {"postgresql.conf", "pg_hba.conf", "pg_ident.conf"} <= found.keys(), found
    assert "work_mem = '7MB'" in found["postgresql.conf"].read_text()


def test_a_later_daemon_knows_where_the_configuration_is(lab):
    """With PGDATA, postmaster.opts is lost: a daemon that never saw the server starts it as an earlier one did."""
    source = lab.postgres(start=False)
    etc = lab.directory("etc", 0o755)
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        (source.data / name).rename(etc / name)
    with open(etc / "postgresql.conf", "a", encoding="utf-8") as file:
        file.write(f"hba_file = '{etc}/pg_hba.conf'\nident_file = '{etc}/pg_ident.conf'\nwork_mem = '7MB'\n")
    env.run(source.bin / "pg_ctl", "-D", source.data, "-o", f"-c config_file={etc}/postgresql.conf", "-l", source.log, "-w", "start")
    make_bank(source)
    daemon = lab.holdfast(source)
    before = digest(source)
    back_up(daemon)
    daemon.stop()
    source.destroy()
    daemon.start()
    restore_here(daemon)
    assert source.value("SHOW work_mem") == "7MB"
    assert_same(before, digest(source))


def test_reports_rows_and_progress(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    row = back_up(daemon)
    assert row["fraction_completed"] == "1"
    assert int(row["rows"]) >= 3000
    job = daemon.sql(f"SHOW JOB {row['job_id']}").one()
    assert (job["status"], job["job_type"], job["fraction_completed"]) == ("succeeded", "BACKUP", "1")
    assert job["error"] in (None, "")


def test_standby_as_source(lab):
    """A backup may be taken from a standby; it restores to a server of its own."""
    primary = lab.postgres("primary")
    make_bank(primary)
    data = lab.root / "standby-data"
    env.run(primary.bin / "pg_basebackup", "-h", primary.sockets, "-p", primary.port, "-U", "postgres", "-D", data, "-R",
            "-c", "fast", "-X", "stream")
    standby = lab.adopt(Postgres(lab.directory("standby", 0o755), data=data))
    standby.configure({"port": standby.port, "unix_socket_directories": f"'{standby.sockets}'"})
    standby.start()
    daemon = lab.holdfast(standby)
    before = digest(primary)
    lsn = primary.value("SELECT pg_current_wal_lsn()")
    wait_until(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") == "t", 60)
    # The WAL up to the backup's end comes when the primary has finished that segment: nobody but the primary can end one.
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "waiting for the primary" in daemon.log_text(), 60, "the backup waiting for the primary")
    primary.sql("CREATE TABLE after_the_backup (id int)")
    primary.sql("SELECT pg_switch_wal()")
    daemon.wait_job(job)
    # pg_backup_stop on the standby was before that table.
    primary.sql("DROP TABLE after_the_backup")
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    assert_same(before, digest(start_restored(lab, standby, target)))
