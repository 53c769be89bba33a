"""Standbys, and what becomes of them."""
from . import environment as env
from .postgres import Postgres, wait_until


def make_standby(lab, primary, name="standby", streams=True, **settings):
    """A standby of `primary` with a slot of its own there, running. Without `streams` it takes WAL from the primary's
    archive_command's directory, settings["restore_command"]."""
    data = lab.root / f"{name}-data"
    slot = ("-C", "-S", name) if streams else ()
    if (primary.bin / "pg_basebackup").exists():
        env.run(primary.bin / "pg_basebackup", "-h", primary.sockets, "-p", primary.port, "-U", "postgres", "-D", data, "-R", "-c", "fast",
                "-X", "stream", *slot)
    else:
        assert streams
        primary.sql(f"SELECT pg_create_physical_replication_slot('{name}', true)")
        primary.stop()
        env.run("cp", "-a", primary.data, data)
        primary.start()
        (data / "standby.signal").touch()
        settings |= {"primary_slot_name": name, "primary_conninfo": f"'host={primary.sockets} port={primary.port} user=postgres'"}
    standby = lab.adopt(Postgres(lab.directory(name, 0o755), version=primary.version, data=data))
    if not streams:
        settings["primary_conninfo"] = "''"
        # -R writes it where postgresql.conf has no say.
        auto = data / "postgresql.auto.conf"
        auto.write_text("".join(line for line in auto.read_text().splitlines(True) if "primary_conninfo" not in line))
    standby.configure({"port": standby.port, "unix_socket_directories": f"'{standby.sockets}'", **settings})
    return standby.start()


def wait_replayed(standby, primary):
    """Until the standby has all that the primary has committed by now."""
    position = primary.value("SELECT pg_current_wal_flush_lsn()")
    wait_until(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t", 60, "the standby")


def wait_job_of_standby(daemon, primary, job, timeout=120):
    """A backup of a standby ends when the primary has finished the WAL segment that the backup ends in: an idle one is helped."""
    def succeeded():
        status = daemon.job(job)["status"]
        assert status not in ("failed", "canceled"), daemon.job(job)["error"]
        if status != "succeeded":
            primary.sql("SELECT txid_current(); SELECT pg_switch_wal()")
        return status == "succeeded"
    wait_until(succeeded, timeout, "the backup of the standby")


def promote(standby, primary):
    """The primary is lost, with nothing that the standby does not have."""
    wait_replayed(standby, primary)
    primary.kill9()
    standby.sql("SELECT pg_promote()")
    wait_until(lambda: standby.value("SELECT pg_is_in_recovery()") == "f", 60, "the promotion")
