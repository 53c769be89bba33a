"""Attacks on a restore of single objects: by who owned them once, or anybody else of the live server. None gains anything."""
import pytest

from harness.postgres import wait_until
from harness.wire import SqlError
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"

# What runs with a superuser's rights makes alice one. Index functions must be immutable, and may only read; what they call may not.
EVIL = """CREATE FUNCTION {0}grab(i int) RETURNS int LANGUAGE plpgsql AS $$BEGIN
        BEGIN EXECUTE 'ALTER ROLE alice SUPERUSER'; EXCEPTION WHEN insufficient_privilege THEN NULL; END; RETURN i; END$$;
    CREATE FUNCTION {0}ok(i int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RETURN {0}grab(i) > 0; END$$;
    CREATE FUNCTION {0}place(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN {0}grab(i); END$$;
    CREATE FUNCTION {0}fire() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM {0}grab(1); RETURN NULL; END$$;"""
SHOP = EVIL.format("public.") + """
    CREATE FUNCTION public.lend(what text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS 'BEGIN EXECUTE what; END';
    CREATE DOMAIN public.positive AS int CHECK (public.ok(VALUE));
    CREATE TABLE public.guarded (id int CONSTRAINT guarded_ok CHECK (public.ok(id)));
    CREATE TABLE public.typed (p public.positive);
    CREATE TABLE public.late (id int);
    INSERT INTO public.guarded SELECT generate_series(1, 20); 
    INSERT INTO public.typed SELECT generate_series(1, 20); INSERT INTO public.late SELECT generate_series(-5, 20);
    ALTER TABLE public.late ADD CONSTRAINT late_ok CHECK (id > 0) NOT VALID;
    CREATE MATERIALIZED VIEW public.seen AS SELECT public.place(id) AS id FROM public.guarded;
    GRANT SELECT ON public.guarded TO mallory"""
INDEXED = EVIL.format("public.") + """
    CREATE TABLE public.indexed (id int);
    INSERT INTO public.indexed SELECT generate_series(1, 20);
    CREATE INDEX indexed_place ON public.indexed (public.place(id));
    CREATE STATISTICS public.indexed_stats ON (public.place(id)), id FROM public.indexed"""
CAST = EVIL.format("public.") + """
    CREATE TYPE public.mood AS ENUM ('1', '2');
    CREATE FUNCTION public.number(public.mood) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN public.grab(1); END';
    CREATE CAST (public.mood AS int) WITH FUNCTION public.number(public.mood) AS IMPLICIT;
    CREATE TABLE public.places (id int PRIMARY KEY); INSERT INTO public.places VALUES (1);
    CREATE TABLE public.moody (m public.mood REFERENCES public.places); INSERT INTO public.moody VALUES ('1')"""
GENERATED = EVIL.format("public.") + """
    CREATE TABLE public.made (id int, g int GENERATED ALWAYS AS (public.place(id)) STORED);
    INSERT INTO public.made SELECT generate_series(1, 20)"""
ARMED = """CREATE TABLE t AS SELECT generate_series(1, 20) AS id;
    CREATE FUNCTION stop() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'an event trigger fired'; END$$;
    CREATE EVENT TRIGGER armed_start ON ddl_command_start EXECUTE FUNCTION stop();
    CREATE EVENT TRIGGER armed_always ON ddl_command_end EXECUTE FUNCTION stop();
    CREATE EVENT TRIGGER armed_off ON sql_drop EXECUTE FUNCTION stop();
    ALTER EVENT TRIGGER armed_off DISABLE; ALTER EVENT TRIGGER armed_always ENABLE ALWAYS"""
SETTINGS = ("session_preload_libraries = 'no such library'", "default_transaction_read_only = on", "role = alice",
            """search_path = "it's; DROP", "a,b", "say ""hi"" too", public""", "application_name = 'x; y'")


@pytest.fixture
def shop(lab):
    """alice owns the database "shop" and what is in it, and may make things in "rescue"; bob is an administrator, and no superuser."""
    server = lab.postgres(conf={"autovacuum": "off"})
    server.sql("CREATE ROLE holdfast_admin; CREATE ROLE alice LOGIN; CREATE ROLE mallory LOGIN;"
               "CREATE ROLE bob LOGIN IN ROLE holdfast_admin")
    for database, content in (("shop", SHOP), ("indexed", INDEXED), ("made", GENERATED), ("moody", CAST)):
        server.sql(f"CREATE DATABASE {database} OWNER alice")
        server.sql("GRANT CREATE ON SCHEMA public TO alice", database)
        server.sql(content, database, user="alice")
    server.sql("COMMENT ON DATABASE shop IS 'it''s a shop'; ")
    server.sql("ALTER DATABASE shop CONNECTION LIMIT 7")
    server.sql("CREATE DATABASE rescue")
    server.sql("GRANT CREATE ON SCHEMA public TO alice; GRANT CREATE ON DATABASE rescue TO alice, mallory, bob", "rescue")
    # What tables of "shop" need is there, and still hers.
    server.sql(EVIL.format("public."), "rescue", user="alice")
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return server, daemon


