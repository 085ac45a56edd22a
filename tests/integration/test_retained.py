# SPDX-License-Identifier: Apache-2.0
"""Retained messages."""
from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403


@each(v=ALL, to=ALL, qos=(0, 1, 2))
def test_a_retained_message_is_sent_to_a_new_subscription(b, v, to, qos):
    topic = b.unique("kept")
    b_ = b.connect(v)
    b_.publish(topic, "last", qos=qos, retain=True)
    b_.ping()
    s = b.connect(to)
    s.subscribe(topic, qos=1)
    s.expect_message(topic, "last", retain=True, qos=min(qos, 1))
    s.expect_nothing(0.01)


@versions()
def test_the_last_retained_message_replaces_the_one_before(b, v):
    topic = b.unique("kept")
    p = b.connect(v)
    for n in range(5):
        p.publish(topic, str(n), qos=1, retain=True)
    s = b.connect(v)
    s.subscribe(topic)
    s.expect_message(topic, "4", retain=True)
    s.expect_nothing(0.01)


@versions()
def test_an_empty_retained_message_removes_the_one_there_was(b, v):
    topic = b.unique("kept")
    s, p = b.connect(v), b.connect(v)
    p.publish(topic, "x", qos=1, retain=True)
    s.subscribe(topic)
    s.expect_message(topic, "x", retain=True)
    p.publish(topic, b"", qos=1, retain=True)
    s.expect_message(topic, b"", retain=False)  # who is subscribed is told
    other = b.connect(v)
    other.subscribe(topic)
    other.expect_nothing()


@versions()
def test_the_retain_flag_is_not_set_for_who_was_subscribed_before(b, v):
    topic = b.unique("kept")
    s, p = b.connect(v), b.connect(v)
    s.subscribe(topic)
    p.publish(topic, "x", retain=True)
    s.expect_message(topic, "x", retain=False)


@each(rap=(False, True), retain=(False, True))
def test_retain_as_published_keeps_the_flag(b, rap, retain):
    topic = b.unique("rap")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(Sub(topic, 1, rap=rap))
    p.publish(topic, "x", qos=1, retain=retain)
    s.expect_message(topic, "x", retain=rap and retain)


@each(rap=(False, True))
def test_a_retained_message_has_its_flag_whatever_retain_as_published_says(b, rap):
    topic = b.unique("rap")
    p = b.connect(V5)
    p.publish(topic, "x", qos=1, retain=True)
    p.subscribe(Sub(topic, 1, rap=rap))
    p.expect_message(topic, "x", retain=True)


def test_overlapping_retain_as_published_is_set_when_one_subscription_asks(b):
    topic = b.unique("rap")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe([Sub(topic + "/#", 0, rap=False), Sub(topic + "/+", 1, rap=True)])
    p.publish(topic + "/x", "x", qos=1, retain=True)
    s.expect_message(topic + "/x", retain=True)
    s.expect_nothing(0.01)


def test_retain_handling_0_sends_at_every_subscribe(b):
    topic = b.unique("rh")
    c = b.connect(V5)
    c.publish(topic, "x", qos=1, retain=True)
    for _ in range(3):
        c.subscribe(Sub(topic, 1, retain_handling=0))
        c.expect_message(topic, "x", retain=True)
    c.expect_nothing(0.01)


def test_retain_handling_1_sends_only_for_a_new_subscription(b):
    topic = b.unique("rh")
    c = b.connect(V5)
    c.publish(topic, "x", qos=1, retain=True)
    c.subscribe(Sub(topic, 1, retain_handling=1))
    c.expect_message(topic, "x", retain=True)
    c.subscribe(Sub(topic, 1, retain_handling=1))
    c.expect_nothing()
    c.unsubscribe(topic)
    c.subscribe(Sub(topic, 1, retain_handling=1))
    c.expect_message(topic, "x", retain=True)


