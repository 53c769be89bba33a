"""Milestones: CREATE MILESTONE answers when the archive holds it; RESTORE … AT MILESTONE has exactly what was committed before it."""
import threading
import time

import pytest

from cluster.test_incremental import start_restored
from harness import environment as env
from harness.bank import make_bank
from harness.daemon import Holdfast
from harness.digest import assert_same, digest
from harness.postgres import wait_until
from harness.wire import SqlError

COLLECTION = "nodelocal://self/archive"
WITH_KEY = "WITH encryption_passphrase = 'correct horse'"


def restored(lab, source, daemon, name, moment, options="", collection=COLLECTION):
    target = lab.root / name
    daemon.sql(f"RESTORE FROM LATEST IN '{collection}' {moment} WITH {options}data_directory = '{target}'")
    server = start_restored(lab, source, target)
    result = digest(server, skip_sequences=True)
    server.amcheck()
    server.stop()
    return result


def state(server):
    return digest(server, skip_sequences=True)


def change(server, round_):
    server.sql(f"UPDATE accounts SET balance = balance + {round_}; CREATE TABLE round_{round_} AS SELECT {round_} AS r", "bank")


def new_host(lab, source, daemon, name="other"):
    """A daemon with an empty store that sees the same collections."""
    other = lab.adopt(Holdfast(source, lab.directory(name, 0o755)))
    other.io = daemon.io
    return other.start()


def test_cluster_database_and_table_at_a_milestone(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    change(source, 1)
    first = state(source)
    balances = "SELECT sum(balance), count(*) FROM accounts"
    sums = [source.sql(balances, "bank").rows]
    made = daemon.sql("CREATE MILESTONE 'before it''s released' FOR bank").one()
    assert made["milestone_name"] == "before it's released" and made["database_name"] == "bank"
    # Nothing happens any more: it must be durable now, without anybody's help.
    assert_same(first, restored(lab, source, daemon, "idle", "AT MILESTONE 'before it''s released'"))

    change(source, 2)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    change(source, 3)
    third = state(source)
    sums.append(source.sql(balances, "bank").rows)
    automatic = daemon.sql("CREATE MILESTONE", database="bank").one()
    assert automatic["milestone_name"].startswith("milestone_20") and automatic["database_name"] == "bank"
    change(source, 4)

    rows = daemon.sql("SELECT milestone_name, database_name, database_location, timeline, lsn, user_name, milestone_time < now() AS past"
                      " FROM information_schema.mv_milestones ORDER BY milestone_time").dicts()
    assert [row["milestone_name"] for row in rows] == ["before it's released", automatic["milestone_name"]]
    assert rows[0]["database_location"] == COLLECTION
    assert {(row["database_name"], row["timeline"], row["user_name"], row["past"]) for row in rows} == {("bank", "1", "postgres", "t")}

    assert_same(first, restored(lab, source, daemon, "by_name", "AS OF SYSTEM TIME 'before it''s released'"))
    assert_same(third, restored(lab, source, daemon, "automatic", f"AT MILESTONE '{automatic['milestone_name']}'"))
    # The WAL itself has it too.
    assert_same(first, restored(lab, source, daemon, "point", "AS OF SYSTEM TIME RESTORE POINT 'before it''s released'"))
    daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AT MILESTONE 'before it''s released' WITH new_db_name = 'bank_then'")
    assert source.sql(balances, "bank_then").rows == sums[0]
    source.sql("CREATE DATABASE rescue")
    daemon.sql(f"RESTORE TABLE accounts, customers FROM LATEST IN '{COLLECTION}' AT MILESTONE $1 WITH into_db = 'rescue'",
               [automatic["milestone_name"]], database="bank")
    assert source.sql(balances, "rescue").rows == sums[1]

    # A host that knows nothing but the collection.
    daemon.stop()
    other = new_host(lab, source, daemon)
    assert other.sql("SELECT count(*) FROM information_schema.mv_milestones").value() == "0"
    listed = other.sql(f"SELECT milestone_name, lsn FROM [SHOW MILESTONES IN '{COLLECTION}']").dicts()
    assert [row["milestone_name"] for row in listed] == [row["milestone_name"] for row in rows]
    assert_same(first, restored(lab, source, other, "elsewhere", "AT MILESTONE 'before it''s released'"))

    target = lab.root / "refused"
    error = other.error(f"RESTORE FROM LATEST IN '{COLLECTION}' AT MILESTONE 'none' WITH data_directory = '{target}'")
    assert (error.sqlstate, error.message) == ("42704", f"milestone \"none\" does not exist in {COLLECTION}")
    error = other.error(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME 'none' WITH data_directory = '{target}'")
    assert error.sqlstate == "22023" and "invalid value for AS OF SYSTEM TIME" in error.message
    assert not target.exists()


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 14, 16, 17, 18])
def test_every_version_has_them(lab, version):
    source = lab.postgres(version=version)
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    change(source, 1)
    then = state(source)
    daemon.sql("CREATE MILESTONE 'v1'")
    change(source, 2)
    assert_same(then, restored(lab, source, daemon, "then", "AT MILESTONE 'v1'"))


