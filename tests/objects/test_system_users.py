"""RESTORE SYSTEM USERS: roles with attributes, hashes, settings and memberships, into the running server."""
import pytest

from harness.postgres import wait_until
from .zoo import leftovers

COLLECTION = "nodelocal://self/archive"
STATEMENT = f"RESTORE SYSTEM USERS FROM LATEST IN '{COLLECTION}'"

ROLES = """CREATE ROLE readers NOINHERIT; CREATE ROLE "Über alle" SUPERUSER LOGIN PASSWORD 'top secret';
    CREATE ROLE ann LOGIN PASSWORD 'ann''s password' CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2031-01-01 00:00:00+00' BYPASSRLS;
    SET password_encryption = 'md5'; CREATE ROLE ben LOGIN PASSWORD 'ben''s password' REPLICATION CREATEROLE; RESET password_encryption;
    CREATE ROLE kept LOGIN PASSWORD 'before'; CREATE ROLE kept_group; CREATE ROLE lost_group;
    GRANT readers TO ann WITH ADMIN OPTION; GRANT ann TO ben; GRANT pg_read_all_data TO ben; GRANT kept_group TO kept; GRANT lost_group TO kept;
    GRANT kept_group TO ann; GRANT kept_group TO lost_group;
    COMMENT ON ROLE ann IS 'she pays';
    ALTER ROLE ann SET search_path = "$user", public; ALTER ROLE ann SET work_mem = '7MB'; ALTER ROLE ann SET my.own = 'x; y''z';
    ALTER ROLE ann IN DATABASE postgres SET work_mem = '9MB'"""
FACTS = """SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, rolconnlimit, rolpassword,
    rolvaliduntil, shobj_description(oid, 'pg_authid'), (SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = r.oid AND setdatabase = 0)
    FROM pg_authid r WHERE oid >= 16384 ORDER BY 1"""
MEMBERS = """SELECT roleid::regrole::text, member::regrole::text, admin_option FROM pg_auth_members
    WHERE roleid >= 16384 OR member >= 16384 ORDER BY 1, 2"""
LOST = 'DROP ROLE ann, ben, readers, "Über alle", lost_group'


@pytest.fixture
def backed_up(lab):
    server = lab.postgres(conf={"log_statement": "all", "log_min_duration_statement": "0", "log_min_error_statement": "debug5",
                                "debug_print_parse": "on", "debug_print_rewritten": "on",
                                "shared_preload_libraries": "pg_stat_statements"})
    server.sql("CREATE EXTENSION pg_stat_statements")
    server.sql(ROLES)
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    before = server.sql(FACTS).rows, server.sql(MEMBERS).rows
    server.sql(LOST)
    return server, daemon, before


def test_roles_come_back_as_they_were(backed_up):
    server, daemon, (roles, members) = backed_up
    result = daemon.sql(STATEMENT)
    assert (result.one()["status"], result.one()["rows"]) == ("succeeded", "5")
    notices = "\n".join(text for _, text in result.notices)
    assert 'roles that exist are kept as they are: "kept", "kept_group"' in notices, notices
    assert server.sql(FACTS).rows == roles and server.sql(MEMBERS).rows == members
    # Settings for one database belong to that.
    assert server.value("SELECT count(*) FROM pg_db_role_setting WHERE setdatabase <> 0") == "0"
    assert daemon.sql(STATEMENT).one()["rows"] == "0"
    assert leftovers(server, daemon) == []


def test_of_a_chain_in_two_places(backed_up):
    server, daemon, _ = backed_up
    server.sql("CREATE ROLE late LOGIN")
    place = "incremental_location = 'nodelocal://self/elsewhere'"
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH {place}")
    server.sql("DROP ROLE late")
    assert "in another place" in daemon.error(STATEMENT).message
    assert daemon.sql(f"{STATEMENT} WITH {place}").one()["rows"] == "1"
    assert server.value("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'late'") == "t"


def test_what_exists_is_kept(backed_up):
    server, daemon, (roles, _) = backed_up
    server.sql("ALTER ROLE kept PASSWORD 'after' NOLOGIN; REVOKE kept_group FROM kept")
    hash_now = server.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'kept'")
    result = daemon.sql(STATEMENT)
    notices = "\n".join(text for _, text in result.notices)
    assert 'memberships of roles that exist in roles that exist are not restored: "kept in kept_group"' in notices, notices
    assert server.sql("SELECT rolpassword, rolcanlogin FROM pg_authid WHERE rolname = 'kept'").rows == [[hash_now, "f"]]
    # It is back in the group that was lost, and not in the one that it was taken from.
    assert server.value("SELECT string_agg(roleid::regrole::text, ' ') FROM pg_auth_members WHERE member = 'kept'::regrole") == "lost_group"
    assert {row[0] for row in server.sql(FACTS).rows} == {row[0] for row in roles}