def test_retain_handling_1_knows_the_subscriptions_of_a_resumed_session(b):
    topic, name = b.unique("rh"), b.unique("c")
    c = b.connect(V5, name, props=[(SESSION_EXPIRY, 100)])
    c.publish(topic, "x", qos=1, retain=True)
    c.subscribe(Sub(topic, 1, retain_handling=1))
    c.expect_message(topic, "x", retain=True)
    c.disconnect()
    c = b.connect(V5, name, clean=False, session_present=True)
    c.subscribe(Sub(topic, 1, retain_handling=1))
    c.expect_nothing()


def test_retain_handling_2_never_sends(b):
    topic = b.unique("rh")
    c = b.connect(V5)
    c.publish(topic, "x", qos=1, retain=True)
    c.subscribe(Sub(topic, 1, retain_handling=2))
    c.expect_nothing()
    c.publish(topic, "y", qos=1)
    c.expect_message(topic, "y", retain=False)


def test_every_subscribe_of_3_1_1_gets_the_retained_message_again(b):
    topic = b.unique("again")
    c = b.connect(V311)
    c.publish(topic, "x", qos=1, retain=True)
    for _ in range(2):
        c.subscribe(topic)
        c.expect_message(topic, "x", retain=True)


def test_a_retained_message_carries_the_subscription_identifier(b):
    topic = b.unique("id")
    c = b.connect(V5)
    c.publish(topic, "x", qos=1, retain=True)
    c.subscribe(topic, props=[(SUBSCRIPTION_ID, 268435455)])
    assert c.expect_message(topic, "x").prop_all(SUBSCRIPTION_ID) == [268435455]


@versions()
def test_wildcards_find_retained_messages(b, v):
    base = b.unique("tree")
    topics = [base + t for t in ("", "/a", "/a/b", "/a/b/c", "/x/b", "/x/b/c", "//", "/ü")]
    p = b.connect(v)
    for t in topics:
        p.publish(t, t, qos=1, retain=True)
    for topic_filter, wanted in (
            (base + "/#", topics), (base + "/+", [base + "/a", base + "/ü"]),
            (base + "/+/b", [base + "/a/b", base + "/x/b"]), (base + "/+/b/#", [
                base + "/a/b", base + "/a/b/c", base + "/x/b", base + "/x/b/c"]),
            (base + "/a/#", [base + "/a", base + "/a/b", base + "/a/b/c"]),
            (base + "/+/+", [base + "/a/b", base + "/x/b", base + "//"]),
            (base + "//+", [base + "//"])):
        s = b.connect(v)
        s.subscribe(topic_filter, qos=0)
        got = sorted(m for m in (s.expect(PUBLISH, retain=True).topic for _ in wanted))
        assert got == sorted(wanted), (topic_filter, got)
        s.expect_nothing(0.01)
        s.disconnect()


def test_one_subscribe_with_several_filters_gets_each_ones_retained_messages(b):
    topic = b.unique("several")
    c = b.connect(V5)
    c.publish(topic + "/a", "a", qos=1, retain=True)
    c.publish(topic + "/b", "b", qos=1, retain=True)
    c.subscribe([topic + "/a", topic + "/b"])
    assert sorted(c.expect(PUBLISH, retain=True).payload for _ in range(2)) == [b"a", b"b"]


def test_thousands_of_retained_messages_are_all_sent(b):
    base = b.unique("thousands")
    p, count = b.connect(V5), 5000
    p.send_raw(b"".join(wire.publish(V5, "%s/%d" % (base, n), b"%d" % n, retain=True)
                        for n in range(count)))
    p.ping()
    s = b.connect(V5)
    s.subscribe(base + "/#", qos=0)
    got = {s.expect(PUBLISH, retain=True).topic for _ in range(count)}
    assert len(got) == count
    s.expect_nothing(0.01)


