"""One database of about 1 GB (at scale 200) out of the large cluster, into the running server: RESTORE DATABASE beside pg_restore of a ready dump of
just that database."""
import shutil

from harness import environment as env
from measure import measure, settle
from warehouse import connection

URI = "nodelocal://self/database"
CONTENT = """SELECT (SELECT count(*) FROM events), (SELECT sum(id) FROM events), (SELECT count(*) FROM sessions), (SELECT max(seen) FROM sessions),
    (SELECT sum(amount) FROM ledger), (SELECT sum(length(body)) FROM articles),
    (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relnamespace = 'public'::regnamespace)"""


class DatabaseBench:
    def __init__(self, bench, scale):
        self.bench = bench
        self.server = bench.source
        bench.archiving()
        self.drop_restored()
        size = int(self.server.value("SELECT pg_database_size('shop')"))
        print(f"  database of {size / 1e9:.2f} GB", flush=True)
        self.content = self.server.sql(CONTENT, "shop").rows
        self.dump = bench.work / "database-dump"
        env.run(env.DEBIAN_BIN / "pg_dump", *connection(self.server), "-Fd", "-j2", "-f", self.dump, "shop", timeout=1200)
        bench.backup_holdfast("database")

    def drop_restored(self):
        self.server.sql("DROP DATABASE IF EXISTS restored")

    def by_pg_restore(self):
        script = self.bench.work / "database-pg-restore.sh"
        live = " ".join(connection(self.server))
        script.write_text(f"""set -e
{env.DEBIAN_BIN}/psql -X -q {live} -c 'CREATE DATABASE restored TEMPLATE template0' postgres
{env.DEBIAN_BIN}/pg_restore {live} -d restored -j2 {self.dump}
""")
        script.chmod(0o644)
        return ["/bin/sh", script]

    def round(self):
        for tool in ("holdfast", "pg_restore -j2"):
            ours = tool == "holdfast"
            command = (self.bench.psql(f"RESTORE DATABASE shop FROM LATEST IN '{URI}' WITH new_db_name = 'restored'") if ours
                       else self.by_pg_restore())
            settle(self.bench.daemon.io / "database", self.dump)
            self.bench.reset_memory()
            sample, _ = measure(command, daemon=self.bench.daemon.process.pid if ours else None, whole_machine=True)
            if ours:
                sample.memory = self.bench.daemon.peak_memory()
            self.bench.note("database", tool, sample)
            restored = self.server.sql(CONTENT, "restored").rows
            assert restored == self.content, f"{tool}: {restored} instead of {self.content}"
            self.drop_restored()

    def close(self):
        self.drop_restored()
        self.bench.daemon.sql(f"DROP WAL ARCHIVE IN '{URI}'")
        shutil.rmtree(self.bench.daemon.io / "database", ignore_errors=True)
        shutil.rmtree(self.dump, ignore_errors=True)
