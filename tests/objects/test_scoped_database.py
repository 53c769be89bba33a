"""BACKUP DATABASE: what is in it, that nothing else is, and how it comes back."""
import threading
import time

from harness.postgres import wait_until
from .scope import MARKERS, change_marked, holding, make_marked, marked_rows
from .zoo import dump, leftovers, make_zoo

COLLECTION = "nodelocal://self/archive"
SUCCEEDED = "succeeded"


def table_names(daemon, source="LATEST", collection=COLLECTION, options=""):
    rows = daemon.sql(f"SELECT DISTINCT database_name, object_name FROM [SHOW BACKUP FROM {source} IN '{collection}' {options}] "
                      "WHERE object_type = 'table' ORDER BY 1, 2").rows
    return [f"{database}.{table}" for database, table in rows]


def test_comes_back_as_it_was(lab):
    server = lab.postgres()
    make_zoo(server)
    make_marked(server)
    daemon = lab.holdfast(server)
    before = dump(server, "zoo")
    row = daemon.sql(f"BACKUP DATABASE zoo INTO '{COLLECTION}'").one()
    assert row["status"] == SUCCEEDED
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    assert {name.split(".")[0] for name in table_names(daemon)} == {"zoo"}
    assert daemon.sql(f"SELECT DISTINCT is_full_cluster FROM [SHOW BACKUP FROM LATEST IN '{COLLECTION}']").rows == [["f"]]
    server.sql("DROP DATABASE zoo")
    assert daemon.sql(f"RESTORE DATABASE zoo FROM LATEST IN '{COLLECTION}'").one()["status"] == SUCCEEDED
    after = dump(server, "zoo")
    # Rows of unlogged tables are in no backup.
    start = before.index("COPY public.unlogged_table")
    end = before.index("\\.", start)
    assert before[:start] + before[end:] == after[:start] + after[start:][after[start:].index("\\."):]
    assert leftovers(server, daemon) == []


def test_nothing_else_is_in_it(marked):
    server, daemon = marked
    root = daemon.collection("archive")
    daemon.sql(f"BACKUP INTO '{COLLECTION}/all' WITH compression = 'none'")
    assert all(holding(root / "all", marker) for marker in MARKERS.values()), "the search finds what is there"

    stop = threading.Event()
    writer = threading.Thread(target=lambda: [change_marked(server) for _ in iter(stop.is_set, True)])
    writer.start()
    try:
        daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}/one' WITH compression = 'none'")
        time.sleep(3)
        daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}/one' WITH compression = 'none'")
    finally:
        stop.set()
        writer.join()
    assert holding(root / "one", MARKERS["mine"]) and holding(root / "one", MARKERS["sibling"])
    assert holding(root / "one", MARKERS["stranger"]) == []
    # The shared archive has block maps, which name blocks, and no WAL.
    shared = [name for name in daemon.files("archive/one") if name.startswith("wal/")]
    assert shared and all(name.endswith((".blocks", "/ARCHIVE")) for name in shared), shared


