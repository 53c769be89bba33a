"""The contract suite of ObjectStore (src/storage/testing) on real servers."""
import pytest

from harness import environment as env
from harness.emulators import Minio, make_certificate

TESTS = 16
# MinIO keeps objects in directories of a file system, and answers "Access Denied" to a put whose directory is just being removed.
NOT_ON_MINIO = ["*PutsAndRemovesOfOneDirectoryDoNotDisturbEachOther"]


def run_contract(uri, check=True, without=(), **environment):
    binary = env.reachable(env.BUILT_BINARY.parent / "store_contract")
    done = env.run(binary, *(f"--gtest_filter=-{name}" for name in without), env={"HOLDFAST_CONTRACT_URI": uri, **environment}, check=False)
    if check:
        assert done.returncode == 0 and f"[  PASSED  ] {TESTS - len(without)} tests." in done.stdout, done.stdout[-6000:]
    return done.stdout


def test_minio(minio):
    run_contract(minio.uri("contract"), without=NOT_ON_MINIO)


def test_minio_over_tls_with_an_authority_of_its_own(lab):
    directory = make_certificate(lab.directory("certificates", 0o755))
    server = Minio(lab.root).start(tls_directory=directory)
    try:
        run_contract(server.uri("contract"), without=NOT_ON_MINIO, HOLDFAST_CONTRACT_CA_FILE=str(directory / "ca.crt"))
        refused = run_contract(server.uri("contract"), check=False, without=NOT_ON_MINIO)
        assert "SSL certificate problem" in refused and "[  FAILED  ]" in refused, refused[-3000:]
        run_contract(server.uri("unverified", more="&AWS_SKIP_TLS_VERIFY=true"), without=NOT_ON_MINIO)
    finally:
        server.stop()


def test_moto_as_an_assumed_role(moto):
    """Two roles in a chain, the second with an external id; the token service is moto's."""
    run_contract(moto.uri("contract", more="&ASSUME_ROLE=arn:aws:iam::123456789012:role/first,"
                          "arn:aws:iam::123456789012:role/second;external_id=abc"))


@pytest.mark.parametrize("with_sas", [False, True], ids=["account key", "shared access signature"])
def test_azurite(azurite, with_sas):
    run_contract(azurite.uri("contract", with_sas=with_sas))


def test_fake_gcs(fake_gcs):
    run_contract(fake_gcs.uri("contract"))
