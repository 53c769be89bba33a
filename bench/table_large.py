"""The same table out of two clusters, of which one is three times as large; and what of the collection is fetched for it."""
import re

from cluster import cluster
from harness import environment as env
from measure import stored_bytes
from pair import Pair
from warehouse import Warehouse

TIMES = 3
ALONE = "nodelocal://self/alone"


class TableLargeBench:
    def __init__(self, bench, scale):
        self.bench = bench
        bench.archiving()
        self.large = Pair(bench.directory, env.make_directory(bench.work / "large", 0o755), cluster(bench.directory, TIMES * scale))
        self.large.start()
        self.warehouses = {f"holdfast, a cluster {TIMES} times as large": Warehouse(self.large, scale, "table"),
                           "holdfast": Warehouse(bench, scale, "table")}
        for warehouse in self.warehouses.values():
            warehouse.bench.backup_holdfast("table")
            size = stored_bytes(warehouse.server.data / "base")
            print(f"  cluster of {size / 1e9:.2f} GB", flush=True)
        self.compare_bytes()

    def compare_bytes(self):
        """What one restore fetches, by the daemon's log, beside backups of just this table with the catalogs of its database: with its indexes, which are
        not fetched but built, and without."""
        daemon = self.large.daemon
        daemon.arguments[daemon.arguments.index("--log-level") + 1] = "debug"
        daemon.restart()
        before = len(daemon.log_text())
        warehouse = next(iter(self.warehouses.values()))
        warehouse.restore()
        sizes = [int(size) for size in re.findall(r"storage get key=\S+ bytes=(\d+)", daemon.log_text()[before:])]
        assert sizes, "the log tells nothing of what was fetched"
        self.bench.note_bytes("table-large bytes", "fetched", sum(sizes))
        daemon.arguments[daemon.arguments.index("--log-level") + 1] = "info"
        daemon.restart()
        self.bench.note_bytes("table-large bytes", "backup of the table alone", self.size_alone(warehouse))
        warehouse.server.sql("CREATE TABLE spare AS TABLE items; ALTER TABLE items RENAME TO kept; ALTER TABLE spare RENAME TO items", "warehouse")
        self.bench.note_bytes("table-large bytes", "the same without its indexes", self.size_alone(warehouse))
        warehouse.server.sql("DROP TABLE items; ALTER TABLE kept RENAME TO items", "warehouse")

    def size_alone(self, warehouse):
        self.large.daemon.sql(f"BACKUP TABLE warehouse.public.items INTO '{ALONE}'", timeout=600)
        directory = self.large.daemon.io / "alone"
        subdirectory = self.large.daemon.fulls("alone")[-1]
        return stored_bytes(directory / subdirectory / "data")

    def round(self):
        for name, warehouse in self.warehouses.items():
            self.bench.note("table-large", name, warehouse.restore())

    def finish(self):
        return self.bench.machine(larger=self.large.source)

    def close(self):
        for warehouse in self.warehouses.values():
            warehouse.close()
        self.large.close()
