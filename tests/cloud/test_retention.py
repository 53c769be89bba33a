"""DELETE BACKUPS where the storage does not let go."""
import pytest

from cloud.bank import Bank

PUT_GET_LIST = ["s3:PutObject", "s3:GetObject", "s3:ListBucket"]


@pytest.fixture(scope="module")
def bank(module_lab):
    return Bank(module_lab)


def fulls(bank, uri):
    return bank.psql(f"SHOW BACKUPS IN '{uri}'").split()


def keep_one(bank, uri):
    """What became of each chain, and of WAL."""
    rows = bank.daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{uri}'").dicts()
    return {"/" + row["subdirectory"]: row["action"] for row in rows}


def test_what_may_not_go_yet_goes_later(bank, minio):
    bucket = "kept-for-now"
    minio.make_bucket(bucket)
    uri = minio.uri("archive", keys=minio.session_keys(PUT_GET_LIST, bucket), bucket=bucket)
    for _ in range(2):
        bank.psql(f"BACKUP INTO '{uri}'")
    old, new = fulls(bank, uri)
    for _ in range(2):
        rows = keep_one(bank, uri)
        assert rows[old] == "not yet" and rows[new] == "kept", rows
        assert fulls(bank, uri) == [old, new]
        bank.psql(f"SHOW BACKUP FROM '{old}' IN '{uri}' WITH check_files")
    bank.restore(uri, "kept-for-now")
    # With the right to delete.
    uri = minio.uri("archive", bucket=bucket)
    rows = keep_one(bank, uri)
    assert rows[old] == "deleted" and fulls(bank, uri) == [new], rows
    assert not [name for name in minio.objects(bucket=bucket) if old.strip("/") in name]
    bank.restore(uri, "the-newer-one")


def test_locked_objects_stay_behind_the_deletion(bank, minio):
    """In a bucket with object lock a deletion hides objects; they come back as long as they are kept."""
    bucket = "kept-by-lock"
    minio.make_bucket(bucket, object_lock=True)
    uri = minio.uri("archive", bucket=bucket)
    for _ in range(2):
        bank.psql(f"BACKUP INTO '{uri}' WITH object_lock = 'compliance', retain_for = '1 day'")
    old, new = fulls(bank, uri)
    bank.source.sql("SELECT pg_sleep(1.2)")  # the storage's times may be in whole seconds
    then = bank.source.value("SELECT clock_timestamp()")
    bank.source.sql("SELECT pg_sleep(1.2)")
    rows = keep_one(bank, uri)
    assert rows[old] == "deleted" and fulls(bank, uri) == [new], rows
    bank.restore(uri, "beside-the-lock")
    versions = f"restore_from_versions_at = '{then}'"
    assert bank.psql(f"SHOW BACKUPS IN '{uri}' WITH {versions}").split() == [old, new]
    bank.psql(f"SHOW BACKUP FROM '{old}' IN '{uri}' WITH check_files, {versions}")
