import pytest

from cloud.proxy import FaultProxy
from harness import environment as env
from harness.emulators import Azurite, FakeGcs, Minio, Moto


@pytest.fixture(scope="session")
def emulators():
    """Starts each server when it is first asked for."""
    started = {}

    def get(kind):
        if kind not in started:
            root = env.session_directory()
            started[kind] = kind(root).start()
        return started[kind]
    yield get
    for server in started.values():
        server.stop()


@pytest.fixture(scope="session")
def minio(emulators):
    return emulators(Minio)


@pytest.fixture(scope="session")
def azurite(emulators):
    return emulators(Azurite)


@pytest.fixture(scope="session")
def fake_gcs(emulators):
    return emulators(FakeGcs)


@pytest.fixture(scope="session")
def moto(emulators):
    return emulators(Moto)


@pytest.fixture
def proxy(minio):
    it = FaultProxy(minio.port)
    yield it
    it.close()
