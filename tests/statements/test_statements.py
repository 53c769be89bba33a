"""Runs the *.test files beside it; README.md describes them."""
import re
from pathlib import Path

import pytest

from harness import environment as env
from harness.bank import make_bank
from harness.wire import SqlError

HERE = Path(__file__).parent
FILES = sorted(path.stem for path in HERE.glob("*.test"))


class Script:
    def __init__(self, lab, path):
        self.path = path
        self.postgres = lab.postgres()
        make_bank(self.postgres)
        self.daemon = lab.holdfast(self.postgres)
        self.variables = {"io": str(self.daemon.io), "data": str(self.postgres.data), "root": str(lab.root)}
        self.user, self.database, self.tcp = "postgres", "postgres", False
        self.parameters = None

    # -- reading

    def blocks(self):
        """(line number, lines) of each block; directives are blocks of one line."""
        block, start = [], 0
        for number, line in enumerate(self.path.read_text().splitlines(), 1):
            if line.startswith("#"):
                continue
            if line.startswith("@") and not block:
                yield number, [line]
            elif line.strip():
                if not block:
                    start = number
                block.append(line)
            elif block:
                yield start, block
                block = []
        if block:
            yield start, block

    def substitute(self, text):
        def value(match):
            assert match.group(1) in self.variables, f"${{{match.group(1)}}} has no value"
            return self.variables[match.group(1)]
        return re.sub(r"\$\{(\w+)\}", value, text)

    # -- running

    def run(self):
        """Goes on after a block that failed, so that one run shows all that is wrong."""
        problems = []
        for number, lines in self.blocks():
            try:
                if lines[0].startswith("@"):
                    self.directive(self.substitute(lines[0]))
                else:
                    assert "----" in lines, "the block has no ----"
                    cut = lines.index("----")
                    self.statement("\n".join(lines[:cut]), lines[cut + 1:])
            except (AssertionError, SqlError, ConnectionError, TimeoutError) as problem:
                problems.append(f"{self.path.name}, line {number}: {lines[0]}\n    {problem}")
        if problems:
            raise AssertionError("\n".join(problems))

    def directive(self, line):
        name, _, rest = line.partition(" ")
        if name == "@wait":
            job, status = rest.split()
            self.daemon.wait_job(int(job), status)
        elif name == "@as":
            self.user, _, database = rest.partition(" ")
            self.database = database or "postgres"
        elif name in ("@socket", "@tcp"):
            self.tcp = name == "@tcp"
        elif name == "@postgres":
            self.postgres.stop() if rest == "down" else self.postgres.start()
        elif name == "@psql":
            database, _, statement = rest.partition(" ")
            self.postgres.sql(statement, database)
        elif name == "@shell":
            env.run("/bin/sh", "-c", f"cd {self.daemon.io} && {rest}")
        elif name == "@restart":
            self.daemon.restart(rest or None)
        elif name == "@parameters":
            self.parameters = [part.strip() for part in rest.split(",")]
        else:
            raise AssertionError(f"unknown directive {name}")

    def statement(self, text, expected):
        parameters, self.parameters = self.parameters, None
        wanted_error = next((line for line in expected if line.startswith("error ")), None)
        try:
            result = self.daemon.sql(self.substitute(text), parameters, self.user, self.database, self.tcp, timeout=120)
        except SqlError as error:
            assert wanted_error, str(error)
            self.compare_error(error, expected)
            return
        assert not wanted_error, f"no error, but {result}"
        self.compare_result(result, expected)

    def matches(self, pattern, text):
        if len(pattern) > 1 and pattern[0] == pattern[-1] == "/":
            return text is not None and re.search(f"^(?:{pattern[1:-1]})$", text, re.S) is not None
        return self.substitute(pattern) == text

    def compare_error(self, error, expected):
        for line in expected:
            kind, _, rest = line.partition(" ")
            if kind == "error":
                state, _, message = rest.partition(": ")
                assert self.matches(state, error.sqlstate), f"SQLSTATE {state} expected, got {error}"
                assert self.matches(message, error.message), f"message {message!r} expected, got {error.message!r}"
            elif kind in ("detail:", "hint:"):
                actual = getattr(error, kind[:-1])
                assert self.matches(rest, actual), f"{kind} {rest!r} expected, got {actual!r}"
            else:
                raise AssertionError(f"cannot be checked beside an error: {line}")

    def compare_result(self, result, expected):
        rows, open_end, checked_rows = [], False, False
        for line in expected:
            kind, _, rest = line.partition(" ")
            if line == "ok":
                return
            if kind == "columns":
                wanted = [tuple(part.split()) for part in rest.split(",")]
                assert result.columns == wanted, f"columns {wanted} expected, got {result.columns}"
            elif kind == "tag":
                assert result.tag == rest, f"tag {rest} expected, got {result.tag}"
            elif kind == "notice":
                assert any(self.matches(rest, message) for _, message in result.notices), f"notices: {result.notices}"
            elif line == "...":
                open_end = checked_rows = True
            elif line == "none":
                checked_rows = True
            else:
                rows.append([cell.strip() for cell in line.split(" | ")])
                checked_rows = True
        if checked_rows:
            self.compare_rows(result.rows, rows, open_end)

    def compare_rows(self, actual, wanted, open_end):
        shown = "\n".join(map(str, actual[:30]))
        assert len(actual) == len(wanted) or (open_end and len(actual) > len(wanted)), \
            f"{len(wanted)} rows expected, got {len(actual)}:\n{shown}"
        for number, (row, cells) in enumerate(zip(actual, wanted)):
            assert len(row) == len(cells), f"row {number}: {len(cells)} values expected, got {row}"
            for value, cell in zip(row, cells):
                assert self.cell(cell, value), f"row {number}: {cell!r} expected, got {value!r} in\n{shown}"

    def cell(self, pattern, value):
        if pattern == "*":
            return True
        if pattern == "NULL":
            return value is None
        capture = re.fullmatch(r"\$\{(\w+)\}", pattern)
        if capture and capture.group(1) not in self.variables:
            self.variables[capture.group(1)] = value
            return value is not None
        return self.matches(pattern, value)


@pytest.mark.parametrize("name", FILES)
def test_statements(lab, name):
    Script(lab, HERE / f"{name}.test").run()
