# SPDX-License-Identifier: Apache-2.0
"""Shared subscriptions."""
import collections
import select
import time

from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403

EXPIRY = [(SESSION_EXPIRY, 300)]
STRATEGIES = ("round-robin", "random", "sticky", "by-publisher")


def by_strategy(strategy):
    return {"share_strategy": strategy}


def collect(members, count, timeout=10.0):
    """`count` messages from any of the members. @return [(member's index, packet)]."""
    got = []
    deadline = time.monotonic() + timeout
    while len(got) < count:
        for i, c in enumerate(members):
            while True:
                p = c.poll(0)
                if p is None:
                    break
                assert p.type == PUBLISH, p
                c.acknowledge(p)
                got.append((i, p))
        if len(got) < count:
            left = deadline - time.monotonic()
            assert left > 0, "only %d of %d messages came" % (len(got), count)
            select.select([c.sock for c in members], [], [], min(left, 0.5))
    for c in members:
        c.expect_nothing(0.02)
    return got


@each(strategy=STRATEGIES, v=ALL)
@broker(limits=lambda strategy, v: by_strategy(strategy))
def test_every_message_goes_to_one_member(b, strategy, v):
    topic = b.unique("shared")
    members = [b.connect(w) for w in ALL]
    for c in members:
        c.subscribe("$share/group/" + topic + "/#", qos=1)
    p = b.connect(v)
    for n in range(60):
        p.publish("%s/%d" % (topic, n % 5), str(n), qos=n % 2)
    got = collect(members, 60)
    assert sorted(int(p.payload) for _, p in got) == list(range(60))
    counts = collections.Counter(i for i, _ in got)
    if strategy == "round-robin":
        assert min(counts[i] for i in range(3)) >= 15, counts
    elif strategy in ("sticky", "by-publisher"):
        assert len(counts) == 1, counts
    else:
        assert len(counts) == 3, counts


@each(strategy=("by-publisher",))
@broker(limits=lambda strategy: by_strategy(strategy))
def test_by_publisher_spreads_publishers_over_members(b, strategy):
    topic = b.unique("shared")
    members = [b.connect(V5) for _ in range(3)]
    for c in members:
        c.subscribe("$share/group/" + topic, qos=1)
    for n in range(40):
        p = b.connect(V5)
        for _ in range(3):
            p.publish(topic, str(n), qos=1)
    seen = collections.defaultdict(set)
    for i, m in collect(members, 120):
        seen[m.payload].add(i)
    assert all(len(s) == 1 for s in seen.values()), seen
    assert len({next(iter(s)) for s in seen.values()}) == 3


@each(strategy=STRATEGIES)
@broker(limits=lambda strategy: by_strategy(strategy))
def test_a_member_that_is_offline_is_skipped(b, strategy):
    topic = b.unique("shared")
    away, here = b.connect(V5, props=EXPIRY), b.connect(V5)
    away.subscribe("$share/group/" + topic, qos=1)
    here.subscribe("$share/group/" + topic, qos=1)
    away.disconnect()
    p = b.connect(V5)
    p.publish(topic, "0", qos=1)
    here.expect_message(topic, "0")  # which may have been given to the other one first, and come back
    for n in range(1, 20):
        p.publish(topic, str(n), qos=1)
    got = collect([here], 19)
    assert [int(m.payload) for _, m in got] == list(range(1, 20)), got


def test_messages_wait_in_the_group_when_all_members_are_offline(b):
    topic, name = b.unique("shared"), b.unique("c")
    c = b.connect(V5, name, props=EXPIRY)
    c.subscribe("$share/group/" + topic, qos=1)
    c.disconnect()
    queued = b.metric("queued_messages")
    p = b.connect(V5)
    for n in range(5):
        p.publish(topic, str(n), qos=1)
    b.wait_metric("queued_messages", queued + 5)
    other = b.connect(V5)
    other.subscribe("$share/group/" + topic, qos=1)  # whoever comes first gets them
    for n in range(5):
        other.expect_message(topic, str(n))
    c = b.connect(V5, name, clean=False, props=EXPIRY, session_present=True)
    c.expect_nothing()


