"""The schedules of the starting documentation, with nothing but their placeholders filled, for each kind of cloud storage."""
import base64
import http.server
import json
import re
import subprocess
import threading
import urllib.parse

import pytest

from harness.bank import make_bank
from harness.chain import Chain
from harness.digest import digest
from harness.emulators import BUCKET, Azurite, FakeGcs, Minio, quote
from harness.postgres import wait_until

STATEMENTS = {
    "s3": ("CREATE SCHEDULE core_schedule_label FOR BACKUP INTO 's3://{BUCKET}/{PATH}?AWS_ACCESS_KEY_ID={KEY ID}&AWS_SECRET_ACCESS_KEY={KEY}' "
           "RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now';"),
    "azure": ("CREATE SCHEDULE core_schedule_label FOR BACKUP INTO 'azure://{CONTAINER}/{PATH}?AZURE_ACCOUNT_NAME={ACCOUNT}"
              "&AZURE_ACCOUNT_KEY={KEY}' RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now';"),
    "gs": ("CREATE SCHEDULE core_schedule_label FOR BACKUP INTO 'gs://{BUCKET}/{PATH}?AUTH=specified&CREDENTIALS={KEY}' "
           "RECURRING '@daily' FULL BACKUP ALWAYS WITH SCHEDULE OPTIONS first_run = 'now';"),
}


class TokenServer(threading.Thread):
    """Gives a token to whoever asks with a signed assertion, as Google's does."""

    def __init__(self, token):
        super().__init__(daemon=True)
        self.asked = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802
                form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                outer.asked.append(form)
                body = json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": 3600}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/token"
        self.start()

    def run(self):
        self.server.serve_forever()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def service_account(token_uri):
    """The JSON of a service account's key, in base64 as the documentation asks for it."""
    key = subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], check=True,
                         capture_output=True, text=True).stdout
    account = {"type": "service_account", "project_id": "p", "private_key_id": "k", "private_key": key,
               "client_email": "backup@p.iam.gserviceaccount.com", "token_uri": token_uri}
    return base64.b64encode(json.dumps(account).encode()).decode()


def fill(statement, values):
    """Each placeholder by its value. The emulator's address rides on the last one, the key: nothing else is added."""
    filled = re.sub(r"\{([A-Z ]+)\}", lambda match: values[match.group(1)], statement)
    assert "{" not in filled
    return filled


@pytest.fixture
def filled(request, emulators):
    """The statement for one kind of storage, and what must be shown nowhere."""
    kind = request.param
    servers = []
    if kind == "s3":
        minio = emulators(Minio)
        key_id, key = minio.keys
        values = {"BUCKET": BUCKET, "PATH": "scheduled", "KEY ID": quote(key_id),
                  "KEY": f"{quote(key)}&AWS_ENDPOINT={quote(minio.endpoint)}&AWS_REGION=us-east-1"}
        secrets = [key]
    elif kind == "azure":
        azurite = emulators(Azurite)
        values = {"CONTAINER": BUCKET, "PATH": "scheduled", "ACCOUNT": azurite.account,
                  "KEY": f"{quote(azurite.key)}&AZURE_ENDPOINT={quote(azurite.endpoint)}"}
        secrets = [azurite.key]
    else:
        gcs = emulators(FakeGcs)
        servers.append(TokenServer(gcs.token))
        credentials = service_account(servers[0].uri)
        values = {"BUCKET": BUCKET, "PATH": "scheduled", "KEY": f"{quote(credentials)}&GOOGLE_ENDPOINT={quote(gcs.endpoint)}"}
        secrets = [gcs.token, credentials]
    yield kind, fill(STATEMENTS[kind], values), secrets
    for server in servers:
        assert server.asked, "nobody has asked for a token"
        server.close()


@pytest.mark.parametrize("filled", ["s3", "azure", "gs"], indirect=True)
def test_the_statement_of_the_starting_documentation_runs(lab, filled):
    kind, statement, secrets = filled
    source = lab.postgres()
    make_bank(source)
    before = digest(source)
    daemon = lab.holdfast(source)
    row = daemon.sql(statement).one()
    assert list(row) == ["schedule_id", "name", "status", "first_run", "schedule", "backup_stmt"]
    assert (row["name"], row["status"], row["schedule"]) == ("core_schedule_label", "ACTIVE", "@daily")
    assert row["first_run"] and row["backup_stmt"].startswith(f"BACKUP INTO '{kind}://{BUCKET}/scheduled?")
    assert row["backup_stmt"].endswith("WITH OPTIONS (detached)") and "redacted" in row["backup_stmt"]

    # It runs at once.
    jobs = f"SHOW JOBS FOR SCHEDULE {row['schedule_id']}"
    wait_until(lambda: [job["status"] for job in daemon.sql(jobs).dicts()] == ["succeeded"], 90, "the first run")
    uri = re.search(r"INTO '([^']*)'", statement).group(1)
    assert len(daemon.sql(f"SHOW BACKUPS IN '{uri}'").rows) == 1
    chain = Chain(lab, source, daemon)
    chain.collection = uri
    chain.assert_restores(before)

    # Neither shown nor logged, nor in the clear in the store.
    shown = daemon.log_text()
    for look in ("SHOW SCHEDULES", "SHOW CREATE ALL SCHEDULES", jobs, f"SHOW JOB {daemon.sql(jobs).dicts()[0]['job_id']}"):
        shown += str(daemon.sql(look).rows)
    stored = b"".join(path.read_bytes() for path in daemon.store.rglob("*") if path.is_file() and "key" not in path.name)
    for secret in secrets:
        for form in (secret, quote(secret)):
            assert form not in shown, f"{form} is shown"
            assert form.encode() not in stored, f"{form} is stored in the clear"
