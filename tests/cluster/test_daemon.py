"""The process itself: start, stop, configuration, errors at start."""
import json
import os
import signal
import subprocess
import urllib.request

import pytest

from harness import environment as env
from harness.bank import make_bank
from harness.postgres import wait_until
from harness.wire import SqlError


def try_start(daemon, **changes):
    """Runs `holdfast start` that must fail; its output."""
    command = daemon.command()
    for option, value in changes.items():
        option = "--" + option.replace("_", "-")
        if option in command:
            at = command.index(option)
            command[at:at + 2] = [] if value is None else [option, str(value)]
        elif value is not None:
            command += [option, str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False,
                          **env.process_options())
    assert done.returncode != 0, done.stdout
    return done.stdout


def test_sigterm_stops_cleanly(lab):
    daemon = lab.holdfast(lab.postgres())
    assert daemon.stop() == 0
    assert not (daemon.sockets / f".s.PGSQL.{daemon.port}").exists()
    daemon.start()
    assert daemon.sql("SELECT 1").value() == "1"


def test_pgdata_alone_is_enough(lab):
    """The URL comes from postmaster.pid, the programs from the running server."""
    postgres = lab.postgres()
    postgres.sql(f"CREATE ROLE \"{env.SERVER_USER}\" SUPERUSER LOGIN") if env.SERVER_USER != "postgres" else None
    daemon = lab.holdfast(postgres, start=False)
    daemon.pg_url = None
    command = daemon.command()
    at = command.index("--pg-bin")
    del command[at:at + 2]
    daemon.command = lambda: command
    daemon.start()
    assert daemon.sql("BACKUP INTO 'nodelocal://self/x'").one()["status"] == "succeeded"


def test_background_writes_a_pid_file_and_returns_when_ready(lab):
    postgres = lab.postgres()
    daemon = lab.holdfast(postgres, start=False)
    pid_file = daemon.root / "holdfast.pid"
    env.run(*daemon.command(), "--background", "--pid-file", pid_file, timeout=60)
    pid = int(pid_file.read_text())
    try:
        assert daemon.sql("SELECT 1").value() == "1"
        second = subprocess.run(daemon.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30,
                                check=False, **env.process_options())
        assert second.returncode != 0, "a second daemon on the same store"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 60, "the end of the daemon")
    assert not pid_file.exists()


def test_configuration_file_has_the_same_names(lab):
    postgres = lab.postgres()
    daemon = lab.holdfast(postgres, start=False)
    pairs = zip(*[iter(daemon.command()[2:])] * 2)
    text = "".join(f'{name[2:]}="{value}"\n' for name, value in pairs)
    file = daemon.root / "holdfast.conf"
    file.write_text(text)
    file.chmod(0o644)
    binary = daemon.command()[0]
    daemon.command = lambda: [binary, "start", "--config", str(file)]
    daemon.start()
    assert daemon.sql("SELECT 1").value() == "1"


def test_health_and_metrics(lab):
    daemon = lab.holdfast(lab.postgres())
    base = f"http://127.0.0.1:{daemon.http_port}"
    assert urllib.request.urlopen(f"{base}/health", timeout=10).status == 200
    daemon.sql("BACKUP INTO 'nodelocal://self/x'")
    text = urllib.request.urlopen(f"{base}/metrics", timeout=10).read().decode()
    assert "holdfast" in text and "# TYPE" in text


@pytest.mark.parametrize("changes, words", [
    ({"store": "{pgdata}/store"}, ["store", "--store"]),
    ({"listen": "nonsense"}, ["--listen", "nonsense"]),
    ({"tls_cert": "/nonexistent.pem"}, ["--tls"]),
    ({"log_level": "loud"}, ["loud"]),
])
def test_errors_at_start_say_what_to_do(lab, changes, words):
    daemon = lab.holdfast(lab.postgres(), start=False)
    changes = {name: value.replace("{pgdata}", str(daemon.pgdata)) for name, value in changes.items()}
    output = try_start(daemon, **changes)
    for word in words:
        assert word in output, output


def test_refuses_another_instance_than_pgdata(lab):
    """Backing up one directory with the WAL of another would be silent corruption."""
    one, two = lab.postgres("one"), lab.postgres("two")
    daemon = lab.holdfast(one, start=False)
    output = try_start(daemon, pg_url=f"postgresql://postgres@/postgres?host={two.sockets}&port={two.port}")
    assert str(two.data) in output or "data directory" in output, output


def test_refuses_a_role_without_the_privileges(lab):
    postgres = lab.postgres()
    postgres.sql("CREATE ROLE weak LOGIN")
    daemon = lab.holdfast(postgres, start=False)
    output = try_start(daemon, pg_url=f"postgresql://weak@/postgres?host={postgres.sockets}&port={postgres.port}")
    assert "weak" in output and ("REPLICATION" in output or "superuser" in output or "privilege" in output), output


def test_least_privileged_role_is_enough(lab):
    """The statements of docs/install.md."""
    postgres = lab.postgres()
    make_bank(postgres)
    text = (env.ROOT / "docs/install.md").read_text()
    statements = text.split("CREATE ROLE holdfast", 1)[1].split("```", 1)[0]
    postgres.sql("CREATE ROLE holdfast" + statements)
    daemon = lab.holdfast(postgres, start=False)
    daemon.pg_url = f"postgresql://holdfast@/postgres?host={postgres.sockets}&port={postgres.port}"
    daemon.start()
    daemon.sql("BACKUP INTO 'nodelocal://self/x'")
    assert daemon.sql("SELECT count(*) FROM [SHOW BACKUP FROM LATEST IN 'nodelocal://self/x'] WHERE object_name = 'accounts'").value() == "1"
    postgres.destroy()
    daemon.sql("RESTORE FROM LATEST IN 'nodelocal://self/x'")
    assert daemon.sql("SELECT count(*) FROM accounts", database="bank").value() == "2000"


