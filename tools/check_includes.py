#!/usr/bin/env python3
"""Checks that each file includes, itself or through headers of ours, what declares the names that it uses.

Where several files are compiled as one (cmake/HoldfastModule.cmake) the compiler does not see a missing #include. Looked for are the names
of the standard library and of {fmt} in the table below, names of ours with their module (`collection::Chain`), and types of the file's own module.
"""
import collections
import functools
import re
import sys
from pathlib import Path

SRC = Path(__file__).resolve().parent.parent / "src"
STANDARD = {
    "algorithm": "sort stable_sort find_if any_of all_of none_of count_if copy_if transform remove_if lower_bound upper_bound clamp "
                 "binary_search unique reverse max_element min_element equal ranges::sort ranges::find ranges::find_if ranges::any_of "
                 "ranges::all_of ranges::none_of ranges::count_if ranges::copy ranges::reverse ranges::lower_bound ranges::upper_bound",
    "array": "array", "atomic": "atomic atomic_bool", "charconv": "from_chars to_chars", "chrono": "chrono",
    "condition_variable": "condition_variable condition_variable_any", "deque": "deque", "filesystem": "filesystem", "fstream":
    "ifstream ofstream", "functional": "function", "future": "future promise async", "iostream": "cout cerr cin", "limits": "numeric_limits",
    "list": "list", "map": "map multimap", "memory": "unique_ptr shared_ptr make_unique make_shared weak_ptr", "mutex":
    "mutex lock_guard unique_lock scoped_lock call_once once_flag", "numeric": "accumulate iota", "optional": "optional nullopt", "queue": "queue priority_queue", "random":
    "mt19937 mt19937_64 random_device uniform_int_distribution", "regex": "regex", "set": "set multiset", "span": "span as_bytes",
    "sstream": "ostringstream istringstream stringstream", "string": "string to_string stoi stoull getline", "string_view": "string_view",
    "system_error": "error_code system_error errc", "thread": "thread jthread this_thread", "tuple": "tuple tie", "typeinfo": "type_info",
    "unordered_map": "unordered_map", "unordered_set": "unordered_set", "variant": "variant visit get_if holds_alternative monostate",
    "vector": "vector", "cerrno": "", "stop_token": "stop_token stop_source stop_callback", "exception":
    "exception_ptr current_exception rethrow_exception", "stdexcept": "runtime_error logic_error invalid_argument out_of_range",
    "type_traits": "is_same_v decay_t enable_if_t", "iterator": "back_inserter make_move_iterator istreambuf_iterator",
}
HOME = {f"std::{name}": {header} for header, names in STANDARD.items() for name in names.split()}
# What a header of the standard library is specified, or certain, to bring along.
BRINGS = {"thread": {"stop_token"}, "fstream": {"string"}, "sstream": {"string"}, "regex": {"string"}, "condition_variable": {"mutex", "stop_token"},
          "filesystem": {"string", "chrono", "system_error"}, "stdexcept": {"string"}, "charconv": {"system_error"}, "iostream": {"string"}, "future": {"exception"}, "string": {"string_view"}}
for name in ("format", "join", "format_to", "print", "string_view"):
    HOME[f"fmt::{name}"] = {"fmt/format.h", "fmt/core.h", "fmt/ranges.h", "fmt/chrono.h"}
QUALIFIED = re.compile(r"\b(std|fmt)::((?:ranges::)?\w+)")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)
MODULES = sorted(path.name for path in SRC.iterdir() if path.is_dir())
OURS = re.compile(rf"(?<![\w:.>])({'|'.join(MODULES)})::(?!proto\b)(\w+)")
DECLARED = re.compile(r"\b(?:struct|class|enum class|using) (\w+)")
USED_TYPE = re.compile(r"(?<![\w:.>])([A-Z]\w+)(?=::|[ &*]+\w|[({>&*])")
TYPE = re.compile(r"^(?:struct|class|enum class) (?:\w+\(.*?\) )?(\w+)(?! *;)[^;\n]*(?:\{|$)", re.M)


@functools.cache
def code(path):
    """The file without comments and the content of literals."""
    text = re.sub(r'R"(\w*)\(.*?\)\1"', '""', path.read_text(), flags=re.S)
    return re.sub(r'//[^\n]*|/\*.*?\*/|(?<=[^"\n])"(?:\\.|[^"\\\n])*"(?=[^"])', lambda match: '""' if match[0][0] == '"' else "", text, flags=re.S)


@functools.cache
def direct(path):
    return INCLUDE.findall(path.read_text())


def closure(path):
    """The headers of ours that the file includes, however far away, and the other ones that these and the file include."""
    ours, others, todo = set(), set(), [path]
    while todo:
        for quote, name in direct(todo.pop()):
            header = SRC / name
            if quote == '"' and header.exists():
                if header not in ours:
                    ours.add(header)
                    todo.append(header)
            else:
                others |= {name, *BRINGS.get(name, ())}
    return ours, others


def main():
    headers = sorted(SRC.rglob("*.h"))
    types = collections.defaultdict(set)
    known = {module: collections.defaultdict(set) for module in MODULES}  # a word: the headers that have it
    for header in headers:
        for name in TYPE.findall(code(header)):
            types[name].add(header)
        for name in set(re.findall(r"\w+", code(header))):
            known[header.relative_to(SRC).parts[0]][name].add(header)

    problems = []
    for path in sorted([*headers, *SRC.rglob("*.cc")]):
        text, module = code(path), path.relative_to(SRC).parts[0]
        ours, others = closure(path)
        for name in sorted({f"{space}::{name}" for space, name in QUALIFIED.findall(text)}):
            if name in HOME and not HOME[name] & others:
                problems.append((path, name, " or ".join(f"<{header}>" for header in sorted(HOME[name]))))
        declared = set(DECLARED.findall(text))
        for used, name in sorted(set(OURS.findall(text))):
            homes = known[used].get(name, set())
            if used != module and homes and not homes & ours and name not in declared:
                problems.append((path, f"{used}::{name}", " or ".join(sorted(str(home.relative_to(SRC)) for home in homes)[:3])))
        for name in sorted(set(USED_TYPE.findall(text)) - declared):
            own = {home for home in types[name] if home.relative_to(SRC).parts[0] == module}
            if len(types[name]) == 1 and own and path not in own and not known[module][name] & {*ours, path}:
                problems.append((path, name, str(next(iter(own)).relative_to(SRC))))
    for path, name, home in problems:
        print(f"src/{path.relative_to(SRC)} uses {name} and does not include {home}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