def test_thousands_of_retained_messages_of_qos_1_respect_receive_maximum(b):
    base = b.unique("many")
    p, count = b.connect(V5), 600
    for n in range(count):
        p.publish("%s/%d" % (base, n), "x", qos=1, retain=True)
    s = b.connect(V5, props=[(RECEIVE_MAXIMUM, 7)])
    s.subscribe(base + "/#", qos=1)
    got = {s.expect_message(retain=True).topic for _ in range(count)}
    assert len(got) == count


def test_nothing_is_missed_while_retained_messages_change(b):
    topic = b.unique("race")
    p = b.connect(V5)
    for n in range(30):
        p.send_raw(b"".join(wire.publish(V5, topic, b"%d" % i, retain=True) for i in range(20)))
        s = b.connect(V5)
        s.subscribe(topic)
        last = -1
        while last != 19:
            m = s.expect(PUBLISH)
            assert m.retain or int(m.payload) > last, (m, last)
            last = int(m.payload)
        p.ping()
        s.disconnect()


def test_a_shared_subscription_gets_no_retained_messages(b):
    topic = b.unique("shared")
    c = b.connect(V5)
    c.publish(topic, "x", qos=1, retain=True)
    c.subscribe("$share/g/" + topic, qos=1)
    c.expect_nothing()


@broker(limits={"retain_available": False})
def test_retain_can_be_switched_off(b):
    c = b.connect(V5)
    assert c.connack.prop(RETAIN_AVAILABLE) == 0
    c.send_publish("t", "x", retain=True)
    c.expect_close(0x9A)
    c = b.client(V5)
    c.connect("w", reason=0x9A, will=Will("w", "x", retain=True))
    c.expect_close()
    old = b.connect(V311)
    old.send_publish("t", "x", retain=True)
    old.expect_close()


@broker(limits={"retained_max_messages": 3}, top={"sys_interval": 0})
def test_more_retained_messages_than_allowed_are_not_kept_and_counted(b):
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe("max/#")
    for n in range(3):
        assert p.publish("max/%d" % n, str(n), qos=1, retain=True) == 0
        s.expect_message("max/%d" % n)
    # Who can be told is told, and nobody gets it; the others' message goes to who is there.
    assert p.publish("max/3", "3", qos=1, retain=True) == 0x97
    p.publish("max/4", "4", qos=0, retain=True)
    s.expect_message("max/4", "4")
    b.connect(V311).publish("max/5", "5", qos=1, retain=True)
    s.expect_message("max/5", "5")
    assert b.metric("retained_refused_total") == 3
    p.publish("max/1", "replaced", qos=1, retain=True)
    late = b.connect(V5)
    late.subscribe("max/#")
    got = sorted(late.expect(PUBLISH).payload for _ in range(3))
    assert got == [b"0", b"2", b"replaced"], got
    late.expect_nothing(0.01)
    p.publish("max/0", b"", qos=1, retain=True)
    assert p.publish("max/4", "now", qos=1, retain=True) == 0
    late = b.connect(V5)
    late.subscribe("max/4")
    late.expect_message("max/4", "now")


@broker(limits={"retained_max_messages": 2}, rules="allow all #\nallow read $SYS/#\n"
        "allow subscribe $SYS/#\n", listeners={"mqtt": {"anonymous": True}})
def test_the_brokers_own_topics_are_retained_whatever_clients_have_kept(b):
    c = b.connect(V5)
    for n in range(4):
        c.publish("max/%d" % n, str(n), qos=1, retain=True)
    c.subscribe("$SYS/broker/version")
    c.expect_message("$SYS/broker/version")
    assert not b.log_lines(r"\$SYS.* not kept")


@broker(own=True, limits={"retained_max_messages": 1}, top={"sys_interval": 0})
def test_refused_retained_messages_do_not_flood_the_log(b):
    c = b.connect(V311)
    c.send_raw(b"".join(wire.publish(V311, "t/%d" % n, b"x", retain=True) for n in range(500)))
    c.ping()
    b.wait_log("not kept")
    assert len(b.log_lines("not kept")) < 50
    assert b.metric("retained_refused_total") == 499
