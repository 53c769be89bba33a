"""BACKUP, SHOW BACKUP and RESTORE with each kind of cloud storage, through psql."""
import urllib.parse
from pathlib import Path

import pytest

from cloud.bank import Bank
from harness.emulators import BUCKET, Azurite, FakeGcs, Minio


@pytest.fixture(scope="module")
def bank(module_lab):
    return Bank(module_lab)


def assert_hidden(bank, *secrets):
    """Neither in logs nor in what statements show, nor in the arguments of a process or in a file of the daemon."""
    shown = bank.daemon.log_text() + bank.psql("SHOW JOBS") + bank.psql("SELECT * FROM information_schema.mv_backup_history")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if "psql" not in (arguments := (process / "cmdline").read_text(errors="replace")):
                shown += arguments
        except OSError:
            pass
    for file in bank.daemon.store.rglob("*"):
        if file.is_file():
            shown += file.read_bytes().decode("latin-1")
    for secret in secrets:
        for form in (secret, urllib.parse.quote(secret, safe="")):
            assert form not in shown, f"{form} is shown"


def test_minio(bank, minio):
    bank.round_trip(minio.uri("a path/of it"), "minio")
    assert_hidden(bank, minio.keys[1])


def test_azurite(bank, azurite):
    bank.round_trip(azurite.uri("archive"), "azure")
    assert_hidden(bank, azurite.key)


def test_fake_gcs(bank, fake_gcs):
    bank.round_trip(fake_gcs.uri("archive"), "gcs")
    assert_hidden(bank, fake_gcs.token)


@pytest.mark.parametrize("kind", [Minio, Azurite, FakeGcs], ids=["minio", "azurite", "gcs"])
def test_encrypted(bank, emulators, kind):
    """Read by ranges, with headers that come first."""
    bank.round_trip(emulators(kind).uri("sealed"), f"sealed-{kind.__name__}", "encryption_passphrase = 'of the cloud tests'")
    assert_hidden(bank, "of the cloud tests")


def test_a_policy_with_put_get_and_list_only(bank, minio, proxy):
    """Locks and checkpoints stay, and the backup is good."""
    proxy.add("^DELETE", "answer", times=1000, status=403,
              body=b"<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>")
    uri = minio.uri("least", endpoint=proxy.endpoint)
    bank.round_trip(uri, "least")
    assert any("BACKUP-LOCK" in name for name in minio.objects("least"))
    # A second backup is not in the way of what stayed, and a cancelled one ends as such.
    bank.psql(f"BACKUP INTO '{uri}'")
    assert len(bank.psql(f"SHOW BACKUPS IN '{uri}'").split()) == 2


def test_wrong_keys_and_missing_buckets_are_named(bank, minio, azurite, fake_gcs):
    key, secret = minio.keys
    error = bank.daemon.error(f"BACKUP INTO '{minio.uri('x', keys=(key, 'a-wrong-secret'))}'")
    assert error.sqlstate == "42501" and "a-wrong-secret" not in str(error), error
    for uri in (minio.uri("x"), azurite.uri("x"), fake_gcs.uri("x")):
        error = bank.daemon.error(f"SHOW BACKUPS IN '{uri.replace(f'//{BUCKET}/', '//missing/')}'")
        assert error.sqlstate == "58P01", error
        for hidden in (secret, azurite.key, fake_gcs.token):
            assert hidden not in str(error)


def test_sessions_of_the_stores_own_token_service(bank, minio):
    """Keys with a session token and an inline policy, as MinIO's AssumeRole gives them to a user."""
    keys = minio.session_keys(["s3:PutObject", "s3:GetObject", "s3:ListBucket"])
    bank.round_trip(minio.uri("session", keys=keys), "session")
    assert any("BACKUP-LOCK" in name for name in minio.objects("session"))
    assert_hidden(bank, *keys[1:])
