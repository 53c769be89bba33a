"""BACKUP TABLE: what is in it, that nothing else is, and how it comes back."""
import threading
import time

from harness.postgres import wait_until
from .scope import MARKERS, change_marked, holding, make_marked
from .zoo import blocks, dump, leftovers, make_zoo

COLLECTION = "nodelocal://self/archive"
ROWS = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"
UNRESOLVED = "failed to resolve targets specified in the BACKUP stmt: "


def backup(daemon, tables, onto="", collection=COLLECTION, options="", **more):
    row = daemon.sql(f"BACKUP TABLE {tables} INTO {onto} '{collection}' {options}", **more).one()
    assert row["status"] == "succeeded"


def restore(daemon, tables, options="", **more):
    row = daemon.sql(f"RESTORE TABLE {tables} FROM LATEST IN '{COLLECTION}' {options}", **more).one()
    assert row["status"] == "succeeded"


def shown(daemon, kind="table"):
    return [row[0] for row in daemon.sql(f"SELECT DISTINCT object_name FROM [SHOW BACKUP FROM LATEST IN '{COLLECTION}'] "
                                         f"WHERE object_type = '{kind}' ORDER BY 1").rows]


def test_tables_of_all_kinds_come_back(lab):
    server = lab.postgres()
    make_zoo(server)
    daemon = lab.holdfast(server)
    tables = ("customers", "orders", "odd", "toasted", "parts", "rooms", "reshaped", "counted", "no_columns",
              '"Größe und Maß"."Tab.elle mit ""Zitat"" drin"')
    pattern = [f"-t{table}*" if table == "parts" else f"-t{table}" for table in tables]
    before = dump(server, "zoo", "--schema-only", *pattern)
    rows = {table: server.value(ROWS.format(table), "zoo") for table in tables}
    backup(daemon, ", ".join(tables), database="zoo")
    assert daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{COLLECTION}'").rows == [["No problems found!"]]
    server.sql("DROP TABLE customers, orders, odd, toasted, parts, rooms, reshaped, counted, no_columns CASCADE;"
               'DROP TABLE "Größe und Maß"."Tab.elle mit ""Zitat"" drin"', "zoo")
    restore(daemon, ", ".join(tables), database="zoo")
    assert set(blocks(dump(server, "zoo", "--schema-only", *pattern))) ^ set(blocks(before)) == set()
    for table, content in rows.items():
        assert server.value(ROWS.format(table), "zoo") == content, table
    assert leftovers(server, daemon) == []


def test_nothing_else_is_in_it(marked):
    server, daemon = marked
    root = daemon.collection("archive")
    stop = threading.Event()
    # What rewrites the table itself in the very moment of the backup's end makes it try again.
    writer = threading.Thread(target=lambda: [(change_marked(server), time.sleep(2)) for _ in iter(stop.is_set, True)])
    writer.start()
    try:
        backup(daemon, "shop.mine", options="WITH compression = 'none'")
        time.sleep(3)
        backup(daemon, "shop.mine", "LATEST IN", options="WITH compression = 'none'")
    finally:
        stop.set()
        writer.join()
    assert holding(root, MARKERS["mine"])
    assert (holding(root, MARKERS["sibling"]), holding(root, MARKERS["stranger"])) == ([], [])
    assert shown(daemon) == ["mine"]
    assert shown(daemon, "database") == ["shop"] and shown(daemon, "schema") == ["public"]
    daemon.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}' WITH new_table_name = 'again'")
    assert server.value("SELECT count(*) >= 2000 AND bool_and(t LIKE 'pineapple%') FROM again", "shop") == "t"


def test_a_chain_brings_back_its_layers(marked):
    server, daemon = marked
    server.sql("CREATE TABLE parts (id int, t text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);"
               "INSERT INTO parts VALUES (1, 'first')", "shop")
    backup(daemon, "shop.mine, shop.parts")
    states = []
    changes = ("TRUNCATE mine; INSERT INTO mine VALUES (1, 'after truncation')", "ALTER TABLE mine ALTER id TYPE bigint",
               "VACUUM FULL mine; REINDEX TABLE mine", "ALTER TABLE mine ADD c text DEFAULT repeat('x', 5000)")
    for number, change in enumerate(changes, 2):
        for statement in change.split("; "):
            server.sql(statement, "shop")
        server.sql(f"CREATE TABLE parts_{number} PARTITION OF parts FOR VALUES FROM ({number}0) TO ({number}9);"
                   f"INSERT INTO parts VALUES ({number}1, 'more')", "shop")
        states.append([server.value(ROWS.format(table), "shop") for table in ("mine", "parts")])
        backup(daemon, "shop.mine, shop.parts", "LATEST IN")
    layers = [row[0] for row in daemon.sql(f"SELECT DISTINCT end_time FROM [SHOW BACKUP FROM LATEST IN '{COLLECTION}'] ORDER BY 1").rows]
    for number, (end, state) in enumerate(zip(layers[1:], states)):
        server.sql(f"CREATE DATABASE rescue{number}")
        daemon.sql(f"RESTORE TABLE shop.mine, shop.parts FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{end}' WITH into_db = 'rescue{number}'")
        assert [server.value(ROWS.format(table), f"rescue{number}") for table in ("mine", "parts")] == state
    server.amcheck()


