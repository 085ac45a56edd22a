# SPDX-License-Identifier: Apache-2.0
"""Clients of all kinds, and a broker that is killed under them again and again, in one store.

    with World(seed=1, mode="power") as w:
        w.run(50)

mode: "kill" (SIGKILL), "power" (what was not synced is lost, too), "torn" (and some sectors of it are not), "stop" (SIGTERM, amid
all of it); "net" (only the connections are lost: what a broker without a disk must survive, and so a check of the clients here).
A round ends at a random moment: after some time, at a certain packet, or while the broker starts; now and then it ends as it
should. The number of workers changes from round to round.
"""
import os
import random
import select
import signal
import time

from . import wire
from .broker import FACTOR, TIMEOUT, Broker
from .crash_clients import Ending, Fickle, Publisher, Subscriber
from .crash_oracle import Oracle, Receiver
from .disk import Disk
from .mqtt import Client

V5, V311 = wire.V5, wire.V311
MODES = ("kill", "power", "torn", "stop", "net")
SHOWN = 20
SENT = 0
# The moment of a kill may be that a client sees one of these, or has just sent a message.
MOMENTS = (SENT, SENT, wire.CONNACK, wire.SUBACK, wire.UNSUBACK, wire.PUBACK, wire.PUBREC, wire.PUBREL, wire.PUBCOMP, wire.PUBLISH)


