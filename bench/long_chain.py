"""A chain of hundreds of layers beside a short one of the same cluster: to list, to extend and to restore."""
import shutil

LAYERS = 300
COLLECTIONS = {"holdfast": "long", "holdfast, a short chain": "short"}


class LongChainBench:
    """Each layer of either chain holds a change of the same size; ids go through the table, so that every layer keeps blocks of its own."""

    def __init__(self, bench, scale):
        self.bench = bench
        self.rows = scale * 100_000
        self.changes = 0
        bench.backup_holdfast("long")
        for _ in range(LAYERS):
            self.change()
            self.extend("long")
        bench.backup_holdfast("short")

    def change(self):
        first = self.changes * (self.rows // (2 * LAYERS)) % self.rows
        self.changes += 1
        self.bench.source.sql(f"UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid BETWEEN {first + 1} AND {first + 1000}", "pgbench")

    def extend(self, collection):
        return self.bench.run_holdfast(f"BACKUP INTO LATEST IN 'nodelocal://self/{collection}'")

    def round(self):
        for name, collection in COLLECTIONS.items():
            self.change()
            self.bench.note("long chain: another layer", name, self.extend(collection))
        for name, collection in COLLECTIONS.items():
            for statement in ("SHOW BACKUPS IN", "SHOW BACKUP FROM LATEST IN"):
                self.bench.note(f"long chain: {statement}", name, self.bench.run_holdfast(f"{statement} 'nodelocal://self/{collection}'", server=False))
        for name, collection in COLLECTIONS.items():
            target = self.bench.work / "target"
            self.bench.note("long chain: restore", name, self.bench.run_holdfast(
                f"RESTORE FROM LATEST IN 'nodelocal://self/{collection}' WITH data_directory = '{target}'", server=False))
            shutil.rmtree(target)

    def close(self):
        for collection in COLLECTIONS.values():
            self.bench.daemon.sql(f"DROP WAL ARCHIVE IN 'nodelocal://self/{collection}'")
            shutil.rmtree(self.bench.daemon.io / collection)
