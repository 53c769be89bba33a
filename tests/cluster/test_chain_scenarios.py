"""What PostgreSQL's own tests of incremental backups try (src/bin/pg_combinebackup/t), and the errors that were found in its
implementation since, against our chains."""
import shutil

import pytest

from harness import environment as env
from harness.bank import make_bank
from harness.chain import Chain, Reference
from harness.digest import digest
from harness.postgres import wait_until

BOTH = pytest.mark.parametrize("checksums", [True, False], ids=["checksums", "plain"])
QUIET = {"autovacuum": "off", "wal_keep_size": "'1GB'", "max_prepared_transactions": "5"}


def start(lab, **options):
    """A server whose pages change only when a test says so."""
    conf = {**QUIET, **options.pop("conf", {})}
    return lab.postgres(conf=conf, **options)


def chain_of(lab, source, **options):
    return Chain(lab, source, lab.holdfast(source, **options))


def beside(lab, chain, server, name):
    """A daemon for another server, with the same collection."""
    daemon = lab.holdfast(server, name=name, start=False)
    daemon.io.rmdir()
    daemon.io = chain.daemon.io
    daemon.start()
    return Chain(lab, server, daemon, chain.name)


@BOTH
def test_a_layer_and_wal_alone_give_the_same_pages(lab, checksums):
    """t/002: the full with all WAL since, and the incremental layer, are the same cluster."""
    source = start(lab, checksums=checksums)
    space = lab.directory("space")
    source.sql(f"CREATE TABLESPACE ts1 LOCATION '{space}'")
    source.sql("CREATE DATABASE will_be_dropped")
    source.sql("".join(f"CREATE TABLE {name} (a int, b text); INSERT INTO {name} SELECT g, 'first' FROM generate_series(1, 300) g;"
                       for name in ("will_change", "will_grow", "will_shrink", "will_get_vacuumed", "will_get_dropped",
                                    "will_get_rewritten", "will_get_clustered")))
    source.sql("".join(f"CREATE TABLE {name} TABLESPACE ts1 AS SELECT g AS a, 'first' AS b FROM generate_series(1, 300) g;"
                       for name in ("stays_in_ts", "will_change_in_ts", "will_get_dropped_in_ts")))
    source.sql("CREATE INDEX by_a ON will_get_clustered (a); CREATE INDEX ON will_change USING hash (b)")
    source.stop()
    chain = Chain(lab, source, None)
    reference = Reference(chain)
    source.start()
    chain.daemon = lab.holdfast(source)
    chain.full()
    for change in ("UPDATE will_change SET b = 'changed' WHERE a = 1; UPDATE will_change_in_ts SET b = 'changed' WHERE a = 1",
                   "INSERT INTO will_grow SELECT g, 'more' FROM generate_series(2, 5000) g; TRUNCATE will_shrink",
                   "VACUUM will_get_vacuumed", "DROP TABLE will_get_dropped, will_get_dropped_in_ts",
                   "CREATE TABLE new_one AS SELECT 1 AS a; CREATE TABLE new_in_ts TABLESPACE ts1 AS SELECT 1 AS a",
                   "VACUUM FULL will_get_rewritten", "CLUSTER will_get_clustered USING by_a", "DROP DATABASE will_be_dropped",
                   "CREATE DATABASE new_database STRATEGY file_copy TABLESPACE ts1"):
        source.sql(change)
    before, _ = chain.layer()
    layer = chain.layers()[-1]
    expected = reference.recovered(layer["stop"])
    chain.assert_restores(before, layer, pages_of=expected.data)
    chain.validate()


