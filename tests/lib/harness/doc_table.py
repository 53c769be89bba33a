"""Tables of the documentation whose rows are tests: the page says what is promised, the test tries it."""
from . import environment as env


def rows(page, name):
    """The cells of each row between <!-- name --> and <!-- /name --> of docs/<page>, without the head."""
    text = (env.ROOT / "docs" / page).read_text()
    inside = text.split(f"<!-- {name} -->\n", 1)[1].split(f"<!-- /{name} -->", 1)[0]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in inside.splitlines()[2:]]


def answers(page, name, column=1):
    """What each row says: its first cell, and the first word of the cell in `column`."""
    return {row[0]: row[column].split()[0].strip(",;:") for row in rows(page, name)}
