"""RESTORE TABLE … WITH where: some of a table's rows. What the condition says must not reach further than that."""
import pytest

from harness.postgres import bin_directory
from .zoo import leftovers, make_zoo

COLLECTION = "nodelocal://self/archive"
DIGEST = "SELECT count(*) || ' ' || md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"

# What a user may have made, and lets everybody execute. The superuser's own are there, too.
TRAPS = """CREATE FUNCTION lend(what text) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$BEGIN EXECUTE what; RETURN true; END$$;
    CREATE FUNCTION plain(i int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM lend('CREATE TABLE trapped ()'); RETURN true; END$$;
    CREATE FUNCTION same(a int, b text) RETURNS boolean LANGUAGE sql AS 'SELECT plain(a)';
    CREATE OPERATOR === (LEFTARG = int, RIGHTARG = text, FUNCTION = same);
    CREATE DOMAIN trap AS int CHECK (plain(VALUE));
    CREATE TYPE tint AS ENUM ('1', '2');
    CREATE FUNCTION turned(tint) RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM plain(1); RETURN 1; END';
    CREATE CAST (tint AS int) WITH FUNCTION turned(tint) AS IMPLICIT;
    GRANT EXECUTE ON FUNCTION pg_read_file(text) TO PUBLIC;
    GRANT SELECT ON pg_authid TO PUBLIC;
    CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
    CREATE FOREIGN TABLE programs (line text) SERVER files OPTIONS (program 'touch {proof}');
    GRANT USAGE ON FOREIGN SERVER files TO PUBLIC; GRANT SELECT ON programs TO PUBLIC;"""

# Nobody is asked for the right to execute these: the planner estimates with them.
RANGES = """CREATE FUNCTION apart(a int, b int) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS
        $$BEGIN IF session_user LIKE 'holdfast_restore_%' THEN RAISE 'apart was called'; END IF; RETURN a - b; END$$;
    CREATE FUNCTION apart_too(a int, b int) RETURNS float8 LANGUAGE sql IMMUTABLE AS
        $$SELECT (a - b) / CASE WHEN session_user LIKE 'holdfast_restore_%' THEN 0 ELSE 1 END$$;
    CREATE TYPE reach AS RANGE (SUBTYPE = int, SUBTYPE_DIFF = apart); CREATE TYPE reach_too AS RANGE (SUBTYPE = int, SUBTYPE_DIFF = apart_too)"""


@pytest.fixture(scope="module")
def proof(module_lab):
    """A file that a condition would make, if it reached that far."""
    return module_lab.directory("reached", 0o777) / "proof"


@pytest.fixture(scope="module")
def backed_up(module_lab, proof):
    server = module_lab.postgres()
    make_zoo(server)
    server.sql(TRAPS.replace("{proof}", str(proof)), "zoo")
    # It works, where it may.
    server.sql("SELECT FROM programs", "zoo")
    proof.unlink()
    server.sql(RANGES, "zoo")
    server.sql("""CREATE TABLE reaches AS SELECT i AS id, reach(i, i + 10) AS s, reach_too(i, i + 10) AS t FROM generate_series(1, 200) i; ANALYZE reaches""", "zoo")
    server.sql("""CREATE EXTENSION citext;
        CREATE TABLE named (id int PRIMARY KEY, name citext, tags hstore, t tint DEFAULT '1');
        INSERT INTO named SELECT i, CASE i % 2 WHEN 0 THEN 'Anna' ELSE 'BERT' END, 'a=>1' FROM generate_series(1, 100) i;
        CREATE TABLE staff (id int PRIMARY KEY, boss int CONSTRAINT staff_boss REFERENCES staff, site text);
        INSERT INTO staff SELECT i, NULLIF(i / 10, 0), CASE WHEN i < 50 THEN 'a' ELSE 'b' END FROM generate_series(1, 100) i;
        CREATE TABLE private (id int, who text); INSERT INTO private SELECT i, 'x' FROM generate_series(1, 100) i;
        ALTER TABLE private ENABLE ROW LEVEL SECURITY; ALTER TABLE private FORCE ROW LEVEL SECURITY;
        CREATE POLICY none ON private USING (false);
        ALTER DATABASE zoo SET default_transaction_read_only = on; ALTER DATABASE zoo CONNECTION LIMIT 0;
        REVOKE ALL ON DATABASE zoo FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC""", "zoo")
    server.sql("ALTER ROLE ALL SET standard_conforming_strings = off")
    server.sql("CREATE DATABASE rescue")
    daemon = module_lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    server.sql("ALTER ROLE ALL RESET standard_conforming_strings")
    for setting in ("RESET default_transaction_read_only", "CONNECTION LIMIT -1"):
        server.sql(f"ALTER DATABASE zoo {setting}")
    return server, daemon


