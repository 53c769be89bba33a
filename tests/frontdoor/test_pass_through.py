"""Whatever is not holdfast's reaches PostgreSQL and comes back as if nothing were between."""

import hashlib
import json
import signal
import subprocess
import threading
import time

import psycopg
import pytest
from conftest import NODE_MODULES, PG_BIN
from pipeline import SKIPPED, outcomes


def test_psql_copies_in_and_out(door, tmp_path):
    lines = "".join(f"{i}\trow {i}\n" for i in range(50_000))
    (tmp_path / "in.tsv").write_text(lines)
    result = door.psql("-c", "CREATE TABLE copied (id int, t text)",
                       "-c", f"\\copy copied FROM '{tmp_path}/in.tsv'",
                       "-c", f"\\copy copied TO '{tmp_path}/out.tsv'", "-c", "DROP TABLE copied")
    assert result.returncode == 0, result.stderr
    assert "COPY 50000" in result.stdout
    assert (tmp_path / "out.tsv").read_text() == lines


def test_copy_both_ways_of_a_driver(door):
    with door.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE c (data text)")
        block = "x" * 8191 + "\n"
        with cursor.copy("COPY c FROM STDIN") as copy:
            for _ in range(2_000):
                copy.write(block)
        total = 0
        with cursor.copy("COPY c TO STDOUT") as copy:
            for data in copy:
                total += len(data)
        assert total == 2_000 * 8192


def test_copy_that_fails_leaves_the_session_usable(door):
    with door.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE c (n int)")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            with cursor.copy("COPY c FROM STDIN") as copy:
                copy.write("1\nnot a number\n")
        with pytest.raises(psycopg.errors.QueryCanceled):
            with cursor.copy("COPY c FROM STDIN") as copy:
                copy.write("1\n")
                raise ValueError("the client gives up")
        assert cursor.execute("SHOW JOBS").fetchall()[0][0] == 42
        assert cursor.execute("SELECT count(*) FROM c").fetchone() == (0,)


def test_copy_with_many_notices_does_not_block(door):
    with door.connect() as connection, connection.cursor() as cursor:
        notices = []
        connection.add_notice_handler(lambda d: notices.append(1))
        cursor.execute("""CREATE TEMP TABLE c (n int);
            CREATE FUNCTION pg_temp.say() RETURNS trigger LANGUAGE plpgsql AS
              $$BEGIN RAISE NOTICE '%', repeat('n', 500); RETURN NEW; END$$;
            CREATE TRIGGER t BEFORE INSERT ON c FOR EACH ROW EXECUTE FUNCTION pg_temp.say()""")
        with cursor.copy("COPY c FROM STDIN") as copy:
            for _ in range(100):
                copy.write("1\n" * 200)
        assert len(notices) == 20_000


def test_listen_and_notify(door):
    with door.connect() as listener, door.connect() as sender:
        listener.execute("LISTEN news")
        time.sleep(0.1)  # the session is idle when the notification comes
        sender.execute("NOTIFY news, 'first'")
        assert next(listener.notifies()).payload == "first"


def until_running(cluster, query):
    """Returns when the server runs `query` for a client: earlier, a cancel request would hit nothing."""
    with cluster.direct(password="x") as connection:
        for _ in range(600):
            if connection.execute("SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = %s", (query,)).fetchone()[0]:
                return
            time.sleep(0.1)
    pytest.fail(f"never ran: {query}")


