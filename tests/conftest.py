import itertools
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "lib"))

from harness import environment as env  # noqa: E402
from harness.daemon import Holdfast  # noqa: E402
from harness.order import FileByFile, long_ones_first  # noqa: E402
from harness.postgres import Postgres  # noqa: E402

_numbers = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "versions: runs on every supported PostgreSQL version")
    config.addinivalue_line("markers", "long: takes longer than most, so it begins first")
    assert env.BUILT_BINARY.exists(), f"{env.BUILT_BINARY} does not exist; ./run build makes it"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return FileByFile(config, log)


def pytest_collection_modifyitems(items):
    long_ones_first(items)


def pytest_sessionfinish():
    if not os.environ.get("HOLDFAST_KEEP_TESTS"):
        env.forget_session()


class Lab:
    """Makes servers and daemons for one test (or module), and stops all of them at its end."""

    def __init__(self):
        self.root = env.make_directory(env.session_directory() / f"t{next(_numbers)}", 0o755)
        self._started = []

    def directory(self, name, mode=0o700):
        return env.make_directory(self.root / name, mode)

    def postgres(self, name="pg", start=True, **options):
        server = Postgres(self.directory(name, 0o755), **options)
        self._started.append(server)
        return server.start() if start else server

    def holdfast(self, postgres, name="hf", start=True, **options):
        daemon = Holdfast(postgres, self.directory(name, 0o755), **options)
        self._started.append(daemon)
        return daemon.start() if start else daemon

    def adopt(self, server):
        """A server that somebody else made (a restored directory); stopped with the others."""
        self._started.append(server)
        return server

    def close(self):
        for server in reversed(self._started):
            if isinstance(server, Holdfast):
                if server.process is not None:
                    server.kill9()
            else:
                if server.running():
                    server.kill9()
                server.release_memory()


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Puts the end of the daemons' and servers' logs into the report of a failed test."""
    outcome = yield
    report = outcome.get_result()
    lab = item.funcargs.get("lab") or item.funcargs.get("module_lab") if hasattr(item, "funcargs") else None
    if report.failed and lab is not None:
        for server in lab._started:
            report.sections.append((str(server.log), "\n".join(server.log_text().splitlines()[-25:])))


@pytest.fixture
def lab():
    it = Lab()
    yield it
    it.close()


@pytest.fixture(scope="module")
def module_lab():
    it = Lab()
    yield it
    it.close()
