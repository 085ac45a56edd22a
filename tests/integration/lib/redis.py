# SPDX-License-Identifier: Apache-2.0
"""redis-server for tests: nothing is written to disk.

    s = Redis("--requirepass", "secret").start()
    s.ask("SET", "key", b"value")        # one command on a connection of its own; errors raise
    with s.session() as r: r("MULTI") ...
    sentinel = Sentinel(s).start()       # knows s as "mymaster"
    nodes = cluster(3)                   # each has a third of the slots
"""
import shutil
import socket
import threading
import time

from .broker import TIMEOUT
from .server import READY_TIMEOUT, Server, free_port

AVAILABLE = shutil.which("redis-server")


class RedisError(AssertionError):
    pass


class Session:
    """A connection, for commands in turn."""

    def __init__(self, port, password=None):
        self.sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.file = self.sock.makefile("rb")
        if password is not None:
            self("AUTH", password)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.file.close()
        self.sock.close()

    def __call__(self, *words):
        self.send(*words)
        return self.receive()

    def send(self, *words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self.sock.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def receive(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RedisError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.receive() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest.decode()


class Redis(Server):
    def __init__(self, *arguments, password=None, tls=None):
        """tls: (lib.pki certificate, path of its authority): then there is TLS on tls_port besides."""
        super().__init__()
        self.arguments, self.password, self.tls = list(arguments), password, tls
        self.tls_port = free_port() if tls else None

    def command(self):
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self.dir, "--save", "",
                   "--appendonly", "no", "--daemonize", "no"]
        if self.password is not None:
            command += ["--requirepass", self.password]
        if self.tls is not None:
            cert, ca = self.tls
            command += ["--tls-port", str(self.tls_port), "--tls-cert-file", cert.cert, "--tls-key-file", cert.key,
                        "--tls-ca-cert-file", ca, "--tls-auth-clients", "optional"]
        return command + self.arguments

    def ready(self):
        try:
            return self.ask("PING") == "PONG"
        except (OSError, RedisError):
            return False

    def session(self):
        return Session(self.port, self.password)

    def ask(self, *words):
        with self.session() as r:
            return r(*words)

    def hash(self, key, **fields):
        self.ask("HSET", key, *[x for item in fields.items() for x in item])


class Sentinel(Redis):
    """Of one master, "mymaster", that it alone decides about."""

    def __init__(self, master, **options):
        super().__init__(**options)
        self.master = master

    def prepare(self):
        self.write("sentinel.conf", "port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor mymaster 127.0.0.1 %d 1\n"
                   "sentinel down-after-milliseconds mymaster 60000\n%s" % (
                       self.port, self.dir, self.master.port,
                       "requirepass %s\n" % self.password if self.password else ""))

    def command(self):
        return ["redis-server", self.path("sentinel.conf"), "--sentinel"]

    def watch(self, master):
        """Another one is the master now."""
        with self.session() as r:
            r("SENTINEL", "REMOVE", "mymaster")
            r("SENTINEL", "MONITOR", "mymaster", "127.0.0.1", master.port, 1)


SLOTS = 16384


def cluster(count):
    """That many masters, each with its part of the slots. @return them, when every one knows that."""
    nodes = [Redis("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-port",
                   str(free_port())) for _ in range(count)]
    for i, node in enumerate(nodes):
        node.start()
        node.first, node.last = i * SLOTS // count, (i + 1) * SLOTS // count - 1
        node.ask("CLUSTER", "ADDSLOTSRANGE", node.first, node.last)
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
    for node in nodes[1:]:
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.arguments[-1])
    deadline = time.monotonic() + READY_TIMEOUT
    while not all("cluster_state:ok" in n.ask("CLUSTER", "INFO").decode() for n in nodes):
        assert time.monotonic() < deadline, nodes[0].ask("CLUSTER", "INFO").decode()
        time.sleep(0.05)
    return nodes


class Scripted:
    """In the place of a server: greets like one, and gives the same answer to every other command."""

    def __init__(self, answer, greeting=b"+PONG\r\n"):
        self.answer, self.greeting = answer, greeting
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    def _serve(self, s):
        with s:
            try:
                while True:
                    data = s.recv(65536)
                    if not data:
                        return
                    s.sendall(self.greeting if b"PING" in data else self.answer)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