def test_driver_cancels_a_query(door, cluster):
    query = "SELECT pg_sleep(600), 'driver'"

    def cancel():
        until_running(cluster, query)
        connection.cancel()

    with door.connect() as connection:
        thread = threading.Thread(target=cancel)
        thread.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute(query)
        thread.join()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_psql_interrupt_cancels_a_query(door, cluster):
    query = "SELECT pg_sleep(600), 'psql'"
    process = subprocess.Popen(["psql", "-X", door.dsn(), "-c", query],
                               stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    until_running(cluster, query)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert "canceling statement due to user request" in error


def test_prepared_statements_and_binary_results(door):
    with door.connect() as connection:
        for i in range(20):
            cursor = connection.execute("SELECT %s::int8 + 1, %s::text", (i, "ä" * i), prepare=True,
                                        binary=i % 2 == 1)
            assert cursor.fetchone() == (i + 1, "ä" * i)


def test_pipelines(door):
    with door.connect() as connection, connection.pipeline() as pipeline:
        cursors = [connection.execute("SELECT %s::int", (i,)) for i in range(500)]
        pipeline.sync()
        assert [c.fetchone()[0] for c in cursors] == list(range(500))


def test_error_in_a_pipeline_skips_to_the_sync(door):
    with door.connect() as connection:
        assert outcomes(connection, ["SELECT 1", "SELECT 1/0", "SELECT 2"], ["SELECT 3"]) == [
            ["1", "error 22012", SKIPPED], ["3"]]


def test_pipeline_with_results_larger_than_the_buffers(door):
    with door.connect() as connection, connection.pipeline():
        text = "y" * 1_000_000
        cursors = [connection.execute("SELECT %s::text || repeat('z', 1000000)", (text,))
                   for _ in range(40)]
        for cursor in cursors:
            assert len(cursor.fetchone()[0]) == 2_000_000


def test_large_result_passes_in_bounded_memory(door):
    before = door.memory("VmRSS")
    digest = hashlib.md5()
    with door.connect() as connection, connection.cursor() as cursor:
        total = 0
        with cursor.copy("COPY (SELECT repeat(md5(i::text), 32768) FROM "
                         "generate_series(1, 210) i) TO STDOUT") as copy:
            for data in copy:
                total += len(data)
                digest.update(data[:64])
        assert total > 210 * 1_048_576
        # One row of 200 MB, and a parameter of 100 MB.
        [(size,)] = cursor.execute("SELECT length(repeat('r', 200000000))").fetchall()
        assert size == 200_000_000
        cursor.execute("SELECT repeat('r', 200000000)")
        assert len(cursor.fetchone()[0]) == 200_000_000
        cursor.execute("SELECT length(%s::text)", ("p" * 100_000_000,))
        assert cursor.fetchone() == (100_000_000,)
    assert door.memory("VmHWM") - before < 20_000, "KiB more than before"


def test_large_query_texts(door):
    with door.connect() as connection:
        for size in (65_000, 65_536, 70_000, 1_048_570, 1_048_580, 5_000_000):
            text = "q" * size
            assert connection.execute(f"SELECT length('{text}')").fetchone() == (size,)


def test_many_sessions_at_once(door):
    connections = [door.connect() for _ in range(40)]
    for number, connection in enumerate(connections):
        assert connection.execute("SELECT %s::int", (number,)).fetchone() == (number,)
    for connection in connections:
        connection.close()


def test_slow_client_does_not_hold_up_others(door):
    slow = psycopg.pq.PGconn.connect(door.dsn().encode())
    slow.send_query(b"SELECT repeat('s', 100000000)")
    slow.flush()
    time.sleep(0.3)
    # Nobody reads `slow`: an answer that waited for it would never come.
    with door.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    slow.finish()


def test_pgbench_in_every_protocol(door):
    run = ["pgbench", "-h", "127.0.0.1", "-p", str(door.port), "-U", "trusted", "postgres"]
    subprocess.run([*run, "-i", "-q"], check=True, capture_output=True)
    for mode in ("simple", "extended", "prepared"):
        result = subprocess.run([*run, "-n", "-c", "4", "-j", "2", "-t", "50", "-M", mode],
                                capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert "number of transactions actually processed: 200/200" in result.stdout


def test_replication_is_refused(door, tmp_path):
    result = door.psql("-c", "IDENTIFY_SYSTEM", replication="database")
    assert result.returncode != 0
    assert "replication connections cannot pass through holdfast" in result.stderr
    assert "Connect to PostgreSQL's own host and port" in result.stderr
    result = subprocess.run([PG_BIN / "pg_basebackup", "-d", door.dsn(), "-D", tmp_path / "base"],
                            capture_output=True, text=True)
    assert result.returncode != 0
    assert "replication connections cannot pass through holdfast" in result.stderr
    assert door.psql("-c", "SELECT 1", replication="false").stdout.strip() == "1"


NODE_SCRIPT = """
const { Client } = require('pg');
(async () => {
  const client = new Client({ host: '127.0.0.1', port: %d, user: '%s', password: '%s',
                              database: 'postgres' });
  await client.connect();
  const out = {};
  out.parameter = (await client.query('SELECT $1::int + 1 AS n', [41])).rows;
  out.named = (await client.query({ name: 'n', text: 'SELECT $1::text AS t', values: ['x'] })).rows;
  out.jobs = (await client.query('SHOW JOBS')).rows;
  out.pause = (await client.query('PAUSE JOB $1', ['99'])).rows;
  out.source = (await client.query('SELECT sum(job_id) AS s FROM [SHOW JOBS] WHERE job_id > $1',
                                   [0])).rows;
  try { await client.query('CANCEL JOB $1', ['1']); } catch (e) { out.error = e.code; }
  out.after = (await client.query('SELECT 5 AS five')).rows;
  await client.end();
  console.log(JSON.stringify(out));
})();
"""


def test_node_postgres(door):
    from conftest import PASSWORD
    script = NODE_SCRIPT % (door.port, "scram_user", PASSWORD)
    result = subprocess.run(["node", "-e", script], capture_output=True, text=True,
                            env={"NODE_PATH": str(NODE_MODULES), "PATH": "/usr/bin:/bin"})
    assert result.returncode == 0, result.stderr
    out = json.loads(result.stdout)
    assert out["parameter"] == [{"n": 42}]
    assert out["named"] == [{"t": "x"}]
    assert out["jobs"][0]["job_id"] == "42" and out["jobs"][0]["running"] is True
    assert out["jobs"][0]["details"] == {"rows": 7}
    assert out["pause"] == [{"parameter": "99", "user": "scram_user"}]
    assert out["source"] == [{"s": "85"}]
    assert out["error"] == "42704"
    assert out["after"] == [{"five": 5}]
