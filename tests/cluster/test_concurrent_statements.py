"""docs/concurrency.md: each of its rows runs while a backup is held, and the backup restores to what was there at its end."""
import time

import pytest

from harness import doc_table
from harness import environment as env
from harness.bank import make_bank
from harness.chain import Chain
from harness.digest import assert_same, digest
from harness.postgres import wait_until
from harness.wire import SqlError

PAGE = "concurrency.md"
SETTINGS = {"max_prepared_transactions": "10", "autovacuum": "off", "max_wal_senders": "12", "max_replication_slots": "12",
            "wal_keep_size": "'1GB'"}
# Longer than anything here takes by itself, shorter than a backup is held.
PATIENCE = 40

# What is there before the backup, so that it can be changed, moved and dropped beside it.
PREPARE = """
CREATE TABLE rows AS SELECT i AS id, md5(i::text) AS t FROM generate_series(1, 30000) i;
ALTER TABLE rows ADD PRIMARY KEY (id);
CREATE TABLE emptied AS SELECT * FROM rows;
CREATE TABLE truncated AS SELECT * FROM rows;
CREATE TABLE altered AS SELECT * FROM rows;
CREATE TABLE locked AS SELECT * FROM rows;
CREATE TABLE locked_rows AS SELECT * FROM rows;
CREATE TABLE rewritten AS SELECT * FROM rows;
CREATE TABLE moved AS SELECT * FROM rows;
CREATE TABLE made_unlogged AS SELECT * FROM rows;
CREATE UNLOGGED TABLE made_logged AS SELECT * FROM rows;
CREATE TABLE dropped AS SELECT * FROM rows;
CREATE TABLE packed AS SELECT * FROM rows;
DELETE FROM packed WHERE id % 2 = 0;
CREATE TABLE clustered AS SELECT * FROM rows ORDER BY t;
CREATE INDEX clustered_id ON clustered (id);
CREATE TABLE indexed AS SELECT * FROM rows;
CREATE INDEX old_index ON indexed (t);
CREATE INDEX old_index_too ON indexed USING gin (string_to_array(t, 'a'));
CREATE TABLE parts (id int, region text) PARTITION BY LIST (region);
CREATE TABLE east PARTITION OF parts FOR VALUES IN ('east');
CREATE TABLE west (id int, region text);
INSERT INTO east SELECT i, 'east' FROM generate_series(1, 1000) i;
INSERT INTO west SELECT i, 'west' FROM generate_series(1, 1000) i;
CREATE MATERIALIZED VIEW summary AS SELECT count(*) FROM rows;
CREATE SEQUENCE numbers;
CREATE FUNCTION old_function() RETURNS int LANGUAGE sql AS 'SELECT 1';
SELECT lo_from_bytea(1001, 'old'), lo_from_bytea(1002, 'older')
"""


class Stage:
    """A server and a backup of it that is held."""

    def __init__(self, lab, point, version):
        self.lab = lab
        self.source = lab.postgres(version=version, conf=SETTINGS)
        make_bank(self.source)
        self.source.sql("CREATE DATABASE work")
        self.source.sql(PREPARE, "work")
        for name in ("to_drop", "to_rename", "to_move"):
            self.source.sql(f"CREATE DATABASE {name} TEMPLATE bank")
        for name in ("fast", "unused"):
            self.source.sql(f"CREATE TABLESPACE {name} LOCATION '{lab.directory(f'space-{name}')}'")
        self.source.sql("CREATE ROLE old_role")
        self.daemon = lab.holdfast(self.source)
        self.daemon.sql("BACKUP INTO 'nodelocal://self/earlier'")
        self.daemon.sql("BACKUP INTO 'nodelocal://self/earlier'")
        self.chain = Chain(lab, self.source, self.daemon)
        self.before = self.source.connect("work")
        self.before.query("BEGIN; INSERT INTO rows VALUES (-1, 'begun before the backup')")
        self.locks = self.source.connect("work")
        self.go = lab.root / "go"
        self.daemon.restart(f"{point}=stall:{self.go}")
        self.job = self.daemon.detached(f"BACKUP INTO '{self.chain.collection}' WITH detached")
        wait_until(lambda: f"reached pause point {point}" in self.daemon.log_text(), PATIENCE, "the backup being held")
        self.assert_held()

    def assert_held(self):
        assert self.daemon.job(self.job)["status"] == "running"

    def sql(self, text, database="work"):
        """One statement after the other: some may not share a transaction."""
        with self.source.connect(database) as session:
            session.query(f"SET statement_timeout = '{PATIENCE}s'")
            for statement in text.split(";\n"):
                session.query(statement, timeout=PATIENCE + 10)

    def release(self):
        self.go.touch()
        self.daemon.wait_job(self.job)


