"""Shared by the fault tests."""
import re

from harness import environment as env
from harness.daemon import no_orphans

COLLECTION = "nodelocal://self/archive"

# Every named place of src/backup and src/restore; test_pause_points_are_all_tested keeps the lists true.
BACKUP_POINTS = (
    "backup.after_lock", "backup.after_checkpoint_read", "backup.after_wal_start", "backup.after_start", "backup.after_plan",
    "backup.after_reuse", "backup.copy", "backup.after_copy", "backup.after_catalog", "backup.after_control", "backup.after_stop",
    "backup.after_wal", "backup.after_verify", "backup.before_manifest", "backup.after_manifest", "backup.after_latest")


# Those of a full of an earlier moment; tests/cluster/test_synthetic_full.py kills at each.
SYNTHETIC_POINTS = (
    "backup.after_lock", "backup.after_wal", "backup.after_recovery", "backup.after_plan", "backup.copy", "backup.after_copy",
    "backup.after_catalog", "backup.after_verify", "backup.before_manifest", "backup.after_manifest", "backup.after_latest")


# What a layer of databases with revision history comes to behind the others; tests/objects/test_scoped_history.py kills at each.
HISTORY_POINTS = ("backup.after_history", "backup.before_manifest", "backup.after_manifest")


# Those of the WAL archive; tests/cluster/test_wal_archive.py kills at each.
ARCHIVE_POINTS = ("archive.after_connect", "archive.after_put", "archive.after_checkpoint", "archive.after_advance", "archive.after_tail")


# Those of DELETE BACKUPS.
RETENTION_POINTS = (
    "retention.after_lock", "retention.after_decision", "retention.after_checkpoint", "retention.after_mark", "retention.after_latest",
    "retention.manifest", "retention.after_manifests", "retention.after_data", "retention.after_chain", "retention.after_sweep",
    "retention.after_trim")


# Those of the scheduler, in the order of a run.
SCHEDULE_POINTS = ("schedule.after_claim", "schedule.after_launch", "schedule.after_record", "schedule.after_end", "schedule.after_deletion")


def points_in_source(module):
    """The pause points that the code names."""
    names = set()
    for path in (env.ROOT / "src" / module).glob("*.cc"):
        if not path.name.endswith("_test.cc"):
            names |= set(re.findall(r'pause_point\(\s*"([a-z_.]+)"', path.read_text()))
    return names


def unfinished_objects(daemon, name="archive"):
    """Locks, checkpoints and temporary files in a collection."""
    return [path for path in daemon.files(name)
            if "BACKUP-LOCK" in path or "BACKUP-CHECKPOINT" in path or "tmp" in path.rsplit("/", 1)[-1]]


def assert_nothing_left(daemon, name="archive"):
    """A canceled or failed backup leaves no object behind."""
    files = daemon.files(name) if daemon.collection(name).exists() else []
    assert files == [], files


def assert_clean(daemon):
    """After a finished job: no locks, checkpoints, spools; no process beside daemon and PostgreSQL."""
    assert unfinished_objects(daemon) == []
    spools = [path for path in daemon.store.rglob("backup-*")]
    assert spools == [], spools


__all__ = [name for name in dir() if not name.startswith("_")]
assert no_orphans