def statement(table, condition, options=""):
    return (f"RESTORE TABLE zoo.public.{table} FROM LATEST IN '{COLLECTION}' "
            f"WITH into_db = 'rescue', where = $filter${condition}$filter${options}")


def filtered(server, daemon, table, condition, options="", original=None):
    """Restores the rows, compares them with those of the live table, and removes the table."""
    row = daemon.sql(statement(table, condition, options)).one()
    expected = server.value(DIGEST.format(f"(SELECT * FROM {original or table} WHERE {condition}\n)"), "zoo")
    assert server.value(DIGEST.format(table), "rescue") == expected, condition
    assert row["rows"] == expected.split()[0] and int(row["rows"]) > 0, condition
    server.sql(f"DROP TABLE {table} CASCADE", "rescue")


def refused(daemon, table, condition, options=""):
    return daemon.error(statement(table, condition, options))


def test_rows_are_those_of_the_condition(backed_up):
    server, daemon = backed_up
    filtered(server, daemon, "toasted", "id % 3 = 0 AND body LIKE '%a%'")
    filtered(server, daemon, "toasted", "id > 5 -- and nothing else )")
    filtered(server, daemon, "toasted", r"body <> '\' AND (toasted.id = 7 OR toasted.id = (SELECT max(id) FROM toasted))")
    filtered(server, daemon, "reshaped", "c = 7 AND a <= 10")
    filtered(server, daemon, "private", "id < 10")
    # Generated columns, enums, domains: in the table's own terms, wherever the types are on the way.
    filtered(server, daemon, "orders", "cents > 450000 AND m = 'ok'::public.mood AND p > 100 AND orders.amount > 1",
             ", skip_missing_foreign_keys")
    # Partitions have the name of the table that was asked for.
    filtered(server, daemon, "parts", "parts.region = 'east' AND id < 700 OR id = 1999")
    filtered(server, daemon, "parts_west", "id < 700")
    # Not the rows of what inherits from it.
    filtered(server, daemon, "parent", "id < 5", original="ONLY parent")
    assert leftovers(server, daemon) == []


def test_nothing_fulfils_it(backed_up):
    server, daemon = backed_up
    row = daemon.sql(statement("toasted", "id < 0")).one()
    assert row["rows"] == "0" and server.value("SELECT count(*) FROM toasted", "rescue") == "0"
    row = daemon.sql(statement("no_columns", "true")).one()
    assert row["rows"] == "1"
    server.sql("DROP TABLE toasted, no_columns", "rescue")


def test_operators_of_extensions_mean_what_they_mean(backed_up):
    server, daemon = backed_up
    server.sql("CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE TYPE tint AS ENUM ('1', '2')", "rescue")
    filtered(server, daemon, "named", "name = 'ANNA' AND tags ? 'a'")
    # A function that changes something is not immutable, whoever has it.
    error = refused(daemon, "named", "public.skeys(tags) = 'a'")
    assert error.sqlstate == "0A000" and "set-returning functions are not allowed in WHERE" in error.message, error
    server.sql("DROP EXTENSION citext, hstore; DROP TYPE tint", "rescue")
    assert leftovers(server, daemon) == []


def test_rows_that_refer_to_rows_that_are_left_out(backed_up):
    server, daemon = backed_up
    filtered(server, daemon, "staff", "site = 'a'")
    error = refused(daemon, "staff", "site = 'b'")
    assert (error.sqlstate, error.message) == (
        "23503", 'cannot restore table "staff" with this filter: insert or update on table "staff" violates foreign key constraint '
        '"staff_boss"'), error
    assert "is not present in table" in error.detail and error.hint.startswith("Let the filter keep the rows"), error
    assert leftovers(server, daemon) == []


