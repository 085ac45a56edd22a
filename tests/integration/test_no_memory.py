# SPDX-License-Identifier: Apache-2.0
"""Allocations of workers fail, one after the other, while clients do all that clients do.

The broker must go on: the connection concerned is closed, or its packet refused, or a message counted as dropped; every
other question is answered, nothing is lost from the books, and nothing leaks (AddressSanitizer looks at the end).
tests/faults/alloc.c is what fails.
"""
import ctypes
import mmap
import os
import random
import socket
import ssl
import subprocess
import time

from lib import wire
from lib.broker import FACTOR, TIMEOUT, Broker
from lib.case import Skip, each
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import sanitized
from lib.wire import Sub, Will

PROGRAM = os.path.join(os.environ.get("GRAPNEL_BUILD", "."), "tests/faults/grapneld")
POINTS = 300
DURABLE = [(SESSION_EXPIRY, 300)]
WHO = ("one", "two", "three")
GAUGES = ("connections", "sessions", "sessions_online", "subscriptions", "shared_groups", "queued_messages",
          "queued_bytes", "inflight_messages", "output_bytes", "retained_messages")
# Everything is decided at once; and everything by another thread, through requests.
KINDS = {
    "at once": {"rules": "deny publish secret/#\nallow all #\n", "plugins": {
        "scribe": {"module": "scribe", "order": 30, "file": "{dir}/events"}}},
    "stored": {"top": {"sys_interval": 0, "store": {"directory": "{dir}/store", "durability": "strict"}}},
    "later": {"plugins": {
        "threads": {"module": "threads", "order": 10},
        "next": {"module": "verdict", "order": 40, "message_deliver": "next"}}},
}


class Faults:
    def __init__(self, path):
        with open(path, "r+b") as f:
            self.map = mmap.mmap(f.fileno(), 4096)
        self.at = [ctypes.c_int64.from_buffer(self.map, 8 * i) for i in range(4)]

    def arm(self, n, row):
        """The n-th allocation from here on (1: the next) fails, and row - 1 behind it."""
        self.at[1].value = row
        self.at[0].value = n + row - 1

    def off(self):
        self.at[0].value = 0

    counted = property(lambda self: self.at[2].value)
    failed = property(lambda self: self.at[3].value)


class Talker:
    """Does not care what it is told, as long as it is told something: each question has an answer, or the end."""

    def __init__(self, b, version, client_id, listener="mqtt", **options):
        self.open, self.c = False, b.client(version, listener)
        try:
            self.c.send_connect(client_id, **options)
            p = self.c.poll(TIMEOUT)
        except (ConnectionError, OSError):
            p = None
            self.c.eof = True
        assert p is not None or self.c.eof, "neither a CONNACK nor the end"
        self.open = p is not None and p.type == CONNACK and p.reason == 0

    def say(self, *packets):
        if not self.open:
            return
        try:
            self.c.send_raw(b"".join(packets) + b"\xc0\x00")
            while True:
                p = self.c.poll(TIMEOUT)
                if p is None or p.type == DISCONNECT:
                    assert p is not None or self.c.eof, "no answer and no end"
                    self.open = False
                    return
                if p.type == PUBLISH and p.qos == 1:
                    self.c.puback(p.packet_id)
                elif p.type == PUBLISH and p.qos == 2:
                    self.c.pubrec(p.packet_id)
                elif p.type == PUBREL:
                    self.c.pubcomp(p.packet_id)
                elif p.type == PUBREC and p.reason < 0x80:
                    self.c.pubrel(p.packet_id)
                elif p.type == PINGRESP:
                    return
        except (ConnectionError, OSError):
            self.open = False

    def end(self, data=None):
        try:
            if data is not None and self.open:
                self.c.send_raw(data)
        except (ConnectionError, OSError):
            pass
        self.c.close()


