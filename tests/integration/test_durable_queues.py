# SPDX-License-Identifier: Apache-2.0
"""Long queues: left on the disk, read back in order, with all that a message has; over restarts too."""
import os
import random
import time

from lib.case import each
from lib.durable import DURABLE, Kept, drain, kept, pour
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import MIB, memory, sanitized

HOUR = 3600
KIB = b"x" * 1000
MUCH = {"max_queued_messages": 100000, "max_queued_bytes": "256m", "max_total_queued_bytes": "1g"}
END = each(end=("goes on", "stopped", "killed"))


def numbered(topic, count, qos=1, first=0, props=()):
    return ((topic, b"%d." % i + KIB, qos, props) for i in range(first, first + count))


def numbers(packets):
    return [int(p.payload.split(b".")[0]) for p in packets]


def in_order(packets, wanted):
    """It is exactly these numbers."""
    got, wanted = numbers(packets), list(wanted)
    if got == wanted:
        return
    at = next((i for i, (a, b) in enumerate(zip(got, wanted)) if a != b), min(len(got), len(wanted)))
    raise AssertionError("%d messages, not %d; from the %dth on: %r, not %r" % (
        len(got), len(wanted), at, got[at:at + 20], wanted[at:at + 20]))


def paged(memory_for_queues="1m", limits=MUCH, **options):
    return kept(store={"memory_for_queues": memory_for_queues}, limits=dict(MUCH, **limits), **options)


def paged_at(clock):
    """The same on a machine whose clock is wrong by so much."""
    b = Kept(store={"memory_for_queues": "1m"}, limits=MUCH)
    b.disk.clock(clock)
    return b


def come_to(b, end, **changed):
    if end != "goes on":
        b.again(killed=end == "killed", **changed)


# ---- how much, and in which order -------------------------------------------------------------------------

def fill(b, sessions, total, qos):
    names = ["s%d" % i for i in range(sessions)]
    for name in names:
        b.asleep(name, "q/" + name, qos)
    with b.connect(V5) as p:
        base = memory(b)
        pour(p, (("q/" + names[i % sessions], b"%d." % i + KIB, qos) for i in range(total)))
    return base