def sql(text, database="work"):
    return lambda stage: stage.sql(text, database)


def merge(stage):
    stage.sql("INSERT INTO rows SELECT i, 'new' FROM generate_series(30001, 40000) i;\nUPDATE rows SET t = 'changed' WHERE id % 7 = 0;\n"
              "DELETE FROM rows WHERE id % 11 = 0;\nSELECT count(*) FROM rows")
    if stage.source.version >= 15:
        stage.sql("MERGE INTO rows USING (SELECT 50000 AS id) s ON rows.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'merged')")


def lock(stage):
    """Kept until the backup has ended."""
    stage.locks.query("BEGIN; SELECT id FROM locked_rows WHERE id < 100 FOR UPDATE; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE",
                      timeout=PATIENCE)


def commit_before(stage):
    stage.before.query("COMMIT", timeout=PATIENCE)


def vacuum(stage):
    stage.sql("DELETE FROM emptied;\nVACUUM emptied;\nVACUUM (FREEZE) rows;\nANALYZE rows")
    assert stage.source.value("SELECT pg_relation_size('emptied')", "work") == "0", "vacuum left rows that are dead"


def create_database(strategy):
    def create(stage):
        if stage.source.version < 15:
            assert strategy == "file_copy" or stage.source.version < 15
            stage.sql(f"CREATE DATABASE made_{strategy} TEMPLATE bank", "postgres")
        else:
            stage.sql(f"CREATE DATABASE made_{strategy} TEMPLATE bank STRATEGY {strategy}", "postgres")
        stage.sql("UPDATE accounts SET balance = balance + 1 WHERE id % 3 = 0", f"made_{strategy}")
    return create


def create_tablespace(stage):
    directory = stage.lab.directory("space-made")
    stage.sql(f"CREATE TABLESPACE made LOCATION '{directory}';\nALTER TABLESPACE made RENAME TO made_too;\n"
              "ALTER TABLESPACE made_too SET (seq_page_cost = 2)")


def other_backup(stage):
    """Only one session at a time may wait for its checkpoint; none waits for the other's end."""
    target = stage.lab.root / "basebackup"
    if stage.source.version == 15:
        env.run(stage.source.bin / "pg_basebackup", "-h", stage.source.sockets, "-p", stage.source.port, "-U", "postgres", "-D", target,
                "-c", "fast", "-X", "none", *(f"--tablespace-mapping={link.resolve()}={target}-{link.name}"
                                              for link in (stage.source.data / "pg_tblspc").iterdir()))
    start, stop = (("pg_backup_start('by hand', true)", "pg_backup_stop(false)") if stage.source.version >= 15 else
                   ("pg_start_backup('by hand', true, false)", "pg_stop_backup(false, false)"))
    stage.sql(f"SELECT {start};\nSELECT * FROM {stop}")


def backup_elsewhere(stage):
    """Past the pause point: only the first backup of this process stops there."""
    assert stage.daemon.sql("BACKUP INTO 'nodelocal://self/elsewhere'", timeout=PATIENCE).one()["status"] == "succeeded"


def backup_beside(stage):
    result = stage.daemon.sql(f"BACKUP INTO '{stage.chain.collection}'", timeout=PATIENCE)
    assert result.one()["status"] == "succeeded"


