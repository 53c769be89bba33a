"""SQL over libpq, with the parts that a test wants to look at: columns with types, text values, tag,
notices, SQLSTATE."""
import select
import time
from dataclasses import dataclass, field

import psycopg
from psycopg import pq

TYPE_NAMES = {16: "bool", 17: "bytea", 20: "int8", 23: "int4", 25: "text", 701: "float8", 1009: "text[]",
              1184: "timestamptz", 1700: "numeric", 3802: "jsonb", 19: "name", 26: "oid"}


class SqlError(Exception):
    """A server's error response."""

    def __init__(self, sqlstate, message, detail, hint):
        super().__init__(f"{sqlstate}: {message}" + (f"\nDETAIL: {detail}" if detail else "") +
                         (f"\nHINT: {hint}" if hint else ""))
        self.sqlstate, self.message, self.detail, self.hint = sqlstate, message, detail, hint


@dataclass
class Result:
    columns: list  # (name, type name)
    rows: list     # lists of str or None
    tag: str
    notices: list = field(default_factory=list)  # (sqlstate, message)

    def dicts(self):
        names = [name for name, _ in self.columns]
        return [dict(zip(names, row)) for row in self.rows]

    def one(self):
        assert len(self.rows) == 1, f"{len(self.rows)} rows: {self.rows}"
        return self.dicts()[0]

    def value(self):
        assert len(self.rows) == 1 and len(self.columns) == 1, f"{self.columns}: {self.rows}"
        return self.rows[0][0]


def _field(result, code):
    value = result.error_field(code)
    return value.decode() if value else ""


class Connection:
    """One libpq connection; simple query protocol unless parameters are given."""

    def __init__(self, **parameters):
        parameters.setdefault("connect_timeout", 20)
        conninfo = psycopg.conninfo.make_conninfo(**parameters)
        self.pgconn = pq.PGconn.connect(conninfo.encode())
        if self.pgconn.status != pq.ConnStatus.OK:
            message = self.pgconn.error_message.decode().strip()
            self.pgconn.finish()
            raise ConnectionError(message)
        self.notices = []
        self.pgconn.notice_handler = lambda result: self.notices.append(
            (_field(result, pq.DiagnosticField.SQLSTATE), _field(result, pq.DiagnosticField.MESSAGE_PRIMARY)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.pgconn.finish()

    def send(self, text, parameters=None):
        self.notices = []
        if parameters is None:
            self.pgconn.send_query(text.encode())
        else:
            self.pgconn.send_query_params(text.encode(), [None if p is None else str(p).encode() for p in parameters])

    def receive(self, timeout=300):
        """All results of what was sent. Raises SqlError for the first error."""
        deadline = time.monotonic() + timeout
        results, error = [], None
        while True:
            while self.pgconn.is_busy():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"no answer within {timeout} s")
                select.select([self.pgconn.socket], [], [], left)
                try:
                    self.pgconn.consume_input()
                except psycopg.OperationalError as lost:
                    raise ConnectionError(str(lost)) from None
            result = self.pgconn.get_result()
            if result is None:
                break
            if result.status == pq.ExecStatus.FATAL_ERROR:
                if not _field(result, pq.DiagnosticField.SQLSTATE):
                    raise ConnectionError(result.error_message.decode().strip())
                error = error or SqlError(*(_field(result, code) for code in (
                    pq.DiagnosticField.SQLSTATE, pq.DiagnosticField.MESSAGE_PRIMARY,
                    pq.DiagnosticField.MESSAGE_DETAIL, pq.DiagnosticField.MESSAGE_HINT)))
                continue
            columns = [(result.fname(i).decode(), TYPE_NAMES.get(result.ftype(i), str(result.ftype(i))))
                       for i in range(result.nfields)]
            rows = [[None if (v := result.get_value(r, c)) is None else v.decode() for c in range(result.nfields)]
                    for r in range(result.ntuples)]
            results.append(Result(columns, rows, (result.command_status or b"").decode()))
        if error is not None:
            raise error
        for result in results:
            result.notices = list(self.notices)
        return results

    def query(self, text, parameters=None, timeout=300):
        """The last statement's result."""
        self.send(text, parameters)
        return self.receive(timeout)[-1]

    def cancel(self):
        self.pgconn.get_cancel().cancel()
