"""holdfast's own statements, in both query protocols and between PostgreSQL's."""

import signal
import subprocess
import threading
import time
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from pipeline import SKIPPED, outcomes
from psycopg import pq

JOBS = [(42, "BACKUP", 0.5, True, datetime(2026, 11, 20, 22, 30, 0, 250000, timezone.utc),
         {"rows": 7}, b"\0\xff", ["a", "b c", None]),
        (43, None, 1.0, False, datetime(2026, 11, 20, 22, 30, tzinfo=timezone.utc), None, None,
         [])]


@pytest.mark.parametrize("binary", [False, True])
def test_every_type_in_text_and_binary(door, binary):
    with door.connect() as connection:
        cursor = connection.execute("SHOW JOBS", binary=binary)
        assert [d.type_code for d in cursor.description] == [20, 25, 701, 16, 1184, 3802, 17, 1009]
        assert cursor.fetchall() == JOBS
        assert cursor.statusmessage == "SHOW 2"


def test_simple_protocol_of_psql(door):
    result = door.psql("-c", "show jobs -- all of them")
    assert result.stdout.splitlines()[0].startswith("42|BACKUP|0.5|t|2026-11-20 22:30:00.25+00|")


@pytest.mark.parametrize("value, text", [("99", "99"), (99, "99"), (2**40, str(2**40)),
                                         (None, None)])
@pytest.mark.parametrize("prepare", [False, True])
def test_parameters(door, value, text, prepare):
    with door.connect() as connection:
        for _ in range(3):
            cursor = connection.execute("PAUSE JOB %s", (value,), prepare=prepare)
            assert cursor.fetchone() == (text, "trusted")


def test_binary_parameters(door):
    with door.connect() as connection:
        assert connection.execute("PAUSE JOB %b", (2**40,)).fetchone()[0] == str(2**40)
        assert connection.execute("PAUSE JOB %b", ("x",)).fetchone()[0] == "x"


def test_describe_of_a_prepared_statement(door):
    raw = psycopg.pq.PGconn.connect(door.dsn().encode())
    assert raw.prepare(b"s", b"PAUSE JOB $1").status == pq.ExecStatus.COMMAND_OK
    described = raw.describe_prepared(b"s")
    assert described.nparams == 1 and described.param_type(0) == 25
    assert [described.fname(i) for i in range(described.nfields)] == [b"parameter", b"user"]
    assert raw.exec_prepared(b"s", [b"5"]).get_value(0, 0) == b"5"
    again = raw.prepare(b"s", b"SELECT 1")
    assert again.error_field(pq.DiagnosticField.SQLSTATE) == b"42P05"
    missing = raw.exec_prepared(b"s", [])
    assert missing.error_field(pq.DiagnosticField.SQLSTATE) == b"08P01"
    assert raw.exec_(b"SELECT 7").get_value(0, 0) == b"7"
    raw.finish()


def test_several_statements_in_one_query(door):
    raw = psycopg.pq.PGconn.connect(door.dsn().encode())
    raw.send_query(b"SELECT 1; SHOW SCHEDULES; SELECT 2; SELECT 3; PAUSE JOB 5; SELECT ';'")
    values = []
    while result := raw.get_result():
        values.append([result.get_value(0, i) for i in range(result.nfields)])
    assert values == [[b"1"], [b"trusted", b"t"], [b"2"], [b"3"], [b"none", b"trusted"], [b";"]]
    raw.send_query(b"SELECT 1; CANCEL JOB 1; SELECT 2")
    results = []
    while result := raw.get_result():
        results.append(result)
    assert [r.status for r in results] == [pq.ExecStatus.TUPLES_OK, pq.ExecStatus.FATAL_ERROR]
    assert results[1].error_field(pq.DiagnosticField.MESSAGE_DETAIL) == b"No job has this number."
    assert raw.transaction_status == pq.TransactionStatus.IDLE
    raw.finish()


def test_copy_between_own_statements_in_one_query(door):
    raw = psycopg.pq.PGconn.connect(door.dsn().encode())
    raw.exec_(b"CREATE TEMP TABLE c (n int)")
    raw.send_query(b"SHOW SCHEDULES; COPY c FROM STDIN; PAUSE JOB 1; SELECT sum(n) FROM c")
    assert raw.get_result().status == pq.ExecStatus.TUPLES_OK
    assert raw.get_result().status == pq.ExecStatus.COPY_IN
    for i in range(1000):
        raw.put_copy_data(b"%d\n" % i)
    raw.put_copy_end()
    assert raw.get_result().command_tuples == 1000
    assert raw.get_result().get_value(0, 0) == b"none"
    assert raw.get_result().get_value(0, 0) == b"499500"
    assert raw.get_result() is None
    raw.finish()


def test_error_fails_the_transaction_block(door):
    with door.connect(autocommit=False) as connection:
        connection.execute("CREATE TEMP TABLE t (n int)")
        with pytest.raises(psycopg.errors.UndefinedObject):
            connection.execute("CANCEL JOB 1")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SHOW JOBS")
        assert connection.info.transaction_status == pq.TransactionStatus.INERROR
        connection.rollback()
        assert connection.execute("SHOW SCHEDULES").fetchone() == ("trusted", True)
        connection.rollback()


def test_error_fails_the_transaction_block_in_the_simple_protocol(door):
    raw = psycopg.pq.PGconn.connect(door.dsn().encode())
    raw.exec_(b"BEGIN")
    assert raw.exec_(b"CANCEL JOB 1").error_field(pq.DiagnosticField.SQLSTATE) == b"42704"
    assert raw.transaction_status == pq.TransactionStatus.INERROR
    assert raw.exec_(b"SHOW JOBS").error_field(pq.DiagnosticField.SQLSTATE) == b"25P02"
    assert raw.exec_(b"COMMIT").command_status == b"ROLLBACK"
    raw.finish()


