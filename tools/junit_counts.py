#!/usr/bin/env python3
"""Prints "<passed> <failed>" of a JUnit file, and to standard error the names of what failed.

A skipped test counts as failed: a test that does not run proves nothing.
"""
import sys
import xml.etree.ElementTree as ElementTree


def main():
    passed = failed = 0
    for case in ElementTree.parse(sys.argv[1]).iter("testcase"):
        bad = [child for child in case if child.tag in ("failure", "error", "skipped")]
        if bad or case.get("status") in ("fail", "disabled", "notrun"):
            failed += 1
            text = (bad[0].get("message") or bad[0].text or "").strip() if bad else ""
            first_line = text.splitlines()[0][:160] if text else ""
            name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
            print(f"    failed: {name}: {first_line}", file=sys.stderr)
        else:
            passed += 1
    if passed + failed == 0:
        print("    no test ran", file=sys.stderr)
        failed = 1
    print(passed, failed)


if __name__ == "__main__":
    main()