def test_rewrites_while_it_runs(lab):
    """A transaction that rewrites the table is open when the backup begins, and ends while it runs: it must not be lost."""
    server = lab.postgres(conf={"autovacuum": "off"})
    make_marked(server)
    go = lab.root / "go"
    daemon = lab.holdfast(server, pause_point=f"backup.after_plan=stall:{go}@*")
    for end in ("COMMIT", "ROLLBACK"):
        go.unlink(missing_ok=True)
        with server.connect("shop") as writer:
            writer.query("BEGIN")
            writer.query("TRUNCATE mine")
            writer.query(f"INSERT INTO mine SELECT g, 'rewritten {end} ' || g FROM generate_series(1, 3000) g")
            server.sql("CHECKPOINT")
            job = daemon.detached(f"BACKUP TABLE shop.mine INTO '{COLLECTION}/{end}' WITH detached")
            wait_until(lambda: "planned " in daemon.log_text().rsplit("backup started", 1)[-1], 60, "the plan")
            writer.query(end)
        go.touch()
        daemon.wait_job(job)
        # The first attempt lacks what the transaction wrote before it began, and is not taken for good.
        assert "was made or rewritten when the backup began" in daemon.log_text()
        before = server.value(ROWS.format("mine"), "shop")
        name = f"from_{end.lower()}"
        daemon.sql(f"RESTORE TABLE shop.mine FROM LATEST IN '{COLLECTION}/{end}' WITH new_table_name = '{name}'")
        assert server.value(ROWS.format(name), "shop") == before


