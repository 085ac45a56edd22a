# SPDX-License-Identifier: Apache-2.0
"""Will Messages."""
import time

from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403


def watch(b, topic, v=V5):
    s = b.connect(v)
    s.subscribe(topic, qos=2)
    return s


def will(topic, payload="gone", qos=1, **options):
    return Will(topic, payload, qos, **options)


@each(v=ALL, qos=(0, 1, 2), how=("close", "reset"))
def test_a_will_is_published_when_the_connection_is_lost(b, v, qos, how):
    topic = b.unique("will")
    s = watch(b, topic)
    c = b.connect(v, will=will(topic, qos=qos))
    getattr(c, how)()
    s.expect_message(topic, "gone", qos=qos, retain=False)
    s.expect_nothing(0.01)


@versions()
def test_a_will_is_not_published_after_disconnect(b, v):
    topic = b.unique("will")
    s = watch(b, topic)
    b.connect(v, will=will(topic)).disconnect()
    s.expect_nothing()


def test_a_will_is_published_after_disconnect_with_will(b):
    topic = b.unique("will")
    s = watch(b, topic)
    b.connect(V5, will=will(topic)).disconnect(0x04)
    s.expect_message(topic, "gone")


@each(reason=(0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99))
def test_a_will_is_published_after_disconnect_with_an_error(b, reason):
    topic = b.unique("will")
    s = watch(b, topic)
    b.connect(V5, will=will(topic)).disconnect(reason, [(REASON_STRING, "because")])
    s.expect_message(topic, "gone")


@versions()
def test_a_will_is_published_after_a_protocol_error(b, v):
    topic = b.unique("will")
    s = watch(b, topic)
    c = b.connect(v, will=will(topic))
    c.send_raw(b"\x10\x00")
    s.expect_message(topic, "gone")


@broker(limits={"max_keep_alive": 1})
def test_a_will_is_published_after_the_keep_alive(b):
    topic = b.unique("will")
    s = watch(b, topic)
    b.connect(V311, keep_alive=1, will=will(topic))
    for _ in range(20):
        m = s.poll(0.3)
        if m is not None:
            break
        s.ping()
    assert m is not None and m.payload == b"gone", m


@versions()
def test_a_retained_will_is_retained(b, v):
    topic = b.unique("will")
    s = watch(b, topic)
    b.connect(v, will=will(topic, retain=True)).close()
    s.expect_message(topic, "gone", retain=False)
    watch(b, topic).expect_message(topic, "gone", retain=True)


def test_an_empty_will_is_a_message_and_clears_what_is_retained(b):
    topic = b.unique("will")
    s = watch(b, topic)
    s.publish(topic, "kept", qos=1, retain=True)
    s.expect_message(topic, "kept")
    b.connect(V311, will=will(topic, "", retain=True)).close()
    s.expect_message(topic, b"")
    watch(b, topic).expect_nothing()


def test_the_properties_of_a_will_are_passed_on(b):
    topic = b.unique("will")
    s = watch(b, topic)
    props = [(USER_PROPERTY, ("a", "1")), (PAYLOAD_FORMAT, 1), (CONTENT_TYPE, "text"),
             (RESPONSE_TOPIC, "r"), (CORRELATION_DATA, b"c"), (USER_PROPERTY, ("b", "2"))]
    b.connect(V5, will=will(topic, props=props + [(MESSAGE_EXPIRY, 100)])).close()
    m = s.expect_message(topic, "gone")
    assert [p for p in m.props if p[0] != MESSAGE_EXPIRY] == props
    assert m.prop(MESSAGE_EXPIRY) in (99, 100)


# ---- delay ----------------------------------------------------------------------------------------

EXPIRY = [(SESSION_EXPIRY, 100)]


def test_a_delayed_will_waits_for_its_delay(b):
    topic = b.unique("delay")
    s = watch(b, topic)
    c = b.connect(V5, props=EXPIRY, will=will(topic, props=[(WILL_DELAY, 1)]))
    started = time.monotonic()
    c.close()
    s.expect_message(topic, "gone")
    assert time.monotonic() - started > 0.9


def test_a_delayed_will_is_not_published_when_the_client_comes_back(b):
    topic, name = b.unique("delay"), b.unique("c")
    s = watch(b, topic)
    c = b.connect(V5, name, props=EXPIRY, will=will(topic, props=[(WILL_DELAY, 1)]))
    c.close()
    b.wait_log("client_disconnected: .*%s" % name)
    c = b.connect(V5, name, clean=False, props=EXPIRY, session_present=True)
    s.expect_nothing(1.5)


def test_a_clean_start_in_the_meantime_ends_the_session_and_publishes_the_will(b):
    topic, name = b.unique("delay"), b.unique("c")
    s = watch(b, topic)
    b.connect(V5, name, props=EXPIRY, will=will(topic, props=[(WILL_DELAY, 100)])).close()
    b.wait_log("client_disconnected: .*%s" % name)
    b.connect(V5, name, clean=True)
    s.expect_message(topic, "gone")


def test_the_end_of_the_session_publishes_the_will_before_its_delay(b):
    topic = b.unique("delay")
    s = watch(b, topic)
    b.connect(V5, props=[(SESSION_EXPIRY, 1)], will=will(topic, props=[(WILL_DELAY, 100)])).close()
    s.expect_message(topic, "gone")
    topic = b.unique("delay")
    s = watch(b, topic)
    b.connect(V5, will=will(topic, props=[(WILL_DELAY, 100)])).close()  # expiry 0: at once
    s.expect_message(topic, "gone")


