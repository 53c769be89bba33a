"""The table that is restored alone: about 200 MB with two indexes at scale 200, beside all else that the cluster holds."""
import shutil

from measure import measure, settle

ROWS_AT_SCALE_200 = 1_600_000
TABLE = """
CREATE TABLE items (id bigint PRIMARY KEY, customer int NOT NULL, at timestamptz NOT NULL, price numeric(12,2) NOT NULL, note text NOT NULL);
INSERT INTO items SELECT i, i::bigint * 7919 % 100003, timestamptz '2026-01-01' + i * interval '7 seconds', (i * 37 % 100000) / 100.0,
    md5(i::text) || ' ' || md5((i * 3)::text) FROM generate_series(1, {rows}) i;
CREATE INDEX items_customer ON items (customer, at);
"""
CONTENT = "SELECT count(*), sum(id), sum(customer), sum(price), max(at), (SELECT count(*) FROM pg_index WHERE indrelid = 'items'::regclass) FROM items"


def connection(server):
    return ["-h", str(server.sockets), "-p", str(server.port), "-U", "postgres"]


class Warehouse:
    """The table in a database of its own, an empty database for what is restored, and a collection for backups. close() removes them."""

    def __init__(self, bench, scale, collection):
        self.bench = bench
        self.server = bench.source
        self.directory = bench.daemon.io / collection
        self.uri = f"nodelocal://self/{collection}"
        self.drop_databases()
        for database in ("warehouse", "rescue"):
            self.server.sql(f"CREATE DATABASE {database}")
        self.server.sql(TABLE.format(rows=ROWS_AT_SCALE_200 * scale // 200), "warehouse", timeout=900)
        self.server.sql("VACUUM (ANALYZE, FREEZE)", "warehouse", timeout=300)
        self.content = self.server.sql(CONTENT, "warehouse").rows

    def drop_databases(self):
        for database in ("warehouse", "rescue"):
            self.server.sql(f"DROP DATABASE IF EXISTS {database}")

    def restore(self, moment=""):
        """RESTORE TABLE, measured."""
        return self.bring_back(self.bench.psql(f"RESTORE TABLE warehouse.public.items FROM LATEST IN '{self.uri}'{moment} WITH into_db = 'rescue'"),
                               self.bench.daemon)

    def bring_back(self, command, daemon=None, warm=()):
        """Measures what restores the table into `rescue` from the directories `warm` (the collection, where there are none), looks at what it has brought, and takes
        that away again."""
        settle(*warm or (self.directory,))
        self.bench.reset_memory()
        sample, _ = measure(command, daemon=daemon and daemon.process.pid, whole_machine=True)
        if daemon:
            sample.memory = daemon.peak_memory()
        restored = self.server.sql(CONTENT, "rescue").rows
        assert restored == self.content, f"{command}: {restored} instead of {self.content}"
        self.server.sql("DROP TABLE items", "rescue")
        return sample

    def close(self):
        self.drop_databases()
        self.bench.daemon.sql(f"DROP WAL ARCHIVE IN '{self.uri}'")
        shutil.rmtree(self.directory, ignore_errors=True)
