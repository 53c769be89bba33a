"""Storage that fails: full, damaged, contested."""
import os
import shutil
import subprocess

import pytest

from faults.helpers import COLLECTION, assert_nothing_left, unfinished_objects
from harness import environment as env
from harness.bank import make_bank
from harness.postgres import wait_until


@pytest.fixture
def small_disk(lab):
    """A file system of 24 MiB. Needs root, or a kernel that lets users mount (user namespaces)."""
    directory = lab.directory("small")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=24m,uid={env.SERVER.pw_uid},mode=700", "none", directory],
                             capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        mounted = subprocess.run(["sudo", "-n", "mount", "-t", "tmpfs", "-o", f"size=24m,uid={env.SERVER.pw_uid},mode=700",
                                  "none", directory], capture_output=True, text=True, check=False)
    assert mounted.returncode == 0, f"a small file system cannot be mounted here: {mounted.stderr}"
    yield directory
    command = ["umount", "-l", directory]
    subprocess.run(command if env.AM_ROOT else ["sudo", "-n", *command], check=False)


def fill(path, leave_bytes):
    free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
    with open(path / "ballast", "wb") as file:
        file.write(os.urandom(max(0, free - leave_bytes)))


def test_full_storage_fails_the_backup_and_leaves_nothing(lab, small_disk):
    source = lab.postgres()
    make_bank(source)
    source.sql("CREATE TABLE noise AS SELECT gen_random_uuid() AS a, gen_random_uuid() AS b FROM generate_series(1, 600000)", "bank")
    daemon = lab.holdfast(source, start=False)
    daemon.io.rmdir()
    daemon.io = small_disk
    daemon.start()
    error = daemon.error(f"BACKUP INTO '{COLLECTION}' WITH compression = 'none'")
    assert error.sqlstate == "53100", error
    assert daemon.fulls("archive") == []
    assert_nothing_left(daemon)
    # The daemon is well, and so is PostgreSQL.
    assert source.value("SELECT count(*) FROM noise", "bank") == "600000"


