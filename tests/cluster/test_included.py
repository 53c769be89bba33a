"""docs/included.md: what comes back from a backup of the cluster, a database or tables, by each kind of RESTORE."""
from harness import doc_table
from harness.bank import make_bank
from harness.chain import Chain
from harness.postgres import wait_until
from harness.wire import SqlError

PAGE = "included.md"
COLLECTION = "nodelocal://self/archive"
DATABASE_COLLECTION = "nodelocal://self/of-database"
TABLE_COLLECTION = "nodelocal://self/of-tables"
COLUMNS = {"cluster": 1, "database": 2, "table": 3}
TABLES = "accounts, customers, long_texts, machines, guarded, described, not_logged"

ROLES = """
CREATE ROLE app LOGIN PASSWORD 'not a secret';
CREATE ROLE readers;
GRANT readers TO app;
ALTER ROLE app SET work_mem = '5MB';
ALTER ROLE app CREATEDB
"""
OBJECTS = """
UPDATE accounts SET balance = balance + 1 WHERE id < 100;
ALTER TABLE accounts ALTER balance SET DEFAULT 7, ADD CHECK (id > 0);
ALTER TABLE accounts OWNER TO app;
GRANT SELECT ON accounts TO readers;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO readers;
CREATE TABLE long_texts (id int PRIMARY KEY, body text);
ALTER TABLE long_texts ALTER body SET STORAGE EXTERNAL;
INSERT INTO long_texts SELECT i, repeat(md5(i::text), 400) FROM generate_series(1, 100) i;
CREATE TABLE machines (id int GENERATED ALWAYS AS IDENTITY, doubled int GENERATED ALWAYS AS (7) STORED, number serial);
INSERT INTO machines DEFAULT VALUES;
SELECT setval('machines_number_seq', 77), setval('receipts', 78);
CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TABLE guarded (id int PRIMARY KEY);
CREATE TRIGGER guards BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION guard();
CREATE RULE rules AS ON DELETE TO guarded DO INSTEAD NOTHING;
CREATE POLICY policies ON guarded USING (id > 1);
CREATE TABLE described (a int, b int);
INSERT INTO described SELECT i % 10, i % 10 FROM generate_series(1, 1000) i;
COMMENT ON TABLE described IS 'has a comment';
CREATE STATISTICS depends (dependencies) ON a, b FROM described;
CREATE UNLOGGED TABLE not_logged AS SELECT generate_series(1, 1000) AS id;
CREATE SCHEMA other;
CREATE TYPE other.mood AS ENUM ('sad', 'happy');
CREATE FUNCTION other.twice(i int) RETURNS int LANGUAGE sql AS 'SELECT i * 2';
CREATE MATERIALIZED VIEW summary AS SELECT count(*) AS n FROM customers;
CREATE EXTENSION postgres_fdw;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'none');
CREATE USER MAPPING FOR PUBLIC SERVER elsewhere OPTIONS (user 'somebody');
CREATE FOREIGN TABLE far_away (id int) SERVER elsewhere;
SELECT lo_from_bytea(4711, 'a large object');
CREATE FUNCTION notice_ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER watches ON ddl_command_end EXECUTE FUNCTION notice_ddl();
CREATE PUBLICATION news FOR TABLE customers;
CREATE TABLE open_transaction (id int);
CREATE TABLE prepared_transaction (id int);
CREATE TABLE in_space (id int) TABLESPACE fast;
ANALYZE
"""


class Probe:
    """A question whose answer tells whether something came back; `expected` is that of the source, unless it is given."""

    def __init__(self, question, expected=None):
        self.question, self.expected = question, expected

    def ask(self, place):
        if callable(self.question):
            return self.question(place)
        try:
            return place.server.sql(self.question, place.database).rows
        except SqlError:
            return None


def file_has(name, mark):
    return lambda place: (place.server.data / name).exists() and mark in (place.server.data / name).read_text()


def hba_inside(place):
    return any("kept outside" in path.read_text() for path in place.server.data.rglob("pg_hba.conf*"))


def daemon_state(place):
    return len(place.daemon.sql("SHOW SCHEDULES").rows), len(place.daemon.sql("SHOW EXTERNAL CONNECTIONS").rows)


