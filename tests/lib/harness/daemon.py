"""holdfast daemons under test."""
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

from . import environment as env
from .postgres import wait_until
from .wire import Connection, SqlError

PASSING = ("terminating connection due to administrator command", "the database system is ")
TERMINAL = ("succeeded", "failed", "canceled", "revert-failed")


class Holdfast:
    """A daemon with its own store, external I/O directory and ports, beside one PostgreSQL."""

    def __init__(self, postgres, root, pause_point=None, arguments=(), pgdata=None, log_level="debug"):
        self.postgres = postgres
        self.root = Path(root)
        self.pgdata = Path(pgdata) if pgdata else postgres.data
        self.pause_point = pause_point
        self.arguments = ["--log-level", log_level, *arguments]
        self.pg_url = f"postgresql://postgres@/postgres?host={postgres.sockets}&port={postgres.port}"
        self.port, self.http_port = env.free_port(), env.free_port()
        self.store, self.sockets, self.io = self.root / "store", self.root / "hs", self.root / "io"
        for directory in (self.store, self.sockets, self.io):
            if not directory.exists():
                env.make_directory(directory)
        self.log = self.root / "holdfast.log"
        self.process = None

    # -- process

    def command(self):
        command = [env.reachable(env.BUILT_BINARY), "start", "--pgdata", self.pgdata, "--store", self.store,
                   "--pg-bin", self.postgres.bin, "--listen", f"127.0.0.1:{self.port}",
                   "--http", f"127.0.0.1:{self.http_port}", "--socket-dir", self.sockets,
                   "--external-io-dir", self.io]
        if self.pg_url:
            command += ["--pg-url", self.pg_url]
        if self.pause_point:
            command += ["--pause-point", self.pause_point]
        return [str(part) for part in command + self.arguments]

    def start(self):
        assert self.process is None, "already started"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            **env.process_options())
        socket = self.sockets / f".s.PGSQL.{self.port}"

        def up():
            if self.process.poll() is not None:
                code = self.process.returncode
                self.process = None
                raise AssertionError(f"holdfast ended with code {code} at start:\n{self.log_text()[-3000:]}")
            return socket.exists() and self._answers()
        wait_until(up, 60, "holdfast listening")
        return self

    def _answers(self):
        try:
            with self.connect():
                return True
        except (ConnectionError, SqlError):
            return False

    def stop(self, timeout=30):
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait(timeout)
            self.process = None
            return code
        return None

    def kill9(self):
        self.process.kill()
        self.process.wait(20)
        self.process = None

    def wait_killed(self, timeout=60):
        """For pause points with action kill."""
        code = self.process.wait(timeout)
        self.process = None
        assert code == -signal.SIGKILL, f"exit code {code}\n{self.log_text()[-3000:]}"

    def restart(self, pause_point=None):
        self.stop()
        self.pause_point = pause_point
        return self.start()

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def peak_memory(self):
        """VmHWM in bytes."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    # -- SQL

    def connect(self, user="postgres", database="postgres", tcp=False, **more):
        host = "127.0.0.1" if tcp else str(self.sockets)
        return Connection(host=host, port=self.port, user=user, dbname=database, **more)

    def sql(self, text, parameters=None, user="postgres", database="postgres", tcp=False, timeout=300):
        with self.connect(user, database, tcp) as connection:
            return connection.query(text, parameters, timeout)

    def error(self, text, **more):
        """The SqlError that the statement must end with."""
        try:
            result = self.sql(text, **more)
        except SqlError as error:
            return error
        raise AssertionError(f"no error from {text}: {result}")

    # -- jobs

    def detached(self, statement):
        """Runs `statement WITH … detached`; the job id."""
        return int(self.sql(statement).value())

    def job(self, job_id):
        return self.sql(f"SHOW JOB {job_id}").one()

    def jobs(self):
        """Those that statements wait for; backups also leave the job that archives WAL."""
        return [job for job in self.sql("SHOW JOBS").dicts() if job["job_type"] != "WAL ARCHIVE"]

    def wait_job(self, job_id, *statuses, timeout=120):
        """The job's row once it has one of these statuses; fails when it ends in another."""
        statuses = statuses or ("succeeded",)
        deadline = time.monotonic() + timeout
        while True:
            try:
                row = self.job(job_id)
            except (SqlError, ConnectionError) as error:
                # A restore stops and starts PostgreSQL under the sessions that look on.
                if not any(text in str(error) for text in PASSING) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            if row["status"] in statuses:
                return row
            assert row["status"] not in TERMINAL, f"job {row['status']}: {row['error']}\n{self.log_text()[-3000:]}"
            assert time.monotonic() < deadline, f"still {row['status']}: {row}\n{self.log_text()[-3000:]}"
            time.sleep(0.05)

    def unsettled_schedules(self):
        """How many have a run that is due, that begins, or whose end the scheduler has not seen: a deletion may follow it."""
        state = sqlite3.connect(f"file:{self.store}/holdfast.db?mode=ro", uri=True)
        try:
            return state.execute("SELECT count(*) FROM schedules WHERE claimed IS NOT NULL OR running_jobs <> '' OR next_run <= ?",
                                 (time.time() * 1e6,)).fetchone()[0]
        finally:
            state.close()

    # -- storage

    def collection(self, name):
        return self.io / name

    def files(self, name):
        """Relative paths of the objects in a collection, without directories."""
        root = self.collection(name)
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def fulls(self, name):
        return [row[0].lstrip("/") for row in self.sql(f"SHOW BACKUPS IN 'nodelocal://self/{name}'").rows]


def no_orphans(root):
    """No temporary files of ours and no process of `root` left."""
    leftovers = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(root) in text:
                leftovers.append(text)
    return leftovers
