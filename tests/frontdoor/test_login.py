"""Who gets in, and how: authentication is PostgreSQL's, relayed."""

import socket
import ssl
import struct
import time

import psycopg
import pytest
from conftest import OS_USER, PASSWORD


@pytest.mark.parametrize("user", ["scram_user", "md5_user", "clear_user"])
@pytest.mark.parametrize("route", ["socket", "tcp"])
def test_passwords_pass_through(cluster, make_door, user, route):
    door = make_door(cluster, route=route)
    with door.connect(user, password=PASSWORD) as connection:
        assert connection.execute("SELECT current_user").fetchone() == (user,)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        door.connect(user, password="wrong")


def test_password_is_not_logged(door):
    door.connect("clear_user", password=PASSWORD).close()
    with pytest.raises(psycopg.OperationalError):
        door.connect("clear_user", password="secret-and-wrong")
    log = (door.directory / "log").read_text()
    assert PASSWORD not in log and "secret-and-wrong" not in log


def test_nobody_borrows_the_daemons_operating_system_user(door, cluster, make_door):
    # pg_hba.conf lets the daemon's OS user in as postgres (peer); a TCP client is not that user.
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        door.connect("postgres")
    with door.connect("postgres", password=PASSWORD) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)
    socket_only = make_door(cluster, route="socket")
    with pytest.raises(psycopg.OperationalError, match="without a password through holdfast"):
        socket_only.connect("postgres")


def test_trusted_user_keeps_the_fast_connection(door):
    with door.connect("trusted") as connection:
        # Null on a Unix socket.
        assert connection.execute("SELECT inet_client_addr()").fetchone() == (None,)


def test_administrator_on_the_unix_socket(door):
    with door.connect_as_administrator() as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("postgres",)


def test_unknown_user_and_database(door):
    with pytest.raises(psycopg.OperationalError, match='role "nobody_here" does not exist'):
        door.connect("nobody_here")
    with pytest.raises(psycopg.OperationalError, match='database "nothing" does not exist'):
        psycopg.connect(door.dsn().replace("dbname=postgres", "dbname=nothing"))


@pytest.mark.parametrize("user", ["trusted", "scram_user"])
def test_tls_on_the_client_side(cluster, tls, make_door, user):
    door = make_door(cluster, "--tls-cert", tls.server_certificate, "--tls-key", tls.server_key,
                     route="both")
    with door.connect(user, password=PASSWORD, sslmode="verify-full", host="localhost",
                      sslrootcert=tls.root) as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("SHOW JOBS").fetchone()[0] == 42
        text = "t" * 3_000_000
        assert connection.execute("SELECT %s", (text,)).fetchone() == (text,)
    with door.connect(user, password=PASSWORD, sslmode="disable") as connection:
        assert not connection.pgconn.ssl_in_use


def test_client_that_wants_tls_is_told_no(door):
    with pytest.raises(psycopg.OperationalError, match="does not support SSL"):
        door.connect(sslmode="require")


def test_tls_without_a_request_first(cluster, tls, make_door):
    # sslnegotiation=direct of PostgreSQL 17's libpq: ALPN must name the protocol.
    door = make_door(cluster, "--tls-cert", tls.server_certificate, "--tls-key", tls.server_key,
                     route="both")
    context = ssl.create_default_context(cafile=str(tls.root))
    context.set_alpn_protocols(["postgresql"])
    with socket.create_connection(("127.0.0.1", door.port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as wrapped:
            body = struct.pack("!I", 196608) + b"user\0trusted\0database\0postgres\0\0"
            wrapped.sendall(struct.pack("!I", len(body) + 4) + body)
            assert wrapped.recv(1) == b"R"
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection(("127.0.0.1", door.port)) as plain:
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
def test_tls_on_the_server_side(tls_cluster, tls, make_door, mode):
    door = make_door(tls_cluster, "--sslmode", mode, "--sslrootcert", tls.root, route="tcp")
    with door.connect("scram_user", password=PASSWORD) as connection:
        query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        assert connection.execute(query).fetchone() == (True,)
        text = "t" * 3_000_000
        assert connection.execute("SELECT %s", (text,)).fetchone() == (text,)
        assert connection.execute("SHOW SCHEDULES").fetchone() == ("scram_user", False)


def test_server_certificate_of_a_stranger_is_refused(tls_cluster, make_door):
    door = make_door(tls_cluster, "--sslmode", "verify-full", route="tcp")
    with pytest.raises(psycopg.OperationalError):
        door.connect()


def test_server_without_tls_is_refused_when_it_is_required(cluster, make_door):
    door = make_door(cluster, "--sslmode", "require", route="tcp")
    with pytest.raises(psycopg.OperationalError, match="does not support TLS"):
        door.connect()


def test_scram_with_tls_on_both_sides(tls_cluster, tls, make_door):
    encrypted = ["--tls-cert", tls.server_certificate, "--tls-key", tls.server_key]
    # The client insists that a server which has TLS offers channel binding, and holdfast cannot.
    door = make_door(tls_cluster, *encrypted, "--sslmode", "require", route="tcp")
    with pytest.raises(psycopg.OperationalError, match="channel_binding=disable"):
        door.connect("scram_user", password=PASSWORD, sslmode="require")
    door.connect("scram_user", password=PASSWORD, sslmode="require",
                 channel_binding="disable").close()
    # Where TLS to the server may be left out, it is.
    door = make_door(tls_cluster, *encrypted, "--sslmode", "prefer", route="tcp")
    with door.connect("scram_user", password=PASSWORD, sslmode="require") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_too_many_sessions(cluster, make_door):
    door = make_door(cluster, "--max-sessions", "2", route="both")
    kept = [door.connect(), door.connect()]
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        door.connect()
    kept.pop().close()
    for _ in range(50):
        try:
            door.connect().close()
            break
        except psycopg.OperationalError:
            time.sleep(0.05)
    else:
        pytest.fail("the ended session still counts")


@pytest.mark.parametrize("packet", [
    b"\0\0\0\4", struct.pack("!II", 20_000, 196608), struct.pack("!II", 8, 3 << 17),
    b"GET / HTTP/1.1\r\n\r\n", struct.pack("!II", 9, 196608) + b"x",
    struct.pack("!IIII", 16, 80877102, 1, 2),
])
def test_broken_packets_end_only_their_own_connection(door, packet):
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        client.sendall(packet)
        client.settimeout(5)
        try:
            while client.recv(1000):
                pass
        except ConnectionResetError:
            pass  # closed with some of the packet unread
    with door.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_silent_client_is_thrown_out(cluster, make_door):
    door = make_door(cluster, "--authentication-timeout", "1", route="both")
    with socket.create_connection(("127.0.0.1", door.port)) as client:
        client.settimeout(60)
        started = time.monotonic()
        while client.recv(1000):
            pass
        assert 0.5 < time.monotonic() - started < 60


def test_os_user_decides_on_the_unix_socket(door):
    assert OS_USER
    with door.connect("trusted", host=str(door.directory)) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("trusted",)
