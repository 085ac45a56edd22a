# SPDX-License-Identifier: Apache-2.0
"""SUBSCRIBE and UNSUBSCRIBE: filters, identifiers, overlaps, no local, limits, $-topics."""
from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403

# filter, topic (both behind a name of the test), does it match
MATCHES = [
    ("a/b", "a/b", True), ("a/b", "a/b/c", False), ("a/b", "a/B", False), ("a/b", "/a/b", False),
    ("a/+", "a/b", True), ("a/+", "a", False), ("a/+", "a/", True), ("a/+", "a/b/c", False),
    ("a/#", "a", True), ("a/#", "a/", True), ("a/#", "a/b/c/d", True), ("a/#", "ab", False),
    ("+/b", "a/b", True), ("+/+", "a/b", True), ("+/+", "/b", True), ("+", "a", True),
    ("+", "a/b", False), ("a/+/c", "a/b/c", True), ("a/+/c", "a//c", True),
    ("a/+/c", "a/b/b/c", False), ("+/+/+", "a/b", False), ("a//b", "a//b", True),
    ("a//b", "a/b", False), ("/", "/", True), ("+/", "a/", True), ("#", "a", True),
    ("a/+/#", "a", False), ("a/+/#", "a/b", True), ("ü/ñ", "ü/ñ", True), ("a b", "a b", True),
    ("a/+/c/#", "a/b/c", True), ("+/#", "a", True),
]


@versions()
def test_filters_match_as_the_standard_says(b, v):
    for topic_filter, topic, match in MATCHES:
        base = b.unique("match") + "/"
        s, p = b.connect(v), b.connect(v)
        s.subscribe([base + topic_filter, "fence/" + base])
        p.publish(base + topic, "x")
        p.publish("fence/" + base, "fence")
        if match:
            s.expect_message(base + topic, "x")
        m = s.expect_message(payload="fence")
        assert m.topic == "fence/" + base, (topic_filter, topic)
        s.disconnect()
        p.disconnect()


@versions()
@broker(own=True)
def test_lone_wildcards_do_not_match_topics_that_begin_with_a_dollar(b, v):
    s, p = b.connect(v), b.connect(v)
    s.subscribe(["#", "+/x", "+/#"])
    p.publish("$foo/x", "no")
    p.publish("foo/x", "yes")
    s.expect_message("foo/x", "yes")
    s.expect_nothing()


@broker(rules="allow all #\nallow all $foo/#\nallow all +/x", listeners={"mqtt": {"anonymous": True}})
def test_dollar_topics_with_a_right_work_when_named(b):
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(["#", "+/x"])
    t = b.connect(V5)
    t.subscribe("$foo/#", qos=1)
    assert p.publish("$foo/x", "named", qos=1) == 0
    t.expect_message("$foo/x", "named")
    s.expect_nothing()


@versions()
def test_sys_cannot_be_published_to(b, v):
    c = b.connect(v)
    for topic in ("$SYS/broker/version", "$SYS", "$SYS/x"):
        if v == V5:
            assert c.publish(topic, "x", qos=1) == 0x87
        else:
            c.publish(topic, "x", qos=1)
    c.send_publish("$SYS/x", "x")
    c.ping()


@broker(rules="allow subscribe $SYS/#\nallow read $SYS/#\nallow all #",
        listeners={"mqtt": {"anonymous": True}}, top={"sys_interval": "1s"})
def test_sys_can_be_read_by_who_may(b):
    c = b.connect(V5)
    c.subscribe("$SYS/broker/uptime")
    assert c.expect_message("$SYS/broker/uptime").payload.endswith(b"seconds")
    c.expect_message("$SYS/broker/uptime", retain=False)
    c.unsubscribe("$SYS/broker/uptime")
    c.subscribe("$SYS/broker/uptime")
    c.expect_message("$SYS/broker/uptime", retain=True)


@versions()
def test_sys_is_not_for_everybody(b, v):
    c = b.connect(v)
    c.subscribe("$SYS/#", codes=[0x87 if v == V5 else 0x80])
    c.ping()


# ---- the packet -----------------------------------------------------------------------------------

