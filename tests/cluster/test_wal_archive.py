"""The WAL archive: nothing missing, nothing wrong, whatever is killed; and recovery from it."""
import contextlib
import functools
import http.server
import subprocess
import threading
import urllib.request

import pytest

from harness import environment as env
from harness.postgres import ALL_VERSIONS, Postgres, wait_until

COLLECTION = "nodelocal://self/archive"
SEGMENT = 1 << 20


def small_segments(lab, **conf):
    """A server with WAL segments of 1 MiB, so that a little work fills many."""
    server = lab.postgres(start=False, conf={"min_wal_size": "2MB", "max_wal_size": "32MB", **conf})
    env.run(server.bin / "pg_resetwal", "-D", server.data, "--wal-segsize=1")
    return server.start()


def fetch_file(daemon, server, lab, name="fetch.conf"):
    identifier = server.control()["Database system identifier"]
    path = lab.root / name
    path.write_text(f"collection={COLLECTION}\nexternal-io-dir={daemon.io}\nsystem-identifier={identifier}\n"
                    f"wal-segment-size={SEGMENT}\n", encoding="utf-8")
    env.give(path)
    path.chmod(0o600)
    return path


def run_fetch(config, name, target):
    return subprocess.run([str(env.reachable(env.BUILT_BINARY)), "wal-fetch", "--config", str(config), name, str(target)],
                          check=False, capture_output=True, text=True, **env.process_options())


def fetch(config, name, target):
    """Exit status of wal-fetch."""
    return run_fetch(config, name, target).returncode


