"""A proxy between holdfast and MinIO does harm; backups and restores go on, or say what is wrong."""
import email.utils
import time

import pytest

from cloud.proxy import SLOW_DOWN, FaultProxy
from harness.bank import make_bank
from harness.postgres import wait_until

INTERNAL = b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"
EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


@pytest.fixture(scope="module")
def daemon(module_lab):
    source = module_lab.postgres()
    make_bank(source)
    return module_lab.holdfast(source)


def test_a_backup_and_restore_through_a_bad_network(daemon, minio, proxy, lab):
    uri = minio.uri("faults", endpoint=proxy.endpoint)
    faults = [proxy.add("^PUT .*BACKUP-LOCK", "reset before"),
              proxy.add("^PUT .*[.]pack", "answer", status=500, body=INTERNAL),
              proxy.add("^PUT .*[.]pack", "answer", status=503, body=SLOW_DOWN),
              proxy.add("^PUT .*[.]pack", "answer", status=429, headers={"Retry-After": "1"}),
              # Stored, but the answer is lost: the second try finds its own object.
              proxy.add("^PUT .*[.]wal", "reset after"),
              proxy.add("^PUT .*BACKUP_MANIFEST", "reset after"),
              proxy.add("^GET .*list-type", "cut"),
              proxy.add("^HEAD", "reset before", times=2)]
    daemon.sql(f"BACKUP INTO '{uri}'")
    assert all(fault.left == 0 for fault in faults), [fault.pattern for fault in faults if fault.left]

    faults = [proxy.add("^GET .*[.]pack", "cut"),
              proxy.add("^GET .*[.]pack", "shorten"),
              proxy.add("^GET .*[.]pack", "answer", status=503, body=SLOW_DOWN),
              proxy.add("^GET .*[.]wal", "reset before"),
              proxy.add("^GET .*BACKUP_MANIFEST", "shorten"),
              proxy.add("^GET .*list-type", "answer", status=500, body=INTERNAL)]
    target = lab.root / "target"
    daemon.sql(f"RESTORE FROM LATEST IN '{uri}' WITH data_directory = '{target}'")
    assert all(fault.left == 0 for fault in faults), [fault.pattern for fault in faults if fault.left]
    assert (target / "global/pg_control").exists()


def test_retry_after_is_honoured(daemon, minio, proxy):
    uri = minio.uri("retry-after", endpoint=proxy.endpoint)
    proxy.add("^GET .*list-type", "answer", status=429, headers={"Retry-After": "2"})
    began = time.monotonic()
    daemon.sql(f"SHOW BACKUPS IN '{uri}'")
    assert time.monotonic() - began >= 2


def test_a_stalled_request_does_not_hold_a_pause_or_cancel(daemon, minio, proxy):
    uri = minio.uri("stall", endpoint=proxy.endpoint)
    stall = proxy.add("^PUT .*[.]pack", "stall", times=100)
    job = daemon.detached(f"BACKUP INTO '{uri}' WITH detached")
    wait_until(lambda: stall.hit > 0, 60, "a stalled request")
    daemon.sql(f"PAUSE JOB {job}")
    daemon.wait_job(job, "paused", timeout=10)
    stall.left = 0
    daemon.sql(f"RESUME JOB {job}")
    daemon.wait_job(job)

    stall.hit, stall.left = 0, 100
    job = daemon.detached(f"BACKUP INTO '{uri}' WITH detached")
    wait_until(lambda: stall.hit > 0, 60, "a stalled request")
    stall.left = 0
    daemon.sql(f"CANCEL JOB {job}")
    daemon.wait_job(job, "canceled", timeout=20)
    # One full backup, and nothing of the cancelled one.
    assert len(daemon.sql(f"SHOW BACKUPS IN '{uri}'").rows) == 1
    assert len({name.split("/data/")[0] for name in minio.objects("stall/20") if "/data/" in name}) == 1


def test_a_request_that_stalls_is_given_up_and_made_again(daemon, minio, proxy):
    """A server that takes a request and says nothing for ten minutes costs a minute."""
    uri = minio.uri("silence", endpoint=proxy.endpoint)
    stall = proxy.add("^PUT .*[.]pack", "stall")
    began = time.monotonic()
    daemon.sql(f"BACKUP INTO '{uri}'")
    assert stall.hit == 1 and 50 < time.monotonic() - began < 180
    daemon.sql(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH check_files")


def test_clocks_that_differ(daemon, minio, proxy):
    """The store's time is taken for signatures, also when it is set right again in mid-job."""
    skewed = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"
    fault = proxy.add("^PUT .*[.]pack", "answer", status=403, body=skewed,
                      headers={"Date": email.utils.formatdate(time.time() + 7200, usegmt=True)})
    daemon.sql(f"BACKUP INTO '{minio.uri('skew', endpoint=proxy.endpoint)}'")
    assert fault.left == 0
    # The store, whose clock was right, refused what was signed for two hours later.
    assert daemon.log_text().count("the clocks of this machine and of the store differ by") >= 2


def test_expired_credentials_are_fetched_anew(module_lab, minio, moto, proxy):
    """The role's keys are refused in the middle of a job: the next request has others."""
    role = "&ASSUME_ROLE=arn:aws:iam::123456789012:role/backup"
    through = FaultProxy(moto.port)
    try:
        expired = through.add("^PUT .*[.]pack", "answer", status=400, body=EXPIRED)
        uri = moto.uri("expired", endpoint=through.endpoint, more=role)
        source = module_lab.postgres("expiring")
        daemon = module_lab.holdfast(source, "expiring-hf")
        daemon.sql(f"BACKUP INTO '{uri}'")
        assert expired.left == 0
        assert sum(line == "POST /" for line in through.requests) >= 2, "no new keys were asked for"
    finally:
        through.close()
