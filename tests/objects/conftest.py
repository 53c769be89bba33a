import pytest

from .scope import make_marked, with_small_segments


@pytest.fixture
def marked(lab):
    server = lab.postgres(conf={"autovacuum": "off"})
    make_marked(server)
    return server, lab.holdfast(server)


@pytest.fixture
def marked_small(lab):
    """With WAL segments so small that keeping some of them shows."""
    server = with_small_segments(lab.postgres(start=False))
    make_marked(server)
    return server, lab.holdfast(server)
