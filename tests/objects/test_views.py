"""RESTORE TABLE of views, and of tables whose functions are missing in the target database."""
import pytest

from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"

SHOP = """CREATE FUNCTION place(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
    CREATE FUNCTION ok(i int) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT i > 0';
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TABLE goods (id int PRIMARY KEY, price numeric, kind text);
    INSERT INTO goods SELECT i, i * 1.5, CASE i % 2 WHEN 0 THEN 'x' ELSE 'y' END FROM generate_series(1, 100) i;
    CREATE VIEW cheap AS SELECT id, price FROM goods WHERE price < 30;
    COMMENT ON VIEW cheap IS 'not much';
    CREATE VIEW cheapest AS SELECT min(price) AS price FROM cheap;
    CREATE VIEW placed AS SELECT id, place(id) AS p FROM goods;
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER cheap_keep INSTEAD OF DELETE ON cheap FOR EACH ROW EXECUTE FUNCTION keep();
    CREATE MATERIALIZED VIEW kinds AS SELECT kind, count(*) AS n FROM goods GROUP BY kind;
    CREATE UNIQUE INDEX kinds_kind ON kinds (kind);
    CREATE MATERIALIZED VIEW all_kinds AS SELECT sum(n) AS n FROM kinds;
    CREATE TABLE uses (id int PRIMARY KEY, a int DEFAULT place(4), g int GENERATED ALWAYS AS (place(id)) STORED,
        CONSTRAINT uses_ok CHECK (ok(id)), EXCLUDE USING btree (place(id) WITH =));
    CREATE INDEX uses_place ON uses (place(id));
    CREATE STATISTICS uses_stats ON (place(id)), a FROM uses;
    CREATE TRIGGER uses_note BEFORE INSERT ON uses FOR EACH ROW EXECUTE FUNCTION note();
    INSERT INTO uses SELECT generate_series(1, 50);
    CREATE TABLE parted (id int, g int DEFAULT place(2), CHECK (ok(id))) PARTITION BY RANGE (id);
    CREATE TABLE a_part PARTITION OF parted FOR VALUES FROM (0) TO (100);
    CREATE INDEX parted_place ON parted (place(id));
    CREATE TRIGGER parted_note BEFORE INSERT ON parted FOR EACH ROW EXECUTE FUNCTION note();
    INSERT INTO parted SELECT generate_series(1, 50);
    CREATE TABLE secret (id int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
    CREATE POLICY secret_ok ON secret USING (ok(id));
    CREATE TABLE split (id int) PARTITION BY HASH (place(id))"""


@pytest.fixture(scope="module")
def backed_up(module_lab):
    server = module_lab.postgres()
    server.sql("CREATE DATABASE shop")
    server.sql(SHOP, "shop")
    server.sql("CREATE DATABASE rescue")
    daemon = module_lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return server, daemon


@pytest.fixture
def rescue(backed_up):
    server, daemon = backed_up
    yield server, daemon
    server.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", "rescue")
    assert leftovers(server, daemon) == []


def restore(daemon, tables, options=""):
    result = daemon.sql(f"RESTORE TABLE {tables} FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'{options}", database="shop")
    assert result.one()["status"] == "succeeded"
    return "\n".join(text for _, text in result.notices)


def refused(daemon, tables, options=""):
    return daemon.error(f"RESTORE TABLE {tables} FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue'{options}", database="shop")


def view(server, name, database="rescue"):
    return server.sql(f"""SELECT relkind, pg_get_viewdef(oid), obj_description(oid, 'pg_class'), array(SELECT pg_get_triggerdef(t.oid)
        FROM pg_trigger t WHERE tgrelid = c.oid), array(SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = c.oid)
        FROM pg_class c WHERE relname = '{name}' AND relnamespace = 'public'::regnamespace""", database).rows


def relations(server):
    return [row[0] for row in server.sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
                                         "AND relkind IN ('r', 'p', 'v', 'm') ORDER BY 1", "rescue").rows]


