"""On PostgreSQL 17, which has incremental backups of its own: holdfast beside pg_basebackup --incremental and pg_combinebackup."""
import shutil

from cluster import cluster, postgres_17
from harness import environment as env
import incremental
from incremental import IncrementalBench, Tool
from measure import measure, settle, stored_bytes
from pair import Pair

CHAIN = "nodelocal://self/chain"
LAYERS = 10


def started_pair(bench, scale):
    pair = Pair(bench.directory, env.make_directory(bench.work / "17", 0o755), cluster(bench.directory, scale, 17, postgres_17()))
    pair.start()
    return pair


def basebackup(pair, target, *options):
    """With its own WAL and synced, as it comes."""
    sample, _ = measure([pair.source.bin / "pg_basebackup", "-h", pair.source.sockets, "-p", pair.source.port, "-U", "postgres", "-D", target,
                         "-c", "fast", *options], pair.source.pid())
    sample.stored = stored_bytes(target)
    return sample


def server_incrementals(pair, form):
    """`form`: plain or tar. Of each backup only the manifest is kept, which is all that the next one needs."""
    target, manifest = pair.work / f"basebackup-{form}", pair.work / f"manifest-{form}"

    def take(*options):
        sample = basebackup(pair, target, f"--format={form}", *options)
        shutil.move(target / "backup_manifest", manifest)
        shutil.rmtree(target)
        return sample
    take()
    return Tool(pair, lambda: take(f"--incremental={manifest}"))


def incrementals(bench, pair, scale, rounds):
    incremental_bench = IncrementalBench(bench.note, {
        "holdfast": incremental.holdfast(pair), "pg_basebackup --incremental": server_incrementals(pair, "plain"),
        "pg_basebackup --incremental, tar": server_incrementals(pair, "tar")})
    try:
        for _ in range(rounds):
            incremental_bench.round(incremental.changes(scale))
    finally:
        incremental_bench.close()


def chains(bench, pair, scale, rounds):
    """Restores of a full and ten incrementals, which both tools take after the same changes."""
    target = bench.work / "target"
    layers = [pair.work / f"layer-{number}" for number in range(LAYERS + 1)]
    kinds = [incremental.changes(scale)[kind] for kind in incremental.ChainBench.KINDS["chain"]]
    pair.daemon.sql(f"BACKUP INTO '{CHAIN}'", timeout=600)
    basebackup(pair, layers[0])
    for number in range(1, LAYERS + 1):
        pair.source.sql(kinds[number % len(kinds)].format(seed=number), "pgbench", timeout=600)
        pair.daemon.sql(f"BACKUP INTO LATEST IN '{CHAIN}'", timeout=600)
        basebackup(pair, layers[number], f"--incremental={layers[number - 1]}/backup_manifest")
    for _ in range(rounds):
        settle(pair.daemon.io / "chain")
        bench.note("chain", "holdfast", pair.run_holdfast(f"RESTORE FROM LATEST IN '{CHAIN}' WITH data_directory = '{target}'", server=False))
        shutil.rmtree(target)
        settle(*layers)
        combine = [pair.source.bin / "pg_combinebackup", "-o", target]
        bench.note("chain", "pg_combinebackup", measure([*combine, *layers])[0])
        shutil.rmtree(target)
        settle(*layers)
        # It reads directories, so what a storage keeps has to be copied from there first.
        copied = env.make_directory(pair.work / "copied")
        copies = [copied / layer.name for layer in layers]
        script = f"cp -a {' '.join(map(str, layers))} {copied} && {' '.join(map(str, combine + copies))}"
        bench.note("chain", "copy and pg_combinebackup", measure(["/bin/sh", "-c", script])[0])
        shutil.rmtree(target)
        shutil.rmtree(copied)
    pair.daemon.sql(f"DROP WAL ARCHIVE IN '{CHAIN}'")