def show(stage):
    running = {f"/{path}" for path in stage.daemon.fulls("archive")}
    assert len(running) == 1, running
    stage.daemon.sql("SHOW BACKUP FROM LATEST IN 'nodelocal://self/earlier'", timeout=PATIENCE)


def delete_backups(stage):
    for collection in ("earlier", "archive"):
        stage.daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN 'nodelocal://self/{collection}'", timeout=PATIENCE)
    assert len(stage.daemon.fulls("earlier")) == 1


def restore_objects(stage):
    if stage.source.version != 15:
        return  # pg_dump and pg_restore are not among the binaries of the other versions
    stage.daemon.sql("RESTORE DATABASE bank FROM LATEST IN 'nodelocal://self/earlier' WITH new_db_name = 'bank_again'", timeout=PATIENCE)
    stage.daemon.sql("RESTORE TABLE bank.public.accounts FROM LATEST IN 'nodelocal://self/earlier' WITH into_db = 'bank', "
                     "new_table_name = 'accounts_again'", timeout=PATIENCE)


def restore_cluster(stage):
    stage.daemon.sql("RESTORE FROM LATEST IN 'nodelocal://self/earlier'", timeout=PATIENCE)


# In the order in which they run. An open transaction keeps rows from being vacuumed, so that of the tests ends first.
STATEMENTS = {
    "`COMMIT` of a transaction that began before the backup": commit_before,
    "`VACUUM`, `ANALYZE`": vacuum,
    "`SELECT`, `INSERT`, `UPDATE`, `DELETE`, `MERGE`": merge,
    "`COPY`": sql("COPY rows (id, t) FROM PROGRAM 'seq -f ''%.0f,copied'' 60001 70000' WITH (FORMAT csv);\nCOPY rows TO PROGRAM 'cat >/dev/null'"),
    "`SELECT … FOR UPDATE`, `LOCK TABLE` in any mode": lock,
    "`PREPARE TRANSACTION`, `COMMIT PREPARED`": sql(
        "BEGIN;\nCREATE TABLE two_phases AS SELECT 1 AS a;\nPREPARE TRANSACTION 'one';\nCOMMIT PREPARED 'one';\n"
        "BEGIN;\nINSERT INTO two_phases VALUES (2);\nPREPARE TRANSACTION 'two'"),
    "large objects": sql("SELECT lo_from_bytea(1003, repeat('new', 5000)::bytea);\nSELECT lo_put(1001, 0, 'changed');\nSELECT lo_unlink(1002)"),
    "temporary and unlogged tables": sql("CREATE TEMPORARY TABLE t AS SELECT * FROM rows;\nCREATE UNLOGGED TABLE u AS SELECT * FROM rows;\n"
                                         "DROP TABLE t"),
    "`LISTEN`, `NOTIFY`": sql("LISTEN news;\nNOTIFY news, 'backup runs'"),
    "`TRUNCATE`": sql("TRUNCATE truncated;\nINSERT INTO truncated VALUES (1, 'again')"),
    "`CREATE TABLE`, `CREATE TABLE AS`": sql("CREATE TABLE made (id int PRIMARY KEY, t text);\nINSERT INTO made SELECT i, 'm' FROM generate_series(1, 5000) i;\n"
                                             "CREATE TABLE made_as AS SELECT * FROM made"),
    "`ALTER TABLE` that changes the catalog only": sql("ALTER TABLE indexed ADD added int DEFAULT 7;\nALTER TABLE indexed RENAME added TO renamed;\n"
                                                       "ALTER TABLE indexed ADD CHECK (id > 0)"),
    "`ALTER TABLE` that rewrites the table": sql("ALTER TABLE rewritten ALTER id TYPE bigint;\nALTER TABLE rewritten ADD r float DEFAULT random()"),
    "`ALTER TABLE … SET TABLESPACE`": sql("ALTER TABLE moved SET TABLESPACE fast"),
    "`ALTER TABLE … SET UNLOGGED`, `SET LOGGED`": sql("ALTER TABLE made_unlogged SET UNLOGGED;\nALTER TABLE made_logged SET LOGGED"),
    "`ALTER TABLE … ATTACH PARTITION`, `DETACH PARTITION`": sql("ALTER TABLE parts ATTACH PARTITION west FOR VALUES IN ('west');\n"
                                                                "ALTER TABLE parts DETACH PARTITION east"),
    "`DROP TABLE`": sql("DROP TABLE dropped"),
    "`CREATE INDEX`, `DROP INDEX`": sql("CREATE INDEX new_index ON indexed (id);\nCREATE INDEX new_hash ON indexed USING hash (t);\nDROP INDEX old_index"),
    "`CREATE INDEX CONCURRENTLY`, `DROP INDEX CONCURRENTLY`": sql("CREATE INDEX CONCURRENTLY new_too ON indexed (t, id);\n"
                                                                  "DROP INDEX CONCURRENTLY old_index_too"),
    "`REINDEX`, `REINDEX CONCURRENTLY`": sql("REINDEX TABLE rows;\nREINDEX TABLE CONCURRENTLY indexed"),
    "`VACUUM FULL`": sql("VACUUM FULL packed"),
    "`CLUSTER`": sql("CLUSTER clustered USING clustered_id"),
    "`CREATE MATERIALIZED VIEW`, `REFRESH MATERIALIZED VIEW`": sql("CREATE MATERIALIZED VIEW counted AS SELECT t, count(*) FROM rows GROUP BY t;\n"
                                                                  "REFRESH MATERIALIZED VIEW summary"),
    "views, functions, types, schemas, sequences, triggers, rules, policies, comments": sql(
        "CREATE SCHEMA other;\nCREATE VIEW other.v AS SELECT * FROM rows;\nCREATE TYPE other.mood AS ENUM ('sad', 'happy');\n"
        "ALTER TYPE other.mood ADD VALUE 'ok';\nCREATE DOMAIN other.small AS int CHECK (VALUE < 10);\nCREATE SEQUENCE other.s;\n"
        "SELECT nextval('numbers');\nALTER SEQUENCE numbers RESTART WITH 100;\n"
        "CREATE FUNCTION other.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';\nDROP FUNCTION old_function();\n"
        "CREATE TRIGGER tr BEFORE INSERT ON made FOR EACH ROW EXECUTE FUNCTION other.f();\n"
        "CREATE RULE ru AS ON DELETE TO made DO INSTEAD NOTHING;\nCREATE POLICY po ON made USING (id > 1);\nCOMMENT ON TABLE made IS 'made beside a backup'"),
    "`CREATE EXTENSION`, `DROP EXTENSION`": sql("CREATE EXTENSION pg_visibility;\nDROP EXTENSION pg_visibility"),
    "`CREATE ROLE`, `ALTER ROLE`, `DROP ROLE`, `GRANT`, `REVOKE`": sql(
        "CREATE ROLE made_role LOGIN PASSWORD 'secret';\nALTER ROLE made_role SET work_mem = '5MB';\nDROP ROLE old_role;\n"
        "GRANT SELECT ON rows TO made_role;\nREVOKE CREATE ON SCHEMA public FROM PUBLIC"),
    "`CREATE PUBLICATION`, `CREATE SUBSCRIPTION`": sql(
        "CREATE PUBLICATION news FOR TABLE made;\nCREATE SUBSCRIPTION olds CONNECTION 'dbname=none' PUBLICATION news WITH (connect = false);\n"
        "ALTER SUBSCRIPTION olds SET (slot_name = NONE);\nDROP SUBSCRIPTION olds"),
    "`CREATE DATABASE`, strategy `wal_log`": create_database("wal_log"),
    "`CREATE DATABASE`, strategy `file_copy`": create_database("file_copy"),
    "`DROP DATABASE`": sql("DROP DATABASE to_drop", "postgres"),
    "`ALTER DATABASE … RENAME`, `OWNER`, `SET`": sql("ALTER DATABASE to_rename RENAME TO renamed;\nALTER DATABASE renamed OWNER TO made_role;\n"
                                                     "ALTER DATABASE renamed SET work_mem = '6MB'", "postgres"),
    "`ALTER DATABASE … SET TABLESPACE`": sql("ALTER DATABASE to_move SET TABLESPACE fast", "postgres"),
    "`CREATE TABLESPACE`, `ALTER TABLESPACE`": create_tablespace,
    "`DROP TABLESPACE`": sql("DROP TABLESPACE unused", "postgres"),
    "`ALTER SYSTEM`, `pg_reload_conf()`": sql("ALTER SYSTEM SET work_mem = '7MB';\nALTER SYSTEM SET full_page_writes = off;\nSELECT pg_reload_conf();\n"
                                              "UPDATE rows SET t = 'without images' WHERE id % 13 = 0"),
    "`CHECKPOINT`, `pg_switch_wal()`, `pg_create_restore_point()`": sql("CHECKPOINT;\nSELECT pg_switch_wal();\nSELECT pg_create_restore_point('meanwhile')"),
    "`pg_backup_start()`, `pg_basebackup`": other_backup,
    "`BACKUP` into another collection": backup_elsewhere,
    "`BACKUP` into the same collection": backup_beside,
    "`SHOW BACKUPS`, `SHOW BACKUP`": show,
    "`DELETE BACKUPS`": delete_backups,
    "`RESTORE DATABASE`, `RESTORE TABLE`": restore_objects,
    "`RESTORE` of the cluster into the instance": restore_cluster,
}
# Those that end the server, or need a standby, have tests of their own.
ALONE = {
    "`pg_ctl stop -m smart`": "test_a_smart_shutdown_waits",
    "`pg_ctl restart`": "test_a_restart_ends_sessions_and_the_backup_goes_on",
    "`pg_promote()`": "test_a_promotion_ends_the_backup",
}


