# SPDX-License-Identifier: Apache-2.0
"""A store in trouble: a disk that is full, fails or may not be written, a damaged file, a clock that jumps.

The broker says what it cannot keep, goes on with what needs no disk, loses nothing that it had acknowledged, and recovers
by itself. tests/faults/disk.h is the disk.
"""
import contextlib
import glob
import os
import random
import sqlite3
import subprocess
import time

from lib.broker import FACTOR, TIMEOUT, Broker, conf_block
from lib.case import Skip, each
from lib.disk import Disk
from lib.mqtt import *  # noqa: F401,F403
from lib.wire import Will

BIG = 1000000
DURABLE = [(SESSION_EXPIRY, BIG)]
QUOTA_EXCEEDED = 0x97


class Stored(Broker):
    """A broker with a store on a disk of ours."""

    def __init__(self, platter=False, store=None, **options):
        super().__init__(top={"store": dict({"directory": "{dir}/store", "durability": "strict"}, **(store or {}))},
                         log_level="info", **options)
        self.disk = Disk(self.path("store"), platter)
        self.env.update(self.disk.env)

    @property
    def database(self):
        return self.path("store/grapnel.db")

    def again(self):
        """Ends as it should, and is started again."""
        self.close_clients()
        self.stop()
        return self.start()

    def sleeper(self, name="sleeper", topic="q/#", qos=1, **options):
        """A durable session with a subscription, offline now."""
        c = self.connect(V5, name, clean=False, props=DURABLE, **options)
        c.subscribe(topic, qos)
        c.disconnect()

    def wake(self, name="sleeper"):
        c = self.connect(V5, name, clean=False, props=DURABLE)
        assert c.connack.session_present, "the session of %s is gone" % name
        return c

    def queued(self, name="sleeper"):
        """Payloads of all that waits for a session: with an end mark behind them."""
        c = self.wake(name)
        with self.connect(V5) as p:
            assert p.publish("q/mark", "mark", qos=1) == 0
        out = []
        while not out or out[-1] != b"mark":
            out.append(c.expect_message(topic=None).payload)
        c.disconnect()
        return out[:-1]


@contextlib.contextmanager
def stored(*args, **options):
    b = Stored(*args, **options)
    with b:
        yield b


# ---- trouble while it runs ------------------------------------------------------------------------------

class Tmpfs:
    """A file system of a few MiB for the store, where the tests may mount one."""

    def __init__(self, b, mib):
        self.folder = b.path("store")
        mount = ["mount", "-t", "tmpfs", "-o", "size=%dm" % mib, "tmpfs", self.folder]
        if os.geteuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            raise Skip("cannot mount a file system")

    def fill(self):
        with open(os.path.join(self.folder, "filler"), "wb", buffering=0) as f, contextlib.suppress(OSError):
            while True:
                f.write(bytes(4096))

    def make_room(self):
        os.unlink(os.path.join(self.folder, "filler"))

    def end(self):
        subprocess.run(["umount", "-l", self.folder], check=False)


FAULTS = {
    "full": None,  # a real one, where that can be had
    "ENOSPC": ("ENOSPC", "write", "open"),
    "short": ("ENOSPC", "short", "grow"),
    "EIO write": ("EIO", "write"),
    "EIO sync": ("EIO", "sync"),
}


@each(fault=tuple(FAULTS))
def test_a_store_that_cannot_write_refuses_and_recovers(fault):
    b = Stored(platter=fault != "full")
    disk = Tmpfs(b, 8) if fault == "full" else None
    try:
        with b:
            try_a_store_that_cannot_write(b, fault, disk)
    finally:
        if disk is not None:
            disk.end()


