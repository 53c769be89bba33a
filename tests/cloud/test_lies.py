"""Storage whose objects are not what was put: older ones, cut ones, those of another name. Each kind of storage, plain and encrypted."""
import base64
import email.utils
import hashlib
import json
import random
import re
import urllib.parse

import pytest

from cloud.bank import Bank
from harness.emulators import BUCKET, quote
from harness.wire import SqlError

KEY = "encryption_passphrase = 'correct horse battery staple'"


@pytest.fixture(scope="module")
def bank(module_lab):
    return Bank(module_lab)


class Nodelocal:
    def __init__(self, bank, name):
        self.root, self.uri = bank.daemon.io / name, f"nodelocal://self/{name}"

    def names(self):
        return [str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()]

    def read(self, name):
        return (self.root / name).read_bytes()

    def write(self, name, content):
        (self.root / name).write_bytes(content)


class S3:
    def __init__(self, minio, name):
        self.server, self.prefix, self.uri = minio, f"{name}/", minio.uri(name)

    def names(self):
        return [name[len(self.prefix):] for name in self.server.objects(self.prefix)]

    def path(self, name):
        return f"/{BUCKET}/{urllib.parse.quote(self.prefix + name)}"

    def read(self, name):
        status, body = self.server.signed("GET", self.path(name))
        assert status == 200, body
        return body

    def write(self, name, content):
        status, body = self.server.signed("PUT", self.path(name), body=content)
        assert status == 200, body


class Gcs:
    def __init__(self, server, name):
        self.server, self.prefix, self.uri = server, f"{name}/", server.uri(name)

    def names(self):
        status, body = self.server.request("GET", f"/storage/v1/b/{BUCKET}/o?prefix={quote(self.prefix)}")
        assert status == 200, body
        return [item["name"][len(self.prefix):] for item in json.loads(body)["items"]]

    def read(self, name):
        status, body = self.server.request("GET", f"/storage/v1/b/{BUCKET}/o/{quote(self.prefix + name)}?alt=media")
        assert status == 200, body
        return body

    def write(self, name, content):
        status, body = self.server.request("POST", f"/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={quote(self.prefix + name)}",
                                           content, {"Content-Type": "application/octet-stream"})
        assert status == 200, body


class Azure:
    def __init__(self, server, name):
        self.server, self.prefix, self.uri = server, f"{name}/", server.uri(name)

    def ask(self, method, path, body=b"", **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        status, answer = self.server.request(method, f"/{self.server.account}/{BUCKET}{path}{'&' if '?' in path else '?'}{self.server.sas()}", body,
                                             {"x-ms-version": "2021-08-06", "x-ms-date": email.utils.formatdate(usegmt=True), **headers})
        assert status in (200, 201), answer
        return answer

    def names(self):
        listed = self.ask("GET", f"?restype=container&comp=list&prefix={quote(self.prefix)}").decode()
        return [name[len(self.prefix):] for name in re.findall("<Name>(.*?)</Name>", listed)]

    def read(self, name):
        return self.ask("GET", f"/{urllib.parse.quote(self.prefix + name)}")

    def write(self, name, content):
        self.ask("PUT", f"/{urllib.parse.quote(self.prefix + name)}", content, x_ms_blob_type="BlockBlob",
                 Content_MD5=base64.b64encode(hashlib.md5(content).digest()).decode())


@pytest.fixture
def storage(request, bank):
    kind, encrypted = request.param
    name = f"lies-{kind}-{'encrypted' if encrypted else 'plain'}"
    if kind == "nodelocal":
        return Nodelocal(bank, name), KEY if encrypted else ""
    server = request.getfixturevalue({"s3": "minio", "gs": "fake_gcs", "azure": "azurite"}[kind])
    return {"s3": S3, "gs": Gcs, "azure": Azure}[kind](server, name), KEY if encrypted else ""


@pytest.mark.parametrize("storage", [(kind, encrypted) for kind in ("nodelocal", "s3", "gs", "azure") for encrypted in (False, True)],
                         indirect=True, ids=lambda it: f"{it[0]}-{'encrypted' if it[1] else 'plain'}")
def test_what_was_not_put_is_never_taken(bank, storage):
    place, key = storage
    options = f" WITH {key}, protect = false" if key else " WITH protect = false"
    for _ in range(2):
        bank.psql(f"BACKUP INTO '{place.uri}'{options}")
    old, new = (full.lstrip("/") for full in bank.psql(f"SHOW BACKUPS IN '{place.uri}'").split())
    bank.source.sql("UPDATE accounts SET balance = balance + 1", database="bank")
    bank.psql(f"BACKUP INTO LATEST IN '{place.uri}'{options}")
    chance = random.Random(4711)
    names = place.names()

    def verdict():
        """What VALIDATE says, or the error."""
        with_key = f" WITH {key}" if key else ""
        try:
            return bank.daemon.sql(f"SHOW BACKUP VALIDATE FROM '{new}' IN '{place.uri}'{with_key}").rows[0][0]
        except SqlError as error:
            return str(error)

    assert verdict() == "No problems found!"
    # Of each kind one object of the chain, and of the WAL that it needs.
    kinds = {"manifest": [f"{new}/BACKUP_MANIFEST"],
             "manifest of a layer": [name for name in names if name.startswith(f"incrementals/{new}/") and name.endswith("BACKUP_MANIFEST")],
             "pack": [name for name in names if name.startswith(f"{new}/data/")],
             "WAL": sorted(name for name in names if name.endswith(".wal"))[-1:]}
    if key:
        kinds["keys"] = [f"{new}/ENCRYPTION-INFO"]
    for kind, candidates in kinds.items():
        name = chance.choice(candidates)
        whole = place.read(name)
        twin = name.replace(new, old)
        others = [other for other in names if other != name and other.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1] and "LOCK" not in other]
        lies = {"cut": whole[:len(whole) // 2], "nothing": b"", "longer": whole + whole[-16:],
                "another's": place.read(chance.choice(others)) if others else b"x"}
        if twin in names and twin != name:
            lies["older"] = place.read(twin)
        for what, content in lies.items():
            if content == whole:
                continue
            place.write(name, content)
            said = verdict()
            assert said != "No problems found!", (kind, name, what)
        target = bank.lab.root / f"lie-{place.uri.split(':')[0]}-{'e' if key else 'p'}-{kind.replace(' ', '-')}"
        error = bank.daemon.error(f"RESTORE FROM '{new}' IN '{place.uri}' WITH data_directory = '{target}'{', ' + key if key else ''}")
        assert error.message and not (target / "global/pg_control").exists(), error
        place.write(name, whole)
    assert verdict() == "No problems found!"
