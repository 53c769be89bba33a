"""incremental_location: a full in one storage, its incrementals in another."""
import pytest

from cloud.bank import Bank
from harness.digest import digest
from harness.postgres import wait_until


@pytest.fixture(scope="module")
def bank(module_lab):
    return Bank(module_lab)


def change(bank):
    bank.source.sql("INSERT INTO accounts SELECT max(id) + 1, 1, 1 FROM accounts", database="bank")
    bank.digest = digest(bank.source, skip_unlogged=True)


def with_options(*options):
    given = ", ".join(option for option in options if option)
    return f" WITH {given}" if given else ""


def full_of(bank, uri):
    return bank.psql(f"SHOW BACKUPS IN '{uri}'").split()[-1].lstrip("/")


def types(bank, uri, *options):
    text = bank.psql(f"SELECT DISTINCT end_time, backup_type FROM [SHOW BACKUP FROM LATEST IN '{uri}'{with_options(*options)}] ORDER BY 1")
    return [line.split("|")[1] for line in text.splitlines() if "|" in line]


@pytest.mark.parametrize("key", ["", "encryption_passphrase = 'correct horse battery staple'"], ids=["plain", "encrypted"])
@pytest.mark.parametrize("full_in", ["nodelocal", "s3"])
def test_a_chain_in_two_storages(bank, minio, key, full_in):
    name = f"{full_in}-{'encrypted' if key else 'plain'}"
    in_minio, in_files = minio.uri(f"located/{name}"), f"nodelocal://self/located-{name}"
    uri, elsewhere = (in_files, in_minio) if full_in == "nodelocal" else (in_minio, in_files)
    place = f"incremental_location = '{elsewhere}'"
    bank.psql(f"BACKUP INTO '{uri}'{with_options(key, place)}")
    for _ in range(2):
        change(bank)
        bank.psql(f"BACKUP INTO LATEST IN '{uri}'{with_options(key, place)}")

    # The names are CockroachDB's, and the collection has none of the layers.
    full = full_of(bank, uri)
    if full_in == "nodelocal":
        files, others = bank.daemon.files(f"located-{name}"), [one.split(f"{name}/", 1)[1] for one in minio.objects(f"located/{name}/")]
    else:
        files, others = [one.split(f"{name}/", 1)[1] for one in minio.objects(f"located/{name}/")], bank.daemon.files(f"located-{name}")
    assert not [one for one in files if one.startswith("incrementals/")]
    assert all(one.startswith(f"{full}/") for one in others)
    assert sum(one.endswith("/BACKUP_MANIFEST") for one in others) == 2

    # Who forgets it is told, and nothing is taken for the newest state that is not.
    for statement in (f"RESTORE FROM LATEST IN '{uri}'{with_options(key, 'data_directory = $$' + str(bank.lab.root / 'x') + '$$')}".replace("$$", "'"),
                      f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{uri}'{with_options(key, 'new_table_name = $$x$$')}".replace("$$", "'"),
                      f"SHOW BACKUP FROM LATEST IN '{uri}'{with_options(key)}",
                      f"VERIFY BACKUP FROM LATEST IN '{uri}'{with_options(key)}",
                      f"BACKUP INTO LATEST IN '{uri}'{with_options(key)}"):
        error = bank.daemon.error(statement, database="bank")
        assert error.sqlstate == "22023" and error.message == f'the incremental backups of "{full}" are in another place', (statement, error)
        assert "located" in error.detail and "secret" not in error.detail, error
    error = bank.daemon.error(f"BACKUP INTO LATEST IN '{uri}'{with_options(key, 'incremental_location = $$nodelocal://self/third$$')}".replace("$$", "'"))
    assert error.sqlstate == "22023" and "is not where the incremental backups of" in error.message, error

    assert types(bank, uri, key, place) == ["full", "incremental", "incremental"]
    assert types(bank, uri, key, "incremental_location = ''") == ["full"]
    bank.psql(f"SHOW BACKUP FROM LATEST IN '{uri}'{with_options(key, place, 'check_files')}")
    assert "succeeded" in bank.psql(f"VERIFY BACKUP FROM LATEST IN '{uri}'{with_options(key, place)}")
    bank.restore(uri, f"located-{name}", ", ".join(filter(None, (key, place))))
    table = f"accounts_{full_in}_{'e' if key else 'p'}"
    bank.psql(f"RESTORE TABLE bank.public.accounts FROM LATEST IN '{uri}'{with_options(key, place, f'new_table_name = ' + repr(table))}")
    assert int(bank.source.value(f"SELECT count(*) FROM (TABLE accounts EXCEPT TABLE {table}) AS missing", database="bank")) == 0
    bank.source.sql(f"DROP TABLE {table}", database="bank")

    # Retention keeps what it cannot see whole, and deletes in both places.
    bank.psql(f"BACKUP INTO '{uri}'{with_options(key)}")
    row = next(row for row in bank.daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{uri}'{with_options(key)}").dicts() if row["subdirectory"] == full)
    assert row["action"] == "kept" and "located" in row["reason"], row
    assert types(bank, uri, key) == ["full"]
    bank.psql(f"SHOW BACKUP FROM '{full}' IN '{uri}'{with_options(key, place, 'check_files')}")
    row = next(row for row in bank.daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{uri}'{with_options(key, place)}").dicts() if row["subdirectory"] == full)
    assert row["action"] == "deleted" and row["layers"] == "3", row
    left = minio.objects(f"located/{name}/") if full_in == "nodelocal" else bank.daemon.files(f"located-{name}")
    assert not left, left
    bank.restore(uri, f"located-after-{name}", key)


def test_two_collections_share_a_place(bank, minio):
    """Each sees, and deletes, its own."""
    place = f"incremental_location = '{minio.uri('shared-place')}'"
    uris = ["nodelocal://self/first-of-two", minio.uri("second-of-two")]
    for uri in uris:
        bank.psql(f"BACKUP INTO '{uri}'")
        bank.psql(f"BACKUP INTO LATEST IN '{uri}' WITH {place}")
        assert types(bank, uri, place) == ["full", "incremental"]
    # The place is a collection itself, too.
    bank.psql(f"BACKUP INTO '{minio.uri('shared-place')}'")
    bank.psql(f"BACKUP INTO '{minio.uri('shared-place')}'")
    before = set(minio.objects("shared-place/"))
    rows = bank.daemon.sql(f"DELETE BACKUPS KEEP 1 FULLS IN '{minio.uri('shared-place')}'").dicts()
    assert [row["action"] for row in rows if row["layers"]] == ["deleted", "kept"], rows
    assert any("BACKUP_MANIFEST" in one and one.count("/") > 4 for one in minio.objects("shared-place/")), before
    bank.psql(f"BACKUP INTO '{uris[0]}'")
    bank.psql(f"DELETE BACKUPS KEEP 1 FULLS IN '{uris[0]}' WITH {place}")
    assert types(bank, uris[1], place) == ["full", "incremental"]
    bank.restore(uris[1], "shared-place", place)


def test_a_killed_and_a_cancelled_incremental(bank, minio, proxy):
    uri, elsewhere = "nodelocal://self/located-killed", minio.uri("located-killed", endpoint=proxy.endpoint)
    place = f"incremental_location = '{elsewhere}'"
    bank.psql(f"BACKUP INTO '{uri}'")
    change(bank)
    stall = proxy.add("^PUT .*[.]pack", "stall", times=100)
    job = bank.daemon.detached(f"BACKUP INTO LATEST IN '{uri}' WITH {place}, detached")
    wait_until(lambda: stall.hit > 0, 60, "a stalled request")
    bank.daemon.kill9()
    stall.left = 0
    bank.daemon.start()
    bank.daemon.wait_job(job)
    assert types(bank, uri, place) == ["full", "incremental"]

    stall.hit, stall.left = 0, 100
    kept = set(minio.objects("located-killed/"))
    job = bank.daemon.detached(f"BACKUP INTO LATEST IN '{uri}' WITH {place}, detached")
    wait_until(lambda: stall.hit > 0, 60, "a stalled request")
    assert set(minio.objects("located-killed/")) > kept
    stall.left = 0
    bank.daemon.sql(f"CANCEL JOB {job}")
    bank.daemon.wait_job(job, "canceled", timeout=60)
    assert set(minio.objects("located-killed/")) == kept
    bank.restore(uri, "located-killed", place)


def test_a_schedule_with_another_place(bank, minio):
    uri, place = "nodelocal://self/located-schedule", f"incremental_location = '{minio.uri('located-schedule')}'"
    rows = bank.daemon.sql(f"CREATE SCHEDULE located FOR BACKUP INTO '{uri}' WITH {place} RECURRING '@hourly' FULL BACKUP '@daily' "
                           "WITH SCHEDULE OPTIONS first_run = 'now', keep_fulls = 1").dicts()
    assert all("incremental_location" in row["backup_stmt"] and minio.keys[1] not in row["backup_stmt"] for row in rows), rows
    incremental, full = (row["schedule_id"] for row in rows)

    def succeeded(schedule):
        return [job["status"] for job in bank.daemon.sql(f"SHOW JOBS FOR SCHEDULE {schedule}").dicts()].count("succeeded")

    wait_until(lambda: succeeded(full) >= 1, 120, "the first full")
    wait_until(lambda: "ACTIVE" in bank.psql(f"SELECT schedule_status FROM [SHOW SCHEDULES] WHERE id = {incremental}"), 60, "an active incremental")
    change(bank)
    bank.psql(f"ALTER BACKUP SCHEDULE {full} EXECUTE IMMEDIATELY")
    wait_until(lambda: succeeded(incremental) >= 1, 120, "the first incremental")
    first = full_of(bank, uri)
    assert types(bank, uri, place) == ["full", "incremental"]
    bank.restore(uri, "located-schedule", place)
    # Its own deletions know of the place.
    bank.psql(f"ALTER BACKUP SCHEDULE {full} EXECUTE FULL IMMEDIATELY")
    wait_until(lambda: first not in bank.psql(f"SHOW BACKUPS IN '{uri}'"), 120, "the deletion of the first chain")
    wait_until(lambda: not minio.objects("located-schedule/"), 60, "the deletion of its incrementals")
    bank.psql(f"DROP SCHEDULE {full}")


def test_wrong_places(bank, minio):
    error = bank.daemon.error
    uri = "nodelocal://self/wrong-places"
    bank.psql(f"BACKUP INTO '{uri}'")
    for place, said in ((f"'{uri}'", "cannot be the collection itself"),
                        ("('nodelocal://self/a', 'nodelocal://self/b')", "the same number of locality aware URIs"),
                        ("'nodelocal://nowhere/a'", ""), ("'what'", "")):
        refused = error(f"BACKUP INTO LATEST IN '{uri}' WITH incremental_location = {place}")
        assert said in refused.message, (place, refused)
    refused = error(f"BACKUP INTO LATEST IN '{uri}' WITH incremental_location = 'userfile:///a'")
    assert refused.sqlstate == "0A000", refused
    lock = "object_lock = 'governance', retain_for = '1 day'"
    minio.make_bucket("located-locked", object_lock=True)
    refused = error(f"BACKUP INTO '{minio.uri('x', bucket='located-locked')}' WITH incremental_location = 'nodelocal://self/y', {lock}")
    assert refused.sqlstate == "0A000" and "object_lock" in refused.message, refused
    # The usual place, said in words.
    bank.psql(f"BACKUP INTO LATEST IN '{uri}' WITH incremental_location = '{uri}/incrementals'")
    assert types(bank, uri) == ["full", "incremental"]
