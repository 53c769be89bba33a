"""BACKUP DATABASE … WITH revision_history: every moment between the layers' ends comes back, and nothing but the scope is stored."""
import random
import threading
from datetime import timedelta

import pytest

from cluster.test_history import make_ledger, moments, spelled, time_of, work
from cluster.test_wal_archive import wait_archived
from faults.helpers import HISTORY_POINTS
from harness.postgres import wait_until
from .scope import MARKERS, change_marked, holding, make_marked, with_small_segments
from .test_scoped_rights import write_wal
from .zoo import dump, leftovers

COLLECTION = "nodelocal://self/archive"
SUCCEEDED = "succeeded"
ROWS = "SELECT id, pg_xact_commit_timestamp(xmin) FROM ledger ORDER BY 2, 1"


def back_up(daemon, targets="DATABASE shop", collection=COLLECTION, onto="LATEST IN ", options=""):
    result = daemon.sql(f"BACKUP {targets} INTO {onto}'{collection}' WITH revision_history{options}")
    assert result.one()["status"] == SUCCEEDED
    return [notice[1] for notice in result.notices]


def windows(daemon, collection=COLLECTION, options=""):
    return [(time_of(row["start_time"]), time_of(row["end_time"]))
            for row in daemon.sql(f"SHOW BACKUP WINDOWS FROM LATEST IN '{collection}'{options}").dicts()]


def churn(server):
    """As much WAL as makes the server remove what nobody holds."""
    write_wal(server, 20)
    server.sql("CHECKPOINT")


def now(server):
    """A moment that no commit is close to."""
    return server.value("SELECT clock_timestamp() FROM (SELECT pg_sleep(0.02)) x")


def content_of(server, database):
    """Without where sequences are: of up to 32 values ahead the WAL tells at once."""
    return "\n".join(line for line in dump(server, database).splitlines() if not line.startswith("SELECT pg_catalog.setval"))


class Moments:
    """Quiet moments of a database: what it was then, and how to name it."""

    def __init__(self, server, database="shop"):
        self.server, self.database, self.taken = server, database, []

    def take(self):
        self.server.sql("CREATE TABLE IF NOT EXISTS tick (at timestamptz); INSERT INTO tick (at) VALUES (clock_timestamp())", self.database)
        self.taken.append((f"'{now(self.server)}'", content_of(self.server, self.database)))
        self.server.sql("INSERT INTO tick (at) VALUES (clock_timestamp())", self.database)

    def check(self, daemon, source="LATEST", collection=COLLECTION, options=""):
        for number, (moment, content) in enumerate(self.taken):
            name = f"again{number}"
            daemon.sql(f"RESTORE DATABASE {self.database} FROM {source} IN '{collection}' AS OF SYSTEM TIME {moment} "
                       f"WITH new_db_name = '{name}'{options}")
            assert content_of(self.server, name) == content, moment
            self.server.sql(f"DROP DATABASE {name}")


def rewrite(server, number):
    """Changes of files as such, in and beside the database."""
    server.sql("CREATE DATABASE passing")
    if number % 2 == 0:
        server.sql("CREATE DATABASE copied TEMPLATE bank STRATEGY file_copy")
        server.sql("DROP DATABASE copied")
    server.sql("VACUUM FULL account", "bank")
    server.sql(f"CREATE TABLE made{number} AS SELECT g, md5(g::text) FROM generate_series(1, 500) g; CREATE INDEX ON made{number} (g)", "bank")
    server.sql("REINDEX TABLE ledger", "bank")
    server.sql("VACUUM FULL pg_class", "bank")
    server.sql(f"TRUNCATE noise; ALTER TABLE account ADD COLUMN extra{number} text DEFAULT md5(random()::text)", "bank")
    server.sql("DROP DATABASE passing")


