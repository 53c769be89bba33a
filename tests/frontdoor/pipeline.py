"""One pipeline through libpq itself: psycopg's own raises an error as soon as its answer comes, which may be before the rest is sent."""

from psycopg import pq

SKIPPED = "skipped"


def outcomes(connection, *batches):
    """Sends all statements, a Sync behind each batch, then reads: per statement its first value, SKIPPED, or the SQLSTATE as 'error …'."""
    raw = connection.pgconn
    raw.enter_pipeline_mode()
    for batch in batches:
        for statement in batch:
            raw.send_query_params(statement.encode(), None)
        raw.pipeline_sync()
    found = []
    for batch in batches:
        found.append([outcome(raw) for _ in batch])
        assert raw.get_result().status == pq.ExecStatus.PIPELINE_SYNC
    raw.exit_pipeline_mode()
    return found


def outcome(raw):
    result = raw.get_result()
    assert raw.get_result() is None
    if result.status == pq.ExecStatus.PIPELINE_ABORTED:
        return SKIPPED
    if result.status == pq.ExecStatus.FATAL_ERROR:
        return "error " + result.error_field(pq.DiagnosticField.SQLSTATE).decode()
    value = result.get_value(0, 0) if result.ntuples else None
    return value and value.decode()