def test_a_name_moves_and_belongs_to_its_database(lab):
    source = lab.postgres()
    make_bank(source)
    source.sql("CREATE DATABASE shop")
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    daemon.sql("CREATE MILESTONE 'v1' FOR bank")
    change(source, 1)
    then = state(source)
    daemon.sql("CREATE MILESTONE 'v1' FOR bank")
    change(source, 2)
    rows = "SELECT milestone_name || ' of ' || database_name FROM information_schema.mv_milestones ORDER BY 1"
    assert daemon.sql(rows).rows == [["v1 of bank"]]
    assert len([path for path in daemon.files("archive") if path.endswith(".milestone")]) == 1
    assert_same(then, restored(lab, source, daemon, "moved", "AT MILESTONE 'v1'"))

    # Another database's milestone of that name is another moment: the cluster cannot have both.
    daemon.sql("CREATE MILESTONE 'v1' FOR shop")
    assert daemon.sql(rows).rows == [["v1 of bank"], ["v1 of shop"]]
    error = daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}' AT MILESTONE 'v1' WITH data_directory = '{lab.root}/x'")
    assert error.sqlstate == "22023" and "ambiguous" in error.message and '"shop" at' in error.detail and "LSN" in error.hint
    daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AT MILESTONE 'v1' WITH new_db_name = 'bank_v1'")
    assert source.value("SELECT to_regclass('round_1') IS NOT NULL AND to_regclass('round_2') IS NULL", "bank_v1") == "t"


