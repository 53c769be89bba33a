"""A server with the sample bank, its daemon, and a backup and restore of it."""
from harness import environment as env
from harness.bank import make_bank
from harness.digest import assert_same, digest
from harness.postgres import Postgres, wait_until


class Bank:
    def __init__(self, lab):
        self.lab = lab
        self.source = lab.postgres()
        make_bank(self.source)
        self.daemon = lab.holdfast(self.source, arguments=["--storage-read-rate", "s3=1GiB", "--storage-write-rate", "s3=1GiB,gs=1GiB"])
        self.digest = digest(self.source, skip_unlogged=True)

    def psql(self, statement):
        done = env.run(env.DEBIAN_BIN / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.daemon.sockets,
                       "-p", self.daemon.port, "-U", "postgres", "-c", statement, "bank")
        return done.stdout

    def round_trip(self, uri, name, key=""):
        """`key` is an option such as "encryption_passphrase = 'x'"."""
        more = f", {key}" if key else ""
        assert "succeeded" in self.psql(f"BACKUP INTO '{uri}'" + (f" WITH {key}" if key else ""))
        assert len(self.psql(f"SHOW BACKUPS IN '{uri}'").split()) == 1
        assert "accounts" in self.psql(f"SHOW BACKUP FROM LATEST IN '{uri}' WITH check_files{more}")
        self.restore(uri, name, key)

    def restore(self, uri, name, key="", expected=None):
        """The newest backup there holds what the server had, or what `expected` is the digest of."""
        target = self.lab.root / name
        self.psql(f"RESTORE FROM LATEST IN '{uri}' WITH data_directory = '{target}'" + (f", {key}" if key else ""))
        restored = self.lab.adopt(Postgres(self.lab.directory(f"server-{name}", 0o755), version=self.source.version, data=target))
        restored.configure({"port": restored.port, "unix_socket_directories": f"'{restored.sockets}'"})
        restored.start()
        wait_until(restored.ready, 60, "the restored server answering")
        assert_same(expected or self.digest, digest(restored, skip_unlogged=True))
        restored.stop()