def test_names_and_patterns(marked):
    server, daemon = marked
    server.sql("CREATE SCHEMA s; CREATE TABLE s.one (id serial PRIMARY KEY, t text); INSERT INTO s.one (t) VALUES ('a');"
               "CREATE TABLE s.two AS SELECT 2 AS id; CREATE SEQUENCE s.counter; CREATE VIEW s.seen AS SELECT 1 AS x;"
               "CREATE SCHEMA empty; CREATE TABLE public.two AS SELECT 1 AS id", "shop")
    one = ["one", "one_id_seq"]  # a sequence counts as a table in SHOW BACKUP
    for pattern, tables in (("s.*", ["counter", *one, "two"]), ("shop.s.*", ["counter", *one, "two"]), ("s.one, mine", ["mine", *one]),
                            ("*", ["mine", "sibling", "two"]), ("shop.s.two", ["two"]), ("s.seen", ["seen"]), ("shop.mine", ["mine"]),
                            ("shop.*", ["counter", "mine", *one, "seen", "sibling", "two"])):
        backup(daemon, pattern, database="shop")
        assert shown(daemon) == tables, pattern
    # Of a database that was taken whole by its pattern, it comes back.
    daemon.sql(f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'again'")
    assert dump(server, "again") == dump(server, "shop")
    with daemon.connect(database="shop") as session:
        session.query("SET search_path = s, public")
        assert session.query(f"BACKUP two INTO '{COLLECTION}'").one()["status"] == "succeeded"
    assert shown(daemon, "schema") == ["s"]

    for pattern, state, what in (("nothing", "42P01", 'table "nothing"'), ("shop.nothing.mine", "42P01", 'table "shop.nothing.mine"'),
                                 ("nothing.*", "3D000", 'database "nothing"'), ("shop.nothing.*", "3F000", 'schema "nothing"'),
                                 ("nowhere.s.t", "42P01", 'table "nowhere.s.t"'), ("shop.empty.*", "42P01", 'table "shop.empty.*"'),
                                 ("pg_catalog.pg_class", "42P01", 'table "pg_catalog.pg_class"')):
        error = daemon.error(f"BACKUP TABLE {pattern} INTO '{COLLECTION}/none'", database="shop")
        assert (error.sqlstate, error.message) == (state, f"{UNRESOLVED}{what} does not exist"), pattern
    assert not daemon.collection("archive/none").exists()


def test_what_it_cannot_bring_back_is_refused(marked):
    server, daemon = marked
    backup(daemon, "shop.mine, other.stranger")
    restore_from = f"FROM LATEST IN '{COLLECTION}'"
    assert (daemon.error(f"RESTORE {restore_from}").message
            == "full cluster RESTORE can only be used on full cluster BACKUP files")
    assert (daemon.error(f"RESTORE DATABASE shop {restore_from} WITH new_db_name = 'again'").message
            == "cannot RESTORE DATABASE from a backup of individual tables (use SHOW BACKUP to determine available tables)")
    assert (daemon.error(f"RESTORE TABLE shop.* {restore_from}").message
            == "cannot RESTORE <database>.* from a backup of individual tables (use SHOW BACKUP to determine available tables)")
    assert 'table "shop.sibling" does not exist' in daemon.error(f"RESTORE TABLE shop.sibling {restore_from}").message
    # A schema's pattern means what the backup has of it.
    server.sql("CREATE DATABASE rescue")
    daemon.sql(f"RESTORE TABLE shop.public.* {restore_from} WITH into_db = 'rescue'")
    assert server.sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'", "rescue").rows == [["mine"]]
    daemon.sql(f"RESTORE TABLE other.stranger {restore_from} WITH into_db = 'rescue'")
    assert server.value(ROWS.format("stranger"), "rescue") == server.value(ROWS.format("stranger"), "other")
    assert leftovers(server, daemon) == []


def test_all_layers_have_one_scope(marked):
    server, daemon = marked
    backup(daemon, "shop.mine")
    again = f"INTO LATEST IN '{COLLECTION}'"
    assert daemon.error(f"BACKUP TABLE shop.mine, shop.sibling {again}").message == 'previous backup does not contain table "shop.public.sibling"'
    assert daemon.error(f"BACKUP DATABASE shop {again}").message == 'previous backup does not contain the complete database "shop"'
    assert daemon.error(f"BACKUP TABLE other.stranger {again}").message == 'previous backup does not contain table "other.public.stranger"'
    assert daemon.error(f"BACKUP {again}").message == "cannot append a cluster backup to a backup of specific tables or databases"
    backup(daemon, "shop.mine, shop.sibling")
    assert (daemon.error(f"BACKUP TABLE shop.mine {again}").message
            == 'previous backup contains table "shop.public.sibling", which this one leaves out')
    server.sql("DROP TABLE sibling", "shop")
    backup(daemon, "shop.mine", "LATEST IN")
    server.sql("ALTER TABLE mine RENAME TO mine_2", "shop")
    backup(daemon, "shop.mine_2", "LATEST IN")
    restore(daemon, "shop.mine_2", "WITH new_table_name = 'again'")
    assert server.value(ROWS.format("again"), "shop") == server.value(ROWS.format("mine_2"), "shop")


def test_only_owners_and_administrators(marked):
    server, daemon = marked
    server.sql("CREATE ROLE owner LOGIN; CREATE ROLE stranger LOGIN")
    server.sql("ALTER TABLE mine OWNER TO owner; GRANT SELECT ON mine TO stranger", "shop")
    daemon.sql(f"CREATE EXTERNAL CONNECTION prepared AS '{COLLECTION}'")
    daemon.sql("GRANT USAGE ON EXTERNAL CONNECTION prepared TO owner, stranger")
    for user in ("owner", "postgres"):
        daemon.sql("BACKUP TABLE shop.mine INTO 'external://prepared'", user=user, tcp=True)
    error = daemon.error("BACKUP TABLE shop.mine INTO 'external://prepared'", user="stranger", tcp=True)
    assert (error.sqlstate, error.message) == ("42501", "user stranger does not have BACKUP privilege on relation mine")
    for tables, what in (("shop.mine, shop.sibling", "relation sibling"), ("shop.public.*", "relation sibling"), ("shop.*", "database shop")):
        error = daemon.error(f"BACKUP TABLE {tables} INTO 'external://prepared'", user="owner", tcp=True)
        assert (error.sqlstate, error.message) == ("42501", f"user owner does not have BACKUP privilege on {what}")


def test_encrypted(marked):
    server, daemon = marked
    options = "WITH encryption_passphrase = 'correct horse battery staple'"
    backup(daemon, "shop.mine", options=options + ", compression = 'none'")
    change_marked(server)
    backup(daemon, "shop.mine", "LATEST IN", options=options + ", compression = 'none'")
    root = daemon.collection("archive")
    assert [holding(root, text) for text in (*MARKERS.values(), "HFPACK")] == [[]] * 4
    restore(daemon, "shop.mine", options + ", new_table_name = 'again'")
    assert server.value(ROWS.format("again"), "shop") == server.value(ROWS.format("mine"), "shop")


VIEWS = """CREATE TABLE goods (id int PRIMARY KEY, price numeric, note text);
    INSERT INTO goods SELECT i, i * 1.5, 'pomegranate ' || i FROM generate_series(1, 100) i;
    CREATE VIEW cheap AS SELECT id, price FROM goods WHERE price < 30;
    COMMENT ON VIEW cheap IS 'not much';
    CREATE VIEW cheapest AS SELECT min(price) AS price FROM cheap;
    CREATE MATERIALIZED VIEW sums AS SELECT id % 7 AS k, sum(price) AS s FROM goods GROUP BY 1;
    CREATE UNIQUE INDEX sums_k ON sums (k)"""
DEFINITION = "SELECT pg_get_viewdef('{0}') || coalesce(obj_description('{0}'::regclass, 'pg_class'), '')"


def test_views_are_definitions_over_tables_that_are_there(lab):
    server = lab.postgres()
    server.sql("CREATE DATABASE shop")
    server.sql("CREATE DATABASE rescue")
    server.sql(VIEWS, "shop")
    daemon = lab.holdfast(server)
    backup(daemon, "shop.public.cheap, shop.public.cheapest", options="WITH compression = 'none'")
    assert shown(daemon) == ["cheap", "cheapest"]
    assert holding(daemon.collection("archive"), "pomegranate") == []
    before = {name: server.value(DEFINITION.format(name), "shop") for name in ("cheap", "cheapest")}
    server.sql("DROP VIEW cheapest, cheap", "shop")
    restore(daemon, "shop.public.cheap, shop.public.cheapest")
    assert {name: server.value(DEFINITION.format(name), "shop") for name in before} == before
    assert server.value("SELECT price FROM cheapest", "shop") == "1.5"
    # What it reads must be there, or come along.
    error = daemon.error(f"RESTORE TABLE shop.public.cheap FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'")
    assert (error.sqlstate, error.message) == (
        "42P01", 'cannot restore view "cheap" without restoring referenced table (or "skip_missing_views" option)'), error
    error = daemon.error(f"RESTORE TABLE shop.public.cheap FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', skip_missing_views")
    assert error.message == 'nothing is left to restore without view "cheap"', error
    backup(daemon, "shop.public.goods, shop.public.cheap")
    restore(daemon, "shop.public.cheap, shop.public.goods", "WITH into_db = 'rescue'")
    assert server.value("SELECT count(*) FROM cheap", "rescue") == "19"
    assert leftovers(server, daemon) == []


def test_a_chain_of_views_has_the_definitions_of_its_layers(lab):
    server = lab.postgres()
    server.sql("CREATE DATABASE shop")
    server.sql(VIEWS, "shop")
    daemon = lab.holdfast(server)
    backup(daemon, "shop.public.cheap, shop.public.sums", options="WITH revision_history")
    server.sql("CREATE OR REPLACE VIEW cheap AS SELECT id, price FROM goods WHERE price < 6", "shop")
    server.sql("UPDATE goods SET price = 1 WHERE id = 50; REFRESH MATERIALIZED VIEW sums", "shop")
    between = server.value("SELECT clock_timestamp()")
    server.sql("SELECT pg_sleep(0.01)")
    server.sql("CREATE OR REPLACE VIEW cheap AS SELECT id, price FROM goods WHERE price < 3; REFRESH MATERIALIZED VIEW sums", "shop")
    backup(daemon, "shop.public.cheap, shop.public.sums", "LATEST IN", options="WITH revision_history")
    full = daemon.fulls("archive")[0]
    server.sql("DROP VIEW cheapest, cheap; DROP MATERIALIZED VIEW sums", "shop")
    end = daemon.sql(f"SHOW BACKUP FROM '{full}' IN '{COLLECTION}'").dicts()[0]["end_time"]
    for moment, price in ((f"'{end}'", "30"), (f"'{between}'", "6"), (None, "3")):
        as_of = f" AS OF SYSTEM TIME {moment}" if moment else ""
        daemon.sql(f"RESTORE TABLE shop.public.cheap, shop.public.sums FROM LATEST IN '{COLLECTION}'{as_of}")
        assert f"< ({price})" in server.value(DEFINITION.format("cheap"), "shop")
        # A materialized view is filled from what is there now, by whoever may read that.
        server.sql("REFRESH MATERIALIZED VIEW sums", "shop")
        assert server.value("SELECT sum(s) FROM sums", "shop") == server.value("SELECT sum(price) FROM goods", "shop")
        assert server.value("SELECT count(*) FROM pg_index WHERE indrelid = 'sums'::regclass", "shop") == "1"
        server.sql("DROP VIEW cheap; DROP MATERIALIZED VIEW sums", "shop")
    assert leftovers(server, daemon) == []
