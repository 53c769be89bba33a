"""SingleStore's BACKUP DATABASE … TO and RESTORE DATABASE … FROM, end to end."""
import pytest

from .zoo import dump, leftovers, make_zoo


def without_unlogged(text):
    """Rows of unlogged tables are in no backup."""
    start = text.index("COPY public.unlogged_table")
    return text[:start] + text[text.index("\\.", start):]


@pytest.fixture(scope="module")
def zoo(module_lab):
    server = module_lab.postgres()
    make_zoo(server)
    return server, module_lab.holdfast(server)


def backup(daemon, text):
    """The row of the history that the backup's id leads to."""
    backup_id = daemon.sql(f"BACKUP DATABASE zoo {text}").one()["backup_id"]
    return daemon.sql(f"SELECT * FROM information_schema.mv_backup_history WHERE backup_id = {backup_id}").one()


def test_full(zoo):
    server, daemon = zoo
    before = dump(server, "zoo")
    row = backup(daemon, "TO 'fulls' TIMEOUT 60000 TAGS ('nightly', europe)")
    assert (row["database_name"], row["type"], row["status"], row["tags"]) == ("zoo", "FULL", "Success", "nightly,europe")
    assert row["backup_path"] == "nodelocal://self/fulls/zoo.backup" and row["incr_backup_id"] is None
    # Nothing is kept for an increment that cannot come.
    assert server.value("SELECT count(*) FROM pg_replication_slots") == "0"
    error = daemon.error("BACKUP zoo TO 'fulls'")
    assert error.sqlstate == "58P02" and 'already holds a full backup of database "zoo"' in error.message
    # Others may go to the same place.
    server.sql("CREATE DATABASE other")
    daemon.sql("BACKUP DATABASE other TO 'fulls'")
    daemon.sql("RESTORE DATABASE zoo AS zoo2 FROM 'fulls'")
    assert without_unlogged(dump(server, "zoo2")) == without_unlogged(before)
    # Dropped, and back under its own name.
    server.sql("DROP DATABASE zoo2")
    server.sql("DROP DATABASE zoo")
    daemon.sql("RESTORE DATABASE zoo FROM 'fulls'")
    assert without_unlogged(dump(server, "zoo")) == without_unlogged(before)
    assert leftovers(server, daemon) == []


def test_incremental_set(zoo):
    server, daemon = zoo
    rows, dumps = [], []
    for mode in ("INIT", "DIFFERENTIAL", "DIFFERENTIAL"):
        if rows:
            server.sql("UPDATE orders SET amount = amount + 1 WHERE id % 10 = 0", "zoo")
        dumps.append(dump(server, "zoo"))
        rows.append(backup(daemon, f"WITH {mode} TO 'sets'"))
    assert [row["type"] for row in rows] == ["INCR_INIT", "INCR_DIFF", "INCR_DIFF"]
    assert {row["backup_path"] for row in rows} == {"nodelocal://self/sets/zoo.incr_backup"}
    assert int(rows[1]["size_bytes"]) < int(rows[0]["size_bytes"])
    assert daemon.error("BACKUP DATABASE zoo WITH INIT TO 'sets'").sqlstate == "58P02"
    for number, row in enumerate(rows):
        daemon.sql(f"RESTORE DATABASE zoo AS copy FROM 'sets' WITH FILE = {row['incr_backup_id']}")
        assert without_unlogged(dump(server, "copy")) == without_unlogged(dumps[number])
        server.sql("DROP DATABASE copy")
    daemon.sql("RESTORE DATABASE zoo AS copy FROM 'sets'")
    assert without_unlogged(dump(server, "copy")) == without_unlogged(dumps[2])


def test_failure_leaves_a_row(zoo):
    server, daemon = zoo
    place = daemon.collection("blocked")
    place.write_text("in the way")
    error = daemon.error("BACKUP DATABASE zoo TO 'blocked'")
    assert "blocked" in error.message
