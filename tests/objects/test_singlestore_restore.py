"""SingleStore's RESTORE DATABASE … FROM, from backups of whole clusters."""
import pytest

from .zoo import dump, leftovers, make_zoo


@pytest.fixture(scope="module")
def backed_up(module_lab):
    """A set of three layers, where BACKUP DATABASE zoo WITH INIT | DIFFERENTIAL TO 'sets' would put it."""
    server = module_lab.postgres()
    make_zoo(server)
    daemon = module_lab.holdfast(server)
    jobs, dumps = [], []
    for onto in ("", "LATEST IN ", "LATEST IN "):
        if onto:
            server.sql("UPDATE orders SET amount = amount + 1 WHERE id % 10 = 0", "zoo")
        dumps.append(dump(server, "zoo"))
        jobs.append(daemon.sql(f"BACKUP INTO {onto}'nodelocal://self/sets/zoo.incr_backup'").one()["job_id"])
    return server, daemon, jobs, dumps


def without_unlogged(text):
    """Rows of unlogged tables are in no backup."""
    start = text.index("COPY public.unlogged_table")
    return text[:start] + text[text.index("\\.", start):]


def test_each_file_of_a_set(backed_up):
    server, daemon, jobs, dumps = backed_up
    ids = daemon.sql("SELECT job_id, incr_backup_id FROM information_schema.mv_backup_history ORDER BY backup_id").rows
    assert ids == [[jobs[0], None], [jobs[1], jobs[1]], [jobs[2], jobs[2]]]
    for name, file, number in (("last", "", 2), ("first", "WITH FILE = 1", 0), ("second", f"WITH FILE = {jobs[1]}", 1), ("third", "WITH FILE = 3", 2)):
        row = daemon.sql(f"RESTORE zoo AS {name} FROM 'sets' {file}").one()
        assert row["status"] == "succeeded"
        assert without_unlogged(dump(server, name)) == without_unlogged(dumps[number]), name
        server.sql(f"DROP DATABASE {name}")
    error = daemon.error("RESTORE DATABASE zoo AS x FROM 'sets' WITH FILE = 4")
    assert error.sqlstate == "42704" and all(job in error.detail for job in jobs)
    assert leftovers(server, daemon) == []


def test_a_host_without_history_and_a_parameter(backed_up):
    server, daemon, _, dumps = backed_up
    daemon.sql("CLEAR BACKUP_HISTORY")
    row = daemon.sql("RESTORE DATABASE zoo AS again FROM $1 WITH FILE = 2", ["sets/zoo.incr_backup"]).one()
    assert without_unlogged(dump(server, "again")) == without_unlogged(dumps[1])
    job = daemon.job(row["job_id"])
    assert job["statement"] == "RESTORE DATABASE zoo AS again FROM 'sets/zoo.incr_backup' WITH FILE = 2"
    assert job["description"].startswith("RESTORE DATABASE zoo FROM '/20")