def test_savepoint_brings_the_transaction_back(door):
    with door.connect(autocommit=False) as connection:
        connection.execute("SAVEPOINT s")
        with pytest.raises(psycopg.errors.UndefinedObject):
            connection.execute("CANCEL JOB 1")
        connection.execute("ROLLBACK TO s")
        assert connection.execute("SHOW JOBS").fetchone()[0] == 42


def test_pipeline_of_both(door):
    with door.connect() as connection, connection.pipeline() as pipeline:
        cursors = []
        for i in range(50):
            cursors.append((connection.execute("SELECT %s::int", (i,)), i))
            cursors.append((connection.execute("PAUSE JOB %s", (i,)), str(i)))
        pipeline.sync()
        assert [c.fetchone()[0] for c, _ in cursors] == [value for _, value in cursors]


def test_error_of_ours_in_a_pipeline(door):
    with door.connect() as connection:
        connection.execute("CREATE TEMP TABLE p (n int)")
        assert outcomes(connection, ["INSERT INTO p VALUES (1)", "CANCEL JOB 1", "SELECT 1"], ["SELECT 2"]) == [
            [None, "error 42704", SKIPPED], ["2"]]
        # One implicit transaction up to the Sync: PostgreSQL has to have rolled back its part.
        assert connection.execute("SELECT count(*) FROM p").fetchone() == (0,)


def test_error_of_theirs_skips_ours_in_a_pipeline(door):
    with door.connect() as connection:
        assert outcomes(connection, ["SELECT 1/0", "SHOW JOBS"], ["SHOW JOBS"]) == [["error 22012", SKIPPED], ["42"]]


def test_row_sources(door):
    with door.connect() as connection:
        query = "SELECT job_id FROM [SHOW JOBS] WHERE job_id > %s"
        assert connection.execute(query, (42,)).fetchall() == [(43,)]
        assert connection.execute(query, (42,), prepare=True).fetchall() == [(43,)]
    assert door.psql("-c", "SELECT sum(job_id) FROM [SHOW JOBS]").stdout.strip() == "85"
    assert door.psql("-c", "SELECT 1; SELECT sum(job_id) FROM [SHOW JOBS]").stdout == "1\n85\n"


def test_query_of_a_statement_stays_unseen(door):
    with door.connect() as connection:
        # psycopg keeps this one prepared; the unnamed statement must survive ours as well.
        raw = connection.pgconn
        raw.prepare(b"", b"SELECT 11")
        assert raw.exec_prepared(b"", []).get_value(0, 0) == b"11"
        raw.prepare(b"mine", b"SHOW SCHEDULES")
        assert raw.exec_prepared(b"mine", []).get_value(0, 0) == b"trusted"
        assert raw.exec_prepared(b"", []).get_value(0, 0) == b"11"
        names = connection.execute("SELECT name FROM pg_prepared_statements").fetchall()
        assert all("holdfast" not in name for name, in names)


def test_limited_execute_suspends_the_portal(door):
    from wire import Wire
    with Wire(door.port, "trusted") as wire:
        wire.parse("", "SHOW JOBS").bind("", "").execute("", 1).execute("", 1).execute("", 1)
        wire.sync()
        assert wire.types_until_ready() == "12DsDsCZ"
        wire.parse("", "SHOW JOBS").bind("", "").describe("P", "").execute("", 10).sync()
        assert wire.types_until_ready() == "12TDDCZ"
        wire.execute("", 1).sync()  # it ended with its transaction; PostgreSQL has none either
        assert wire.types_until_ready() == "EZ"


def test_flush_brings_answers_without_a_sync(door):
    from wire import Wire
    with Wire(door.port, "trusted") as wire:
        wire.parse("a", "SELECT 1").parse("b", "SHOW JOBS").describe("S", "b").flush()
        assert [wire.read()[0] for _ in range(4)] == list("11tT")
        wire.close("S", "b").describe("S", "a").sync()
        assert wire.types_until_ready() == "3tTZ"


def test_notice_comes_while_the_statement_runs_and_cancel_ends_it(door):
    with door.connect() as connection:
        noticed = threading.Event()

        def on_notice(diagnostic):
            assert diagnostic.message_primary == "backup started"
            noticed.set()
            threading.Timer(0.1, connection.cancel).start()

        connection.add_notice_handler(on_notice)
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("BACKUP INTO 'nodelocal://1/x'")
        assert noticed.is_set()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.execute("BACKUP INTO 'x' WITH detached").fetchone() == (7,)


def test_psql_interrupt_cancels_a_statement_of_ours(door):
    process = subprocess.Popen(["psql", "-X", door.dsn(), "-c", "BACKUP INTO 'x'"],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert "backup started" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "canceling statement due to user request" in error


def count_sessions(cluster):
    with cluster.direct(password="x") as connection:
        return connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name "
                                  "= 'vanishing'").fetchone()[0]


def test_client_that_vanishes_ends_the_waiting(door, cluster):
    process = subprocess.Popen(["psql", "-X", door.dsn(application_name="vanishing"), "-c",
                                "BACKUP INTO 'x'"], stderr=subprocess.DEVNULL)
    for _ in range(600):
        if count_sessions(cluster) == 1:
            break
        time.sleep(0.1)
    time.sleep(0.2)
    process.kill()
    process.wait()
    deadline = datetime.now() + timedelta(seconds=60)
    while count_sessions(cluster) != 0:
        assert datetime.now() < deadline, "the session of a client that has gone goes on"
        time.sleep(0.05)
