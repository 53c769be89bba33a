"""One table of about 200 MB with two indexes out of the large cluster, into the running server: RESTORE TABLE beside pg_restore of a ready dump of just
that table, and beside pgBackRest's way, which restores one database, starts a server on it, dumps and reloads."""
import shutil

from harness import environment as env
from measure import measure, settle

COLLECTION = "nodelocal://self/table"
ROWS_AT_SCALE_200 = 1_600_000
TABLE = """
CREATE TABLE items (id bigint PRIMARY KEY, customer int NOT NULL, at timestamptz NOT NULL, price numeric(12,2) NOT NULL, note text NOT NULL);
INSERT INTO items SELECT i, i::bigint * 7919 % 100003, timestamptz '2026-01-01' + i * interval '7 seconds', (i * 37 % 100000) / 100.0,
    md5(i::text) || ' ' || md5((i * 3)::text) FROM generate_series(1, {rows}) i;
CREATE INDEX items_customer ON items (customer, at);
"""
CONTENT = "SELECT count(*), sum(id), sum(customer), sum(price), max(at), (SELECT count(*) FROM pg_index WHERE indrelid = 'items'::regclass) FROM items"


class TableBench:
    """Makes the table in a database of its own, backs everything up once with each tool, and takes all of it away again."""

    def __init__(self, bench, scale):
        self.bench = bench
        self.server = bench.source
        self.drop_databases()
        for database in ("warehouse", "rescue"):
            self.server.sql(f"CREATE DATABASE {database}")
        self.server.sql(TABLE.format(rows=ROWS_AT_SCALE_200 * scale // 200), "warehouse", timeout=900)
        self.server.sql("VACUUM (ANALYZE, FREEZE)", "warehouse", timeout=300)
        self.content = self.server.sql(CONTENT, "warehouse").rows
        self.dump = bench.work / "table-dump"
        env.run(env.DEBIAN_BIN / "pg_dump", *self.connection(self.server), "-Fd", "-j2", "-t", "items", "-f", self.dump, "warehouse", timeout=600)
        bench.backup_holdfast("table")
        bench.backup_pgbackrest("bundle")

    def drop_databases(self):
        for database in ("warehouse", "rescue"):
            self.server.sql(f"DROP DATABASE IF EXISTS {database}")

    @staticmethod
    def connection(server):
        return ["-h", str(server.sockets), "-p", str(server.port), "-U", "postgres"]

    def by_pgbackrest(self):
        """As one script, so that all of it is measured."""
        target, port, log = self.bench.work / "table-target", env.free_port(), self.bench.work / "table-dump2"
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(log, ignore_errors=True)
        env.make_directory(target)
        live = " ".join(self.connection(self.server))
        script = self.bench.work / "table-pgbackrest.sh"
        script.write_text(f"""set -e
pgbackrest --config={self.bench.configurations['bundle']} --stanza=bench --pg1-path={target} --db-include=warehouse --type=immediate \\
  --target-action=promote restore
cat >> {target}/postgresql.auto.conf <<END
port = {port}
unix_socket_directories = '{target}'
listen_addresses = ''
archive_mode = off
END
{env.DEBIAN_BIN}/pg_ctl -D {target} -s -w -t 300 -l {target}/log start
{env.DEBIAN_BIN}/pg_dump -h {target} -p {port} -U postgres -Fd -j2 --compress=0 -t items -f {log} warehouse
{env.DEBIAN_BIN}/pg_restore {live} -d rescue -j2 {log}
{env.DEBIAN_BIN}/pg_ctl -D {target} -s -m immediate stop
""")
        script.chmod(0o644)
        return ["/bin/sh", script]

    def command(self, tool):
        if tool == "holdfast":
            return self.bench.psql(f"RESTORE TABLE warehouse.public.items FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'")
        if tool == "pg_restore -j2":
            return [env.DEBIAN_BIN / "pg_restore", *self.connection(self.server), "-d", "rescue", "-j2", self.dump]
        return self.by_pgbackrest()

    def round(self):
        for tool in ("holdfast", "pg_restore -j2", "pgbackrest --db-include"):
            command = self.command(tool)
            settle(self.bench.daemon.io / "table")
            self.bench.reset_memory()
            daemon = self.bench.daemon.process.pid if tool == "holdfast" else None
            sample, _ = measure(command, self.server.pid(), daemon)
            if daemon:
                sample.memory = self.bench.daemon.peak_memory()
            self.bench.note("table", tool, sample)
            restored = self.server.sql(CONTENT, "rescue").rows
            assert restored == self.content, f"{tool}: {restored} instead of {self.content}"
            self.server.sql("DROP TABLE items", "rescue")

    def close(self):
        self.drop_databases()
        self.bench.daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
        shutil.rmtree(self.bench.daemon.io / "table", ignore_errors=True)