def test_an_old_timeline_goes_on_beside_the_new_one(lab):
    """t/003, and the error of 2026: after a promotion, what the old primary still writes is none of the new one's changes, and
    its archived block maps are not taken for the new one's."""
    source = start(lab)
    source.sql("CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT g, repeat('x', 200) FROM generate_series(1, 4000) g")
    chain = chain_of(lab, source)
    chain.full()
    source.sql("UPDATE t SET b = 'beetle' WHERE a = 2")
    chain.incremental()
    second = chain.server(chain.restore())
    second.start()
    # The old one archives on: its segments and maps of the same numbers lie beside those of the new timeline.
    for number in range(3):
        source.sql(f"UPDATE t SET b = 'old {number}' WHERE a % 10 = {number}; SELECT pg_switch_wal()")
        second.sql(f"UPDATE t SET b = 'new {number}' WHERE a % 10 = {number + 5}; SELECT pg_switch_wal()")
    others = beside(lab, chain, second, "hf2")
    before, pages = others.layer()
    assert others.layers()[-1]["start"]["timeline"] == 2
    others.assert_restores(before, pages_of=pages)
    # The old one is no longer the chain's: a layer of it would lose what the newest has.
    refused = chain.daemon.error(f"BACKUP INTO LATEST IN '{chain.collection}'")
    assert refused.sqlstate == "55000" and "BACKUP INTO" in refused.hint, refused
    others.validate()


@pytest.mark.versions
@pytest.mark.parametrize("version", [14, 17, 18])
def test_a_standby_promoted_at_any_position_goes_on(lab, version):
    """t/008, and the summarizer that waited for ever at a timeline switch."""
    source = start(lab, version=version)
    source.sql("CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t SELECT g, 'avocado' FROM generate_series(1, 3000) g")
    chain = chain_of(lab, source)
    chain.full()
    source.sql("UPDATE t SET b = 'both' WHERE a % 100 = 1; CHECKPOINT")
    position = source.value("SELECT pg_current_wal_insert_lsn()")
    data = chain.restore()
    source.sql("UPDATE t SET b = 'old' WHERE a % 100 = 2; SELECT pg_switch_wal(); UPDATE t SET b = 'old' WHERE a % 100 = 3")
    second = chain.server(data)
    with open(data / "postgresql.auto.conf", "a", encoding="utf-8") as file:
        file.write(f"primary_conninfo = 'host={source.sockets} port={source.port} user=postgres'\nrecovery_target = ''\n"
                   f"recovery_target_lsn = '{position}'\nrecovery_target_timeline = 'latest'\nrestore_command = ''\n")
    env.run("mv", data / "recovery.signal", data / "standby.signal")
    second.start()
    wait_until(second.ready, 60, "the promoted server answering")
    assert second.value("SELECT count(*) FROM t WHERE b = 'both'") == "30"
    assert second.value("SELECT count(*) FROM t WHERE b = 'old'") == "0"
    second.sql("UPDATE t SET b = 'blackberry' WHERE a % 100 = 4")
    others = beside(lab, chain, second, "hf2")
    before, pages = others.layer()
    assert others.last_change_source() == "WAL"
    others.assert_restores(before, pages_of=pages)


