#!/usr/bin/env python3
"""Runs clang-tidy (with clang's thread-safety analysis) over what the asan build compiles, in parallel.

That build compiles a module as one file, which saves most of the time here, too. Its precompiled header would not: clang-tidy looks at
all of that each time.
What did not change since it last passed, nor its headers and configuration, is not run again.
"""
import argparse
import concurrent.futures
import hashlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from xml.sax.saxutils import quoteattr

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build/asan"
CACHE = ROOT / "build/tidy"


def digest(paths):
    result = hashlib.sha256()
    for path in paths:
        result.update(str(path).encode() + b"\0" + path.read_bytes())
    return result.hexdigest()


def members(source):
    """The files that `source` compiles as one, or itself."""
    return [Path(name) for name in re.findall(r'#include "(.*\.cc)"', source.read_text())] or [source]


def title(source):
    files = [file.relative_to(ROOT) for file in members(source)]
    return str(files[0]) if len(files) == 1 else f"{files[0].parent} ({len(files)} files)"


def without_precompiled_header(command):
    return re.sub(r" -Winvalid-pch| -Xclang -include(-pch)? -Xclang \S+", "", command)


def check(source, common):
    stamp = CACHE / hashlib.sha256((common + digest(members(source))).encode()).hexdigest()
    if stamp.exists():
        return source, 0.0, ""
    began = time.monotonic()
    run = subprocess.run(
        ["clang-tidy-14", "-p", CACHE, "--quiet", "--extra-arg=-Wthread-safety", source],
        capture_output=True, text=True, cwd=ROOT,
    )
    seconds = time.monotonic() - began
    if run.returncode == 0:
        stamp.touch()
        return source, seconds, ""
    return source, seconds, (run.stdout + run.stderr).strip() or f"exit code {run.returncode}"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--junit", required=True)
    arguments.add_argument("--jobs", type=int, default=2)
    options = arguments.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)

    commands = json.loads((BUILD / "compile_commands.json").read_text())
    for entry in commands:
        entry["command"] = without_precompiled_header(entry["command"])
    (CACHE / "compile_commands.json").write_text(json.dumps(commands))
    sources = [Path(entry["file"]) for entry in commands]
    # What the unit tests do wrong the sanitizers see, which run them.
    sources = [path for path in sources if all(ROOT / "src" in file.parents and not file.name.endswith("_test.cc")
                                               for file in members(path))]
    # The longest first, so that none of them is alone in the end.
    sources.sort(key=lambda path: -sum(file.stat().st_size for file in members(path)))
    common = digest([ROOT / ".clang-tidy", *sorted((ROOT / "src").rglob("*.h")),
                     *sorted((ROOT / "proto").glob("*.proto"))])
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        results = list(pool.map(lambda source: check(source, common), sources))

    cases = []
    for source, seconds, problem in results:
        body = f"<failure message={quoteattr(problem)}/>" if problem else ""
        cases.append(f'<testcase classname="tidy" name={quoteattr(title(source))} time="{seconds:.1f}">{body}</testcase>')
        if problem:
            print(problem)
    Path(options.junit).write_text(f"<testsuite>{''.join(cases)}</testsuite>\n")
    return 1 if any(problem for _, _, problem in results) else 0


if __name__ == "__main__":
    sys.exit(main())