@versions()
def test_every_filter_of_a_subscribe_gets_its_code(b, v):
    c = b.connect(v)
    bad = 0x8F if v == V5 else 0x80
    base = b.unique("f")
    c.subscribe([Sub(base + "/0", 0), Sub(base + "/#/x", 1), Sub(base + "/2", 2), Sub("a+", 0),
                 Sub(base + "/1", 1), Sub("$share/g", 0), Sub("$share//x", 0),
                 Sub("$share/a+/x", 0), Sub("$share/g/", 0), Sub("", 0)],
                codes=[0, bad, 2, bad, 1, bad, bad, bad, bad, bad])
    c.publish(base + "/2", "x", qos=2)
    c.expect_message(base + "/2", "x", qos=2)


@versions()
def test_hundreds_of_filters_in_one_subscribe_work(b, v):
    c = b.connect(v)
    base = b.unique("many")
    c.subscribe([Sub("%s/%d" % (base, n), n % 3) for n in range(1000)])
    c.publish(base + "/998", "x", qos=2)
    c.expect_message(base + "/998", "x", qos=998 % 3)
    c.unsubscribe(["%s/%d" % (base, n) for n in range(1000)])
    c.publish(base + "/998", "x")
    c.expect_nothing(0.01)


@versions()
def test_subscribing_again_replaces_the_subscription(b, v):
    topic = b.unique("again")
    c = b.connect(v)
    before = b.metric("subscriptions")
    for qos in (0, 2, 1):
        c.subscribe(topic, qos=qos)
        c.publish(topic, "x", qos=2)
        c.expect_message(topic, "x", qos=qos)
        c.expect_nothing(0.01)
    assert b.metric("subscriptions") == before + 1


@versions()
def test_unsubscribe_ends_the_subscription(b, v):
    topic = b.unique("end")
    s, p = b.connect(v), b.connect(v)
    s.subscribe([topic, topic + "/+"])
    s.unsubscribe(topic)
    p.publish(topic, "x")
    p.publish(topic + "/a", "y")
    s.expect_message(topic + "/a", "y")
    s.expect_nothing(0.01)


def test_unsubscribe_says_when_there_was_no_subscription(b):
    c = b.connect(V5)
    topic = b.unique("none")
    c.subscribe(topic)
    c.unsubscribe([topic, topic, "never/" + topic], codes=[0, 0x11, 0x11])
    c.unsubscribe(["a/#/b"], codes=[0x8F])
    b.connect(V311).unsubscribe(["never", "a/#/b"])


@versions()
def test_unsubscribed_messages_in_flight_are_still_finished(b, v):
    topic = b.unique("flight")
    s, p = b.connect(v), b.connect(v)
    s.subscribe(topic, qos=2)
    p.publish(topic, "x", qos=2)
    m = s.expect(PUBLISH, qos=2)
    s.unsubscribe(topic)
    s.pubrec(m.packet_id)
    s.expect(PUBREL, packet_id=m.packet_id)
    s.pubcomp(m.packet_id)
    s.ping()


# ---- identifiers and overlaps ---------------------------------------------------------------------

@each(qos=(0, 1, 2))
def test_messages_carry_the_subscription_identifier(b, qos):
    topic = b.unique("id")
    c = b.connect(V5)
    c.subscribe(topic, qos=2, props=[(SUBSCRIPTION_ID, 1)])
    c.publish(topic, "x", qos=qos)
    assert c.expect_message(topic).prop_all(SUBSCRIPTION_ID) == [1]
    c.subscribe(topic, qos=2, props=[(SUBSCRIPTION_ID, 268435455)])
    c.publish(topic, "x", qos=qos)
    assert c.expect_message(topic).prop_all(SUBSCRIPTION_ID) == [268435455]
    c.subscribe(topic, qos=2)
    c.publish(topic, "x", qos=qos)
    assert c.expect_message(topic).prop_all(SUBSCRIPTION_ID) == []


