"""userfile: files in tables, by the command line and as storage of backups."""
import os
import subprocess

import pytest

from harness import environment as env
from harness.bank import make_bank

COLLECTION = "userfile:///archive"


@pytest.fixture(scope="module")
def daemon(module_lab):
    source = module_lab.postgres()
    make_bank(source)
    source.sql("CREATE ROLE clerk LOGIN; GRANT CREATE ON SCHEMA public TO clerk")
    return module_lab.holdfast(source)


def userfile(daemon, *arguments, user="postgres", check=True, cwd=None):
    done = subprocess.run([str(env.BUILT_BINARY), "userfile", *map(str, arguments), "--url",
                           f"host={daemon.sockets} port={daemon.port} dbname=postgres", "--user", user],
                          capture_output=True, text=True, cwd=cwd, timeout=120)
    if check:
        assert done.returncode == 0, done.stderr
    return done.stdout.splitlines() if check else done.stderr


def test_files_go_in_and_come_out(daemon, tmp_path):
    content = os.urandom(5 << 20)
    (tmp_path / "a file.bin").write_bytes(content)
    said = userfile(daemon, "upload", tmp_path / "a file.bin")
    assert said == ["successfully uploaded to userfile://postgres.public.userfiles_postgres/a%20file.bin"]
    assert userfile(daemon, "list") == userfile(daemon, "ls", "*.bin") == ["a file.bin"]
    error = userfile(daemon, "upload", tmp_path / "a file.bin", check=False)
    assert "destination file already exists for a file.bin" in error
    userfile(daemon, "get", "a file.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == content and (tmp_path / "copy").stat().st_mode & 0o777 == 0o600
    assert "File exists" in userfile(daemon, "get", "a file.bin", tmp_path / "copy", check=False)
    assert (tmp_path / "copy").read_bytes() == content

    error = userfile(daemon, "upload", tmp_path / "a file.bin", "x/../y", check=False)
    assert "path x/../y changes after normalization to y. userfile upload does not permit such path constructs" in error
    error = userfile(daemon, "upload", tmp_path, check=False)
    assert f"source file {tmp_path} is a directory, not a file" in error
    assert "no files matched requested path or path pattern" in userfile(daemon, "get", "none*", check=False)
    assert userfile(daemon, "delete", "a file.bin") == ["successfully deleted a file.bin"]
    assert userfile(daemon, "list") == []


def test_directories(daemon, tmp_path):
    for name in ("dir/one", "dir/deep/two", "dir/deep/er/three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    said = userfile(daemon, "upload", "-r", tmp_path / "dir")
    assert said[:3] == ["uploading: deep/er/three", "uploading: deep/two", "uploading: one"]
    userfile(daemon, "upload", "-r", f"{tmp_path / 'dir'}", "to")
    userfile(daemon, "upload", "-r", f"{tmp_path / 'dir'}/", "to/contents")
    assert userfile(daemon, "ls", "to") == ["to/contents/deep/er/three", "to/contents/deep/two", "to/contents/one",
                                            "to/dir/deep/er/three", "to/dir/deep/two", "to/dir/one"]
    assert userfile(daemon, "ls", "*/deep/*") == ["dir/deep/two"]
    userfile(daemon, "get", "userfile:///to/dir", tmp_path / "out")
    assert (tmp_path / "out/to/dir/deep/er/three").read_text() == "dir/deep/er/three"
    assert len(userfile(daemon, "rm", "to")) == 6
    assert userfile(daemon, "list") == ["dir/deep/er/three", "dir/deep/two", "dir/one"]
    userfile(daemon, "delete", "dir")


def test_everybody_has_tables_of_his_own(daemon, tmp_path):
    (tmp_path / "mine").write_text("x")
    userfile(daemon, "upload", tmp_path / "mine", user="clerk")
    assert userfile(daemon, "list", user="clerk") == ["mine"]
    assert userfile(daemon, "list") == []
    # A superuser does not run what a clerk can put behind tables, and a clerk sees nothing of a superuser's.
    clerks = "userfile://postgres.public.userfiles_clerk"
    assert "cannot use" in userfile(daemon, "list", clerks + "/", check=False)
    refused = daemon.error(f"SHOW BACKUPS IN '{clerks}/x'")
    assert refused.sqlstate == "42501" and "userfile tables" in refused.message, refused
    assert daemon.error("SHOW BACKUPS IN 'userfile:///x'", user="clerk").sqlstate == "42501"
    userfile(daemon, "upload", tmp_path / "mine")
    assert "permission denied" in userfile(daemon, "list", "userfile://postgres.public.userfiles_postgres/", user="clerk", check=False)
    userfile(daemon, "rm", "mine")


def test_tables_and_databases_are_restored_from_it(daemon):
    source = daemon.postgres
    # Without a WAL archive, so that nothing changes while it is uploaded.
    daemon.sql("BACKUP INTO 'nodelocal://self/archive' WITH protect = false")
    userfile(daemon, "upload", "-r", daemon.collection("archive"))
    assert len(daemon.sql(f"SHOW BACKUPS IN '{COLLECTION}'").rows) == 1
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{COLLECTION}' WITH check_files")
    daemon.sql(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{COLLECTION}' WITH new_table_name = 'again'", database="bank")
    assert source.value("SELECT count(*) FROM (TABLE accounts EXCEPT TABLE again) AS missing", "bank") == "0"
    assert source.value("SELECT count(*) FROM again", "bank") == source.value("SELECT count(*) FROM accounts", "bank")
    daemon.sql("CREATE EXTERNAL CONNECTION IF NOT EXISTS files AS 'userfile:///archive'")
    daemon.sql("RESTORE DATABASE bank FROM LATEST IN 'external://files' WITH new_db_name = 'bank2'")
    assert source.value("SELECT sum(balance) FROM accounts", "bank2") == source.value("SELECT sum(balance) FROM accounts", "bank")


def test_databases_and_tables_are_backed_up_to_it(daemon):
    source = daemon.postgres
    place = "userfile:///scoped"
    daemon.sql(f"BACKUP DATABASE bank INTO '{place}'")
    daemon.sql(f"BACKUP DATABASE bank INTO LATEST IN '{place}'")
    daemon.sql(f"RESTORE DATABASE bank FROM LATEST IN '{place}' WITH new_db_name = 'bank3'")
    assert source.value("SELECT sum(balance) FROM accounts", "bank3") == source.value("SELECT sum(balance) FROM accounts", "bank")
    daemon.sql(f"BACKUP TABLE bank.public.accounts INTO '{place}/table'")
    daemon.sql(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{place}/table' WITH new_table_name = 'once_more'", database="bank")
    assert source.value("SELECT count(*) FROM (TABLE accounts EXCEPT TABLE once_more) AS missing", "bank") == "0"
    daemon.sql(f"BACKUP DATABASE bank INTO '{place}'")
    assert len(daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{place}'").rows) > 0
    assert len(daemon.sql(f"SHOW BACKUPS IN '{place}'").rows) == 1


def test_a_database_owner_does_not_get_the_daemons_rights(daemon):
    """His settings hold for all sessions in his database, also for the daemon's as a superuser."""
    source = daemon.postgres
    source.sql("CREATE ROLE tenant LOGIN")
    source.sql("CREATE DATABASE theirs OWNER tenant")
    source.sql("ALTER DATABASE theirs SET role = tenant")
    daemon.sql("CREATE EXTERNAL CONNECTION theirs AS 'userfile://theirs.public.files/archive'")
    owners = "SELECT DISTINCT tableowner FROM pg_tables WHERE tablename LIKE 'files%'"
    assert source.value(owners, "theirs") == "postgres"
    source.sql("SET ROLE NONE; ALTER TABLE files_upload_files OWNER TO tenant", "theirs")
    error = daemon.error("SHOW BACKUPS IN 'external://theirs'")
    assert error.sqlstate == "42501" and "as userfile tables" in error.message


def test_what_it_cannot_hold_is_refused(daemon):
    daemon.sql("CREATE EXTERNAL CONNECTION IF NOT EXISTS files AS 'userfile:///archive'")
    for statement in (f"BACKUP INTO '{COLLECTION}'", f"RESTORE FROM LATEST IN '{COLLECTION}'",
                      f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '/nowhere'",
                      f"CREATE WAL ARCHIVE IN '{COLLECTION}'", "BACKUP INTO 'external://files'"):
        error = daemon.error(statement)
        assert error.sqlstate == "0A000" and "cannot use userfile storage" in error.message, (statement, error)
    assert daemon.error("SHOW BACKUPS IN 'userfile://a.b/x'").sqlstate == "22023"
