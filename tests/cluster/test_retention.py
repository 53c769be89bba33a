"""DELETE BACKUPS beside a WAL archive, and beside an instance that is busy."""
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until

COLLECTION = "nodelocal://self/archive"


def segments(daemon, suffix):
    return sorted(path.rsplit("/", 1)[1].split(".")[0] for path in daemon.files("archive") if path.endswith(suffix))


def test_the_wal_archive_keeps_what_the_kept_chains_need(lab):
    postgres = lab.postgres()
    make_bank(postgres)
    daemon = lab.holdfast(postgres)
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    for _ in range(3):
        postgres.sql("UPDATE accounts SET balance = balance + 1", "bank")
        postgres.sql("SELECT pg_switch_wal()", "bank")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    second = postgres.sql("SELECT pg_walfile_name(pg_current_wal_lsn())", "bank").value()
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    for _ in range(2):
        postgres.sql("UPDATE accounts SET balance = balance + 1", "bank")
        postgres.sql("SELECT pg_switch_wal()", "bank")
    last = postgres.sql("SELECT pg_walfile_name(pg_current_wal_lsn())", "bank").value()
    wait_until(lambda: segments(daemon, ".wal")[-1] >= f"{int(last, 16) - 1:024X}", 60, "the archive is current")
    assert segments(daemon, ".wal")[0] < second

    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'").dicts()
    assert [row["action"] for row in rows] == ["deleted", "kept", "deleted"]
    assert rows[2]["subdirectory"].startswith("wal/") and int(rows[2]["bytes"]) > 0
    for suffix in (".wal", ".blocks"):
        left = segments(daemon, suffix)
        assert left[0] >= second
        assert [int(name, 16) for name in left] == list(range(int(left[0], 16), int(left[-1], 16) + 1)), "a gap"

    # The archive goes on, and the next layer knows what changed from it.
    before = digest(postgres)
    result = daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    assert not [message for _, message in result.notices if "reading every page" in message]
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    assert daemon.sql("SELECT status FROM [SHOW WAL ARCHIVES]").value() == "running"
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    server = lab.adopt(Postgres(lab.directory("restored", 0o755), data=target))
    server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'"})
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, digest(server))
