"""How much an incremental reads, beside what it has to: the pages that changed and the files that are always copied whole."""
import json
import re
from dataclasses import dataclass
from pathlib import Path

from harness.postgres import wait_until
from incremental import COLLECTION
from measure import settle

PAGE = 8192
MAIN_FORK = re.compile(r"(base/\d+|global|pg_tblspc/\d+/[^/]+/\d+)/\d+(\.\d+)?")
# Nothing of them is in a backup. Source: PostgreSQL src/backend/backup/basebackup.c (excludeDirContents).
NOT_BACKED_UP = ("pg_wal", "pg_subtrans", "pg_notify", "pg_stat_tmp", "pg_dynshmem", "pg_replslot", "pg_serial", "pg_snapshots")


@dataclass
class Reads:
    """In bytes."""
    read: int       # of the data directory, as the layer's manifest has it
    by_daemon: int  # in all: manifests, block maps, WAL and its own state, too
    changed: int    # pages
    whole: int      # free space and visibility maps, SLRUs and other small files

    @property
    def needed(self):
        return self.changed + self.whole


def read_bytes(pid):
    """That a process got from read calls, from whatever file; not what came from sockets."""
    return int(re.search(r"rchar: (\d+)", Path(f"/proc/{pid}/io").read_text()).group(1))


def changed_pages(path, since):
    """How many of a relation file's pages were changed by WAL from the position `since` on: a page begins with the end of the last record that changed it,
    the high half first (PageXLogRecPtr)."""
    count = 0
    with open(path, "rb") as file:
        while chunk := file.read(128 * PAGE):
            words = memoryview(chunk[:len(chunk) // PAGE * PAGE]).cast("I")
            count += sum(high << 32 | low > since for high, low in zip(words[::PAGE // 4], words[1::PAGE // 4]))
    return count


def needed_bytes(data, since):
    """(pages changed since then, files that are copied whole) in bytes."""
    changed = whole = 0
    for path in data.rglob("*"):
        name = str(path.relative_to(data))
        if not path.is_file() or name.split("/")[0] in NOT_BACKED_UP or name.startswith("postmaster."):
            continue
        if MAIN_FORK.fullmatch(name):
            changed += changed_pages(path, since) * PAGE
        else:
            whole += path.stat().st_size
    return changed, whole


def position(server):
    return int(server.value("SELECT pg_current_wal_insert_lsn() - '0/0'"))


def measure_reads(tool, change):
    """Of the incremental that `tool`, a holdfast of incremental.py, takes after `change`, which the WAL archive has then."""
    server, daemon = tool.pair.source, tool.pair.daemon
    tool.take()
    before = position(server)
    change()
    goal = server.value("SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: server.value(f"SELECT '{daemon.sql('SHOW WAL ARCHIVES').one()['archived_lsn']}'::pg_lsn >= '{goal}'") == "t", 120)
    settle()
    by_daemon = read_bytes(daemon.process.pid)
    tool.take()
    by_daemon = read_bytes(daemon.process.pid) - by_daemon
    manifest = json.loads(daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH as_json").rows[-1][0])
    return Reads(int(manifest["read_bytes"]), by_daemon, *needed_bytes(server.data, before))
