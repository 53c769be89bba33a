"""The tables of a run: one file in bench/results for each benchmark, so that a run of one leaves the others' last figures."""
import os
import re
import statistics
import time
from pathlib import Path

from measure import Sample, stored_bytes

RESULTS = Path(__file__).resolve().parent / "results"
TITLES = {
    "backup": "Full backup", "restore": "Restore to a directory", "delta": "Delta restore over an intact directory",
    "archive": "Archiving a burst of about 1 GB of WAL", "cloud backup": "Full backup into MinIO (S3, TLS, same machine)",
    "cloud restore": "Restore from MinIO", "chain": "Restore of a full and ten incrementals, each after 1 % of the pages changed",
    "encryption": "Full backup, plain and encrypted", "latency backup": "Full backup into MinIO through a bad network",
    "latency restore": "Restore from MinIO through a bad network",
    "table": "One table out of the cluster, into the running server",
    "database": "One database out of the cluster, into the running server",
    "table-pitr": "One table as of a moment behind much WAL of other tables, into the running server",
    "table-large": "The same table out of two clusters, into the running server",
    "table-large bytes": "What is fetched for it from the larger one's collection",
    "reads": "Bytes that an incremental reads", "pitr": "Replay of about 2 GB of WAL up to a moment",
    "chain of random rows": "Restore of a full and ten incrementals, each after a change to half of all pages",
}


def cpu_name():
    match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return match.group(1) if match else os.uname().machine


def machine(server, tools, rounds, larger=None):
    """What a reader must know of where and on what the figures were taken; `larger`: a second server."""
    sizes = " and ".join(f"{(stored_bytes(one.data) - stored_bytes(one.data / 'pg_wal')) / 1e9:.2f} GB" for one in (server, larger) if one)
    return (f"{time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores, {cpu_name()}; PostgreSQL {server.value('SHOW server_version')}; {tools}; "
            f"{'clusters' if larger else 'cluster'} of {sizes}, page checksums on; {rounds} interleaved rounds, warm cache, medians. CPU seconds are those of every "
            "process involved, the server's included. Memory: private memory of the tool's processes; for holdfast the daemon's whole resident set (VmHWM).")


def write(benchmark, machine_line, samples):
    """`samples`: group -> tool -> list of Sample, or of transactions per second for groups named 'proxy <clients>', or bytes for '… bytes'; 'reads' has one
    Reads each."""
    lines = [f"# ./run bench {benchmark}", "", machine_line, ""]
    for group, tools in samples.items():
        kind = group.split()[-1] if group.endswith(" bytes") else re.match(r"\w+", group).group()
        lines += [f"## {title(group)}", "", *ROWS.get(kind, table)(tools), ""]
    RESULTS.mkdir(exist_ok=True)
    text = "\n".join(lines)
    (RESULTS / f"{benchmark}.md").write_text(text)
    print("\n" + text)


def title(group):
    if group.startswith("incremental: "):
        return f"Incremental backup, {group.removeprefix('incremental: ')}"
    if group.startswith("size: "):
        return f"The same change in both clusters, percentages of the smaller one's: {group.removeprefix('size: ')}"
    if group.startswith("proxy "):
        return f"pgbench -S, {group.removeprefix('proxy ')} clients"
    if group.startswith("long chain: "):
        return f"A full and 300 incrementals, beside a full and a few: {group.removeprefix('long chain: ')}"
    if group.startswith("decoder: "):
        return f"Block maps of pgbench's WAL in memory, {group.removeprefix('decoder: ')}"
    if group == "answers":
        return "From starting the restored server until it answers"
    return TITLES[group]


def table(tools):
    medians = {name: Sample(*(statistics.median(getattr(sample, key) for sample in samples) for key in ("wall", "cpu", "memory", "stored")))
               for name, samples in tools.items()}
    rows = ["| | wall s | range | holdfast / this | CPU s | memory MiB | stored MB |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, sample in medians.items():
        walls = [one.wall for one in tools[name]]
        # Of two clusters each tool is compared with holdfast on the same one, and holdfast with itself.
        _, comma, other = name.partition(", a cluster ")
        ours = medians[f"holdfast{comma}{other}" if not name.startswith("holdfast") else "holdfast"]
        rows.append(f"| {name} | {sample.wall:.2f} | {min(walls):.2f}–{max(walls):.2f} | {ours.wall / sample.wall:.2f} | "
                    f"{f'{sample.cpu:.2f}' if sample.cpu else ''} | "
                    f"{f'{sample.memory / 2**20:.0f}' if sample.memory else ''} | {f'{sample.stored / 1e6:.0f}' if sample.stored else ''} |")
    return rows


def rates(tools):
    medians = {name: statistics.median(values) for name, values in tools.items()}
    return ["| | transactions/s | holdfast / this |", "|---|---:|---:|",
            *(f"| {name} | {rate:.0f} | {medians['holdfast'] / rate:.2f} |" for name, rate in medians.items())]


def sizes(tools):
    fetched = tools["fetched"]
    return ["| | MB | fetched / this |", "|---|---:|---:|", *(f"| {name} | {size / 1e6:.2f} | {fetched / size:.2f} |" for name, size in tools.items())]


def read_rows(tools):
    return ["Of the data directory, as the layer's manifest says; beside it what the daemon read meanwhile from all files: manifests, block maps, WAL and its own",
            "state, too. What it has to read: the pages whose LSN says that they changed, and free space maps, visibility maps, SLRUs and other small files, which are",
            "copied whole.", "",
            "| | read MB | changed pages MB | copied whole MB | read / the two | all reads MB | all reads / the two |", "|---|---:|---:|---:|---:|---:|---:|",
            *(f"| {name} | {one.read / 1e6:.2f} | {one.changed / 1e6:.2f} | {one.whole / 1e6:.2f} | {one.read / one.needed:.2f} | {one.by_daemon / 1e6:.2f} | "
              f"{one.by_daemon / one.needed:.2f} |" for name, one in tools.items())]


def speeds(tools):
    """Of samples that tell in `stored` how much was read."""
    rows = ["| | GB per CPU second | wall s | range | CPU s | WAL MB |", "|---|---:|---:|---:|---:|---:|"]
    for name, samples in tools.items():
        wall, cpu, size = (statistics.median(getattr(sample, key) for sample in samples) for key in ("wall", "cpu", "stored"))
        walls = [sample.wall for sample in samples]
        rows.append(f"| {name} | {size / 1e9 / cpu:.2f} | {wall:.3f} | {min(walls):.3f}–{max(walls):.3f} | {cpu:.3f} | {size / 1e6:.0f} |")
    return rows


ROWS = {"proxy": rates, "bytes": sizes, "reads": read_rows, "decoder": speeds}
