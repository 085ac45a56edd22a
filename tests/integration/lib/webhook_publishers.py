# SPDX-License-Identifier: Apache-2.0
"""Publishers that remember what they sent and what was acknowledged, for lib/webhook_crash.py: fast, in processes of their own.

    p = Publishers(folder, seed, events=10000, processes=2)     # who they are: p.people
    p.start()
    p.broker(1883)                      # its port; None: it is nowhere
    p.allow(0.5)                        # so much of all of it
    p.acknowledged(), p.running()
    p.logs()                            # {name: Log}, after they have ended by themselves

A client publishes the numbers 1, 2, 3 ... in order, up to `window` of them under way, and what was not acknowledged when its connection
ended again on the next one, before anything else: with DUP when its session is still there, as a new message otherwise. A
payload is "NAME NUMBER EPOCH ....": EPOCH is the number of the connection on which that message was new. Now and then a
client closes its connection by itself.
"""
import array
import mmap
import os
import pickle
import random
import select
import socket
import struct
import subprocess
import sys
import time

from . import wire

PORT, ALLOWED, FAREWELL, PROGRESS = range(4)  # of what is shared: numbers; PROGRESS + i is process i's
WHOLE = 1 << 30
EXPIRY = 3600
PACKET_IDS = 60000
TOPICS = 3
OUTPUT_MOST = 1 << 18


class Person:
    """Who publishes. mixed: every fifth message is QoS 2."""

    def __init__(self, name, version, clean, mixed, window):
        self.name, self.version, self.clean, self.mixed, self.window = name, version, clean, mixed, window
        self.quota = 0
        self.seed = 0

    def qos(self, number):
        return 2 if self.mixed and number % 5 == 0 else 1

    def topic(self, number):
        return "t/%s/%d" % (self.name, number % TOPICS)

    def payload(self, number, epoch):
        return "%s %d %d %s" % (self.name, number, epoch, "." * (number * 7919 % 97))

    def __repr__(self):
        return "%s (%s, %s, QoS %s, %d at once)" % (self.name, wire.VERSION_NAMES[self.version], "clean" if self.clean else "keeps its "
                                                    "session", "1 and 2" if self.mixed else "1", self.window)


class Epoch:
    """One connection: numbers of the messages that were new on it, in order, and how many of them, from the first, were sent
    when the last one that was acknowledged on it was."""

    def __init__(self):
        self.sent, self.acknowledged = array.array("I"), 0


class Log:
    def __init__(self):
        self.epochs = []
        self.acknowledged = 0
        self.again = self.closed = 0  # messages sent with DUP; connections closed by itself
        self.wrongs = []


# ---- the process --------------------------------------------------------------------------------