def test_refuses_to_run_as_root(lab):
    if not env.AM_ROOT:
        return
    daemon = lab.holdfast(lab.postgres(), start=False)
    done = subprocess.run(daemon.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False)
    assert done.returncode != 0 and "root" in done.stdout, done.stdout


def test_starts_without_pgdata_and_answers_over_the_socket(lab):
    """PGDATA is gone: the local administrator still gets in, and sees what there is."""
    postgres = lab.postgres()
    make_bank(postgres)
    daemon = lab.holdfast(postgres)
    daemon.sql("BACKUP INTO 'nodelocal://self/x'")
    postgres.destroy()
    daemon.restart()
    assert len(daemon.sql("SHOW BACKUPS IN 'nodelocal://self/x'").rows) == 1
    assert daemon.error("SELECT 1").sqlstate == "57P03"
    try:
        daemon.connect(tcp=True)
        raise AssertionError("TCP got in without PostgreSQL")
    except ConnectionError:
        pass
    daemon.sql("RESTORE FROM LATEST IN 'nodelocal://self/x'")
    assert daemon.sql("SELECT count(*) FROM accounts", database="bank").value() == "2000"


def test_jobs_run_side_by_side_up_to_the_limit(lab):
    postgres = lab.postgres()
    daemon = lab.holdfast(postgres, pause_point="backup.copy=stall@*", arguments=["--jobs-concurrency", "2"])
    jobs = [daemon.detached(f"BACKUP INTO 'nodelocal://self/c{i}' WITH detached") for i in range(3)]
    daemon.wait_job(jobs[0], "running")
    daemon.wait_job(jobs[1], "running")
    assert daemon.job(jobs[2])["status"] in ("pending", "running")
    daemon.restart()
    for job in jobs:
        daemon.wait_job(job)


def test_sql_client(lab):
    daemon = lab.holdfast(lab.postgres())
    binary = env.reachable(env.BUILT_BINARY)
    url = f"postgresql://postgres@/postgres?host={daemon.sockets}&port={daemon.port}"
    done = env.run(binary, "sql", "--url", url, "-e", "SELECT 40 + 2 AS answer", "-e", "SHOW JOBS")
    assert "42" in done.stdout and "answer" in done.stdout and "job_id" in done.stdout, done.stdout
    failed = env.run(binary, "sql", "--url", url, "-e", "BACKUP INTO 'nodelocal://self/../x'", check=False)
    assert failed.returncode != 0 and "ERROR" in failed.stdout, failed.stdout


def test_manifest_as_json_names_the_instance(lab):
    postgres = lab.postgres()
    daemon = lab.holdfast(postgres)
    daemon.sql("BACKUP INTO 'nodelocal://self/x'")
    manifest = json.loads(daemon.sql("SHOW BACKUP FROM LATEST IN 'nodelocal://self/x' WITH as_json").value())
    identifier = postgres.value("SELECT system_identifier FROM pg_control_system()")
    assert identifier in json.dumps(manifest), manifest


def test_starts_beside_a_server_that_recovers(lab):
    """A server without hot standby lets nobody in while it recovers, which may take hours: then the daemon is needed."""
    postgres = lab.postgres()
    make_bank(postgres)
    postgres.stop()
    go = lab.root / "go"
    (postgres.data / "recovery.signal").touch()
    postgres.configure({"hot_standby": "off", "restore_command": f"'while ! test -e {go}; do sleep 0.1; done; false'"})
    postgres.start(wait=False)
    wait_until(lambda: (postgres.data / "postmaster.pid").exists() and refused(postgres) == "57P03", 60, "the server refusing sessions")
    daemon = lab.holdfast(postgres)
    assert daemon.sql("SHOW JOBS").rows == []
    assert "cannot look at PostgreSQL" in daemon.log_text()
    go.touch()
    wait_until(postgres.ready, 60, "the end of the recovery")
    assert daemon.sql("BACKUP INTO 'nodelocal://self/x'").one()["status"] == "succeeded"


def refused(postgres):
    try:
        postgres.connect().close()
    except (ConnectionError, SqlError) as error:
        return "57P03" if "the database system is" in str(error) else str(error)
    return None


def test_starts_beside_a_damaged_data_directory(lab):
    postgres = lab.postgres()
    make_bank(postgres)
    daemon = lab.holdfast(postgres)
    daemon.sql("BACKUP INTO 'nodelocal://self/x'")
    daemon.stop()
    postgres.stop()
    os.truncate(postgres.data / "PG_VERSION", 0)
    daemon.start()
    assert len(daemon.sql("SHOW BACKUPS IN 'nodelocal://self/x'").rows) == 1
    error = daemon.error("RESTORE FROM LATEST IN 'nodelocal://self/x'")
    assert "PostgreSQL is not running" in error.message, error
    postgres.data.rename(postgres.root / "damaged")
    daemon.sql("RESTORE FROM LATEST IN 'nodelocal://self/x'")
    assert daemon.sql("SELECT count(*) FROM accounts", database="bank").value() == "2000"
