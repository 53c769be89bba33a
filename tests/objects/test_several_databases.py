"""RESTORE TABLE of tables of several databases in one statement: all of them, or none."""
import pytest

from harness.postgres import wait_until
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"
DATABASES = ("north", "south", "west")
DETACHED = (f"RESTORE TABLE north.public.orders, south.public.orders, north.public.items FROM LATEST IN '{COLLECTION}' "
            "WITH detached")


@pytest.fixture
def shops(lab):
    server = lab.postgres()
    for number, database in enumerate(DATABASES):
        server.sql(f"CREATE DATABASE {database}")
        server.sql(f"""CREATE TYPE state AS ENUM ('new', 'sent');
            CREATE TABLE orders (id serial PRIMARY KEY, place text DEFAULT '{database}', s state DEFAULT 'new');
            INSERT INTO orders (place) SELECT '{database}' FROM generate_series(1, {100 + number});
            CREATE TABLE items (id int PRIMARY KEY, amount int); INSERT INTO items SELECT i, i FROM generate_series(1, 10) i;
            CREATE TABLE only_{database} AS SELECT generate_series(1, 7) AS id""", database)
    server.sql("CREATE DATABASE rescue")
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    return server, daemon


def drop(server):
    for database in DATABASES:
        server.sql("DROP TABLE IF EXISTS orders, items", database)


def counts(server):
    """Rows of "orders" by database; None where there is no such table."""
    there = "SELECT to_regclass('orders') IS NOT NULL"
    return [int(server.value("SELECT count(*) FROM orders", database)) if server.value(there, database) == "t" else None
            for database in DATABASES]


def clean(server, daemon):
    wait_until(lambda: server.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'holdfast restore%'") == "0",
               20, "the end of all sessions")
    assert leftovers(server, daemon) == []


def test_each_goes_into_its_own_database(shops):
    server, daemon = shops
    drop(server)
    row = daemon.sql("RESTORE TABLE north.public.orders, south.public.orders, west.public.*, north.public.items "
                     f"FROM LATEST IN '{COLLECTION}' WITH into_schema = 'back'").one()
    assert row["status"] == "succeeded" and row["rows"] == str(100 + 101 + 102 + 10 + 7 + 10)
    for number, database in enumerate(DATABASES):
        assert server.sql("SELECT count(*), min(place), max(s) FROM back.orders", database).rows == [
            [str(100 + number), database, "new"]]
    tables = "SELECT string_agg(tablename, ' ' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'back'"
    assert [server.value(tables, database) for database in DATABASES] == ["items orders", "orders", "items only_west orders"]
    assert server.value("INSERT INTO back.orders (id) VALUES (DEFAULT) RETURNING place", "south") == "south"
    clean(server, daemon)


def test_into_one_database(shops):
    server, daemon = shops
    server.sql("CREATE TYPE state AS ENUM ('new', 'sent')", "rescue")
    daemon.sql(f"RESTORE TABLE north.public.orders, south.public.items, west.public.only_west FROM LATEST IN '{COLLECTION}' "
               "WITH into_db = 'rescue'")
    assert server.sql("SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM items), (SELECT count(*) FROM only_west)",
                      "rescue").rows == [["100", "10", "7"]]
    error = daemon.error(f"RESTORE TABLE north.public.orders, south.public.orders FROM LATEST IN '{COLLECTION}' "
                         "WITH into_db = 'rescue', into_schema = 's'")
    assert (error.sqlstate, error.message) == (
        "42P07", 'cannot restore two tables named "orders" into schema "s" of database "rescue"'), error
    # Found only when the patterns are looked up: nothing of either is there then.
    error = daemon.error(f"RESTORE TABLE north.public.*, south.public.items FROM LATEST IN '{COLLECTION}' "
                         "WITH into_db = 'rescue', into_schema = 's'")
    assert error.sqlstate == "42P07" and '"items" already exists' in error.message, error
    assert server.value("SELECT count(*) FROM pg_namespace WHERE nspname = 's'", "rescue") == "0"
    clean(server, daemon)