def no_superuser(server):
    return server.sql("SELECT rolname FROM pg_roles WHERE rolsuper AND rolname <> 'postgres'").rows == []


def restore(daemon, what, options=""):
    return daemon.sql(f"RESTORE {what} FROM LATEST IN '{COLLECTION}' {options}").one()


def stalled(daemon, lab, point, statement):
    """A detached job that waits at the point, and what lets it go on."""
    go = lab.root / "go"
    go.unlink(missing_ok=True)
    daemon.restart(f"{point}=stall:{go}")
    before = daemon.log_text().count(point)
    job = daemon.detached(statement)
    wait_until(lambda: daemon.log_text().count(point) > before, 90, point)
    return job, go


def fails(server, database, user, *statements):
    """Each is refused to the user."""
    for statement in statements:
        with pytest.raises((SqlError, ConnectionError)):
            server.sql(statement, database, user=user)


def hidden(server, kind):
    catalog, name = {"database": ("pg_database", "datname"), "schema": ("pg_namespace", "nspname")}[kind]
    return server.value(f"SELECT {name} FROM {catalog} WHERE {name} LIKE 'holdfast_restore_%'",
                        "postgres" if kind == "database" else "rescue")


def test_code_of_a_database_gets_nobodys_rights(shop):
    server, daemon = shop
    for options in ("", ", grants"):
        restore(daemon, "DATABASE shop", f"WITH new_db_name = 'shop2'{options}")
        assert no_superuser(server), options
        owner = "alice" if options else "postgres"
        assert server.sql("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace",
                          "shop2").rows == [[owner]]
        assert server.sql("SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
                          "shop2").rows == [[owner]]
        # What ran with its owner's rights does not run with another's.
        assert server.value("SELECT prosecdef FROM pg_proc WHERE proname = 'lend'", "shop2") == ("t" if options else "f")
        assert server.value("SELECT has_table_privilege('mallory', 'guarded', 'SELECT')", "shop2") == ("t" if options else "f")
        assert server.sql("SELECT conname, convalidated FROM pg_constraint WHERE contype = 'c' AND oid > 16384 ORDER BY 1",
                          "shop2").rows == [["guarded_ok", "t"], ["late_ok", "f"], ["positive_check", "t"]]
        assert server.value("SELECT count(*) FROM seen", "shop2") == "20"
        assert server.sql("""SELECT datconnlimit, shobj_description(oid, 'pg_database'), pg_get_userbyid(datdba) FROM pg_database
            WHERE datname = 'shop2'""").rows == [["7", "it's a shop", owner]]
        with pytest.raises(SqlError, match="violates check constraint"):
            server.sql("INSERT INTO late VALUES (-1)", "shop2", user="alice" if options else "postgres")
        server.sql("DROP DATABASE shop2")
    # PostgreSQL runs functions of indexes by itself, as the table's owner.
    error = daemon.error(f"RESTORE DATABASE indexed FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'indexed2'")
    assert error.sqlstate == "42501" and "of it runs function public.place(integer)" in error.message, error
    restore(daemon, "DATABASE indexed", "WITH new_db_name = 'indexed2', grants")
    server.sql("ANALYZE", "indexed2")
    for database, part in (("made", "a generated column of it runs function public.place(integer)"),
                           ("moody", "a cast for a foreign key of it runs function public.number(public.mood)")):
        error = daemon.error(f"RESTORE DATABASE {database} FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'made2'")
        assert error.sqlstate == "42501" and part in error.message, error
    assert no_superuser(server) and leftovers(server, daemon) == []