def try_a_store_that_cannot_write(b, fault, disk):
    b.sleeper()
    online = b.connect(V5)
    online.subscribe("online/#", 1)
    good = b.connect(V5)
    acknowledged = []
    for i in range(20):
        assert good.publish("q/x", "before %d" % i, qos=1 + i % 2) == 0
        acknowledged.append(b"before %d" % i)

    mark = b.mark()
    if disk is not None:
        disk.fill()
    else:
        b.disk.fail(*FAULTS[fault])
    waiting = until_refused(b, acknowledged)
    for i in range(5):  # and so are these; in 3.x there is no way to say it
        v5 = b.connect(V5)
        assert v5.publish("q/x", "refused", qos=1) == QUOTA_EXCEEDED
        assert v5.publish("q/x", "refused", qos=2) == QUOTA_EXCEEDED
        old = b.connect(V311)
        old.send_publish("q/x", "refused", qos=1 + i % 2)
        old.expect_close()
    # What needs no disk goes on.
    assert good.publish("online/x", "still", qos=1) == 0
    online.expect_message("online/x", "still")
    good.publish("online/x", "there", qos=0)
    online.expect_message("online/x", "there")
    assert b.running()

    if disk is not None:
        disk.make_room()
    else:
        b.disk.works()
    wait_good(b, acknowledged)
    for c, payload in waiting:
        answer = c.recv()
        assert answer.type == PUBACK, answer
        if answer.reason == 0:
            acknowledged.append(payload)
    assert good.publish("q/x", "after", qos=2) == 0
    acknowledged.append(b"after")
    for event in ("store_failing", "store_good"):  # not with each try
        b.wait_log(" %s: " % event, since=mark)
        said = b.log_lines(" %s: " % event, since=mark)
        assert len(said) == 1 and b.database in said[0], "%s %d times: %r" % (event, len(said), said)

    b.close_clients()
    b.kill9()
    if b.disk.platter:
        b.disk.cut()
    b.start()
    got = b.queued()
    assert sorted(set(got)) == sorted(set(acknowledged)), "got %r, acknowledged were %r" % (got, acknowledged)
    assert [p for p in got if p.startswith(b"before")] == acknowledged[:20], got


def until_refused(b, acknowledged):
    """
    Publishers, one after the other, until one is refused. @return [(client, payload)] of those without an answer: theirs is
    in the commit that failed, and is tried again.
    """
    waiting, deadline = [], time.monotonic() + TIMEOUT
    while True:
        assert time.monotonic() < deadline, "nobody is refused"
        c, payload = b.connect(V5), b"during %d" % len(waiting)
        c.send_publish("q/x", payload.ljust(20000, b"."), qos=1)
        answer = c.poll(0.3 * FACTOR)
        if answer is None:
            waiting.append((c, payload.ljust(20000, b".")))
        elif answer.reason == 0:
            acknowledged.append(payload.ljust(20000, b"."))
        else:
            assert answer.reason == QUOTA_EXCEEDED, answer
            return waiting


def wait_good(b, acknowledged):
    deadline = time.monotonic() + 3 * TIMEOUT
    while True:
        c = b.connect(V5)
        c.send_publish("q/x", "good again", qos=1)
        answer = c.poll(TIMEOUT)
        assert answer is not None, "no answer"
        if answer.reason == 0:
            acknowledged.append(b"good again")
            return
        assert time.monotonic() < deadline, "it does not recover"
        time.sleep(0.05)


def test_a_store_that_is_full_takes_in_no_more_until_there_is_room():
    # Looked at once a second: so much more may come.
    with stored(store={"max_bytes": "4m"}, limits={"max_queued_messages": BIG, "max_queued_bytes": "1g"}) as b:
        b.sleeper()
        p = b.connect(V5)
        kept, reason, deadline = 0, 0, time.monotonic() + TIMEOUT
        while reason == 0:
            reason = p.publish("q/x", b"%d" % kept + b"." * 20000, qos=1)
            kept += reason == 0
            assert time.monotonic() < deadline, "max_bytes is not kept"
        assert reason == QUOTA_EXCEEDED and kept > 20, (reason, kept)
        c = b.wake()
        for i in range(kept):
            assert c.expect_message("q/x").payload.startswith(b"%d." % i)
        c.disconnect()
        deadline = time.monotonic() + 3 * TIMEOUT
        while p.publish("q/x", "again", qos=1) != 0:
            assert time.monotonic() < deadline, "there is room, and it is not used"
            time.sleep(0.05)


# ---- trouble at the start ----------------------------------------------------------------------------

def refused_start(b, *words):
    """It must not start, and say why. @return that line."""
    mark = b.mark()
    b.start(wait=False)
    code = b.wait_exit(2 * TIMEOUT)
    b.check_sanitizers()
    b.process = None
    assert code > 0, "exit code %r" % code
    text = "\n".join(b.log_lines(since=mark))
    for word in words:
        assert word in text, "no %r in: %s" % (word, text)
    return text


@each(how=("mount", "EROFS"))
def test_a_store_that_may_only_be_read_is_refused_with_its_folder(how):
    b = Stored()
    mounted = Tmpfs(b, 8) if how == "mount" else None
    try:
        b.start().sleeper()
        b.close_clients()
        b.stop()
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", b.path("store")], check=True)
        else:
            b.disk.fail("EROFS", "open", "write", "grow")
        refused_start(b, "Read-only file system", b.path("store"))
        if mounted:
            subprocess.run(["mount", "-o", "remount,rw", b.path("store")], check=True)
        else:
            b.disk.works()
        b.start()
        b.wake()
        b.close_clients()
        b.stop()
    finally:
        if mounted:
            mounted.end()
        b.remove()


