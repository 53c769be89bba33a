"""Private PostgreSQL instances."""
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from . import environment as env
from .wire import Connection, SqlError

ALL_VERSIONS = (13, 14, 15, 16, 17, 18)

DEFAULTS = {
    "shared_buffers": "32MB", "fsync": "off", "max_wal_size": "256MB", "listen_addresses": "'127.0.0.1'",
    "wal_level": "replica", "max_wal_senders": "6", "max_replication_slots": "40", "logging_collector": "off", "log_min_messages": "warning",
    "log_line_prefix": "'%m [%p] '", "timezone": "'UTC'", "log_timezone": "'UTC'", "datestyle": "'ISO, MDY'",
}


def bin_directory(version):
    if version == 15:
        return env.DEBIAN_BIN
    native = env.ROOT / f"build/npm/pg-{version}/native"
    assert native.exists(), f"PostgreSQL {version} is not in {native}; ./run test versions fetches it"
    return env.reachable(native) / "bin"


def _template(version, checksums, programs):
    """initdb once per kind; instances are copies of it."""
    template = env.session_directory() / f"initdb-{version}-{'on' if checksums else 'off'}"
    if not template.exists():
        flag = ["--data-checksums"] if checksums else []
        if not checksums and version >= 18:
            flag = ["--no-data-checksums"]
        env.run(programs / "initdb", "-D", template, "-U", "postgres", "--auth=trust", "--no-sync",
                "--encoding=UTF8", "--locale=C.UTF-8" if version == 15 else "--locale=C", *flag)
    return template


class Postgres:
    """An instance with its own data directory, socket directory, port and log below `root`. `programs`: a directory of that version's, where it is not
    the usual one."""

    def __init__(self, root, version=15, checksums=True, conf=None, data=None, port=None, programs=None):
        self.root = Path(root)
        self.version = version
        self.bin = programs or bin_directory(version)
        self.port = port or env.free_port()
        self.data = Path(data) if data else self.root / "data"
        self.log = self.root / "postgres.log"
        self.sockets = self.root / "s"
        if not self.sockets.exists():
            env.make_directory(self.sockets, 0o755)
        if not self.data.exists():
            env.run("cp", "-a", _template(version, checksums, self.bin), self.data)
            self.configure({**DEFAULTS, "port": str(self.port), "unix_socket_directories": f"'{self.sockets}'",
                            **(conf or {})})

    def configure(self, settings):
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            for name, value in settings.items():
                file.write(f"{name} = {value}\n")

    # -- process

    def start(self, wait=True):
        command = [self.bin / "pg_ctl", "-D", self.data, "-l", self.log, "-w" if wait else "-W", "-t", "120", "start"]
        done = env.run(*command, check=False)
        if done.returncode != 0:
            raise AssertionError(f"PostgreSQL did not start: {done.stdout}\n{self.log_text()[-3000:]}")
        return self

    def stop(self, mode="fast"):
        if self.running():
            env.run(self.bin / "pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "120", "stop", check=False)

    def pid(self):
        try:
            return int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (OSError, IndexError, ValueError):
            return None

    def running(self):
        pid = self.pid()
        return pid is not None and Path(f"/proc/{pid}").exists()

    def kill9(self):
        """The postmaster and its children, as an out-of-memory kill or a power cut would."""
        pid = self.pid()
        assert pid is not None
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True,
                                  check=False).stdout.split()
        for victim in [pid, *map(int, children)]:
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                pass
        # Until they are reaped, too: to the next postmaster a zombie is a running one.
        wait_until(lambda: not any(Path(f"/proc/{v}").exists() for v in [pid, *map(int, children)]), 60, "the server's end")
        shutil.rmtree(self.sockets, ignore_errors=True)
        env.make_directory(self.sockets, 0o755)

    def release_memory(self):
        """Removes the shared memory segment that a killed server leaves: the kernel has room for a few thousand.
        Source: PostgreSQL src/include/miscadmin.h (LOCK_FILE_LINE_SHMEM_KEY)."""
        try:
            identifier = (self.data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        except (OSError, IndexError):
            return
        subprocess.run(["ipcrm", "-m", identifier], capture_output=True, check=False)

    def destroy(self):
        """What the 3 a.m. page is about: the server is killed and its data directory removed."""
        if self.running():
            self.kill9()
        self.release_memory()
        shutil.rmtree(self.data)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def ready(self):
        try:
            with self.connect(connect_timeout=2):
                return True
        except (ConnectionError, SqlError):
            return False

    # -- SQL

    def connect(self, database="postgres", user="postgres", **more):
        return Connection(host=str(self.sockets), port=self.port, user=user, dbname=database, **more)

    def sql(self, text, database="postgres", user="postgres", timeout=300):
        with self.connect(database, user) as connection:
            return connection.query(text, timeout=timeout)

    def value(self, text, database="postgres"):
        return self.sql(text, database).value()

    def databases(self):
        return [row[0] for row in self.sql("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1").rows]

    def control(self):
        """pg_controldata as a dictionary."""
        assert self.version == 15, "pg_controldata is not among the binaries of the other versions"
        output = env.run(self.bin / "pg_controldata", self.data).stdout
        parts = (line.partition(":") for line in output.splitlines())
        return {key.strip(): value.strip() for key, _, value in parts}

    # -- data

    def pgbench_init(self, scale, database="pgbench"):
        self.sql(f"CREATE DATABASE {database}")
        env.run(env.DEBIAN_BIN / "pgbench", "-h", self.sockets, "-p", self.port, "-U", "postgres", "-q", "-i", "-s",
                scale, database, timeout=600 + 3 * scale)

    def pgbench_start(self, seconds, clients=4, database="pgbench"):
        """A writer in the background; returns its process."""
        return subprocess.Popen(
            [env.DEBIAN_BIN / "pgbench", "-h", self.sockets, "-p", str(self.port), "-U", "postgres", "-n", "-c",
             str(clients), "-j", "2", "-T", str(seconds), database],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
            **env.process_options())

    def amcheck(self):
        """Every heap and btree index of every database, with heapallindexed."""
        for database in self.databases():
            if database == "template0":
                continue
            self.sql("CREATE EXTENSION IF NOT EXISTS amcheck", database)
            if self.version == 15:
                env.run(self.bin / "pg_amcheck", "-h", self.sockets, "-p", self.port, "-U", "postgres",
                        "--heapallindexed", "--no-dependent-toast", "-d", f'"{database}"', timeout=900)
                continue
            # pg_amcheck is not among the binaries of the other versions.
            self.sql("""SELECT bt_index_check(c.oid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'btree' AND c.relkind = 'i'
                AND c.relpersistence <> 't' AND i.indisready AND i.indisvalid""", database, timeout=900)
            if self.version >= 14:
                broken = self.sql("""SELECT c.oid::regclass, v.* FROM pg_class c, verify_heapam(c.oid) v
                    WHERE c.relkind IN ('r', 't', 'm') AND c.relpersistence <> 't'""", database, timeout=900)
                assert broken.rows == [], broken.rows


def wait_until(condition, seconds, what="the condition"):
    """Polls quickly; fails loudly."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.05)
