"""Runs the examples of docs/statements/*.md and compares what comes out with what the page shows.

A block that begins with ```sql run is executed, through psql, on a PostgreSQL 15 with the bank database; the ```text block after it must be its
result. Numbers, dates and widths of columns may differ: every run has its own. HOLDFAST_UPDATE_DOCS=1 writes the results into the pages instead.
"""
import json
import os
import re

import pytest

from harness import environment as env
from harness.bank import make_bank

PAGES = sorted((env.ROOT / "docs/statements").glob("*.md"))
BLOCK = re.compile(r"```sql run\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.S)


def normalise(text):
    """Leaves what is the same in every run."""
    lines = []
    for line in text.strip().splitlines():
        line = re.sub(r"\d+", "0", line)
        line = re.sub(r"[0.]*0 (kB|MB|GB|B|MiB|GiB)", "0 B", line)
        line = re.sub(r"-+", "-", line)
        line = re.sub(r"\s+", " ", line).strip()
        lines.append(line)
    return "\n".join(lines)


def run(daemon, statements):
    """Through psql's input, so that each statement is sent by itself."""
    script = daemon.root / "example.sql"
    script.write_text(statements)
    script.chmod(0o644)
    done = env.run(env.DEBIAN_BIN / "psql", "-X", "-q", "-h", daemon.sockets, "-p", daemon.port, "-U", "postgres", "-f", script,
                   "bank", check=False)
    return re.sub(r"psql:\S+:\d+: ", "", done.stdout)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_examples(lab, page):
    postgres = lab.postgres()
    make_bank(postgres)
    daemon = lab.holdfast(postgres)
    text = page.read_text()
    count = 0

    def check(match):
        nonlocal count
        count += 1
        output = run(daemon, match.group(1).replace("/var/tmp", str(lab.root))).replace(str(lab.root), "/var/tmp")
        if os.environ.get("HOLDFAST_UPDATE_DOCS"):
            shown = "\n".join(line.rstrip() for line in output.rstrip().splitlines())
            result = f"\n```text\n{shown}\n```\n" if shown else ""
            return f"```sql run\n{match.group(1)}```\n{result}"
        shown = match.group(2) or ""
        assert normalise(output) == normalise(shown), \
            f"{page.name}: {match.group(1)}\nthe page shows:\n{shown}\nbut the result is:\n{output}"
        return match.group(0)

    updated = BLOCK.sub(check, text)
    assert count > 0, "no example is run"
    if os.environ.get("HOLDFAST_UPDATE_DOCS"):
        page.write_text(updated)


def test_monitoring_files_name_metrics_that_exist():
    known = set(re.findall(r"holdfast_[a-z_]+", "".join(path.read_text() for path in (env.ROOT / "src/daemon").glob("*metrics.cc"))))
    json.loads((env.ROOT / "docs/monitoring/grafana.json").read_text())
    page = (env.ROOT / "docs/monitoring.md").read_text()
    assert {name for name in known if f"| `{name}` |" not in page} == set(), "metrics that the page does not have"
    for page in [env.ROOT / "docs/monitoring.md", *(env.ROOT / "docs/monitoring").iterdir()]:
        named = set(re.findall(r"holdfast_[a-z_]+", page.read_text()))
        assert named and named <= known, f"{page.name}: {named - known}"


def test_links_lead_somewhere():
    for page in [env.ROOT / "README.md", *(env.ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(env.ROOT)}: {target}"
