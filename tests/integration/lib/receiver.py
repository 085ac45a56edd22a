# SPDX-License-Identifier: Apache-2.0
"""Where webhooks end: an HTTP or HTTPS server in a process of its own that can be killed, stopped and started again, does
whatever wrong a test asks for, and remembers what came.

    r = Receiver().start()                  # https://localhost:PORT/, certificate of lib.pki's root; Receiver(tls=False): http
    r.kill9(); r.start(); r.pause(); r.resume()
    r.does("status", status=503, headers={"Retry-After": "1"}, times=3)     # what happens from the next request on
    r.does()                                # everything is taken again
    r.wait_events(1000)                     # [Event] that were taken, in the order they came
    r.deliveries()                          # [Delivery]: each request, taken or not

What it is asked to do with a request (rules, of which the first that fits counts; none: "ok"):

    ok              200                     status          status, headers, body; 2xx is taken
    slow            ok after `delay` s      hang            never answered
    forget          taken, then the connection is closed without an answer
    part            taken, half of the answer, then closed  reset   the connection is reset
    garbage         no HTTP                 drip            200, one byte every `delay` s
    endless_headers                         endless_body    of status `status`
    huge_body       Content-Length 1 GiB, all of it

A rule fits every request, or with match = "regex" only those whose body has it; with path = "/x" those of that path; with
over = N those whose body is longer; `times`: so often. What is taken is in the file before an answer leaves, so that a kill at any
moment loses nothing that was answered with 2xx. TLS: with handshake = "hang" in a rule's place, see tls().
"""
import collections
import itertools
import json
import os
import re
import signal
import socket
import ssl
import struct
import sys
import threading
import time

if __name__ != "__main__":
    from . import pki
    from .broker import TIMEOUT
    from .http_server import Nginx
    from .server import Server
else:
    Server = object

CHUNK = 1 << 18
LINGER = struct.pack("ii", 1, 0)


# ---- the process --------------------------------------------------------------------------------


class Gone(Exception):
    """The other side has closed."""


class Process:
    def __init__(self, folder, port):
        self.control = os.path.join(folder, "control")
        self.lock = threading.Lock()
        self.seen, self.rules, self.tls, self.contexts = None, [], {}, {}
        self.numbers = itertools.count()
        self.file = os.open(os.path.join(folder, "records"), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.drop_part_of_a_record()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=512)

    def drop_part_of_a_record(self):
        """Of a process that was killed while it wrote: that one was not answered."""
        end = 0
        with open(self.file, "rb", closefd=False) as f:
            size = f.seek(0, 2)
            f.seek(0)
            while True:
                head = f.readline()
                if not head.endswith(b"\n"):
                    break
                next_one = f.tell() + json.loads(head)["len"]
                if next_one > size:
                    break
                end = f.seek(next_one)
        os.truncate(self.file, end)

    def look(self):
        """What the test wants now. It replaces the control file as a whole."""
        found = os.stat(self.control)
        if (found.st_ino, found.st_mtime_ns) == self.seen:
            return
        with self.lock, open(self.control, encoding="utf-8") as f:
            found = os.fstat(f.fileno())
            if (found.st_ino, found.st_mtime_ns) == self.seen:
                return
            wanted = json.load(f)
            self.rules, self.tls = wanted["rules"], wanted["tls"]
            for rule in self.rules:
                if "match" in rule:
                    rule["match"] = re.compile(rule["match"].encode())
            self.seen = found.st_ino, found.st_mtime_ns

    def rule(self, target, body):
        self.look()
        for rule in self.rules:
            if "match" in rule and not rule["match"].search(body) or "path" in rule and rule["path"] != target or \
                    len(body) <= rule.get("over", -1):
                continue
            if "times" in rule:
                with self.lock:
                    if rule["times"] == 0:
                        continue
                    rule["times"] -= 1
            return rule
        return {"do": "ok"}

    def context(self):
        key = (self.tls["cert"], self.tls["key"], self.tls.get("client_ca"))
        if key not in self.contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(key[0], key[1])
            if key[2]:
                context.load_verify_locations(key[2])
                context.verify_mode = ssl.CERT_REQUIRED
            self.contexts[key] = context
        return self.contexts[key]

    def run(self):
        while True:
            s, _ = self.listener.accept()
            threading.Thread(target=self.connection, args=(s,), daemon=True).start()

    def connection(self, s):
        try:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.look()
            if self.tls.get("handshake") == "hang":
                while s.recv(CHUNK):
                    pass
                return
            if self.tls.get("cert"):
                s = self.context().wrap_socket(s, server_side=True)
            Connection(self, s).run()
        except (OSError, Gone, ValueError):
            pass
        finally:
            s.close()

    def record(self, c, head, body, status, taken):
        method, target, headers = head
        line = json.dumps({"time": time.time(), "connection": c.number, "method": method, "target": target, "headers": headers,
                           "status": status, "taken": taken, "subject": c.subject, "len": len(body)})
        data = line.encode() + b"\n" + body
        with self.lock:
            while data:
                data = data[os.write(self.file, data):]


