"""How fast block maps are made of WAL that is in memory, on one core: the micro-benchmark collection_bench on WAL that pgbench wrote."""
import json
import shutil

from harness import environment as env
from harness.postgres import Postgres
from measure import Sample, measure, settle

LOADED_SCALE = 35  # about half a GB of WAL
WAL_BYTES_AT_SCALE_200 = {"decoder: as usual, with full-page images": 1_000_000_000, "decoder: without images, small records only": 100_000_000}


def position(lsn):
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


class DecoderBench:
    """The WAL is made once; the rounds differ only by what else happens on the machine."""

    def __init__(self, bench, scale):
        self.note = bench.note
        self.work = env.make_directory(bench.work / "decoder", 0o755)
        self.server = Postgres(env.make_directory(self.work / "pg", 0o755), conf={
            "shared_buffers": "512MB", "max_wal_size": "6GB", "wal_keep_size": "6GB", "autovacuum": "off", "synchronous_commit": "off"}).start()
        usual, small = WAL_BYTES_AT_SCALE_200
        self.ranges = {usual: self.written(lambda start: self.as_usual(start, WAL_BYTES_AT_SCALE_200[usual] * scale // 200, scale))}
        self.server.sql("ALTER SYSTEM SET full_page_writes = off")
        self.server.sql("SELECT pg_reload_conf()")
        self.ranges[small] = self.written(lambda start: self.transactions(start, WAL_BYTES_AT_SCALE_200[small] * scale // 200))
        self.machine = bench.machine(self.server)
        self.server.stop()

    def written(self, write):
        """(start, end) of what `write` writes, from a segment's start on."""
        self.server.sql("CHECKPOINT")
        self.server.sql("SELECT pg_switch_wal()")
        start = self.server.value("SELECT pg_current_wal_lsn()")
        write(start)
        return start, self.server.value("SELECT pg_current_wal_insert_lsn()")

    def as_usual(self, start, size, scale):
        self.server.pgbench_init(max(1, LOADED_SCALE * scale // 200))
        self.server.sql("CHECKPOINT")
        self.transactions(start, size)

    def transactions(self, start, size):
        while int(self.server.value(f"SELECT pg_current_wal_flush_lsn() - '{start}'")) < size:
            self.server.pgbench_start(2).wait()

    def round(self):
        """pg_waldump reads the same WAL from files in the page cache and prints nothing."""
        program = env.reachable(env.BUILT_BINARY.parent / "collection_bench")
        wal = self.server.data / "pg_wal"
        for group, (start, end) in self.ranges.items():
            size = position(end) - position(start)
            settle(wal)
            done = env.run(program, "--benchmark_filter=BM_BuildBlockMap", "--benchmark_format=json", env={"HOLDFAST_BENCH_WAL": f"{wal} {start} {end}"})
            took = json.loads(done.stdout[done.stdout.index("{"):])["benchmarks"][0]
            assert not took.get("error_occurred"), took
            self.note(group, "holdfast", Sample(took["real_time"] / 1000, took["cpu_time"] / 1000, 0, size))
            dumped, _ = measure([self.server.bin / "pg_waldump", "--quiet", "--path", wal, "--start", start, "--end", end])
            dumped.stored = size
            self.note(group, "pg_waldump --quiet", dumped)

    def finish(self):
        return self.machine

    def close(self):
        self.server.stop("immediate")
        shutil.rmtree(self.work, ignore_errors=True)
