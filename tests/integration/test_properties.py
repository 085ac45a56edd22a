# SPDX-License-Identifier: Apache-2.0
"""What MQTT 5 messages carry: properties, expiry, topic aliases, payload format."""
import time

from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403

EXPIRY = [(SESSION_EXPIRY, 300)]
MANY = [
    (USER_PROPERTY, ("first", "1")), (PAYLOAD_FORMAT, 1), (USER_PROPERTY, ("second", "2")),
    (CONTENT_TYPE, "text/plain; charset=utf-8"), (USER_PROPERTY, ("first", "1")),
    (RESPONSE_TOPIC, "answer/here"), (CORRELATION_DATA, b"\x00\xff\x01binary"),
    (USER_PROPERTY, ("", "")), (USER_PROPERTY, ("ünï", "cödé")),
]


@each(qos=(0, 1, 2))
def test_properties_are_passed_on_in_order(b, qos):
    topic = b.unique("props")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=2)
    p.publish(topic, "hello", qos=qos, props=MANY)
    assert s.expect_message(topic, "hello").props == MANY


def test_properties_survive_the_queue_and_the_retained_message(b):
    topic, name = b.unique("props"), b.unique("c")
    s = b.connect(V5, name, props=EXPIRY)
    s.subscribe(topic, qos=1)
    s.disconnect()
    p = b.connect(V5)
    p.publish(topic, "hello", qos=1, retain=True, props=MANY)
    s = b.connect(V5, name, clean=False, session_present=True)
    assert s.expect_message(topic, "hello", retain=False).props == MANY
    s.subscribe(topic, qos=1)
    assert s.expect_message(topic, "hello", retain=True).props == MANY


def test_clients_of_3_x_get_the_message_without_properties(b):
    topic = b.unique("props")
    old, older, p = b.connect(V311), b.connect(V31), b.connect(V5)
    old.subscribe(topic)
    older.subscribe(topic)
    p.publish(topic, "hello", props=MANY)
    old.expect_message(topic, "hello")
    older.expect_message(topic, "hello")


def test_hundreds_of_user_properties_are_passed_on(b):
    topic = b.unique("props")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic)
    props = [(USER_PROPERTY, ("name %d" % n, "value")) for n in range(2000)]
    p.publish(topic, "x", props=props)
    assert s.expect_message(topic).props == props


def test_request_and_response_work_between_two_clients(b):
    request, answer = b.unique("request"), b.unique("answer")
    server, client = b.connect(V5), b.connect(V5)
    server.subscribe(request, qos=1)
    client.subscribe(answer, qos=1)
    client.publish(request, "2+2", qos=1,
                   props=[(RESPONSE_TOPIC, answer), (CORRELATION_DATA, b"17")])
    m = server.expect_message(request)
    server.publish(m.prop(RESPONSE_TOPIC), "4", qos=1,
                   props=[(CORRELATION_DATA, m.prop(CORRELATION_DATA))])
    assert client.expect_message(answer, "4").prop(CORRELATION_DATA) == b"17"


# ---- expiry ---------------------------------------------------------------------------------------

def test_an_expiry_that_has_not_begun_to_pass_is_passed_on(b):
    topic = b.unique("expiry")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=1)
    p.publish(topic, "x", qos=1, props=[(MESSAGE_EXPIRY, 100)])
    assert s.expect_message(topic).prop(MESSAGE_EXPIRY) in (99, 100)
    p.publish(topic, "x", qos=1, props=[(MESSAGE_EXPIRY, 0xFFFFFFFF)])
    assert s.expect_message(topic).prop(MESSAGE_EXPIRY) >= 0xFFFFFFFE
    p.publish(topic, "x", qos=1)
    assert s.expect_message(topic).prop(MESSAGE_EXPIRY) is None


def test_a_queued_message_tells_its_remaining_time_or_is_gone(b):
    topic, name = b.unique("expiry"), b.unique("c")
    s = b.connect(V5, name, props=EXPIRY)
    s.subscribe(topic, qos=1)
    s.disconnect()
    p = b.connect(V5)
    p.publish(topic, "short", qos=1, props=[(MESSAGE_EXPIRY, 1)])
    p.publish(topic, "long", qos=1, props=[(MESSAGE_EXPIRY, 100)])
    p.publish(topic, "for ever", qos=1)
    before = b.metric("messages_expired_total")
    time.sleep(2.1)  # longer than the first one lives
    s = b.connect(V5, name, clean=False, session_present=True)
    assert s.expect_message(topic, "long").prop(MESSAGE_EXPIRY) in (96, 97, 98)
    s.expect_message(topic, "for ever")
    s.expect_nothing(0.01)
    assert b.metric("messages_expired_total") == before + 1


def test_a_retained_message_tells_its_remaining_time_or_is_gone(b):
    topic = b.unique("expiry")
    p = b.connect(V5)
    p.publish(topic + "/short", "x", qos=1, retain=True, props=[(MESSAGE_EXPIRY, 1)])
    p.publish(topic + "/long", "y", qos=1, retain=True, props=[(MESSAGE_EXPIRY, 100)])
    time.sleep(2.1)  # longer than the first one lives
    s = b.connect(V5)
    s.subscribe(topic + "/#", qos=1)
    assert s.expect_message(topic + "/long", "y").prop(MESSAGE_EXPIRY) in (96, 97, 98)
    s.expect_nothing(0.01)