def test_a_chain_brings_back_its_layers(marked):
    server, daemon = marked
    rows = "SELECT md5(string_agg(m::text, '|' ORDER BY id)) FROM {} m"
    daemon.sql(f"BACKUP DATABASE shop, other INTO '{COLLECTION}'")
    states = []
    for _ in range(3):
        change_marked(server)
        server.sql("CREATE TABLE IF NOT EXISTS late AS SELECT 1 AS id; TRUNCATE sibling; INSERT INTO sibling VALUES (1, 'alone')", "shop")
        states.append([server.value(rows.format(table), "shop") for table in ("mine", "sibling", "late")])
        assert daemon.sql(f"BACKUP DATABASE shop, other INTO LATEST IN '{COLLECTION}'").one()["status"] == SUCCEEDED
    layers = [row[0] for row in daemon.sql(f"SELECT DISTINCT end_time FROM [SHOW BACKUP FROM LATEST IN '{COLLECTION}'] ORDER BY 1").rows]
    assert len(layers) == 4
    sources = [row[0] for row in daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH as_json").rows]
    assert all("CHANGE_SOURCE_WAL" in text for text in sources[1:])
    for number, (end, state) in enumerate(zip(layers[1:], states)):
        daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{end}' WITH new_db_name = 'shop{number}'")
        assert [server.value(rows.format(table), f"shop{number}") for table in ("mine", "sibling", "late")] == state
    server.amcheck()


def test_what_it_cannot_bring_back_is_refused(marked):
    server, daemon = marked
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}'")
    error = daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    assert error.message == "full cluster RESTORE can only be used on full cluster BACKUP files"
    target = daemon.io / "target"
    assert daemon.error(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'").message == error.message
    error = daemon.error(f"RESTORE DATABASE other FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'again'")
    assert 'database "other" does not exist, or invalid RESTORE timestamp' in error.message
    error = daemon.error(f"RESTORE TABLE other.stranger FROM LATEST IN '{COLLECTION}' WITH new_table_name = 'again'")
    assert 'table "other.stranger" does not exist' in error.message
    # A table of the database comes back alone.
    daemon.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' WITH new_table_name = 'again'")
    assert server.value("SELECT count(*) FROM again WHERE t LIKE 'pineapple%'", "shop") == "2000"
    assert leftovers(server, daemon) == []


def test_targets_that_are_not_there(marked):
    _, daemon = marked
    unresolved = "failed to resolve targets specified in the BACKUP stmt: "
    error = daemon.error(f"BACKUP DATABASE shop, nowhere INTO '{COLLECTION}'")
    assert (error.sqlstate, error.message) == ("3D000", unresolved + 'database "nowhere" does not exist')
    assert daemon.error(f"BACKUP DATABASE template1 INTO '{COLLECTION}'").sqlstate == "22023"
    error = daemon.error(f"BACKUP DATABASE shop INTO '{COLLECTION}' AS OF SYSTEM TIME '-1s'")
    assert error.sqlstate == "0A000" and "AS OF SYSTEM TIME" in error.message
    assert not daemon.collection("archive").exists()


def test_all_layers_have_one_scope(marked):
    server, daemon = marked
    daemon.sql(f"BACKUP INTO '{COLLECTION}/cluster'")
    assert (daemon.error(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}/cluster'").message
            == "cannot append a backup of specific tables or databases to a cluster backup")
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}/one'")
    assert (daemon.error(f"BACKUP INTO LATEST IN '{COLLECTION}/one'").message
            == "cannot append a cluster backup to a backup of specific tables or databases")
    assert (daemon.error(f"BACKUP DATABASE shop, other INTO LATEST IN '{COLLECTION}/one'").message
            == 'previous backup does not contain the complete database "other"')
    daemon.sql(f"BACKUP DATABASE shop, other INTO '{COLLECTION}/two'")
    assert (daemon.error(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}/two'").message
            == 'previous backup contains database "other", which this one leaves out')
    # Another database under the old name is another database; one that is gone is no loss.
    server.sql("DROP DATABASE other")
    assert daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}/two'").one()["status"] == SUCCEEDED
    server.sql("CREATE DATABASE other")
    assert "does not contain the complete database" in daemon.error(f"BACKUP DATABASE shop, other INTO LATEST IN '{COLLECTION}/two'").message


