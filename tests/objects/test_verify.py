"""VERIFY BACKUP: a backup is called good when a server has recovered it and found nothing wrong with any table or index."""
import re
import struct

import pytest

from harness import environment as env
from harness.postgres import bin_directory, wait_until
from .zoo import leftovers, make_zoo

COLLECTION = "nodelocal://self/archive"
VERIFY = f"VERIFY BACKUP LATEST IN '{COLLECTION}'"
POINTS = ("verify.after_objects", "verify.after_recovery", "verify.relation")
HISTORY = "SELECT type, status, error_code, size_bytes > 0 AS bytes, job_id FROM information_schema.mv_backup_history ORDER BY backup_id DESC LIMIT 1"


def test_these_are_all_points():
    names = set()
    for path in (env.ROOT / "src/restore").glob("*.cc"):
        names |= {name for name in re.findall(r'pause_point\(\s*"([a-z_.]+)"', path.read_text()) if name.startswith("verify")}
    assert names == set(POINTS)


@pytest.fixture
def bank(lab):
    server = lab.postgres(checksums=False, conf={"autovacuum": "off"})
    server.sql("CREATE DATABASE bank")
    server.sql("""CREATE TABLE accounts (id int PRIMARY KEY, balance bigint, filler text DEFAULT repeat('x', 80));
        CREATE INDEX accounts_balance ON accounts (balance) WHERE id > 0;
        INSERT INTO accounts SELECT i, i FROM generate_series(1, 5000) i""", "bank")
    server.sql("VACUUM FREEZE accounts", "bank")
    return server, lab.holdfast(server)


def clean(server, daemon):
    return leftovers(server, daemon)


def good(daemon, statement=VERIFY):
    row = daemon.sql(statement).one()
    assert row["status"] == "succeeded"
    return row


def damaged(daemon, statement=VERIFY):
    error = daemon.error(statement)
    assert error.sqlstate == "XX001" and " is damaged: " in error.message, error
    return error


def test_good_backups(module_lab):
    """One of each, a chain, a tablespace, an index whose function needs what the workshop lacks, and what came behind the last layer."""
    server = module_lab.postgres(conf={"max_prepared_transactions": 5, "shared_preload_libraries": "''"})
    make_zoo(server)
    server.sql(f"CREATE TABLESPACE elsewhere LOCATION '{module_lab.directory('ts')}'")
    server.sql("CREATE TABLE far_away (id int PRIMARY KEY) TABLESPACE elsewhere; INSERT INTO far_away SELECT generate_series(1, 3000);"
               "CREATE FUNCTION place(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN"
               "  IF current_setting('port') = '5432' THEN RAISE 'not here'; END IF; RETURN i; END$$;"
               "CREATE INDEX far_place ON far_away (place(id))", "zoo")
    daemon = module_lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    # Its locks would keep every check waiting.
    with server.connect("zoo") as prepared:
        prepared.query("BEGIN; UPDATE far_away SET id = id; PREPARE TRANSACTION 'open'")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    assert daemon.sql(f"SELECT count(*) FROM [SHOW BACKUP SCHEMAS FROM LATEST IN '{COLLECTION}'] WHERE object_name = 'far_away'").value() == "2"
    assert good(daemon)["databases"] == "4"
    server.sql("ROLLBACK PREPARED 'open'", "zoo")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    row = good(daemon)
    # template0 and template1, too.
    assert row["databases"] == "4" and row["path"] == "/" + daemon.fulls("archive")[-1]
    assert int(row["tables"]) > 350 and int(row["indexes"]) > 500 and int(row["bytes"]) > 20_000_000
    # GiST and GIN have no check; the exclusion constraint is one.
    assert 1 <= int(row["unchecked"]) < 10
    kept = daemon.sql(HISTORY).one()
    assert kept == {"type": "VERIFY", "status": "Success", "error_code": None, "bytes": "t", "job_id": row["job_id"]}
    job = daemon.job(row["job_id"])
    assert (job["job_type"], job["status"], job["fraction_completed"]) == ("VERIFY BACKUP", "succeeded", "1")
    assert job["description"].startswith("VERIFY BACKUP FROM '/20")
    # An incremental; and a database, a table and a tablespace that are in the WAL behind it alone.
    server.sql("DELETE FROM toasted WHERE id % 3 = 0; UPDATE orders SET p = p + 1", "zoo")
    server.sql("VACUUM", "zoo")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    assert "/incrementals/" in good(daemon)["path"]
    server.sql("CREATE DATABASE later TEMPLATE zoo")
    server.sql(f"CREATE TABLESPACE later LOCATION '{module_lab.directory('later')}'")
    server.sql("CREATE TABLE t (id int PRIMARY KEY) TABLESPACE later; INSERT INTO t SELECT generate_series(1, 2000)", "later")
    server.sql("ALTER DATABASE zoo RENAME TO zoo_then")
    moment = server.value("SELECT clock_timestamp()")
    server.sql("DROP TABLE t", "later")
    wait_until(lambda: daemon.sql(f"SELECT max(end_time) > '{moment}' FROM [SHOW BACKUP WINDOWS FROM LATEST IN '{COLLECTION}']").value() == "t",
               30, "the archive")
    row = good(daemon, f"VERIFY BACKUP FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' WITH workers = 2")
    assert row["databases"] == "5"
    notices = [message for _, message in daemon.sql(VERIFY).notices]
    assert any("far_place" in notice and "without its rows" in notice for notice in notices), notices
    assert clean(server, daemon) == []