def test_the_expiry_of_a_will_counts_from_when_it_is_published(b):
    topic = b.unique("delay")
    s = watch(b, topic)
    b.connect(V5, props=EXPIRY,
              will=will(topic, props=[(WILL_DELAY, 2), (MESSAGE_EXPIRY, 50)])).close()
    assert s.expect_message(topic, "gone").prop(MESSAGE_EXPIRY) in (49, 50)


def test_many_delayed_wills_all_fire(b):
    topic = b.unique("delay")
    s = watch(b, topic + "/#")
    some = [b.connect(V5, props=EXPIRY, will=will(
        "%s/%d" % (topic, n), props=[(WILL_DELAY, 1 + n % 2)])) for n in range(100)]
    for c in some:
        c.close()
    assert {s.expect_message().topic for _ in some} == {"%s/%d" % (topic, n) for n in range(100)}


# ---- take-over ------------------------------------------------------------------------------------

@versions()
def test_a_take_over_publishes_the_will_of_the_old_connection(b, v):
    topic, name = b.unique("over"), b.unique("c")
    s = watch(b, topic)
    props = EXPIRY if v == V5 else ()
    b.connect(v, name, clean=False, props=props, will=will(topic, "first"))
    b.connect(v, name, clean=False, props=props, will=will(topic, "second"), session_present=True)
    s.expect_message(topic, "first")
    s.expect_nothing()


@broker(workers=4)
def test_a_disconnect_that_came_before_the_take_over_counts(b):
    topic = b.unique("over")
    s = watch(b, topic)
    for n in range(200):
        # Whichever workers have the two connections: the second one's CONNECT is sent after the first one's DISCONNECT.
        again = b.client(V5)
        first = b.connect(V5, "back-at-once-%d" % n, will=will(topic))
        first.send_raw(b"\xe0\x00")
        again.connect("back-at-once-%d" % n)
        again.disconnect()
        first.close()
    s.expect_nothing()


def test_a_take_over_does_not_publish_a_will_with_a_delay(b):
    topic, name = b.unique("over"), b.unique("c")
    s = watch(b, topic)
    b.connect(V5, name, clean=False, props=EXPIRY, will=will(topic, props=[(WILL_DELAY, 1)]))
    b.connect(V5, name, clean=False, props=EXPIRY, session_present=True)
    s.expect_nothing(1.5)


def test_a_take_over_with_clean_start_publishes_a_will_with_a_delay(b):
    topic, name = b.unique("over"), b.unique("c")
    s = watch(b, topic)
    b.connect(V5, name, clean=False, props=EXPIRY, will=will(topic, props=[(WILL_DELAY, 100)]))
    b.connect(V5, name, clean=True)
    s.expect_message(topic, "gone")


def test_the_will_belongs_to_the_connection_and_not_to_the_session(b):
    topic, name = b.unique("conn"), b.unique("c")
    s = watch(b, topic)
    b.connect(V5, name, clean=False, props=EXPIRY, will=will(topic)).disconnect()
    b.connect(V5, name, clean=False, props=EXPIRY, session_present=True).close()
    s.expect_nothing()


# ---- refusals -------------------------------------------------------------------------------------

@broker(limits={"max_qos": 1})
def test_a_will_above_max_qos_is_refused(b):
    c = b.client(V5)
    c.connect("w", reason=0x9B, will=will("t", qos=2))
    c.expect_close()
    b.connect(V5, will=will("t", qos=1)).ping()


def test_a_will_to_a_topic_of_the_broker_is_refused(b):
    for v in ALL:
        c = b.client(v)
        c.send_connect("sys", will=will("$SYS/" + b.unique("will")))
        assert c.expect(CONNACK).reason in ((0x87, 0x90) if v == V5 else (5,))
        c.expect_close()


RULES = """
user alice
  allow publish  allowed/#
everyone
  allow all watch/#
  allow subscribe #
"""


@broker(users={"alice": "a", "bob": "b"}, rules=RULES)
def test_a_will_needs_the_right_to_publish_it(b):
    topic = "allowed/" + b.unique("x")
    for v in ALL:
        c = b.client(v)
        c.connect(b.unique("c"), username="bob", password="b", will=will(topic),
                  reason=0x87 if v == V5 else 5)
        c.expect_close()
    s = b.connect(V5, username="bob", password="b")
    s.subscribe(topic, qos=1)
    b.connect(V5, username="alice", password="a", will=will(topic)).close()
    s.expect_message(topic, "gone")


@broker(own=True, users={"alice": "a", "bob": "b"}, rules=RULES)
def test_a_will_whose_right_was_taken_away_is_not_published(b):
    s = b.connect(V5, username="bob", password="b")
    s.subscribe("allowed/#", qos=1)
    c = b.connect(V5, username="alice", password="a", will=will("allowed/x"))
    b.options["files"]["rules"] = "everyone\n  allow subscribe #\n"
    b.configure()
    b.reload()
    c.close()
    b.wait_log("will_refused")
    s.expect_nothing()


@broker(own=True)
def test_a_will_is_published_when_the_broker_stops_or_is_at_least_no_trouble(b):
    for _ in range(10):
        b.connect(V5, will=will("t"), props=EXPIRY)
    b.stop()
