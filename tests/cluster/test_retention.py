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


def test_fulls_of_more_tables_stand_for_those_of_fewer(lab):
    """As a schedule takes them of s.*, to which tables are added; and the cluster's WAL does not wait for them."""
    postgres = lab.postgres()
    make_bank(postgres)
    postgres.sql("CREATE SCHEMA s; CREATE TABLE s.first AS SELECT 1 AS id", "bank")
    daemon = lab.holdfast(postgres)
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")

    def archived():
        # Layers of tables have WAL, too.
        return [name.rsplit("/", 1)[1].split(".")[0] for name in daemon.files("archive") if name.startswith("wal/") and name.endswith(".wal")]
    tables = f"BACKUP TABLE bank.s.* INTO '{COLLECTION}'"
    daemon.sql(tables)
    daemon.sql(f"BACKUP TABLE bank.public.customers INTO '{COLLECTION}'")
    alone = daemon.fulls("archive")[-1]
    for name in ("second", "third"):
        postgres.sql(f"CREATE TABLE s.{name} AS SELECT 2 AS id; SELECT pg_switch_wal()", "bank")
        daemon.sql(tables)
    newest = daemon.fulls("archive")[-1]
    postgres.sql("UPDATE accounts SET balance = balance + 1; SELECT pg_switch_wal()", "bank")
    before = postgres.sql("SELECT pg_walfile_name(pg_current_wal_lsn())", "bank").value()
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    cluster = daemon.fulls("archive")[-1]
    wait_until(lambda: archived() and archived()[-1] >= before, 30, "the archive is current")
    assert archived()[0] < before
    rows = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}'").dicts()
    assert daemon.fulls("archive") == [alone, newest, cluster], rows
    assert archived()[0] >= before, (rows, archived())
    # They come back without it.
    postgres.sql("CREATE DATABASE rescue", "bank")
    for full, table in ((newest, "s.*"), (alone, "public.customers")):
        daemon.sql(f"RESTORE TABLE bank.{table} FROM '{full}' IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert postgres.sql("SELECT count(*) FROM s.third", "rescue").value() == "1"
    wait_until(lambda: daemon.sql("SELECT status FROM [SHOW WAL ARCHIVES]").value() == "running", 30, "the archive running")
    result = daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    assert not [message for _, message in result.notices if "reading every page" in message]
