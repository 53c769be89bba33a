"""PostgreSQL goes away and comes back, and the daemon stops."""

import os
import socket
import threading
import time
from types import SimpleNamespace

import psycopg
import pytest
from conftest import Cluster


@pytest.fixture
def own_cluster(scratch):
    number = len(list(scratch.glob("own*")))
    cluster = Cluster(scratch / f"own{number}")
    yield cluster
    cluster.stop("immediate") if (cluster.data / "postmaster.pid").exists() else None


def test_only_the_administrator_gets_in_while_postgresql_is_down(own_cluster, make_door):
    door = make_door(own_cluster, route="both")
    own_cluster.stop()
    with pytest.raises(psycopg.OperationalError, match="PostgreSQL is not available") as failure:
        door.connect("trusted")
    assert "The test stopped it." in str(failure.value)
    with door.connect_as_administrator() as connection:
        assert connection.info.server_version == 150000
        assert connection.execute("SHOW JOBS").fetchone()[0] == 42
        assert connection.execute("PAUSE JOB %s", ("x",)).fetchone() == ("x", "postgres")
        for statement, parameters in [("SELECT 1", None), ("SELECT %s", (1,)),
                                      ("SELECT * FROM [SHOW JOBS]", None)]:
            with pytest.raises(psycopg.errors.CannotConnectNow):
                connection.execute(statement, parameters)
        with pytest.raises(psycopg.errors.CannotConnectNow):
            connection.execute("SHOW SCHEDULES")  # asks PostgreSQL
        threading.Timer(0.3, connection.cancel).start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("BACKUP INTO 'x'")
    own_cluster.start()
    with door.connect("trusted") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_server_that_hangs_up_during_the_login_is_down_to_the_administrator(scratch, make_door):
    """A server that is being stopped closes connections that it has just accepted."""
    directory = scratch / "hangs-up"
    directory.mkdir()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(directory / ".s.PGSQL.1"))
    os.chmod(directory / ".s.PGSQL.1", 0o777)
    server.listen()

    def hang_up():
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return  # the test is over
            connection.recv(1024)
            connection.close()

    threading.Thread(target=hang_up, daemon=True).start()
    door = make_door(SimpleNamespace(port=1, directory=directory), route="socket")
    with door.connect_as_administrator() as connection:
        assert connection.execute("SHOW JOBS").fetchone()[0] == 42
    with pytest.raises(psycopg.OperationalError, match="closed the connection during the login"):
        door.connect("trusted")
    server.shutdown(socket.SHUT_RDWR)


def test_idle_session_ends_with_postgresql(own_cluster, make_door):
    door = make_door(own_cluster, route="both")
    connection = door.connect("trusted")
    own_cluster.stop()
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        connection.execute("SELECT 1")
    assert connection.broken


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_session_of_a_restore_outlives_postgresql(own_cluster, make_door, mode):
    door = make_door(own_cluster, route="both")
    administrator = door.connect_as_administrator()
    ordinary = door.connect("trusted")
    threading.Timer(0.3, lambda: own_cluster.stop(mode)).start()
    results = []

    def restore(connection):
        results.append(connection.execute("RESTORE FROM LATEST IN 'x'").fetchone())

    threads = [threading.Thread(target=restore, args=(c,)) for c in (administrator, ordinary)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == [(7,), (7,)]
    own_cluster.start()
    # Our own statements go on; PostgreSQL's need a new session.
    assert administrator.execute("SHOW JOBS").fetchone()[0] == 42
    with pytest.raises(psycopg.errors.CannotConnectNow):
        administrator.execute("SELECT 1")
    assert administrator.execute("SHOW JOBS").fetchone()[0] == 42
    with pytest.raises(psycopg.OperationalError, match="terminating connection"):
        ordinary.execute("SELECT 1")
    administrator.close()


def test_stop_of_the_daemon_tells_every_session(cluster, make_door):
    door = make_door(cluster, route="both")
    idle = door.connect()
    waiting = door.connect()
    busy = door.connect()
    errors = []

    def run(connection, statement):
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            errors.append(str(error))

    threads = [threading.Thread(target=run, args=a) for a in
               [(waiting, "BACKUP INTO 'x'"), (busy, "SELECT pg_sleep(600)")]]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    started = time.monotonic()
    door.stop()
    assert time.monotonic() - started < 60
    for thread in threads:
        thread.join(5)
    run(idle, "SELECT 1")
    assert len(errors) == 3
    for error in errors:
        assert "terminating connection due to administrator command" in error
    assert not (door.directory / f".s.PGSQL.{door.port}").exists()
