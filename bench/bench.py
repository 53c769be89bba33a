#!/usr/bin/env python3
"""./run bench [name…]: holdfast beside pgBackRest, WAL-G, pg_basebackup and PgBouncer; `KNOWN` has the names.

One run, interleaved, medians. The tables go to standard output and to bench/results/<benchmark>.md.

HOLDFAST_BENCH_SCALE (200) and HOLDFAST_BENCH_ROUNDS (5) change the size and the number of rounds.
"""
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests/lib"), str(HERE.parent / "tests")]

import report  # noqa: E402
from archive import ArchiveBench  # noqa: E402
from cloud_storage import CloudBench  # noqa: E402
from cluster import bench_directory, cluster  # noqa: E402
from database import DatabaseBench  # noqa: E402
from decoder import DecoderBench  # noqa: E402
from harness import environment as env  # noqa: E402
from harness.postgres import Postgres, wait_until  # noqa: E402
import incremental  # noqa: E402
import incremental17  # noqa: E402
import network  # noqa: E402
from incremental import ChainBench, IncrementalBench  # noqa: E402
from long_chain import LongChainBench  # noqa: E402
from measure import Sample, measure, settle, stored_bytes  # noqa: E402
from pair import Pair  # noqa: E402
from pitr import PitrBench  # noqa: E402
from size import SizeBench  # noqa: E402
from table import TableBench  # noqa: E402
from table_large import TableLargeBench  # noqa: E402
from table_pitr import TablePitrBench  # noqa: E402

SCALE = int(os.environ.get("HOLDFAST_BENCH_SCALE", "200"))
ROUNDS = int(os.environ.get("HOLDFAST_BENCH_ROUNDS", "5"))


