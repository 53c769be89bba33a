"""Chains of layers: taking them, restoring any of them, and comparing what comes out page by page."""
import itertools
import json
import shutil
import subprocess

from . import environment as env
from .digest import assert_same, digest
from .postgres import Postgres, wait_until

PAGE_COMPARE = env.BUILT_BINARY.parent / "page_compare"
_numbers = itertools.count(1)


def copy_tree(source, target):
    """A copy of a directory and, behind its links in pg_tblspc, of the tablespaces. Holes stay holes."""
    env.run("cp", "-a", "--sparse=always", source, target)
    for link in (target / "pg_tblspc").iterdir():
        if link.is_symlink():
            copy = target.parent / f"{target.name}-space-{link.name}"
            env.run("cp", "-a", "--sparse=always", f"{link.resolve()}/.", copy)
            link.unlink()
            env.run("ln", "-s", copy, link)
    return target


def compare_pages(left, right, *options):
    """Both clusters are stopped, or nothing has been written since their last checkpoint."""
    done = subprocess.run([str(part) for part in (PAGE_COMPARE, *options, left, right)], capture_output=True, text=True,
                          timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def recover(server):
    """Starts a server, lets it finish its recovery and stops it. Nobody has connected to it then."""
    def ready():
        assert server.running(), server.log_text()[-3000:]
        lines = (server.data / "postmaster.pid").read_text().splitlines()
        return len(lines) > 7 and lines[7].strip() == "ready"  # src/include/utils/pidfile.h
    server.start()
    wait_until(ready, 120, "the end of recovery")
    server.stop()
    return server


def check_visibility(server):
    """No page claims more than its tuples allow: pg_check_visible and pg_check_frozen of every table."""
    for database in server.databases():
        if database == "template0":
            continue
        server.sql("CREATE EXTENSION IF NOT EXISTS pg_visibility", database)
        wrong = server.sql("""SELECT c.oid::regclass, 'visible', t FROM pg_class c, pg_check_visible(c.oid) t
            WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'
            UNION ALL SELECT c.oid::regclass, 'frozen', t FROM pg_class c, pg_check_frozen(c.oid) t
            WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'""", database).rows
        assert wrong == [], f"{database}: {wrong[:10]}"


class Chain:
    """The newest chain of a collection."""

    def __init__(self, lab, source, daemon, name="archive"):
        self.lab, self.source, self.daemon = lab, source, daemon
        self.name = name
        self.collection = f"nodelocal://self/{name}"

    # -- layers

    def full(self, options=""):
        return self._taken(f"BACKUP INTO '{self.collection}'{options}")

    def incremental(self, options=""):
        return self._taken(f"BACKUP INTO LATEST IN '{self.collection}'{options}")

    def _taken(self, statement):
        result = self.daemon.sql(statement)
        assert result.one()["status"] == "succeeded", result.rows
        return result

    def layers(self):
        """Their manifests, in order of time."""
        return [json.loads(row[0])
                for row in self.daemon.sql(f"SHOW BACKUP FROM LATEST IN '{self.collection}' WITH as_json").rows]

    def last_change_source(self):
        return self.layers()[-1]["change_source"].removeprefix("CHANGE_SOURCE_")

    def validate(self):
        assert self.daemon.sql(f"SHOW BACKUP VALIDATE FROM LATEST IN '{self.collection}'").rows == [["No problems found!"]]

    # -- restoring

    def restore(self, layer=None, made=()):
        """The directory of a layer (a manifest; absent: the newest), laid out with tablespaces beside it: those of the manifest, and what its WAL has
        `made` (OIDs)."""
        target = self.lab.root / f"target{next(_numbers)}"
        moment = ""
        if layer is not None:
            moment = f" AS OF SYSTEM TIME '{layer['end_time_us']}000'"  # nanoseconds
        known = [space["oid"] for space in (layer or self.layers()[-1]).get("tablespaces", [])]
        mapping = [f"{oid}={target}-space-{oid}" for oid in {int(oid) for oid in (*known, *made)}]
        option = f", tablespace_mapping = '{','.join(mapping)}'" if mapping else ""
        self.daemon.sql(f"RESTORE FROM LATEST IN '{self.collection}'{moment} WITH data_directory = '{target}'{option}")
        return target

    def server(self, directory, **settings):
        """PostgreSQL, not started, on a directory that was laid out or copied."""
        server = self.lab.adopt(Postgres(self.lab.directory(f"s-{directory.name}", 0o755), version=self.source.version,
                                         data=directory))
        server.configure({"port": server.port, "unix_socket_directories": f"'{server.sockets}'", "listen_addresses": "''",
                          "archive_mode": "off", "hot_standby": "off", "autovacuum": "off", **settings})
        return server

    def recovered(self, layer=None, made=()):
        """A stopped server, recovered to the end of the layer. Nobody has connected to it."""
        return recover(self.server(self.restore(layer, made)))

    def assert_pages(self, pages_of, layer):
        """The layer restores to the pages of the directory, whatever they hold. Its own directory is removed."""
        server = self.recovered(layer)
        compare_pages(pages_of, server.data)
        self.forget(server)

    def assert_restores(self, before, layer=None, pages_of=None):
        """The layer restores to the digest `before` (absent: is not compared), with sound tables and indexes; and to the
        pages of the directory `pages_of`, if one is given. The directory is removed."""
        server = self.recovered(layer)
        if pages_of is not None:
            compare_pages(pages_of, server.data)
        server.start()
        wait_until(server.ready, 60, "the restored server answering")
        if before is not None:
            assert_same(before, digest(server, skip_unlogged=True))
        check_visibility(server)
        server.amcheck()
        server.stop()
        self.forget(server)

    def forget(self, server):
        """Removes its directory and tablespaces."""
        for path in [server.data, *server.data.parent.glob(f"{server.data.name}-space-*")]:
            shutil.rmtree(path)

    # -- what must come out

    def layer(self):
        """Takes an incremental layer while nobody else writes: the source's content, and a copy of its pages."""
        before = digest(self.source, skip_unlogged=True)
        self.incremental()
        # Not before: listing the catalog may prune its pages.
        self.source.sql("CHECKPOINT")
        return before, copy_tree(self.source.data, self.lab.root / f"state{next(_numbers)}")

    # -- what happens to sources

    def fail_over(self):
        """A standby takes the source's place: its directory, address and name. The old directory is removed."""
        source = self.source
        source.stop()
        data = copy_tree(source.data, self.lab.root / f"standby{next(_numbers)}")
        source.start()
        env.run("touch", data / "standby.signal")
        standby = self.server(data, hot_standby="on", primary_conninfo=(
            f"'host={source.sockets} port={source.port} user=postgres'"))
        standby.start()
        source.sql("CREATE TABLE IF NOT EXISTS before_promotion (a int); INSERT INTO before_promotion VALUES (1)")
        position = source.value("SELECT pg_current_wal_flush_lsn()")
        wait_until(lambda: standby.value(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t", 60, "the standby")
        source.stop("immediate")
        standby.sql("SELECT pg_promote()")
        standby.stop()
        spaces = [link.resolve() for link in (source.data / "pg_tblspc").iterdir()]
        self.before_removal(source.data)
        shutil.rmtree(source.data)
        for path in spaces:
            shutil.rmtree(path / next(path.glob("PG_*")).name)
        data.rename(source.data)
        source.configure({"port": source.port, "unix_socket_directories": f"'{source.sockets}'"})
        source.start()

    def before_removal(self, directory):
        """Called with a source's directory that is about to go."""


class Reference:
    """The cluster as it was before the first layer, which WAL alone brings to any later moment."""

    def __init__(self, chain):
        """The source is stopped, and keeps all its WAL from here on."""
        self.chain = chain
        self.base = copy_tree(chain.source.data, chain.lab.root / "reference")
        self.wal = chain.lab.directory("reference-wal")

    def keep_wal(self, directory):
        """Of a data directory that is about to go."""
        env.run("/bin/sh", "-c", f"cp -a '{directory}'/pg_wal/0* '{self.wal}'")

    def recovered(self, stop):
        """A stopped server at the moment {timeline, position} at which a layer ends."""
        position = int(stop["position"])
        data = copy_tree(self.base, self.chain.lab.root / f"reference{next(_numbers)}")
        wal = f"{self.chain.source.data}/pg_wal"
        server = self.chain.server(
            data, recovery_target_lsn=f"'{position >> 32:X}/{position & 0xFFFFFFFF:X}'", recovery_target_inclusive="off",
            recovery_target_timeline=stop["timeline"], recovery_target_action="promote",
            restore_command=f"'cp {wal}/%f %p 2>/dev/null || cp {self.wal}/%f %p 2>/dev/null'")
        env.run("touch", data / "recovery.signal")
        return recover(server)