def test_what_a_condition_cannot_be(backed_up):
    server, daemon = backed_up
    for condition, state, message in (
            ("nope > 5", "42703", 'invalid filter for table "toasted": column "nope" does not exist'),
            ("id", "42804", 'invalid filter for table "toasted": argument of WHERE must be type boolean, not type integer'),
            ("max(id) > 5", "42803", 'invalid filter for table "toasted": aggregate functions are not allowed in WHERE'),
            ("id >", "42601", 'invalid filter for table "toasted": syntax error at or near ")"'),
            ("id > 5 ORDER BY id", "42601", 'invalid filter for table "toasted": syntax error at or near "ORDER"'),
            ("id = $1", "42P02", 'invalid filter for table "toasted": there is no parameter $1'),
            ("", "42601", "invalid filter in option where: it is empty"),
            ("true) OR (true", "42601", 'invalid filter in option where: ")" closes nothing'),
            ("true; DROP TABLE toasted", "42601", 'invalid filter in option where: it ends in ";", or is more than one statement'),
            ("true) TO PROGRAM 'true' --", "42601", 'invalid filter in option where: ")" closes nothing'),
            ("id IN (SELECT id FROM customers)", "0A000", 'invalid filter for table "toasted": it reads public.customers')):
        error = refused(daemon, "toasted", condition)
        assert (error.sqlstate, error.message) == (state, message), error
        assert error.hint, error
    error = refused(daemon, "toasted", "nope > 5")
    assert error.hint == "The columns of the table are: id, body.", error
    error = refused(daemon, "toasted", "id / 0 = 1")
    assert error.sqlstate == "22012", error
    for sequel, state, message in (
            (f"TABLE zoo.public.toasted, zoo.public.orders FROM LATEST IN '{COLLECTION}' WITH where = 'true'", "22023",
             "where can only be used for RESTORE TABLE with a single target table"),
            (f"TABLE zoo.public.* FROM LATEST IN '{COLLECTION}' WITH where = 'true'", "22023",
             "where can only be used for RESTORE TABLE with a single target table"),
            (f"TABLE zoo.public.toasted FROM LATEST IN '{COLLECTION}' WITH where = 'true', schema_only", "22023",
             'cannot use "where" option with schema_only, which restores no rows'),
            (f"DATABASE zoo FROM LATEST IN '{COLLECTION}' WITH where = 'true', new_db_name = 'x'", "22023",
             'cannot use "where" option when restoring database(s)'),
            (f"TABLE zoo.public.counter FROM LATEST IN '{COLLECTION}' WITH where = 'true', into_db = 'rescue'", "42809",
             'cannot use "where" option: "counter" is not a table with rows'),
            (f"FROM LATEST IN '{COLLECTION}' WITH where = 'true'", "0A000", "RESTORE option where is not supported yet")):
        error = daemon.error(f"RESTORE {sequel}")
        assert (error.sqlstate, error.message) == (state, message), error
    assert leftovers(server, daemon) == []


def test_a_condition_reaches_nothing(backed_up, proof):
    server, daemon = backed_up
    for condition, message in (
            ("lend($$CREATE TABLE trapped ()$$)", "it may not use function public.lend(text)"),
            ("plain(id)", "it may not use function public.plain(integer)"),
            ("id === 'x'::text", "it may not use function public.same(integer,text)"),
            ("id::trap > 0", "permission denied for function plain"),
            ("'1'::tint + 1 = 2", "it may not use function public.turned(public.tint)"),
            ("pg_read_file('PG_VERSION') = ''", "permission denied for function pg_read_file"),
            # The text of a query is seen by nobody before it runs.
            ("query_to_xml('SELECT FROM public.programs', true, true, '') IS NULL", "permission denied for function query_to_xml"),
            ("query_to_xmlschema('SELECT 1', true, true, '') IS NULL", "permission denied for function query_to_xmlschema"),
            ("table_to_xml(('public.' || 'programs')::regclass, true, true, '') IS NULL", "permission denied for function table_to_xml"),
            ("schema_to_xml_and_xmlschema('public', true, true, '') IS NULL", "permission denied for function schema_to_xml_and_xmlschema"),
            ("database_to_xml(true, true, '') IS NULL", "permission denied for function database_to_xml"),
            ("cursor_to_xml('c', 1, true, true, '') IS NULL", "permission denied for function cursor_to_xml"),
            ("EXISTS (SELECT FROM ts_stat('SELECT line::tsvector FROM public.programs'))", "permission denied for function ts_stat"),
            ("ts_rewrite('a'::tsquery, 'SELECT line::tsquery, line::tsquery FROM public.programs') IS NULL",
             "permission denied for function ts_rewrite"),
            ("EXISTS (SELECT FROM programs)", "it reads public.programs"),
            ("set_config('role', 'postgres', false) = 'postgres'", 'permission denied to set role "postgres"'),
            ("set_config('session_authorization', 'postgres', false) = ''", 'permission denied to set session authorization'),
            ("pg_terminate_backend((SELECT pid FROM pg_stat_activity WHERE usename = 'postgres' LIMIT 1))",
             "must be a superuser to terminate superuser process"),
            (f"lo_export(1, '{proof}') = 1", "permission denied for function lo_export")):
        error = refused(daemon, "toasted", condition)
        assert message in error.message, (condition, error)
    assert server.value("SELECT count(*) FROM pg_class WHERE relname IN ('trapped', 'toasted')", "rescue") == "0"
    assert not proof.exists()
    assert leftovers(server, daemon) == []


def test_functions_of_ranges_are_not_called(backed_up):
    server, daemon = backed_up
    server.sql(RANGES, "rescue")
    for condition in ("s && '[50, 60)'::public.reach", "t && '[50, 60)'::public.reach_too"):
        filtered(server, daemon, "reaches", condition)
    # In other places they are what they were.
    assert server.value("SELECT count(*) FROM reaches WHERE s && '[50, 60)'::reach AND t && '[50, 60)'::reach_too", "zoo") == "19"
    server.sql("DROP TYPE reach, reach_too; DROP FUNCTION apart, apart_too", "rescue")
    assert leftovers(server, daemon) == []