def test_layers_that_do_not_belong_together_are_refused(lab):
    """t/005 and t/009: no layer of another chain, none lacking, none in the place of another."""
    source = start(lab)
    make_bank(source)
    chain = chain_of(lab, source)
    chain.full()
    paths = []
    for number in range(3):
        source.sql(f"UPDATE accounts SET balance = balance + {number}", "bank")
        chain.incremental()
        paths.append(chain.daemon.collection(chain.name) / chain.layers()[-1]["subdirectory"])
    root = chain.daemon.collection(chain.name)
    full = root / chain.layers()[0]["subdirectory"]

    def restore_error():
        target = lab.root / "refused"
        error = chain.daemon.error(f"RESTORE FROM LATEST IN '{chain.collection}' WITH data_directory = '{target}'")
        assert not target.exists() or not list(target.iterdir()), "something was laid out"
        return error

    def swapped(one, other):
        spare = one.with_name("spare")
        one.rename(spare)
        other.rename(one)
        spare.rename(other)

    # A layer that lacks.
    hidden = lab.root / "hidden"
    shutil.move(paths[1], hidden)
    error = restore_error()
    assert error.sqlstate in ("58P01", "XX001"), error
    shutil.move(hidden, paths[1])
    # Two in each other's place, and a manifest in another's.
    swapped(paths[0], paths[1])
    assert restore_error().sqlstate in ("58P01", "XX001")
    swapped(paths[0], paths[1])
    swapped(paths[1] / "BACKUP_MANIFEST", paths[2] / "BACKUP_MANIFEST")
    assert restore_error().sqlstate in ("58P01", "XX001")
    swapped(paths[1] / "BACKUP_MANIFEST", paths[2] / "BACKUP_MANIFEST")
    # A pack of blocks in the place of one of whole files.
    first = sorted((full / "data").iterdir())[0]
    blocks = sorted((paths[0] / "data").iterdir())[0]
    kept = first.read_bytes()
    first.write_bytes(blocks.read_bytes())
    assert restore_error().sqlstate == "XX001"
    # A pack that ends early: pg_combinebackup read on for ever.
    first.write_bytes(kept[:len(kept) // 2])
    assert restore_error().sqlstate == "XX001"
    first.write_bytes(kept)

    # Another cluster's backup.
    other = start(lab, name="other", checksums=False)  # by another initdb
    others = beside(lab, chain, other, "hf2")
    error = others.daemon.error(f"BACKUP INTO LATEST IN '{chain.collection}'")
    assert error.sqlstate == "55000" and error.message.startswith("previous BACKUP belongs to cluster"), error
    chain.validate()
    chain.assert_restores(digest(source, skip_unlogged=True))


@pytest.mark.versions
@pytest.mark.parametrize("version", [16, 18])
@pytest.mark.parametrize("strategy", ["FILE_COPY", "WAL_LOG"])
def test_a_database_made_anew_under_its_number(lab, version, strategy):
    """t/006: nothing of the dropped database shows through."""
    source = start(lab, version=version)
    source.sql(f"CREATE DATABASE lakh OID = 100000 STRATEGY = {strategy}")
    source.sql("CREATE TABLE t1 AS SELECT generate_series(1, 5000) AS a", "lakh")
    chain = chain_of(lab, source)
    chain.full()
    source.sql("DROP DATABASE lakh")
    source.sql(f"CREATE DATABASE lakh OID = 100000 STRATEGY = {strategy}")
    before, pages = chain.layer()
    assert chain.last_change_source() == "WAL"
    chain.assert_restores(before, pages_of=pages)


@BOTH
def test_a_database_made_anew_when_the_wal_is_gone(lab, checksums):
    """The files that a database is copied from are older than the last layer, and so are their pages' LSNs."""
    source = start(lab, checksums=checksums, conf={"wal_keep_size": "0", "max_wal_size": "32MB", "min_wal_size": "32MB"})
    source.sql("CREATE DATABASE lakh OID = 100000 STRATEGY = FILE_COPY")
    # A catalog of the same path, changed: its pages must not survive the database.
    source.sql("CREATE TABLE t1 AS SELECT generate_series(1, 5000) AS a", "lakh")
    chain = chain_of(lab, source)
    chain.full(" WITH protect = false")
    source.sql("DROP DATABASE lakh")
    source.sql("CREATE DATABASE lakh OID = 100000 STRATEGY = FILE_COPY")
    for _ in range(4):
        source.sql("SELECT pg_switch_wal(); CHECKPOINT")
    for segment in sorted((source.data / "pg_wal").glob("0*"))[:-1]:
        segment.unlink()
    before, pages = chain.layer()
    assert chain.last_change_source() == "PAGE_LSN"
    chain.assert_restores(before, pages_of=pages)


@pytest.mark.versions
@pytest.mark.parametrize("version", [13, 17])
def test_wal_level_minimal_is_refused(lab, version):
    """t/007: such WAL lacks what changed."""
    source = start(lab, version=version, conf={"min_wal_size": "'160MB'"})
    source.sql("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'finch')")
    chain = chain_of(lab, source)
    chain.full(" WITH protect = false")
    source.stop()
    configuration = source.data / "postgresql.conf"
    kept = configuration.read_text()
    source.configure({"wal_level": "minimal", "max_wal_senders": "0"})
    source.start()
    source.sql("INSERT INTO t VALUES (2, 'gerbil'); BEGIN; CREATE TABLE loaded (a int); "
               "INSERT INTO loaded SELECT generate_series(1, 1000); COMMIT")
    source.stop()
    configuration.write_text(kept)
    source.start()
    error = chain.daemon.error(f"BACKUP INTO LATEST IN '{chain.collection}'")
    assert error.sqlstate == "55000" and "wal_level = minimal" in error.message, error
    assert "BACKUP INTO" in error.hint
    assert len(chain.layers()) == 1


def test_strange_files_in_the_data_directory_do_no_harm(lab):
    """t/009: names that the server's own tools give a meaning to, and files that end within a page."""
    source = start(lab)
    make_bank(source)
    chain = chain_of(lab, source)
    chain.full()
    file = source.value("SELECT pg_relation_filepath('accounts')", "bank")
    path = source.data / file
    strange = path.with_name(f"INCREMENTAL.{path.name}")
    strange.write_bytes(b"\x0d\x1f\xae\xd3" * 5)
    env.give(strange)
    source.sql("UPDATE accounts SET balance = 1 WHERE id = 1; CHECKPOINT", "bank")
    # The file system was full when the server added a page.
    with open(path, "ab") as table:
        table.write(b"\x07" * 100)
    before, pages = chain.layer()
    directory = chain.restore()
    assert (directory / file).with_name(strange.name).read_bytes() == strange.read_bytes()
    chain.assert_restores(before, pages_of=pages)
    source.sql("INSERT INTO accounts SELECT g, 1, 1 FROM generate_series(3000, 9000) g", "bank")
    before, pages = chain.layer()
    chain.assert_restores(before, pages_of=pages)


def test_what_a_restored_server_writes_stays_its_own(lab):
    """t/010: no file of a restored directory is one of the collection's or of another restore."""
    source = start(lab)
    make_bank(source)
    chain = chain_of(lab, source)
    chain.full()
    source.sql("UPDATE accounts SET balance = 1", "bank")
    chain.incremental()
    server = chain.recovered()
    assert [path for path in server.data.rglob("*") if path.is_file() and path.lstat().st_nlink != 1] == []
    server.start()
    server.sql("UPDATE accounts SET balance = 2; UPDATE customers SET name = 'nobody'", "bank")
    server.stop()
    chain.validate()
    chain.assert_restores(digest(source, skip_unlogged=True))


def make_sparse(source, table, segments, blocks, database="postgres"):
    """Lets the table end `blocks` behind so many GiB of holes: new pages, as an extension leaves them behind."""
    path = source.data / source.value(f"SELECT pg_relation_filepath('{table}')", database)
    source.stop()
    for segment in range(segments + 1):
        file = path.with_name(f"{path.name}.{segment}" if segment else path.name)
        size = (1 << 30) if segment < segments else blocks * 8192
        with open(file, "ab") as out:
            out.truncate(size)
        env.give(file)
    source.start()


@BOTH
@pytest.mark.long
def test_tables_over_one_segment_shrink_and_grow(lab, checksums):
    """t/011 with PostgreSQL's real segment size: cut within the second file, to within the first one, to nothing, and grown
    again; the visibility map's limit is counted in pages of the map."""
    source = start(lab, checksums=checksums)
    source.sql("CREATE TABLE t (id int, filler text); ALTER TABLE t ALTER filler SET STORAGE PLAIN")
    source.sql("CREATE TABLE neighbour AS SELECT generate_series(1, 2000) AS id")
    source.sql("INSERT INTO t SELECT g, repeat('x', 3000) FROM generate_series(1, 20) g")
    make_sparse(source, "t", 1, 10)

    def grow(first, last):
        source.sql(f"INSERT INTO t SELECT g, repeat('y', 3000) FROM generate_series({first}, {last}) g")

    def blocks():
        return int(source.value("SELECT pg_relation_size('t') / 8192"))
    # VACUUM leaves fewer than 1000 empty pages at the end of such a table where they are.
    grow(100, 2299)
    source.sql("VACUUM (FREEZE, TRUNCATE off) t")
    assert blocks() > 131072 + 1000
    chain = chain_of(lab, source)
    chain.full()
    source.sql("DELETE FROM t WHERE id >= 150")
    source.sql("VACUUM t")
    assert 131072 < blocks() < 131072 + 60
    _, pages = chain.layer()
    chain.assert_pages(pages, chain.layers()[-1])

    # Away from the second file, then into it again.
    source.sql("DELETE FROM t WHERE id >= 100")
    source.sql("VACUUM t")
    assert blocks() < 100
    _, in_middle = chain.layer()
    middle = chain.layers()[-1]
    make_sparse(source, "t", 1, 5)
    grow(500, 560)
    before, pages = chain.layer()
    chain.assert_pages(in_middle, middle)
    chain.assert_restores(before, pages_of=pages)
    chain.validate()
