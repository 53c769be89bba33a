"""Backups of databases and tables that their owners take: rights that are lost, keys of their own, and what they may cost others."""
import pytest

from cluster.test_incremental import start_restored
from harness.digest import assert_same, digest
from harness.postgres import wait_until
from harness.standby import make_standby, promote
from .scope import change_marked, make_marked
from .zoo import dump, leftovers

COLLECTION = "nodelocal://self/archive"
REFUSED = "user owner does not have BACKUP privilege on "


@pytest.fixture
def owned(lab):
    """Role `owner` owns database shop and what is in it, `other` the other one; both may use the connection `prepared`."""
    server = lab.postgres(conf={"autovacuum": "off"})
    make_marked(server)
    server.sql("CREATE ROLE owner LOGIN; CREATE ROLE other LOGIN; CREATE ROLE holdfast_admin;"
               "ALTER DATABASE shop OWNER TO owner; ALTER DATABASE other OWNER TO other")
    server.sql("ALTER TABLE mine OWNER TO owner; ALTER TABLE sibling OWNER TO owner", "shop")
    server.sql("ALTER TABLE stranger OWNER TO other", "other")
    daemon = lab.holdfast(server, start=False)
    daemon.start()
    daemon.sql(f"CREATE EXTERNAL CONNECTION prepared AS '{COLLECTION}'")
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION prepared TO owner, other")
    return server, daemon


def test_rights_are_asked_for_again(owned):
    server, daemon = owned
    daemon.restart("backup.after_copy=pause@*")
    take = {
        "DATABASE shop": (("ALTER DATABASE shop OWNER TO postgres", "database shop"), "ALTER DATABASE shop OWNER TO owner"),
        "TABLE shop.mine": (("ALTER TABLE mine OWNER TO postgres", "relation mine"), "ALTER TABLE mine OWNER TO owner"),
    }
    for targets, ((lose, what), give_back) in take.items():
        statement = f"BACKUP {targets} INTO 'external://prepared'"
        for again in ("resume", "restart"):
            job = int(daemon.sql(statement + " WITH detached", user="owner", tcp=True).value())
            daemon.wait_job(job, "paused")
            server.sql(lose, "shop")
            error = daemon.error(statement, user="owner", tcp=True)
            assert (error.sqlstate, error.message) == ("42501", REFUSED + what)
            if again == "restart":
                daemon.restart("backup.after_copy=pause@*")
            daemon.sql(f"RESUME JOB {job}")
            assert daemon.wait_job(job, "failed")["error"] == error.message
            server.sql(give_back, "shop")
    # What the connection was granted for counts as well, and a job that was adopted without anybody's asking.
    statement = "BACKUP DATABASE shop INTO 'external://prepared' WITH detached"
    for lose in ("REVOKE USAGE ON EXTERNAL CONNECTION prepared FROM owner",):
        job = int(daemon.sql(statement, user="owner", tcp=True).value())
        daemon.wait_job(job, "paused")
        daemon.sql(lose)
        daemon.sql(f"RESUME JOB {job}")
        row = daemon.wait_job(job, "failed")
        assert "prepared" in row["error"], row
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION prepared TO owner")
    daemon.restart("backup.after_copy=kill")
    job = int(daemon.sql(statement, user="owner", tcp=True).value())
    daemon.wait_killed()
    server.sql("ALTER DATABASE shop OWNER TO postgres")
    daemon.pause_point = None
    daemon.start()
    assert daemon.wait_job(job, "failed")["error"] == REFUSED + "database shop"
    # Nothing of any of them is there.
    assert daemon.fulls("archive") == []
    assert [name for name in daemon.files("archive") if name.endswith(".pack")] == []
    assert daemon.sql("BACKUP DATABASE shop INTO 'external://prepared'").one()["status"] == "succeeded"


