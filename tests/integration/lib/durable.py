# SPDX-License-Identifier: Apache-2.0
"""A broker with a store on a disk of ours: it holds back what has been written, forgets, fails (lib/disk.py)."""
import contextlib

from .broker import Broker
from .disk import Disk
from .mqtt import *  # noqa: F401,F403

BIG = 1000000
DURABLE = [(SESSION_EXPIRY, BIG)]
FOREVER = 3600


class Kept(Broker):
    """store: more options of its block."""

    def __init__(self, durability="strict", store=None, log_level="info", **options):
        super().__init__(log_level=log_level, top={"store": dict(
            {"directory": "{dir}/store", "durability": durability}, **(store or {}))}, **options)
        self.disk = Disk(self.path("store"), platter=True)
        self.env.update(self.disk.env)

    @property
    def database(self):
        return self.path("store/grapnel.db")

    def store(self, **options):
        """Other options of its block, from the next start on."""
        self.options["top"]["store"].update(options)

    def durable(self, name, subs=None, qos=1, v=V5, props=DURABLE, **options):
        """A client whose session outlives its connection."""
        c = self.connect(v, name, clean=False, props=props if v == V5 else (), **options)
        if subs is not None:
            c.subscribe(subs, qos)
        return c

    def asleep(self, name, subs, qos=1, **options):
        """The same, gone again."""
        self.durable(name, subs, qos, **options).disconnect()

    def hold(self):
        """From now on no fsync ends; and the writer is at one, so that what comes now waits for the next."""
        self.disk.slow(FOREVER)
        c = self.connect(V5)
        c.send_publish("busy", "x", qos=1, retain=True)
        c.expect_nothing()

    def let_go(self):
        self.disk.slow(0)

    def fail(self):
        """The disk fails, and the broker knows it."""
        mark = self.mark()
        self.disk.fail("EIO", "sync")
        self.connect(V5).send_publish("failing", "x", qos=1, retain=True)
        self.wait_log(" store_failing: ", since=mark)

    def work(self):
        mark = self.mark()
        self.disk.works()
        self.wait_log(" store_good: ", since=mark)

    def again(self, killed=False, clock=0, **changed):
        """The process ends and another one begins, with the wall clock so far from the real one."""
        self.close_clients()
        if killed:
            self.kill9()
        else:
            self.stop()
        self.disk.clock(clock)
        self.options.update(changed)
        return self.start()

    def lose_power(self):
        self.close_clients()
        self.kill9()
        self.disk.slow(0)
        self.disk.cut()
        self.start()


@contextlib.contextmanager
def kept(*args, **options):
    with Kept(*args, **options) as b:
        try:
            yield b
        finally:
            b.disk.works()
            b.let_go()


def pour(c, messages, window=200):
    """[(topic, payload[, qos[, props]])] published as fast as they are taken, in order; all must be accepted."""
    waiting, messages = 0, iter(messages)
    more = True
    while more or waiting:
        out = []
        while more and waiting + len(out) < window:
            m = next(messages, None)
            if m is None:
                more = False
            else:
                topic, payload, qos, props = m + (1, ())[len(m) - 2:]
                out.append(P.publish(c.version, topic, payload, qos, packet_id=c.next_id(), props=props))
        c.send_raw(b"".join(out))
        waiting += len(out)
        while waiting > (window // 2 if more else 0):
            p = c.recv()
            assert p.type in (PUBACK, PUBREC, PUBCOMP) and p.reason < 0x80, p
            if p.type == PUBREC:
                c.pubrel(p.packet_id)
            else:
                waiting -= 1


def drain(c, count):
    """So many messages, all acknowledged to the end. @return [packet], as they came."""
    got = []
    while len(got) < count or c.in_flight:
        p = c.recv()
        if p.type == PUBREL:
            c.pubcomp(p.packet_id)
            continue
        assert p.type == PUBLISH, p
        got.append(p)
        if p.qos == 1:
            c.puback(p.packet_id)
        elif p.qos == 2:
            c.pubrec(p.packet_id)
    return got
