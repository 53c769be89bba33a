"""Servers that speak the protocols of cloud storage, from build/emulators (tools/shell/emulators.sh)."""
import base64
import datetime
import email.utils
import hashlib
import hmac
import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.parse
from pathlib import Path

from . import environment as env
from .postgres import wait_until

EMULATORS = env.ROOT / "build/emulators"
BUCKET = "backups"


def quote(text):
    return urllib.parse.quote(text, safe="")


class Server:
    """One emulator on a free port."""

    def __init__(self, root):
        self.port = env.free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.data = env.make_directory(Path(root) / f"{type(self).__name__.lower()}-{self.port}")
        self.log = self.data / "log"
        self.process = None

    def start(self, command, **environment):
        options = env.process_options()
        options["env"] = {**options["env"], **environment}
        options["cwd"] = self.data
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(part) for part in command], stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, **options)
        wait_until(self.answers, 60, f"{type(self).__name__} answering")
        return self

    def answers(self):
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            self.request("GET", "/")
            return True
        except OSError:
            return False

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def request(self, method, path, body=b"", headers=None):
        connection = self.connection()
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(20)
            self.process = None


class S3(Server):
    """What MinIO and moto have in common."""
    keys = ("an-access-key", "A/secret+key%of=ours")
    host = None

    def signed(self, method, path, query=None, body=b"", service="s3", headers=None, keys=None):
        """A request with Signature Version 4, by an implementation that is not holdfast's."""
        access, secret = (keys or self.keys)[:2]
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        digest = hashlib.sha256(body).hexdigest()
        sent = {"host": f"127.0.0.1:{self.port}", "x-amz-date": now, "x-amz-content-sha256": digest, **(headers or {})}
        query_text = "&".join(f"{quote(k)}={quote(v)}" for k, v in sorted((query or {}).items()))
        names = ";".join(sorted(sent))
        canonical = "\n".join([method, path, query_text, *(f"{name}:{sent[name]}" for name in sorted(sent)), "", names, digest])
        scope = f"{now[:8]}/us-east-1/{service}/aws4_request"
        key = ("AWS4" + secret).encode()
        for part in (now[:8], "us-east-1", service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        sent["Authorization"] = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
        return self.request(method, path + ("?" + query_text if query_text else ""), body, sent)

    def make_bucket(self, name=BUCKET, object_lock=False):
        status, body = self.signed("PUT", f"/{name}", headers={"x-amz-bucket-object-lock-enabled": "true"} if object_lock else None)
        assert status == 200, body

    def uri(self, path="", endpoint=None, keys=None, more="", bucket=BUCKET):
        access, secret, *token = keys or self.keys
        return (f"s3://{bucket}/{path}?AWS_ACCESS_KEY_ID={quote(access)}&AWS_SECRET_ACCESS_KEY={quote(secret)}"
                + (f"&AWS_SESSION_TOKEN={quote(token[0])}" if token else "")
                + f"&AWS_ENDPOINT={quote(endpoint or self.endpoint)}&AWS_REGION=us-east-1{more}")

    def objects(self, prefix="", bucket=BUCKET):
        """Names of the objects; at most a thousand."""
        status, body = self.signed("GET", f"/{bucket}", {"list-type": "2", "prefix": prefix})
        assert status == 200, body
        return re.findall(r"<Key>(.*?)</Key>", body.decode())

    def session_keys(self, actions, bucket=BUCKET):
        """Keys with a session token that allow these actions only, as MinIO's AssumeRole gives them to a user."""
        policy = json.dumps({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": actions, "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]})
        body = urllib.parse.urlencode({"Action": "AssumeRole", "Version": "2011-06-15", "Policy": policy, "DurationSeconds": "3600"}).encode()
        status, answer = self.signed("POST", "/", body=body, service="sts", headers={"content-type": "application/x-www-form-urlencoded"})
        assert status == 200, answer
        text = answer.decode()
        return [text.split(f"<{name}>")[1].split("<")[0] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]


