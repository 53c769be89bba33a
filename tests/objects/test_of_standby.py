"""Tables and databases out of backups that a standby gave, and over its promotion: what a workshop recovers is no less than a restore of all would."""
import pytest

from cluster.test_wal_archive import wait_archived
from harness.chain import Chain
from harness.postgres import wait_until
from harness.standby import make_standby, promote, wait_job_of_standby, wait_replayed
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"
SEGMENT = 16 << 20
ROWS = "SELECT count(*), sum(balance), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM accounts t"
CHANGE = "UPDATE accounts SET balance = balance + 1 WHERE id % 5 = 0; UPDATE others SET balance = balance + 1"


@pytest.fixture
def pair(lab):
    primary = lab.postgres(name="primary", conf={"autovacuum": "off", "max_prepared_transactions": "5"})
    for database in ("bank", "rescue"):
        primary.sql(f"CREATE DATABASE {database}")
    for table in ("accounts", "others"):
        primary.sql(f"CREATE TABLE {table} (id int PRIMARY KEY, balance int); INSERT INTO {table} SELECT g, g FROM generate_series(1, 5000) g", "bank")
    return primary, make_standby(lab, primary)


def position(lsn):
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def restore_table(daemon, moment="", schema="public"):
    row = daemon.sql(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{COLLECTION}'{moment} WITH into_db = 'rescue', into_schema = '{schema}'").one()
    assert row["status"] == "succeeded"


def test_a_backup_that_ends_with_a_segment(lab, pair):
    primary, standby = pair
    go = lab.root / "go"
    daemon = lab.holdfast(standby, pause_point=f"backup.after_catalog=stall:{go}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "reached pause point" in daemon.log_text(), 60, "the backup being held")

    def at_boundary():
        """The standby writes out pages when the last that it replayed is a segment's end."""
        primary.sql("CHECKPOINT")
        primary.sql(CHANGE, "bank")
        primary.sql("SELECT pg_switch_wal()")
        wait_replayed(standby, primary)
        standby.sql("CHECKPOINT")
        return position(standby.value("SELECT min_recovery_end_lsn FROM pg_control_recovery()")) % SEGMENT == 0
    wait_until(at_boundary, 120, "the standby's position being the end of a segment")
    rows = primary.sql(ROWS, "bank").rows
    go.touch()
    wait_job_of_standby(daemon, primary, job)
    assert int(Chain(lab, standby, daemon).layers()[-1]["stop"]["position"]) % SEGMENT == 0

    promote(standby, primary)
    standby.sql("UPDATE accounts SET balance = 0", "bank")
    restore_table(daemon)
    assert standby.sql(ROWS, "rescue").rows == rows
    assert daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'other'").one()["status"] == "succeeded"
    assert standby.sql(ROWS, "other").rows == rows
    assert daemon.sql(f"VERIFY BACKUP LATEST IN '{COLLECTION}'").one()["status"] == "succeeded"
    assert leftovers(standby, daemon) == []


def test_prepared_transactions_and_a_promotion(lab, pair):
    """What was prepared on one timeline and committed on the next is there from its commit on."""
    primary, standby = pair
    daemon = lab.holdfast(standby)
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH revision_history, detached")
    wait_job_of_standby(daemon, primary, job)
    primary.sql(CHANGE, "bank")
    with primary.connect("bank") as session:
        session.query("BEGIN; UPDATE accounts SET balance = -1 WHERE id % 5 = 1; INSERT INTO accounts SELECT g, g FROM generate_series(6001, 6100) g;"
                      "PREPARE TRANSACTION 'open'")
    primary.sql(CHANGE, "bank")
    wait_replayed(standby, primary)
    wait_archived(daemon, standby, standby.value("SELECT pg_last_wal_receive_lsn()"))

    promote(standby, primary)
    standby.sql("UPDATE others SET balance = balance + 1; UPDATE accounts SET balance = balance + 1 WHERE id = 5000", "bank")
    moments = []
    for finish in ("", "COMMIT PREPARED 'open'"):
        if finish:
            standby.sql(finish, "bank")
        moments.append((standby.value("SELECT clock_timestamp()"), standby.sql(ROWS, "bank").rows))
        standby.sql("UPDATE others SET balance = balance + 1", "bank")
    standby.sql("TRUNCATE accounts", "bank")
    wait_archived(daemon, standby)
    assert moments[0][1] != moments[1][1]
    for number, (moment, rows) in enumerate(moments):
        wait_until(lambda m=moment: daemon.sql(f"SELECT max(end_time) > '{m}' FROM [SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}']").value() == "t",
                   60, "the archive")
        restore_table(daemon, f" AS OF SYSTEM TIME '{moment}'", f"then{number}")
        assert standby.sql(ROWS.replace("accounts", f"then{number}.accounts"), "rescue").rows == rows
    assert daemon.sql(f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moments[1][0]}'").one()["status"] == "succeeded"
    assert leftovers(standby, daemon) == []


def test_a_backup_ends_where_its_control_file_does(lab, pair):
    """Behind it lies a commit that the backup has in part: both of two workshops end before it, and see the same catalogs."""
    primary, standby = pair
    held, control = lab.root / "go", lab.root / "go-on"
    daemon = lab.holdfast(standby, pause_point=f"backup.after_catalog=stall:{held},backup.after_control=stall:{control}")
    job = daemon.detached(f"BACKUP INTO '{COLLECTION}' WITH detached")
    wait_until(lambda: "backup.after_catalog" in daemon.log_text(), 60, "the backup being held")
    # The table has another file than in the backup, so that a workshop with the catalogs finds out which.
    primary.sql("VACUUM FULL accounts", "bank")
    rows = primary.sql(ROWS, "bank").rows
    with primary.connect("bank") as session:
        session.query("BEGIN; CREATE TABLE newcomer (t text); ALTER TABLE accounts ALTER balance TYPE bigint")
        primary.sql("CHECKPOINT")
        session.query("INSERT INTO newcomer SELECT repeat('x', 100) FROM generate_series(1, 20000)")
        primary.sql("SELECT txid_current()")
        wait_replayed(standby, primary)
        standby.sql("CHECKPOINT")
        consistent = standby.value("SELECT min_recovery_end_lsn FROM pg_control_recovery()")
        held.touch()
        wait_until(lambda: "backup.after_control" in daemon.log_text(), 60, "the copy of the control file")
        session.query("COMMIT")
    primary.sql("CHECKPOINT")
    primary.sql(CHANGE, "bank")
    wait_replayed(standby, primary)
    standby.sql("CHECKPOINT")
    control.touch()
    wait_job_of_standby(daemon, primary, job)
    assert int(Chain(lab, standby, daemon).layers()[-1]["stop"]["position"]) == position(consistent)

    promote(standby, primary)
    restore_table(daemon)
    assert standby.sql(ROWS, "rescue").rows == rows
    assert standby.value("SELECT pg_typeof(balance) FROM accounts LIMIT 1", "rescue") == "integer"
    assert daemon.sql(f"VERIFY BACKUP LATEST IN '{COLLECTION}'").one()["status"] == "succeeded"
    assert leftovers(standby, daemon) == []