def test_hashes_are_shown_nowhere(backed_up):
    server, daemon, (roles, _) = backed_up
    hashes = [row[9] for row in roles if row[9]]
    assert len(hashes) == 4
    # Those of the creation above were logged: what counts is what comes now.
    start = len(server.log_text())
    server.sql("SELECT pg_stat_statements_reset()")
    server.sql("CREATE ROLE told_in_the_log")
    daemon.restart("restore.users_before_commit=kill")
    with pytest.raises(ConnectionError):
        daemon.sql(STATEMENT)
    daemon.wait_killed()
    daemon.pause_point = None
    state = b"".join(path.read_bytes() for path in daemon.store.rglob("*") if path.is_file() and "workshop" not in str(path))
    daemon.start()
    daemon.wait_job(int(daemon.jobs()[0]["job_id"]))
    shown = (server.log_text()[start:] + daemon.log_text() + str(daemon.sql("SHOW JOBS").rows)
             + str(server.sql("SELECT query FROM pg_stat_statements").rows)
             + str(server.sql("SELECT query FROM pg_stat_activity").rows)).encode() + state
    assert b"CREATE ROLE told_in_the_log" in shown
    for found in hashes:
        assert found.encode() not in shown
        assert found.split(":")[-1].encode() not in shown
    assert leftovers(server, daemon) == []


def test_hashes_are_in_no_tree_of_the_log(lab):
    server = lab.postgres(version=18, conf={"debug_print_parse": "on", "debug_print_rewritten": "on", "debug_print_plan": "on"})
    server.sql("CREATE ROLE ann LOGIN PASSWORD 'her own'")
    hashed = server.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'")
    server.sql(f"ALTER ROLE ann PASSWORD '{hashed}'")
    key = hashed.split(":")[-1]
    # They would be.
    assert server.log_text().count(key) >= 2
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    server.sql("DROP ROLE ann")
    start = len(server.log_text())
    assert daemon.sql(STATEMENT).one()["rows"] == "1"
    log = server.log_text()[start:]
    assert server.value("SELECT rolpassword FROM pg_authid WHERE rolname = 'ann'") == hashed
    assert "parse tree" in log and key not in log


def test_databases_that_take_no_connections(lab):
    server = lab.postgres()
    server.sql("CREATE ROLE ann; CREATE TABLE moments (name text, at timestamptz)")
    server.sql("CREATE DATABASE shop")
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}' WITH revision_history")
    for name, closed in (("shop", "('shop')"), ("postgres", "('postgres')"), ("all", "('shop', 'postgres')")):
        server.sql(f"UPDATE pg_database SET datallowconn = false WHERE datname IN {closed}; COMMIT; SELECT pg_sleep(0.1);"
                   f"INSERT INTO moments VALUES ('{name}', clock_timestamp()); COMMIT; SELECT pg_sleep(0.1);"
                   f"UPDATE pg_database SET datallowconn = true WHERE datname IN {closed}")
    moments = dict(server.sql("SELECT name, at::text FROM moments").rows)
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' WITH revision_history")
    for name in ("shop", "postgres"):
        server.sql("DROP ROLE ann")
        assert daemon.sql(f"{STATEMENT} AS OF SYSTEM TIME '{moments[name]}'").one()["rows"] == "1", name
    error = daemon.error(f"{STATEMENT} AS OF SYSTEM TIME '{moments['all']}'")
    assert (error.sqlstate, "is not currently accepting connections" in error.message) == ("55000", True), error
    assert leftovers(server, daemon) == []


def test_all_or_none(backed_up):
    server, daemon, (roles, _) = backed_up
    count = "SELECT count(*) FROM pg_authid WHERE oid >= 16384"
    # A loop of memberships: kept is to be in lost_group, and that in kept_group.
    server.sql("REVOKE kept_group FROM kept; GRANT kept TO kept_group")
    before = server.value(count)
    error = daemon.error(STATEMENT)
    assert (error.sqlstate, "is a member of role" in error.message) == ("0LP01", True), error
    assert server.value(count) == before
    server.sql("REVOKE kept FROM kept_group")
    for point in ("restore.objects_after_recovery", "restore.users_before_commit"):
        daemon.restart(f"{point}=stall")
        job = daemon.detached(f"{STATEMENT} WITH detached")
        wait_until(lambda p=point: daemon.log_text().count(p) > 0, 60, point)
        daemon.sql(f"CANCEL JOB {job}")
        daemon.wait_job(job, "canceled")
        assert server.value(count) == before
        assert leftovers(server, daemon) == []
    for point in ("restore.objects_after_recovery", "restore.users_before_commit", "restore.objects_before_final"):
        daemon.restart(f"{point}=kill")
        try:
            job = daemon.detached(f"{STATEMENT} WITH detached")
        except ConnectionError:
            job = None
        daemon.wait_killed()
        daemon.pause_point = None
        daemon.start()
        daemon.wait_job(int(job or daemon.jobs()[0]["job_id"]))
        assert {row[0] for row in server.sql(FACTS).rows} >= {row[0] for row in roles}
        assert leftovers(server, daemon) == []
        server.sql(LOST)


