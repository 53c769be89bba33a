"""Random changes and backups at random moments; any layer restores to the pages that replay of all WAL gives.

    HOLDFAST_WORKLOAD_SEED     another history (any text); without it always the same ones
    HOLDFAST_WORKLOAD_SECONDS  how long changes and backups go on, for long runs by hand: 600
    HOLDFAST_WORKLOAD_VERSION  13 to 18
"""
import os

import pytest

from harness.workload import run

SECONDS = int(os.environ.get("HOLDFAST_WORKLOAD_SECONDS", "0"))
SEED = os.environ.get("HOLDFAST_WORKLOAD_SEED", "holdfast")
VERSION = int(os.environ.get("HOLDFAST_WORKLOAD_VERSION", "0"))


@pytest.mark.versions
@pytest.mark.parametrize("version, checksums", [(15, False), (17, True)], ids=["15-plain", "17-checksums"])
def test_any_layer_of_a_random_history_restores(lab, version, checksums):
    version = VERSION or version
    log = []
    try:
        if SECONDS:
            run(lab, f"{SEED} {version} {checksums}", version, checksums, layers=10_000, seconds=SECONDS, restores=12, log=log)
        else:
            run(lab, f"{SEED} {version} {checksums}", version, checksums, layers=5, seconds=25, restores=3, log=log)
    except BaseException:
        print(f"HOLDFAST_WORKLOAD_SEED={SEED!r} HOLDFAST_WORKLOAD_SECONDS={SECONDS} version {version}, checksums {checksums}")
        print("\n".join(log[-300:]))
        raise