@pytest.mark.parametrize("version", (13, 15))
def test_what_superusers_keep_is_kept_without_the_backup_saying_so(lab, version):
    source = lab.postgres("source", version=version)
    proof = lab.directory("reached", 0o777) / "proof"
    source.sql("CREATE TABLE numbers AS SELECT generate_series(1, 10) AS id; DELETE FROM pg_init_privs")
    daemon = lab.holdfast(source, "backing_up")
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    daemon.stop()
    server = lab.postgres("live")
    server.sql("CREATE DATABASE rescue")
    io = daemon.io
    daemon = lab.holdfast(server, "restoring", start=False)
    daemon.io = io
    daemon.arguments += ["--pg-bin", str(bin_directory(version))]
    daemon.start()

    def restore(condition):
        return f"RESTORE TABLE postgres.public.numbers FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', where = $filter${condition}$filter$"

    for condition in ("pg_read_file('PG_VERSION') = ''", "pg_read_binary_file('PG_VERSION', 0, 1) = ''", "EXISTS (SELECT pg_ls_dir('.'))",
                      "EXISTS (SELECT FROM pg_ls_waldir())", "(pg_stat_file('PG_VERSION')).size > 0", "lo_import('PG_VERSION') = 1",
                      f"lo_export(1, '{proof}') = 1", "pg_reload_conf()", "EXISTS (SELECT FROM pg_hba_file_rules())",
                      "EXISTS (SELECT FROM pg_show_all_file_settings())", "pg_promote()", "query_to_xml('SELECT 1', true, true, '') IS NULL"):
        error = daemon.error(restore(condition))
        assert error.sqlstate == "42501" and "permission denied for function" in error.message, (condition, error)
    assert "permission denied for" in daemon.error(restore("EXISTS (SELECT FROM pg_authid WHERE rolpassword <> '')")).message
    assert daemon.sql(restore("id <= 5")).one()["rows"] == "5"
    assert leftovers(server, daemon) == []


def test_who_it_is_evaluated_as(backed_up):
    server, daemon = backed_up
    # Each of these is true for a role without rights only.
    condition = ("current_user LIKE 'holdfast_restore_%' AND session_user = current_user AND current_setting('is_superuser') = 'off' "
                 "AND NOT (SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication FROM pg_roles WHERE rolname = current_user) "
                 "AND NOT pg_has_role('pg_read_server_files', 'MEMBER') AND set_config('row_security', 'on', false) = 'on'")
    row = daemon.sql(statement("toasted", condition)).one()
    assert row["rows"] == "200"
    server.sql("DROP TABLE toasted", "rescue")
    # With owners and privileges, which the role has no part in.
    server.sql("CREATE ROLE gone")
    server.sql("DROP ROLE gone")
    row = daemon.sql(statement("toasted", "id <= 100", ", grants")).one()
    assert row["rows"] == "100"
    assert server.value("SELECT tableowner FROM pg_tables WHERE tablename = 'toasted'", "rescue") == "postgres"
    assert server.value("SELECT relacl IS NULL FROM pg_class WHERE relname = 'toasted'", "rescue") == "t"
    server.sql("DROP TABLE toasted", "rescue")
    assert leftovers(server, daemon) == []


def test_it_belongs_to_the_job(backed_up):
    server, daemon = backed_up
    daemon.restart("restore.objects_after_checks=pause@*")
    job = int(daemon.sql(statement("toasted", "id <= 50", ", detached")).value())
    daemon.wait_job(job, "paused")
    daemon.restart()
    daemon.sql(f"RESUME JOB {job}")
    daemon.wait_job(job)
    assert server.value("SELECT count(*) FROM toasted", "rescue") == "50"
    assert "where = 'id <= 50'" in daemon.job(job)["description"]
    server.sql("DROP TABLE toasted", "rescue")
    assert leftovers(server, daemon) == []


def test_killed_it_goes_on_with_the_same_rows(backed_up):
    server, daemon = backed_up
    for point in ("restore.objects_after_catalogs", "restore.objects_copy", "restore.objects_before_final"):
        daemon.restart(f"{point}=kill")
        try:
            job = daemon.detached(statement("parts", "id <= 30", ", detached"))
        except ConnectionError:
            job = None
        daemon.wait_killed()
        daemon.pause_point = None
        daemon.start()
        daemon.wait_job(int(job or daemon.jobs()[0]["job_id"]))
        assert server.sql("SELECT count(*), max(id) FROM parts", "rescue").rows == [["30", "30"]], point
        server.sql("DROP TABLE parts", "rescue")
        assert leftovers(server, daemon) == []
