"""Collections in buckets with object lock: nothing is deleted or overwritten, and what somebody deletes comes back."""
import base64
import datetime
import hashlib
import json
import re
import time
import urllib.parse

import pytest

from cloud.bank import Bank
from harness.digest import digest
from harness.postgres import wait_until

PUT_GET_LIST = ["s3:PutObject", "s3:GetObject", "s3:ListBucket"]
RETAIN = ["s3:PutObjectRetention", "s3:GetObjectRetention"]
VERSIONS = ["s3:ListBucketVersions", "s3:GetObjectVersion"]


@pytest.fixture(scope="module")
def bank(module_lab):
    return Bank(module_lab)


def now():
    """A moment that differs from those of the storage's versions before and after it."""
    time.sleep(1.1)
    moment = datetime.datetime.now(datetime.timezone.utc)
    time.sleep(1.1)
    return moment.isoformat()


def path_of(bucket, name):
    return f"/{bucket}/{urllib.parse.quote(name)}"


def retention(minio, bucket, name):
    """The mode and the end of an object's retention; None where it has none."""
    status, body = minio.signed("GET", path_of(bucket, name), {"retention": ""})
    if status == 404 or b"<Mode>" not in body:
        return None
    text = body.decode()
    until = re.search("<RetainUntilDate>(.*?)</RetainUntilDate>", text)[1]
    return re.search("<Mode>(.*?)</Mode>", text)[1], datetime.datetime.fromisoformat(until.replace("Z", "+00:00"))


def remove_all(minio, bucket):
    """What an attacker does who has all rights."""
    for name in minio.objects(bucket=bucket):
        assert minio.signed("DELETE", path_of(bucket, name))[0] == 204
    assert not minio.objects(bucket=bucket)