@contextlib.contextmanager
def served(directory):
    """The URL of a web server that has the directory."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def assert_no_archive(config, out):
    """A failure, for every kind of request: PostgreSQL would take "not there" for the end of WAL."""
    for name in ("000000010000000000000005", "00000002.history"):
        done = run_fetch(config, name, out)
        assert done.returncode == 126 and not out.exists(), (name, done)
        assert "has no WAL of the server with system identifier" in done.stderr and str(config) in done.stderr, done.stderr
    return done.stderr


def work(server, rows=3000):
    server.sql(f"INSERT INTO t SELECT g, repeat(md5(g::text), 20) FROM generate_series(1, {rows}) g; UPDATE t SET v = 'y' || v WHERE id % 3 = 0")


def flushed(server):
    return server.value("SELECT pg_current_wal_flush_lsn()")


def archive(daemon):
    return daemon.sql("SHOW WAL ARCHIVES").one()


def metrics(daemon):
    return urllib.request.urlopen(f"http://127.0.0.1:{daemon.http_port}/metrics", timeout=10).read().decode()


def wait_archived(daemon, server, lsn=None, timeout=40):
    lsn = lsn or flushed(server)
    # A timeline that the server has left may reach further.
    timeline = server.value("SELECT CASE WHEN NOT pg_is_in_recovery() THEN ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int END")

    def caught_up():
        row = archive(daemon)
        return row["archived_lsn"] and timeline in (None, row["timeline"]) and server.value(f"SELECT '{row['archived_lsn']}'::pg_lsn >= '{lsn}'") == "t"
    wait_until(caught_up, timeout, f"archived up to {lsn}")


def assert_archive_is_right(daemon, server, lab, kept):
    """Every segment that was copied away before the server could recycle it, byte for byte."""
    config = fetch_file(daemon, server, lab)
    out = lab.directory("out") / "segment"
    names = sorted(p.name for p in kept.iterdir() if len(p.name) == 24)
    archived = [n for n in names if fetch(config, n, out) == 0 and (out.read_bytes() == (kept / n).read_bytes() or n == names[-1])]
    assert archived == names, sorted(set(names) - set(archived))
    stored = [p.rsplit("/", 1)[-1] for p in daemon.files("archive")]
    assert {n + ".blocks" for n in names[:-2]} <= set(stored)
    return names


def keep_wal(lab, **conf):
    """archive_command as an independent witness of what each segment held."""
    kept = lab.directory("kept", 0o755)
    env.give(kept)
    return kept, {"archive_mode": "on", "archive_command": f"'cp %p {kept}/%f'", **conf}


def test_archive_follows_through_kills(lab):
    kept, conf = keep_wal(lab)
    server = small_segments(lab, **conf)
    server.sql("CREATE TABLE t (id int, v text)")
    daemon = lab.holdfast(server)
    assert daemon.error("DROP WAL ARCHIVE IN 'nodelocal://self/archive'").sqlstate == "42704"
    row = daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'").one()
    again = daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}' WITH mode = 'maps'").one()
    assert again == row
    refused = daemon.error(f"PAUSE JOB {row['job_id']}")
    assert refused.sqlstate == "0A000" and "DROP WAL ARCHIVE" in refused.hint
    assert daemon.job(row["job_id"])["status"] == "running"
    server.sql("SELECT pg_switch_wal()")
    for point in ("archive.after_connect", "archive.after_put@2", "archive.after_checkpoint@2", "archive.after_advance", "archive.after_tail"):
        daemon.stop()
        daemon.pause_point = point.replace("@", "=kill@") if "@" in point else point + "=kill"
        try:
            daemon.start()
        except AssertionError:  # killed before it answered
            pass
        work(server)
        work(server)
        if daemon.process is not None:
            daemon.wait_killed()
    daemon.pause_point = None
    daemon.start()
    work(server)
    server.kill9()
    server.start()
    work(server)
    last = flushed(server)
    wait_archived(daemon, server)
    assert archive(daemon)["lag_bytes"] is not None and archive(daemon)["mode"] == "full"
    server.sql("SELECT pg_switch_wal()")
    wait_until(lambda: server.value("SELECT last_archived_wal >= pg_walfile_name('%s') FROM pg_stat_archiver" % last) == "t", 60)
    wait_archived(daemon, server)
    names = assert_archive_is_right(daemon, server, lab, kept)
    assert len(names) > 20
    # PostgreSQL need not keep what is archived.
    assert int(server.value("SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots")) < 4 * SEGMENT
    assert "archived up to" in daemon.job(row["job_id"])["running_status"]
    daemon.sql(f"DROP WAL ARCHIVE IN '{COLLECTION}'")
    assert server.value("SELECT count(*) FROM pg_replication_slots") == "0"
    assert daemon.sql("SHOW WAL ARCHIVES").rows == []


def test_archive_may_begin_where_no_segment_is_yet(lab):
    server = small_segments(lab)
    server.sql("CREATE TABLE t (id int, v text)")
    daemon = lab.holdfast(server)
    server.sql("SELECT pg_switch_wal()")
    server.sql("CHECKPOINT")
    server.sql("SELECT pg_switch_wal()")
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    work(server)
    wait_archived(daemon, server)
    assert archive(daemon)["status"] == "running"


def test_recovery_from_the_archive_loses_nothing(lab):
    server = small_segments(lab)
    server.sql("CREATE TABLE t (id int, v text)")
    daemon = lab.holdfast(server)
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    base = lab.directory("base", 0o755) / "data"
    env.run(server.bin / "pg_basebackup", "-h", server.sockets, "-p", server.port, "-U", "postgres", "-D", base, "-X", "none", "-c", "fast")
    work(server)
    server.sql("INSERT INTO t VALUES (-1, 'the last one')")
    count = server.value("SELECT count(*) FROM t")
    wait_archived(daemon, server)
    config = fetch_file(daemon, server, lab)
    server.kill9()
    daemon.stop()
    # A gap is no end of WAL, nor is a failure.
    out = lab.directory("out") / "f"
    segments = sorted(p for p in daemon.collection("archive").rglob("*.wal") if p.name.startswith("00000001"))
    gap = segments[len(segments) // 2]
    gap.rename(gap.with_suffix(".away"))
    assert fetch(config, gap.name[:24], out) == 126 and not out.exists()
    gap.with_suffix(".away").rename(gap)
    assert fetch(config, gap.name[:24], out) == 0
    assert fetch(config, "00000009.history", out) == 1
    assert fetch(config, "0000000100000000000000FF", out) == 1
    assert fetch(lab.root / "nothing", "00000009.history", out) == 126
    # Nor is an archive that is not there: another server's, or one whose storage is not mounted.
    out = out.with_name("nothing")
    text = config.read_text()
    identifier = server.control()["Database system identifier"]
    config.write_text(text.replace(identifier, "7300000000000000001"))
    assert "system identifier 7300000000000000001" in assert_no_archive(config, out)
    config.write_text(text.replace(COLLECTION, "nodelocal://self/archiv"))
    assert "nodelocal://self/archiv\"" in assert_no_archive(config, out)
    config.write_text(text)
    daemon.collection("archive").rename(lab.root / "unmounted")
    assert_no_archive(config, out)
    (lab.root / "unmounted").rename(daemon.collection("archive"))
    assert fetch(config, "00000009.history", out) == 1
    # A web server cannot be asked; there it is the first segment that fails.
    with served(daemon.io) as url:
        config.write_text(text.replace(COLLECTION, f"{url}/nothing"))
        assert fetch(config, "00000009.history", out) == 1
        assert fetch(config, "000000010000000000000005", out) == 126
    config.write_text(text)
    restored = lab.adopt(Postgres(lab.directory("restored", 0o755), data=base))
    restored.configure({"port": restored.port, "unix_socket_directories": f"'{restored.sockets}'", "restore_command":
                        f"'{env.reachable(env.BUILT_BINARY)} wal-fetch --config {config} %f %p'"})
    (base / "recovery.signal").touch()
    env.give(base / "recovery.signal")
    restored.start()
    wait_until(lambda: restored.ready() and restored.value("SELECT pg_is_in_recovery()") == "f", 60, "recovery")
    assert restored.value("SELECT count(*) FROM t") == count
    # On its new timeline, into the same collection; the daemon that looks after it goes on where the old one was.
    other = lab.holdfast(restored, name="hf2", start=False)
    other.io = daemon.io
    other.start()
    other.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    work(restored)
    wait_archived(other, restored)
    assert any(f.endswith("/00000002.history") for f in daemon.files("archive"))


def test_promotion_slot_and_limits(lab):
    server = small_segments(lab, wal_keep_size="'64MB'")
    server.sql("CREATE TABLE t (id int, v text)")
    daemon = lab.holdfast(server, arguments=["--wal-keep-limit", "4MB"])
    row = daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}' WITH mode = 'maps'").one()
    work(server)
    wait_archived(daemon, server)
    assert [f for f in daemon.files("archive") if ".wal" in f or ".partial" in f] == []
    # A lost slot loses no WAL while the files are there.
    server.sql(f"SELECT pg_drop_replication_slot('{row['slot']}')")
    work(server)
    wait_archived(daemon, server)
    wait_until(lambda: server.value("SELECT count(*) FROM pg_replication_slots") == "1", 60, "a new slot")
    # A promotion: the same cluster goes on on timeline 2.
    server.stop()
    (server.data / "standby.signal").touch()
    env.give(server.data / "standby.signal")
    server.start()
    server.sql("SELECT pg_promote()")
    work(server)
    wait_archived(daemon, server)
    assert any("/00000002/" in f and f.endswith(".blocks") for f in daemon.files("archive"))
    # Raised to full, as a chain with revision history asks for.
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    wait_until(lambda: archive(daemon)["mode"] == "full", 60, "the mode")
    work(server)
    wait_archived(daemon, server)
    wait_until(lambda: any("/00000002/" in f and f.endswith(".wal") for f in daemon.files("archive")), 60, "WAL in the archive")
    # Storage away: WAL waits, but not without bound.
    directory = daemon.collection("archive")
    directory.chmod(0o500)
    (directory / "wal").chmod(0o500)
    away = directory.rename(directory.with_name("away"))
    directory.write_text("in the way")
    for _ in range(4):
        work(server)
    job = daemon.wait_job(row["job_id"], "failed", timeout=60)
    assert "--wal-keep-limit" in job["error"], job
    assert server.value("SELECT count(*) FROM pg_replication_slots") == "0"
    assert archive(daemon)["status"] == "failed" and "--wal-keep-limit" in archive(daemon)["message"]
    assert f'holdfast_wal_archive_failed{{slot="{row["slot"]}"}} 1' in metrics(daemon)
    assert away.exists()


@pytest.mark.versions
@pytest.mark.parametrize("version", ALL_VERSIONS)
def test_every_version_is_archived(lab, version):
    server = lab.postgres(version=version)
    server.sql("CREATE TABLE t (id int, v text)")
    daemon = lab.holdfast(server)
    daemon.sql(f"CREATE WAL ARCHIVE IN '{COLLECTION}'")
    first = server.value("SELECT pg_walfile_name(pg_current_wal_lsn())")
    work(server, 500)
    server.sql("SELECT pg_switch_wal()")
    work(server, 500)
    wait_archived(daemon, server)
    wait_until(lambda: any(f.endswith(f"{first}.blocks") for f in daemon.files("archive")), 60, "the block map")
    assert any(f.endswith(f"{first}.wal") for f in daemon.files("archive"))
    assert int(server.value("SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots")) < 16 * SEGMENT
