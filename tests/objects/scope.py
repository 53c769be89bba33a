"""What a backup of databases or tables may hold, and what it may not."""

from harness import environment as env

MARKERS = {"mine": "pineapple-own-4711", "sibling": "papaya-sibling-4712", "stranger": "plum-stranger-4713"}


def marked_rows(marker, rows=2000):
    return f"SELECT g AS id, '{marker} ' || g AS t FROM generate_series(1, {rows}) g"


def make_marked(server):
    """Database `shop` with tables mine and sibling, database `other` with a table stranger: each row says where it is from."""
    for database in ("shop", "other"):
        server.sql(f"CREATE DATABASE {database}")
    server.sql(f"CREATE TABLE mine AS {marked_rows(MARKERS['mine'])}; ALTER TABLE mine ADD PRIMARY KEY (id);"
               f"CREATE TABLE sibling AS {marked_rows(MARKERS['sibling'])}; ALTER TABLE sibling ADD PRIMARY KEY (id);"
               "CREATE STATISTICS linked (mcv) ON id, t FROM sibling; ANALYZE", "shop")
    server.sql(f"CREATE TABLE stranger AS {marked_rows(MARKERS['stranger'])}; ANALYZE", "other")


def change_marked(server):
    """Changes to all three, of which WAL and files tell: in place, by rewrites, as full-page images, and in statistics."""
    for database, tables in (("shop", ("mine", "sibling")), ("other", ("stranger",))):
        for table in tables:
            marker = MARKERS[table]
            server.sql(f"UPDATE {table} SET t = '{marker} again ' || id WHERE id % 7 = 0;"
                       f"INSERT INTO {table} SELECT m + g, '{marker} more ' || g FROM generate_series(1, 400) g, "
                       f"(SELECT max(id) AS m FROM {table}) AS highest", database)
            server.sql(f"VACUUM FULL {table}", database)
            server.sql(f"CHECKPOINT; UPDATE {table} SET t = t || '!' WHERE id % 11 = 0; ANALYZE {table}", database)


def holding(root, text):
    """The objects below `root` in which the text is; of collections that are neither compressed nor encrypted."""
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def with_small_segments(server):
    """WAL segments of 1 MiB, which the server removes as soon as nothing holds them."""
    server.configure({"min_wal_size": "2MB", "max_wal_size": "8MB", "autovacuum": "off", "track_commit_timestamp": "on"})
    env.run(server.bin / "pg_resetwal", "-D", server.data, "--wal-segsize=1")
    return server.start()