def test_full_restore_target_pauses_or_fails_and_can_go_on(lab, small_disk):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    fill(small_disk, 8 << 20)
    target = small_disk / "target"
    job = daemon.detached(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}', detached")
    row = {}

    def settled():
        row.update(daemon.job(job))
        return row["status"] in ("paused", "failed")
    wait_until(settled, 60, "the job noticing the full disk")
    assert "No space left" in (row["error"] or "") or row["status"] == "paused", row
    if row["status"] == "paused":
        (small_disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=400m", small_disk], check=True)
        daemon.sql(f"RESUME JOB {job}")
        daemon.wait_job(job)
        assert (target / "global/pg_control").exists()
    else:
        assert not target.exists()


def test_two_backups_into_one_subdirectory(lab):
    """Both wait at the same place with the same name: one gets the lock, the other is refused."""
    source = lab.postgres()
    daemon = lab.holdfast(source)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    full = daemon.fulls("archive")[0]
    directory = daemon.collection("archive") / full
    # What a second writer of the same hundredth of a second would meet.
    copy = daemon.collection("archive") / "copy"
    shutil.copytree(directory, copy)
    from harness.wire import SqlError
    one = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    two = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    for job in (one, two):
        try:
            daemon.wait_job(job, "succeeded", "failed")
        except SqlError:
            pass
    rows = [daemon.job(job) for job in (one, two)]
    for row in rows:
        assert row["status"] == "succeeded" or "already" in row["error"], row
    finished = sum(row["status"] == "succeeded" for row in rows)
    assert len(daemon.fulls("archive")) == 1 + finished
    assert unfinished_objects(daemon) == []


class Damaged:
    """A backup and ways to hurt it."""

    def __init__(self, lab):
        self.lab = lab
        self.source = lab.postgres()
        make_bank(self.source)
        self.daemon = lab.holdfast(self.source)
        self.daemon.sql(f"BACKUP INTO '{COLLECTION}'")
        self.root = self.daemon.collection("archive")

    def find(self, pattern):
        found = max(self.root.rglob(pattern), key=lambda path: path.stat().st_size)
        found.chmod(0o600)
        return found

    def check(self, name, restore=True, show=True):
        """check_files and RESTORE must both name the object."""
        statements = []
        if show:
            statements.append(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH check_files")
        if restore:
            statements.append(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{self.lab.root / 'target'}'")
        for statement in statements:
            error = self.daemon.error(statement)
            assert error.sqlstate in ("58P01", "XX001"), error
            assert name in f"{error.message} {error.detail}", f"{statement}: {error}"
        assert not (self.lab.root / "target/global/pg_control").exists()


@pytest.fixture
def damaged(lab):
    return Damaged(lab)


def test_missing_pack(damaged):
    pack = damaged.find("*.pack")
    pack.unlink()
    damaged.check(pack.name)


def test_truncated_pack(damaged):
    pack = damaged.find("*.pack")
    os.truncate(pack, pack.stat().st_size // 2)
    damaged.check(pack.name)


def test_lengthened_pack(damaged):
    pack = damaged.find("*.pack")
    with open(pack, "ab") as file:
        file.write(b"more")
    damaged.check(pack.name)


def test_flipped_bit_in_the_index_of_a_pack(damaged):
    pack = damaged.find("*.pack")
    data = bytearray(pack.read_bytes())
    data[-100] ^= 0x10
    pack.write_bytes(data)
    damaged.check(pack.name)


@pytest.mark.parametrize("place", [0.1, 0.5, 0.8])
def test_flipped_bit_in_the_data_of_a_pack(damaged, place):
    """check_files reads indexes, not data; a restore reads everything."""
    pack = damaged.find("*.pack")
    data = bytearray(pack.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    pack.write_bytes(data)
    damaged.check(pack.name, show=False)


def test_pack_of_another_backup_in_its_place(damaged):
    damaged.daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    first, second = damaged.daemon.fulls("archive")
    for pack in (damaged.root / second / "data").iterdir():
        pack.chmod(0o600)
        shutil.copyfile(damaged.root / first / "data" / pack.name, pack)
    damaged.check(".pack")


@pytest.mark.parametrize("harm", ["missing", "truncated", "flipped", "empty"])
def test_manifest(damaged, harm):
    manifest = damaged.find("BACKUP_MANIFEST")
    data = bytearray(manifest.read_bytes())
    if harm == "missing":
        manifest.unlink()
    elif harm == "truncated":
        manifest.write_bytes(data[:len(data) // 2])
    elif harm == "empty":
        manifest.write_bytes(b"")
    else:
        data[len(data) // 2] ^= 0x10
        manifest.write_bytes(data)
    damaged.check("BACKUP_MANIFEST" if harm != "missing" else str(manifest.parent.relative_to(damaged.root)))
    if harm == "missing":
        assert damaged.daemon.fulls("archive") == []


@pytest.mark.parametrize("harm", ["missing", "truncated", "nonsense"])
def test_latest(damaged, harm):
    latest = damaged.find("LATEST-*")
    data = latest.read_bytes()
    if harm == "missing":
        latest.unlink()
        damaged.check("LATEST" if "LATEST" in damaged.daemon.error(
            f"SHOW BACKUP FROM LATEST IN '{COLLECTION}'").message else "latest")
    elif harm == "truncated":
        latest.write_bytes(data[:5])
        damaged.check(latest.name)
    else:
        latest.write_bytes(b"\0\1\2 no subdirectory")
        damaged.check(latest.name)
    # The backups themselves are still there and can be named.
    full = damaged.daemon.fulls("archive")[0]
    assert damaged.daemon.sql(f"SHOW BACKUP FROM '{full}' IN '{COLLECTION}' WITH check_files").rows


def test_missing_wal(damaged):
    wal = damaged.find("*.wal")
    wal.unlink()
    damaged.check(wal.stem)


def test_flipped_bit_in_wal(damaged):
    wal = damaged.find("*.wal")
    data = bytearray(wal.read_bytes())
    data[len(data) // 3] ^= 0x10
    wal.write_bytes(data)
    damaged.check(wal.name, show=False)