class Publisher:
    def __init__(self, world, person):
        self.world, self.person, self.rng = world, person, random.Random(person.seed)
        self.log = Log()
        self.sock, self.ready = None, False
        self.input, self.output = bytearray(), bytearray()
        self.next = 1  # number
        self.waiting = {}  # number -> [epoch, its place in it, PUBREC has come], in the order of sending
        self.retry_at = 0
        self.closes_after = 0
        frame = wire.publish(person.version, person.topic(0), b"", 1, packet_id=1)
        self.tail = b"\0" if person.version == wire.V5 else b""
        assert len(frame) == 2 + 2 + len(person.topic(0)) + 2 + len(self.tail)

    def finished(self):
        return self.next > self.person.quota and not self.waiting

    # ---- the connection

    def connect(self, port):
        self.input.clear()
        self.output.clear()
        try:
            self.sock = socket.create_connection(("127.0.0.1", port), 10)
        except OSError:
            self.sock, self.retry_at = None, time.monotonic() + 0.02
            return
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.world.by_fd[self.sock.fileno()] = self
        self.world.poll.register(self.sock, select.EPOLLIN)
        p = self.person
        props = [(wire.SESSION_EXPIRY, EXPIRY)] if p.version == wire.V5 and not p.clean else []
        self.output += wire.connect(p.version, p.name, p.clean, 0, props=props)
        self.closes_after = self.rng.expovariate(1) * p.quota / 4 + p.window
        self.flush()

    def lost(self):
        self.world.poll.unregister(self.sock)
        del self.world.by_fd[self.sock.fileno()]
        self.sock.close()
        self.sock, self.ready = None, False
        self.retry_at = time.monotonic() + self.rng.random() * 0.02

    def flush(self):
        if not self.output or self.sock is None:
            return
        try:
            del self.output[:self.sock.send(self.output)]
        except BlockingIOError:
            pass
        except OSError:
            self.output.clear()  # what came before is read until the end

    # ---- out

    def publish(self, number, epoch, dup=False):
        p = self.person
        topic = p.topic(number).encode()
        body = b"%b%b%b%b%b" % (struct.pack(">H", len(topic)), topic, struct.pack(">H", (number - 1) % PACKET_IDS + 1), self.tail,
                                p.payload(number, epoch).encode())
        self.output += bytes([0x30 | (8 if dup else 0) | p.qos(number) << 1]) + wire.varint(len(body)) + body

    def new(self, number):
        epoch = self.log.epochs[-1]
        self.waiting[number] = [len(self.log.epochs) - 1, len(epoch.sent), False]
        epoch.sent.append(number)
        self.publish(number, len(self.log.epochs) - 1)

    def connected(self, session_present):
        self.ready = True
        self.log.epochs.append(Epoch())
        old, self.waiting = self.waiting, {}
        for number, state in old.items():
            if not session_present and state[2]:
                continue  # it was received; the session that knew the rest is gone
            if not session_present:
                self.new(number)
            elif state[2]:
                self.waiting[number] = state
                self.output += wire.ack(self.person.version, wire.PUBREL, (number - 1) % PACKET_IDS + 1)
            else:
                self.waiting[number] = state
                self.publish(number, state[0], True)
                self.log.again += 1

    def more(self, limit):
        if not self.ready or len(self.output) > OUTPUT_MOST:
            return
        p = self.person
        n = min(p.window - len(self.waiting), limit - self.next + 1)
        for _ in range(n):
            self.new(self.next)
            self.next += 1
        if n > 0:
            self.closes_after -= n
            self.flush()
            if self.closes_after <= 0:
                self.log.closed += 1
                self.lost()

    # ---- in

    def readable(self):
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        self.input += data
        at, have = 0, self.input
        while self.sock is not None and at + 2 <= len(have):
            size = have[at + 1]
            if size & 0x80:
                self.wrong("a packet of type %d that is long" % (have[at] >> 4))
                break
            if at + 2 + size > len(have):
                break
            self.packet(have[at] >> 4, have, at + 2, size)
            at += 2 + size
        del have[:at]
        self.flush()

    def packet(self, kind, data, at, size):
        if kind == wire.CONNACK:
            if data[at + 1] != 0:
                self.wrong("CONNACK with 0x%02x" % data[at + 1])
            elif self.person.clean and data[at]:
                self.wrong("a session in spite of a clean start")
            else:
                self.connected(data[at] == 1)
        elif kind in (wire.PUBACK, wire.PUBREC, wire.PUBCOMP):
            self.acknowledged(kind, data[at] << 8 | data[at + 1], data[at + 2] if size > 2 else 0)
        elif kind == wire.DISCONNECT and self.world.shared[FAREWELL]:
            self.lost()
        else:
            self.wrong("%s %s" % (wire.NAMES[kind], bytes(data[at:at + size]).hex()))

    def acknowledged(self, kind, packet_id, reason):
        number = self.number_of(packet_id)
        qos = self.person.qos(number) if number else 0
        if reason >= 0x80 and self.world.shared[FAREWELL]:
            self.lost()
            return
        if not number or (kind == wire.PUBACK) != (qos == 1) or (kind == wire.PUBCOMP) != (qos == 2 and self.waiting[number][2]):
            self.wrong("%s of %d, which is not awaited" % (wire.NAMES[kind], packet_id))
            return
        if reason not in (0, 0x10) and (kind, reason) != (wire.PUBCOMP, 0x92):  # PUBREL came for the second time
            self.wrong("%s of number %d with 0x%02x" % (wire.NAMES[kind], number, reason))
            return
        epoch, place, _ = self.waiting[number]
        if kind == wire.PUBREC:
            self.waiting[number][2] = True
            self.output += wire.ack(self.person.version, wire.PUBREL, packet_id)
        else:
            del self.waiting[number]
        if kind == wire.PUBCOMP:
            return
        self.log.acknowledged += 1
        self.world.shared[PROGRESS + self.world.index] += 1
        if epoch == len(self.log.epochs) - 1:
            e = self.log.epochs[epoch]
            e.acknowledged = max(e.acknowledged, place + 1)

    def number_of(self, packet_id):
        """Of those under way, which are few and near the last one."""
        number = (self.next - 1) // PACKET_IDS * PACKET_IDS + packet_id
        for n in (number, number - PACKET_IDS):
            if n in self.waiting:
                return n
        return 0

    def wrong(self, what):
        if len(self.log.wrongs) < 10:
            self.log.wrongs.append("%s got %s" % (self.person.name, what))
        self.lost()