def test_encrypted(marked):
    server, daemon = marked
    options = "WITH encryption_passphrase = 'correct horse battery staple'"
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}' {options}, compression = 'none'")
    change_marked(server)
    daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}' {options}, compression = 'none'")
    root = daemon.collection("archive")
    assert [holding(root, text) for text in (*MARKERS.values(), "HFPACK")] == [[]] * 4
    before = dump(server, "shop")
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' {options}, new_db_name = 'again'")
    assert dump(server, "again") == before
    assert "passphrase" in daemon.error(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'x'").message


def test_only_owners_and_administrators(marked):
    server, daemon = marked
    server.sql("CREATE ROLE owner LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE member LOGIN IN ROLE owner;"
               "CREATE ROLE holdfast_admin; CREATE ROLE admin LOGIN IN ROLE holdfast_admin; ALTER DATABASE shop OWNER TO owner")
    daemon.sql(f"CREATE EXTERNAL CONNECTION prepared AS '{COLLECTION}'")
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION prepared TO owner, stranger")
    backup = "BACKUP DATABASE shop INTO 'external://prepared'"
    for user in ("owner", "member", "admin", "postgres"):
        assert daemon.sql(backup, user=user, tcp=True).one()["status"] == SUCCEEDED, user
    assert "reading every page" not in daemon.log_text()
    error = daemon.error(backup, user="stranger", tcp=True)
    assert (error.sqlstate, error.message) == ("42501", "user stranger does not have BACKUP privilege on database shop")
    error = daemon.error("BACKUP DATABASE shop, other INTO 'external://prepared'", user="owner", tcp=True)
    assert (error.sqlstate, error.message) == ("42501", "user owner does not have BACKUP privilege on database other")
    # Such a backup has what roles log in with: it does not go where its owner can read it.
    error = daemon.error("BACKUP DATABASE shop INTO 's3://bucket/path?AWS_ACCESS_KEY_ID=a&AWS_SECRET_ACCESS_KEY=b'", user="owner", tcp=True)
    assert error.sqlstate == "42501" and "external connection" in error.hint
    assert daemon.error(f"BACKUP INTO '{COLLECTION}'", user="owner", tcp=True).sqlstate == "42501"
    # Nor where others can make it go.
    daemon.sql("GRANT UPDATE ON EXTERNAL CONNECTION prepared TO owner")
    error = daemon.error(backup, user="owner", tcp=True)
    assert error.sqlstate == "42501" and "point elsewhere" in error.message
    daemon.sql("REVOKE UPDATE ON EXTERNAL CONNECTION prepared FROM owner")
    error = daemon.error(f"{backup} WITH object_lock = 'compliance', retain_for = '1 day'", user="owner", tcp=True)
    assert error.sqlstate == "42501" and "lock objects" in error.message


def test_others_go_on_beside_it(marked):
    """Backups of the cluster, on which a schedule builds, in the same collection as those of a database."""
    server, daemon = marked
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    cluster = daemon.fulls("archive")
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}'")
    assert len(daemon.fulls("archive")) == 2
    is_full = f"SELECT DISTINCT is_full_cluster FROM [SHOW BACKUP FROM LATEST IN '{COLLECTION}']"
    assert daemon.sql(is_full).rows == [["t"]]
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    change_marked(server)
    before = dump(server, "shop")
    daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}'")
    shop = next(full for full in daemon.fulls("archive") if full not in cluster)
    assert len(daemon.fulls("archive")) == 2
    daemon.sql(f"RESTORE DATABASE shop FROM '{shop}' IN '{COLLECTION}' WITH new_db_name = 'again'")
    assert dump(server, "again") == before
    # One that is gone leaves LATEST to the cluster.
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}'")
    daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'")
    assert daemon.sql(is_full).rows == [["t"]] and len(daemon.fulls("archive")) == 2


