"""The block map of real WAL against what PostgreSQL itself says of it."""
import re
import struct

import pytest

from harness import environment as env
from harness.postgres import wait_until

WAL_BLOCKS = env.BUILT_BINARY.parent / "wal_blocks"
MAPPED = {"main": 0, "init": 3}


def prepare(server):
    server.sql("CREATE DATABASE work")
    server.sql("CREATE DATABASE will_be_dropped")
    server.sql("CREATE TABLE was_there AS SELECT g AS id, repeat('x', 500) AS v FROM generate_series(1, 9000) g", "work")
    server.sql("CHECKPOINT")


def work(server):
    """Every kind of change that a map must know."""
    with server.connect("work") as session:
        for statement in """
            CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, repeat('x', g % 700) FROM generate_series(1, 8000) g;
            CREATE TABLE will_be_truncated AS SELECT * FROM t; CREATE TABLE will_be_dropped AS SELECT * FROM t;
            CREATE UNLOGGED TABLE unlogged_table (a int PRIMARY KEY); CREATE SEQUENCE numbers;
            CREATE INDEX ON t USING gin (to_tsvector('english', v)); CREATE INDEX ON t USING hash (v);
            UPDATE was_there SET v = 'y' WHERE id % 20 = 0; CHECKPOINT; UPDATE t SET v = 'y' WHERE id % 7 = 0; SELECT nextval('numbers');
            TRUNCATE will_be_truncated; INSERT INTO will_be_truncated SELECT * FROM t LIMIT 9;
            DELETE FROM t WHERE id > 4000; VACUUM t; INSERT INTO t SELECT g, 'again' FROM generate_series(4001, 4700) g;
            DROP TABLE will_be_dropped; CLUSTER t USING t_pkey; REINDEX INDEX t_pkey;
            BEGIN; CREATE TABLE never (a int); INSERT INTO never VALUES (1); SAVEPOINT s; CREATE TABLE never2 (a int); ROLLBACK;
            SELECT pg_switch_wal(); UPDATE t SET v = 'last' WHERE id < 50; VACUUM FULL t""".split(";"):
            session.query(statement)
    server.sql("DROP DATABASE will_be_dropped")


def our_map(server, start, end, timeline=1):
    output = env.run(WAL_BLOCKS, server.data / "pg_wal", server.version, timeline, start, end).stdout
    limits, blocks, databases = {}, set(), set()
    for line in output.splitlines():
        words = line.split()
        if words[0] == "database":
            databases.add((int(words[1]), int(words[2])))
            continue
        fork = tuple(map(int, words[:4]))
        if words[4] == "limit":
            limits[fork] = int(words[5])
        else:
            blocks.add((*fork, int(words[5])))
    return limits, blocks, databases


def below_limits(limits, blocks, databases):
    """What our map keeps of a list of all blocks."""
    return {b for b in blocks if b[4] < limits.get(b[:4], 2**32) and b[:2] not in databases}


def test_names_every_block_that_pg_waldump_names(lab):
    server = lab.postgres(conf={"wal_keep_size": "'1GB'", "wal_log_hints": "on"})
    prepare(server)
    start = server.value("SELECT pg_current_wal_insert_lsn()")
    work(server)
    end = server.value("SELECT pg_current_wal_insert_lsn()")
    dump = env.run(server.bin / "pg_waldump", "-p", server.data / "pg_wal", "-s", start, "-e", end).stdout
    named = set()
    for space, database, relation, fork, block in re.findall(
            r"blkref #\d+: rel (\d+)/(\d+)/(\d+)(?: fork (\w+))? blk (\d+)", dump):
        if (fork or "main") in MAPPED:
            named.add((int(space), int(database), int(relation), MAPPED[fork or "main"], int(block)))
    limits, blocks, databases = our_map(server, start, end)
    assert blocks == below_limits(limits, named, databases)
    assert len(blocks) > 300 and len(databases) == 1
    created = re.findall(r"desc: CREATE (?:base|pg_tblspc)/[\w/]*?(\d+)(_init)?$", dump, re.M)
    assert created and {(int(r), 3 if i else 0) for r, i in created} <= {f[2:4] for f in limits}


