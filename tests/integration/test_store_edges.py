# SPDX-License-Identifier: Apache-2.0
"""A store at its edges: what is refused is not taken for received, time goes on without commits, limits hold under load."""
import contextlib
import os
import sqlite3
import time

from lib.broker import TIMEOUT, Broker
from lib.disk import Disk
from lib.mqtt import *  # noqa: F401,F403

LONG = [(SESSION_EXPIRY, 1000000)]


@contextlib.contextmanager
def stored(store=None, **options):
    b = Broker(top={"store": dict({"directory": "{dir}/store", "durability": "strict"}, **(store or {}))}, **options)
    b.disk = Disk(b.path("store"))
    b.env.update(b.disk.env)
    with b:
        yield b


def sleeper(b, topic="q/#"):
    c = b.connect(V5, "sleeper", clean=False, props=LONG)
    c.subscribe(topic, 2)
    c.disconnect()


def test_what_a_failing_store_refused_without_a_word_is_a_new_message_when_it_comes_again():
    with stored(store={"durability": "relaxed"}) as b:
        sleeper(b)
        p = b.connect(V311, "publisher", clean=False)
        b.disk.fail("EIO", "write")
        # Something that is written: refused when what came before it was still to be written, and has failed.
        b.client(V5).send_connect("more", clean=False, props=LONG)
        b.wait_log("store_failing")
        p.send_publish("q/a", "message", qos=2, packet_id=77)
        p.expect_close()
        b.disk.works()
        b.wait_log("store_good")
        p = b.connect(V311, "publisher", clean=False)
        p.send_publish("q/a", "message", qos=2, dup=True, packet_id=77)
        p.expect(PUBREC, packet_id=77)
        c = b.connect(V5, "sleeper", clean=False, props=LONG)
        c.expect_message("q/a", "message", qos=2)


def alive(b):
    db = sqlite3.connect(b.path("store/grapnel.db"))
    try:
        return db.execute("SELECT value FROM meta WHERE name = 'alive'").fetchone()[0] / 1000
    finally:
        db.close()


def test_a_client_that_was_there_when_the_broker_ended_has_all_of_its_session_expiry_left():
    with stored() as b:
        c = b.connect(V5, "quiet", clean=False, props=[(SESSION_EXPIRY, 1000)])
        c.subscribe("q/#", 1)
        now = time.time() + 3600
        b.disk.clock(3600)  # an hour in which nothing is written
        deadline = time.monotonic() + 3 * TIMEOUT
        while alive(b) < now:
            assert time.monotonic() < deadline, "nothing says that the broker runs"
            time.sleep(0.1)
        b.close_clients()
        b.kill9()
        b.start()
        assert b.connect(V5, "quiet", clean=False, props=LONG).connack.session_present


def test_a_store_is_not_filled_beyond_its_limit_by_those_who_never_pause():
    with stored(store={"max_bytes": "4m"}, limits={"max_queued_messages": 1000000}) as b:
        sleeper(b)
        publishers = [b.connect(V5) for _ in range(4)]
        left = {p: 4000 for p in publishers}
        refused, until = 0, time.monotonic() + 10 * TIMEOUT
        while any(left.values()):
            assert time.monotonic() < until
            for p in publishers:
                n = min(left[p], 20)
                for _ in range(n):
                    p.send_publish("q/x", b"." * 4000, qos=1)
                for _ in range(n):
                    refused += p.expect(PUBACK).reason != 0
                left[p] -= n
        assert refused > 0
        size = os.path.getsize(b.path("store/grapnel.db"))
        assert size < 3 * 4 * 1024 * 1024, "%d bytes; %d refused" % (size, refused)


def test_a_broker_that_cannot_write_at_its_end_ends_and_has_acknowledged_nothing_of_it():
    with stored(workers=3) as b:
        sleeper(b)
        receivers = [b.connect(V5, "receiver %d" % i, clean=False, props=LONG) for i in range(5)]
        for c in receivers:
            c.subscribe("q/#", 2)
        publishers = [b.connect(v, "publisher %d" % v, clean=False, props=LONG if v == V5 else ()) for v in (V311, V5)]
        b.disk.fail("EIO", "write")
        waiting = []
        for p in publishers:
            for qos in (2, 1, 2):
                p.send_publish("q/a", "message", qos=qos, packet_id=qos + 10 * len(waiting))
                waiting.append(p)
        b.wait_log("store_failing")
        b.stop()
        for p in publishers:
            while True:
                got = p.poll(0)
                if got is None or got.type not in (PUBACK, PUBREC):
                    break
                assert got.reason >= 0x80, got


def test_short_queues_of_many_do_not_stay_in_memory():
    """Each is written with the next commit, and no other message comes that would make somebody look at that queue."""
    with stored(store={"memory_for_queues": "1m"}, workers=1) as b:
        sleepers = ["sleeper %d" % i for i in range(40)]
        for name in sleepers:
            c = b.connect(V5, name, clean=False, props=LONG)
            c.subscribe("q/" + name, 1)
            c.disconnect()
        p = b.connect(V5)
        for turn in range(2):
            for name in sleepers:
                p.send_publish("q/" + name, b"%d" % turn + b"." * 40000, qos=1)
            for name in sleepers:
                p.expect(PUBACK, reason=0)
        for name in sleepers:
            c = b.connect(V5, name, clean=False, props=LONG)
            for turn in range(2):
                assert c.expect_message("q/" + name).payload.startswith(b"%d." % turn)
            c.disconnect()
        # Less than a MiB of 3 were in memory.
        assert b.metric("store_read_back_total") >= 50, b.metric("store_read_back_total")


def test_a_shared_group_whose_last_member_is_gone_does_not_come_back():
    """As a crash leaves it, between the commits of two workers."""
    with stored(workers=3) as b:
        for name in ("stays", "goes"):
            c = b.connect(V5, name, clean=False, props=LONG)
            c.subscribe("$share/%s/q/#" % name, 1)
            c.disconnect()
        with b.connect(V5) as p:
            assert p.publish("q/a", "queued", qos=1) == 0
        b.close_clients()
        b.stop()
        with contextlib.closing(sqlite3.connect(b.path("store/grapnel.db"))) as db, db:
            db.execute("DELETE FROM subscription WHERE CAST(filter AS TEXT) LIKE '%goes%'")
        for _ in range(2):
            b.start()
            b.stop()
        with contextlib.closing(sqlite3.connect(b.path("store/grapnel.db"))) as db:
            assert db.execute("SELECT count(*) FROM session").fetchone()[0] == 3  # two of Clients, one group
        b.start()
        c = b.connect(V5, "goes", clean=False, props=LONG)
        c.subscribe("$share/goes/q/#", 1)
        c.expect_nothing()
        c = b.connect(V5, "stays", clean=False, props=LONG)
        c.expect_message("q/a", "queued")