class Connection:
    def __init__(self, process, s):
        self.process, self.socket, self.buffer = process, s, b""
        self.number = next(process.numbers)
        self.subject = None
        if isinstance(s, ssl.SSLSocket) and s.getpeercert():
            self.subject = dict(x[0] for x in s.getpeercert()["subject"]).get("commonName")

    def more(self):
        data = self.socket.recv(CHUNK)
        if not data:
            raise Gone()
        return data

    def until(self, mark):
        while mark not in self.buffer:
            self.buffer += self.more()
            if len(self.buffer) > 1 << 20:
                raise Gone()
        out, _, self.buffer = self.buffer.partition(mark)
        return out

    def exactly(self, length):
        if len(self.buffer) < length:
            parts, have = [self.buffer], len(self.buffer)
            while have < length:
                parts.append(self.more())
                have += len(parts[-1])
            self.buffer = b"".join(parts)
        out, self.buffer = self.buffer[:length], self.buffer[length:]
        return out

    def request(self):
        lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        headers = [line.split(": ", 1) if ": " in line else line.split(":", 1) for line in lines[1:]]
        known = {h[0].lower(): h[1] for h in headers}
        if known.get("expect", "").lower() == "100-continue":
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if known.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while (length := int(self.until(b"\r\n"), 16)) > 0:
                parts.append(self.exactly(length))
                self.until(b"\r\n")
            self.until(b"\r\n")
            return (method, target, headers), b"".join(parts)
        return (method, target, headers), self.exactly(int(known.get("content-length", "0")))

    def run(self):
        while True:
            head, body = self.request()
            rule = self.process.rule(head[1], body)
            getattr(self, "do_" + rule["do"])(rule, head, body)

    # ---- what a rule says

    def take(self, head, body, status=200):
        self.process.record(self, head, body, status, True)

    def leave(self, head, body, status=None):
        self.process.record(self, head, body, status, False)

    def end(self):
        raise Gone()

    def answer(self, status, headers=(), body=b""):
        lines = ["HTTP/1.1 %d Whatever" % status] + ["%s: %s" % h for h in dict(headers).items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\nContent-Length: %d\r\n\r\n" % len(body)).encode() + body)

    def pour(self, head, piece):
        """As long as the other side takes it."""
        self.socket.sendall(head)
        while True:
            self.socket.sendall(piece)

    def do_ok(self, _, head, body):
        self.take(head, body)
        self.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def do_status(self, rule, head, body):
        status = rule["status"]
        (self.take if 200 <= status < 300 else self.leave)(head, body, status)
        self.answer(status, rule.get("headers", {}), rule.get("body", "").encode())

    def do_slow(self, rule, head, body):
        time.sleep(rule["delay"])
        self.do_ok(rule, head, body)

    def do_hang(self, _, head, body):
        self.leave(head, body)
        while self.more():
            pass

    def do_forget(self, _, head, body):
        self.take(head, body, None)
        self.end()

    def do_part(self, _, head, body):
        self.take(head, body)
        self.socket.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        self.end()

    def do_reset(self, _, head, body):
        self.leave(head, body)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
        self.end()

    def do_garbage(self, _, head, body):
        self.leave(head, body)
        self.socket.sendall(b"\0\xff\xfe this is no HTTP\r\n\r\n")
        self.end()

    def do_drip(self, rule, head, body):
        self.take(head, body)
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
            self.socket.sendall(bytes([byte]))
            time.sleep(rule["delay"])

    def do_endless_headers(self, rule, head, body):
        self.leave(head, body)
        self.pour(b"HTTP/1.1 %d OK\r\n" % rule.get("status", 200), b"X-More: " + b"x" * 1000 + b"\r\n")

    def do_endless_body(self, rule, head, body):
        self.leave(head, body)
        self.pour(b"HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n" % rule.get("status", 200),
                  b"4000\r\n" + b"x" * 0x4000 + b"\r\n")

    def do_huge_body(self, rule, head, body):
        self.leave(head, body)
        self.socket.sendall(b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n" % (rule.get("status", 200), 1 << 30))
        for _ in range(1 << 10):
            self.socket.sendall(bytes(1 << 20))


# ---- for tests ----------------------------------------------------------------------------------


class Delivery:
    """One request. taken: it was answered with 2xx, or would have been."""

    def __init__(self, head, body):
        self.time, self.connection, self.method, self.target = (head[k] for k in ("time", "connection", "method", "target"))
        self.status, self.taken, self.subject, self.body = head["status"], head["taken"], head["subject"], body
        self.raw_headers = head["headers"]
        self.headers = {name.lower(): value for name, value in head["headers"]}

    def json(self):
        return json.loads(self.body)

    def events(self):
        """[Event], whatever the mode: batched, structured, binary."""
        kind = self.headers.get("content-type", "").split(";")[0]
        if "ce-id" in self.headers:
            one = {name[3:]: value for name, value in self.headers.items() if name.startswith("ce-")}
            return [Event(dict(one, data=self.json() if self.body else None), self)]
        if kind == "application/cloudevents-batch+json":
            return [Event(e, self) for e in self.json()]
        if kind == "application/cloudevents+json":
            return [Event(self.json(), self)]
        raise AssertionError("no CloudEvents: %r, %.200r" % (kind, self.body))

    def __repr__(self):
        return "<%s %s: %s, %d bytes%s>" % (self.method, self.target, self.status, len(self.body), ", taken" if self.taken else "")


class Event:
    """A CloudEvent. Payloads of tests that count are "NAME NUMBER", perhaps with dots behind."""

    def __init__(self, fields, delivery):
        self.fields, self.delivery = fields, delivery
        self.id, self.subject, self.data = fields.get("id"), fields.get("subject"), fields.get("data") or {}
        self.kind = fields.get("type", "").rpartition(".")[2]
        client, message = self.data.get("client") or {}, self.data.get("message") or {}
        self.client, self.topic, self.payload = client.get("client_id"), message.get("topic"), message.get("payload")

    @property
    def number(self):
        """Of a payload "NAME NUMBER"; None: it is another one."""
        found = re.fullmatch(r"\S+ (\d+)\.*", self.payload) if isinstance(self.payload, str) else None
        return int(found.group(1)) if found else None

    def __repr__(self):
        return "<%s %s %s %r>" % (self.kind, self.client, self.topic, self.payload)


class Receiver(Server):
    def __init__(self, tls=True, client_ca=None, cert=None):
        super().__init__()
        self.read_to, self.found, self.parsed, self.all_events = 0, [], 0, []
        self.rules, self.tls_wanted = [], {}
        if tls:
            cert = cert or pki.get().server()
            self.tls_wanted = {"cert": cert.chain, "key": cert.key, "client_ca": client_ca}
        self.secure = tls
        self.apply()

    def command(self):
        return [sys.executable, os.path.abspath(__file__), self.dir, str(self.port)]

    def url(self, path="/", host="localhost"):
        return "%s://%s:%d%s" % ("https" if self.secure else "http", host, self.port, path)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.kill9()

    # ---- what it does

    def apply(self):
        self.write("control.new", json.dumps({"rules": self.rules, "tls": self.tls_wanted}))
        os.rename(self.path("control.new"), self.path("control"))

    def does(self, what=None, **options):
        """This, instead of all it did before; None: it takes everything."""
        self.obeys(*([dict(options, do=what)] if what else []))

    def obeys(self, *rules):
        self.rules = list(rules)
        self.apply()

    def tls(self, cert=None, handshake=None, client_ca=None):
        """From the next connection on. handshake "hang": nothing is ever said."""
        cert = cert or pki.get().server()
        self.tls_wanted = {"cert": cert.chain, "key": cert.key, "handshake": handshake, "client_ca": client_ca}
        self.apply()

    # ---- what came

    def each_delivery(self, since=0):
        """What came after that place of the file: (Delivery, place behind it)."""
        path = self.path("records")
        if not os.path.exists(path):
            return
        with open(path, "rb") as f:
            size = f.seek(0, 2)
            f.seek(since)
            while (head := f.readline()).endswith(b"\n"):
                head = json.loads(head)
                if f.tell() + head["len"] > size:
                    return
                body = f.read(head["len"])
                yield Delivery(head, body), f.tell()

    def deliveries(self, taken=None):
        """All so far; taken True or False: only such."""
        for d, self.read_to in self.each_delivery(self.read_to):
            self.found.append(d)
        return self.found if taken is None else [d for d in self.found if d.taken == taken]

    def events(self, kind=None, **fields):
        """Those taken, in order, repeats included."""
        for d in self.deliveries()[self.parsed:]:
            self.parsed += 1
            if d.taken:
                self.all_events += d.events()
        return [e for e in self.all_events if (kind is None or e.kind == kind) and
                all(getattr(e, k) == v for k, v in fields.items())]

    def wait(self, condition, what, timeout=None):
        """Until condition(self) is true. @return what it returned."""
        deadline = time.monotonic() + (timeout or TIMEOUT)
        while not (value := condition(self)):
            if time.monotonic() > deadline:
                raise AssertionError("not within the time: %s; last: %s" % (what, self.deliveries()[-5:]))
            time.sleep(0.01)
        return value

    def wait_deliveries(self, count, taken=None, timeout=None):
        """@return all of them, once there are so many."""
        return self.wait(lambda r: len(r.deliveries(taken)) >= count and r.deliveries(taken), "%d deliveries" % count, timeout)

    def wait_events(self, count, kind=None, timeout=None, **fields):
        """@return [Event], once there are so many different ones."""
        def enough(r):
            found = r.events(kind, **fields)
            return len(found) >= count and len({e.id for e in found}) >= count and found
        return self.wait(enough, "%d events %s %r" % (count, kind or "", fields), timeout)


def http2(receiver):
    """nginx in front of a Receiver without TLS: HTTP/2 with the usual certificate. @return it, started."""
    c = pki.get().server()
    front = Nginx("""
server {
	listen 127.0.0.1:{port} ssl http2;
	ssl_certificate %s; ssl_certificate_key %s;
	client_max_body_size 0;
	location / { proxy_pass http://127.0.0.1:%d; proxy_http_version 1.1; proxy_set_header Connection ""; }
}""" % (c.chain, c.key, receiver.port)).start()
    front.url = lambda path="/", host="localhost": "https://%s:%d%s" % (host, front.port, path)
    return front


def in_order(events, key):
    """Numbers of what has the same key grow by one from 1, repeats (with the same id) aside. @return {key: how many}."""
    seen, count = {}, collections.Counter()
    for e in events:
        if e.id in seen:
            assert seen[e.id] == (key(e), e.number), "another event with the id of %r: %r" % (seen[e.id], e)
            continue
        seen[e.id] = key(e), e.number
        assert e.number == count[key(e)] + 1, "%s: %r after %d" % (key(e), e.number, count[key(e)])
        count[key(e)] += 1
    return count


def main():
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.setswitchinterval(0.0005)
    Process(sys.argv[1], int(sys.argv[2])).run()


if __name__ == "__main__":
    main()