class Minio(S3):
    def start(self, tls_directory=None):
        certificates = ["--certs-dir", str(tls_directory)] if tls_directory else []
        self.tls = tls_directory is not None
        if self.tls:
            self.endpoint = self.endpoint.replace("http:", "https:")
        super().start([env.reachable(EMULATORS / "minio/minio"), "server", self.data / "disk", "--quiet",
                       "--address", f"127.0.0.1:{self.port}", *certificates],
                      MINIO_ROOT_USER=self.keys[0], MINIO_ROOT_PASSWORD=self.keys[1], MINIO_BROWSER="off")
        self.make_bucket()
        return self

    def connection(self):
        if self.tls:
            import ssl
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=ssl._create_unverified_context())
        return super().connection()

    def answers(self):
        return super().answers() and self.request("GET", "/minio/health/cluster")[0] == 200


class Moto(S3):
    def start(self):
        super().start([EMULATORS / "moto/bin/python", EMULATORS / "moto/bin/moto_server", "-H", "127.0.0.1", "-p", self.port])
        self.make_bucket()
        return self


class Azurite(Server):
    account, key = "anaccount", base64.b64encode(b"a key that has thirty-two bytes.").decode()

    def start(self):
        self.endpoint += f"/{self.account}"
        super().start([shutil.which("node"), EMULATORS / "azurite/node_modules/azurite/dist/src/blob/main.js", "--blobHost", "127.0.0.1",
                       "--blobPort", self.port, "--inMemoryPersistence", "--silent", "--disableTelemetry"],
                      AZURITE_ACCOUNTS=f"{self.account}:{self.key}")
        date = email.utils.formatdate(usegmt=True)
        to_sign = ("PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{self.account}/{self.account}/{BUCKET}"
                   "\nrestype:container")
        signature = base64.b64encode(hmac.new(base64.b64decode(self.key), to_sign.encode(), hashlib.sha256).digest()).decode()
        status, body = self.request("PUT", f"/{self.account}/{BUCKET}?restype=container", headers={
            "x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0",
            "Authorization": f"SharedKey {self.account}:{signature}"})
        assert status == 201, body
        return self

    def sas(self):
        """A shared access signature of the account for blobs. Source: Azure, "Create an account SAS"."""
        fields = {"sp": "rwdlac", "ss": "b", "srt": "sco", "se": "2099-01-01T00:00:00Z", "spr": "https,http", "sv": "2018-11-09"}
        to_sign = "\n".join([self.account, fields["sp"], fields["ss"], fields["srt"], "", fields["se"], "", fields["spr"], fields["sv"], ""])
        fields["sig"] = base64.b64encode(hmac.new(base64.b64decode(self.key), to_sign.encode(), hashlib.sha256).digest()).decode()
        return urllib.parse.urlencode(fields)

    def uri(self, path="", with_sas=False):
        secret = f"AZURE_SAS_TOKEN={quote(self.sas())}" if with_sas else f"AZURE_ACCOUNT_KEY={quote(self.key)}"
        return f"azure-blob://{BUCKET}/{path}?AZURE_ACCOUNT_NAME={self.account}&{secret}&AZURE_ENDPOINT={quote(self.endpoint)}"


class FakeGcs(Server):
    token = "a-secret-bearer-token"

    def start(self):
        super().start([env.reachable(EMULATORS / "fake-gcs/fake-gcs-server"), "-scheme", "http", "-host", "127.0.0.1", "-port", self.port,
                       "-backend", "memory", "-public-host", f"127.0.0.1:{self.port}"])
        status, body = self.request("POST", "/storage/v1/b", json.dumps({"name": BUCKET}).encode(), {"Content-Type": "application/json"})
        assert status == 200, body
        return self

    def uri(self, path=""):
        return f"gs://{BUCKET}/{path}?BEARER_TOKEN={self.token}&GOOGLE_ENDPOINT={quote(self.endpoint)}"


def make_certificate(directory):
    """A certificate authority's certificate and, for MinIO, one of it for 127.0.0.1; paths are ca.crt, public.crt, private.key."""
    directory = Path(directory)
    run = lambda *arguments: subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)  # noqa: E731
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=Authority of the tests", "-days", "30")
    run("req", *curve, "-keyout", "private.key", "-out", "request", "-subj", "/CN=127.0.0.1")
    (directory / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
    run("x509", "-req", "-in", "request", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "public.crt", "-days", "30",
        "-extfile", "extensions")
    for name in ("public.crt", "private.key", "ca.crt"):
        env.give(directory / name)
    (directory / "ca.crt").chmod(0o644)
    return directory
