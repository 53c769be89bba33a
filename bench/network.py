"""What encryption costs, and what a slow network that loses requests costs."""
import shutil

from cloud.proxy import FaultProxy
from harness.emulators import Minio
from measure import measure, settle, stored_bytes

PASSPHRASE = "correct horse battery staple"
LATENCY = 0.05
FAILING = 0.01


def encryption(bench, rounds):
    """The same backup plain and encrypted. At most 10 % more CPU is the aim; pgBackRest's aes-256-cbc stands beside it."""
    bench.configurations["plain"] = bench.configurations.get("plain") or bench.pgbackrest_configuration("plain")
    root = bench.work / "pgbackrest-cipher"
    bench.configurations["cipher"] = bench.pgbackrest_configuration("cipher", f"""repo1-path={root}/repo
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass={PASSPHRASE.replace(' ', '-')}""")
    options = {"holdfast": "", "holdfast encrypted": f" WITH encryption_passphrase = '{PASSPHRASE}'"}
    kinds = {"pgbackrest zst": "plain", "pgbackrest zst aes-256-cbc": "cipher"}
    for number in range(rounds):
        for name, option in options.items():
            settle(bench.source.data)
            # Plain and encrypted WAL of one server do not go into one collection.
            collection = f"encryption-{number}-{len(option)}"
            sample = bench.backup_holdfast(collection, f"{option}{', ' if option else ' WITH '}protect = false")
            sample.stored = stored_bytes(bench.daemon.io / collection)
            shutil.rmtree(bench.daemon.io / collection)
            bench.note("encryption", name, sample)
        for name, kind in kinds.items():
            settle(bench.source.data)
            sample = bench.backup_pgbackrest(kind)
            sample.stored = stored_bytes(bench.configurations[kind].parent / "repo/backup/bench")
            bench.forget(kind)
            bench.note("encryption", name, sample)


def latency(bench, rounds):
    """Through one proxy: as it is, and with 50 ms before each request and one request in a hundred failing. At least half of the throughput is the aim."""
    minio = Minio(bench.work)
    minio.start()
    target = bench.work / "target"
    try:
        for number in range(rounds):
            for name, faults in (("holdfast", {}), ("holdfast, 50 ms and 1 % failing", {"latency": LATENCY, "failing": FAILING})):
                proxy = FaultProxy(minio.port, **faults)
                try:
                    uri = minio.uri(f"latency-{number}-{len(faults)}", endpoint=proxy.endpoint)
                    settle(bench.source.data)
                    sample, _ = measure(bench.psql(f"BACKUP INTO '{uri}' WITH protect = false"), bench.source.pid(), bench.daemon.process.pid)
                    bench.note("latency backup", name, sample)
                    shutil.rmtree(target, ignore_errors=True)
                    sample, _ = measure(bench.psql(f"RESTORE FROM LATEST IN '{uri}' WITH data_directory = '{target}'"), None,
                                        bench.daemon.process.pid)
                    bench.note("latency restore", name, sample)
                    print(f"  latency  {len(proxy.requests)} requests, {proxy.failed} failed", flush=True)
                finally:
                    proxy.close()
        shutil.rmtree(target, ignore_errors=True)
    finally:
        minio.stop()