PROBES = {
    "tables, rows, indexes, constraints, column defaults": Probe(
        "SELECT (SELECT sum(hashtext(t::text)) FROM accounts t), (SELECT array_agg(indexrelid::regclass::text ORDER BY indexrelid::regclass::text) FROM pg_index WHERE "
        "indrelid = 'accounts'::regclass), (SELECT array_agg(pg_get_constraintdef(oid) ORDER BY pg_get_constraintdef(oid)) "
        "FROM pg_constraint WHERE conrelid = 'accounts'::regclass), (SELECT count(*) FROM pg_attrdef WHERE adrelid = 'accounts'::regclass)"),
    "TOAST values, generated and identity columns": Probe(
        "SELECT (SELECT sum(hashtext(body)) FROM long_texts), (SELECT array_agg(m.*::text) FROM machines m), (SELECT count(*) FROM "
        "pg_attribute WHERE attrelid = 'machines'::regclass AND (attidentity = 'a' OR attgenerated = 's'))"),
    "sequences and their values": Probe("SELECT last_value, is_called FROM machines_number_seq"),
    "triggers, rules, row security policies": Probe(
        "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname = 'guards'), (SELECT count(*) FROM pg_rewrite WHERE rulename = 'rules'), "
        "(SELECT count(*) FROM pg_policy WHERE polname = 'policies')"),
    "comments": Probe("SELECT obj_description('described'::regclass, 'pg_class')"),
    "statistics objects, statistics for the planner": Probe(
        "SELECT (SELECT count(*) FROM pg_statistic_ext WHERE stxname = 'depends'), (SELECT count(*) FROM pg_stats WHERE tablename = 'described')"),
    "counters of `pg_stat_…` views": Probe(
        "SELECT n_tup_upd > 0 FROM pg_stat_user_tables WHERE relname = 'accounts'"),
    "views, functions, types, schemas": Probe(
        "SELECT pg_get_viewdef('rich'::regclass), other.twice(2), (SELECT count(*) FROM pg_type WHERE typname = 'mood'), 'other'::regnamespace"),
    "materialized views": Probe("SELECT n FROM summary"),
    "extensions": Probe("SELECT extname FROM pg_extension ORDER BY 1"),
    "foreign servers, foreign tables, user mappings": Probe(
        "SELECT (SELECT srvoptions::text FROM pg_foreign_server), (SELECT umoptions::text FROM pg_user_mappings), 'far_away'::regclass"),
    "large objects": Probe("SELECT convert_from(lo_get(4711), 'UTF8')"),
    "event triggers": Probe("SELECT evtname, evtenabled FROM pg_event_trigger"),
    "publications": Probe("SELECT p.pubname, t.tablename FROM pg_publication p JOIN pg_publication_tables t USING (pubname)"),
    "subscriptions": Probe("SELECT count(*) FROM pg_subscription"),
    "roles, passwords, memberships": Probe(
        "SELECT (SELECT rolpassword FROM pg_authid WHERE rolname = 'app'), (SELECT count(*) FROM pg_auth_members WHERE member = 'app'::regrole)"),
    "owners and privileges": Probe("SELECT pg_get_userbyid(relowner), relacl::text FROM pg_class WHERE oid = 'accounts'::regclass"),
    "default privileges": Probe("SELECT defaclacl::text FROM pg_default_acl"),
    "settings by `ALTER DATABASE … SET`": Probe(
        "SELECT setconfig::text FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()"),
    "settings by `ALTER ROLE … SET`": Probe("SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 'app'::regrole"),
    "`ALTER SYSTEM`, `postgresql.conf`, `pg_hba.conf`, `pg_ident.conf`": Probe(
        lambda place: (file_has("postgresql.auto.conf", "work_mem = '7MB'")(place), file_has("postgresql.conf", "kept inside")(place),
                       file_has("pg_ident.conf", "kept inside")(place))),
    "configuration files outside of the data directory": Probe(hba_inside, True),
    "tablespaces": Probe("SELECT count(*) FROM pg_tablespace WHERE spcname = 'fast'"),
    "unlogged tables": Probe("SELECT relpersistence, (SELECT count(*) FROM not_logged) FROM pg_class WHERE oid = 'not_logged'::regclass",
                             [["u", "0"]]),
    "temporary tables": Probe("SELECT sum(pg_relation_size(oid)) > 0 FROM pg_class WHERE relname = 'for_a_while'"),
    "prepared transactions": Probe("SELECT gid, database FROM pg_prepared_xacts"),
    "transactions that had not committed at the end of the backup": Probe("SELECT count(*) FROM open_transaction", [["1"]]),
    "replication slots": Probe("SELECT slot_name FROM pg_replication_slots WHERE slot_name = 'mine'"),
    "`LISTEN`, `NOTIFY`": Probe("SELECT pg_notification_queue_usage() > 0"),
    "other files in the data directory": Probe(file_has("notes.txt", "kept inside")),
    "holdfast's schedules, external connections, jobs and history": Probe(daemon_state),
}


class Place:
    def __init__(self, server, daemon, database="bank"):
        self.server, self.daemon, self.database = server, daemon, database