def test_functions_that_wait_for_a_table(shop):
    server, daemon = shop
    into = "WITH into_db = 'rescue'"
    restore(daemon, "TABLE shop.public.guarded", into)
    assert no_superuser(server)
    assert server.value("SELECT convalidated FROM pg_constraint WHERE conname = 'guarded_ok'", "rescue") == "t"
    # PostgreSQL would run it as postgres at some time.
    error = daemon.error(f"RESTORE TABLE indexed.public.indexed FROM LATEST IN '{COLLECTION}' {into}")
    assert error.sqlstate == "42501" and "runs function public.place(integer)" in error.message, error
    restore(daemon, "TABLE indexed.public.indexed", into + ", grants")
    assert server.value("SELECT tableowner FROM pg_tables WHERE tablename = 'indexed'", "rescue") == "alice"
    error = daemon.error(f"RESTORE TABLE made.public.made FROM LATEST IN '{COLLECTION}' {into}")
    assert error.sqlstate == "42501" and "a generated column" in error.message, error
    # A type that looks the same.
    server.sql("CREATE DOMAIN public.positive AS int CHECK (public.ok(VALUE))", "rescue", user="alice")
    error = daemon.error(f"RESTORE TABLE shop.public.typed FROM LATEST IN '{COLLECTION}' {into}")
    assert error.sqlstate == "42501" and "type public.positive" in error.message, error
    assert no_superuser(server) and leftovers(server, daemon) == []


def test_hidden_database_is_out_of_reach(shop, lab):
    server, daemon = shop
    server.sql("CREATE DATABASE plain OWNER alice")
    server.sql("COMMENT ON DATABASE plain IS 'it''s plain'; CREATE TABLE public.t AS SELECT 1 AS id", "plain")
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    job, go = stalled(daemon, lab, "restore.objects_before_final",
                      f"RESTORE DATABASE plain FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'plain2', grants, detached")
    name = hidden(server, "database")
    fails(server, "postgres", "alice", f"COMMENT ON DATABASE {name} IS '-1; ALTER ROLE alice SUPERUSER; --'",
          f"ALTER DATABASE {name} CONNECTION LIMIT 10", f"DROP DATABASE {name}",
          f"ALTER DATABASE {name} SET session_preload_libraries = 'x'")
    fails(server, name, "alice", "SELECT 1")
    go.touch()
    daemon.wait_job(job)
    assert no_superuser(server)
    assert server.value("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'plain2'") == "it's plain"


def test_staging_schema_is_out_of_reach(shop, lab):
    server, daemon = shop
    server.sql("ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO alice, PUBLIC", "rescue")
    # Of her own database she may say with which role its sessions begin.
    server.sql("ALTER DATABASE rescue OWNER TO alice; ALTER DATABASE rescue SET role = alice;"
               "ALTER DATABASE rescue SET default_transaction_read_only = on")
    # Before rows are written: a trigger for TRUNCATE would fire in holdfast's session.
    job, go = stalled(daemon, lab, "restore.objects_after_definitions",
                      f"RESTORE TABLE shop.public.guarded FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', grants, detached")
    name = hidden(server, "schema")
    fails(server, "rescue", "alice",
          f"CREATE TRIGGER t BEFORE TRUNCATE ON {name}.guarded FOR EACH STATEMENT EXECUTE FUNCTION public.fire()",
          f"ALTER TABLE {name}.guarded ADD g int CHECK (public.ok(g))", f"SELECT FROM {name}.guarded",
          f"CREATE TABLE {name}.mine (id int)", f"CREATE FUNCTION {name}.length(int) RETURNS int LANGUAGE sql AS 'SELECT 1'")
    go.touch()
    daemon.wait_job(job)
    assert no_superuser(server)
    assert server.sql("SELECT tableowner, has_table_privilege('mallory', 'guarded', 'SELECT') FROM pg_tables WHERE tablename = 'guarded'",
                      "rescue").rows == [["alice", "t"]]
    assert leftovers(server, daemon) == []


def test_schemas_of_others_are_left_alone(shop, lab):
    server, daemon = shop
    statement = f"RESTORE TABLE shop.public.guarded FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', detached"
    planted = "SELECT count(*) FROM pg_tables WHERE schemaname LIKE 'holdfast_restore_%' AND tablename = 'planted'"
    for end in ("succeeded", "canceled"):
        job, go = stalled(daemon, lab, "restore.objects_before_final", statement)
        for number in ("8", "9"):
            name = f"holdfast_restore_{job}_{number}"
            server.sql(f"CREATE SCHEMA {name}; COMMENT ON SCHEMA {name} IS 'public'; CREATE TABLE {name}.planted (id int)",
                       "rescue", user="mallory")
        if end == "succeeded":
            go.touch()
        else:
            daemon.sql(f"CANCEL JOB {job}")
        daemon.wait_job(job, end)
        assert server.value(planted, "rescue") == "2"
        assert server.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename = 'planted'", "rescue") == "0"
        there = server.value("SELECT count(*) FROM pg_tables WHERE tablename = 'guarded'", "rescue")
        assert there == ("1" if end == "succeeded" else "0")
        server.sql(f"DROP SCHEMA holdfast_restore_{job}_8 CASCADE; DROP SCHEMA holdfast_restore_{job}_9 CASCADE;"
                   "DROP TABLE IF EXISTS guarded", "rescue")
    assert leftovers(server, daemon) == []