@pytest.mark.versions
@pytest.mark.parametrize("version", [17, 18])
def test_says_what_wal_summaries_say(lab, version):
    server = lab.postgres(version=version, conf={"wal_keep_size": "'1GB'", "summarize_wal": "on"})
    prepare(server)
    work(server)
    server.sql("CHECKPOINT")
    end = server.value("SELECT pg_current_wal_insert_lsn()")
    server.sql("CHECKPOINT")
    wait_until(lambda: server.value(
        f"SELECT summarized_lsn >= '{end}' FROM pg_get_wal_summarizer_state()") == "t", 60, "the summary")
    summaries = server.sql("SELECT tli, start_lsn, end_lsn FROM pg_available_wal_summaries() ORDER BY 2").rows
    assert len(summaries) > 1
    seen = 0
    for timeline, start, finish in summaries:
        their_limits, their_blocks, their_databases = {}, set(), set()
        for node, space, database, fork, block, is_limit in server.sql(
                f"SELECT * FROM pg_wal_summary_contents({timeline}, '{start}', '{finish}')").rows:
            key = (int(space), int(database), int(node), int(fork))
            if key[2] == 0:
                their_databases.add(key[:2])
            elif key[3] in MAPPED.values() and is_limit == "t":
                their_limits[key] = int(block)
            elif key[3] in MAPPED.values():
                their_blocks.add((*key, int(block)))
        limits, blocks, databases = our_map(server, start, finish, timeline)
        assert databases == their_databases
        # PostgreSQL goes on to count what happens to a database that is to be taken whole anyway, and behind a limit.
        assert limits == {f: limit for f, limit in their_limits.items() if f[:2] not in databases}
        assert blocks == below_limits(their_limits, their_blocks, databases)
        seen += len(blocks)
    assert seen > 300


@pytest.mark.versions
@pytest.mark.parametrize("version", [16, 17, 18])
def test_names_every_block_that_pg_walinspect_names(lab, version):
    """These versions come without pg_waldump, but with an extension that reads WAL as it does."""
    server = lab.postgres(version=version, conf={"wal_keep_size": "'1GB'", "wal_log_hints": "on"})
    server.sql("CREATE EXTENSION pg_walinspect")
    prepare(server)
    start = server.value("SELECT pg_current_wal_insert_lsn()")
    work(server)
    end = server.value("SELECT pg_current_wal_insert_lsn()")
    named = {tuple(map(int, row)) for row in server.sql(
        f"""SELECT reltablespace, reldatabase, relfilenode, relforknumber, relblocknumber
            FROM pg_get_wal_block_info('{start}', '{end}') WHERE relforknumber IN (0, 3)""").rows}
    limits, blocks, databases = our_map(server, start, end)
    assert blocks == below_limits(limits, named, databases)
    assert len(blocks) > 300 and len(databases) == 1


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 14])
def test_names_every_page_that_has_changed(lab, version):
    """These come with neither: each page that the range has changed says so in its LSN."""
    server = lab.postgres(version=version, conf={"wal_keep_size": "'1GB'", "wal_log_hints": "on", "autovacuum": "off"})
    prepare(server)
    start = server.value("SELECT pg_current_wal_insert_lsn()")
    work(server)
    end = server.value("SELECT pg_current_wal_insert_lsn()")
    limits, blocks, databases = our_map(server, start, end)
    server.stop()
    high, low = (int(part, 16) for part in start.split("/"))
    seen = 0
    for path in [*server.data.glob("base/*/*"), *server.data.glob("global/*")]:
        name = re.fullmatch(r"(\d+)(_init)?", path.name)
        if not name:
            continue
        database = int(path.parent.name) if path.parent.name != "global" else 0
        fork = (1663 if database else 1664, database, int(name[1]), 3 if name[2] else 0)
        content = path.read_bytes()
        for block in range(len(content) // 8192):
            page_lsn = struct.unpack_from("<II", content, block * 8192)
            if page_lsn > (high, low) and fork[:2] not in databases and block < limits.get(fork, 2**32):
                assert (*fork, block) in blocks, f"{path.name} block {block}"
                seen += 1
    assert seen > 200
