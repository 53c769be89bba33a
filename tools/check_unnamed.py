#!/usr/bin/env python3
"""Checks that a module uses a name in unnamed namespaces once, and none that a constant of its headers or of a function has.

With HOLDFAST_UNITY (cmake/HoldfastModule.cmake) several files of a module, or several of its unit tests, are compiled as
one; which ones shifts with every new file. Functions may share a name as long as their parameters differ.
"""
import collections
import re
import sys
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "src"
NAMED = (
    re.compile(r"(?:struct|class|enum class|enum|union) (\w+)"),
    re.compile(r"using (\w+) ="),
    re.compile(r"(?:static )?(?:constexpr|const) [\w:<>,\s*&]+? (\w+)(?:\[.*?\])?\s*(?:=|\{|;)"),
)
LOCAL = re.compile(r"^ +(?:(?:static )?constexpr [^=({;]*?|using (?=\w+ =))(\w+)(?:\[.*?\])?(?: =|\{|;)", re.MULTILINE)
FUNCTION = re.compile(r"[A-Za-z_][\w:<>,\s*&\[\]]*?[ *&](\w+\(.*)")


def names(path):
    """What the file declares in the unnamed namespaces, one per line as clang-format leaves them."""
    inside = False
    for line in path.read_text().splitlines():
        if line == "namespace {":
            inside = True
        elif line == "}  // namespace":
            inside = False
        elif inside:
            for pattern in NAMED:
                if found := pattern.match(line):
                    yield found.group(1)
                    break
            else:
                if found := FUNCTION.match(line):
                    # Without the parameters' names, which do not tell functions apart.
                    yield re.sub(r"\s*\b\w+(?=[,)])", "", found.group(1)).rstrip(" {")


def main():
    problems = []
    for module in sorted(path for path in SOURCES.iterdir() if path.is_dir()):
        for tests in (False, True):
            users, locals_of = collections.defaultdict(set), {}
            for path in module.glob("*.h"):
                for constant in re.findall(r"^inline constexpr .*?(\w+)(?:\[.*?\])?(?: =|\{|;)", path.read_text(), re.MULTILINE):
                    users[constant].add(path.name)
            for path in sorted(module.glob("*.cc")):
                if path.name.endswith(("_fuzz.cc", "_bench.cc")) or path.name.endswith("_test.cc") != tests:
                    continue
                for name in names(path):
                    users[name].add(path.name)
                locals_of[path.name] = set(LOCAL.findall(path.read_text()))
            unnamed = set(users)
            for name, files in users.items():
                # Of the files as one, in the order of their names, a later one would hide it.
                users[name] = files | {file for file, local in locals_of.items() if name in local and file > min(files)}
            # What everybody says without a module's name.
            for path in (SOURCES / "base").glob("*.h"):
                for name in re.findall(r"^(?:struct|class|enum class) (?:\w+\(.*?\) )?(\w+)[^;]*$", path.read_text(), re.MULTILINE):
                    if name in unnamed:
                        users[name].add(f"base/{path.name}")
            problems += [f"src/{module.name}: {name} is declared in {' and '.join(sorted(files))}"
                         for name, files in users.items() if len(files) > 1]
    if problems:
        print("\n".join(problems))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
