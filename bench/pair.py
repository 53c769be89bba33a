"""One server, the holdfast daemon beside it, and pgBackRest's repositories for it."""
import shutil
from pathlib import Path

from harness import environment as env
from harness.daemon import Holdfast
from measure import measure


class Pair:
    def __init__(self, directory, work, source):
        """`directory`: where the clusters are. `work`: empty, removed at the end. `source`: the started server."""
        self.directory = directory
        self.work = work
        self.source = source
        self.daemon = Holdfast(source, env.make_directory(work / "holdfast", 0o755), log_level="info")
        self.configurations = {}

    def start(self, repositories=()):
        self.daemon.start()
        self.configurations = {name: self.pgbackrest_configuration(name) for name in repositories}

    def close(self):
        self.daemon.stop()
        # The cluster is kept: a slot would have it keep WAL for good.
        self.source.sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
        self.source.stop()
        self.archiving()
        shutil.rmtree(self.work, ignore_errors=True)

    # -- holdfast

    def psql(self, statement):
        return [env.DEBIAN_BIN / "psql", "-X", "-q", "-h", self.daemon.sockets, "-p", self.daemon.port, "-U", "postgres", "-v",
                "ON_ERROR_STOP=1", "-c", statement, "postgres"]

    def run_holdfast(self, statement, server=True):
        """`server`: whether the statement has the server work, so that its CPU seconds count."""
        self.reset_memory()
        sample, _ = measure(self.psql(statement), self.source.pid() if server else None, self.daemon.process.pid)
        sample.memory = self.daemon.peak_memory()
        return sample

    def backup_holdfast(self, collection="archive", options=""):
        return self.run_holdfast(f"BACKUP INTO 'nodelocal://self/{collection}'{options}")

    def reset_memory(self):
        try:
            Path(f"/proc/{self.daemon.process.pid}/clear_refs").write_text("5")
        except OSError:
            pass

    # -- pgBackRest

    def pgbackrest_configuration(self, name, repository=None):
        root = env.make_directory(self.work / f"pgbackrest-{name}", 0o755)
        for sub in ("repo", "log", "lock", "spool"):
            env.make_directory(root / sub)
        file = root / "pgbackrest.conf"
        file.write_text(f"""[global]
{repository or f'repo1-path={root}/repo'}
repo1-retention-full=20
{'repo1-bundle=y' if name == 'bundle' else ''}
log-path={root}/log
lock-path={root}/lock
spool-path={root}/spool
log-level-console=warn
process-max=2
compress-type=zst
compress-level=1
start-fast=y
[bench]
pg1-path={self.source.data}
pg1-port={self.source.port}
pg1-socket-path={self.source.sockets}
pg1-user=postgres
""")
        file.chmod(0o644)
        self.archiving(file)
        env.run("pgbackrest", f"--config={file}", "--stanza=bench", "stanza-create")
        self.archiving()
        return file

    def archiving(self, configuration=None):
        switch = self.directory / "archiving"
        if configuration:
            switch.write_text(str(configuration))
        else:
            switch.unlink(missing_ok=True)

    def backup_pgbackrest(self, name, kind="full"):
        self.archiving(self.configurations[name])
        sample, _ = measure(["pgbackrest", f"--config={self.configurations[name]}", "--stanza=bench", f"--type={kind}", "backup"],
                            self.source.pid())
        self.archiving()
        return sample