def test_a_cluster_backup_goes_on_with_the_right_alone(owned):
    server, daemon = owned
    server.sql("GRANT holdfast_admin TO owner")
    daemon.restart("backup.after_copy=pause")
    job = int(daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH detached", user="owner", tcp=True).value())
    daemon.wait_job(job, "paused")
    server.sql("REVOKE holdfast_admin FROM owner")
    daemon.sql(f"RESUME JOB {job}")
    assert "holdfast_admin" in daemon.wait_job(job, "failed")["error"]


def test_each_run_of_a_schedule_asks(owned):
    server, daemon = owned
    schedule = int(daemon.sql("CREATE SCHEDULE mine FOR BACKUP DATABASE shop INTO 'external://prepared' RECURRING '@daily' FULL BACKUP ALWAYS "
                              "WITH SCHEDULE OPTIONS first_run = 'now', on_execution_failure = 'reschedule'", user="owner", tcp=True)
                   .dicts()[0]["schedule_id"])
    ended = f"SELECT count(*) FROM [SHOW JOBS FOR SCHEDULE {schedule}] WHERE status = 'succeeded'"
    wait_until(lambda: daemon.sql(ended).value() == "1" and daemon.unsettled_schedules() == 0, 60, "the first run")
    server.sql("ALTER DATABASE shop OWNER TO postgres")
    daemon.sql(f"ALTER BACKUP SCHEDULE {schedule} EXECUTE IMMEDIATELY")
    failure = ("SELECT error_message FROM information_schema.mv_backup_history WHERE status = 'Failure' ORDER BY backup_id DESC LIMIT 1")
    wait_until(lambda: daemon.sql(failure).rows == [[REFUSED + "database shop"]], 60, "the refusal")
    assert daemon.sql(ended).value() == "1" and len(daemon.fulls("archive")) == 1


def test_a_refused_layer_leaves_the_chain_where_it_is(owned):
    """With incremental_location, and what belongs on no such chain or has the wrong key: nothing is tied to that place."""
    server, daemon = owned
    daemon.sql("CREATE EXTERNAL CONNECTION elsewhere AS 'nodelocal://self/elsewhere'")
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION elsewhere TO owner")
    key = secret("right")
    place = "incremental_location = 'external://elsewhere'"
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    error = daemon.error(f"BACKUP TABLE shop.mine INTO LATEST IN 'external://prepared' WITH {place}", user="owner", tcp=True)
    assert "to a cluster backup" in error.message, error
    assert daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'").one()["status"] == "succeeded"
    sealed = "nodelocal://self/sealed"
    daemon.sql(f"BACKUP INTO '{sealed}' WITH {key}")
    for given, as_of in ((secret("wrong"), ""), (key, "AS OF SYSTEM TIME '2001-01-01'"), ("workers = 1", "")):
        assert daemon.error(f"BACKUP INTO LATEST IN '{sealed}' {as_of} WITH {given}, {place}").sqlstate
    assert daemon.sql(f"BACKUP INTO LATEST IN '{sealed}' WITH {key}").one()["status"] == "succeeded"
    assert not [name for collection in ("archive", "sealed", "elsewhere") for name in daemon.files(collection) if name.endswith("-LOCATION")]
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{sealed}' WITH {key}, check_files")


def test_where_a_connection_leads_is_for_administrators(owned):
    """Of a chain whose layers are in a place that another user's connection stands for, or an administrator's URI."""
    server, daemon = owned
    daemon.sql("CREATE EXTERNAL CONNECTION elsewhere AS 'nodelocal://self/hidden-place'")
    daemon.sql("CREATE EXTERNAL CONNECTION third AS 'nodelocal://self/third-place'")
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION third TO owner")
    for place, shown in (("external://elsewhere", '"external://elsewhere"'), ("nodelocal://self/hidden-place", "a place that is shown to administrators")):
        daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}'")
        daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}' WITH incremental_location = '{place}'")
        for statement in ("SHOW BACKUP FROM LATEST IN 'external://prepared'", "BACKUP DATABASE shop INTO LATEST IN 'external://prepared'",
                          "BACKUP DATABASE shop INTO LATEST IN 'external://prepared' WITH incremental_location = 'external://third'"):
            error = daemon.error(statement, user="owner", tcp=True)
            assert error.detail == f"They are in {shown}.", error
            assert "-place" not in str(error) + error.message + error.detail, error
            assert "hidden-place" in daemon.error(statement).detail
        notices = str(daemon.sql("SHOW BACKUP FROM LATEST IN 'external://prepared' WITH incremental_location = ''", user="owner", tcp=True).notices)
        assert shown in notices and "-place" not in notices, notices


def secret(word):
    return f"encryption_passphrase = '{word} horse battery staple'"