def test_killed_and_cancelled_leave_nothing(lab):
    server = lab.postgres(conf={"autovacuum": "off"})
    make_marked(server)
    daemon = lab.holdfast(server, start=False)
    for point in ("backup.after_copy", "backup.after_wal", "backup.before_manifest"):
        daemon.pause_point = f"{point}=kill"
        daemon.start()
        job = daemon.detached(f"BACKUP DATABASE shop INTO '{COLLECTION}' WITH detached")
        daemon.wait_killed()
        change_marked(server)
        daemon.pause_point = None
        daemon.start()
        daemon.wait_job(job)
        daemon.stop()
    daemon.start()
    fulls = daemon.fulls("archive")
    assert len(fulls) == 3
    for full in fulls:
        # The WAL of one attempt, and nothing of those before.
        assert len({path.split("/")[4] for path in daemon.files("archive") if path.startswith(f"{full}/wal/")}) == 1
        assert daemon.sql(f"SHOW BACKUP VALIDATE FROM '{full}' IN '{COLLECTION}'").rows == [["No problems found!"]]
    before = dump(server, "shop")
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'again'")
    assert dump(server, "again") == before

    daemon.restart(pause_point="backup.before_manifest=pause")
    job = daemon.detached(f"BACKUP DATABASE shop INTO '{COLLECTION}/other' WITH detached")
    wait_until(lambda: daemon.job(job)["status"] == "paused", 60, "the pause")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    assert [name for name in daemon.files("archive/other") if not name.startswith("wal/")] == []


def test_schedules_and_deletion(marked):
    server, daemon = marked
    daemon.sql(f"CREATE SCHEDULE nightly FOR BACKUP DATABASE shop INTO '{COLLECTION}' RECURRING '@daily' "
               "FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now'")
    wait_until(lambda: list(daemon.collection("archive").glob("metadata/latest/*")), 60, "the scheduled backup as the latest")
    assert table_names(daemon) == ["shop.mine", "shop.sibling"]
    kept = daemon.fulls("archive")
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}'")
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'again'")
    assert dump(server, "again") == dump(server, "shop")
    assert kept[0] in daemon.fulls("archive")


def test_in_tablespaces(lab):
    server = lab.postgres(conf={"autovacuum": "off"})
    server.sql(f"CREATE TABLESPACE fast LOCATION '{lab.directory('space')}'")
    server.sql("CREATE DATABASE moved TABLESPACE fast")
    server.sql("CREATE DATABASE beside TABLESPACE fast")
    server.sql(f"CREATE TABLE t AS {marked_rows(MARKERS['mine'])}; CREATE TABLE usual (id int) TABLESPACE pg_default; INSERT INTO usual VALUES (7)", "moved")
    server.sql(f"CREATE TABLE t AS {marked_rows(MARKERS['stranger'])}", "beside")
    daemon = lab.holdfast(server)
    for targets, restore in (("DATABASE moved", "RESTORE DATABASE moved FROM LATEST IN '{}' WITH new_db_name = 'again'"),
                             ("TABLE moved.t, moved.usual", "RESTORE TABLE moved.public.* FROM LATEST IN '{}' WITH into_db = 'rescue'")):
        collection = f"{COLLECTION}/{targets.split()[0]}"
        daemon.sql(f"BACKUP {targets} INTO '{collection}' WITH compression = 'none'")
        server.sql("UPDATE t SET t = t || '!'", "moved")
        server.sql("UPDATE t SET t = t || '!'", "beside")
        daemon.sql(f"BACKUP {targets} INTO LATEST IN '{collection}' WITH compression = 'none'")
        assert holding(daemon.collection("archive"), MARKERS["stranger"]) == []
        server.sql("CREATE DATABASE rescue")
        daemon.sql(restore.format(collection))
        database = "again" if "again" in restore else "rescue"
        for table in ("t", "usual"):
            rows = f"SELECT md5(string_agg(m::text, '|' ORDER BY id)) FROM {table} m"
            assert server.value(rows, database) == server.value(rows, "moved")
        server.sql("DROP DATABASE rescue")


def test_chains_are_deleted_with_their_wal(marked):
    server, daemon = marked
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    cluster = daemon.fulls("archive")[0]
    for _ in range(2):
        daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}'")
        daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}'")
    fulls = daemon.fulls("archive")
    daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'")
    # One of each scope: a backup of one database is none of the cluster.
    kept = daemon.fulls("archive")
    assert kept == [cluster, fulls[-1]]
    assert {path.removeprefix("incrementals/")[:20] for path in daemon.files("archive") if "/wal/" in path} == {fulls[-1]}
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'again'")
    assert dump(server, "again") == dump(server, "shop")
