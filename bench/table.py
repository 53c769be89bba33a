"""One table out of the large cluster, into the running server: RESTORE TABLE beside pg_restore of a ready dump of just that table, and beside
pgBackRest's way, which restores one database, starts a server on it, dumps and reloads."""
import shutil

from harness import environment as env
from warehouse import Warehouse, connection


class TableBench:
    """Backs everything up once with each tool."""

    def __init__(self, bench, scale):
        self.bench = bench
        self.warehouse = Warehouse(bench, scale, "table")
        self.server = bench.source
        self.dump = bench.work / "table-dump"
        env.run(env.DEBIAN_BIN / "pg_dump", *connection(self.server), "-Fd", "-j2", "-t", "items", "-f", self.dump, "warehouse", timeout=600)
        bench.backup_holdfast("table")
        bench.backup_pgbackrest("bundle")

    def by_pgbackrest(self):
        """As one script, so that all of it is measured."""
        target, port, dump = self.bench.work / "table-target", env.free_port(), self.bench.work / "table-dump2"
        shutil.rmtree(target, ignore_errors=True)
        shutil.rmtree(dump, ignore_errors=True)
        env.make_directory(target)
        live = " ".join(connection(self.server))
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
{env.DEBIAN_BIN}/pg_dump -h {target} -p {port} -U postgres -Fd -j2 --compress=0 -t items -f {dump} warehouse
{env.DEBIAN_BIN}/pg_restore {live} -d rescue -j2 {dump}
{env.DEBIAN_BIN}/pg_ctl -D {target} -s -m immediate stop
""")
        script.chmod(0o644)
        return ["/bin/sh", script]

    def round(self):
        self.bench.note("table", "holdfast", self.warehouse.restore())
        self.bench.note("table", "pg_restore -j2", self.warehouse.bring_back(
            [env.DEBIAN_BIN / "pg_restore", *connection(self.server), "-d", "rescue", "-j2", self.dump], warm=(self.dump,)))
        self.bench.note("table", "pgbackrest --db-include", self.warehouse.bring_back(
            self.by_pgbackrest(), warm=(self.bench.configurations["bundle"].parent / "repo",)))

    def close(self):
        self.warehouse.close()