def test_refused_in_one_is_refused_in_all(shops, lab):
    server, daemon = shops
    server.sql("DROP TABLE orders", "north")
    error = daemon.error(f"RESTORE TABLE north.public.orders, south.public.orders FROM LATEST IN '{COLLECTION}'")
    assert (error.sqlstate, error.message) == ("42P07", 'relation "orders" already exists'), error
    assert 'of database "south"' in error.detail, error
    error = daemon.error(f"RESTORE TABLE north.public.orders, south.public.nothing FROM LATEST IN '{COLLECTION}'")
    assert error.sqlstate == "42P01", error
    server.sql("ALTER DATABASE west RENAME TO far")
    error = daemon.error(f"RESTORE TABLE north.public.orders, west.public.orders FROM LATEST IN '{COLLECTION}'")
    assert (error.sqlstate, error.message) == (
        "3D000", 'a database named "west" needs to exist to restore table "orders"'), error
    server.sql("ALTER DATABASE far RENAME TO west")
    # A name that is taken while the job is at work, in the database that comes last.
    drop(server)
    go = lab.root / "go"
    daemon.restart(f"restore.objects_before_final=stall:{go}")
    job = daemon.detached(DETACHED)
    wait_until(lambda: "restore.objects_before_final" in daemon.log_text(), 90, "the job at its end")
    server.sql("CREATE TABLE orders (mine int)", "south")
    go.touch()
    row = daemon.wait_job(job, "failed")
    assert 'relation "orders" already exists' in row["error"], row
    assert counts(server) == [None, 0, None]
    clean(server, daemon)


def test_cancelled_or_killed_anywhere(shops):
    server, daemon = shops
    drop(server)
    daemon.restart("restore.objects_before_final=stall")
    job = daemon.detached(DETACHED)
    wait_until(lambda: "restore.objects_before_final" in daemon.log_text(), 90, "the job at its end")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled")
    assert counts(server) == [None, None, None]
    clean(server, daemon)
    for point in ("restore.objects_after_catalogs", "restore.objects_before_final", "restore.objects_between_commits",
                  "restore.objects_after_final"):
        daemon.restart(f"{point}=kill")
        try:
            job = daemon.detached(DETACHED)
        except ConnectionError:
            job = None
        daemon.wait_killed()
        if point == "restore.objects_between_commits":
            assert sorted(count is not None for count in counts(server)) == [False, False, True]
        daemon.pause_point = None
        daemon.start()
        daemon.wait_job(int(job or daemon.jobs()[0]["job_id"]))
        assert counts(server) == [100, 101, None], point
        clean(server, daemon)
        drop(server)


def test_cancelled_between_the_commits_it_is_finished(shops):
    """PostgreSQL commits one database after the other; what the first one shows stays, so the others follow."""
    server, daemon = shops
    drop(server)
    daemon.restart("restore.objects_between_commits=stall")
    job = daemon.detached(DETACHED)
    wait_until(lambda: sorted(count is not None for count in counts(server)) == [False, False, True], 90, "the first commit")
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled", "succeeded")
    assert counts(server) == [100, 101, None]
    clean(server, daemon)


def test_rights_are_asked_for_again(shops):
    server, daemon = shops
    drop(server)
    server.sql("CREATE ROLE holdfast_admin; CREATE ROLE bob LOGIN IN ROLE holdfast_admin")
    for database in DATABASES:
        server.sql(f"GRANT CREATE ON SCHEMA public TO bob; GRANT CREATE ON DATABASE {database} TO bob", database)
    daemon.restart("restore.objects_after_checks=pause@*")
    job = int(daemon.sql(DETACHED, user="bob", tcp=True).value())
    daemon.wait_job(job, "paused")
    server.sql("REVOKE holdfast_admin FROM bob")
    daemon.sql(f"RESUME JOB {job}")
    row = daemon.wait_job(job, "failed")
    assert "holdfast_admin" in row["error"], row
    assert counts(server) == [None, None, None]
    clean(server, daemon)