def test_it_is_refused_where_it_could_not_be_kept(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    error = daemon.error("CREATE MILESTONE 'v1'")
    assert (error.sqlstate, error.message) == ("55000", "cannot create a milestone: no collection has a full WAL archive")
    assert "WITH revision_history" in error.hint
    # Block maps alone are no WAL.
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    assert "no collection has a full WAL archive" in daemon.error("CREATE MILESTONE 'v1'").message
    # WAL from here on, and the backup ended long ago.
    daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
    source.sql("SELECT pg_switch_wal()")
    change(source, 1)
    source.sql("SELECT pg_switch_wal()")
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    error = daemon.error("CREATE MILESTONE 'v1'")
    assert error.sqlstate == "55000" and "no backup ends before it" in error.message and COLLECTION in error.detail
    assert daemon.sql("SELECT count(*) FROM information_schema.mv_milestones").value() == "0"
    # A second collection that can: the first is named.
    daemon.sql("BACKUP INTO 'nodelocal://self/second' WITH revision_history")
    with daemon.connect() as session:
        session.query("CREATE MILESTONE 'v1'")
        assert any(f"{COLLECTION} cannot restore to this milestone" in str(notice) for notice in session.notices), session.notices
    assert daemon.sql("SELECT database_location FROM information_schema.mv_milestones").rows == [["nodelocal://self/second"]]

    for statement, sqlstate, message in (
            ("CREATE MILESTONE ''", "22023", "must not be empty"),
            (f"CREATE MILESTONE '{'x' * 64}'", "22023", "too long"),
            ("CREATE MILESTONE 'v2' FOR nowhere", "3D000", 'database "nowhere" does not exist'),
            ("BEGIN; CREATE MILESTONE 'v2'", "25001", "cannot run inside a transaction block")):
        error = daemon.error(statement)
        assert error.sqlstate == sqlstate and message in error.message, error
    source.sql("CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT CREATE ON DATABASE bank TO ann")
    daemon.sql(f"CREATE MILESTONE '{'ä' * 31}x' FOR bank", user="ann", database="bank", tcp=True)
    error = daemon.error("CREATE MILESTONE 'v2' FOR bank", user="bob", database="bank", tcp=True)
    assert (error.sqlstate, error.message) == ("42501", "permission denied for database bank")
    daemon.sql("CREATE MILESTONE 'release' FOR bank")
    error = daemon.error("CREATE MILESTONE 'release' FOR bank", user="ann", database="bank", tcp=True)
    assert (error.sqlstate, error.message) == ("42501", 'milestone "release" belongs to user postgres')
    mine = "SELECT count(*) FROM information_schema.mv_milestones"
    assert [daemon.sql(mine, user=user, tcp=True).value() for user in ("ann", "bob")] == ["1", "0"]
    source.stop()
    assert daemon.error("CREATE MILESTONE 'v2'").sqlstate == "57P03"


def test_it_answers_when_storage_is_back(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    wal = daemon.collection("archive") / "wal"
    wal.rename(wal.with_name("away"))
    wal.write_text("in the way")
    then = state(source)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(daemon.sql("CREATE MILESTONE 'v1'").one()))
    thread.start()
    time.sleep(4)
    assert answers == []
    wal.unlink()
    wal.with_name("away").rename(wal)
    thread.join(60)
    assert len(answers) == 1
    change(source, 1)
    assert_same(then, restored(lab, source, daemon, "then", "AT MILESTONE 'v1'"))


def test_milestones_of_both_histories(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    daemon.sql("CREATE MILESTONE 'start' FOR bank")
    change(source, 1)
    daemon.sql("CREATE MILESTONE 'old' FOR bank")
    old = state(source)
    change(source, 2)
    source.sql("DROP DATABASE bank WITH (FORCE)")
    # In place, back to the start; the server goes on on a second timeline.
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' AT MILESTONE 'start'")
    wait_until(source.ready, 60, "the restored server answering")
    source.sql("CREATE TABLE other_history ()", "bank")
    new = state(source)
    daemon.sql("CREATE MILESTONE 'new' FOR bank")
    change(source, 3)
    timelines = "SELECT milestone_name, timeline FROM information_schema.mv_milestones ORDER BY 1"
    assert daemon.sql(timelines).rows == [["new", "2"], ["old", "1"], ["start", "1"]]
    assert_same(old, restored(lab, source, daemon, "old", "AT MILESTONE 'old'"))
    assert_same(new, restored(lab, source, daemon, "new", "AT MILESTONE 'new'"))


def test_killed_daemon_and_encrypted_archive(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH_KEY}, revision_history")
    then = state(source)
    daemon.sql("CREATE MILESTONE 'confidential'")
    daemon.kill9()
    daemon.start()
    change(source, 1)
    # Names are contents.
    for path in daemon.files("archive"):
        assert b"confidential" not in (daemon.collection("archive") / path).read_bytes() and "confidential" not in path
    assert daemon.sql("SELECT milestone_name FROM information_schema.mv_milestones").rows == [["confidential"]]
    assert daemon.sql(f"SHOW MILESTONES IN '{COLLECTION}' {WITH_KEY}").one()["milestone_name"] == "confidential"
    error = daemon.error(f"SHOW MILESTONES IN '{COLLECTION}'")
    assert "file appears encrypted" in error.message
    assert_same(then, restored(lab, source, daemon, "then", "AT MILESTONE 'confidential'", f"{WITH_KEY.removeprefix('WITH ')}, "))


def test_retention_takes_milestones_with_their_wal(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    daemon.sql("CREATE MILESTONE 'old'")
    change(source, 1)
    source.sql("SELECT pg_switch_wal()")
    change(source, 2)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    daemon.sql("CREATE MILESTONE 'kept'")
    daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'")
    assert daemon.sql("SELECT milestone_name FROM information_schema.mv_milestones").rows == [["kept"]]
    error = daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}' AT MILESTONE 'old' WITH data_directory = '{lab.root}/x'")
    assert error.sqlstate == "42704"


def test_a_standby_has_none(lab):
    server = lab.postgres()
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    server.stop()
    (server.data / "standby.signal").touch()
    env.give(server.data / "standby.signal")
    server.start()
    error = daemon.error("CREATE MILESTONE 'v1'")
    assert (error.sqlstate, error.message) == ("55000", "cannot create a milestone on a standby")


def test_a_daemon_killed_in_between_leaves_none(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    wal = daemon.collection("archive") / "wal"
    wal.rename(wal.with_name("away"))
    wal.write_text("in the way")
    errors = []

    def create():
        try:
            daemon.sql("CREATE MILESTONE 'v1'")
        except (ConnectionError, SqlError) as error:
            errors.append(error)
    thread = threading.Thread(target=create)
    thread.start()
    wait_until(lambda: "restore point \"v1\" created" in source.log_text(), 60, "the restore point")
    daemon.kill9()
    thread.join(20)
    assert len(errors) == 1
    wal.unlink()
    wal.with_name("away").rename(wal)
    daemon.start()
    assert daemon.sql("SELECT count(*) FROM information_schema.mv_milestones").value() == "0"
    # What was made is still a restore point of the WAL; and the name is free.
    change(source, 1)
    then = state(source)
    daemon.sql("CREATE MILESTONE 'v1'")
    change(source, 2)
    assert_same(then, restored(lab, source, daemon, "then", "AT MILESTONE 'v1'"))


def warnings_of(daemon, statement, **more):
    with daemon.connect(**more) as session:
        session.query(statement)
        return [str(notice) for notice in session.notices]


def test_an_encrypted_backup_is_tried_out_too(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    # A backup whose WAL behind it is lost, and one of a database, lead to no milestone, encrypted or not.
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH_KEY}")
    daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
    for round_ in (1, 2):
        change(source, round_)
        source.sql("SELECT pg_switch_wal()")
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}' {WITH_KEY}")
    daemon.sql(f"BACKUP DATABASE bank INTO '{COLLECTION}' WITH encryption_passphrase = 'of a database'")
    error = daemon.error("CREATE MILESTONE 'v1'")
    assert error.sqlstate == "55000" and "no backup ends before it" in error.message and COLLECTION in error.detail
    assert daemon.sql("SELECT count(*) FROM information_schema.mv_milestones").value() == "0"

    daemon.sql(f"BACKUP INTO '{COLLECTION}' {WITH_KEY}, revision_history")
    then = state(source)
    assert warnings_of(daemon, "CREATE MILESTONE 'v1'") == []
    change(source, 3)
    assert_same(then, restored(lab, source, daemon, "then", "AT MILESTONE 'v1'", f"{WITH_KEY.removeprefix('WITH ')}, "))
    # Another daemon beside the same server has not the keys: it says so.
    daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
    daemon.stop()
    other = new_host(lab, source, daemon)
    other.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}' {WITH_KEY}")
    notices = warnings_of(other, "CREATE MILESTONE 'v2'")
    assert len(notices) == 1 and f"whether {COLLECTION} can restore to this milestone is not known" in notices[0]


def test_others_do_not_see_where_collections_are(lab):
    source = lab.postgres()
    make_bank(source)
    source.sql("CREATE ROLE ann LOGIN; GRANT CREATE ON DATABASE bank TO ann")
    daemon = lab.holdfast(source)
    daemon.sql("CREATE EXTERNAL CONNECTION kept AS 'nodelocal://self/confidential'")
    daemon.sql("BACKUP INTO 'external://kept' WITH revision_history")
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    ann = {"user": "ann", "database": "bank", "tcp": True}
    notices = warnings_of(daemon, "CREATE MILESTONE 'v1'", **ann)
    assert len(notices) == 1 and "nodelocal://… cannot restore to this milestone" in notices[0], notices
    assert daemon.sql("SELECT database_location FROM information_schema.mv_milestones", **ann).rows == [["external://kept"]]
    notices = warnings_of(daemon, "CREATE MILESTONE 'v2'")
    assert len(notices) == 1 and f"{COLLECTION} cannot restore to this milestone" in notices[0], notices
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION kept TO ann")
    rows = daemon.sql("SHOW MILESTONES IN 'external://kept'", **ann).dicts()
    assert {row["database_location"] for row in rows} == {"external://kept"} and len(rows) == 2
    daemon.sql("DROP WAL ARCHIVE IN 'external://kept'")
    error = daemon.error("CREATE MILESTONE 'v3'", **ann)
    assert error.detail == "Looked for in nodelocal://…." and "confidential" not in str(error.__dict__)
