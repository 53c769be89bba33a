"""One table as of a moment, out of about 4 GB (at scale 200) of WAL that mostly concerns other tables: RESTORE TABLE … AS OF beside laying the whole
cluster out and replaying all of that WAL."""
import shutil

from harness import environment as env
from harness.postgres import wait_until
from measure import measure, settle
from warehouse import CONTENT, Warehouse

WAL_AT_SCALE_200 = 4_000_000_000
TRANSACTIONS = 5000  # of each of pgbench's clients between two changes to the table
# One page in 65, others each time.
CHANGE = "UPDATE items SET price = price + 1 WHERE id % 4000 = {number}"


class TablePitrBench:
    def __init__(self, bench, scale):
        self.bench = bench
        self.server = bench.source
        bench.archiving()
        self.warehouse = Warehouse(bench, scale, "table-pitr")
        bench.backup_holdfast("table-pitr", " WITH revision_history")
        self.write_wal(WAL_AT_SCALE_200 * scale // 200)
        self.warehouse.content = self.server.sql(CONTENT, "warehouse").rows
        self.moment = f" AS OF SYSTEM TIME '{self.server.value('SELECT clock_timestamp()')}'"
        # The accident that one wants to go back before.
        self.server.sql("DELETE FROM items WHERE id % 3 = 0", "warehouse", timeout=300)
        self.wait_archived()
        self.target = bench.work / "pitr-target"

    def write_wal(self, wanted):
        begin = self.server.value("SELECT pg_current_wal_lsn()")
        written, number = 0, 0
        while written < wanted:
            env.run(env.DEBIAN_BIN / "pgbench", "-h", self.server.sockets, "-p", self.server.port, "-U", "postgres", "-n", "-c", 4, "-j", 2, "-t",
                    TRANSACTIONS, "dbname=pgbench options='-c synchronous_commit=off'", timeout=600)
            self.server.sql(CHANGE.format(number=number), "warehouse", timeout=300)
            number += 1
            written = int(self.server.value(f"SELECT pg_current_wal_lsn() - '{begin}'"))
        print(f"  table-pitr {written / 1e9:.2f} GB of WAL, {number * 4 * TRANSACTIONS} transactions", flush=True)

    def wait_archived(self):
        self.server.sql("SELECT pg_switch_wal()")
        lsn = self.server.value("SELECT pg_current_wal_flush_lsn()")

        def archived():
            for row in self.bench.daemon.sql("SHOW WAL ARCHIVES").dicts():
                if row["collection"].endswith("/table-pitr") and row["archived_lsn"]:
                    return self.server.value(f"SELECT '{row['archived_lsn']}'::pg_lsn >= '{lsn}'") == "t"
            return False
        wait_until(archived, 600, "all WAL in the archive")

    def whole_cluster(self):
        """As one script, so that all of it is measured. The server answers when its recovery has ended: hot_standby is off meanwhile."""
        port = env.free_port()
        ask = f"{env.DEBIAN_BIN}/psql -X -At -h {self.target} -p {port} -U postgres -d warehouse"
        statement = f"RESTORE FROM LATEST IN '{self.warehouse.uri}'{self.moment} WITH data_directory = '{self.target}'"
        restore = " ".join(f'"{part}"' for part in self.bench.psql(statement))
        script = self.bench.work / "table-pitr.sh"
        script.write_text(f"""set -e
{restore}
cat >> {self.target}/postgresql.auto.conf <<END
port = {port}
unix_socket_directories = '{self.target}'
listen_addresses = ''
archive_mode = off
END
began=$(date +%s%N)
{env.DEBIAN_BIN}/pg_ctl -D {self.target} -s -W -l {self.target}/log start
until {ask} -c 'SELECT 1' >{self.target}/ready 2>&1; do
  grep -q 'database system is shut down' {self.target}/log && exit 1
  sleep 0.02
done
echo recovery=$((($(date +%s%N) - began) / 1000000))
{ask} -c "{CONTENT}"
{env.DEBIAN_BIN}/pg_ctl -D {self.target} -s -m immediate stop
""")
        script.chmod(0o644)
        return ["/bin/sh", script]

    def round(self):
        self.bench.note("table-pitr", "holdfast", self.warehouse.restore(self.moment))
        shutil.rmtree(self.target, ignore_errors=True)
        settle(self.warehouse.directory)
        sample, output = measure(self.whole_cluster(), whole_machine=True)
        answered = output.splitlines()[-1].split("|")
        assert [answered] == self.warehouse.content, f"{output} instead of {self.warehouse.content}"
        self.bench.note("table-pitr", "the cluster, laid out and recovered", sample)
        milliseconds = int(output.split("recovery=")[1].split()[0])
        print(f"  table-pitr   of which recovery {milliseconds / 1000:.2f} s", flush=True)
        shutil.rmtree(self.target)

    def close(self):
        shutil.rmtree(self.target, ignore_errors=True)
        self.warehouse.close()
