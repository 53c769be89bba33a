#!/usr/bin/env python3
"""Says what failed, in lines that begin with "failed:".

  failed.py junit <part> <file>   prints "<passed> <failed>" of a JUnit file, and the lines to standard error
  failed.py log <name> <file>     prints the lines of one failure, out of its log, to standard error

A skipped test counts as failed: a test that does not run proves nothing.
"""
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# The end of a sanitizer's report is a legend, so lines that say something are looked for, too.
TELLING = re.compile(r"ERROR: |SUMMARY: |WARNING: ThreadSanitizer|runtime error: |: Failure$|(?:^|\s)error: |^E  |Assertion")
SHOWN = 6  # lines that tell something, and as many of the end
DETAILED = 10  # failures; of more than these, only the names


def excerpt(text):
    """The lines to show of a log: the first ones that tell something, and the last ones."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    telling = [index for index, line in enumerate(lines) if TELLING.search(line)][:SHOWN]
    return [lines[index] for index in sorted({*telling, *range(max(0, len(lines) - SHOWN), len(lines))})]


def say(name, lines):
    for line in [name, *(f"  {line}" for line in lines)]:
        print(f"failed: {line[:240]}", file=sys.stderr)


def log_of(case, bad):
    """What a test left to read: ctest puts all of it into system-out, pytest and ours into the failure itself."""
    parts = [part for child in bad for part in (child.get("message"), child.text) if part]
    parts += [child.text or "" for child in case if child.tag == "system-out"]
    return "\n".join(parts)


def count(part, path):
    passed = failed = 0
    for case in ElementTree.parse(path).iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        if bad or case.get("status") in ("fail", "disabled", "notrun"):
            failed += 1
            # ctest repeats the name as the class.
            name = ".".join(dict.fromkeys(filter(None, (case.get("classname"), case.get("name")))))
            say(f"{part}: {name}", excerpt(log_of(case, bad)) if failed <= DETAILED else [])
        else:
            passed += 1
    if passed + failed == 0:
        say(f"{part}: no test ran", [])
        failed = 1
    print(passed, failed)


def main():
    name, path = sys.argv[2:]
    if sys.argv[1] == "junit":
        count(name, path)
    else:
        say(name, excerpt(Path(path).read_text(errors="replace")) if Path(path).exists() else [f"no {path}"])


if __name__ == "__main__":
    main()
