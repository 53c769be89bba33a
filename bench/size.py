"""The same change in two clusters, one three times as large as the other: an incremental's cost follows the change, not the size."""
from cluster import cluster
from harness import environment as env
import incremental
from incremental import IncrementalBench
from pair import Pair
import reads

LARGER = 3
KINDS = ("nothing changed", "1 % of rows, one id range", "1 % of pages, scattered")


def compact(source):
    """Room that earlier changes left in pages decides how many pages the next one changes; afterwards there is none."""
    source.sql("VACUUM (FULL, FREEZE) pgbench_accounts", "pgbench", timeout=1800)
    source.sql("VACUUM pgbench_accounts", "pgbench", timeout=600)
    source.sql("CHECKPOINT", timeout=600)


class SizeBench:
    """The smaller one is the bench's own cluster, of scale `scale`; percentages are of its rows and pages."""

    def __init__(self, bench, scale):
        # The servers have one switch for archiving to pgBackRest, which is on only while that takes a backup.
        bench.archiving()
        self.of = bench
        self.large = Pair(bench.directory, env.make_directory(bench.work / "large", 0o755), cluster(bench.directory, LARGER * scale))
        self.large.start(("bundle",))
        tools = {}
        self.changes = {}
        for pair in (bench, self.large):
            compact(pair.source)
        for pair, larger, size in ((bench, 1, ""), (self.large, LARGER, f", a cluster {LARGER} times as large")):
            tools[f"holdfast{size}"] = incremental.holdfast(pair)
            tools[f"pgbackrest zst bundle{size}"] = incremental.pgbackrest(pair, "bundle")
            self.changes[pair] = incremental.changes(scale, larger)
        self.bench = IncrementalBench(bench.note, tools)
        self.samples = bench.samples

    def statement(self, name, kind):
        return self.changes[self.bench.tools[name].pair][kind]

    def round(self):
        for kind in KINDS:
            for name in self.bench.tools:
                self.bench.measure(f"size: {kind}", name, self.statement(name, kind))

    def finish(self):
        self.reads()
        return self.of.machine(larger=self.large.source)

    def reads(self):
        """Once: what is read does not vary as times do."""
        for kind in KINDS:
            for name, tool in self.bench.tools.items():
                if name.startswith("holdfast"):
                    read = reads.measure_reads(tool, lambda: self.bench.change(tool.pair.source, self.statement(name, kind)))
                    self.samples.setdefault("reads", {})[f"{kind}{name.removeprefix('holdfast')}"] = read
                    print(f"  reads    {kind}{name.removeprefix('holdfast'):28} {read.read / 1e6:.1f} MB of {read.needed / 1e6:.1f} MB", flush=True)

    def close(self):
        self.bench.close()
        self.large.close()