def test_sessions_of_others_are_left_alone(shop, lab):
    server, daemon = shop
    job, go = stalled(daemon, lab, "restore.objects_after_checks",
                      f"RESTORE TABLE shop.public.guarded FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', detached")
    with server.connect("rescue", "mallory") as connection:
        connection.query(f"SET application_name = 'holdfast restore {job}'")
        go.touch()
        daemon.wait_job(job)
        assert connection.query("SELECT 'there'").value() == "there"


def test_dropped_while_hidden_is_a_failure(shop, lab):
    server, daemon = shop
    for kind, statement, message in (
            ("database", f"RESTORE DATABASE shop FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'shop2', detached",
             "was dropped or renamed meanwhile"),
            ("schema", f"RESTORE TABLE shop.public.guarded FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', detached",
             "was dropped or changed meanwhile")):
        job, go = stalled(daemon, lab, "restore.objects_before_final", statement)
        server.sql(f"DROP {kind} {hidden(server, kind)} {'CASCADE' if kind == 'schema' else ''}", "rescue")
        go.touch()
        row = daemon.wait_job(job, "failed")
        assert message in row["error"], row
        assert leftovers(server, daemon) == []


def test_rights_are_asked_for_again(shop):
    server, daemon = shop
    daemon.restart("restore.objects_after_checks=pause@*")
    statement = f"RESTORE TABLE shop.public.guarded FROM LATEST IN '{COLLECTION}' WITH into_db = 'rescue', detached"
    for take in ("REVOKE holdfast_admin FROM bob",
                 "GRANT holdfast_admin TO bob; DROP OWNED BY bob; DROP ROLE bob"):
        job = int(daemon.sql(statement, user="bob", tcp=True).value())
        daemon.wait_job(job, "paused")
        server.sql(take, "rescue")
        daemon.sql(f"RESUME JOB {job}")
        row = daemon.wait_job(job, "failed")
        assert "holdfast_admin" in row["error"] or 'role "bob" does not exist' in row["error"], row
        if "REVOKE" in take:
            server.sql("GRANT holdfast_admin TO bob")
    assert server.value("SELECT count(*) FROM pg_tables WHERE tablename = 'guarded'", "rescue") == "0"
    assert leftovers(server, daemon) == []


def test_owners_are_refused(shop):
    server, daemon = shop
    for statement in ("TABLE shop.public.guarded", "DATABASE shop"):
        for options in ("", "WITH grants"):
            error = daemon.error(f"RESTORE {statement} FROM LATEST IN '{COLLECTION}' {options}", user="alice", tcp=True)
            assert error.sqlstate == "42501" and "holdfast_admin" in error.message, error
    assert daemon.jobs() == [job for job in daemon.jobs() if job["job_type"] == "BACKUP"]
    assert leftovers(server, daemon) == []


@pytest.mark.parametrize("settings", ((), SETTINGS))
def test_what_a_backup_sets_off_stays_quiet(shop, lab, settings):
    """Libraries and roles that ALTER DATABASE sets, and event triggers, in the workshop and in the hidden database."""
    server, daemon = shop
    server.sql("CREATE DATABASE armed")
    server.sql(ARMED, "armed")
    # The backup itself connects to the database before this.
    job, go = stalled(daemon, lab, "backup.after_catalog", f"BACKUP INTO '{COLLECTION}' WITH detached")
    for setting in settings:
        server.sql(f"ALTER DATABASE armed SET {setting}")
    stored = "SELECT setconfig::text FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = '{}'"
    before = server.sql(stored.format("armed")).rows
    go.touch()
    daemon.wait_job(job)
    server.sql("ALTER DATABASE armed RESET ALL")
    restore(daemon, "TABLE armed.public.t", "WITH into_db = 'rescue'")
    assert server.value("SELECT count(*) FROM t", "rescue") == "20"
    restore(daemon, "DATABASE armed", "WITH new_db_name = 'armed2'")
    assert server.sql(stored.format("armed2")).rows == before
    server.sql("ALTER DATABASE armed2 RESET ALL")
    assert server.sql("SELECT evtname, evtenabled FROM pg_event_trigger ORDER BY 1", "armed2").rows == [
        ["armed_always", "A"], ["armed_off", "D"], ["armed_start", "O"]]
    assert leftovers(server, daemon) == []