class World:
    def __init__(self, seed, mode="kill", store=None, rate=1500, longest=0.4, trace=None):
        """store: options of store { }. rate: messages a second; longest: seconds of a round; trace: a file."""
        assert mode in MODES, mode
        self.seed, self.mode, self.rate, self.longest = seed, mode, rate, longest * FACTOR
        self.rng, self.oracle = random.Random(seed), Oracle(mode != "net")
        self.broker = Broker(log_level="notice", workers=2,
                             limits={"max_queued_messages": 100000000, "max_queued_bytes": "64g"},
                             top={"store": dict({"directory": "{dir}/store", "durability": "strict"}, **(store or {}))})
        self.disk = None
        if mode in ("power", "torn"):
            self.disk = Disk(self.broker.path("store"), platter=True)
            self.broker.env.update(self.disk.env)
        os.makedirs(self.broker.path("store"), exist_ok=True)
        self.trace = open(trace, "w", encoding="utf-8") if trace else None
        self.devices, self.by_fd, self.poll = [], {}, select.epoll()
        self.address = None
        self.ending = False  # no session is ended any more
        self.calm = True  # nobody comes, goes or dawdles for fun
        self.struck = False
        self.moment = None  # [type of packet, how many more until the kill]
        self.gentle = False  # this round ends with SIGTERM
        self.kills = self.packets = 0
        self.people()

    def people(self):
        """Everybody there is."""
        self.publishers = [
            Publisher(self, "pub-a", V5, True, [("t/a/0", 1), ("t/a/1", 1), ("t/a/1", 2)]),
            Publisher(self, "pub-b", V311, True, [("t/b/0", 2), ("t/b/1", 2), ("o/b/0", 1), ("o/b/0", 2)]),
            Publisher(self, "pub-c", V5, True, [("t/c/0", 2), ("u/c/0", 1), ("u/c/0", 2), ("nobody", 2)], window=3),
            Publisher(self, "pub-d", V311, False, [("t/d/0", 1), ("t/d/0", 2), ("o/d/0", 1)]),
            Publisher(self, "pub-e", V5, False, [("t/e/0", 1), ("t/e/1", 2), ("u/e/0", 1), ("nobody", 1)]),
            Publisher(self, "pub-r", V5, True, [("r/0", 1), ("r/1", 2), ("r/2", 1)], retain=True),
            Publisher(self, "pub-s", V311, False, [("r/3", 1), ("r/4", 2)], retain=True, window=3),
        ]
        several = self.receiver("group g", ordered=False), self.receiver("group h", ordered=False)
        self.subscribers = [
            Subscriber(self, "always-1", V5, {"t/+/0": 1, "u/#": 1}, "always"),
            Subscriber(self, "always-2", V311, {"t/#": 2, "u/#": 2}, "always"),
            Subscriber(self, "sometimes-1", V5, {"t/a/#": 2, "t/b/#": 2, "o/#": 2}, "sometimes"),
            Subscriber(self, "sometimes-2", V311, {"t/c/#": 1, "t/d/#": 1, "r/#": 1}, "sometimes"),
            Subscriber(self, "restless-1", V5, {"t/+/0": 2}, "restless"),
            Subscriber(self, "restless-2", V311, {"t/+/1": 2, "r/+": 2}, "restless"),
            Subscriber(self, "group-g-1", V5, {"t/#": 2}, "always", several[0], "$share/g/"),
            Subscriber(self, "group-g-2", V311, {"t/#": 2}, "sometimes", several[0], "$share/g/"),
            Subscriber(self, "group-h-1", V311, {"t/+/1": 1, "o/#": 2}, "restless", several[1], "$share/h/"),
            Subscriber(self, "group-h-2", V5, {"t/+/1": 1, "o/#": 2}, "sometimes", several[1], "$share/h/"),
            Fickle(self, "fickle-1", V5, {"t/a/0": 2, "t/b/0": 2, "t/d/0": 1}, "always"),
            Fickle(self, "fickle-2", V311, {"t/a/1": 1, "t/b/1": 2, "t/e/0": 1}, "restless"),
            Ending(self, "ending-1", V5, {"t/a/#": 2, "t/c/#": 2}, "restless"),
            Ending(self, "ending-2", V311, {"t/b/#": 2, "t/d/#": 1}, "restless"),
        ]

    def receiver(self, name, ordered=True):
        return Receiver(self.oracle, name, ordered)

    def size(self):
        """Bytes of the next payload: mostly small."""
        return self.rng.choice((20, 30, 50, 100, 100, 300, 300, 1000, 1500, 10000))

    # ---- sockets -------------------------------------------------------------------------------

    def watch(self, device):
        self.by_fd[device.sock.fileno()] = device
        self.poll.register(device.sock, select.EPOLLIN)

    def unwatch(self, device):
        self.poll.unregister(device.sock)
        del self.by_fd[device.sock.fileno()]

    def sends(self, device, data):
        if self.trace:
            self.trace.write("%s %d %s sends %s %r\n" % (
                self.oracle.context, self.oracle.now, device.name, wire.NAMES[data[0] >> 4], bytes(data[:40])))

    def saw(self, device, p):
        self.packets += 1
        if self.trace:
            self.trace.write("%s %d %s %r\n" % (self.oracle.context, self.oracle.now, device.name, p))
        if self.moment and self.moment[0] == p.type:
            self.moment[1] -= 1
            if self.moment[1] == 0:
                self.strike()

    def step(self, timeout):
        for device in self.devices:
            device.flush()
        for fd, _ in self.poll.poll(timeout):
            device = self.by_fd.get(fd)
            if device is not None:
                device.readable()
        for device in self.devices:
            device.flush()

    def until(self, condition, what):
        deadline = time.monotonic() + 3 * TIMEOUT
        while not condition():
            if self.oracle.wrongs:
                return False
            if time.monotonic() > deadline or not self.broker.running():
                self.oracle.wrong("still not: " + what)
                return False
            self.step(0.01)
            for s in self.subscribers:
                s.turn()
            if self.mode == "net":
                for device in self.devices:
                    device.connect()  # whose connection was taken over
        return True

    # ---- rounds --------------------------------------------------------------------------------

    def start(self, wait=True):
        self.struck = False
        if self.mode == "net" and self.broker.running():
            return
        self.broker.options["workers"] = self.rng.choice((1, 2, 2, 3))
        self.broker.start(wait)
        self.address = self.broker.address() if wait else None

    def strike(self):
        if self.struck:
            return
        self.struck = self.calm = True
        if not self.broker.running():
            self.oracle.wrong("the broker ended by itself with %s" % self.broker.process.returncode)
        elif self.mode != "net":
            self.broker.process.send_signal(signal.SIGTERM if self.gentle else signal.SIGKILL)

    def kill(self):
        """What the broker had sent before is read, then everything is gone."""
        self.strike()
        self.kills += 1
        self.moment = None
        if self.mode == "net":
            for device in list(self.by_fd.values()):
                device.lost()
            return
        if not self.gentle:
            self.broker.process.wait()
        deadline = time.monotonic() + TIMEOUT
        while self.by_fd:
            self.step(0.01)
            if time.monotonic() > deadline:
                raise AssertionError("connections that outlive the broker: %r" % [d.name for d in self.by_fd.values()])
        if self.gentle:
            code, self.broker.process = self.broker.wait_exit(), None
            if code != 0:
                self.oracle.wrong("the broker ended with %d" % code)
        else:
            self.broker.kill9()
        if self.disk:
            self.disk.cut(self.rng if self.mode == "torn" else None)

    def look_at_retained(self):
        """Nobody publishes now."""
        with Client(self.address, V5) as c:
            c.connect("looks")
            c.subscribe("r/#")
            c.ping()
            seen = {p.topic: p.payload for p in c.put_aside}
        self.oracle.retained_now(seen)

    def round(self):
        self.oracle.context = "round %d (seed %d, %s)" % (self.kills + 1, self.seed, self.mode)
        self.gentle = self.mode == "stop" or self.rng.random() < 0.05
        if self.mode != "net" and not self.gentle and self.rng.random() < 0.08:
            self.while_it_starts()
            return
        self.start()
        self.look_at_retained()
        if self.disk:
            self.disk.slow(self.rng.choice((0, 0, 0.001, 0.01)))
        if self.rng.random() < 0.6:
            self.moment = [self.rng.choice(MOMENTS), int(self.rng.random() ** 3 * 200) + 1]
        self.traffic(self.longest * self.rng.random())
        self.kill()

    def while_it_starts(self):
        self.start(False)
        time.sleep(self.rng.random() * 0.05 * FACTOR)
        self.kill()

    def traffic(self, seconds):
        for device in self.subscribers:
            device.begin_round()
        for device in self.publishers:
            device.connect()
        began, sent, self.calm = time.monotonic(), 0, False
        while not self.struck:
            now = time.monotonic() - began
            if now > seconds:
                break
            for _ in range(4 * len(self.publishers)):
                if sent >= now * self.rate:
                    break
                n = self.rng.choice(self.publishers).publish_some(self.rng.choice((1, 1, 2, 5)))
                sent += n
                if n and self.moment and self.moment[0] == SENT:
                    self.just_sent()
            self.step(0.002)
            for s in self.subscribers:
                s.turn()

    def just_sent(self):
        self.moment[1] -= 1
        if self.moment[1] == 0:
            for device in self.publishers:
                device.flush()
            self.strike()

    def everybody(self):
        for device in self.devices:
            device.connect()
        return self.until(lambda: all(d.ready and not getattr(d, "asked", None) for d in self.devices),
                          "all are connected and subscribed")

    def quiet(self):
        """Nothing more comes, for all have answered a ping and none of them owes anything."""
        for device in self.devices:
            device.send(b"\xc0\x00")
        for _ in range(20):
            self.step(0.01)

    def settle(self):
        """Everybody comes and gets what is left."""
        self.everybody()
        self.until(lambda: not any(p.busy for p in self.publishers), "all publishers have their answers")
        if not self.until(lambda: not self.oracle.missing(), "everything that must come has"):
            for name, m, e in self.oracle.missing():
                self.oracle.wrong("%s never got %r (%s; %r)" % (name, m, m.moments(), e))
        self.quiet()

    def run(self, kills):
        """Raises AssertionError with what went wrong."""
        print("crash: seed %d, %s, %d kills" % (self.seed, self.mode, kills), flush=True)
        self.oracle.context = "beginning (seed %d, %s)" % (self.seed, self.mode)
        if self.mode != "net":
            self.while_it_starts()  # and makes its store
        self.start()
        self.everybody()
        self.look_at_retained()
        self.traffic(0.05)
        self.kill()
        while self.kills < kills and not self.oracle.wrongs:
            self.round()
        self.ending = True
        for context in ("the end", "after the end"):
            self.oracle.context = "%s (seed %d, %s)" % (context, self.seed, self.mode)
            if self.oracle.wrongs:
                break
            self.start()
            self.look_at_retained()
            self.settle()
            for device in self.devices:
                device.close()
            if self.mode == "net":
                break
            self.broker.stop()
        self.broker.check_sanitizers()
        self.report()

    def report(self):
        sent = sum(len(s) for s in self.oracle.streams.values())
        got = sum(sum(r.got.values()) for r in self.oracle.receivers)
        print("crash: %d kills, %d messages, %d deliveries, %d packets" % (self.kills, sent, got, self.packets), flush=True)
        wrongs = self.oracle.wrongs
        if wrongs:
            raise AssertionError("\n".join(wrongs[:SHOWN] + (["... and %d more" % (len(wrongs) - SHOWN)] if len(
                wrongs) > SHOWN else [])))

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for device in self.devices:
            device.close()
        self.poll.close()
        if self.trace:
            self.trace.close()
        self.broker.remove()