def test_damaged_objects_are_named(bank):
    server, daemon = bank
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH compression = 'none'")
    good(daemon)
    path = server.value("SELECT pg_relation_filepath('accounts')", "bank")
    content = (server.data / path).read_bytes()
    for pack in sorted(daemon.collection("archive").rglob("*.pack")):
        bytes_of_pack = bytearray(pack.read_bytes())
        at = bytes_of_pack.find(content[8192 + 4000:8192 + 4300])
        if at >= 0:
            bytes_of_pack[at] ^= 1
            pack.write_bytes(bytes_of_pack)
            break
    else:
        raise AssertionError("the table is in no pack")
    error = damaged(daemon)
    assert f"/data/{pack.name}: " in error.message and "checksum does not match" in error.message, error
    assert f'It holds blocks 0 to 127 of relation file "{path}".' in error.message, error
    assert daemon.sql(HISTORY).one()["error_code"] == "XX001"
    pack.unlink()
    assert "is missing" in damaged(daemon).message
    assert clean(server, daemon) == []


def test_damaged_tables_and_indexes_are_named(bank):
    """As the server had it: what a copy that is true to the byte does not show."""
    server, daemon = bank
    server.sql("UPDATE pg_index SET indisready = false WHERE indexrelid = 'accounts_balance'::regclass", "bank")
    server.sql("INSERT INTO accounts SELECT i, i FROM generate_series(5001, 5010) i", "bank")
    server.sql("UPDATE pg_index SET indisready = true WHERE indexrelid = 'accounts_balance'::regclass", "bank")
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    error = damaged(daemon)
    assert 'index "bank.public.accounts_balance": ' in error.message and "lacks matching index tuple" in error.message, error
    assert "REINDEX" in error.hint
    server.sql("REINDEX TABLE accounts", "bank")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    good(daemon)
    path = server.data / server.value("SELECT pg_relation_filepath('accounts')", "bank")
    server.sql("CHECKPOINT")
    server.stop()
    page = bytearray(path.read_bytes())
    # The first line pointer of block 2: a length that leads out of the page.
    (pointer,) = struct.unpack_from("<I", page, 2 * 8192 + 24)
    struct.pack_into("<I", page, 2 * 8192 + 24, (pointer & 0x1FFFF) | (8190 << 17))
    path.write_bytes(page)
    server.start()
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    error = damaged(daemon)
    assert 'table "bank.public.accounts", block 2, offset 1: ' in error.message, error
    row = daemon.sql(HISTORY).one()
    assert (row["type"], row["status"], row["error_code"]) == ("VERIFY", "Failure", "XX001")
    assert clean(server, daemon) == []


def test_paused_cancelled_killed(bank):
    server, daemon = bank
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    older = daemon.fulls("archive")[0]
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    detached = f"VERIFY BACKUP FROM '{older}' IN '{COLLECTION}' WITH detached"
    for point in POINTS:
        daemon.restart(f"{point}=kill")
        job = None
        try:
            job = daemon.detached(detached)
        except ConnectionError:
            pass
        daemon.wait_killed()
        daemon.pause_point = None
        daemon.start()
        job = job or int(daemon.jobs()[0]["job_id"])
        daemon.wait_job(job)
        assert clean(server, daemon) == [], point
        daemon.restart(f"{point}=stall")
        job = daemon.detached(detached)
        daemon.sql(f"CANCEL JOB {job}")
        daemon.wait_job(job, "canceled")
        assert clean(server, daemon) == [], point
        daemon.restart(f"{point}=pause")
        job = daemon.detached(detached)
        daemon.wait_job(job, "paused")
        assert clean(server, daemon) == [], point
        # What a job reads is not deleted while it is paused.
        kept = daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{COLLECTION}' WITH dry_run").dicts()
        assert [row["reason"] for row in kept if row["subdirectory"] == older] == [f"verify job {job} reads it"], kept
        daemon.sql(f"RESUME JOB {job}")
        daemon.wait_job(job)
        assert clean(server, daemon) == [], point


