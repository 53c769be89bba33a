"""A real PostgreSQL 15 with a front door before it whose own statements are canned
(src/pgwire/testing/canned_runner.h), so that these tests are about the protocol alone."""

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psycopg
import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTD = Path(os.environ.get("HOLDFAST_FRONTDOOR_TESTD", ROOT / "build/release/frontdoor_testd"))
PG_BIN = Path("/usr/lib/postgresql/15/bin")
NODE_MODULES = ROOT / "build/npm/node-postgres/node_modules"
# PostgreSQL refuses to run as root.
AS_POSTGRES = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
OS_USER = "postgres" if AS_POSTGRES else getpass.getuser()
PASSWORD = "correct horse"

HBA = """
local all postgres   peer map=daemon
local all scram_user scram-sha-256
local all md5_user   md5
local all clear_user password
local all all        trust
host  all postgres   127.0.0.1/32 scram-sha-256
host  all scram_user 127.0.0.1/32 scram-sha-256
host  all md5_user   127.0.0.1/32 md5
host  all clear_user 127.0.0.1/32 password
host  all all        127.0.0.1/32 trust
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def own_directory(path):
    path.mkdir(parents=True)
    if AS_POSTGRES:
        entry = pwd.getpwnam("postgres")
        os.chown(path, entry.pw_uid, entry.pw_gid)
    return path


class Cluster:
    def __init__(self, directory, listen="127.0.0.1", tls=None):
        self.directory = own_directory(directory)
        self.data = directory / "data"
        self.port = free_port()
        subprocess.run([*AS_POSTGRES, PG_BIN / "initdb", "-D", self.data, "-U", "postgres",
                        "-A", "trust", "--no-sync"], check=True, stdout=subprocess.DEVNULL)
        settings = [f"port = {self.port}", f"listen_addresses = '{listen}'", "fsync = off",
                    f"unix_socket_directories = '{directory}'", "max_connections = 60"]
        if tls:
            settings += ["ssl = on", f"ssl_cert_file = '{tls.server_certificate}'",
                         f"ssl_key_file = '{tls.server_key}'"]
        with open(self.data / "postgresql.conf", "a") as f:
            f.write("\n".join(settings) + "\n")
        (self.data / "pg_hba.conf").write_text(HBA)
        (self.data / "pg_ident.conf").write_text(
            f"daemon {OS_USER} postgres\ndaemon root postgres\n")
        self.start()
        self._make_users()

    def _make_users(self):
        sql = [f"ALTER USER postgres PASSWORD '{PASSWORD}'", "CREATE USER trusted",
               "GRANT ALL ON SCHEMA public TO public",
               f"CREATE USER scram_user PASSWORD '{PASSWORD}'",
               f"CREATE USER clear_user PASSWORD '{PASSWORD}'",
               "SET password_encryption = md5", f"CREATE USER md5_user PASSWORD '{PASSWORD}'"]
        subprocess.run([*AS_POSTGRES, "psql", "-X", "-q", "-h", self.directory, "-p",
                        str(self.port), "-U", "postgres", "-c", ";".join(sql)], check=True)

    def pg_ctl(self, *arguments):
        subprocess.run([*AS_POSTGRES, PG_BIN / "pg_ctl", "-D", self.data, "-l",
                        self.directory / "log", "-w", *arguments], check=True,
                       stdout=subprocess.DEVNULL)

    def start(self):
        self.pg_ctl("start")

    def stop(self, mode="fast"):
        self.pg_ctl("-m", mode, "stop")

    def direct(self, user="trusted", **options):
        """A connection that does not go through the front door."""
        return psycopg.connect(host="127.0.0.1", port=self.port, user=user, dbname="postgres",
                               autocommit=True, **options)


class Door:
    def __init__(self, directory, cluster, *options, route="socket"):
        self.directory = own_directory(directory)
        self.cluster = cluster
        where = ["--pg-port", str(cluster.port)]
        if route in ("socket", "both"):
            where += ["--pg-socket-dir", cluster.directory]
        if route in ("tcp", "both"):
            where += ["--pg-host", "127.0.0.1"]
        self.process = subprocess.Popen(
            [*AS_POSTGRES, TESTD, "--port", "0", "--socket-dir", directory, *where, *options],
            stdout=subprocess.PIPE, stderr=open(directory / "log", "w"), text=True)
        line = self.process.stdout.readline().split()
        assert line and line[0] == "ready", (directory / "log").read_text()
        self.port = int(line[1])

    def dsn(self, user="trusted", host="127.0.0.1", **options):
        return psycopg.conninfo.make_conninfo(host=host, port=self.port, user=user,
                                              dbname="postgres", **options)

    def connect(self, user="trusted", autocommit=True, **options):
        return psycopg.connect(self.dsn(user, **options), autocommit=autocommit)

    def connect_as_administrator(self):
        """root and the daemon's user are told by the Unix socket."""
        return self.connect("postgres", host=str(self.directory))

    def psql(self, *arguments, user="trusted", stdin=None, **options):
        return subprocess.run(["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1",
                               self.dsn(user, **options), *arguments], input=stdin,
                              capture_output=True, text=True)

    def pid(self):
        """Of the daemon itself, not of runuser."""
        if not AS_POSTGRES:
            return self.process.pid
        return int(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
                   .read_text().split()[0])

    def memory(self, field="VmHWM"):
        """In KiB; VmHWM is the peak of the resident memory."""
        for line in Path(f"/proc/{self.pid()}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1])
        raise AssertionError(field)

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.pid(), signal.SIGTERM)
        assert self.process.wait(timeout=15) in (0, -signal.SIGTERM)


class Tls:
    """A certificate authority and a certificate for localhost."""

    def __init__(self, directory):
        own_directory(directory)
        self.root = directory / "root.crt"
        self.server_certificate = directory / "server.crt"
        self.server_key = directory / "server.key"
        request = directory / "server.csr"
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                      "-nodes", "-days", "2", "-subj", "/CN=test root", "-keyout",
                      directory / "root.key", "-out", self.root)
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                      "-subj", "/CN=localhost", "-keyout", self.server_key, "-out", request)
        names = directory / "names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        self._openssl("x509", "-req", "-in", request, "-CA", self.root, "-CAkey",
                      directory / "root.key", "-CAcreateserial", "-days", "2", "-extfile", names,
                      "-out", self.server_certificate)
        self.server_key.chmod(0o600)
        self.root.chmod(0o644)
        if AS_POSTGRES:
            shutil.chown(self.server_key, "postgres")

    @staticmethod
    def _openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="session")
def scratch():
    directory = Path(tempfile.mkdtemp(prefix="hf-door-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def tls(scratch):
    return Tls(scratch / "tls")


@pytest.fixture(scope="session")
def cluster(scratch):
    cluster = Cluster(scratch / "pg")
    yield cluster
    cluster.stop("immediate")


@pytest.fixture(scope="session")
def tls_cluster(scratch, tls):
    cluster = Cluster(scratch / "pgtls", tls=tls)
    yield cluster
    cluster.stop("immediate")


@pytest.fixture(scope="session")
def door(scratch, cluster):
    door = Door(scratch / "door", cluster, route="both")
    yield door
    door.stop()


@pytest.fixture
def make_door(scratch):
    doors = []

    def make(cluster, *options, **keywords):
        directory = Path(tempfile.mkdtemp(prefix="d", dir=scratch))
        directory.rmdir()
        doors.append(Door(directory, cluster, *options, **keywords))
        return doors[-1]

    yield make
    for door in doors:
        door.stop()
