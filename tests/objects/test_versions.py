"""Databases and tables between major versions: from older ones into a newer server, never the other way round."""
import pytest

from harness.postgres import bin_directory
from .scope import holding
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"

# What every version has, and bytes that differ between them.
SMALL = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, m mood[], v text, big text);
ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
INSERT INTO t (m, v, big) SELECT '{sad,ok}', 'v' || i, repeat('b', 5000) FROM generate_series(1, 500) i;
CREATE INDEX t_v ON t (lower(v));
CREATE TABLE other AS SELECT i FROM generate_series(1, 5000) i;
CREATE FUNCTION peek(i bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN RETURN true; END';
"""
ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM t"


def back_up(lab, version, scope=""):
    source = lab.postgres(f"pg{version}", version=version)
    source.sql("CREATE DATABASE old")
    source.sql(SMALL, "old")
    daemon = lab.holdfast(source, f"hf{version}")
    daemon.sql(f"BACKUP {scope} INTO '{COLLECTION}'")
    if scope:
        for statement in ("UPDATE t SET v = v || '!'", "VACUUM FULL t", "ANALYZE"):
            source.sql(statement, "old")
        daemon.sql(f"BACKUP {scope} INTO LATEST IN '{COLLECTION}'")
        assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    content = source.value(ROWS, "old")
    daemon.stop()
    source.stop()
    return daemon.io, content


@pytest.fixture(scope="module")
def live(module_lab):
    server = module_lab.postgres("live")
    server.sql("CREATE DATABASE rescue")
    return server


@pytest.mark.parametrize("version", (13,))
def test_older_into_newer(lab, live, version):
    io, content = back_up(lab, version)
    daemon = lab.holdfast(live, "hf", start=False)
    daemon.io = io
    daemon.start()
    # Without the programs of that version it is told which are missing.
    error = daemon.error(f"RESTORE DATABASE old FROM LATEST IN '{COLLECTION}'")
    assert (error.sqlstate, error.message) == (
        "58P01", f"could not find the programs of PostgreSQL {version}, the backup's version")
    daemon.arguments += ["--pg-bin", str(bin_directory(version))]
    daemon.restart()
    daemon.sql(f"RESTORE DATABASE old FROM LATEST IN '{COLLECTION}'")
    assert live.value(ROWS, "old") == content
    daemon.sql(f"RESTORE TABLE old.public.t FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert live.value(ROWS, "rescue") == content
    assert live.value("SELECT count(*) FROM pg_indexes WHERE tablename = 't'", "rescue") == "2"
    assert leftovers(live, daemon) == []
    daemon.stop()
    live.sql("DROP DATABASE old")
    live.sql("DROP TABLE t; DROP TYPE mood", "rescue")


@pytest.mark.parametrize("version", (18,))
def test_newer_into_older_is_refused(lab, live, version):
    io, _ = back_up(lab, version)
    daemon = lab.holdfast(live, "hf", start=False, arguments=["--pg-bin", str(bin_directory(version))])
    daemon.io = io
    daemon.start()
    for statement in ("DATABASE old", "TABLE old.public.t"):
        into = " WITH into_db = 'rescue'" if "TABLE" in statement else ""
        error = daemon.error(f"RESTORE {statement} FROM LATEST IN '{COLLECTION}'{into}")
        assert (error.sqlstate, error.message) == (
            "0A000", f"backup from version {version} is newer than current version 15"), error
    assert leftovers(live, daemon) == []


@pytest.mark.parametrize("scope", ("DATABASE old", "TABLE old.public.t"))
@pytest.mark.parametrize("version", (13, 14))
def test_backups_of_databases_and_tables_of_older_versions(lab, live, version, scope):
    io, content = back_up(lab, version, scope)
    daemon = lab.holdfast(live, "hf", start=False, arguments=["--pg-bin", str(bin_directory(version))])
    daemon.io = io
    daemon.start()
    daemon.sql(f"RESTORE TABLE old.public.t FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert live.value(ROWS, "rescue") == content
    live.sql("DROP TABLE t; DROP TYPE mood", "rescue")
    # Some of the rows: what guards the condition is made of that version's catalogs.
    daemon.sql(f"RESTORE TABLE old.public.t FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', "
               "where = $$id % 7 = 0 AND 'ok'::public.mood = ANY (t.m) AND lower(v) LIKE 'v%!' AND id < (SELECT max(id) FROM t)$$")
    assert live.value("SELECT count(*) || ' ' || sum(id % 7) FROM t", "rescue") == "71 0"
    error = daemon.error(f"RESTORE TABLE old.public.t FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', into_schema = 's', "
                         "where = 'public.peek(id)'")
    assert error.sqlstate == "42501" and "it may not use function public.peek(bigint)" in error.message, error
    assert leftovers(live, daemon) == []
    daemon.stop()
    live.sql("DROP TABLE t; DROP TYPE mood", "rescue")


@pytest.mark.parametrize("version", (16, 17, 18))
def test_backups_of_databases_and_tables_of_newer_versions(lab, version):
    for scope in ("DATABASE old", "TABLE old.public.t"):
        source = lab.postgres(f"pg{version}{scope[0]}", version=version)
        source.sql("CREATE DATABASE old")
        source.sql(SMALL.replace("'v' ||", "'pineapple-own' ||").replace("SELECT i FROM", "SELECT i, 'papaya-sibling' AS v FROM") + "ANALYZE", "old")
        source.sql("CREATE TABLE u AS SELECT 'plum-stranger-4713' AS v FROM generate_series(1, 5000)")
        daemon = lab.holdfast(source, f"hf{version}{scope[0]}")
        daemon.sql(f"BACKUP {scope} INTO '{COLLECTION}' WITH compression = 'none'")
        for statement in ("UPDATE t SET v = v || '!'; UPDATE other SET v = v || '!'", "VACUUM FULL", "ANALYZE"):
            source.sql(statement, "old")
        source.sql("UPDATE u SET v = v || '!'")
        daemon.sql(f"BACKUP {scope} INTO LATEST IN '{COLLECTION}' WITH compression = 'none'")
        assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
        root = daemon.collection("archive")
        assert holding(root, "pineapple-own1") and holding(root, "plum-stranger") == []
        assert bool(holding(root, "papaya-sibling")) == scope.startswith("DATABASE")
        daemon.stop()
        source.stop()
