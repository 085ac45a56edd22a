# SPDX-License-Identifier: Apache-2.0
"""A broker is killed at random moments; what it had acknowledged is delivered, what was QoS 2 once: lib/crash.py.

The seed is printed; GRAPNEL_SEED sets it. tests/faults/crash runs the same for longer.
"""
import os
import random
import sqlite3
import subprocess
import sys

from lib.broker import FACTOR, Broker
from lib.case import each
from lib.crash import World
from lib.crash_oracle import Oracle, Receiver
from lib.disk import Disk

ALONE = True
SEED = int(os.environ.get("GRAPNEL_SEED", "0")) or random.randrange(1, 1 << 30)
KILLS = {"kill": 30, "power": 15, "torn": 15, "stop": 10}
PAGED = {"memory_for_queues": "1m"}  # long queues are on the disk


@each(mode=tuple(KILLS))
def test_what_was_acknowledged_before_a_crash_comes_after_it(mode):
    with World(SEED, mode, PAGED if mode == "torn" else None) as w:
        w.run(max(3, int(KILLS[mode] / FACTOR)))


# ---- of the test itself -----------------------------------------------------------------------------------

def test_connections_that_break_lose_nothing():
    """The clients of the test are as good as the broker has to be: here it only loses their connections."""
    with World(SEED, "net", {"durability": "off"}) as w:
        w.run(max(3, int(10 / FACTOR)))


@each(mode=tuple(KILLS))
def test_a_broker_that_keeps_nothing_is_found_out(mode):
    with World(SEED, mode, {"durability": "off"}) as w:
        try:
            w.run(3)
        except AssertionError as e:
            assert "session present is False" in str(e) or "never got" in str(e), e
            return
    raise AssertionError("nothing was lost by a broker that keeps nothing")


class Told:
    """An oracle, a receiver with a subscription, and five messages that were acknowledged."""

    def __init__(self, qos=2, ordered=True):
        self.oracle = Oracle()
        self.receiver = Receiver(self.oracle, "receiver", ordered)
        self.subscription = self.receiver.subscribing("a/+", qos)
        self.subscription.granted = self.oracle.tick()
        self.messages = [self.send() for _ in range(5)]

    def send(self):
        m = self.oracle.message("a/b", 2, 30)
        m.acked = m.complete = self.oracle.tick()
        return m

    def get(self, *numbers, qos=2):
        for n in numbers:
            self.receiver.delivered("a/b", qos, self.messages[n].payload())
        return self

    def says(self):
        return self.oracle.wrongs + ["%s never got %r" % (name, m) for name, m, _ in self.oracle.missing()]


def test_the_oracle_knows_right_from_wrong():
    for right in (Told().get(0, 1, 2, 3, 4), Told(1).get(0, 1, 0, 1, 2, 3, 4, qos=1), Told(2, False).get(1, 0, 2, 4, 3)):
        assert right.says() == [], right.says()
    for wrong, text in (
            (Told().get(0, 1, 2, 4), "receiver never got a/b QoS 2 #3"),
            (Told().get(0, 1, 2, 3, 4, 4), "got a/b QoS 2 #4 2 times"),
            (Told().get(0, 1, 3, 2, 4), "got a/b QoS 2 #2 for the first time after #3"),
            (Told().get(0, 1, 2, 3, 4, qos=1), "with QoS 1")):
        assert len(wrong.says()) >= 1 and text in wrong.says()[0], (text, wrong.says())

    t = Told().get(0, 1, 2, 3, 4)
    t.receiver.delivered("a/b", 2, t.messages[4].payload()[:-1] + b"!")
    t.receiver.delivered("b/b", 2, t.messages[4].payload())
    assert len(t.says()) == 2 and all("nobody sent" in w for w in t.says()), t.says()

    t = Told().get(0, 1, 2, 3, 4)
    t.subscription.leaving = t.oracle.tick()
    t.messages.append(t.send())  # may come
    assert t.get(5).says() == []
    t.subscription.left = t.oracle.tick()
    t.messages.append(t.send())
    assert "no subscription" in t.get(6).says()[0], t.says()

    o = Oracle()
    first, cleared, last = (o.message("r", 1, size, retain=True) for size in (20, 0, 20))
    for acked, seen, good in ((first, {}, True), (first, {"r": first.payload()}, True), (first, {"r": last.payload()}, True),
                              (cleared, {}, True), (cleared, {"r": first.payload()}, False), (last, {}, False),
                              (last, {"r": last.payload()}, True), (last, {"r": last.payload(), "x": b""}, False)):
        acked.acked, o.wrongs = o.tick(), []
        o.retained_now(seen)
        assert good == (not o.wrongs), (acked, seen, o.wrongs)


WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA synchronous = " + sys.argv[2])
db.execute("PRAGMA journal_mode = wal")
db.execute("PRAGMA wal_autocheckpoint = 20")
db.execute("CREATE TABLE t(n INTEGER PRIMARY KEY, x)")
for n in range(1, 1000000):
    db.execute("INSERT INTO t VALUES(?, ?)", (n, b"x" * 3000))
    print(n, flush=True)
"""


@each(synced=(True, False), torn=(True, False))
def test_the_disk_of_these_tests_keeps_what_was_synced_and_nothing_else(synced, torn):
    b = Broker()
    try:
        disk = Disk(b.path("store"), platter=True)
        path = os.path.join(disk.folder, "a.db")
        p = subprocess.Popen([sys.executable, "-c", WRITER, path, "FULL" if synced else "OFF"], stdout=subprocess.PIPE,
                             env=dict(os.environ, **disk.env))
        for _ in range(200):
            p.stdout.readline()
        p.kill()
        said = 200 + p.stdout.read().count(b"\n")
        p.wait()
        disk.cut(random.Random(1) if torn else None)
        if synced:
            db = sqlite3.connect(path)
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert db.execute("SELECT max(n) FROM t").fetchone()[0] >= said
            db.close()
        elif not torn:
            assert not os.path.exists(path) or os.path.getsize(path) == 0
    finally:
        b.remove()
