"""Wall time, CPU seconds of everybody involved, peak memory, bytes stored."""
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from harness import environment as env

TICK = os.sysconf("SC_CLK_TCK")


def stat_fields(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


def own_cpu(pid):
    fields = stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICK if fields else 0.0


def children():
    """pid -> list of child pids."""
    result = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := stat_fields(entry)):
            result.setdefault(int(fields[1]), []).append(int(entry))
    return result


def tree(pid, table=None):
    table = table or children()
    found = [pid]
    for child in table.get(pid, []):
        found += tree(child, table)
    return found


def server_cpu(postmaster):
    """The postmaster, its living children, and those it has reaped."""
    fields = stat_fields(postmaster)
    reaped = (int(fields[13]) + int(fields[14])) / TICK
    return reaped + sum(own_cpu(pid) for pid in tree(postmaster))


def machine_cpu():
    """Everything that ran, of whomever: what is not idle."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + softirq) / TICK


def private_memory(pid):
    """Resident anonymous memory in bytes: without shared buffers and program text."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def stored_bytes(directory):
    return sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file() and not path.is_symlink())


@dataclass
class Sample:
    wall: float
    cpu: float
    memory: int
    stored: int = 0


def measure(command, postmaster=None, daemon=None, input_text=None, whole_machine=False):
    """Runs `command` as the servers' user. CPU covers it, its children, the daemon and the PostgreSQL server;
    memory is the largest sum of private memory over the tool's processes (its own or the daemon).
    `whole_machine`: CPU of everything, for commands that start servers of their own, which are nobody's children."""
    machine_before = machine_cpu()
    before = (server_cpu(postmaster) if postmaster else 0) + (own_cpu(daemon) if daemon else 0)
    began = time.monotonic()
    process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE if input_text else subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **env.process_options())
    peak, running = 0, True

    def watch():
        nonlocal peak
        while running:
            pids = [daemon] if daemon else tree(process.pid)
            peak = max(peak, sum(map(private_memory, pids)))
            time.sleep(0.05)
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    if input_text:
        process.stdin.write(input_text.encode())
        process.stdin.close()
    output = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    running = False
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} failed ({process.returncode}):\n{output[-4000:]}")
    after = (server_cpu(postmaster) if postmaster else 0) + (own_cpu(daemon) if daemon else 0)
    if whole_machine:
        return Sample(wall, machine_cpu() - machine_before, peak), output
    return Sample(wall, usage.ru_utime + usage.ru_stime + after - before, peak), output


def settle(*warm):
    """Writes out what earlier runs left dirty, and reads the directories into the page cache."""
    os.sync()
    for directory in warm:
        subprocess.run(["find", directory, "-type", "f", "-exec", "cat", "{}", "+"], stdout=subprocess.DEVNULL, check=True)