def test_views_come_with_their_tables(rescue):
    server, daemon = rescue
    server.sql("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "rescue")
    names = ("goods", "cheap", "cheapest", "kinds", "all_kinds")
    assert "left out" not in restore(daemon, ", ".join(names))
    for name in names[1:]:
        assert view(server, name) == view(server, name, "shop"), name
        content = f"SELECT string_agg(v::text, ',' ORDER BY v::text) FROM {name} v"
        assert server.value(content, "rescue") == server.value(content, "shop"), name


def test_a_view_alone_reads_what_is_there(rescue):
    server, daemon = rescue
    restore(daemon, "goods")
    server.sql("DELETE FROM goods WHERE id > 2", "rescue")
    server.sql("CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "rescue")
    restore(daemon, "cheap", ", new_table_name = 'cheap then', into_schema = 'views'")
    assert server.value('SELECT count(*) FROM views."cheap then"', "rescue") == "2"
    # It is filled without rights on the table that is somebody's already.
    notices = restore(daemon, "kinds")
    assert "materialized view kinds is not filled: permission denied for table goods; refresh it later" in notices, notices
    server.sql("REFRESH MATERIALIZED VIEW kinds", "rescue")
    assert server.value("SELECT count(*) FROM kinds", "rescue") == "2"
    error = refused(daemon, "kinds")
    assert (error.sqlstate, error.message) == ("42P07", 'relation "kinds" already exists'), error
    server.sql("DROP SCHEMA views CASCADE", "rescue")


def test_what_a_view_lacks(rescue):
    server, daemon = rescue
    error = refused(daemon, "cheapest")
    assert (error.sqlstate, error.message) == (
        "42P01", 'cannot restore view "cheapest" without restoring referenced table (or "skip_missing_views" option)'), error
    assert "It reads public.cheap, which is not restored" in error.detail, error
    # One that reads what is left out is left out, too.
    notices = restore(daemon, "uses, cheapest, cheap, kinds", ", skip_missing_views, skip_missing_udfs")
    for name, lack in (("cheap", "public.goods"), ("cheapest", "public.cheap"), ("kinds", "public.goods")):
        assert f'view "{name}" is left out: {lack} is not restored and does not exist in database "rescue"' in notices, notices
    assert relations(server) == ["uses"]
    error = refused(daemon, "cheap", ", skip_missing_views")
    assert (error.sqlstate, error.message) == ("42P01", 'nothing is left to restore without view "cheap"'), error
    # A function.
    error = refused(daemon, "goods, placed")
    assert error.sqlstate == "42704" and error.message.startswith('cannot restore table "placed" without referenced function '), error
    assert error.message.endswith('(or "skip_missing_udfs" option)') and "public.place(integer)" in error.detail, error
    for option in ("skip_missing_udfs", "skip_missing_views"):
        notices = restore(daemon, "goods, placed", f", {option}")
        assert 'view "placed" is left out: public.place(integer) is not restored' in notices, notices
        assert relations(server) == ["goods", "uses"]
        server.sql("DROP TABLE goods", "rescue")
    server.sql("CREATE FUNCTION place(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 3'", "rescue")
    restore(daemon, "goods, placed")
    assert server.value("SELECT sum(p) FROM placed", "rescue") == "15150"


def test_functions_that_a_table_lacks(rescue):
    server, daemon = rescue
    for table in ("uses", "parted"):
        error = refused(daemon, table)
        assert error.sqlstate == "42704" and '(or "skip_missing_udfs" option)' in error.message, error
        assert "does not exist in database" in error.detail and error.hint.startswith("Create it first"), error
    notices = restore(daemon, "uses, parted", ", skip_missing_udfs")
    for part in ("index uses_place", "constraint uses_ok", "constraint uses_place_excl", "generated column g", "the default of column a",
                 "statistics object uses_stats", "trigger uses_note"):
        assert f'{part} of table "uses" is left out' in notices, notices
    for part in ("index parted_place", "the default of column g", "trigger parted_note", "constraint parted_id_check"):
        assert f'{part} of table "parted" is left out' in notices, notices
    # Values stay what they were, and everything else is there.
    assert server.sql("SELECT count(*), sum(a), sum(g) FROM uses", "rescue").rows == [["50", "400", "2550"]]
    assert server.sql("SELECT count(*), sum(g) FROM parted", "rescue").rows == [["50", "200"]]
    assert server.sql("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'uses'::regclass", "rescue").rows == [["uses_pkey"]]
    assert server.value("SELECT count(*) FROM pg_trigger", "rescue") == "0"
    server.sql("INSERT INTO uses (id, g) VALUES (-1, 7); INSERT INTO parted VALUES (99)", "rescue")


def test_what_is_never_left_out(rescue):
    _, daemon = rescue
    for table, part in (("secret", "policy secret_ok"), ("split", "the partition key")):
        for options in ("", ", skip_missing_udfs"):
            error = refused(daemon, table, options)
            assert error.sqlstate == "42704" and "skip_missing_udfs" not in error.message, error
            assert f"which {part} uses, does not exist" in error.detail, error