def test_everybody_has_a_key_of_his_own(owned, lab):
    """Two owners with different passphrases, one without, and the cluster with a third, in one collection."""
    server, daemon = owned
    root = daemon.collection("archive")
    backups = (("owner", "DATABASE shop", "shop", secret("first")), ("other", "DATABASE other", "other", secret("second")))
    for user, targets, _, key in backups:
        assert daemon.sql(f"BACKUP {targets} INTO 'external://prepared' WITH {key}", user=user, tcp=True).one()["status"] == "succeeded"
    # Nothing in the WAL that the server's backups share: neither a key nor a segment.
    assert not (root / "wal").exists()
    assert [path for path in daemon.files("archive") if "ENCRYPTION-INFO" in path] == sorted(f"{full}/ENCRYPTION-INFO" for full in daemon.fulls("archive"))
    fulls = daemon.fulls("archive")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH {secret('third')}, revision_history")
    assert any(path.startswith("wal/") and path.endswith("ENCRYPTION-INFO") for path in daemon.files("archive"))
    # All of them go on, and one in clear begins.
    change_marked(server)
    # LATEST is the cluster's by now, and for them the newest of a part.
    daemon.sql(f"BACKUP DATABASE other INTO LATEST IN 'external://prepared' WITH {backups[1][3]}", user="other", tcp=True)
    for full, (user, targets, _, key) in zip(fulls, backups):
        daemon.sql(f"BACKUP {targets} INTO '{full}' IN 'external://prepared' WITH {key}", user=user, tcp=True)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH {secret('third')}")
    content = ("--no-owner", "--no-privileges")
    before = {database: dump(server, database, *content) for database in ("shop", "other")}
    whole = digest(server)
    daemon.sql("BACKUP TABLE shop.mine INTO 'external://prepared'", user="owner", tcp=True)
    clear = daemon.fulls("archive")[-1]

    for full, (_, _, database, key) in zip(fulls, backups):
        daemon.sql(f"RESTORE DATABASE {database} FROM '{full}' IN '{COLLECTION}' WITH {key}, new_db_name = '{database}_again'")
        assert dump(server, f"{database}_again", *content) == before[database]
        assert daemon.sql(f"SHOW BACKUP VALIDATE FROM '{full}' IN '{COLLECTION}' WITH {key}").rows == [["No problems found!"]]
        assert daemon.sql(f"VERIFY BACKUP FROM '{full}' IN '{COLLECTION}' WITH {key}").one()["status"] == "succeeded"
        for wrong in (secret("third"), secret("fourth")):
            assert daemon.error(f"SHOW BACKUP FROM '{full}' IN '{COLLECTION}' WITH {wrong}").message.startswith("failed to decrypt")
    daemon.sql(f"RESTORE TABLE shop.mine FROM '{clear}' IN '{COLLECTION}' WITH new_table_name = 'again'")
    assert server.value("SELECT count(*) = 3 FROM (SELECT 1 FROM again LIMIT 3) x", "shop") == "t"
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH {secret('third')}, data_directory = '{target}'")
    restored = start_restored(lab, server, target)
    assert_same(whole, digest(restored))
    restored.stop()
    assert leftovers(server, daemon) == []

    # Another key is added to one of them, and the chain goes on with that.
    daemon.sql(f"ALTER BACKUP '{fulls[0]}' IN '{COLLECTION}' ADD NEW_PASSPHRASE = 'a new one' WITH OLD_PASSPHRASE = 'first horse battery staple'")
    daemon.sql(f"BACKUP DATABASE shop INTO '{fulls[0]}' IN '{COLLECTION}' WITH encryption_passphrase = 'a new one'")
    # What a chain says of itself is believed with its key only: until then it may need the cluster's WAL.
    server.sql("SELECT pg_switch_wal()")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH {secret('third')}, revision_history")
    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' WITH {secret('third')}").dicts()
    assert [row for row in rows if row["subdirectory"].startswith("wal/")] == [], rows
    assert {row["subdirectory"] for row in rows if row["action"] == "kept"} >= {*fulls, clear}