def test_overlapping_subscriptions_give_one_copy_with_the_highest_qos_and_all_identifiers(b):
    topic = b.unique("over")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(Sub(topic + "/#", 0), props=[(SUBSCRIPTION_ID, 10)])
    s.subscribe(Sub(topic + "/+", 2), props=[(SUBSCRIPTION_ID, 20)])
    s.subscribe(Sub(topic + "/x", 1), props=[(SUBSCRIPTION_ID, 30)])
    s.subscribe(Sub("+/x", 1))
    for qos in (0, 1, 2):
        p.publish(topic + "/x", "x", qos=qos)
        m = s.expect_message(topic + "/x", qos=qos)
        assert sorted(m.prop_all(SUBSCRIPTION_ID)) == [10, 20, 30], m
    s.expect_nothing(0.01)
    p.publish(topic + "/y", "y", qos=1)
    assert sorted(s.expect_message(qos=1).prop_all(SUBSCRIPTION_ID)) == [10, 20]


@each(v=(V31, V311))
def test_overlapping_subscriptions_of_3_x_give_one_copy_with_the_highest_qos(b, v):
    topic = b.unique("over")
    s, p = b.connect(v), b.connect(V5)
    s.subscribe([Sub(topic + "/#", 0), Sub(topic + "/+", 2), Sub(topic + "/x", 1)])
    p.publish(topic + "/x", "x", qos=2)
    s.expect_message(topic + "/x", qos=2)
    s.expect_nothing(0.01)


def test_overlapping_subscriptions_with_the_same_identifier_name_it(b):
    topic = b.unique("over")
    c = b.connect(V5)
    c.subscribe([topic + "/#", topic + "/+"], props=[(SUBSCRIPTION_ID, 5)])
    c.publish(topic + "/x", "x")
    assert set(c.expect_message().prop_all(SUBSCRIPTION_ID)) == {5}
    c.expect_nothing(0.01)


def test_identifiers_survive_the_queue(b):
    topic, name = b.unique("id"), b.unique("c")
    c = b.connect(V5, name, props=[(SESSION_EXPIRY, 100)])
    c.subscribe(topic + "/#", qos=1, props=[(SUBSCRIPTION_ID, 7)])
    c.subscribe(topic + "/+", qos=1, props=[(SUBSCRIPTION_ID, 8)])
    c.disconnect()
    b.connect(V5).publish(topic + "/x", "x", qos=1)
    c = b.connect(V5, name, clean=False, session_present=True)
    assert sorted(c.expect_message(topic + "/x").prop_all(SUBSCRIPTION_ID)) == [7, 8]


# ---- no local -------------------------------------------------------------------------------------

def test_no_local_leaves_out_a_clients_own_messages(b):
    topic = b.unique("nl")
    c, p = b.connect(V5), b.connect(V5)
    c.subscribe(Sub(topic, 1, no_local=True))
    c.publish(topic, "own", qos=1)
    p.publish(topic, "other", qos=1)
    c.expect_message(topic, "other")
    c.expect_nothing(0.01)


def test_no_local_counts_for_its_own_subscription_only(b):
    topic = b.unique("nl")
    c = b.connect(V5)
    c.subscribe(Sub(topic + "/#", 2, no_local=True), props=[(SUBSCRIPTION_ID, 1)])
    c.subscribe(Sub(topic + "/+", 1), props=[(SUBSCRIPTION_ID, 2)])
    c.publish(topic + "/x", "own", qos=2)
    assert c.expect_message(topic + "/x", qos=1).prop_all(SUBSCRIPTION_ID) == [2]
    c.expect_nothing(0.01)


def test_no_local_on_a_shared_subscription_is_a_protocol_error(b):
    c = b.connect(V5)
    c.send_subscribe(Sub("$share/g/t", 1, no_local=True))
    c.expect_close(0x82)


# ---- limits ---------------------------------------------------------------------------------------

@versions()
@broker(limits={"max_qos": 1})
def test_max_qos_lowers_what_is_granted_and_refuses_what_is_above(b, v):
    c = b.connect(v)
    if v == V5:
        assert c.connack.prop(MAXIMUM_QOS) == 1
    topic = b.unique("qos")
    c.subscribe(topic, qos=2, codes=[1])
    c.publish(topic, "x", qos=1)
    c.expect_message(topic, qos=1)
    c.send_publish(topic, "x", qos=2)
    c.expect_close(0x9B)


@broker(limits={"max_qos": 0})
def test_max_qos_0_works_too(b):
    c = b.connect(V5)
    assert c.connack.prop(MAXIMUM_QOS) == 0
    topic = b.unique("qos")
    c.subscribe(topic, qos=1, codes=[0])
    c.publish(topic, "x")
    c.expect_message(topic, qos=0)
    c.send_publish(topic, "x", qos=1)
    c.expect_close(0x9B)


