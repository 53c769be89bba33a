"""Data keys under keys of AWS KMS: moto's."""
import json

import pytest

from cluster.test_incremental import start_restored
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.emulators import quote

COLLECTION = "nodelocal://self/archive"
SECRET = "a-secret-access-key-of-kms"


def ask(moto, operation, **question):
    status, body = moto.request("POST", "/", json.dumps(question).encode(), {
        "Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"TrentService.{operation}",
        "Authorization": "AWS4-HMAC-SHA256 Credential=id/20261126/eu-west-1/kms/aws4_request, SignedHeaders=host, Signature=x"})
    assert status == 200, body
    return json.loads(body)


def make_key(moto, alias=None):
    key = ask(moto, "CreateKey")["KeyMetadata"]["KeyId"]
    if alias:
        ask(moto, "CreateAlias", AliasName=f"alias/{alias}", TargetKeyId=key)
    return key


def uri(moto, key, endpoint=None):
    return (f"aws:///{key}?REGION=eu-west-1&AWS_ACCESS_KEY_ID=id&AWS_SECRET_ACCESS_KEY={SECRET}"
            f"&AWS_ENDPOINT={quote(endpoint or moto.endpoint)}")


@pytest.fixture
def bank(lab):
    source = lab.postgres()
    make_bank(source)
    return source


@pytest.mark.long
def test_several_keys_and_rotation(lab, bank, moto):
    daemon = lab.holdfast(bank)
    one, two, three = make_key(moto, "one"), make_key(moto), make_key(moto)
    both = f"WITH kms = ('{uri(moto, one)}', '{uri(moto, two)}')"
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {both}")
    bank.sql("CREATE TABLE later AS SELECT 1 AS id", "bank")
    before = digest(bank)
    # An alias of the key, and the second alone.
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH kms = '{uri(moto, 'alias/one')}'")
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH kms = '{uri(moto, two)}', check_files")

    def restore(key, name):
        target = lab.root / name
        daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH kms = '{uri(moto, key)}', data_directory = '{target}'")
        server = start_restored(lab, bank, target)
        assert_same(before, digest(server))
        server.stop()
    restore(two, "two")

    error = daemon.error(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH kms = '{uri(moto, three)}'")
    assert error.message == "one of the provided URIs was not used when encrypting the base BACKUP"
    assert "file appears encrypted" in daemon.error(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'").message
    assert "failed to decrypt" in daemon.error(
        f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH encryption_passphrase = 'x'").message
    # The first one's service is away; the second opens.
    gone = uri(moto, one, "http://127.0.0.1:1")
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH kms = ('{gone}', '{uri(moto, two)}')")
    assert "failed to decrypt data key" in daemon.error(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH kms = '{gone}'").message
    assert "failed to encrypt data key for KMS scheme aws" in daemon.error(
        f"BACKUP INTO 'nodelocal://self/other' WITH kms = '{gone}'").message
    assert "failed to dry run backup: failed to encrypt data key" in daemon.error(
        f"CREATE SCHEDULE s FOR BACKUP INTO 'nodelocal://self/other' WITH kms = '{gone}' RECURRING '@daily'").message
    assert not daemon.collection("other").exists()

    # Rotation, and the old keys are gone.
    error = daemon.error(f"ALTER BACKUP LATEST IN '{COLLECTION}' ADD NEW_KMS = '{uri(moto, two)}' WITH OLD_KMS = '{uri(moto, three)}'")
    assert error.message == "no key in OLD_KMS matches a key that was previously used to encrypt the backup"
    assert daemon.sql(f"ALTER BACKUP LATEST IN '{COLLECTION}' ADD NEW_KMS = '{uri(moto, three)}' WITH OLD_KMS = '{uri(moto, two)}'").tag \
        == "ALTER BACKUP"
    assert sum(f.endswith("/ENCRYPTION-INFO-2") for f in daemon.files("archive")) == 2
    for key in (one, two):
        ask(moto, "DisableKey", KeyId=key)
    restore(three, "three")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH kms = '{uri(moto, three)}'")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH kms = '{uri(moto, three)}'")

    shown = daemon.log_text() + str(daemon.sql("SHOW JOBS").rows)
    assert SECRET not in shown
    for path in (*daemon.store.rglob("*"), *daemon.collection("archive").rglob("*")):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_external_connection_of_a_key(lab, bank, moto):
    daemon = lab.holdfast(bank)
    key = make_key(moto)
    daemon.sql(f"CREATE EXTERNAL CONNECTION vault AS '{uri(moto, key)}'")
    assert daemon.sql("SELECT connection_type FROM [SHOW EXTERNAL CONNECTIONS]").rows == [["KMS"]]
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH kms = 'external://vault'")
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH kms = 'external://vault', check_files")
    assert "could not encrypt" in daemon.error(f"CREATE EXTERNAL CONNECTION nothing AS '{uri(moto, 'no-such-key')}'").message
    # Storage that somebody may use opens nothing without the right to the key.
    bank.sql("CREATE ROLE somebody LOGIN", "bank")
    daemon.sql(f"CREATE EXTERNAL CONNECTION storage AS '{COLLECTION}'")
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION storage TO somebody")
    show = "SHOW BACKUP FROM LATEST IN 'external://storage' WITH kms = '{}'"
    for key_uri in ("external://vault", uri(moto, key)):
        error = daemon.error(show.format(key_uri), user="somebody", tcp=True)
        assert error.sqlstate == "42501" and "storage" not in error.message, error
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION vault TO somebody")
    assert daemon.sql(show.format("external://vault"), user="somebody", tcp=True).rows