class Bench(Pair):
    def __init__(self):
        directory = bench_directory()
        source = cluster(directory, SCALE)
        work = directory / "work"
        shutil.rmtree(work, ignore_errors=True)
        super().__init__(directory, env.make_directory(work, 0o755), source)
        self.samples = {}

    def note(self, group, name, sample):
        self.samples.setdefault(group, {}).setdefault(name, []).append(sample)
        print(f"  {group:8} {name:28} {sample.wall:7.2f} s  {sample.cpu:7.2f} CPU s", flush=True)

    def note_bytes(self, group, name, size):
        self.samples.setdefault(group, {})[name] = size
        print(f"  {group} {name:28} {size / 1e6:9.2f} MB", flush=True)

    # -- the tools

    def backup_basebackup(self, target, compress):
        sample, _ = measure([env.DEBIAN_BIN / "pg_basebackup", "-h", self.source.sockets, "-p", self.source.port, "-U", "postgres",
                             "-D", target, "-Ft", "-X", "stream", "-c", "fast", f"--compress={compress}"], self.source.pid())
        return sample

    def machine(self, source=None, larger=None):
        return report.machine(source or self.source, env.run("pgbackrest", "version").stdout.strip(), ROUNDS, larger)

    # -- the measurements. Each may answer a description of the machine of its own.

    def backup(self):
        basebackup = self.work / "basebackup"
        for number in range(ROUNDS):
            for name in ("holdfast", "pgbackrest zst", "pgbackrest zst bundle", "pg_basebackup zstd", "pg_basebackup lz4"):
                settle(self.source.data)
                if name == "holdfast":
                    collection = f"b{number}"
                    sample = self.backup_holdfast(collection)
                    sample.stored = stored_bytes(self.daemon.io / collection)
                    shutil.rmtree(self.daemon.io / collection)
                elif name.startswith("pgbackrest"):
                    kind = "bundle" if "bundle" in name else "plain"
                    repo = self.configurations[kind].parent / "repo/backup/bench"
                    sample = self.backup_pgbackrest(kind)
                    newest = max(path for path in repo.iterdir() if re.fullmatch(r"\d+-\d+F", path.name))
                    sample.stored = stored_bytes(newest)
                    shutil.rmtree(newest)
                    self.forget(kind)
                else:
                    sample = self.backup_basebackup(basebackup, "client-zstd:level=1,workers=2" if "zstd" in name else "client-lz4")
                    sample.stored = stored_bytes(basebackup)
                    shutil.rmtree(basebackup)
                self.note("backup", name, sample)

    def forget(self, kind):
        """A removed backup must leave pgBackRest's list as well; expire does that."""
        configuration = self.configurations[kind]
        shutil.rmtree(configuration.parent / "repo")
        env.make_directory(configuration.parent / "repo")
        env.run("pgbackrest", f"--config={configuration}", "--stanza=bench", "stanza-create")

    def prepare_restores(self):
        if hasattr(self, "prepared"):
            return
        self.prepared = True
        self.backup_holdfast("keep")
        for kind in self.configurations:
            self.backup_pgbackrest(kind)
        self.base_tar = self.work / "base-tar"
        self.backup_basebackup(self.base_tar, "client-zstd:level=1,workers=2")

    def restore_command(self, name, target, delta=False):
        if name == "holdfast":
            options = ", delta" if delta else ""
            return self.psql(f"RESTORE FROM LATEST IN 'nodelocal://self/keep' WITH data_directory = '{target}'{options}")
        if name.startswith("pgbackrest"):
            configuration = self.configurations["bundle" if "bundle" in name else "plain"]
            return ["pgbackrest", f"--config={configuration}", "--stanza=bench", f"--pg1-path={target}",
                    *(["--delta"] if delta else []), "restore"]
        if name == "pg_basebackup (tar)":
            return ["/bin/sh", "-c", f"mkdir -m 700 {target} && cat {self.base_tar}/base.tar.zst | zstd -dcq | tar -x -C {target} && "
                    f"sync -f {target}"]
        return ["/bin/sh", "-c", f"cp -a {self.source.data} {target} && sync -f {target}"]

    def restore_sample(self, name, target, delta=False):
        command = self.restore_command(name, target, delta)
        self.reset_memory()
        daemon = self.daemon.process.pid if name == "holdfast" else None
        if name.startswith("pgbackrest"):
            target.exists() or env.make_directory(target)
        sample, _ = measure(command, None, daemon)
        if daemon:
            sample.memory = self.daemon.peak_memory()
        return sample

    def restore(self):
        self.prepare_restores()
        names = ["holdfast", "pgbackrest zst", "pgbackrest zst bundle", "cp -a and sync (floor)"]
        if shutil.which("zstd"):
            names.insert(3, "pg_basebackup (tar)")
        for number in range(ROUNDS):
            for name in names:
                target = self.work / "target"
                shutil.rmtree(target, ignore_errors=True)
                settle(*(directory for directory in (self.daemon.io / "keep", self.base_tar) if number >= 0))
                self.note("restore", name, self.restore_sample(name, target))
                if number == 0 and name in ("holdfast", "pgbackrest zst", "pgbackrest zst bundle"):
                    self.note("answers", name, Sample(self.until_answers(target), 0, 0))
        shutil.rmtree(self.work / "target", ignore_errors=True)

    def until_answers(self, target):
        """From starting PostgreSQL on a restored directory until a query is answered."""
        root = self.work / "restored"
        shutil.rmtree(root, ignore_errors=True)
        server = Postgres(env.make_directory(root, 0o755), data=target)
        server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'", "archive_mode": "off"})
        began = time.monotonic()
        server.start(wait=False)
        wait_until(server.ready, 300)
        seconds = time.monotonic() - began
        server.stop("immediate")
        return seconds

    def delta(self):
        self.prepare_restores()
        names = ["holdfast", "pgbackrest zst", "pgbackrest zst bundle"]
        targets = {name: self.work / f"delta-{number}" for number, name in enumerate(names)}
        for name, target in targets.items():
            self.restore_sample(name, target)
        for _ in range(ROUNDS):
            for name, target in targets.items():
                settle(target)
                self.note("delta", name, self.restore_sample(name, target, delta=True))
        for target in targets.values():
            shutil.rmtree(target)

    def proxy(self):
        bouncer = env.make_directory(self.work / "pgbouncer", 0o755)
        port = env.free_port()
        (bouncer / "pgbouncer.ini").write_text(f"""[databases]
* = host={self.source.sockets} port={self.source.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {bouncer}
auth_type = any
pool_mode = session
max_client_conn = 200
default_pool_size = 100
logfile = {bouncer}/log
pidfile = {bouncer}/pid
ignore_startup_parameters = extra_float_digits
[users]
""")
        (bouncer / "pgbouncer.ini").chmod(0o644)
        databases = (bouncer / "pgbouncer.ini").read_text().replace("* = host", "* = user=postgres host")
        (bouncer / "pgbouncer.ini").write_text(databases)
        process = subprocess.Popen([shutil.which("pgbouncer") or "/usr/sbin/pgbouncer", bouncer / "pgbouncer.ini"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **env.process_options())
        time.sleep(1)
        ports = {"holdfast": self.daemon.port, "pgbouncer session": port, "PostgreSQL (no proxy)": self.source.port}
        seconds = 8 if SCALE >= 100 else 3
        try:
            for _ in range(ROUNDS):
                for clients in (4, 32):
                    for name, to in ports.items():
                        done = env.run(env.DEBIAN_BIN / "pgbench", "-h", "127.0.0.1", "-p", to, "-U", "postgres", "-n", "-S", "-c",
                                       clients, "-j", 2, "-T", seconds, "pgbench")
                        rate = float(re.search(r"tps = ([\d.]+)", done.stdout).group(1))
                        self.samples.setdefault(f"proxy {clients}", {}).setdefault(name, []).append(rate)
                        print(f"  proxy    {name:28} {clients:3} clients {rate:10.0f} tps", flush=True)
        finally:
            process.terminate()
            process.wait(20)

    def rounds(self, bench, *arguments):
        """Closes `bench` at the end, whatever happens; what it says of its machine counts."""
        try:
            for _ in range(ROUNDS):
                bench.round(*arguments)
            return bench.finish() if hasattr(bench, "finish") else None
        finally:
            bench.close()

    def archive(self):
        return self.rounds(ArchiveBench(self.work), self.note)

    def incremental(self):
        tools = {"holdfast": incremental.holdfast(self), "pgbackrest zst": incremental.pgbackrest(self, "plain"),
                 "pgbackrest zst bundle": incremental.pgbackrest(self, "bundle")}
        return self.rounds(IncrementalBench(self.note, tools), incremental.changes(SCALE))

    def incremental17(self):
        pair = incremental17.started_pair(self, SCALE)
        try:
            incremental17.incrementals(self, pair, SCALE, ROUNDS)
            incremental17.chains(self, pair, SCALE, ROUNDS)
            return report.machine(pair.source, "its own pg_basebackup and pg_combinebackup", ROUNDS)
        finally:
            pair.close()

    def encryption(self):
        network.encryption(self, ROUNDS)

    def latency(self):
        network.latency(self, ROUNDS)


CLASSES = {"cloud": CloudBench, "chain": ChainBench, "table": TableBench, "database": DatabaseBench, "table-pitr": TablePitrBench,
           "table-large": TableLargeBench, "size": SizeBench, "decoder": DecoderBench, "pitr": PitrBench,
           "long-chain": LongChainBench}
KNOWN = ["backup", "restore", "delta", "proxy", "archive", "incremental", "incremental17", "encryption", "latency", *CLASSES]


def main():
    names = sys.argv[1:] or KNOWN
    for name in names:
        if name not in KNOWN:
            raise SystemExit(f"no such benchmark: {name}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    bench = Bench()
    try:
        bench.start(("plain", "bundle"))
        for name in names:
            print(f"{name}:", flush=True)
            bench.samples = {}
            machine = bench.rounds(CLASSES[name](bench, SCALE)) if name in CLASSES else getattr(bench, name)()
            report.write(name, machine or bench.machine(), bench.samples)
    finally:
        bench.close()
        env.forget_session()


if __name__ == "__main__":
    main()
