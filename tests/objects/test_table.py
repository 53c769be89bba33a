"""RESTORE TABLE: single tables out of a cluster backup, into the running server."""
import pytest

from .zoo import blocks, dump, leftovers, make_zoo

COLLECTION = "nodelocal://self/archive"

ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"


@pytest.fixture(scope="module")
def backed_up(module_lab):
    server = module_lab.postgres()
    for role in ("alice", "mallory"):
        server.sql(f"CREATE ROLE {role} LOGIN")
    server.sql("GRANT CREATE ON DATABASE postgres TO alice")
    make_zoo(server)
    server.sql("CREATE TABLE alices (id int PRIMARY KEY, v text); INSERT INTO alices VALUES (1, 'a');"
               "ALTER TABLE alices OWNER TO alice; GRANT CREATE ON SCHEMA public TO alice, mallory;"
               "CREATE TABLE checked (id int CHECK (id > 0)); ALTER TABLE checked OWNER TO alice", "zoo")
    server.sql("CREATE DATABASE rescue")
    daemon = module_lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return server, daemon


def restore(daemon, tables, options="", database="zoo", **more):
    row = daemon.sql(f"RESTORE TABLE {tables} FROM LATEST IN '{COLLECTION}' {options}", database=database, **more).one()
    assert row["status"] == "succeeded"
    return row


def refused(daemon, tables, options="", **more):
    return daemon.error(f"RESTORE TABLE {tables} FROM LATEST IN '{COLLECTION}' {options}", **{"database": "zoo", **more})


def test_dropped_tables_come_back_as_they_were(backed_up):
    server, daemon = backed_up
    tables = ("customers", "orders", "odd", "toasted", "parts", "parts_east", "rooms", "reshaped", "counted", "no_columns",
              '"Größe und Maß"."Tab.elle mit ""Zitat"" drin"', "far", "unlogged_table")
    pattern = [f"-t{table}*" if table == "parts" else f"-t{table}" for table in tables]
    before = dump(server, "zoo", "--schema-only", *pattern)
    rows = {table: server.value(ROWS.format(table), "zoo") for table in tables if table not in ("far", "unlogged_table")}
    server.sql("DROP TABLE customers, orders, odd, toasted, parts, rooms, reshaped, counted, no_columns, unlogged_table CASCADE;"
               'DROP FOREIGN TABLE far; DROP TABLE "Größe und Maß"."Tab.elle mit ""Zitat"" drin"', "zoo")
    row = restore(daemon, ", ".join(t for t in tables if t != "parts_east"))
    assert int(row["rows"]) > 9_000
    after = dump(server, "zoo", "--schema-only", *pattern)
    assert set(blocks(after)) ^ set(blocks(before)) == set()
    for table, content in rows.items():
        assert server.value(ROWS.format(table), "zoo") == content, table
    assert server.value("SELECT count(*) FROM unlogged_table", "zoo") == "0"
    # The position of the sequences, and triggers, checks and the generated column at work.
    assert server.sql("INSERT INTO customers (name) VALUES ('next') RETURNING id, noted", "zoo").rows == [["2001", "t"]]
    assert server.sql("INSERT INTO orders (customer, amount) VALUES (3, 1.5) RETURNING id, cents", "zoo").rows == [["5001", "150"]]
    assert leftovers(server, daemon) == []


def test_into_another_database_schema_and_name(backed_up):
    server, daemon = backed_up
    # Types come along; the foreign key's table does not.
    error = refused(daemon, "orders", "WITH into_db = 'rescue'")
    assert (error.sqlstate, error.message[:50]) == ("42P01", 'cannot restore table "orders" without referenced t'), error
    assert '(or "skip_missing_foreign_keys" option)' in error.message
    restore(daemon, "zoo.public.orders", "WITH into_db = 'rescue', skip_missing_foreign_keys", database="postgres")
    assert server.value("SELECT count(*) FROM orders WHERE m = 'ok'", "rescue") == "5000"
    assert server.value("SELECT count(*) FROM pg_constraint WHERE contype = 'f'", "rescue") == "0"
    error = refused(daemon, "counted", "WITH into_db = 'rescue'")
    assert '(or "skip_missing_sequences" option)' in error.message, error
    restore(daemon, "counted", "WITH into_db = 'rescue', skip_missing_sequences, into_schema = 'Old Things', new_table_name = 'x'")
    assert server.value('SELECT count(*) FROM "Old Things".x', "rescue") == "10"
    error = refused(daemon, "customers", "WITH into_db = 'rescue'")
    assert "without referenced function" in error.message, error
    # Beside the live table: names of indexes and sequences give way.
    restore(daemon, "zoo.parts", "WITH new_table_name = 'parts_then', into_schema = 'then'", database="postgres")
    restore(daemon, "toasted", "WITH new_table_name = 'toasted_then'")
    assert server.value(ROWS.format("toasted_then"), "zoo") == server.value(ROWS.format("toasted"), "zoo")
    # One partition alone is a plain table.
    restore(daemon, "parts_west", "WITH into_db = 'rescue'")
    assert server.value("SELECT count(*) FROM parts_west", "rescue") == "1000"
    restore(daemon, '"Größe und Maß".*', "WITH into_db = 'rescue', schema_only")
    assert server.value("""SELECT count(*) FROM "Größe und Maß"."Tab.elle mit ""Zitat"" drin" """, "rescue") == "0"
    row = restore(daemon, "toasted", "WITH into_schema = 'checked', schema_only, verify_backup_table_data")
    assert row["rows"] == "200" and server.value("SELECT count(*) FROM checked.toasted", "zoo") == "0"
    server.sql("CREATE TYPE mood AS ENUM ('other')", "postgres")
    error = refused(daemon, "orders", "WITH into_db = 'postgres', skip_missing_foreign_keys")
    assert error.message == '"mood" is not compatible with type "mood" existing in cluster', error
    error = refused(daemon, "customers_id_seq", "WITH into_db = 'rescue'")
    assert error.message.startswith('cannot restore sequence "customers_id_seq" without referenced owner table'), error
    restore(daemon, "customers_id_seq, counter", "WITH into_db = 'rescue', skip_missing_sequence_owners")
    assert server.sql("SELECT last_value FROM customers_id_seq UNION ALL SELECT last_value FROM counter",
                      "rescue").rows == [["2000"], ["51"]]
    assert leftovers(server, daemon) == []