def test_two_brokers_do_not_share_a_store():
    with stored() as b, contextlib.closing(b.connect(V5)) as c:
        pid = b.process.pid
        other = Broker(top={"store": {"directory": b.path("store"), "durability": "strict"}})
        try:
            refused_start(other, "in use", str(pid))
        finally:
            other.remove()
        c.ping()


def test_a_store_of_a_newer_version_is_left_alone():
    with stored() as b:
        b.sleeper()
        b.stop()
        db = sqlite3.connect(b.database, isolation_level=None)
        schema = db.execute("PRAGMA user_version").fetchone()[0]
        db.execute("PRAGMA user_version = %d" % (schema + 1))
        db.execute("UPDATE meta SET value = value + 1 WHERE name = 'schema'")
        db.execute("UPDATE meta SET value = 'grapnel 99.1' WHERE name = 'program'")
        refused_start(b, "grapnel 99.1")
        db.execute("PRAGMA user_version = %d" % schema)
        db.execute("UPDATE meta SET value = value - 1 WHERE name = 'schema'")
        db.close()
        b.start()
        b.wake()


def filled(b):
    """A store with some of everything, its broker stopped."""
    b.sleeper()
    with b.connect(V5) as p:
        for i in range(300):
            p.send_publish("r/%d" % i, b"retained %d." % i + b"x" * 200, qos=1, retain=True)
        for i in range(300):
            p.wait_for(PUBACK)
        for i in range(100):
            assert p.publish("q/x", b"queued %d." % i + b"y" * 500, qos=1) == 0
    b.close_clients()
    b.stop()


def flip(path, where, bit=0):
    with open(path, "r+b") as f:
        f.seek(where)
        byte = f.read(1)[0]
        f.seek(where)
        f.write(bytes([byte ^ 1 << bit]))