class Process:
    def __init__(self, folder, index):
        self.folder, self.index = folder, index
        self.shared = share(folder)
        self.poll, self.by_fd = select.epoll(), {}
        with open(os.path.join(folder, "people-%d" % index), "rb") as f:
            self.publishers = [Publisher(self, p) for p in pickle.load(f)]

    def run(self):
        parent = os.getppid()
        while not all(p.finished() for p in self.publishers) and os.getppid() == parent:
            self.turn()
        with open(os.path.join(self.folder, "logs-%d" % self.index), "wb") as f:
            pickle.dump({p.person.name: p.log for p in self.publishers}, f)

    def turn(self):
        port, allowed, now = self.shared[PORT], self.shared[ALLOWED], time.monotonic()
        for p in self.publishers:
            if p.sock is None:
                if port and now >= p.retry_at and not p.finished():
                    p.connect(port)
            else:
                p.more(p.person.quota * allowed // WHOLE)
                p.flush()
        for fd, _ in self.poll.poll(0.005):
            if fd in self.by_fd:
                self.by_fd[fd].readable()


def share(folder):
    with open(os.path.join(folder, "shared"), "r+b") as f:
        return memoryview(mmap.mmap(f.fileno(), 0)).cast("q")


# ---- for tests ----------------------------------------------------------------------------------


def people(rng, count, events):
    kinds = [(wire.V311, True, False), (wire.V5, True, True), (wire.V5, False, True), (wire.V311, False, True)]
    out = []
    for i in range(count):
        version, clean, mixed = kinds[i % len(kinds)]
        out.append(Person("p%d" % i, version, clean, mixed, rng.choice((5, 20, 50, 100, 200, 300))))
    whole = sum(p.window for p in out)
    for p in out:  # who has more under way is faster: all end at about the same time
        p.quota, p.seed = max(1, events * p.window // whole), rng.random()
    out[0].quota += events - sum(p.quota for p in out)
    return out


class Publishers:
    def __init__(self, folder, seed, events, processes=2, count=24):
        self.folder, self.processes = folder, []
        self.people = people(random.Random(seed), count, events)
        self.parts = [self.people[i::processes] for i in range(processes)]
        with open(os.path.join(folder, "shared"), "wb") as f:
            f.write(bytes(8 * (PROGRESS + processes)))
        self.shared = share(folder)
        for i, part in enumerate(self.parts):
            with open(os.path.join(folder, "people-%d" % i), "wb") as f:
                pickle.dump(part, f)

    def start(self):
        for i in range(len(self.parts)):
            self.processes.append(subprocess.Popen([sys.executable, "-B", "-c", (
                "import sys; sys.path.insert(0, sys.argv[1]); from lib.webhook_publishers import Process; "
                "Process(sys.argv[2], int(sys.argv[3])).run()"), os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                self.folder, str(i)]))

    def broker(self, port):
        self.shared[PORT] = port or 0

    def farewell(self, wanted):
        """The broker is about to end as it should: what it refuses now it may."""
        self.shared[FAREWELL] = wanted

    def allow(self, part):
        self.shared[ALLOWED] = int(WHOLE * part)

    def acknowledged(self):
        return sum(self.shared[PROGRESS:])

    def running(self):
        """Raises AssertionError when one failed."""
        codes = [p.poll() for p in self.processes]
        if any(c not in (None, 0) for c in codes):
            raise AssertionError("publishers ended with %s" % codes)
        return None in codes

    def logs(self):
        out = {}
        for i, p in enumerate(self.processes):
            p.wait()
            with open(os.path.join(self.folder, "logs-%d" % i), "rb") as f:
                out.update(pickle.load(f))
        return out

    def kill(self):
        for p in self.processes:
            p.kill()
            p.wait()