def test_refused_before_anything_is_made(backed_up):
    server, daemon = backed_up
    error = refused(daemon, "customers")
    assert (error.sqlstate, error.message) == ("42P07", 'relation "customers" already exists')
    error = refused(daemon, "customers", "WITH into_db = 'nowhere'")
    assert (error.sqlstate, error.message) == ("3D000", 'a database named "nowhere" needs to exist to restore table "customers"')
    error = refused(daemon, "nothing")
    assert error.message.startswith("failed to resolve targets in the BACKUP location"), error
    error = refused(daemon, "customers", "WITH verify_backup_table_data")
    assert error.message == "to set the verify_backup_table_data option, the schema_only option must be set"
    for statement, message in (
            ("DATABASE zoo", 'database "zoo" already exists'),
            ("DATABASE zoo, postgres", 'database "zoo" already exists')):
        error = daemon.error(f"RESTORE {statement} FROM LATEST IN '{COLLECTION}'")
        assert (error.sqlstate, error.message) == ("42P04", message)
    error = daemon.error(f"RESTORE DATABASE zoo FROM LATEST IN '{COLLECTION}' WITH into_db = 'x'")
    assert error.message == 'cannot use "into_db" option when restoring database(s)'
    error = daemon.error(f"RESTORE DATABASE zoo, postgres FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'x'")
    assert error.message == "new_db_name can only be used for RESTORE DATABASE with a single target database"
    assert leftovers(server, daemon) == []


def test_who_may(backed_up):
    server, daemon = backed_up
    # Over TCP: whoever comes through the Unix socket as the daemon's own OS user is an administrator.
    # The owner of a table, and of a database: what a backup's catalogs define would run with holdfast's rights.
    server.sql("CREATE DATABASE hers OWNER alice")
    for statement in ("TABLE zoo.public.alices", "DATABASE zoo"):
        error = daemon.error(f"RESTORE {statement} FROM LATEST IN '{COLLECTION}'", user="alice", tcp=True)
        assert (error.sqlstate, "restore databases and tables" in error.message) == ("42501", True), error
    # A member of holdfast_admin, who is no superuser: the table is hers.
    server.sql("CREATE ROLE holdfast_admin; GRANT holdfast_admin TO alice")
    server.sql("GRANT CREATE ON DATABASE rescue TO alice; GRANT ALL ON SCHEMA public TO alice", "rescue")
    restore(daemon, "zoo.public.alices", "WITH into_db = 'rescue'", user="alice", tcp=True)
    owner = "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relname = 'alices'"
    assert server.value(owner, "rescue") == "alice"
    server.sql("DROP TABLE alices", "rescue")
    # Owners and privileges only when asked for.
    server.sql("GRANT SELECT ON alices TO mallory; ALTER TABLE alices ALTER v SET DEFAULT 'later'", "zoo")
    restore(daemon, "zoo.public.alices", "WITH into_db = 'rescue'")
    assert server.value(owner, "rescue") == "postgres"
    server.sql("DROP TABLE alices", "rescue")
    restore(daemon, "zoo.public.alices", "WITH into_db = 'rescue', grants")
    assert server.value(owner, "rescue") == "alice"
    # Strangers: the storage of the host is for administrators.
    for statement in ("TABLE zoo.public.alices", "DATABASE zoo"):
        error = daemon.error(f"RESTORE {statement} FROM LATEST IN '{COLLECTION}'", user="mallory", tcp=True)
        assert error.sqlstate == "42501", error
    assert leftovers(server, daemon) == []