def damage_truncated(path, rng):
    os.truncate(path, os.path.getsize(path) // 2)


def damage_short(path, rng):
    os.truncate(path, 1000)


def damage_emptied(path, rng):
    os.truncate(path, 0)


def damage_header(path, rng):
    with open(path, "r+b") as f:
        f.write(b"not a database, but what somebody wrote there".ljust(100, b"."))


def damage_bits(path, rng):
    for _ in range(200):
        flip(path, rng.randrange(os.path.getsize(path)), rng.randrange(8))


def damage_a_page(path, rng):
    with open(path, "r+b") as f:
        f.seek(rng.randrange(1, os.path.getsize(path) // 8192) * 8192)
        f.write(rng.randbytes(8192))


def damage_a_retained_message(path, rng):
    with open(path, "rb") as f:
        where = f.read().find(b"retained 17.")
    flip(path, where + 20)


def damage_a_queued_message(path, rng):
    with open(path, "rb") as f:
        where = f.read().find(b"queued 17.")
    flip(path, where + 20)


DAMAGES = {k[7:].replace("_", " "): v for k, v in list(globals().items()) if k.startswith("damage_")}


@each(damage=tuple(DAMAGES))
def test_a_damaged_store_is_said_kept_and_salvaged(damage):
    b = Stored()
    try:
        b.start()
        filled(b)
        with sqlite3.connect(b.database) as db:  # all of it in one file
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        DAMAGES[damage](b.database, random.Random(7))
        mark = b.mark()
        b.start()
        said = b.wait_log(r" (warning|error) store_\w+: .*(damage|lost|cannot be read)", since=mark)
        kept = min(glob.glob(b.database + ".damaged-*"), key=len, default=None)  # its -wal and -shm are longer
        assert damage.endswith("message") or (kept is not None and kept in said), (said, kept)
        retained, queued = what_is_left(b)
        if damage == "a retained message":
            assert retained == set(range(300)) - {17} and queued == set(range(100)), (retained, queued)
        elif damage == "a queued message":
            assert retained == set(range(300)) and 17 not in queued, (retained, queued)
        elif damage in ("truncated", "a page", "bits"):
            assert retained or queued, "nothing was salvaged"
        # It is a store like any other again.
        b.sleeper("another")
        b.again()
        if not damage.endswith("message"):
            assert not b.log_lines(r"damage", since=b.start_mark), "it is still damaged"
        b.wake("another")
        b.close_clients()
        b.stop()
    finally:
        b.remove()


def what_is_left(b):
    """@return (numbers of retained, numbers of queued messages): each of them as it was."""
    retained, queued = set(), set()
    c = b.connect(V5, "sleeper", clean=False, props=DURABLE)
    if c.connack.session_present:
        c.send_raw(b"\xc0\x00")
        while True:
            p = c.recv()
            if p.type == PINGRESP:
                break
            n = int(p.payload[7:].split(b".")[0])
            assert p.payload == b"queued %d." % n + b"y" * 500, p
            queued.add(n)
            c.puback(p.packet_id)
        for p in iter(lambda: c.poll(0.3 * FACTOR), None):
            queued.add(int(p.payload[7:].split(b".")[0]))
            c.puback(p.packet_id)
    c.disconnect()
    c = b.connect(V5)
    c.subscribe("r/#")
    c.ping()
    for p in c.put_aside:
        n = int(p.topic[2:])
        assert p.payload == b"retained %d." % n + b"x" * 200, p
        retained.add(n)
    c.disconnect()
    return retained, queued


# ---- clocks --------------------------------------------------------------------------------------------

HOUR = 3600


def with_deadlines(b):
    """Sessions, messages, retained ones and a delayed Will, that end in an hour or ten; the broker is down then."""
    for name, hours in (("an hour", 1), ("ten hours", 10)):
        c = b.connect(V5, name, clean=False, props=[(SESSION_EXPIRY, hours * HOUR)])
        c.subscribe([Sub("m/#", 1), Sub("will", 1)])
        c.disconnect()
    c = b.connect(V5, "dying", clean=False, props=[(SESSION_EXPIRY, 20 * HOUR)],
                  will=Will("will", "it is dead", 1, props=[(WILL_DELAY, HOUR)]))
    c.close()
    b.wait_metric("sessions_online", 0)
    with b.connect(V5) as p:
        for hours in (1, 10):
            assert p.publish("m/%d" % hours, "queued", qos=1, props=[(MESSAGE_EXPIRY, hours * HOUR)]) == 0
            assert p.publish("r/%d" % hours, "kept", qos=1, retain=True, props=[(MESSAGE_EXPIRY, hours * HOUR)]) < 0x80
        p.disconnect()


def present(b):
    """@return {what is there: its Message Expiry Interval}."""
    there = {}
    c = b.connect(V5)
    c.subscribe("r/#")
    c.ping()
    for p in c.put_aside:
        there[p.topic] = p.prop(MESSAGE_EXPIRY)
    c.disconnect()
    for name in ("an hour", "ten hours"):
        c = b.connect(V5, name, clean=False, props=[(SESSION_EXPIRY, 100 * HOUR), (RECEIVE_MAXIMUM, 100)])
        if c.connack.session_present:
            there[name] = None
            c.ping()
            for p in iter(lambda: c.poll(0.2 * FACTOR), None):
                there["%s: %s" % (name, p.topic)] = p.prop(MESSAGE_EXPIRY)
        c.close()
    return there


ALL_THERE = {"r/1", "r/10", "an hour", "an hour: m/1", "an hour: m/10", "ten hours", "ten hours: m/1", "ten hours: m/10"}


@each(killed=(False, True))
def test_time_goes_on_while_the_broker_is_down(killed):
    with stored() as b:
        with_deadlines(b)
        restart(b, killed, 0.5 * HOUR)
        there = present(b)
        assert set(there) == ALL_THERE, there
        for name, left in there.items():
            if left is not None:
                hours = int(name.rsplit("/", 1)[1])
                assert (hours - 0.5) * HOUR - 300 < left <= (hours - 0.5) * HOUR, (name, left)
    with stored() as b:
        with_deadlines(b)
        restart(b, killed, 2 * HOUR)
        there = present(b)
        # The delayed Will was due, and waits for the session that is left.
        assert set(there) == {"r/10", "ten hours", "ten hours: m/10", "ten hours: will"}, there


@each(killed=(False, True))
def test_a_clock_that_was_set_back_ends_nothing_and_revives_nothing(killed):
    with stored() as b:
        with_deadlines(b)
        restart(b, killed, -50 * 365 * 24 * HOUR)  # a device whose clock starts in the seventies
        there = present(b)
        assert set(there) == ALL_THERE, there
        for name, left in there.items():
            if left is not None:
                hours = int(name.rsplit("/", 1)[1])
                assert hours * HOUR - 300 < left <= hours * HOUR, (name, left)
        # The clock is right again, while it runs: nothing of this jump is time that has passed.
        b.disk.clock(0)
        assert set(present(b)) >= {"an hour", "ten hours", "r/1", "r/10"}


def restart(b, killed, seconds):
    b.close_clients()
    if killed:
        b.kill9()
    else:
        b.stop()
    b.disk.clock(seconds)
    b.start()