def test_as_of_holds_exactly_the_commits_up_to_then(lab):
    server = make_ledger(lab)
    daemon = lab.holdfast(server)
    kept = Moments(server, "bank")
    work(server, "before", transfers=10)
    back_up(daemon, "DATABASE bank", onto="")
    archive = daemon.sql("SHOW WAL ARCHIVES").one()
    assert archive["mode"] == "maps"
    for number in range(2):
        worker = threading.Thread(target=work, args=(server, f"{number}"), kwargs={"transfers": 40})
        worker.start()
        rewrite(server, number)
        worker.join()
        server.sql(f"SELECT pg_create_restore_point('point{number}')", "bank")
        if number == 0:
            lsn = server.value("SELECT pg_current_wal_insert_lsn()")
            at_lsn = content_of(server, "bank")
        else:
            at_point = content_of(server, "bank")
        kept.take()
        server.kill9()
        server.start()
        work(server, f"more{number}", transfers=10)
        assert back_up(daemon, "DATABASE bank") == []
    entries = [(int(i), time_of(t)) for i, t in server.sql(ROWS, "bank").rows]

    (start, end), = windows(daemon)
    assert entries[0][1] < start < entries[-1][1] <= end
    rng = random.Random(4711)
    covered = [entry for entry in entries if start < entry[1] <= end]
    for moment in moments(covered, rng, 2):
        daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH new_db_name = 'past'")
        assert {int(row[0]) for row in server.sql("SELECT id FROM ledger", "past").rows} == {i for i, t in entries if t <= moment}
        assert server.value("SELECT sum(balance) FROM account", "past") == "200000"
        server.sql("DROP DATABASE past")
    kept.check(daemon)
    for moment, content in ((f"LSN '{lsn}'", at_lsn), ("RESTORE POINT 'point1'", at_point)):
        daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment} WITH new_db_name = 'past'")
        assert content_of(server, "past") == content, moment
        server.sql("DROP DATABASE past")

    # A table of the database comes back alone, at a moment too.
    moment, _ = kept.taken[0]
    daemon.sql(f"RESTORE TABLE bank.made0 FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment} WITH new_table_name = 'made_again'")
    assert server.value("SELECT count(*) FROM made_again", "bank") == "500"
    # What is not covered is refused with what is, before anything is touched.
    for moment in (start - timedelta(seconds=1), end + timedelta(days=1)):
        error = daemon.error(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {spelled(moment)} WITH new_db_name = 'never'")
        assert error.sqlstate == "22023" and "do not cover requested time" in error.message, error
        assert "to" in error.detail and "timeline 1" in error.detail
    for wrong in ("LSN 'FF/0'", "LSN '0/10'", "RESTORE POINT 'nowhere'"):
        assert daemon.error(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {wrong} WITH new_db_name = 'never'").sqlstate in ("22023", "42704")
    row = daemon.sql(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {kept.taken[0][0]}").one()
    assert row["status"] == SUCCEEDED and int(row["tables"]) > 0
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    assert leftovers(server, daemon) == []


@pytest.mark.parametrize("version", (13, 18))
def test_of_other_versions(lab, version):
    source = lab.postgres(version=version, conf={"autovacuum": "off"})
    make_marked(source)
    daemon = lab.holdfast(source)
    rows = "SELECT md5(string_agg(m::text, '|' ORDER BY id)) FROM mine m"
    back_up(daemon, onto="")
    taken = []
    for _ in range(2):
        change_marked(source)
        taken.append((now(source), source.value(rows, "shop")))
        change_marked(source)
        back_up(daemon)
    for moment, _ in taken:
        assert daemon.sql(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}'").one()["status"] == SUCCEEDED
    if version > 15:
        return  # into an older server it does not go
    daemon.stop()
    live = lab.postgres("live")
    other = lab.holdfast(live, "other", start=False, arguments=["--pg-bin", str(source.bin)])
    other.io = daemon.io
    other.start()
    for number, (moment, content) in enumerate(taken):
        other.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH new_db_name = 'past{number}'")
        assert live.value(rows, f"past{number}") == content


def test_nothing_else_is_in_it(marked_small):
    server, daemon = marked_small
    root = daemon.collection("archive")
    plain = ", compression = 'none'"
    back_up(daemon, collection=f"{COLLECTION}/one", onto="", options=plain)
    for _ in range(2):
        change_marked(server)
        back_up(daemon, collection=f"{COLLECTION}/one", options=plain)
    assert holding(root / "one", MARKERS["mine"]) and holding(root / "one", MARKERS["sibling"])
    assert holding(root / "one", MARKERS["stranger"]) == []
    shared = [name for name in daemon.files("archive/one") if name.startswith("wal/")]
    assert shared and all(name.endswith((".blocks", "/ARCHIVE")) for name in shared), shared


def test_before_a_database_was_dropped_or_renamed(marked_small):
    server, daemon = marked_small
    last_commit = "SELECT timestamp FROM pg_last_committed_xact()"
    both = "DATABASE shop, other"
    back_up(daemon, both, onto="")
    change_marked(server)
    before = dump(server, "other")
    server.sql("DROP DATABASE other")
    dropped = time_of(server.value(last_commit))
    # Another one of the name is not it.
    server.sql("CREATE DATABASE other")
    assert "does not contain the complete database" in daemon.error(f"BACKUP {both} INTO LATEST IN '{COLLECTION}' WITH revision_history").message
    shop = dump(server, "shop")
    server.sql("ALTER DATABASE shop RENAME TO store")
    renamed = time_of(server.value(last_commit))
    assert back_up(daemon, "DATABASE store") == []
    assert len(windows(daemon)) == 1
    just_before = [spelled(moment - timedelta(microseconds=1)) for moment in (dropped, renamed)]
    daemon.sql(f"RESTORE DATABASE other FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {just_before[0]} WITH new_db_name = 'again'")
    assert dump(server, "again") == before
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {just_before[1]}")
    assert dump(server, "shop") == shop
    # After it, it is not there.
    daemon.error(f"RESTORE DATABASE other FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {just_before[1]} WITH new_db_name = 'never'")
    assert leftovers(server, daemon) == []


def test_in_a_tablespace_and_moved(lab):
    server = with_small_segments(lab.postgres(start=False))
    server.sql(f"CREATE TABLESPACE fast LOCATION '{lab.directory('fast')}'")
    server.sql(f"CREATE TABLESPACE slow LOCATION '{lab.directory('slow')}'")
    make_marked(server)
    server.sql("ALTER DATABASE shop SET TABLESPACE fast")
    daemon = lab.holdfast(server)
    kept = Moments(server)
    back_up(daemon, onto="")
    change_marked(server)
    kept.take()
    server.sql("ALTER DATABASE shop SET TABLESPACE slow")
    change_marked(server)
    kept.take()
    server.sql("ALTER TABLE mine SET TABLESPACE pg_default", "shop")
    kept.take()
    assert back_up(daemon) == []
    kept.check(daemon)


def test_killed_paused_and_cancelled(lab):
    server = with_small_segments(lab.postgres(start=False))
    make_marked(server)
    daemon = lab.holdfast(server)
    kept = Moments(server)
    back_up(daemon, onto="")
    full = daemon.fulls("archive")[0]
    for point in HISTORY_POINTS:
        change_marked(server)
        kept.take()
        churn(server)
        daemon.restart(f"{point}=kill")
        job = daemon.detached(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}' WITH revision_history, detached")
        daemon.wait_killed()
        change_marked(server)
        daemon.pause_point = None
        daemon.start()
        daemon.wait_job(job)
        assert len(windows(daemon)) == 1
    change_marked(server)
    kept.take()
    daemon.restart("backup.after_history=pause")
    job = daemon.detached(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}' WITH revision_history, detached")
    wait_until(lambda: daemon.job(job)["status"] == "paused", 60, "the pause")
    before = [path for path in daemon.files("archive") if "BACKUP_MANIFEST" in path]
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    daemon.restart()
    churn(server)
    kept.take()
    layers = {path.rsplit("/", 1)[0] for path in before}
    for path in daemon.files("archive"):
        assert path.startswith(("wal/", "metadata/")) or any(path.startswith(layer + "/") for layer in layers), path
    assert back_up(daemon) == []
    assert len(windows(daemon)) == 1
    kept.check(daemon)
    for path in daemon.files("archive"):
        assert not path.endswith("BACKUP-CHECKPOINT") and "BACKUP-LOCK" not in path
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM '{full}' IN '{COLLECTION}'").rows == [["No problems found!"]]
    # A full that is cancelled has the server keep nothing.
    daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
    daemon.restart("backup.before_manifest=pause")
    job = daemon.detached(f"BACKUP DATABASE other INTO '{COLLECTION}' WITH revision_history, detached")
    wait_until(lambda: daemon.job(job)["status"] == "paused", 60, "the pause")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    churn(server)
    wait_until(lambda: int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) < 8_000_000, 90, "the slot moving on")


def test_on_a_new_timeline(marked_small):
    server, daemon = marked_small
    cluster = "nodelocal://self/cluster"
    back_up(daemon, onto="")
    daemon.sql(f"BACKUP INTO '{cluster}'")
    for database in ("shop", "other"):
        server.sql(f"DROP DATABASE {database}")
    daemon.sql(f"RESTORE FROM LATEST IN '{cluster}'")
    wait_until(server.ready, 60, "the restored server answering")
    # With segments as small as these a backup's checkpoint could remove what the archives have not seen.
    wait_until(lambda: {row["timeline"] for row in daemon.sql("SHOW WAL ARCHIVES").dicts()} == {"2"}, 90, "the archives following")
    change_marked(server)
    notices = back_up(daemon)
    assert any("gone on from timeline 1 to 2" in notice for notice in notices), notices
    kept = Moments(server)
    change_marked(server)
    kept.take()
    churn(server)
    assert back_up(daemon) == []
    found = windows(daemon)
    assert len(found) == 2 and found[1][0] < found[1][1], found
    kept.check(daemon)
    # What was restored goes on like everything else.
    moment, content = kept.taken[0]
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {moment} WITH new_db_name = 'restored'")
    restored = Moments(server, "restored")
    back_up(daemon, "DATABASE restored", collection=f"{COLLECTION}/restored", onto="")
    restored.take()
    back_up(daemon, "DATABASE restored", collection=f"{COLLECTION}/restored")
    restored.check(daemon, collection=f"{COLLECTION}/restored")


def test_encrypted(marked_small):
    server, daemon = marked_small
    secret = ", encryption_passphrase = 'correct horse battery staple'"
    kept = Moments(server)
    back_up(daemon, onto="", options=secret + ", compression = 'none'")
    change_marked(server)
    kept.take()
    churn(server)
    daemon.restart()
    wait_archived(daemon, server)
    assert back_up(daemon, options=secret + ", compression = 'none'") == []
    root = daemon.collection("archive")
    assert [holding(root, text) for text in (*MARKERS.values(), "HFPACK")] == [[]] * 4
    assert len(windows(daemon, options=f" WITH {secret[2:]}")) == 1
    kept.check(daemon, options=secret)
    # Its WAL archive has that key, too: another chain's must be the same there.
    error = daemon.error(f"BACKUP DATABASE other INTO '{COLLECTION}' WITH revision_history, encryption_passphrase = 'another one'")
    assert error.sqlstate == "22023", error
    assert "passphrase" in daemon.error(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {kept.taken[0][0]} WITH new_db_name = 'x'").message


def test_damage_is_found(marked_small):
    server, daemon = marked_small
    kept = Moments(server)
    back_up(daemon, onto="")
    change_marked(server)
    kept.take()
    churn(server)
    back_up(daemon)
    layer, = {path.split("/wal/")[0] for path in daemon.files("archive") if path.startswith("incrementals/") and "/wal/" in path}
    first = min(path for path in daemon.files("archive") if path.startswith(f"{layer}/wal/") and path.endswith(".wal"))
    path = daemon.collection("archive") / first
    whole = path.read_bytes()
    path.unlink()
    assert first in daemon.error(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH check_files").message
    assert first in daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").value()
    restore = f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME {kept.taken[0][0]} WITH new_db_name = 'never'"
    assert "missing" in daemon.error(restore).message
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    assert first in daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").value()
    assert daemon.error(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}'").sqlstate == "XX001"
    assert daemon.error(restore).sqlstate == "XX001"
    assert leftovers(server, daemon) == []
    path.write_bytes(whole)
    kept.check(daemon)


def test_who_may_and_what_is_not_served(marked_small):
    server, daemon = marked_small
    server.sql("CREATE ROLE owner LOGIN; ALTER DATABASE shop OWNER TO owner")
    daemon.sql(f"CREATE EXTERNAL CONNECTION prepared AS '{COLLECTION}'")
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION prepared TO owner")
    error = daemon.error("BACKUP DATABASE shop INTO 'external://prepared' WITH revision_history", user="owner", tcp=True)
    assert error.sqlstate == "42501" and "revision_history" in error.message
    assert daemon.error(f"BACKUP DATABASE shop INTO '{COLLECTION}' WITH revision_history, protect = false").sqlstate == "22023"
    assert daemon.error(f"BACKUP DATABASE shop INTO '{COLLECTION}' AS OF SYSTEM TIME '-1s'").sqlstate == "0A000"
    # Without the option on both sides of a gap nothing is promised, and nothing is kept for it.
    daemon.sql(f"BACKUP DATABASE shop INTO '{COLLECTION}'")
    assert back_up(daemon) == []
    daemon.sql(f"BACKUP DATABASE shop INTO LATEST IN '{COLLECTION}'")
    assert len(windows(daemon)) == 3
    churn(server)
    wait_until(lambda: int(daemon.sql("SHOW WAL ARCHIVES").one()["protected_bytes"]) < 8_000_000, 90, "the slot moving on")
    # Schedules and retention know it.
    daemon.sql(f"CREATE SCHEDULE often FOR BACKUP DATABASE shop INTO '{COLLECTION}/scheduled' WITH revision_history "
               "RECURRING '@hourly' FULL BACKUP '@daily' WITH SCHEDULE OPTIONS first_run = 'now'")
    wait_until(lambda: list(daemon.collection("archive/scheduled").glob("metadata/latest/*")), 60, "the scheduled backup as the latest")
    back_up(daemon, collection=f"{COLLECTION}/scheduled")
    assert len(windows(daemon, f"{COLLECTION}/scheduled")) == 1
