"""Sources that are damaged."""
import os

import pytest

from faults.helpers import COLLECTION, assert_nothing_left
from harness import environment as env
from harness.bank import make_bank
from harness.postgres import wait_until


def relation_file(postgres, table, database="bank"):
    return postgres.data / postgres.value(f"SELECT pg_relation_filepath('{table}')", database)


def corrupt(path, block, offset=4000):
    with open(path, "r+b") as file:
        file.seek(block * 8192 + offset)
        byte = file.read(1)
        file.seek(block * 8192 + offset)
        file.write(bytes([byte[0] ^ 0xFF]))


def prepared(lab):
    source = lab.postgres()
    make_bank(source)
    source.sql("CREATE TABLE grown AS SELECT i AS id, md5(i::text) AS t FROM generate_series(1, 20000) i", "bank")
    source.sql("CHECKPOINT")
    return source


def test_corrupt_page_is_named_with_relation_and_block(lab):
    source = prepared(lab)
    path = relation_file(source, "grown")
    corrupt(path, 7)
    daemon = lab.holdfast(source)
    error = daemon.error(f"BACKUP INTO '{COLLECTION}'")
    text = f"{error.message} {error.detail}"
    assert error.sqlstate == "XX001", error
    assert "grown" in text and "7" in text and path.name in text, error
    assert daemon.fulls("archive") == []
    assert_nothing_left(daemon)


def test_corrupt_pages_can_be_recorded(lab):
    source = prepared(lab)
    path = relation_file(source, "grown")
    corrupt(path, 7)
    corrupt(path, 99)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH allow_corrupt_pages")
    manifest = daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH as_json").value()
    assert path.name in manifest and '"block": 7' in manifest.replace('"block":7', '"block": 7'), manifest[:3000]
    # An incremental does not read them again, and what it is restored with has them all the same.
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    restored = daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{lab.root / 'target'}'")
    assert any("recorded 2 corrupt pages" in message for _, message in restored.notices), restored.notices


def test_torn_page_is_not_corrupt(lab):
    """A page that WAL rewrites between start and stop is right after replay, whatever was read."""
    source = prepared(lab)
    path = relation_file(source, "grown")
    go = lab.root / "go"
    daemon = lab.holdfast(source, pause_point=f"backup.after_start=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "stall" in daemon.log_text() or "backup.after_start" in daemon.log_text(), 60)
    source.sql("UPDATE grown SET t = 'new' WHERE id <= 2000", "bank")
    # The page on disk is torn; the right one is in shared buffers and, as a full-page image, in the WAL.
    corrupt(path, 3)
    go.touch()
    daemon.wait_job(job)
    source.destroy()
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    assert source.value("SELECT count(*) FROM grown WHERE t = 'new'", "bank") == "2000"
    source.amcheck()


def test_zeroed_page_is_new_not_corrupt(lab):
    source = prepared(lab)
    path = relation_file(source, "grown")
    with open(path, "ab") as file:
        file.write(bytes(3 * 8192))
    daemon = lab.holdfast(source)
    assert daemon.sql(f"BACKUP INTO '{COLLECTION}'").one()["status"] == "succeeded"


def test_unreadable_file_is_named(lab):
    source = prepared(lab)
    path = relation_file(source, "grown")
    daemon = lab.holdfast(source)
    if env.AM_ROOT:
        os.chown(path, 0, 0)
    path.chmod(0o000)
    error = daemon.error(f"BACKUP INTO '{COLLECTION}'")
    path.chmod(0o600)
    env.give(path)
    assert error.sqlstate == "42501" and path.name in f"{error.message} {error.detail}", error
    assert_nothing_left(daemon)
    assert daemon.sql(f"BACKUP INTO '{COLLECTION}'").one()["status"] == "succeeded"


def test_unwritable_storage_is_named(lab):
    source = prepared(lab)
    daemon = lab.holdfast(source)
    daemon.io.chmod(0o500)
    error = daemon.error(f"BACKUP INTO '{COLLECTION}'")
    daemon.io.chmod(0o700)
    assert error.sqlstate == "42501", error


def test_relation_that_shrinks_and_goes_while_it_is_read(lab):
    source = prepared(lab)
    go = lab.root / "go"
    daemon = lab.holdfast(source, pause_point=f"backup.after_plan=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "stall" in daemon.log_text() or "backup.after_plan" in daemon.log_text(), 60)
    source.sql("DELETE FROM grown WHERE id > 100", "bank")
    source.sql("VACUUM (TRUNCATE) grown", "bank")
    source.sql("DROP TABLE accounts CASCADE", "bank")
    source.sql("CREATE DATABASE fresh TEMPLATE bank")
    source.sql("CHECKPOINT")
    go.touch()
    daemon.wait_job(job)
    source.destroy()
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    for database in ("bank", "fresh"):
        assert source.value("SELECT count(*) FROM grown", database) == "100"
        assert source.value("SELECT to_regclass('accounts') IS NULL", database) == "t"
    source.amcheck()


@pytest.mark.parametrize("what", ["unlogged", "temporary"])
def test_relations_that_recovery_empties_are_not_stored(lab, what):
    source = prepared(lab)
    daemon = lab.holdfast(source)
    if what == "unlogged":
        source.sql("CREATE UNLOGGED TABLE u AS SELECT md5(i::text) AS t FROM generate_series(1, 200000) i", "bank")
        name = relation_file(source, "u").name
        holder = None
    else:
        holder = source.connect("bank")
        holder.query("CREATE TEMP TABLE u AS SELECT md5(i::text) AS t FROM generate_series(1, 200000) i")
        holder.query("CHECKPOINT")
        name = holder.query("SELECT pg_relation_filepath('u')").value().rsplit("/", 1)[-1]
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    found = [path for path in target.rglob(f"{name}*") if not path.name.endswith("_init")]
    assert found == [], found
    if holder:
        holder.close()


def test_wal_that_the_spool_lost_is_not_archived(lab):
    """A disk that fails to write a page may give another one back, and say nothing."""
    source = prepared(lab)
    go = lab.root / "go"
    daemon = lab.holdfast(source, pause_point=f"backup.after_plan=stall:{go}")
    job = daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH detached").one()["job_id"]
    wait_until(lambda: "reached pause point" in daemon.log_text(), 60, "the backup being held")
    source.sql("UPDATE grown SET t = 'spooled'", "bank")

    def spooled():
        return next((path for path in daemon.store.rglob("0*.partial") if path.stat().st_size > 8192), None)
    spool = wait_until(spooled, 60, "WAL in the spool")
    corrupt(spool, 0)
    go.touch()
    daemon.wait_job(job, "failed")
    error = daemon.sql(f"SHOW JOB {job}").one()["error"]
    assert spool.name.removesuffix(".partial") in error and "does not hold what was received" in error, error
    assert daemon.fulls("archive") == []
    assert_nothing_left(daemon)
