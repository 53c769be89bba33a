"""Full backup into one MinIO over TLS, which pgBackRest insists on, and the restore of it. WAL-G takes part where a `wal-g` for PostgreSQL is in PATH."""
import shutil

from harness import environment as env
from harness.emulators import BUCKET, Minio, make_certificate
from measure import measure, settle


class CloudBench:
    def __init__(self, bench, _scale):
        self.bench = bench
        self.target = bench.work / "target"
        certificates = make_certificate(env.make_directory(bench.work / "certificates", 0o755))
        self.minio = Minio(bench.work)
        self.minio.start(tls_directory=certificates)
        key, secret = self.minio.keys
        bench.configurations["s3"] = bench.pgbackrest_configuration("s3", f"""repo1-type=s3
repo1-path=/pgbackrest
repo1-s3-bucket={BUCKET}
repo1-s3-endpoint=127.0.0.1
repo1-storage-port={self.minio.port}
repo1-storage-verify-tls=n
repo1-s3-uri-style=path
repo1-s3-region=us-east-1
repo1-s3-key={key}
repo1-s3-key-secret={secret}
repo1-bundle=y""")
        self.pgbackrest = ["pgbackrest", f"--config={bench.configurations['s3']}", "--stanza=bench"]
        self.uri = self.minio.uri("archive", more="&AWS_SKIP_TLS_VERIFY=true")
        self.tools = {"holdfast": "archive", "pgbackrest zst bundle": "pgbackrest"}
        if program := shutil.which("wal-g"):
            self.tools["wal-g zstd"] = "wal-g"
            shutil.copy(program, bench.work / "wal-g")
            (bench.work / "wal-g").chmod(0o755)
        self.wal_g = ["/usr/bin/env", f"WALG_S3_PREFIX=s3://{BUCKET}/wal-g", f"AWS_ENDPOINT=https://127.0.0.1:{self.minio.port}",
                      "AWS_S3_FORCE_PATH_STYLE=true", "AWS_REGION=us-east-1", f"AWS_ACCESS_KEY_ID={key}", f"AWS_SECRET_ACCESS_KEY={secret}",
                      f"WALG_S3_CA_CERT_FILE={certificates}/ca.crt", "WALG_COMPRESSION_METHOD=zstd", "WALG_UPLOAD_DISK_CONCURRENCY=2",
                      f"PGHOST={bench.source.sockets}", f"PGPORT={bench.source.port}", "PGUSER=postgres", "PGDATABASE=postgres",
                      f"HOME={bench.work}", bench.work / "wal-g"]

    def backup(self, tool):
        shutil.rmtree(self.minio.data / "disk" / BUCKET / self.tools[tool], ignore_errors=True)
        if tool.startswith("pgbackrest"):
            env.run(*self.pgbackrest, "stanza-create")
            return self.bench.backup_pgbackrest("s3")
        if tool.startswith("wal-g"):
            return measure([*self.wal_g, "backup-push", self.bench.source.data], self.bench.source.pid())[0]
        return self.bench.run_holdfast(f"BACKUP INTO '{self.uri}'")

    def restore(self, tool):
        shutil.rmtree(self.target, ignore_errors=True)
        if tool != "holdfast":
            env.make_directory(self.target)
            command = [*self.wal_g, "backup-fetch", self.target, "LATEST"] if tool.startswith("wal-g") else \
                [*self.pgbackrest, f"--pg1-path={self.target}", "restore"]
            return measure(command)[0]
        return self.bench.run_holdfast(f"RESTORE FROM LATEST IN '{self.uri}' WITH data_directory = '{self.target}'", server=False)

    def round(self):
        for tool in self.tools:
            settle(self.bench.source.data)
            self.bench.note("cloud backup", tool, self.backup(tool))
            settle(self.minio.data)
            self.bench.note("cloud restore", tool, self.restore(tool))

    def close(self):
        shutil.rmtree(self.target, ignore_errors=True)
        self.minio.stop()
