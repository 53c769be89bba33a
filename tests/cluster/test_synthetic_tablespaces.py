"""BACKUP INTO … AS OF SYSTEM TIME behind the creation of tablespaces."""
import json

import pytest

from harness.bank import make_bank
from harness.digest import assert_same
from .test_synthetic_full import COLLECTION, content, lay_out, take
from .test_wal_archive import wait_archived


def tablespaces_of(daemon, subdirectory):
    manifest = json.loads(daemon.sql(f"SHOW BACKUP FROM '{subdirectory}' IN '{COLLECTION}' WITH as_json").rows[0][0])
    return {space["oid"]: space["location"] for space in manifest.get("tablespaces", [])}, int(manifest["start"]["position"])


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 15, 18])
def test_tablespaces_that_were_made_moved_into_and_dropped_meanwhile(lab, version):
    """Their directories are the live server's: recovery of the past goes nowhere near them."""
    source = lab.postgres(version=version)
    old, gone, late = (lab.directory(name) for name in ("old space", "gone", "late"))
    make_bank(source)
    source.sql(f"CREATE TABLESPACE old_space LOCATION '{old}'")
    source.sql("CREATE TABLE was_there TABLESPACE old_space AS SELECT generate_series(1, 500) AS id", "bank")
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    source.sql("CREATE DATABASE moves")
    source.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id", "moves")
    source.sql(f"CREATE TABLESPACE gone LOCATION '{gone}'")
    source.sql("CREATE TABLE short_lived TABLESPACE gone AS SELECT 1 AS id; DROP TABLE short_lived", "bank")
    source.sql("DROP TABLESPACE gone")
    source.sql("ALTER TABLE was_there SET TABLESPACE pg_default", "bank")
    source.sql("DROP TABLESPACE old_space")
    source.sql("CHECKPOINT")
    before_late = int(source.value("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))
    source.sql(f"CREATE TABLESPACE late LOCATION '{late}'")
    source.sql("CREATE TABLE there (id int PRIMARY KEY USING INDEX TABLESPACE late) TABLESPACE late;"
               "INSERT INTO there SELECT generate_series(1, 3000)", "bank")
    source.sql("ALTER TABLE accounts SET TABLESPACE late; ALTER TABLE was_there SET TABLESPACE late", "bank")
    oid = source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'late'")
    first, moment = content(source), source.value("SELECT clock_timestamp()")
    source.sql("SELECT pg_sleep(0.01)")
    source.sql("ALTER DATABASE moves SET TABLESPACE late")
    source.sql("CHECKPOINT; INSERT INTO there VALUES (-1)", "bank")
    second, later = content(source), source.value("SELECT clock_timestamp()")
    source.sql("SELECT pg_sleep(0.01); TRUNCATE there; CHECKPOINT", "bank")
    wait_archived(daemon, source)
    now = content(source)
    held = sorted((str(path), path.lstat().st_mtime_ns) for path in late.rglob("*"))

    near = take(daemon, f"'{moment}'", " WITH revision_history")
    behind = take(daemon, f"'{later}'")
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in late.rglob("*")) == held
    assert list(gone.iterdir()) == [] and content(source) == now
    for subdirectory, expected, name in ((near, first, "near"), (behind, second, "behind")):
        # What it has is what the server had: its own places, and not those that were dropped.
        spaces, start = tablespaces_of(daemon, subdirectory)
        assert spaces == {int(oid): str(late)}, spaces
        assert (start <= before_late) == (name == "near")
        assert daemon.sql(f"SHOW BACKUP VALIDATE FROM '{subdirectory}' IN '{COLLECTION}'").rows == [["No problems found!"]]
        error = daemon.error(f"RESTORE FROM '{subdirectory}' IN '{COLLECTION}' WITH data_directory = '{lab.root / name}'")
        assert error.sqlstate == "55000" and f"tablespace_mapping = '{oid}=/new/path'" in error.hint, error
        assert not (lab.root / name).exists()
        other = lab.root / f"late of {name}"
        server = lay_out(lab, daemon, source, subdirectory, name, options=f", tablespace_mapping = '{late}={other}'")
        assert_same(expected, content(server))
        assert server.value(f"SELECT pg_tablespace_location({oid})") == str(other)
        server.amcheck()
        server.stop()
        daemon.sql(f"VERIFY BACKUP '{subdirectory}' IN '{COLLECTION}'")
    assert sorted((str(path), path.lstat().st_mtime_ns) for path in late.rglob("*")) == held
    # What is built on it.
    daemon.sql(f"BACKUP INTO '{near}' IN '{COLLECTION}' WITH revision_history")
    server = lay_out(lab, daemon, source, near, "last", options=f", tablespace_mapping = '{oid}={lab.root / 'late of last'}'")
    assert_same(now, content(server))
    server.amcheck()