@each(how=("close", "disconnect"))
def test_what_a_member_had_unacknowledged_goes_to_another_when_its_session_ends(b, how):
    topic = b.unique("shared")
    one = b.connect(V5)
    one.subscribe("$share/group/" + topic, qos=1)
    p = b.connect(V5)
    for n in range(10):
        p.publish(topic, str(n), qos=1)
    held = [one.expect(PUBLISH, payload=str(n)) for n in range(10)]
    two = b.connect(V5)
    two.subscribe("$share/group/" + topic, qos=1)
    one.puback(held[0].packet_id)
    one.ping()
    getattr(one, how)()
    for n in range(1, 10):
        two.expect_message(topic, str(n))
    two.expect_nothing()


def test_what_a_member_had_unacknowledged_stays_with_its_session(b):
    topic, name = b.unique("shared"), b.unique("c")
    one = b.connect(V5, name, props=EXPIRY)
    one.subscribe("$share/group/" + topic, qos=2)
    two = b.connect(V5)
    p = b.connect(V5)
    p.publish(topic, "held", qos=2)
    m = one.expect(PUBLISH, payload="held")
    two.subscribe("$share/group/" + topic, qos=2)
    one.reset()
    two.expect_nothing()
    one = b.connect(V5, name, clean=False, props=EXPIRY, session_present=True)
    one.expect_message(topic, "held", dup=True, packet_id=m.packet_id)


def test_a_qos_2_message_that_was_sent_goes_to_nobody_else(b):
    topic = b.unique("shared")  # [MQTT-4.8.2-5]
    one = b.connect(V5)
    one.subscribe("$share/group/" + topic, qos=2)
    p = b.connect(V5)
    p.publish(topic, "received", qos=2)
    p.publish(topic, "sent", qos=2)
    m = one.expect(PUBLISH, payload="received")
    one.expect(PUBLISH, payload="sent")
    one.pubrec(m.packet_id)
    one.expect(PUBREL)
    two = b.connect(V5)
    two.subscribe("$share/group/" + topic, qos=2)
    one.close()
    two.expect_nothing()


def test_a_member_that_is_full_is_skipped(b):
    topic = b.unique("shared")
    full, free = b.connect(V5, props=[(RECEIVE_MAXIMUM, 2)]), b.connect(V5)
    for c in (full, free):
        c.subscribe("$share/group/" + topic, qos=1)
    p = b.connect(V5)
    for n in range(20):
        p.publish(topic, str(n), qos=1)
    held = [full.expect(PUBLISH), full.expect(PUBLISH)]
    got = [free.expect_message(topic) for _ in range(18)]
    assert sorted(int(m.payload) for m in held + got) == list(range(20))
    free.expect_nothing(0.05)
    full.expect_nothing(0.05)


def test_messages_wait_in_the_group_when_all_members_are_full(b):
    topic = b.unique("shared")
    members = [b.connect(V5, props=[(RECEIVE_MAXIMUM, 1)]) for _ in range(2)]
    for c in members:
        c.subscribe("$share/group/" + topic, qos=1)
    p = b.connect(V5)
    for n in range(10):
        p.publish(topic, str(n), qos=1)
    held = [c.expect(PUBLISH) for c in members]
    third = b.connect(V5)
    third.subscribe("$share/group/" + topic, qos=1)
    got = [third.expect_message(topic) for _ in range(8)]
    assert sorted(int(m.payload) for m in held + got) == list(range(10))
    members[0].acknowledge(held[0])
    members[0].expect_nothing(0.05)


@versions()
def test_groups_and_ordinary_subscriptions_get_their_own_copies(b, v):
    topic = b.unique("shared")
    one, two, plain = b.connect(v), b.connect(v), b.connect(v)
    one.subscribe("$share/one/" + topic, qos=1)
    two.subscribe("$share/two/" + topic, qos=1)
    plain.subscribe([Sub(topic, 1), Sub("$share/one/" + topic + "/other", 1)])
    b.connect(V5).publish(topic, "x", qos=1)
    for c in (one, two, plain):
        c.expect_message(topic, "x", qos=1)
        c.expect_nothing(0.02)


