"""Archiving a burst of WAL: holdfast beside pgBackRest's asynchronous archive-push."""
import shutil
import time

from harness import environment as env
from harness.daemon import Holdfast
from harness.postgres import Postgres, wait_until
from measure import Sample, measure, own_cpu, server_cpu, settle, stored_bytes

COLLECTION = "nodelocal://self/burst"
# pgbench -i writes about 15 MB of WAL for each unit of scale.
BURST_SCALE = 70


class ArchiveBench:
    """A server that keeps all its WAL while nobody archives; both tools then archive the same segments.

    pgBackRest's worker is run as its archive_command would start it. The 64 calls of archive_command themselves, which the server makes beside it,
    are not counted.
    """

    def __init__(self, work):
        self.work = env.make_directory(work / "archive", 0o755)
        self.server = Postgres(env.make_directory(self.work / "pg", 0o755), conf={
            "archive_mode": "on", "archive_command": "'false'", "max_wal_size": "'6GB'", "wal_keep_size": "'3GB'", "shared_buffers": "'512MB'"}).start()
        self.server.sql("CREATE DATABASE pgbench")
        self.daemon = Holdfast(self.server, env.make_directory(self.work / "holdfast", 0o755), log_level="info").start()
        self.daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
        self.pgbackrest = self.work / "pgbackrest.conf"
        for sub in ("repo", "log", "lock", "spool"):
            env.make_directory(self.work / sub)
        self.pgbackrest.write_text(f"""[global]
repo1-path={self.work}/repo
log-path={self.work}/log
lock-path={self.work}/lock
spool-path={self.work}/spool
log-level-console=warn
process-max=2
compress-type=zst
compress-level=1
archive-async=y
[bench]
pg1-path={self.server.data}
pg1-port={self.server.port}
pg1-socket-path={self.server.sockets}
pg1-user=postgres
""")
        self.pgbackrest.chmod(0o644)
        env.run("pgbackrest", f"--config={self.pgbackrest}", "--stanza=bench", "stanza-create")

    def burst(self):
        """Writes the WAL while neither tool works; its size."""
        self.daemon.stop()
        before = self.server.value("SELECT pg_current_wal_lsn()")
        env.run(env.DEBIAN_BIN / "pgbench", "-h", self.server.sockets, "-p", self.server.port, "-U", "postgres", "-q", "-i", "-s", BURST_SCALE,
                "pgbench", timeout=600)
        self.server.sql("SELECT pg_switch_wal()")
        self.server.sql("CHECKPOINT")
        return int(self.server.value(f"SELECT pg_current_wal_lsn() - '{before}'"))

    def holdfast(self):
        """From the start of the daemon, which archives what came while it was away."""
        archive = self.daemon.io / "burst"
        stored = stored_bytes(archive)
        goal = self.server.value("SELECT pg_walfile_name(pg_current_wal_flush_lsn())")[8:]
        cpu = server_cpu(self.server.pid())
        began = time.monotonic()
        self.daemon.start()

        def caught_up():
            lsn = self.daemon.sql("SHOW WAL ARCHIVES").one()["archived_lsn"]
            return lsn and self.server.value(f"SELECT pg_walfile_name('{lsn}')")[8:] >= goal
        wait_until(caught_up, 300)
        wall = time.monotonic() - began
        return Sample(wall, own_cpu(self.daemon.process.pid) + server_cpu(self.server.pid()) - cpu, 0, stored_bytes(archive) - stored)

    def pgbackrest_push(self):
        repo = self.work / "repo/archive"
        stored = stored_bytes(repo)
        sample, _ = measure(["pgbackrest", f"--config={self.pgbackrest}", "--stanza=bench", "archive-push:async", self.server.data / "pg_wal"], None)
        sample.stored = stored_bytes(repo) - stored
        # The server hears that its segments are archived.
        self.server.sql("ALTER SYSTEM SET archive_command = '/bin/true'")
        self.server.sql("SELECT pg_reload_conf()")
        status = self.server.data / "pg_wal/archive_status"
        wait_until(lambda: not list(status.glob("*.ready")), 120)
        self.server.sql("ALTER SYSTEM SET archive_command = 'false'")
        self.server.sql("SELECT pg_reload_conf()")
        shutil.rmtree(self.work / "spool/archive", ignore_errors=True)
        return sample

    def round(self, note):
        print(f"  archive  a burst of {self.burst() / 1e6:.0f} MB", flush=True)
        settle(self.server.data / "pg_wal")
        note("archive", "holdfast", self.holdfast())
        note("archive", "pgbackrest async zst", self.pgbackrest_push())

    def close(self):
        self.daemon.stop()
        self.server.stop("immediate")
