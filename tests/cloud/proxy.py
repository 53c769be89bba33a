"""A proxy between holdfast and an object store that does harm, request by request."""
import http.client
import random
import re
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import environment as env

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class Fault:
    """Hits the first `times` requests whose "METHOD path?query" matches."""

    def __init__(self, pattern, action, times=1, **details):
        self.pattern, self.action, self.left, self.details = re.compile(pattern), action, times, details
        self.hit = 0


class FaultProxy:
    """`latency` seconds pass before each request; of all requests the part `failing` is answered 503, by a fixed seed."""

    def __init__(self, port, latency=0.0, failing=0.0):
        self.upstream = port
        self.latency, self.failing = latency, failing
        self.chance = random.Random(4711)
        self.failed = 0
        self.faults = []
        self.requests = []
        self.lock = threading.Lock()
        self.closing = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self):
                proxy.handle(self)
            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass
        self.server = Quiet(("127.0.0.1", env.free_port()), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def add(self, *arguments, **details):
        fault = Fault(*arguments, **details)
        with self.lock:
            self.faults.append(fault)
        return fault

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def take_fault(self, line):
        with self.lock:
            self.requests.append(line)
            for fault in self.faults:
                if fault.left > 0 and fault.pattern.search(line):
                    fault.left -= 1
                    fault.hit += 1
                    return fault
        return None

    def handle(self, client):
        body = client.rfile.read(int(client.headers.get("Content-Length", 0)))
        fault = self.take_fault(f"{client.command} {client.path}")
        if self.latency:
            self.closing.wait(self.latency)
        with self.lock:
            fails = self.failing and self.chance.random() < self.failing
            self.failed += bool(fails)
        if fails:
            return self.answer(client, 503, {}, SLOW_DOWN)
        action = fault.action if fault else None
        if action == "answer":
            return self.answer(client, fault.details["status"], fault.details.get("headers", {}), fault.details.get("body", b""))
        if action == "stall":
            self.closing.wait(600)
            return self.reset(client)
        if action == "reset before":
            return self.reset(client)
        upstream = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        headers = {name: value for name, value in client.headers.items() if name.lower() != "connection"}
        try:
            upstream.putrequest(client.command, client.path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            response = upstream.getresponse()
            content = response.read()
        finally:
            upstream.close()
        sent = {name: value for name, value in response.getheaders()
                if name.lower() not in ("connection", "transfer-encoding", "keep-alive")}
        length = sent.get("Content-Length", len(content)) if client.command == "HEAD" else len(content)
        sent = {name: value for name, value in sent.items() if name.lower() != "content-length"} | {"Content-Length": str(length)}
        if action == "reset after":
            return self.reset(client)
        if action == "cut":  # the right length, half the body
            self.send(client, response.status, sent, content[:len(content) // 2])
            return self.reset(client)
        if action == "shorten":  # half the body, and a length that says so
            content = content[:len(content) // 2]
            sent["Content-Length"] = str(len(content))
        return self.send(client, response.status, sent, content)

    def answer(self, client, status, headers, body):
        self.send(client, status, {**headers, "Content-Length": str(len(body))}, b"" if client.command == "HEAD" else body)

    @staticmethod
    def send(client, status, headers, body):
        client.send_response_only(status)
        for name, value in headers.items():
            client.send_header(name, value)
        client.end_headers()
        client.wfile.write(body)
        client.wfile.flush()

    @staticmethod
    def reset(client):
        client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.connection.close()
        client.close_connection = True
