"""RESTORE DATABASE: whole databases out of a cluster backup, into the running server."""
import pytest

from .zoo import dump, leftovers, make_zoo

COLLECTION = "nodelocal://self/archive"


@pytest.fixture(scope="module")
def backed_up(module_lab):
    server = module_lab.postgres()
    make_zoo(server)
    server.sql('CREATE DATABASE "other.Db"')
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id", "other.Db")
    daemon = module_lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return server, daemon


def test_restored_database_dumps_the_same(backed_up):
    server, daemon = backed_up
    before = dump(server, "zoo")
    row = daemon.sql(f"RESTORE DATABASE zoo FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'Zoo 2'").one()
    assert row["status"] == "succeeded"
    after = dump(server, "Zoo 2")
    # Rows of unlogged tables are in no backup.
    start = before.index("COPY public.unlogged_table")
    end = before.index("\\.", start)
    assert before[:start] + before[end:] == after[:start] + after[start:][after[start:].index("\\."):]
    facts = """SELECT encoding, datcollate, datctype, datconnlimit, shobj_description(d.oid, 'pg_database'), setconfig::text
        FROM pg_database d LEFT JOIN pg_db_role_setting ON setdatabase = d.oid AND setrole = 0 WHERE datname = '{}'"""
    assert server.sql(facts.format("zoo")).rows == server.sql(facts.format("Zoo 2")).rows
    assert leftovers(server, daemon) == []
