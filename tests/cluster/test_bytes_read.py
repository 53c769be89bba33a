"""What an incremental layer reads of the data directory follows what changed, not what is there."""
import pytest

from harness.chain import Chain

from .test_block_map import our_map


def relation_bytes(server):
    return sum(path.stat().st_size for path in server.data.glob("base/*/*") if path.name.isdigit())


def whole_bytes(server):
    """Of the files that are always taken whole: everything in the data directory but main forks, WAL and what is left out."""
    total = 0
    for path in server.data.rglob("*"):
        top = path.relative_to(server.data).parts[0]
        if path.is_file() and top not in ("pg_wal", "pg_replslot", "pg_subtrans", "pg_stat_tmp", "postmaster.pid", "postmaster.opts"):
            if not path.name.isdigit() or top not in ("base", "global"):
                total += path.stat().st_size
    return total


@pytest.mark.parametrize("where", ["id % 4000 = 0", "id <= 1000", "false"], ids=["scattered", "clustered", "nothing"])
def test_reads_what_changed_and_what_is_always_whole(lab, where):
    source = lab.postgres(conf={"autovacuum": "off", "wal_keep_size": "'1GB'"})
    source.sql("CREATE TABLE big AS SELECT g AS id, repeat('x', 200) AS v FROM generate_series(1, 400000) g; "
               "CREATE INDEX ON big (id)")
    source.sql("VACUUM big")
    chain = Chain(lab, source, lab.holdfast(source))
    chain.full()
    full = chain.layers()[0]
    assert int(full["read_bytes"]) >= relation_bytes(source) > 80_000_000
    source.sql(f"UPDATE big SET v = repeat('y', 200) WHERE {where}")
    chain.incremental()
    layer = chain.layers()[-1]
    start, end = (f"{p >> 32:X}/{p & 0xFFFFFFFF:X}" for p in (int(one["start"]["position"]) for one in (full, layer)))
    _, changed, _ = our_map(source, start, end)
    bound = 1.2 * (len(changed) * 8192 + whole_bytes(source))
    assert int(layer["read_bytes"]) <= bound, f"{layer['read_bytes']} bytes read, at most {bound:.0f}; {len(changed)} blocks changed"
    # The bound itself is far from reading everything.
    assert bound < relation_bytes(source) / 4
