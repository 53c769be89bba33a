"""A random workload: every kind of change to a cluster's files, chosen by a seed, with backups in between and under way.

A run is repeated by its seed as far as the server's and the backups' timing allow. Every layer says in its manifest at which WAL
position it ends; what must come out is the pages of a copy from before the first layer that WAL has brought to that position.
"""
import random
import time

from .chain import Chain, Reference, check_visibility, compare_pages
from .digest import assert_same, digest
from .postgres import wait_until
from .wire import SqlError

CONF = {
    "autovacuum": "off", "max_prepared_transactions": "10", "wal_keep_size": "'8GB'", "shared_buffers": "4MB",
    "checkpoint_timeout": "30s", "max_wal_size": "128MB", "temp_buffers": "1MB",
}
# What a change may be answered with: locked, in use, not possible as things are.
REFUSALS = ("55P03", "55006", "0A000", "55000")
METHODS = ("btree (id)", "hash (id)", "gin (tags)", "gist (place)", "spgist (place)", "brin (id)", "btree (lower(v))")


class Workload:
    """Changes at random. `log` says what was done, for the report of a failure."""

    def __init__(self, lab, seed, version, checksums, log):
        self.random = random.Random(seed)
        self.log = log
        self.version = version
        self.source = lab.postgres(version=version, checksums=checksums, conf=CONF)
        self.source.sql(f"CREATE TABLESPACE fast LOCATION '{lab.directory('space')}'")
        self.source.sql("CREATE DATABASE work")
        self.source.stop()
        self.chain = Chain(lab, self.source, None)
        self.reference = Reference(self.chain)
        self.chain.before_removal = self.reference.keep_wal
        self.source.start()
        self.tables = {"work": []}  # database -> names
        self.indexes = {}           # (database, table) -> names
        self.prepared = []          # (database, gid)
        self.number = 0
        self.made_by_wal = []       # OIDs of databases whose files were logged page by page, and of copies of these
        for _ in range(4):
            self.create_table()

    # -- choosing

    def name(self, kind):
        self.number += 1
        return f"{kind}{self.number}"

    def database(self):
        return self.random.choice(sorted(self.tables))

    def table(self):
        """(database, table), or None when the database has none."""
        database = self.database()
        return (database, self.random.choice(self.tables[database])) if self.tables[database] else (database, None)

    def sql(self, text, database):
        self.log.append(f"{database}: {text}")
        try:
            # What a prepared transaction has locked is left alone.
            with self.source.connect(database) as session:
                session.query("SET lock_timeout = '200ms'")
                session.query(text, timeout=120)
            return True
        except SqlError as error:
            if error.sqlstate not in REFUSALS:
                raise
            self.log.append(f"  {error.sqlstate}")
            return False

    def rows(self, first=1, last=3000):
        return self.random.randint(first, last)

    # -- what can happen; each is one kind of change

    def create_table(self):
        database, name = self.database(), self.name("t")
        space = self.random.choice(("", "", " TABLESPACE fast"))
        kind = self.random.choice(("", "", "", "UNLOGGED "))
        if self.sql(f"CREATE {kind}TABLE {name} (id int, v text, tags int[], place point){space}", database):
            self.tables[database].append(name)
            self.indexes[database, name] = []
            self.insert_into(database, name)

    def insert_into(self, database, name):
        width = self.random.choice((5, 60, 500, 3000))
        rows = self.rows(1, max(10, 300_000 // (width + 60)))
        self.sql(f"INSERT INTO {name} SELECT g, repeat(md5((g * {self.rows()})::text), {width} / 32 + 1), ARRAY[g % 50, g], "
                 f"point(g, g % 100) FROM generate_series(1, {rows}) g", database)

    def on_table(self, text):
        database, table = self.table()
        if table:
            self.sql(text.replace("TABLE_", table), database)

    def insert(self):
        database, table = self.table()
        if table:
            self.insert_into(database, table)

    def update(self):
        n, m = self.rows(2, 50), self.rows()
        self.on_table(f"UPDATE TABLE_ SET v = 'u{m}', id = id + {self.random.choice((0, 1))} WHERE id % {n} = 0")

    def delete(self):
        n = self.rows(2, 30)
        self.on_table(f"DELETE FROM TABLE_ WHERE id % {n} = 0")

    def shrink(self):
        self.on_table("DELETE FROM TABLE_ WHERE ctid >= (SELECT ('(' || max((ctid::text::point)[0]::int) / 2 || ',0)')::tid FROM TABLE_)")
        self.on_table("VACUUM TABLE_")

    def lock_rows(self):
        """Multixacts, and locks that clear a bit of the visibility map."""
        n = self.rows(2, 50)
        self.on_table(f"BEGIN; SELECT 1 FROM TABLE_ WHERE id % {n} = 0 FOR KEY SHARE; SAVEPOINT a; "
                      f"SELECT 1 FROM TABLE_ WHERE id % {n} = 0 FOR UPDATE; COMMIT")

    def truncate(self):
        self.on_table(self.random.choice(("TRUNCATE TABLE_", "BEGIN; TRUNCATE TABLE_; ROLLBACK",
                                          "BEGIN; TRUNCATE TABLE_; INSERT INTO TABLE_ VALUES (1, 'again'); COMMIT")))

    def drop_table(self):
        database, table = self.table()
        if table and len(self.tables[database]) > 2 and self.sql(f"DROP TABLE {table}", database):
            self.tables[database].remove(table)

    def vacuum(self):
        self.on_table(self.random.choice(("VACUUM TABLE_", "VACUUM (FREEZE) TABLE_", "VACUUM (TRUNCATE off) TABLE_",
                                          "VACUUM FULL TABLE_", "ANALYZE TABLE_")))

    def create_index(self):
        database, table = self.table()
        if table:
            name, how = self.name("i"), self.random.choice(("", "CONCURRENTLY ")) if not self.prepared else ""
            if self.sql(f"CREATE INDEX {how}{name} ON {table} USING {self.random.choice(METHODS)}", database):
                self.indexes[database, table].append(name)

    def drop_index(self):
        database, table = self.table()
        if table and self.indexes[database, table]:
            name = self.random.choice(self.indexes[database, table])
            if self.sql(f"DROP INDEX {name}", database):
                self.indexes[database, table].remove(name)

    def cluster(self):
        database, table = self.table()
        if table:
            name = self.name("c")
            if self.sql(f"CREATE INDEX {name} ON {table} (id)", database):
                self.indexes[database, table].append(name)
                self.sql(f"CLUSTER {table} USING {name}", database)

    def reindex(self):
        self.on_table("REINDEX TABLE TABLE_")

    def rewrite(self):
        self.on_table(f"ALTER TABLE TABLE_ ALTER id TYPE {self.random.choice(('int', 'bigint'))}")

    def move_table(self):
        self.on_table(f"ALTER TABLE TABLE_ SET TABLESPACE {self.random.choice(('fast', 'pg_default'))}")

    def change_persistence(self):
        self.on_table(f"ALTER TABLE TABLE_ SET {self.random.choice(('LOGGED', 'UNLOGGED'))}")

    def subtransactions(self):
        parts = ["BEGIN"]
        for i in range(self.rows(2, 70)):
            end = self.random.choice((f"RELEASE s{i}", f"ROLLBACK TO s{i}"))
            parts.append(f"SAVEPOINT s{i}; INSERT INTO TABLE_ (id, v) VALUES ({i}, 'sub'); {end}")
        made = self.name("in_sub")
        parts.append(f"SAVEPOINT x; CREATE TABLE {made} AS SELECT generate_series(1, 500) AS id; ROLLBACK TO x")
        parts.append(self.random.choice(("COMMIT", "ROLLBACK")))
        self.on_table("; ".join(parts))

    def roll_back(self):
        name = self.name("never")
        self.on_table(f"BEGIN; CREATE TABLE {name} AS SELECT * FROM TABLE_; UPDATE TABLE_ SET v = 'never'; ROLLBACK")

    def prepare(self):
        database, table = self.table()
        if table and len(self.prepared) < 3 and table not in self.unlogged_or_prepared(database):
            gid = self.name("p")
            change = self.random.choice((f"UPDATE {table} SET v = 'prepared' WHERE id % 9 = 0",
                                         f"INSERT INTO {table} (id) SELECT generate_series(1, 500)",
                                         f"CREATE TABLE {self.name('made')} AS SELECT generate_series(1, 900) AS id"))
            if self.sql(f"BEGIN; {change}; PREPARE TRANSACTION '{gid}'", database):
                self.prepared.append((database, gid))

    def unlogged_or_prepared(self, database):
        return {row[0] for row in self.source.sql("SELECT relname FROM pg_class WHERE relpersistence = 'u'", database).rows}

    def finish_prepared(self):
        if self.prepared:
            database, gid = self.prepared.pop(self.random.randrange(len(self.prepared)))
            self.sql(f"{self.random.choice(('COMMIT', 'COMMIT', 'ROLLBACK'))} PREPARED '{gid}'", database)

    def create_database(self):
        if len(self.tables) >= 4 or self.prepared:
            return
        name, template = self.name("d"), self.database()
        strategy = ""
        if self.version >= 15:
            chosen = self.random.choice(("wal_log", "file_copy"))
            strategy = f" STRATEGY {chosen}"
        space = self.random.choice(("", " TABLESPACE fast"))
        if self.sql(f"CREATE DATABASE {name} TEMPLATE {template}{strategy}{space}", "postgres"):
            oids = dict(self.source.sql("SELECT datname, oid FROM pg_database").rows)
            # Replay copies the template's files as replay has left them.
            if "wal_log" in strategy or oids[template] in self.made_by_wal:
                self.made_by_wal.append(oids[name])
            self.tables[name] = list(self.tables[template])
            for table in self.tables[name]:
                self.indexes[name, table] = list(self.indexes[template, table])

    def drop_database(self):
        names = [name for name in sorted(self.tables) if name != "work" and name not in {d for d, _ in self.prepared}]
        if names:
            name = self.random.choice(names)
            if self.sql(f"DROP DATABASE {name}", "postgres"):
                del self.tables[name]

    def move_database(self):
        names = [name for name in sorted(self.tables) if name not in {d for d, _ in self.prepared}]
        if names and self.version >= 13:
            self.sql(f"ALTER DATABASE {self.random.choice(names)} SET TABLESPACE {self.random.choice(('fast', 'pg_default'))}",
                     "postgres")

    def large_object(self):
        self.sql(f"SELECT lo_from_bytea(0, repeat('big', {self.rows()})::bytea)", self.database())

    def sequence(self):
        name = self.name("s")
        self.sql(f"CREATE SEQUENCE {name}; SELECT count(nextval('{name}')) FROM generate_series(1, 40)", self.database())

    def checkpoint(self):
        self.sql("CHECKPOINT", "postgres")

    def switch_wal(self):
        self.sql("SELECT pg_switch_wal()", "postgres")

    def crash(self):
        self.log.append("crash")
        self.source.kill9()
        self.source.start()
        wait_until(self.source.ready, 60, "recovery after the crash")

    def restart(self):
        self.log.append("restart")
        self.source.stop()
        self.source.start()

    def fail_over(self):
        self.log.append("fail over")
        self.chain.fail_over()

    COMMON = (insert, insert, insert, update, update, update, delete, delete, shrink, shrink, lock_rows, truncate, vacuum, vacuum,
              vacuum, create_index, cluster, reindex, rewrite, move_table, change_persistence, subtransactions, roll_back, prepare,
              finish_prepared, create_table, drop_table, drop_index, large_object, sequence, checkpoint, switch_wal)
    RARE = (create_database, create_database, drop_database, move_database, crash, restart)

    def step(self):
        """One change. Not a failover: no backup may be running then."""
        self.random.choice(self.RARE if self.random.random() < 0.12 else self.COMMON)(self)

    # -- layers

    def take_layer(self):
        """An incremental layer, half of the time while changes go on."""
        chain = self.chain
        if self.random.random() < 0.15:
            self.fail_over()
        if self.random.random() < 0.5:
            self.log.append("-- layer")
            chain.incremental()
            return
        self.log.append("-- layer begins")
        job = chain.daemon.detached(f"BACKUP INTO LATEST IN '{chain.collection}' WITH detached")
        for _ in range(self.random.randint(1, 6)):
            self.step()
        chain.daemon.wait_job(job, timeout=180)
        self.log.append("-- layer ended")

    # -- what must come out

    def check(self, layer):
        """The restored layer has the pages and rows of the reference at its end, and sound tables and indexes."""
        restored = self.chain.recovered(layer)
        expected = self.reference.recovered(layer["stop"])
        # Replay leaves the maps of databases that were logged page by page empty: PostgreSQL logs them as pages with a hole.
        compare_pages(expected.data, restored.data, *(f"--without-maps-of={oid}" for oid in self.made_by_wal))
        digests = []
        for server in (expected, restored):
            server.start()
            for gid, database in server.sql("SELECT gid, database FROM pg_prepared_xacts ORDER BY 1").rows:
                server.sql(f"COMMIT PREPARED '{gid}'", database)
            digests.append(digest(server, skip_unlogged=True, skip_sequences=True))
            if server is restored:
                check_visibility(server)
                server.amcheck()
            server.stop()
        assert_same(*digests)
        for server in (restored, expected):
            self.chain.forget(server)


def run(lab, seed, version, checksums, layers, seconds, restores, log):
    """A chain of at most so many layers, taken in at most so many seconds; the last and others of it are checked."""
    work = Workload(lab, seed, version, checksums, log)
    chain = work.chain
    chain.daemon = lab.holdfast(work.source, log_level="info")
    for _ in range(20):
        work.step()
    chain.full()
    began = time.monotonic()
    taken = 0
    while taken < layers and time.monotonic() - began < seconds:
        for _ in range(work.random.randint(0, 25)):
            work.step()
        work.take_layer()
        taken += 1
    all_layers = chain.layers()
    # Of layers that end at one moment AS OF SYSTEM TIME means the last.
    different = [a for a, b in zip(all_layers[1:], all_layers[2:] + [None]) if b is None or a["end_time_us"] != b["end_time_us"]]
    others = different[:-1]
    chosen = [different[-1]] + work.random.sample(others, min(restores - 1, len(others)))
    for layer in chosen:
        log.append(f"checking {layer['subdirectory']}, which ends at {layer['stop']}")
        work.check(layer)
    chain.validate()
    return all_layers
