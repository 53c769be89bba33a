"""Replay of about 2 GB of WAL during recovery to a moment: from holdfast's archive, and from a local copy of the segments."""
import shutil
import time

from harness import environment as env
from harness.daemon import Holdfast
from harness.postgres import Postgres, wait_until
from measure import Sample, settle

COLLECTION = "nodelocal://self/pitr"
WAL_BYTES_AT_SCALE_200 = 2_000_000_000
BASE_SCALE = 20
TOOLS = ("holdfast", "holdfast, WAL laid out by RESTORE", "cp of local segments")
CONTENT = "SELECT (SELECT count(*) FROM pgbench_history), (SELECT sum(abalance) FROM pgbench_accounts)"


class PitrBench:
    """A directory that RESTORE … AS OF SYSTEM TIME lays out has all WAL in pg_wal. Copies of it are recovered to the same record: as it is; and without that
    WAL, by a restore_command."""

    def __init__(self, bench, scale):
        self.note = bench.note
        self.work = env.make_directory(bench.work / "pitr", 0o755)
        self.local = env.make_directory(self.work / "segments")
        self.template, self.target = self.work / "template", self.work / "target"
        self.source = Postgres(env.make_directory(self.work / "pg", 0o755), conf={
            "shared_buffers": "512MB", "max_wal_size": "6GB", "wal_keep_size": "6GB", "autovacuum": "off", "fsync": "on", "synchronous_commit": "off"})
        self.source.start()
        self.source.pgbench_init(BASE_SCALE)
        self.daemon = Holdfast(self.source, env.make_directory(self.work / "holdfast", 0o755), log_level="info").start()
        self.daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
        self.write_wal(WAL_BYTES_AT_SCALE_200 * scale // 200)
        self.content = self.source.sql(CONTENT, "pgbench").rows
        self.machine = bench.machine(self.source)
        self.prepare()

    def write_wal(self, size):
        """Half of it by transactions, which leaves full-page images and small records; half by loading tables, as `pgbench -i` does."""
        start = self.source.value("SELECT pg_current_wal_lsn()")

        def written():
            return int(self.source.value(f"SELECT pg_current_wal_lsn() - '{start}'"))
        self.source.sql("CREATE DATABASE load")
        while written() < size // 2:
            self.source.sql("CREATE TABLE load AS SELECT i AS id, md5(i::text) AS note FROM generate_series(1, 500000) i; "
                            "ALTER TABLE load ADD PRIMARY KEY (id); DROP TABLE load", "load", timeout=600)
        while written() < size:
            self.source.pgbench_start(2).wait()
        print(f"  pitr     {written() / 1e6:.0f} MB of WAL", flush=True)

    def prepare(self):
        self.source.sql("CHECKPOINT")
        end = self.source.value("SELECT pg_current_wal_flush_lsn()")

        def archived():
            lsn = self.daemon.sql("SHOW WAL ARCHIVES").one()["archived_lsn"]
            return lsn and self.source.value(f"SELECT '{lsn}'::pg_lsn >= '{end}'") == "t"
        wait_until(archived, 300, f"archived up to {end}")
        for segment in (self.source.data / "pg_wal").glob("0" * 7 + "*"):
            if len(segment.name) == 24:
                env.run("cp", segment, self.local)
        self.daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME LSN '{end}' WITH data_directory = '{self.template}'", timeout=600)
        self.configuration = self.work / "fetch.conf"
        self.configuration.write_text(f"collection={COLLECTION}\nexternal-io-dir={self.daemon.io}\nwal-segment-size={16 << 20}\n"
                                      f"system-identifier={self.source.control()['Database system identifier']}\n")
        env.give(self.configuration).chmod(0o600)
        self.source.stop()

    def restore_command(self, tool):
        """None: all WAL is in pg_wal."""
        if tool == "holdfast":
            return f"{env.reachable(env.BUILT_BINARY)} wal-fetch --config {self.configuration} %f %p"
        return f"cp {self.local}/%f %p" if tool.startswith("cp") else None

    def recover(self, tool):
        """From the server's start until it answers."""
        env.run("cp", "-a", self.template, self.target, timeout=600)
        root = env.make_directory(self.work / "recovered", 0o755)
        server = Postgres(root, data=self.target)
        server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
        if command := self.restore_command(tool):
            for segment in (self.target / "pg_wal").glob("0" * 7 + "*"):
                segment.is_file() and segment.suffix != ".history" and segment.unlink()
            with open(self.target / "postgresql.auto.conf", "a", encoding="utf-8") as file:
                file.write(f"restore_command = '{command}'\n")
        settle(self.target, self.local, self.daemon.io)
        began = time.monotonic()
        server.start(wait=False)
        wait_until(server.ready, 600, "the end of recovery")
        sample = Sample(time.monotonic() - began, 0, 0)
        recovered = server.sql(CONTENT, "pgbench").rows
        assert recovered == self.content, f"{tool}: {recovered} instead of {self.content}"
        server.stop("immediate")
        shutil.rmtree(self.target)
        shutil.rmtree(root)
        return sample

    def round(self):
        for tool in TOOLS:
            self.note("pitr", tool, self.recover(tool))

    def finish(self):
        return self.machine

    def close(self):
        self.daemon.stop()
        self.source.stop("immediate")
        shutil.rmtree(self.work, ignore_errors=True)