def run_all(stage):
    """What each statement came to: runs, fails or waits."""
    promised = doc_table.answers(PAGE, "concurrency")
    came_to, wrong = {}, []
    for name, statement in STATEMENTS.items():
        began = time.monotonic()
        try:
            statement(stage)
            came_to[name] = "runs"
        except SqlError as error:
            came_to[name] = "waits" if error.sqlstate == "57014" else "fails"
            why = f"{error.sqlstate} {error.message}"
        except TimeoutError:
            came_to[name], why = "waits", "no answer"
        if came_to[name] != promised[name]:
            wrong.append(f"{name}: {came_to[name]} after {time.monotonic() - began:.1f} s: {why}")
        stage.assert_held()
    assert not wrong, "\n".join(wrong)


def test_the_page_and_the_tests_have_the_same_rows():
    assert set(doc_table.answers(PAGE, "concurrency")) == set(STATEMENTS) | set(ALONE)
    tests = "".join((env.ROOT / "tests/cluster" / name).read_text() for name in ("test_concurrent_statements.py", "test_standby.py"))
    assert all(f"def {name}(" in tests for name in ALONE.values())
    assert set(doc_table.answers(PAGE, "concurrency").values()) <= {"runs", "waits", "fails"}


def assert_statements_run(lab, point, version):
    stage = Stage(lab, point, version)
    run_all(stage)
    stage.release()
    # The lock was there to the end.
    stage.locks.query("ROLLBACK")
    assert stage.source.value("SHOW full_page_writes") == "off"
    before = digest(stage.source, skip_unlogged=True)
    stage.source.sql("COMMIT PREPARED 'two'", "work")
    made = stage.source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'made_too'")
    server = stage.chain.recovered(stage.chain.layers()[-1], made=[made])
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    assert_same(before, digest(server, skip_unlogged=True))
    assert server.sql("SELECT gid FROM pg_prepared_xacts").rows == [["two"]]
    server.sql("COMMIT PREPARED 'two'", "work")
    assert_same(digest(stage.source, skip_unlogged=True), digest(server, skip_unlogged=True))
    server.amcheck()