def test_a_message_that_expires_at_once_still_reaches_who_is_connected(b):
    topic = b.unique("expiry")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=1)
    assert p.publish(topic, "x", qos=1, props=[(MESSAGE_EXPIRY, 0)]) == 0
    m = s.poll(0.2)  # sent with 0 left or dropped: both are right
    assert m is None or m.prop(MESSAGE_EXPIRY) == 0, m
    s.ping()


# ---- topic aliases --------------------------------------------------------------------------------

def test_a_client_may_use_topic_aliases(b):
    topic = b.unique("alias")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic + "/#", qos=1)
    for n in range(1, 17):
        p.publish("%s/%d" % (topic, n), "set", qos=1, props=[(TOPIC_ALIAS, n)])
        s.expect_message("%s/%d" % (topic, n), "set")
    for n in (16, 1, 8):
        for qos in (0, 1, 2):
            p.publish("", "used", qos=qos, props=[(TOPIC_ALIAS, n)])
            m = s.expect_message("%s/%d" % (topic, n), "used")
            assert m.prop(TOPIC_ALIAS) is None
    p.publish(topic + "/new", "changed", props=[(TOPIC_ALIAS, 8)])
    s.expect_message(topic + "/new", "changed")
    p.publish("", "used", props=[(TOPIC_ALIAS, 8)])
    s.expect_message(topic + "/new", "used")


def test_aliases_in_one_write_are_handled_in_order(b):
    topic = b.unique("alias")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic + "/#")
    data = b""
    for n in range(200):
        data += wire.publish(V5, "%s/%d" % (topic, n), b"set", props=[(TOPIC_ALIAS, 1)])
        data += wire.publish(V5, "", b"%d" % n, props=[(TOPIC_ALIAS, 1)])
    p.send_raw(data)
    for n in range(200):
        s.expect(PUBLISH, topic="%s/%d" % (topic, n), payload="set")
        s.expect(PUBLISH, topic="%s/%d" % (topic, n), payload=str(n))


def test_aliases_end_with_the_connection(b):
    name = b.unique("alias")
    p = b.connect(V5, name, props=EXPIRY)
    p.publish("alias/t", "x", props=[(TOPIC_ALIAS, 1)])
    p.ping()
    p = b.connect(V5, name, clean=False, session_present=True)
    p.send_publish("", "y", props=[(TOPIC_ALIAS, 1)])
    p.expect_close(0x82)


@each(alias=(17, 65535))
def test_an_alias_above_the_maximum_is_refused_with_0x94(b, alias):
    p = b.connect(V5)
    p.send_publish("alias/t", "x", props=[(TOPIC_ALIAS, alias)])
    p.expect_close(0x94)


@broker(limits={"topic_alias_maximum": 0})
def test_aliases_can_be_switched_off(b):
    p = b.connect(V5, props=[(TOPIC_ALIAS_MAXIMUM, 10)])
    assert p.connack.prop(TOPIC_ALIAS_MAXIMUM) is None
    topic = b.unique("t")
    p.subscribe(topic)
    for _ in range(3):
        p.publish(topic, "x")
        assert p.expect(PUBLISH, topic=topic).prop(TOPIC_ALIAS) is None
    p.send_publish("alias/t", "x", props=[(TOPIC_ALIAS, 1)])
    p.expect_close(0x94)


@each(maximum=(1, 3, 65535))
def test_the_broker_uses_no_more_aliases_than_the_client_allows(b, maximum):
    topic = b.unique("alias")
    s, p = b.connect(V5, props=[(TOPIC_ALIAS_MAXIMUM, maximum)]), b.connect(V5)
    s.subscribe(topic + "/#", qos=1)
    aliased = 0
    for n in range(30):
        for i in range(5):
            p.publish("%s/%d" % (topic, i), str(n), qos=n % 2)
            m = s.expect_message("%s/%d" % (topic, i), str(n))  # client.py resolves and checks
            aliased += m.topic and getattr(m, "alias_only", False)
    assert aliased > 0, "no alias was ever used"


def test_a_client_that_allows_no_alias_gets_none(b):
    topic = b.unique("alias")
    c = b.connect(V5)
    c.subscribe(topic)
    for _ in range(10):
        c.publish(topic, "x")
        assert c.expect(PUBLISH, topic=topic).prop(TOPIC_ALIAS) is None


# ---- payload format -------------------------------------------------------------------------------

@broker(limits={"check_payload_format": True})
def test_payload_format_is_checked_on_request(b):
    topic = b.unique("format")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=2)
    text = [(PAYLOAD_FORMAT, 1)]
    for qos in (1, 2):
        assert p.publish(topic, b"\xff\xfe", qos=qos, props=text) == 0x99
        assert p.publish(topic, "gründlich", qos=qos, props=text) == 0
        s.expect_message(topic, "gründlich")
        assert p.publish(topic, b"\xff\xfe", qos=qos, props=[(PAYLOAD_FORMAT, 0)]) == 0
        s.expect_message(topic, b"\xff\xfe")
    s.expect_nothing(0.01)
    p.send_publish(topic, b"\xff", props=text)
    p.expect_close(0x99)


@broker(limits={"check_payload_format": True})
def test_the_payload_format_of_a_will_is_checked_on_request(b):
    c = b.client(V5)
    c.connect("w", reason=0x99, will=Will("w", b"\xff", props=[(PAYLOAD_FORMAT, 1)]))
    c.expect_close()


def test_payload_format_is_not_checked_by_default(b):
    topic = b.unique("format")
    c = b.connect(V5)
    c.subscribe(topic, qos=1)
    assert c.publish(topic, b"\xff\xfe", qos=1, props=[(PAYLOAD_FORMAT, 1)]) == 0
    c.expect_message(topic, b"\xff\xfe")
