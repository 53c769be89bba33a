"""SHOW BACKUP SCHEMAS, WITH privileges, WITH debug_ids: what a backup holds, in words."""
import threading
import time

import pytest

from harness.postgres import wait_until
from harness.wire import SqlError
from .zoo import blocks, dump, leftovers, make_zoo

COLLECTION = "nodelocal://self/archive"
SCHEMAS = f"SHOW BACKUP SCHEMAS FROM LATEST IN '{COLLECTION}'"
OBJECTS = ["database_name", "parent_schema_name", "object_name", "object_type", "backup_type", "start_time", "end_time", "size_bytes", "rows",
           "is_full_cluster", "regions"]
# In a database, but no objects of a backup: nothing of SHOW BACKUP stands for them.
NOT_LISTED = ("CREATE EXTENSION", "CREATE PUBLICATION", "ALTER PUBLICATION", "CREATE SERVER", "CREATE FOREIGN DATA WRAPPER", "SELECT pg_catalog.lo_create",
              "SET ", "SELECT pg_catalog.set_config", "REFRESH MATERIALIZED VIEW", "COMMENT ON")


@pytest.fixture(scope="module")
def backed_up(module_lab):
    server = module_lab.postgres()
    make_zoo(server)
    server.sql("CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN")
    server.sql("CREATE DATABASE other OWNER alice")
    server.sql("GRANT SELECT ON customers TO alice WITH GRANT OPTION; GRANT UPDATE (name) ON customers TO bob; ALTER TABLE orders OWNER TO alice", "zoo")
    daemon = module_lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return server, daemon


def test_create_statements_are_those_of_pg_dump(backed_up):
    server, daemon = backed_up
    result = daemon.sql(SCHEMAS)
    assert [name for name, _ in result.columns] == OBJECTS + ["create_statement"]
    rows = result.dicts()
    told = set()
    for row in rows:
        if row["database_name"] == "zoo" and row["create_statement"]:
            told |= set(blocks("\n".join(line for line in row["create_statement"].splitlines() if not line.startswith("--"))))
    there = set(blocks(dump(server, "zoo", "--schema-only", "--no-owner", "--no-privileges", "--no-comments")))
    assert told - there == set()
    missing = {block for block in there - told if not block.startswith(NOT_LISTED)}
    assert missing == set(), missing
    one = {(row["database_name"], row["object_name"]): row["create_statement"] for row in rows}
    assert one[None, "other"].startswith("CREATE DATABASE other ")
    customers = one["zoo", "customers"]
    for part in ("CREATE TABLE public.customers (", "CREATE INDEX customers_twice", "CREATE TRIGGER customers_note", "CREATE RULE customers_keep",
                 "CREATE POLICY customers_all", "CREATE STATISTICS public.customers_stats", "ADD CONSTRAINT customers_pkey PRIMARY KEY"):
        assert part in customers, part
    assert "FOREIGN KEY (customer) REFERENCES public.customers(id)" in one["zoo", "orders"]
    assert one["zoo", "mood"].startswith("CREATE TYPE public.mood AS ENUM")
    assert leftovers(server, daemon) == []


def test_each_layer_as_it_was(backed_up):
    server, daemon = backed_up
    daemon.sql("BACKUP INTO 'nodelocal://self/chain'")
    server.sql("CREATE TABLE later (id int PRIMARY KEY); ALTER TABLE counted ADD more text", "zoo")
    daemon.sql("BACKUP INTO LATEST IN 'nodelocal://self/chain'")
    rows = daemon.sql("SHOW BACKUP SCHEMAS FROM LATEST IN 'nodelocal://self/chain'").dicts()
    counted = [(row["backup_type"], "more text" in row["create_statement"]) for row in rows if row["object_name"] == "counted"]
    assert counted == [("full", False), ("incremental", True)]
    assert [row["backup_type"] for row in rows if row["object_name"] == "later"] == ["incremental"]
    server.sql("DROP TABLE later; ALTER TABLE counted DROP more", "zoo")


def test_privileges_and_ids(backed_up):
    server, daemon = backed_up
    result = daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH privileges")
    assert [name for name, _ in result.columns] == OBJECTS + ["privileges", "owner"]
    rows = {(row["database_name"], row["object_name"]): row for row in result.dicts()}
    granted = rows["zoo", "customers"]["privileges"]
    assert "GRANT SELECT ON" in granted and "TO alice WITH GRANT OPTION" in granted, granted
    assert rows["zoo", "orders"]["owner"] == "alice" and rows[None, "other"]["owner"] == "alice"
    result = daemon.sql(f"SHOW BACKUP SCHEMAS FROM LATEST IN '{COLLECTION}' WITH debug_ids, privileges, check_files, skip size")
    assert [name for name, _ in result.columns] == [
        "database_name", "database_id", "parent_schema_name", "parent_schema_id", "object_name", "object_id", *OBJECTS[3:],
        "create_statement", "privileges", "owner", "file_bytes"]
    assert dict(result.columns)["object_id"] == "int8"
    row = next(row for row in result.dicts() if (row["database_name"], row["object_name"]) == ("zoo", "customers"))
    assert [row["database_id"], row["parent_schema_id"], row["object_id"]] == server.sql(
        "SELECT d.oid, 'public'::regnamespace::oid, 'customers'::regclass::oid FROM pg_database d WHERE datname = current_database()", "zoo").rows[0]
    assert (row["size_bytes"], row["rows"]) == ("0", "0")


def test_who_may_and_what_is_left(backed_up):
    server, daemon = backed_up
    error = daemon.error(SCHEMAS, user="alice", tcp=True)
    assert (error.sqlstate, "see the definitions in backups" in error.message) == ("42501", True), error
    # A statement that is cancelled on the way; a daemon that is killed.
    with daemon.connect() as connection:
        caught = []

        def show():
            try:
                connection.query(SCHEMAS)
            except (SqlError, ConnectionError) as problem:
                caught.append(problem)
        for end in (connection.cancel, daemon.kill9):
            thread = threading.Thread(target=show)
            thread.start()
            wait_until(lambda: any("show-" in path for path in leftovers(server, daemon)), 60, "the workshop")
            time.sleep(0.2)
            end()
            thread.join(30)
            if end == daemon.kill9:
                daemon.start()
            wait_until(lambda: leftovers(server, daemon) == [], 60, "nothing to be left")
        assert len(caught) == 2 and caught[0].sqlstate == "57014", caught


@pytest.mark.parametrize("version", (13, 18))
def test_versions(lab, version):
    server = lab.postgres(version=version)
    server.sql("CREATE DATABASE bank")
    server.sql("CREATE TABLE t (id serial PRIMARY KEY, v text DEFAULT 'x'); CREATE INDEX ON t (lower(v)); CREATE VIEW w AS SELECT id FROM t", "bank")
    daemon = lab.holdfast(server, arguments=["--pg-bin", "/usr/lib/postgresql/15/bin"])
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    if version == 18:
        # No pg_dump that could read it.
        error = daemon.error(SCHEMAS)
        assert (error.sqlstate, error.message) == ("58P01", "could not find pg_dump and pg_restore of PostgreSQL 18"), error
        return
    one = {row["object_name"]: row["create_statement"] for row in daemon.sql(SCHEMAS).dicts()}
    assert "CREATE TABLE public.t (" in one["t"] and "ADD CONSTRAINT t_pkey" in one["t"] and one["w"].startswith("CREATE VIEW public.w")
    assert leftovers(server, daemon) == []