def over_tls(b):
    """The same for a handshake: it ends well, or with the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(b.address("tls"), TIMEOUT) as plain:
        try:
            with context.wrap_socket(plain) as s:
                s.sendall(wire.connect(V5, "tls") + b"\xc0\x00")
                while s.recv(1 << 16)[-2:] not in (b"", b"\xd0\x00"):
                    pass
        except TimeoutError:
            raise AssertionError("a TLS client has no answer and no end") from None
        except (ssl.SSLError, ConnectionError):
            pass


def script(b, n):
    """All that clients do, with names that are new to the broker where that matters."""
    t = "t/%d" % n
    one = Talker(b, V5, "one", props=DURABLE + [(TOPIC_ALIAS_MAXIMUM, 5)], clean=False,
                 will=Will(t + "/will", "x" * 100, 1, props=[(USER_PROPERTY, ("k", "v"))]))
    one.say(wire.subscribe(V5, 1, [Sub(t + "/#", 2), Sub("+/%d/+" % n, 1), Sub("$share/g/" + t + "/s", 1)],
                           [(SUBSCRIPTION_ID, 7)]))
    two = Talker(b, V311, "two", clean=False)
    two.say(wire.subscribe(V311, 1, [Sub(t + "/+", 2), Sub("$share/g/" + t + "/s", 2)]))
    three = Talker(b, V5, "three", "mounted", username="u", will=Will("gone", "x"),
                   props=DURABLE)
    three.say(wire.subscribe(V5, 1, [Sub("own/#", 1)]))
    one.say(wire.publish(V5, t + "/a", "x" * 10, 0, props=[(TOPIC_ALIAS, 1), (USER_PROPERTY, ("a", "b"))]),
            wire.publish(V5, "", "x" * 5000, 0, props=[(TOPIC_ALIAS, 1)]),
            wire.publish(V5, t + "/a", "x" * 600, 1, packet_id=1),
            wire.publish(V5, t + "/a", "x", 2, packet_id=2, props=[(MESSAGE_EXPIRY, 100)]),
            wire.publish(V5, "secret/x", "x", 1, packet_id=3),
            wire.publish(V5, t + "/r", "kept", 1, retain=True, packet_id=4))
    two.say(*[wire.publish(V311, t + "/s", "%d" % i, 1, packet_id=i) for i in range(1, 9)])
    three.say(*[wire.publish(V5, "own/%d/%d" % (n, i), "x" * 3000, i % 3, packet_id=i) for i in range(1, 7)])
    one.say()
    two.say(wire.unsubscribe(V311, 2, [t + "/+"]), wire.subscribe(V311, 3, [Sub("t/#", 1)]))  # with what is retained
    one.end()  # with its Will, and then there is a queue
    two.say(*[wire.publish(V311, t + "/q", "%d" % i, 1 + i % 2, packet_id=i) for i in range(1, 20)])
    two.end(wire.disconnect(V311))
    again = Talker(b, V5, "one", clean=False, props=DURABLE)
    other = Talker(b, V5, "one", clean=False, props=DURABLE)  # takes it over
    other.say(wire.unsubscribe(V5, 5, [t + "/#", "+/%d/+" % n, "$share/g/" + t + "/s"]))
    other.say(wire.publish(V5, t + "/r", "", 0, retain=True))
    again.end()
    half = b.client(V5)
    try:
        half.send_raw(wire.connect(V5, "half")[:-3])
    except OSError:
        pass
    half.close()
    other.end()
    over_tls(b)
    three.end(wire.disconnect(V5))
    b.clients.clear()


def clean_up(b):
    """No faults any more: everything ends, and the books say so."""
    for name in WHO:
        for listener in ("mqtt", "mounted"):
            c = b.connect(V5, client_id=name, listener=listener, clean=True)
            c.disconnect()
    c = b.connect(V5, client_id="sweeper")
    deadline = time.monotonic() + TIMEOUT
    while b.metric("retained_messages") > 0:
        assert time.monotonic() < deadline, "retained messages that nobody gets"
        c.send_subscribe("t/#")
        kept = {p.topic for p in iter(lambda: c.poll(0.2 * FACTOR), None) if p.type == PUBLISH and p.payload}
        for topic in kept:
            c.publish(topic, "", retain=True)
        c.unsubscribe("t/#")
        c.put_aside.clear()
    c.disconnect()
    for gauge in GAUGES:
        b.wait_metric(gauge, 0)


@each(kind=tuple(KINDS))
def test_whatever_allocation_fails_the_broker_goes_on(kind):
    if not os.path.exists(PROGRAM):
        raise Skip("%s was not built" % PROGRAM)
    rng = random.Random(4)
    b = Broker(listeners={"mqtt": {"anonymous": True}, "mounted": {"anonymous": True, "mountpoint": "m/"}},
               log_level="notice", program=PROGRAM, env={"GRAPNEL_FAULTS": "{dir}/faults"},
               limits={"auth_timeout": "2s", "takeover": "any"}, **dict({"top": {"sys_interval": 0}}, **KINDS[kind]))
    b.options["listeners"]["tls"] = {"anonymous": True, "tls": True, "certificate": b.path("cert.pem"),
                                     "private_key": b.path("key.pem")}
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
                        "-keyout", b.path("key.pem"), "-out", b.path("cert.pem")],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with open(b.path("faults"), "wb") as f:
            f.write(bytes(4096))
        b.start()
        faults = Faults(b.path("faults"))
        before = faults.counted
        script(b, 0)
        script(b, 1)
        each_time = (faults.counted - before) // 2
        assert each_time > 100, "only %d allocations" % each_time
        points = POINTS // 3 if sanitized(b) else POINTS
        # Spread over the script; a few in a row fail every third time.
        where = sorted(set(int(each_time * (i + rng.random()) / points) + 1 for i in range(points)))
        for i, n in enumerate(where):
            faults.arm(n, 4 if i % 3 == 2 else 1)
            script(b, 2 + i)
            faults.off()
            assert b.running(), "it ended at allocation %d of %d" % (n, each_time)
        assert faults.failed >= len(where) * 3 / 4, "%d failures only" % faults.failed
        clean_up(b)
        b.stop()
    finally:
        b.remove()