def make_source(lab):
    """With one of each; and the sessions that must stay open."""
    source = lab.postgres(start=False, conf={"max_prepared_transactions": "5", "autovacuum": "off"})
    outside = lab.root / "outside"
    outside.mkdir()
    (source.data / "pg_hba.conf").rename(outside / "pg_hba.conf")
    for path in (outside / "pg_hba.conf", source.data / "pg_ident.conf"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"# kept {'inside' if path.name == 'pg_ident.conf' else 'outside'}\n")
    (source.data / "notes.txt").write_text("kept inside\n")
    source.configure({"hba_file": f"'{outside}/pg_hba.conf'  # kept inside"})
    source.start()
    source.sql("ALTER SYSTEM SET work_mem = '7MB'")
    for statement in (f"CREATE TABLESPACE fast LOCATION '{lab.directory('space')}'", *ROLES.split(";\n")):
        source.sql(statement)
    make_bank(source)
    source.sql("ALTER DATABASE bank OWNER TO app")
    source.sql("ALTER DATABASE bank SET statement_timeout = '77min'")
    source.sql(OBJECTS, "bank")
    source.sql("CREATE SUBSCRIPTION olds CONNECTION 'dbname=none' PUBLICATION news WITH (connect = false)", "bank")
    source.sql("SELECT pg_create_physical_replication_slot('mine', true)")
    source.sql("BEGIN; INSERT INTO prepared_transaction VALUES (1); PREPARE TRANSACTION 'two phases'", "bank")
    sessions = [source.connect("bank") for _ in range(3)]
    sessions[0].query("CREATE TEMPORARY TABLE for_a_while AS SELECT generate_series(1, 1000) AS id")
    sessions[1].query("BEGIN; INSERT INTO open_transaction VALUES (1)")
    sessions[2].query("LISTEN news")
    sessions[2].query("BEGIN")
    source.sql("SELECT count(pg_notify('news', repeat('read by nobody', 500) || i)) FROM generate_series(1, 20) i", "bank")
    # Its counters are written when the session ends.
    wait_until(lambda: source.value("SELECT n_tup_upd > 0 FROM pg_stat_user_tables WHERE relname = 'accounts'", "bank") == "t", 60, "the counters")
    return source, sessions


def restore_cluster(lab, chain):
    server = chain.server(chain.restore(), max_logical_replication_workers=0)
    server.start()
    wait_until(server.ready, 60, "the restored server answering")
    return Place(server, lab.holdfast(server, name="hf-cluster"))


def test_the_page_and_the_test_have_the_same_rows():
    for column in COLUMNS.values():
        answers = doc_table.answers(PAGE, "included", column)
        assert list(answers) == list(PROBES)
        assert set(answers.values()) <= {"yes", "no"}


def test_what_comes_back(lab):
    source, sessions = make_source(lab)
    daemon = lab.holdfast(source)
    daemon.sql("CREATE EXTERNAL CONNECTION somewhere AS 'nodelocal://self/somewhere'")
    daemon.sql("CREATE SCHEDULE nightly FOR BACKUP INTO 'external://somewhere' RECURRING '@daily' FULL BACKUP ALWAYS "
               "WITH SCHEDULE OPTIONS first_run = '2100-01-01'")
    chain = Chain(lab, source, daemon)
    chain.full()
    patterns = ", ".join(f"bank.public.{table}" for table in TABLES.split(", "))
    daemon.sql(f"BACKUP DATABASE bank INTO '{DATABASE_COLLECTION}'")
    daemon.sql(f"BACKUP TABLE {patterns} INTO '{TABLE_COLLECTION}'")
    expected = {name: probe.expected or probe.ask(Place(source, daemon)) for name, probe in PROBES.items()}
    assert None not in expected.values(), expected
    for session in sessions:
        session.close()

    other = lab.postgres("other")
    beside = lab.holdfast(other, name="hf-other", start=False)
    beside.io = daemon.io
    beside.start()
    beside.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}'")
    beside.sql(f"RESTORE DATABASE bank FROM LATEST IN '{DATABASE_COLLECTION}' WITH new_db_name = 'alone'")
    for name, collection in (("tables", COLLECTION), ("tables_alone", TABLE_COLLECTION)):
        other.sql(f"CREATE DATABASE {name}")
        other.sql("CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'", name)
        beside.sql(f"RESTORE TABLE {patterns} FROM LATEST IN '{collection}' WITH into_db = '{name}'")
    places = [("cluster", "the cluster's backup", restore_cluster(lab, chain)),
              ("database", "the cluster's backup", Place(other, beside)), ("database", "its own backup", Place(other, beside, "alone")),
              ("table", "the cluster's backup", Place(other, beside, "tables")), ("table", "their own backup", Place(other, beside, "tables_alone"))]

    wrong = []
    for way, backup, place in places:
        promised = doc_table.answers(PAGE, "included", COLUMNS[way])
        for name, probe in PROBES.items():
            answer = probe.ask(place)
            if (answer == expected[name]) != (promised[name] == "yes"):
                wrong.append(f"{way} from {backup}: {name}: the page says {promised[name]}, but {expected[name]} has become {answer}")
    assert not wrong, "\n".join(wrong)

    # What an option brings along, where the roles are there.
    daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{COLLECTION}' WITH new_db_name = 'granted', grants")
    for name in ("owners and privileges", "default privileges"):
        assert PROBES[name].ask(Place(source, daemon, "granted")) == expected[name], name
    source.sql("CREATE DATABASE tables")
    daemon.sql(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{COLLECTION}' WITH into_db = 'tables', grants, skip_missing_foreign_keys")
    assert PROBES["owners and privileges"].ask(Place(source, daemon, "tables")) == expected["owners and privileges"]
    assert source.value("SELECT spcname FROM pg_class c JOIN pg_tablespace s ON s.oid = reltablespace WHERE relname = 'in_space'", "granted") == "fast"
