"""Incremental backups after the same change: holdfast beside pgBackRest's incr; then the restore of the chain that came of it."""
import shutil

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

    def restore(self):
        """The chain, and a full of the same data."""
        target = self.bench.work / "target"
        self.bench.backup_holdfast("flat")
        for name, collection in (("holdfast", "incremental"), ("holdfast, a full of the same", "flat")):
            shutil.rmtree(target, ignore_errors=True)
            settle(self.bench.daemon.io / collection)
            sample, _ = measure(self.bench.psql(f"RESTORE FROM LATEST IN 'nodelocal://self/{collection}' WITH data_directory = '{target}'"),
                                None, self.bench.daemon.process.pid)
            self.bench.note("chain restore", name, sample)
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(self.bench.daemon.io / "flat")

    def close(self):
        self.bench.daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
        shutil.rmtree(self.bench.daemon.io / "incremental")