def test_who_may(backed_up):
    server, daemon, _ = backed_up
    server.sql("CREATE ROLE holdfast_admin; CREATE ROLE bob LOGIN IN ROLE holdfast_admin; CREATE ROLE sue LOGIN SUPERUSER")
    error = daemon.error(STATEMENT, user="bob", tcp=True)
    assert (error.sqlstate, error.message) == ("42501", "only superusers are allowed to restore system users: user bob is none"), error
    # Asked for again when the job goes on.
    daemon.restart("restore.objects_after_checks=pause@*")
    job = int(daemon.sql(f"{STATEMENT} WITH detached", user="sue", tcp=True).value())
    daemon.wait_job(job, "paused")
    server.sql("ALTER ROLE sue NOSUPERUSER; GRANT holdfast_admin TO sue")
    daemon.sql(f"RESUME JOB {job}")
    row = daemon.wait_job(job, "failed")
    assert "only superusers are allowed to restore system users: user sue is none" in row["error"], row
    assert server.value("SELECT count(*) FROM pg_roles WHERE rolname = 'ann'") == "0"
    daemon.restart()
    server.sql("ALTER ROLE sue SUPERUSER")
    assert daemon.sql(STATEMENT, user="sue", tcp=True).one()["rows"] == "5"


def test_what_it_does_not_take(backed_up):
    server, daemon, _ = backed_up
    for option, state, message in (
            ("into_db = 'x'", "22023", "cannot set into_db option when only restoring system users"),
            ("where = 'true'", "0A000", "RESTORE SYSTEM USERS option where is not supported yet"),
            ("grants", "0A000", "RESTORE SYSTEM USERS option grants is not supported yet"),
            ("data_directory = '/x'", "22023", 'cannot use "data_directory" option when only restoring system users')):
        error = daemon.error(f"{STATEMENT} WITH {option}")
        assert (error.sqlstate, error.message) == (state, message), error
    server.sql("CREATE DATABASE shop")
    daemon.sql("BACKUP DATABASE shop INTO 'nodelocal://self/shop'")
    error = daemon.error("RESTORE SYSTEM USERS FROM LATEST IN 'nodelocal://self/shop'")
    assert (error.sqlstate, error.message) == ("22023", "cannot restore system users as no system.users table in the backup"), error
    assert leftovers(server, daemon) == []


def test_of_a_moment_and_encrypted(lab):
    server = lab.postgres()
    daemon = lab.holdfast(server)
    server.sql("CREATE ROLE early LOGIN PASSWORD 'x'")
    secret = "WITH encryption_passphrase = 'correct horse battery staple'"
    daemon.sql(f"BACKUP INTO '{COLLECTION}' {secret}, revision_history")
    server.sql("CREATE ROLE later LOGIN PASSWORD 'y'")
    moment = server.value("SELECT clock_timestamp()")
    server.sql("SELECT pg_sleep(0.1)")
    server.sql("CREATE ROLE latest")
    daemon.sql(f"BACKUP INTO LATEST IN '{COLLECTION}' {secret}, revision_history")
    server.sql("DROP ROLE early, later, latest")
    error = daemon.error(STATEMENT)
    assert "file appears encrypted" in error.message, error
    row = daemon.sql(f"RESTORE SYSTEM USERS FROM LATEST IN '{COLLECTION}' AS OF SYSTEM TIME '{moment}' {secret}").one()
    assert row["rows"] == "2"
    assert server.value("SELECT string_agg(rolname, ' ' ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^(early|later|latest)$'") == "early later"
    assert leftovers(server, daemon) == []


@pytest.mark.parametrize("version", (13, 14, 16, 17, 18))
def test_each_version_has_its_memberships(lab, version):
    server = lab.postgres(version=version)
    server.sql("CREATE ROLE readers; CREATE ROLE ann LOGIN PASSWORD 'x'; CREATE ROLE ben; GRANT readers TO ann WITH ADMIN OPTION;"
               "GRANT ann TO ben")
    options = ""
    if version >= 16:
        server.sql("GRANT readers TO ben WITH INHERIT FALSE, SET FALSE; GRANT readers TO ann WITH INHERIT FALSE")
        options = ", inherit_option, set_option"
    daemon = lab.holdfast(server)
    daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    memberships = MEMBERS.replace("admin_option", f"admin_option{options}")
    before = server.sql(FACTS).rows, server.sql(memberships).rows
    server.sql("DROP ROLE readers, ann, ben")
    assert daemon.sql(STATEMENT).one()["rows"] == "3"
    assert (server.sql(FACTS).rows, server.sql(memberships).rows) == before
    assert leftovers(server, daemon) == []