@broker(limits={"wildcard_available": False})
def test_wildcards_can_be_switched_off(b):
    c = b.connect(V5)
    assert c.connack.prop(WILDCARD_AVAILABLE) == 0
    topic = b.unique("w")
    c.subscribe([topic, topic + "/#", "+", "$share/g/#"], codes=[0, 0xA2, 0xA2, 0xA2])
    c.publish(topic + "/x", "x")
    c.publish(topic, "y")
    c.expect_message(topic, "y")
    b.connect(V311).subscribe("#", codes=[0x80])


@broker(limits={"shared_available": False})
def test_shared_subscriptions_can_be_switched_off(b):
    c = b.connect(V5)
    assert c.connack.prop(SHARED_AVAILABLE) == 0
    c.subscribe(["$share/g/t", "t"], codes=[0x9E, 0])
    b.connect(V311).subscribe("$share/g/t", codes=[0x80])


@versions()
@broker(limits={"max_topic_levels": 4})
def test_topics_with_too_many_levels_are_refused(b, v):
    c = b.connect(v)
    c.subscribe(["a/b/c/d", "a/b/c/d/e", "$share/g/a/b/c/d", "$share/g/a/b/c/d/e"],
                codes=[0, 0x8F, 0, 0x8F] if v == V5 else [0, 0x80, 0, 0x80])
    c.publish("a/b/c/d", "x")
    c.expect_message("a/b/c/d")
    c.expect_message("a/b/c/d")
    c.send_publish("a/b/c/d/e", "x")
    c.expect_close(0x90)


def test_the_deepest_topic_that_fits_does_no_harm(b):
    c = b.connect(V5)
    deep = "/".join("x" * 128)
    c.subscribe([deep, deep + "/x"], codes=[0, 0x8F])
    c.publish(deep, "x")
    c.expect_message(deep)
    c.send_publish("/" * 65535, "x")
    c.expect_close(0x90)


@broker(limits={"max_subscriptions_per_client": 3})
def test_more_subscriptions_than_allowed_are_refused_with_0x97(b):
    c = b.connect(V5)
    topic = b.unique("s")
    c.subscribe([topic + "/%d" % n for n in range(5)], codes=[0, 0, 0, 0x97, 0x97])
    c.subscribe(topic + "/0", qos=1)  # replaced, not one more
    c.unsubscribe(topic + "/1")
    c.subscribe(topic + "/4")
    b.connect(V311).subscribe([topic + "/%d" % n for n in range(4)], codes=[0, 0, 0, 0x80])


@broker(limits={"max_subscriptions": 5})
def test_max_subscriptions_counts_all_clients(b):
    c, d = b.connect(V5), b.connect(V5)
    c.subscribe(["a/%d" % n for n in range(4)])
    d.subscribe(["a/1", "a/2"], codes=[0, 0x97])
    c.disconnect()
    b.wait_metric("subscriptions", 1)
    d.subscribe(["b/%d" % n for n in range(4)])


@broker(listeners={"mqtt": {"anonymous": True},
                   "tenant": {"anonymous": True, "mountpoint": "tenants/one/"}})
def test_clients_of_a_mountpoint_never_see_it(b):
    inside, outside = b.connect(V5, listener="tenant"), b.connect(V5)
    inside.subscribe(["#", "$share/g/shared"], qos=1)
    outside.subscribe("tenants/one/#", qos=1)
    outside.publish("elsewhere", "x", qos=1)
    inside.publish("t", "from inside", qos=1)
    inside.expect_message("t", "from inside")
    outside.expect_message("tenants/one/t", "from inside")
    outside.publish("tenants/one/x", "from outside", qos=1, retain=True)
    inside.expect_message("x", "from outside")
    outside.expect_message("tenants/one/x")
    other = b.connect(V311, listener="tenant", will=Will("w", "gone"))
    other.subscribe("+")
    other.expect_message("x", "from outside", retain=True)
    other.close()
    inside.expect_message("w", "gone")
    outside.expect_message("tenants/one/w", "gone")
