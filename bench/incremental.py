"""Incremental backups after the same change, and restores of chains of them: holdfast beside pgBackRest's incr."""
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass

from harness import environment as env
from measure import measure, settle
from pair import Pair

COLLECTION = "nodelocal://self/incremental"
ROWS_PER_PAGE = 61  # of pgbench_accounts, fillfactor 100


def changes(scale, larger=1):
    """Name -> statement; {seed} differs each time, so that other rows change. In a cluster `larger` times as large as `scale` as much is changed as in one
    of `scale`, and what is scattered is scattered over all of it."""
    rows = scale * 100_000
    update = "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE "
    return {
        "nothing changed": None,
        "1 % of rows, one id range": update + f"aid BETWEEN 1 + {{seed}} * {rows // 100} AND ({{seed}} + 1) * {rows // 100}",
        "1 % of pages, scattered": update + f"aid = ANY (ARRAY(SELECT i * {100 * ROWS_PER_PAGE * larger} + {{seed}} * {ROWS_PER_PAGE} + 7 "
                                            f"FROM generate_series(0, {rows // (100 * ROWS_PER_PAGE) - 1}) i))",
        "1 % of rows, at random": update + "(hashint4(aid) & 1048575) % 100 = {seed}",
    }


@dataclass
class Tool:
    """A tool that has a backup of the pair's server."""
    pair: Pair
    take: Callable  # an incremental on the newest backup; its sample


def holdfast(pair):
    pair.backup_holdfast("incremental")
    return Tool(pair, lambda: pair.run_holdfast(f"BACKUP INTO LATEST IN '{COLLECTION}'"))


def pgbackrest(pair, configuration):
    pair.backup_pgbackrest(configuration)
    return Tool(pair, lambda: pair.backup_pgbackrest(configuration, "incr"))


class IncrementalBench:
    """Every tool meets a change of its own of the same kind, on a base taken just before, and pays for its checkpoint."""

    def __init__(self, note, tools):
        self.note = note
        self.tools = tools
        self.seed = 0

    def change(self, server, statement):
        if statement:
            self.seed = self.seed % 97 + 1
            server.sql(statement.format(seed=self.seed), "pgbench", timeout=600)

    def measure(self, group, name, statement):
        tool = self.tools[name]
        tool.take()
        self.change(tool.pair.source, statement)
        settle()
        self.note(group, name, tool.take())

    def round(self, kinds):
        for kind, statement in kinds.items():
            for name in self.tools:
                self.measure(f"incremental: {kind}", name, statement)

    def close(self):
        for pair in {id(tool.pair): tool.pair for tool in self.tools.values()}.values():
            pair.daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
            shutil.rmtree(pair.daemon.io / "incremental")


class ChainBench:
    """Restores of a full and ten incrementals, beside a full of the same data and pgBackRest's chain of the same changes."""

    KINDS = {"chain": ("1 % of rows, one id range", "1 % of pages, scattered"), "chain of random rows": ("1 % of rows, at random",)}

    def __init__(self, bench, scale):
        self.bench = bench
        seed = 0
        for group, kinds in self.KINDS.items():
            bench.backup_holdfast(self.collection(group))
            bench.backup_pgbackrest("bundle")
            for number in range(10):
                seed += 1
                bench.source.sql(changes(scale)[kinds[number % len(kinds)]].format(seed=seed), "pgbench", timeout=600)
                bench.daemon.sql(f"BACKUP INTO LATEST IN 'nodelocal://self/{self.collection(group)}'", timeout=600)
                bench.backup_pgbackrest("bundle", "incr")
            bench.backup_holdfast(self.collection(group) + "-flat")
            bench.daemon.sql(f"DROP WAL ARCHIVE IN 'nodelocal://self/{self.collection(group)}'")
        self.newest = {group: set_ for group, set_ in zip(self.KINDS, self.last_sets())}

    @staticmethod
    def collection(group):
        return group.replace(" ", "-")

    def last_sets(self):
        """The label of the last incremental of each of pgBackRest's fulls."""
        info = json.loads(env.run("pgbackrest", f"--config={self.bench.configurations['bundle']}", "--stanza=bench", "--output=json", "info").stdout)
        last = {}
        for backup in info[0]["backup"]:
            last[backup["label"].split("_")[0]] = backup["label"]
        return list(last.values())[-len(self.KINDS):]

    def round(self):
        for group in self.KINDS:
            for tool in ("holdfast", "holdfast, a full of the same", "pgbackrest zst bundle"):
                self.bench.note(group, tool, self.restore(group, tool))

    def restore(self, group, tool):
        target = self.bench.work / "target"
        shutil.rmtree(target, ignore_errors=True)
        if tool.startswith("holdfast"):
            collection = self.collection(group) + ("-flat" if tool != "holdfast" else "")
            settle(self.bench.daemon.io / collection)
            sample = self.bench.run_holdfast(f"RESTORE FROM LATEST IN 'nodelocal://self/{collection}' WITH data_directory = '{target}'", server=False)
        else:
            env.make_directory(target)
            settle(self.bench.configurations["bundle"].parent / "repo")
            sample, _ = measure(["pgbackrest", f"--config={self.bench.configurations['bundle']}", "--stanza=bench", f"--set={self.newest[group]}",
                                 f"--pg1-path={target}", "restore"])
        shutil.rmtree(target, ignore_errors=True)
        return sample

    def close(self):
        for group in self.KINDS:
            for suffix in ("", "-flat"):
                shutil.rmtree(self.bench.daemon.io / (self.collection(group) + suffix), ignore_errors=True)