@pytest.mark.parametrize("point", ["backup.after_start", "backup.copy", "backup.after_copy"])
def test_statements_run_beside_a_backup(lab, point):
    assert_statements_run(lab, point, 15)


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 18])
def test_statements_run_beside_a_backup_of_another_version(lab, version):
    assert_statements_run(lab, "backup.copy", version)


def hold(lab, source, point):
    """A daemon with a backup that stops at `point`, its job, and the file that lets it go on."""
    go = lab.root / "go"
    daemon = lab.holdfast(source, pause_point=f"{point}=stall:{go}")
    job = daemon.detached("BACKUP INTO 'nodelocal://self/archive' WITH detached")
    wait_until(lambda: f"reached pause point {point}" in daemon.log_text(), PATIENCE, "the backup being held")
    return daemon, job, go


def test_a_smart_shutdown_waits(lab):
    source = lab.postgres()
    make_bank(source)
    daemon, job, go = hold(lab, source, "backup.after_catalog")
    env.run(source.bin / "pg_ctl", "-D", source.data, "-m", "smart", "-W", "stop")
    wait_until(lambda: not source.ready(), 60, "new sessions being refused")
    time.sleep(2)
    assert source.running(), "the server has not waited for the backup's session"
    assert daemon.sql("SHOW JOBS").dicts(), "the local administrator gets in"
    go.touch()
    wait_until(lambda: not source.running(), 60, "the end of the server")
    source.start()
    daemon.wait_job(job)
    Chain(lab, source, daemon).assert_restores(digest(source))


