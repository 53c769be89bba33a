"""A backup taken while pgbench writes all the time: correct to the page."""
import subprocess
import time

from harness import environment as env
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until

COLLECTION = "nodelocal://self/archive"


def test_restored_cluster_is_right_under_load(lab):
    source = lab.postgres(conf={"full_page_writes": "on", "shared_buffers": "128MB", "checkpoint_timeout": "30s"})
    source.pgbench_init(20)
    daemon = lab.holdfast(source, log_level="info")
    writer = source.pgbench_start(3600, clients=4)
    try:
        time.sleep(1)
        daemon.sql(f"BACKUP INTO '{COLLECTION}'")
        peak = daemon.peak_memory()
    finally:
        writer.terminate()
        writer.wait(30)
    assert peak <= 256 << 20, f"{peak >> 20} MiB resident"

    source.destroy()
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}'")
    balances = source.sql("""SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(bbalance) FROM pgbench_branches),
        (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)""", "pgbench").rows[0]
    assert len(set(balances)) == 1, balances
    assert int(source.value("SELECT count(*) FROM pgbench_history", "pgbench")) > 0
    source.amcheck()


def test_pages_equal_those_of_a_standby_at_the_same_lsn(lab):
    """The strongest proof: replay stops both at one LSN, and every page is the same, hint bits and holes aside."""
    source = lab.postgres(conf={"full_page_writes": "on", "shared_buffers": "64MB", "autovacuum_naptime": "2s",
                                "max_replication_slots": "4"})
    source.pgbench_init(10)
    standby_data = lab.root / "standby-data"
    env.run(source.bin / "pg_basebackup", "-h", source.sockets, "-p", source.port, "-U", "postgres", "-D", standby_data,
            "-R", "-c", "fast", "-X", "stream", "-C", "-S", "standby")
    standby = lab.adopt(Postgres(lab.directory("standby", 0o755), data=standby_data))
    standby.configure({"port": standby.port, "unix_socket_directories": f"'{standby.sockets}'"})
    standby.start()
    daemon = lab.holdfast(source)
    writer = source.pgbench_start(3600, clients=4)
    try:
        time.sleep(1)
        daemon.sql(f"BACKUP INTO '{COLLECTION}'")
    finally:
        writer.terminate()
        writer.wait(30)

    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{COLLECTION}' WITH data_directory = '{target}'")
    # The restored directory becomes a second standby, so that both replay the same WAL to the same place.
    restored = lab.adopt(Postgres(lab.directory("restored", 0o755), data=target))
    restored.configure({"port": restored.port, "unix_socket_directories": f"'{restored.sockets}'",
                        "primary_conninfo": f"'host={source.sockets} port={source.port} user=postgres'"})
    (target / "recovery.signal").unlink()
    env.run("/usr/bin/touch", target / "standby.signal")
    with open(target / "postgresql.auto.conf", "a", encoding="utf-8") as file:
        file.write("recovery_target = ''\nrecovery_target_timeline = 'latest'\nrestore_command = ''\nhot_standby = on\n")
    restored.start()

    # A server that shuts down first sends all its WAL to those that stream: autovacuum cannot add to it then.
    wait_until(lambda: source.value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "2", 60, "streaming")
    source.stop()

    def replayed(server):
        return server.sql("SELECT pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()").rows[0]
    wait_until(lambda: len({*replayed(standby), *replayed(restored)}) == 1, 60, "replay")
    for server in (standby, restored):
        server.sql("CHECKPOINT")
        server.stop()
    compare = env.BUILT_BINARY.parent / "page_compare"
    done = subprocess.run([compare, standby.data, target], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 differ" in done.stdout, done.stdout
