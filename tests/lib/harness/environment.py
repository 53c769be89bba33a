"""Paths, free ports, and running things as the user that owns the servers."""
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BUILT_BINARY = Path(os.environ.get("HOLDFAST_BINARY", ROOT / "build/release/holdfast"))
DEBIAN_BIN = Path("/usr/lib/postgresql/15/bin")

# PostgreSQL and holdfast refuse to run as root; root's servers run as postgres.
AM_ROOT = os.getuid() == 0
SERVER_USER = "postgres" if AM_ROOT else pwd.getpwuid(os.getuid()).pw_name
SERVER = pwd.getpwnam(SERVER_USER)

_session = None


def session_directory():
    """One short path for everything that a test run leaves on disk; removed by forget_session()."""
    global _session
    if _session is None:
        _session = Path(tempfile.mkdtemp(prefix="hft-", dir=os.environ.get("HOLDFAST_TEST_DIR", "/tmp")))
        give(_session)
        _session.chmod(0o755)
    return _session


def forget_session():
    global _session
    if _session is not None:
        shutil.rmtree(_session, ignore_errors=True)
        _session = None


def give(path):
    """Makes the server user the owner."""
    if AM_ROOT:
        os.chown(path, SERVER.pw_uid, SERVER.pw_gid)
    return path


def make_directory(path, mode=0o700):
    path = Path(path)
    path.mkdir(parents=False, exist_ok=False)
    path.chmod(mode)
    return give(path)


def process_options():
    """Keywords for subprocess that start a program as the server user."""
    options = {"env": {"PATH": f"{DEBIAN_BIN}:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8",
                       "HOME": str(session_directory()), "TZ": "UTC", "PGCONNECT_TIMEOUT": "20"},
               "cwd": session_directory()}
    if AM_ROOT:
        options.update(user=SERVER.pw_uid, group=SERVER.pw_gid, extra_groups=[])
    return options


def run(*command, check=True, timeout=300, **more):
    """Runs a program as the server user; its output is in the exception when it fails."""
    options = process_options()
    options["env"] = {**options["env"], **more.pop("env", {})}
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, text=True, timeout=timeout, **options, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: exit code {done.returncode}\n{done.stdout}")
    return done


def reachable(path):
    """The same file or directory, somewhere that the server user can read: a checkout below a 0700
    home is copied."""
    path = Path(path).resolve()
    if not AM_ROOT or run("/usr/bin/test", "-r", path, "-a", "-x", path, check=False).returncode == 0:
        return path
    copy = session_directory() / f"copy-{abs(hash(str(path)))}-{path.name}"
    if not copy.exists():
        if path.is_dir():
            shutil.copytree(path, copy, symlinks=True)
        else:
            shutil.copy2(path, copy)
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    return copy


def free_port():
    """A TCP port that nothing listens on now, outside the range that the kernel gives to clients."""
    # Each worker of pytest-xdist has ports of its own; runs beside each other mostly, too.
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    low = 20000 + worker * 1500
    first = low + (os.getpid() % 10) * 100
    for port in [*range(first, low + 1500), *range(low, first)]:
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise AssertionError("no free port")


_given = set()
