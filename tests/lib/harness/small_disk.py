"""A file system that is full soon."""
import contextlib
import os
import subprocess

from . import environment as env


def _as_root(command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        done = subprocess.run(["sudo", "-n", *command], capture_output=True, text=True, check=False)
    return done


@contextlib.contextmanager
def small_disk(directory, mebibytes):
    """Mounts one on `directory`. Needs root, or a kernel that lets users mount (user namespaces)."""
    done = _as_root(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,uid={env.SERVER.pw_uid},mode=700", "none", str(directory)])
    assert done.returncode == 0, f"a small file system cannot be mounted here: {done.stderr}"
    try:
        yield directory
    finally:
        _as_root(["umount", "-l", str(directory)])


def fill(directory, leave_bytes):
    """Puts a file "ballast" there that leaves only so much room."""
    room = os.statvfs(directory)
    with open(directory / "ballast", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, room.f_bavail * room.f_frsize - leave_bytes))
