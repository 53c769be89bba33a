"""A client that sends exactly the messages it is told to."""

import socket
import struct


class Wire:
    def __init__(self, port, user):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.settimeout(10)
        self.file = self.socket.makefile("rb")
        body = struct.pack("!I", 196608) + f"user\0{user}\0database\0postgres\0\0".encode()
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        self.types_until_ready()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, body=b""):
        self.socket.sendall(kind.encode() + struct.pack("!I", len(body) + 4) + body)
        return self

    def read(self):
        header = self.file.read(5)
        if len(header) < 5:
            return "", b""
        return chr(header[0]), self.file.read(struct.unpack("!I", header[1:])[0] - 4)

    def types_until_ready(self):
        types = ""
        while not types.endswith("Z"):
            kind, _ = self.read()
            assert kind, f"closed after {types!r}"
            types += kind
        return types

    def query(self, text):
        return self.send("Q", text.encode() + b"\0")

    def parse(self, name, text):
        return self.send("P", f"{name}\0{text}\0".encode() + b"\0\0")

    def bind(self, portal, statement):
        return self.send("B", f"{portal}\0{statement}\0".encode() + b"\0" * 6)

    def describe(self, kind, name):
        return self.send("D", f"{kind}{name}\0".encode())

    def close(self, kind, name):
        return self.send("C", f"{kind}{name}\0".encode())

    def execute(self, portal, limit=0):
        return self.send("E", f"{portal}\0".encode() + struct.pack("!I", limit))

    def flush(self):
        return self.send("H")

    def sync(self):
        return self.send("S")