def test_who_may(bank):
    server, daemon = bank
    server.sql("CREATE ROLE holdfast_admin; CREATE ROLE bob LOGIN IN ROLE holdfast_admin; CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN")
    server.sql("ALTER DATABASE bank OWNER TO alice")
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH encryption_passphrase = 'correct horse battery staple'")
    options = " WITH encryption_passphrase = 'correct horse battery staple'"
    for user in ("alice", "mallory"):
        error = daemon.error(VERIFY + options, user=user, tcp=True)
        assert error.sqlstate == "42501", error
    row = daemon.sql(VERIFY + options, user="bob", tcp=True).one()
    assert row["status"] == "succeeded"
    assert "horse" not in str(daemon.job(row["job_id"])) and "horse" not in daemon.log_text()
    assert daemon.error(VERIFY).message.startswith("file appears encrypted")
    assert daemon.error(VERIFY + " WITH encryption_passphrase = 'wrong'").message.startswith("failed to decrypt")
    error = daemon.error("VERIFY BACKUP LATEST IN 'nodelocal://self/nothing'")
    assert error.message.startswith("path does not contain a completed latest backup")
    # It lost the right before the job came to it.
    daemon.restart("verify.after_recovery=pause")
    job = int(daemon.sql(VERIFY + options + ", detached", user="bob", tcp=True).value())
    daemon.wait_job(job, "paused")
    server.sql("REVOKE holdfast_admin FROM bob")
    daemon.sql(f"RESUME JOB {job}")
    assert "bob" in daemon.wait_job(job, "failed")["error"]
    assert clean(server, daemon) == []


@pytest.mark.parametrize("version", (13, 14, 16, 17, 18))
def test_versions(lab, version):
    server = lab.postgres(version=version)
    server.sql("CREATE DATABASE bank")
    server.sql("""CREATE TABLE t (id int PRIMARY KEY, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
        INSERT INTO t SELECT i, repeat('b', 5000) FROM generate_series(1, 300) i;
        CREATE INDEX t_lower ON t (lower(left(big, 10))); CREATE INDEX t_hash ON t USING hash (id);
        CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t; CREATE SEQUENCE s""", "bank")
    daemon = lab.holdfast(server, arguments=["--pg-bin", str(bin_directory(version))])
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    row = good(daemon)
    assert row["databases"] == "4" and row["unchecked"] == "1"
    server.sql("UPDATE pg_index SET indisready = false WHERE indexrelid = 't_pkey'::regclass", "bank")
    server.sql("INSERT INTO t VALUES (301, 'x')", "bank")
    server.sql("UPDATE pg_index SET indisready = true WHERE indexrelid = 't_pkey'::regclass", "bank")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}'")
    assert 'index "bank.public.t_pkey"' in damaged(daemon).message
    assert clean(server, daemon) == []


def test_backups_of_databases_and_tables(lab):
    server = lab.postgres(checksums=False, conf={"autovacuum": "off"})
    make_zoo(server)
    server.sql("CREATE DATABASE bank")
    server.sql("""CREATE TABLE accounts (id int PRIMARY KEY, balance bigint); CREATE INDEX accounts_balance ON accounts (balance) WHERE id > 0;
        INSERT INTO accounts SELECT i, i FROM generate_series(1, 5000) i; CREATE TABLE beside AS TABLE accounts;
        CREATE TABLE parts (id int, t text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
        INSERT INTO parts VALUES (1, repeat('x', 9000)); SELECT lo_from_bytea(0, 'large'); ANALYZE""", "bank")
    daemon = lab.holdfast(server)
    collections = {"whole": "DATABASE zoo, bank", "tables": "TABLE bank.accounts, bank.parts", "both": "zoo.*, bank.public.accounts"}
    for name, targets in collections.items():
        daemon.sql(f"BACKUP {targets} INTO 'nodelocal://self/{name}'")
    counts = {name: good(daemon, f"VERIFY BACKUP LATEST IN 'nodelocal://self/{name}'") for name in collections}
    assert {name: row["databases"] for name, row in counts.items()} == {"whole": "2", "tables": "1", "both": "2"}
    assert int(counts["tables"]["tables"]) < int(counts["both"]["tables"]) < int(counts["whole"]["tables"])
    assert int(counts["tables"]["tables"]) > 60 and int(counts["tables"]["indexes"]) > 100
    # Layers, with what was rewritten, made and dropped in between.
    server.sql("TRUNCATE accounts; INSERT INTO accounts SELECT i, -i FROM generate_series(1, 3000) i; DROP TABLE beside;"
               "CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20); INSERT INTO parts VALUES (11, 'more')", "bank")
    server.sql("VACUUM FULL pg_class", "bank")
    for name, targets in collections.items():
        daemon.sql(f"BACKUP {targets} INTO LATEST IN 'nodelocal://self/{name}'")
        good(daemon, f"VERIFY BACKUP LATEST IN 'nodelocal://self/{name}'")
    # What is wrong is found, and what is wrong elsewhere is not this backup's.
    for table, number, wrong in (("parts_1", 5, False), ("accounts", 9001, True)):
        server.sql(f"CREATE INDEX damaged_{table} ON {table} (id); UPDATE pg_index SET indisready = false WHERE indexrelid = 'damaged_{table}'::regclass", "bank")
        server.sql(f"INSERT INTO {table} VALUES ({number}, 5)", "bank")
        server.sql(f"UPDATE pg_index SET indisready = true WHERE indexrelid = 'damaged_{table}'::regclass", "bank")
        daemon.sql(f"BACKUP TABLE bank.accounts INTO '{COLLECTION}'")
        if wrong:
            assert 'index "bank.public.damaged_accounts": ' in damaged(daemon).message
        else:
            good(daemon)
    assert clean(server, daemon) == []
