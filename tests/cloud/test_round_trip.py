"""BACKUP, SHOW BACKUP and RESTORE with each kind of cloud storage, through psql."""
import json
import urllib.parse

import pytest

from harness import environment as env
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.emulators import BUCKET, Azurite, FakeGcs, Minio
from harness.postgres import Postgres, wait_until


class Bank:
    def __init__(self, lab):
        self.lab = lab
        self.source = lab.postgres()
        make_bank(self.source)
        self.daemon = lab.holdfast(self.source, arguments=["--storage-read-rate", "s3=1GiB", "--storage-write-rate", "s3=1GiB,gs=1GiB"])
        self.digest = digest(self.source, skip_unlogged=True)

    def psql(self, statement):
        done = env.run(env.DEBIAN_BIN / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.daemon.sockets,
                       "-p", self.daemon.port, "-U", "postgres", "-c", statement, "bank")
        return done.stdout

    def round_trip(self, uri, name, key=""):
        """`key` is an option such as "encryption_passphrase = 'x'"."""
        more = f", {key}" if key else ""
        assert "succeeded" in self.psql(f"BACKUP INTO '{uri}'" + (f" WITH {key}" if key else ""))
        assert len(self.psql(f"SHOW BACKUPS IN '{uri}'").split()) == 1
        assert "accounts" in self.psql(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH check_files{more}")
        target = self.lab.root / name
        self.psql(f"RESTORE FROM LATEST IN '{uri}' WITH data_directory = '{target}'{more}")
        restored = self.lab.adopt(Postgres(self.lab.directory(f"server-{name}", 0o755), version=self.source.version, data=target))
        restored.configure({"port": restored.port, "unix_socket_directories": f"'{restored.sockets}'"})
        restored.start()
        wait_until(restored.ready, 60, "the restored server answering")
        assert_same(self.digest, digest(restored, skip_unlogged=True))
        restored.stop()


@pytest.fixture(scope="module")
def bank(module_lab):
    return Bank(module_lab)


def assert_hidden(bank, *secrets):
    """Neither in logs nor in what statements show."""
    shown = bank.daemon.log_text() + bank.psql("SHOW JOBS")
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
    policy = json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["s3:PutObject", "s3:GetObject"], "Resource": [f"arn:aws:s3:::{BUCKET}/*"]},
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [f"arn:aws:s3:::{BUCKET}"]}]})
    body = urllib.parse.urlencode({"Action": "AssumeRole", "Version": "2011-06-15", "Policy": policy, "DurationSeconds": "3600"}).encode()
    status, answer = minio.signed("POST", "/", body=body, service="sts", headers={"content-type": "application/x-www-form-urlencoded"})
    assert status == 200, answer
    text = answer.decode()
    keys = [text.split(f"<{name}>")[1].split("<")[0] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    bank.round_trip(minio.uri("session", keys=keys), "session")
    assert any("BACKUP-LOCK" in name for name in minio.objects("session"))
    assert_hidden(bank, *keys[1:])