def versions(minio, bucket):
    status, body = minio.signed("GET", f"/{bucket}", {"versions": ""})
    assert status == 200, body
    return re.findall(r"<Version>.*?<Key>(.*?)</Key>.*?<VersionId>(.*?)</VersionId>.*?</Version>", body.decode())


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_a_deleted_collection_comes_back(bank, minio, mode):
    bucket = f"locked-{mode}"
    minio.make_bucket(bucket, object_lock=True)
    keys = minio.session_keys(PUT_GET_LIST + RETAIN + VERSIONS, bucket)
    uri = minio.uri("archive", keys=keys, bucket=bucket)
    lock = f"object_lock = '{mode}', retain_for = '2 days'"
    bank.psql(f"BACKUP INTO '{uri}' WITH {lock}")
    bank.source.sql("INSERT INTO accounts SELECT max(id) + 1, 1, 1 FROM accounts", database="bank")
    bank.digest = digest(bank.source, skip_unlogged=True)
    bank.psql(f"BACKUP INTO LATEST IN '{uri}' WITH {lock}")

    names = minio.objects(bucket=bucket)
    in_two_days = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=2)
    kinds = set()
    for name in names:
        kept = retention(minio, bucket, name)
        if re.search(r"BACKUP-LOCK|BACKUP-CHECKPOINT|[.]partial$|[.]time$", name):
            assert kept is None, name
            continue
        assert kept and kept[0] == mode.upper() and abs((kept[1] - in_two_days).total_seconds()) < 600, (name, kept)
        kinds.update(re.findall(r"BACKUP_MANIFEST|LATEST|[.]pack$|[.]wal$", name))
    assert kinds >= {"BACKUP_MANIFEST", "LATEST", ".pack", ".wal"}, kinds

    before = now()
    if mode == "compliance":
        pack, version = next(entry for entry in versions(minio, bucket) if entry[0].endswith(".pack"))
        status, body = minio.signed("DELETE", path_of(bucket, pack), {"versionId": version})
        assert status >= 400, body
    remove_all(minio, bucket)
    for name in names:  # and some of them are overwritten
        if "MANIFEST" in name or "LATEST" in name:
            assert minio.signed("PUT", path_of(bucket, name), body=b"junk", headers={
                "content-md5": base64.b64encode(hashlib.md5(b"junk").digest()).decode()})[0] == 200
    error = bank.daemon.error(f"RESTORE FROM LATEST IN '{uri}' WITH data_directory = '{bank.lab.root / 'junk'}'")
    assert "malformed LATEST" in error.message, error
    then = f"restore_from_versions_at = '{before}'"
    assert len(bank.psql(f"SHOW BACKUPS IN '{uri}' WITH {then}").split()) == 1
    assert "accounts" in bank.psql(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH check_files, {then}")
    bank.restore(uri, f"undeleted-{mode}", then)
    bank.psql(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{uri}' WITH new_table_name = 'accounts_{mode}', {then}")
    same = "SELECT count(*) FROM (TABLE public.accounts EXCEPT TABLE public.accounts_%s) AS missing" % mode
    assert int(bank.source.value(same, database="bank")) == 0
    bank.source.sql(f"DROP TABLE accounts_{mode}", database="bank")
    # The moment before the first backup has none.
    error = bank.daemon.error(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH restore_from_versions_at = '2020-01-01'")
    assert error.sqlstate == "58P01", error


def test_a_full_of_the_past_is_kept_like_any_other(bank, minio):
    bucket = "locked-past"
    minio.make_bucket(bucket, object_lock=True)
    uri = minio.uri("archive", keys=minio.session_keys(PUT_GET_LIST + RETAIN + VERSIONS, bucket), bucket=bucket)
    lock = "object_lock = 'governance', retain_for = '2 days'"
    bank.psql(f"BACKUP INTO '{uri}' WITH revision_history, {lock}")
    before = set(minio.objects(bucket=bucket))
    bank.psql(f"BACKUP INTO '{uri}' AS OF SYSTEM TIME '-1ms' WITH revision_history, {lock}")
    new = [name for name in set(minio.objects(bucket=bucket)) - before if re.search(r"BACKUP_MANIFEST|LATEST|[.]pack$", name)]
    assert sum("BACKUP_MANIFEST" in name for name in new) == 1 and any(name.endswith(".pack") for name in new), new
    for name in new:
        kept = retention(minio, bucket, name)
        assert kept and kept[0] == "GOVERNANCE", name
    assert "No problems found!" in bank.psql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{uri}'")
    bank.psql(f"DROP WAL ARCHIVE IN '{uri}'")


def test_a_bucket_that_locks_everything(bank, minio, proxy):
    """Least privilege, and a retention that the bucket gives to locks and checkpoints too: jobs end all the same."""
    bucket = "default-lock"
    minio.make_bucket(bucket, object_lock=True)
    rule = (b"<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
            b"<Mode>COMPLIANCE</Mode><Days>1</Days></DefaultRetention></Rule></ObjectLockConfiguration>")
    status, body = minio.signed("PUT", f"/{bucket}", {"object-lock": ""}, rule, headers={
        "content-md5": base64.b64encode(hashlib.md5(rule).digest()).decode()})
    assert status == 200, body
    keys = minio.session_keys(PUT_GET_LIST, bucket)
    uri = minio.uri("archive", keys=keys, endpoint=proxy.endpoint, bucket=bucket)
    stall = proxy.add("^PUT .*[.]pack", "stall", times=100)
    job = bank.daemon.detached(f"BACKUP INTO '{uri}' WITH detached")
    wait_until(lambda: stall.hit > 0, 60, "a stalled request")
    bank.daemon.sql(f"PAUSE JOB {job}")
    bank.daemon.wait_job(job, "paused", timeout=20)
    stall.left = 0
    bank.daemon.sql(f"RESUME JOB {job}")
    bank.daemon.wait_job(job)

    stall.hit, stall.left = 0, 100
    job = bank.daemon.detached(f"BACKUP INTO '{uri}' WITH detached")
    wait_until(lambda: stall.hit > 0, 60, "a stalled request")
    stall.left = 0
    bank.daemon.sql(f"CANCEL JOB {job}")
    bank.daemon.wait_job(job, "canceled", timeout=30)

    bank.psql(f"BACKUP INTO LATEST IN '{uri}'")
    assert len(bank.psql(f"SHOW BACKUPS IN '{uri}'").split()) == 1
    kept = minio.objects(bucket=bucket)
    assert any("BACKUP-LOCK" in name for name in kept)
    bank.restore(uri, "default-lock", expected=digest(bank.source, skip_unlogged=True))


def test_what_alter_backup_adds_is_locked_too(bank, minio):
    bucket = "locked-keys"
    minio.make_bucket(bucket, object_lock=True)
    uri = minio.uri("archive", bucket=bucket)
    bank.psql(f"BACKUP INTO '{uri}' WITH encryption_passphrase = 'old and long', object_lock = 'governance', retain_for = '2 days', protect = false")
    before = set(minio.objects(bucket=bucket))
    bank.psql(f"ALTER BACKUP LATEST IN '{uri}' ADD NEW_PASSPHRASE = 'new and longer' WITH OLD_PASSPHRASE = 'old and long'")
    added = set(minio.objects(bucket=bucket)) - before
    assert len(added) == 2 and all(name.endswith("/ENCRYPTION-INFO-2") for name in added), added
    for name in added:
        assert retention(minio, bucket, name)[0] == "GOVERNANCE", name
    bank.psql(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH encryption_passphrase = 'new and longer', check_files")


def test_an_archive_that_does_not_lock_is_told(bank, minio):
    bucket = "locked-in-part"
    minio.make_bucket(bucket, object_lock=True)
    uri = minio.uri("archive", bucket=bucket)
    bank.psql(f"CREATE WAL ARCHIVE IN '{uri}'")
    for more in ("", ", protect = false"):
        result = bank.daemon.sql(f"BACKUP INTO '{uri}' WITH object_lock = 'governance', retain_for = '1 day'{more}")
        assert any("puts its objects without this object_lock" in str(notice) for notice in result.notices), (more, result.notices)
    bank.psql(f"DROP WAL ARCHIVE IN '{uri}'")


def test_a_lock_that_cannot_be_seen_is_not_believed(bank, minio, azurite):
    """Azurite takes the request for a lock, and does nothing. (fake-gcs-server keeps and shows what it was asked for.)"""
    lock = "object_lock = 'governance', retain_for = '1 day', protect = false"
    uri = azurite.uri("unlocked")
    refused = bank.daemon.error(f"BACKUP INTO '{uri}' WITH {lock}")
    assert refused.sqlstate == "55000" and "the storage did not lock object" in refused.message, refused
    assert not bank.psql(f"SHOW BACKUPS IN '{uri}'").split()
    bucket = "locked-unseen"
    minio.make_bucket(bucket, object_lock=True)
    uri = minio.uri("archive", keys=minio.session_keys(PUT_GET_LIST + ["s3:PutObjectRetention"], bucket), bucket=bucket)
    refused = bank.daemon.error(f"BACKUP INTO '{uri}' WITH {lock}")
    assert "could not verify the lock" in refused.message and "s3:GetObjectRetention" in refused.hint, refused


def test_a_deleted_collection_comes_back_from_versions_of_a_google_bucket(bank, fake_gcs):
    bucket = "versioned"
    status, body = fake_gcs.request("POST", "/storage/v1/b", json.dumps({"name": bucket, "versioning": {"enabled": True}}).encode(),
                                    {"Content-Type": "application/json"})
    assert status == 200, body
    uri = fake_gcs.uri("archive").replace("gs://backups/", f"gs://{bucket}/")
    bank.psql(f"BACKUP INTO '{uri}'")
    bank.source.sql("INSERT INTO accounts SELECT max(id) + 1, 1, 1 FROM accounts", database="bank")
    bank.digest = digest(bank.source, skip_unlogged=True)
    bank.psql(f"BACKUP INTO LATEST IN '{uri}' WITH protect = false")
    before = now()
    bank.psql(f"BACKUP INTO '{uri}' WITH protect = false")
    status, body = fake_gcs.request("GET", f"/storage/v1/b/{bucket}/o")
    for name in [item["name"] for item in json.loads(body)["items"]]:
        path = urllib.parse.quote(name, safe="")
        if "LATEST" in name:  # overwritten, and the others deleted
            assert fake_gcs.request("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={path}", b"junk")[0] == 200
        else:
            assert fake_gcs.request("DELETE", f"/storage/v1/b/{bucket}/o/{path}")[0] in (200, 204)
    assert "malformed LATEST" in bank.daemon.error(f"RESTORE FROM LATEST IN '{uri}' WITH data_directory = '{bank.lab.root / 'no'}'").message
    then = f"restore_from_versions_at = '{before}'"
    assert len(bank.psql(f"SHOW BACKUPS IN '{uri}' WITH {then}").split()) == 1
    bank.psql(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH check_files, {then}")
    bank.restore(uri, "undeleted-gs", then)
    error = bank.daemon.error(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH restore_from_versions_at = '2020-01-01'")
    assert error.sqlstate == "58P01", error


def test_an_azure_container_without_versions_is_as_old_as_its_blobs(bank, azurite):
    """Azurite keeps no versions. (What Azure answers is in azure_versions_test.cc.)"""
    uri = azurite.uri("as-old")
    bank.psql(f"BACKUP INTO '{uri}' WITH protect = false")
    then = f"restore_from_versions_at = '{now()}'"
    assert bank.psql(f"SHOW BACKUPS IN '{uri}' WITH {then}") == bank.psql(f"SHOW BACKUPS IN '{uri}'")
    bank.psql(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH check_files, {then}")
    assert not bank.psql(f"SHOW BACKUPS IN '{uri}' WITH restore_from_versions_at = '2020-01-01'").split()


def test_wrong_values_and_storage_without_locks(bank, minio):
    error = bank.daemon.error
    for options, said in (("object_lock = 'compliance'", "must be given together"),
                          ("retain_for = '1 day'", "must be given together"),
                          ("object_lock = 'none', retain_for = '1 day'", "object_lock"),
                          ("object_lock = 'governance', retain_for = 'soon'", ""),
                          ("object_lock = 'governance', retain_for = '-1 day'", "retain_for"),
                          ("object_lock = 'governance', retain_for = '2099-01-01'", "retain_for")):
        refused = error(f"BACKUP INTO '{minio.uri('x')}' WITH {options}")
        assert refused.sqlstate in ("22023", "22007") and said in refused.message, (options, refused)
    refused = error("BACKUP INTO 'nodelocal://self/x' WITH object_lock = 'governance', retain_for = '1 day'")
    assert refused.sqlstate == "0A000" and "nodelocal storage does not support object_lock" in refused.message, refused
    refused = error("SHOW BACKUPS IN 'nodelocal://self/x' WITH restore_from_versions_at = '-1h'")
    assert refused.sqlstate == "0A000" and "restore_from_versions_at" in refused.message, refused
    refused = error(f"SHOW BACKUPS IN '{minio.uri('x')}' WITH restore_from_versions_at = 'then'")
    assert refused.sqlstate == "22023", refused
    refused = error(f"BACKUP INTO '{minio.uri('plain')}' WITH object_lock = 'governance', retain_for = '1 day'")
    assert "object lock" in (refused.message + refused.hint).lower(), refused
