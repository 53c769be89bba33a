"""A collection behind a plain web server can be restored from by the name of a backup."""
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

from harness import environment as env
from harness.bank import make_bank


class Files(BaseHTTPRequestHandler):
    """GET with Range and HEAD; PUT is refused, as most web servers do."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.server.root / unquote(self.path).lstrip("/")
        if not path.is_file():
            return self.reply(404, b"")
        content = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked:
            return self.reply(200, content)
        first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
        if first >= len(content):
            return self.reply(416, b"")
        return self.reply(206, content[first:last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"})
    do_HEAD = do_GET

    def do_PUT(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(405, b"")

    def reply(self, status, body, headers=None):
        self.send_response_only(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_restore_from_a_web_server(lab):
    source = lab.postgres()
    make_bank(source)
    daemon = lab.holdfast(source)
    daemon.sql("BACKUP INTO 'nodelocal://self/archive'")
    full = daemon.fulls("archive")[0]
    server = ThreadingHTTPServer(("127.0.0.1", env.free_port()), Files)
    server.daemon_threads = True
    server.root = daemon.io
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        uri = f"http://127.0.0.1:{server.server_address[1]}/archive"
        target = lab.root / "target"
        result = daemon.sql(f"RESTORE FROM '{full}' IN '{uri}' WITH data_directory = '{target}'")
        assert any("incremental layers" in message for _, message in result.notices), result.notices
        assert (target / "global/pg_control").exists()
        for statement in (f"RESTORE FROM LATEST IN '{uri}' WITH data_directory = '{target}2'", f"SHOW BACKUPS IN '{uri}'"):
            error = daemon.error(statement)
            assert error.sqlstate == "0A000" and "cannot be listed" in error.message, error
        assert daemon.error(f"BACKUP INTO '{uri}'").sqlstate in ("0A000", "42501")
        # A user who is no administrator must not send the daemon to servers of his choice.
        source.sql("CREATE ROLE visitor LOGIN")
        assert daemon.error(f"SHOW BACKUPS IN '{uri}'", user="visitor", tcp=True).sqlstate == "42501"
        assert daemon.error("SHOW BACKUPS IN 's3://bucket?AUTH=implicit'", user="visitor", tcp=True).sqlstate == "42501"
    finally:
        server.shutdown()
        server.server_close()
