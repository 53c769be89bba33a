#!/usr/bin/env python3
"""Keeps the layer table true.

The table stands in docs/architecture.md, in the USES rows of src/*/CMakeLists.txt, and in what the
sources include. All three must agree, rows may only look upwards, an x_internal.h is for its own
module, and each third-party library is included only where docs/architecture.md puts it.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

# First component or whole name of a third-party header -> modules that may include it.
# Test files may include more (a test of the proxy is a PostgreSQL client, say): see TEST_ONLY.
THIRD_PARTY = {
    "curl/": {"net"},
    "sqlite3.h": {"state"},
    "libpq-fe.h": {"postgres"},
    "libpq/": {"postgres"},
    "fuse": {"mount"},
    "openssl/": {"crypto", "net"},
    "pg_query": {"sql"},
    "pugixml": {"storage"},
    "httplib.h": {"console"},
    "CLI/": {"daemon", "cli"},
    "zstd": {"io", "collection"},
    "lz4": {"io", "collection"},
    "xxhash.h": {"io", "collection"},
    "spdlog/": {"base"},
    "date/": {"schedule"},
}
TEST_ONLY = ("gtest/", "gmock/", "benchmark/")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def documented_table():
    rows = {}
    text = (ROOT / "docs/architecture.md").read_text()
    section = text.split("<!-- layers -->", 1)[1].split("<!-- /layers -->", 1)[0]
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 3 or cells[0] in ("Module", "---"):
            continue
        rows[cells[0]] = [] if cells[2] == "–" else cells[2].split()
    return rows


def built_table():
    rows = {}
    order = re.findall(r"^add_subdirectory\((\w+)\)", (SRC / "CMakeLists.txt").read_text(), re.M)
    for name in order:
        text = re.sub(r"#.*", "", (SRC / name / "CMakeLists.txt").read_text())
        call = re.search(r"holdfast_module\(\s*(\w+)([^)]*)\)", text)
        if not call or call.group(1) != name:
            rows[name] = None
            continue
        uses = re.search(r"\bUSES\b((?:\s+(?!LINK\b|PROTO\b|TEST_LINK\b)\w+)*)", call.group(2))
        rows[name] = uses.group(1).split() if uses else []
    return rows


def check_tables(documented, built):
    problems = []
    if list(documented) != list(built):
        problems.append(
            f"module order differs: docs/architecture.md has {list(documented)}, "
            f"src/CMakeLists.txt has {list(built)}"
        )
    for name, uses in built.items():
        if uses is None:
            problems.append(f"src/{name}/CMakeLists.txt: no holdfast_module({name} …) call")
        elif sorted(uses) != sorted(documented.get(name, [])):
            problems.append(
                f"src/{name}/CMakeLists.txt: USES {' '.join(uses)}, "
                f"but docs/architecture.md says {' '.join(documented.get(name, []))}"
            )
    names = list(built)
    for row, uses in built.items():
        for used in uses or []:
            if used not in names or names.index(used) >= names.index(row):
                problems.append(f"src/{row}/CMakeLists.txt: {used} is not above {row}")
    return problems


def check_include(path, module, allowed, quote, header):
    is_test = path.name.endswith(("_test.cc", "_bench.cc", "_fuzz.cc")) or "testing" in path.parts
    for prefix, modules in THIRD_PARTY.items():
        if quote == "<" and header.startswith(prefix) and module not in modules and not is_test:
            return f"<{header}> belongs in {', '.join(sorted(modules))} only"
    if header.startswith(TEST_ONLY) and not is_test:
        return f"<{header}> belongs in tests only"
    first = header.split("/")[0]
    if quote == '"':
        if header.endswith(".pb.h"):
            return None
        if "/" not in header:
            return f'"{header}" lacks its module ("{module}/{header}"?)'
        if not (SRC / header).exists():
            return f'"{header}" does not exist'
        if first != module and first not in allowed:
            return f'"{header}": {module} may not include {first}'
        if header.endswith("_internal.h") and first != module:
            return f'"{header}" is for {first} only'
    return None


def main():
    built = built_table()
    problems = check_tables(documented_table(), built)
    for directory in sorted(entry for entry in SRC.iterdir() if entry.is_dir()):
        module = directory.name
        if module not in built:
            problems.append(f"src/{module} is not in src/CMakeLists.txt")
            continue
        for path in sorted([*directory.rglob("*.h"), *directory.rglob("*.cc")]):
            text = path.read_text()
            for match in INCLUDE.finditer(text):
                problem = check_include(path, module, built[module] or [], *match.groups())
                if problem:
                    line = text.count("\n", 0, match.start()) + 1
                    problems.append(f"{path.relative_to(ROOT)}:{line}: {problem}")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(built)} modules, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