def test_the_same_client_may_be_in_a_group_and_subscribe_plainly(b):
    topic = b.unique("shared")
    c = b.connect(V5)
    c.subscribe(Sub(topic, 1), props=[(SUBSCRIPTION_ID, 1)])
    c.subscribe(Sub("$share/g/" + topic, 1), props=[(SUBSCRIPTION_ID, 2)])
    c.publish(topic, "x", qos=1)
    got = [c.expect_message(topic, "x"), c.expect_message(topic, "x")]
    assert sorted(sum((m.prop_all(SUBSCRIPTION_ID) for m in got), [])) == [1, 2], got
    c.expect_nothing(0.02)


def test_a_shared_message_carries_the_members_identifier_and_qos(b):
    topic = b.unique("shared")
    c = b.connect(V5)
    c.subscribe(Sub("$share/g/" + topic, 1), props=[(SUBSCRIPTION_ID, 99)])
    c.publish(topic, "x", qos=2, props=[(USER_PROPERTY, ("a", "b"))])
    m = c.expect_message(topic, "x", qos=1)
    assert m.prop_all(SUBSCRIPTION_ID) == [99] and m.prop(USER_PROPERTY) == ("a", "b"), m


def test_unsubscribe_leaves_the_group(b):
    topic = b.unique("shared")
    one, two = b.connect(V5), b.connect(V5)
    for c in (one, two):
        c.subscribe("$share/g/" + topic, qos=1)
    one.unsubscribe("$share/g/" + topic)
    one.unsubscribe("$share/g/" + topic, codes=[0x11])
    p = b.connect(V5)
    for n in range(6):
        p.publish(topic, str(n), qos=1)
        two.expect_message(topic, str(n))
    one.expect_nothing(0.02)


def test_a_group_and_its_queue_end_with_the_last_subscription(b):
    topic = b.unique("shared")
    groups, queued = b.metric("shared_groups"), b.metric("queued_messages")
    c = b.connect(V5, "last-member", props=EXPIRY)
    c.subscribe("$share/g/" + topic, qos=1)
    c.disconnect()
    p = b.connect(V5)
    for _ in range(10):
        p.publish(topic, "x", qos=1)
    b.wait_metric("queued_messages", queued + 10)
    assert b.metric("shared_groups") == groups + 1
    b.connect(V5, "last-member", clean=True)
    b.wait_metric("shared_groups", groups)
    b.wait_metric("queued_messages", queued)
    s = b.connect(V5)
    s.subscribe("$share/g/" + topic, qos=1)
    s.expect_nothing()


def test_groups_of_the_same_name_with_other_filters_are_other_groups(b):
    base = b.unique("shared")
    one, two = b.connect(V5), b.connect(V5)
    one.subscribe("$share/g/" + base + "/#", qos=1)
    two.subscribe("$share/g/" + base + "/+", qos=1)
    b.connect(V5).publish(base + "/x", "x", qos=1)
    one.expect_message(base + "/x")
    two.expect_message(base + "/x")


@versions()
def test_messages_of_one_publisher_reach_a_group_of_one_in_order(b, v):
    topic = b.unique("shared")
    c, p = b.connect(v), b.connect(v)
    c.subscribe("$share/g/" + topic, qos=2)
    p.send_raw(b"".join(wire.publish(v, topic, b"%d" % n, 1, packet_id=n + 1) for n in range(300)))
    for n in range(300):
        m = c.expect_message(topic, str(n))
    c.expect_nothing(0.02)


def test_members_that_come_and_go_lose_nothing(b):
    topic = b.unique("shared")
    keeper = b.connect(V5, b.unique("keeper"), props=EXPIRY)
    keeper.subscribe("$share/g/" + topic, qos=1)
    keeper.disconnect()
    p = b.connect(V5)
    got = set()
    for turn in range(20):
        for n in range(10):
            p.publish(topic, "%d" % (turn * 10 + n), qos=1)
        c = b.connect(V5)
        c.subscribe("$share/g/" + topic, qos=1)
        for _ in range(turn % 4):
            got.add(int(c.expect_message(topic).payload))
        c.close()
    c = b.connect(V5)
    c.subscribe("$share/g/" + topic, qos=1)
    while len(got) < 200:
        got.add(int(c.expect_message(topic).payload))
    assert got == set(range(200))