@each(sessions=(1, 50))
def test_memory_for_a_backlog_is_bounded(sessions):
    grown = {}
    for memory_for_queues in ("256m", "1m"):
        with paged(memory_for_queues) as b:
            base = fill(b, sessions, 20000, 1)
            grown[memory_for_queues] = memory(b) - base
            assert b.metric("queued_messages") == 20000
            if memory_for_queues == "1m":
                for i in range(sessions):
                    c = b.durable("s%d" % i)
                    in_order(drain(c, 20000 // sessions), range(i, 20000, sessions))
                    c.expect_nothing(0)
                    c.disconnect()
                assert b.metric("store_read_back_total") > 10000, "it was not on the disk"
                b.wait_metric("queued_messages", 0)
            sanitizer = sanitized(b)
    assert sanitizer or grown["1m"] < grown["256m"] - 10 * MIB, grown


@END
@each(sessions=(1, 20), qos=(1, 2))
def test_what_was_on_the_disk_comes_in_order_and_once(sessions, qos, end):
    with paged() as b:
        fill(b, sessions, 3000, qos)
        come_to(b, end)
        for i in range(sessions):
            c = b.durable("s%d" % i)
            got = drain(c, 3000 // sessions)
            in_order(got, range(i, 3000, sessions))
            assert not any(p.dup for p in got)
            c.expect_nothing(0.01)
            c.disconnect()


@END
def test_more_comes_while_the_queue_is_drained(end):
    with paged() as b:
        b.asleep("s", "q", 1)
        with b.connect(V5) as p:
            pour(p, numbered("q", 3000))
        come_to(b, end)
        c, p = b.durable("s", props=DURABLE + [(RECEIVE_MAXIMUM, 20)]), b.connect(V5)
        got = []
        for first in range(3000, 6000, 500):
            pour(p, numbered("q", 500, first=first))
            got += drain(c, 300)
        got += drain(c, 6000 - len(got))
        in_order(got, range(6000))


@END
@each(qos=(1, 2))
def test_a_client_that_comes_and_goes_while_it_drains(qos, end):
    rng = random.Random(qos)
    with paged() as b:
        fill(b, 1, 3000, qos)
        come_to(b, end)
        got, restarts = [], 0
        while len({n for n, _ in got}) < 3000:
            c = b.durable("s0", props=DURABLE + [(RECEIVE_MAXIMUM, rng.choice((1, 7, 100, 1000)))])
            for _ in range(rng.randrange(50, 600)):
                p = c.poll(0.3)
                if p is None:
                    break
                if p.type == PUBREL:
                    c.pubcomp(p.packet_id)
                    continue
                got.append((int(p.payload.split(b".")[0]), p.dup))
                if p.qos == 1:
                    c.puback(p.packet_id)
                else:
                    c.pubrec(p.packet_id)
            rng.choice((c.close, c.disconnect, c.reset))()
            if end == "killed" and restarts < 2 and len(got) > 800 * (restarts + 1):
                restarts += 1
                b.again(killed=True)
        firsts = [n for n, dup in got if not dup]
        whole = list(dict.fromkeys(n for n, _ in got))
        assert whole == list(range(3000)), "order"
        if qos == 2 or end != "killed":
            assert len(firsts) == len(set(firsts)), "twice, and not as DUP"


# ---- limits, expiry, ends -------------------------------------------------------------------------------------

@each(limit=({"max_queued_messages": 2000}, {"max_queued_bytes": "1m"}))
def test_limits_of_queues_count_what_is_on_the_disk(limit):
    counts = {}
    for memory_for_queues in ("1m", "256m"):
        with paged(memory_for_queues, limit) as b:
            fill(b, 1, 3000, 1)
            counts[memory_for_queues] = queued = int(b.metric("queued_messages"))
            assert b.metric("messages_dropped_queue_full_total") == 3000 - queued
            b.again(killed=memory_for_queues == "1m")
            with b.connect(V5) as p:
                pour(p, numbered("q/s0", 20, first=5000))
            c = b.durable("s0")
            in_order(drain(c, queued), range(queued))
            c.expect_nothing(0.01)
    assert 900 < counts["1m"] == counts["256m"] < 3000, counts
    assert "max_queued_messages" not in limit or counts["1m"] == 2000, counts


@END
def test_what_expires_on_the_disk_does_not_come(end):
    with paged() as b:
        b.asleep("s", "q", 1)
        with b.connect(V5) as p:
            pour(p, (("q", b"%d." % i + KIB, 1, [(MESSAGE_EXPIRY, 2 if end == "goes on" else HOUR)] if i % 3 else [])
                     for i in range(3000)))
        if end == "goes on":
            time.sleep(2.2)  # how long they live
        come_to(b, end, clock=2 * HOUR)
        c = b.durable("s")
        in_order(drain(c, 1000), range(0, 3000, 3))
        c.expect_nothing(0.01)
        assert b.metric("messages_expired_total") == 2000


def expiring(b, count, name="s"):
    b.asleep(name, name, 1)
    with b.connect(V5) as p:
        pour(p, numbered(name, count, props=[(MESSAGE_EXPIRY, HOUR)]))


@each(years=((-50, 0), (0, 50), (50, 0)))
def test_a_clock_that_is_set_while_it_runs_ends_nothing_on_the_disk(years):
    start, then = (n * 365 * 24 * HOUR for n in years)
    with paged_at(start) as b:
        expiring(b, 1500)
        b.disk.clock(then)
        expiring(b, 1500, "later")
        for name in ("s", "later"):
            got = drain(b.durable(name), 1500)
            in_order(got, range(1500))
            assert {p.prop(MESSAGE_EXPIRY) > HOUR - 600 for p in got} == {True}, got[-1]
        expiring(b, 1500)
        b.again(killed=True, clock=then + HOUR // 2)
        got = drain(b.durable("s"), 1500)
        in_order(got, range(1500))
        assert HOUR // 2 - 600 < got[-1].prop(MESSAGE_EXPIRY) <= HOUR // 2, got[-1]


def test_a_clock_that_is_right_at_last_measures_what_was_there_before():
    with paged() as b:
        expiring(b, 1500)
        b.asleep("much later", "much later", 1)
        with b.connect(V5) as p:
            pour(p, numbered("much later", 1500, props=[(MESSAGE_EXPIRY, 3 * HOUR)]))
        b.again(killed=True, clock=-50 * 365 * 24 * HOUR)
        b.disk.clock(2 * HOUR)
        got = drain(b.durable("much later"), 1500)
        in_order(got, range(1500))
        assert HOUR - 600 < got[-1].prop(MESSAGE_EXPIRY) <= HOUR, got[-1]
        b.durable("s").expect_nothing()


@each(how=("clean start", "expiry 0"))
def test_a_session_that_ends_gives_back_what_it_has_on_the_disk(how):
    with paged(workers=1) as b:
        for _ in range(8):
            b.asleep("s", "q", 1)
            with b.connect(V5) as p:
                pour(p, numbered("q", 1500))
                p.disconnect()
            if how == "clean start":
                b.connect(V5, "s", clean=True, session_present=False).disconnect()
            else:
                b.durable("s").disconnect(props=[(SESSION_EXPIRY, 0)])
            assert b.metric("queued_messages") == 0
            b.wait_metric("store_segments", lambda n: n < 20)
        assert not b.durable("s").connack.session_present
        b.close_clients()
        b.stop()
        size = os.path.getsize(b.database)
        assert size < 4 * 1500 * 1024, "%d bytes for nothing" % size


# ---- what a message has -----------------------------------------------------------------------------------------

PROPERTIES = [(PAYLOAD_FORMAT, 1), (CONTENT_TYPE, "text/plain"), (RESPONSE_TOPIC, "answer/here"),
              (CORRELATION_DATA, bytes(range(256))), (USER_PROPERTY, ("a", "1")), (USER_PROPERTY, ("a", "2"))]
LONG = "q/" + "t" * 65533


@END
def test_all_that_a_message_has_survives_the_disk(end):
    with paged(limits={"max_packet_size": "2m"}) as b:
        c = b.durable("s")
        c.subscribe([Sub("q/#", 2, rap=True, no_local=True)], props=[(SUBSCRIPTION_ID, 7)])
        c.subscribe([Sub("q/+", 1)], props=[(SUBSCRIPTION_ID, 268435455)])
        c.subscribe([Sub("own", 1, no_local=True)])
        c.send_publish("own", "to itself", qos=1)
        c.expect(PUBACK)
        c.disconnect()
        b.asleep("old", "q/#", 2, v=V311)
        p = b.connect(V5)
        pour(p, numbered("q/fill", 1500))
        assert p.publish("q/properties", "é", 1, props=PROPERTIES) == 0
        assert p.publish("q/retain", "r", 2, retain=True) == 0
        assert p.publish("q/empty", b"", 1) == 0
        assert p.publish("q/large", bytes(range(256)) * 4096, 1) == 0
        assert p.publish(LONG, "long", 2) == 0
        assert p.publish("q/expiry", "later", 1, props=[(MESSAGE_EXPIRY, HOUR)]) == 0
        pour(p, numbered("q/more", 500))
        b.wait_metric("queued_messages", 2 * 2006)
        come_to(b, end)
        for name, v in (("s", V5), ("old", V311)):
            c = b.durable(name, v=v)
            got = [p for p in drain(c, 2006) if p.topic not in ("q/fill", "q/more")]
            got.sort(key=lambda p: p.qos)  # between them there is no order
            assert [p.topic for p in got] == ["q/properties", "q/empty", "q/large", "q/expiry", "q/retain", LONG], got
            assert [p.payload for p in got] == ["é".encode(), b"", bytes(range(256)) * 4096, b"later", b"r", b"long"]
            assert [p.qos for p in got] == [1, 1, 1, 1, 2, 2], got
            assert [p.retain for p in got] == [False, False, False, False, v == V5, False], got
            if v == V5:
                check_properties(got)
            c.expect_nothing(0.01)


def check_properties(got):
    for p in got:
        assert sorted(p.prop_all(SUBSCRIPTION_ID)) == [7, 268435455], p
        p.props = [x for x in p.props if x[0] != SUBSCRIPTION_ID]
    assert sorted(got[0].props) == sorted(PROPERTIES), got[0]
    assert [x for x in got[0].props if x[0] == USER_PROPERTY] == PROPERTIES[-2:], got[0]
    assert got[1].props == got[2].props == got[4].props == got[5].props == [], got
    assert HOUR - 600 < got[3].prop(MESSAGE_EXPIRY) <= HOUR, got[3]


# ---- who is asked again --------------------------------------------------------------------------------------------

RULES = """
user alice
deny read q/secret
allow all q/#
user bob
allow all q/#
"""


@END
def test_rights_that_were_taken_away_meanwhile_hold_for_what_is_on_the_disk(end):
    with paged(users={"alice": "a", "bob": "b"}, rules=RULES.replace("deny read q/secret\n", "")) as b:
        alice, bob = {"username": "alice", "password": "a"}, {"username": "bob", "password": "b"}
        b.asleep("s", "q/#", 1, **alice)
        with b.connect(V5, **bob) as p:
            pour(p, (("q/secret" if i % 2 else "q/open", b"%d." % i + KIB) for i in range(2000)))
        b.options["files"]["rules"] = RULES
        b.configure()
        if end == "goes on":
            b.reload()
        come_to(b, end)
        c = b.durable("s", **alice)
        in_order(drain(c, 1000), range(0, 2000, 2))
        c.expect_nothing(0.01)
        assert b.connect(V5, **bob).publish("q/open", "9999.", qos=1) == 0
        assert numbers(drain(c, 1)) == [9999]


@END
def test_message_deliver_sees_what_comes_back_from_the_disk(end):
    with paged(plugins={"rewrite": {"deliver_payload": "changed", "deliver_user_property": "v", "only": "q/1*"}}) as b:
        b.asleep("s", "q/#", 1)
        with b.connect(V5) as p:
            pour(p, (("q/%d" % i, b"%d." % i + KIB) for i in range(2000)))
        come_to(b, end)
        got = drain(b.durable("s"), 2000)
        assert [p.topic for p in got] == ["q/%d" % i for i in range(2000)]
        for i, p in enumerate(got):
            seen = p.payload == b"changed" and p.prop(USER_PROPERTY) == ("rewrite", "v")
            assert seen == str(i).startswith("1"), p