def test_a_restart_ends_sessions_and_the_backup_goes_on(lab):
    source = lab.postgres()
    make_bank(source)
    daemon, job, go = hold(lab, source, "backup.after_copy")
    env.run(source.bin / "pg_ctl", "-D", source.data, "-l", source.log, "-m", "fast", "-w", "-t", "60", "restart")
    source.sql("UPDATE accounts SET balance = balance + 1", "bank")
    before = digest(source)
    go.touch()
    daemon.wait_job(job)
    Chain(lab, source, daemon).assert_restores(before)


def test_a_database_whose_files_are_copied_while_they_are_read(lab):
    """Replay would copy what the backup has of the source, which is of a later moment: the backup begins again."""
    source = lab.postgres()
    make_bank(source)
    source.sql(f"CREATE TABLESPACE fast LOCATION '{lab.directory('space')}'")
    source.sql("CREATE DATABASE moved TEMPLATE bank")
    daemon, job, go = hold(lab, source, "backup.after_start")
    source.sql("CREATE DATABASE copied TEMPLATE bank STRATEGY file_copy")
    source.sql("UPDATE accounts SET balance = 0", "bank")
    source.sql("CHECKPOINT")
    go.touch()
    daemon.wait_job(job)
    assert "were copied to database" in daemon.log_text()
    chain = Chain(lab, source, daemon)
    chain.assert_restores(digest(source))

    # Moved before it is listed, and once more after all has been read: that needs no second attempt.
    for point, again in (("backup.after_start", 1), ("backup.after_copy", 0)):
        daemon.restart(f"{point}=stall:{go}")
        go.unlink()
        seen = len(daemon.log_text())
        job = daemon.detached("BACKUP INTO LATEST IN 'nodelocal://self/archive' WITH detached")
        wait_until(lambda: daemon.log_text()[seen:].count(f"reached pause point {point}"), PATIENCE, "the backup being held")
        space = "fast" if again else "pg_default"
        source.sql(f"ALTER DATABASE moved SET TABLESPACE {space}")
        go.touch()
        daemon.wait_job(job)
        assert ("were copied to database" in daemon.log_text()[seen:]) == bool(again)
        chain.assert_restores(digest(source))