def test_an_administrators_key_serves_where_the_collection_has_it(owned):
    server, daemon = owned
    with daemon.connect() as session:
        session.query(f"BACKUP DATABASE shop INTO '{COLLECTION}/one' WITH {secret('first')}")
        assert any("not protected" in str(notice) for notice in session.notices), session.notices
    assert not (daemon.collection("archive/one") / "wal").exists()
    # Where he asks for it, and where the cluster's backups have the same key.
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}/two' WITH {secret('first')}, protect")
    daemon.sql(f"BACKUP INTO '{COLLECTION}/three' WITH {secret('first')}")
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}/three' WITH {secret('first')}")
    for name in ("two", "three"):
        change_marked(server)
        daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}/{name}' WITH {secret('first')}")
        rows = daemon.sql(f"SHOW BACKUP FROM '{daemon.fulls(f'archive/{name}')[-1]}' IN '{COLLECTION}/{name}' WITH as_json, {secret('first')}").rows
        assert "CHANGE_SOURCE_WAL" in rows[-1][0]
    error = daemon.error(f"BACKUP DATABASE other INTO '{COLLECTION}/two' WITH {secret('second')}, protect")
    assert error.message.startswith("failed to decrypt")


def write_wal(server, megabytes):
    server.sql(f"SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, {megabytes})")


def test_the_wal_that_waits_has_a_limit(owned, lab):
    server, daemon = owned
    daemon.arguments += ["--wal-keep-limit", "32MB"]
    go = lab.root / "go"
    daemon.restart(f"backup.after_plan=stall:{go}@*")
    for targets in ("DATABASE shop", "TABLE shop.mine"):
        go.unlink(missing_ok=True)
        job = int(daemon.sql(f"BACKUP {targets} INTO 'external://prepared' WITH detached", user="owner", tcp=True).value())
        spool = daemon.store / "spool" / f"backup-{job}"
        wait_until(lambda: spool.exists() and any(spool.iterdir()), 60, "the backup's start")
        write_wal(server, 60)
        go.touch()
        row = daemon.wait_job(job, "failed")
        assert row["error"] == "could not receive the WAL of the backup: it takes more than --wal-keep-limit (32 MiB)", row
        assert not spool.exists()
        assert server.value("SELECT count(*) FROM pg_replication_slots") == "0"
    assert daemon.fulls("archive") == []
    # A backup of the cluster puts its WAL as it comes.
    go.unlink()
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    spool = daemon.store / "spool" / f"backup-{job}"
    wait_until(lambda: spool.exists() and any(spool.iterdir()), 60, "the backup's start")
    write_wal(server, 60)
    go.touch()
    daemon.wait_job(job)
    assert daemon.sql("BACKUP DATABASE shop INTO 'external://prepared'", user="owner", tcp=True).one()["status"] == "succeeded"


def test_an_owner_may_not_stretch_it(owned):
    _, daemon = owned
    for targets in ("DATABASE shop", "TABLE shop.mine"):
        error = daemon.error(f"BACKUP {targets} INTO 'external://prepared' WITH max_rate = '1kB'", user="owner", tcp=True)
        assert error.sqlstate == "42501" and "max_rate" in error.message, error
    assert daemon.sql("BACKUP DATABASE shop INTO 'external://prepared' WITH max_rate = '1GB'").one()["status"] == "succeeded"


def test_on_a_later_timeline(lab):
    """The history of its timeline is its own as well."""
    primary = lab.postgres(name="primary")
    make_marked(primary)
    server = make_standby(lab, primary)
    promote(server, primary)
    daemon = lab.holdfast(server)
    backup = f"BACKUP DATABASE shop INTO {{}} '{COLLECTION}' WITH {secret('first')}, protect = false"
    daemon.sql(backup.format(""))
    assert [path.rsplit("/", 1)[1] for path in daemon.files("archive") if path.endswith(".history")] == ["00000002.history"]
    assert not (daemon.collection("archive") / "wal").exists()
    change_marked(server)
    daemon.sql(backup.format("LATEST IN"))
    before = dump(server, "shop")
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH {secret('first')}, new_db_name = 'again'")
    assert dump(server, "again") == before
    windows = daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}' WITH {secret('first')}").dicts()
    assert {window["timeline"] for window in windows} == {"2"} and len(windows) == 2
    assert daemon.sql(f"VERIFY BACKUP LATEST IN '{COLLECTION}' WITH {secret('first')}").one()["status"] == "succeeded"
    # The server's other backups set its WAL's key as if there were no such chain.
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH {secret('second')}")
