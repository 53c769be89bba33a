"""Incremental backups after the same change, and restores of chains of them: holdfast beside pgBackRest's incr."""
import json
import shutil

from harness import environment as env
from measure import measure, settle

COLLECTION = "nodelocal://self/incremental"
ROWS_PER_PAGE = 61  # of pgbench_accounts, fillfactor 100
TOOLS = ("holdfast", "pgbackrest zst", "pgbackrest zst bundle")


def changes(scale):
    """Name -> statement; {seed} differs each time, so that other rows change."""
    rows = scale * 100_000
    update = "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE "
    return {
        "nothing changed": None,
        "1 % of rows, one id range": update + f"aid BETWEEN 1 + {{seed}} * {rows // 100} AND ({{seed}} + 1) * {rows // 100}",
        "1 % of pages, scattered": update + f"aid = ANY (ARRAY(SELECT i * {100 * ROWS_PER_PAGE} + {{seed}} * {ROWS_PER_PAGE} + 7 "
                                            f"FROM generate_series(0, {rows // (100 * ROWS_PER_PAGE) - 1}) i))",
        "1 % of rows, at random": update + "(hashint4(aid) & 1048575) % 100 = {seed}",
    }


class IncrementalBench:
    """Every tool meets a change of its own of the same kind, on a base taken just before, and pays for its checkpoint."""

    def __init__(self, bench, scale):
        self.bench = bench
        self.scale = scale
        self.seed = 0
        bench.backup_holdfast("incremental")
        for kind in bench.configurations:
            bench.backup_pgbackrest(kind)

    def change(self, statement):
        if statement:
            self.seed = self.seed % 97 + 1
            self.bench.source.sql(statement.format(seed=self.seed), "pgbench", timeout=600)

    def take(self, tool):
        if tool == "holdfast":
            self.bench.reset_memory()
            sample, _ = measure(self.bench.psql(f"BACKUP INTO LATEST IN '{COLLECTION}'"), self.bench.source.pid(), self.bench.daemon.process.pid)
            sample.memory = self.bench.daemon.peak_memory()
            return sample
        return self.bench.backup_pgbackrest("bundle" if "bundle" in tool else "plain", "incr")

    def round(self):
        for name, statement in changes(self.scale).items():
            for tool in TOOLS:
                self.take(tool)
                self.change(statement)
                settle()
                self.bench.note(f"incremental: {name}", tool, self.take(tool))

    def close(self):
        self.bench.daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
        shutil.rmtree(self.bench.daemon.io / "incremental")


class ChainBench:
    """Restores of a full and ten incrementals, beside a full of the same data and pgBackRest's chain of the same changes."""

    KINDS = {"chain": ("1 % of rows, one id range", "1 % of pages, scattered"), "chain of random rows": ("1 % of rows, at random",)}

    def __init__(self, bench, scale):
        self.bench = bench
        seed = 0
        for group, kinds in self.KINDS.items():
            bench.backup_holdfast(self.collection(group))
            bench.backup_pgbackrest("bundle")
            for number in range(10):
                seed += 1
                bench.source.sql(changes(scale)[kinds[number % len(kinds)]].format(seed=seed), "pgbench", timeout=600)
                bench.daemon.sql(f"BACKUP INTO LATEST IN 'nodelocal://self/{self.collection(group)}'", timeout=600)
                bench.backup_pgbackrest("bundle", "incr")
            bench.backup_holdfast(self.collection(group) + "-flat")
            bench.daemon.sql(f"DROP WAL ARCHIVE IN 'nodelocal://self/{self.collection(group)}'")
        self.newest = {group: set_ for group, set_ in zip(self.KINDS, self.last_sets())}

    @staticmethod
    def collection(group):
        return group.replace(" ", "-")

    def last_sets(self):
        """The label of the last incremental of each of pgBackRest's fulls."""
        info = json.loads(env.run("pgbackrest", f"--config={self.bench.configurations['bundle']}", "--stanza=bench", "--output=json", "info").stdout)
        last = {}
        for backup in info[0]["backup"]:
            last[backup["label"].split("_")[0]] = backup["label"]
        return list(last.values())[-len(self.KINDS):]

    def round(self):
        for group in self.KINDS:
            for tool in ("holdfast", "holdfast, a full of the same", "pgbackrest zst bundle"):
                self.bench.note(group, tool, self.restore(group, tool))

    def restore(self, group, tool):
        target = self.bench.work / "target"
        shutil.rmtree(target, ignore_errors=True)
        if tool.startswith("holdfast"):
            collection = self.collection(group) + ("-flat" if tool != "holdfast" else "")
            settle(self.bench.daemon.io / collection)
            self.bench.reset_memory()
            sample, _ = measure(self.bench.psql(f"RESTORE FROM LATEST IN 'nodelocal://self/{collection}' WITH data_directory = '{target}'"),
                                None, self.bench.daemon.process.pid)
            sample.memory = self.bench.daemon.peak_memory()
        else:
            env.make_directory(target)
            settle()
            sample, _ = measure(["pgbackrest", f"--config={self.bench.configurations['bundle']}", "--stanza=bench", f"--set={self.newest[group]}",
                                 f"--pg1-path={target}", "restore"])
        shutil.rmtree(target, ignore_errors=True)
        return sample

    def close(self):
        for group in self.KINDS:
            for suffix in ("", "-flat"):
                shutil.rmtree(self.bench.daemon.io / (self.collection(group) + suffix), ignore_errors=True)
