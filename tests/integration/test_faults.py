# SPDX-License-Identifier: Apache-2.0
"""Bytes that no honest client sends: the broker answers as the standard says or closes, and goes on."""
import json
import random
import re
import socket

from lib import wire
from lib.broker import Broker
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import MIB, memory, slack
from lib.wire import Sub, Will

BROKER = {"listeners": {"mqtt": {"anonymous": True, "connect_timeout": "60s"}}}


def still_answers(b):
    c = b.connect(V5)
    topic = b.unique("alive")
    c.subscribe(topic)
    c.publish(topic, "yes", qos=1)
    c.expect_message(topic=topic, payload="yes")


def ends(c, reasons=()):
    """The broker closes; in 5.0 a DISCONNECT with one of these reasons comes before, if any does."""
    last = None
    while True:
        p = c.poll(c.timeout)
        if p is None:
            break
        last = p
    assert c.eof, "the broker did not close the connection"
    if last is not None and last.type == DISCONNECT and reasons:
        assert last.reason in reasons, last
    return last


# ---- before CONNECT -----------------------------------------------------------------------------


def first_packets(v):
    return {
        "CONNACK": wire.packet(CONNACK, 0, b"\0\0"),
        "PUBLISH": wire.publish(v, "a", "b"),
        "PUBLISH of QoS 2": wire.publish(v, "a", "b", qos=2, packet_id=1),
        "PUBACK": wire.ack(v, PUBACK, 1), "PUBREC": wire.ack(v, PUBREC, 1),
        "PUBREL": wire.ack(v, PUBREL, 1), "PUBCOMP": wire.ack(v, PUBCOMP, 1),
        "SUBSCRIBE": wire.subscribe(v, 1, [Sub("#")]),
        "UNSUBSCRIBE": wire.unsubscribe(v, 1, ["#"]),
        "PINGREQ": b"\xc0\x00", "PINGRESP": b"\xd0\x00",
        "DISCONNECT": b"\xe0\x00", "AUTH": b"\xf0\x00", "type 0": b"\x00\x00",
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        "0xFF": b"\xff" * 64, "zeros": b"\0" * 64,
    }


@versions()
def test_a_first_packet_that_is_not_connect_is_closed_without_an_answer(b, v):
    for name, data in first_packets(v).items():
        c = b.client(v)
        c.send_raw(data)
        assert c.poll(c.timeout) is None and c.eof, name
    still_answers(b)


def test_packets_before_connack_wait_and_a_refused_client_gets_nothing_for_them(b):
    # A CONNECT that is refused, with acknowledgements and a PUBLISH right behind it.
    watch = b.connect(V5)
    topic = b.unique("t")
    watch.subscribe(topic)
    c = b.client(V5)
    c.send_raw(wire.connect(V5, "x", username="nobody", password="wrong") + wire.ack(V5, PUBACK, 1) +
               wire.ack(V5, PUBREC, 2) + wire.publish(V5, topic, "no"))
    c.expect(CONNACK, reason=0x87)
    c.wait_closed()
    watch.expect_nothing()


def test_announced_sizes_cost_no_memory_before_connect(b):
    before = memory(b)
    huge = [b"\x10\xff\xff\xff\x7f" + b"\0" * 200, b"\x30\xff\xff\xff\x7f" + b"x" * 200,
            b"\x10\xff\xff\x03" + b"\0\x04MQTT\x05" + b"\0" * 100]
    clients = []
    for i in range(150):
        c = b.client(V5)
        c.send_raw(huge[i % 3])
        clients.append(c)
    grown = memory(b) - before
    assert grown < 20 * MIB + slack(b), "%d bytes more" % grown
    still_answers(b)


def test_announced_sizes_cost_no_memory_after_connect(b):
    clients = [b.connect(V5) for _ in range(50)]
    before = memory(b)
    for c in clients:  # just below max_packet_size: allowed, but only a little of it comes
        c.send_raw(b"\x30" + wire.varint((1 << 20) - 10) + b"\0\x01t\0" + b"x" * 100)
    still_answers(b)
    grown = memory(b) - before
    assert grown < 10 * MIB + slack(b), "%d bytes more" % grown


@broker(listeners={"mqtt": {"anonymous": True}}, limits={"max_connect_size": 1024})
def test_before_authentication_a_packet_of_more_than_max_connect_size_is_refused_by_its_header(b):
    c = b.client(V5)
    c.send_raw(b"\x10" + wire.varint(1100))  # nothing else: the header is enough
    ends(c)
    c = b.client(V5)
    c.connect("small", username=None, props=[(USER_PROPERTY, ("a", "b" * 900))])
    c.publish("t", "x" * 5000, qos=1)  # afterwards max_packet_size counts
    c = b.client(V311)
    c.send_connect("x" * 1100)
    ends(c)


def test_a_packet_above_max_packet_size_is_refused_with_0x95(b):
    c = b.connect(V5)
    c.send_raw(b"\x30" + wire.varint(1 << 20))
    c.expect_close(0x95)
    c = b.connect(V311)
    c.send_raw(b"\x30" + wire.varint(1 << 20))
    c.expect_close()


# ---- after CONNECT ------------------------------------------------------------------------------


@versions()
def test_a_packet_that_only_a_server_sends_ends_the_connection(b, v):
    for data in (b"\x20\x02\x00\x00", b"\x20\x03\x00\x00\x00", wire.packet(SUBACK, 0, b"\0\1\0"),
                 wire.packet(UNSUBACK, 0, b"\0\1"), b"\xd0\x00", b"\x00\x00"):
        c = b.connect(v)
        c.send_raw(data)
        last = ends(c, (0x81, 0x82))
        assert v != V5 or (last is not None and last.type == DISCONNECT), data
    still_answers(b)


@versions()
def test_a_zero_length_topic_name_is_malformed_or_without_alias_a_protocol_error(b, v):
    c = b.connect(v)
    c.send_raw(wire.publish(v, "", "x"))
    last = ends(c, (0x81, 0x82, 0x90))
    assert v != V5 or last.type == DISCONNECT
    c = b.connect(v)
    c.send_raw(wire.subscribe(v, 1, [Sub("")]))
    last = c.poll(c.timeout)  # 4.7.3: at least one character; a refusal and the end both say so
    assert (last is None and c.eof) or last.type == DISCONNECT or last.codes[0] >= 0x80, last
    c = b.client(v)
    c.send_raw(wire.connect(v, "zero-will", will=Will("", "x")))
    p = c.poll(c.timeout)
    assert p is None or p.reason != 0, p
    ends(c)
    still_answers(b)


def valid_bodies(v):
    """Packets with everything in them: [(first byte, body)]."""
    props = [(USER_PROPERTY, ("a", "b")), (CONTENT_TYPE, "text")]
    packets = [
        wire.publish(v, "a/b", "payload", qos=0, props=props),
        wire.publish(v, "a/b", "payload", qos=1, packet_id=5,
                     props=props + [(RESPONSE_TOPIC, "r"), (CORRELATION_DATA, b"c"),
                                    (MESSAGE_EXPIRY, 10), (PAYLOAD_FORMAT, 0), (TOPIC_ALIAS, 3)]),
        wire.publish(v, "a/b", "payload", qos=2, packet_id=6, props=props),
        wire.subscribe(v, 7, [Sub("a/+"), Sub("#", 1)], [(SUBSCRIPTION_ID, 300)]),
        wire.unsubscribe(v, 8, ["a/+", "#"], props[:1]),
        wire.ack(v, PUBACK, 9, 0x10, [(REASON_STRING, "r")]), wire.ack(v, PUBREC, 9, 0x10, props[:1]),
        wire.ack(v, PUBREL, 9, 0x92, [(REASON_STRING, "r")]), wire.ack(v, PUBCOMP, 9, 0x92, props[:1]),
        wire.disconnect(v, 4, [(SESSION_EXPIRY, 0), (REASON_STRING, "bye")]),
    ]
    if v == V5:
        packets.append(wire.auth(0x19, [(AUTH_METHOD, "m"), (AUTH_DATA, b"d")]))
    out = []
    for p in packets:
        at = 1
        while p[at] & 0x80:
            at += 1
        out.append((p[0], p[at + 1:]))
    return out


@versions()
def test_a_packet_that_ends_where_a_field_must_follow_is_answered_or_closed(b, v):
    for first, body in valid_bodies(v):
        for cut in range(len(body)):
            c = b.connect(v)
            c.send_raw(bytes([first]) + wire.varint(cut) + body[:cut])
            c.sock.shutdown(socket.SHUT_WR)
            last = ends(c)
            if last is not None and last.type == DISCONNECT:
                assert last.reason >= 0x80, last
            c.close()
    b.close_clients()
    still_answers(b)


@versions()
def test_a_connect_that_ends_where_a_field_must_follow_is_refused(b, v):
    whole = wire.connect(v, "cut", will=Will("w", "bye", 1, props=[(WILL_DELAY, 1)] if v == V5 else ()),
                         username="u", password="p",
                         props=[(SESSION_EXPIRY, 5), (USER_PROPERTY, ("k", "v"))])
    body = whole[2:]
    assert whole[1] == len(body)
    for cut in range(len(body)):
        c = b.client(v)
        c.send_raw(b"\x10" + wire.varint(cut) + body[:cut])
        p = c.poll(c.timeout)
        if v == V31 and p is not None:
            # 3.1 lets a client leave out user name and password at the end, whatever the flags say.
            # Left without both, this one is anonymous.
            assert p.type == CONNACK and (p.reason in (1, 2, 4, 5) or cut == len(body) - 6), (cut, p)
        else:
            assert p is None or (p.type == CONNACK and p.reason != 0), (cut, p)
        if p is None or p.reason != 0:
            ends(c)
        c.close()
    still_answers(b)


@versions()
def test_crafted_connects_leak_nothing(b, v):
    """Errors half-way through will and properties, again and again."""
    will = Will("w", "x" * 200, 1, True, [(CONTENT_TYPE, "t" * 50), (USER_PROPERTY, ("a", "b" * 50)),
                                          (CORRELATION_DATA, b"c" * 50)])
    good = wire.connect(v, "crafted", will=will, username="u" * 50, password="p" * 50,
                        props=[(USER_PROPERTY, ("x" * 50, "y" * 50)), (SESSION_EXPIRY, 1)])
    head = 2 if good[1] < 0x80 else 3
    body = good[head:]
    rng = random.Random(7)
    host, port = b.address()

    def rounds(n):
        for _ in range(n):
            data = bytearray(body[:rng.randrange(12, len(body))] if rng.random() < 0.5 else body)
            for _ in range(rng.randrange(3)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            s = socket.create_connection((host, port))
            s.settimeout(TIMEOUT)
            s.sendall(b"\x10" + wire.varint(len(data)) + bytes(data))
            s.shutdown(socket.SHUT_WR)
            try:
                while s.recv(4096):
                    pass
            except ConnectionResetError:
                pass
            s.close()

    rounds(400)
    before = memory(b)
    rounds(800)
    grown = memory(b) - before
    assert grown < 2 * MIB + slack(b), "%d bytes more after 800 connections" % grown
    still_answers(b)


@versions()
def test_a_variable_byte_integer_of_five_bytes_is_malformed(b, v):
    for data in (b"\x30\xff\xff\xff\xff\x01", b"\x30\x80\x80\x80\x80\x00", b"\xc0\x80\x80\x80\x80\x01",
                 b"\x82\xff\xff\xff\xff\xff\xff"):
        c = b.connect(v)
        c.send_raw(data)
        ends(c, (0x81,))
    c = b.client(v)
    c.send_raw(b"\x10\xff\xff\xff\xff\x01")
    ends(c)


def test_a_property_length_of_five_bytes_or_beyond_the_packet_is_malformed(b):
    for length in (b"\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\x7f", b"\x50"):
        for first, head in ((0x30, b"\0\x01t"), (0x82, b"\0\x01"), (0xa2, b"\0\x01"), (0x40, b"\0\x01\0"),
                            (0xe0, b"\0")):
            c = b.connect(V5)
            c.send_raw(wire.packet(first >> 4, first & 15, head + length + b"\0\x01x\0"))
            ends(c, (0x81,))
            c.close()
    for value in (b"\x80\x80\x80\x80\x01", b"\x00", b"\xff"):  # Subscription Identifier
        c = b.connect(V5)
        inner = b"\x0b" + value
        c.send_raw(wire.packet(SUBSCRIBE, 2, b"\0\x01" + wire.varint(len(inner)) + inner + b"\0\x01x\0"))
        ends(c, (0x81, 0x82))
    still_answers(b)


@each(first=(0x11, 0x41, 0x52, 0x60, 0x73, 0x80, 0xa0, 0xc1, 0xe1, 0x36, 0x3e))
def test_fixed_header_flags_that_are_reserved_are_malformed(b, first):
    c = b.connect(V5)
    body = {3: b"\0\x01t\0\x01\0", 1: b"", 4: b"\0\x01", 5: b"\0\x01", 6: b"\0\x01", 7: b"\0\x01",
            8: b"\0\x01\0\0\x01x\0", 10: b"\0\x01\0\0\x01x", 12: b"", 14: b""}[first >> 4]
    c.send_raw(wire.packet(first >> 4, first & 15, body))
    ends(c, (0x81, 0x82))


@versions()
def test_a_second_connect_is_a_protocol_error(b, v):
    c = b.connect(v)
    c.send_raw(wire.connect(v, "again"))
    last = ends(c, (0x82,))
    assert v != V5 or last.type == DISCONNECT


def test_packet_identifier_zero_is_refused(b):
    for data in (wire.publish(V5, "t", "x", 1, packet_id=0), wire.subscribe(V5, 0, [Sub("t")]),
                 wire.unsubscribe(V5, 0, ["t"]), wire.ack(V5, PUBREL, 0)):
        c = b.connect(V5)
        c.send_raw(data)
        assert ends(c, (0x81, 0x82)).type == DISCONNECT


def test_subscribe_and_unsubscribe_without_a_filter_are_refused(b):
    for data in (wire.subscribe(V5, 1, []), wire.unsubscribe(V5, 1, [])):
        c = b.connect(V5)
        c.send_raw(data)
        assert ends(c, (0x81, 0x82)).type == DISCONNECT


# ---- filters and names --------------------------------------------------------------------------


@each(share=("$share/ab", "$share//x", "$share/a/", "$share/", "$share", "$share/a+/x", "$share/#/x",
             "$share/a/b#", "$share/+/x"))
def test_a_malformed_share_filter_is_refused_at_subscribe_and_harms_no_publish(b, share):
    c = b.connect(V5)
    packet_id = c.send_subscribe(share)
    p = c.poll(c.timeout)
    if share == "$share":  # no ShareName is begun: a filter like any other, but for rights to $-topics
        assert p.type == SUBACK and p.codes[0] >= 0x80, p
    else:
        assert (p.type == SUBACK and p.packet_id == packet_id and p.codes[0] == 0x8F) or \
            (p.type == DISCONNECT and p.reason in (0x81, 0x82)), p
    for topic in ("ab", "x", "$share/ab", "a/", "/x", "b#"[:1]):
        b.connect(V5).publish(topic, "x", qos=1)
    still_answers(b)


def test_one_bad_filter_of_many_leaves_the_others_alone(b):
    c = b.connect(V5)
    topic = b.unique("t")
    c.subscribe([topic, "a/#/b", "a+", topic + "/+"], qos=1, codes=[1, 0x8F, 0x8F, 1])
    b.connect(V5).publish(topic, "x", qos=1)
    c.expect_message(topic=topic)


@versions()
def test_a_topic_name_with_wildcards_is_refused(b, v):
    for topic in ("a/+", "#", "a+b", "a/#"):
        c = b.connect(v)
        c.send_publish(topic, "x")
        ends(c, (0x81, 0x82, 0x90))


@versions()
def test_publishing_to_dollar_topics_harms_nobody(b, v):
    watch = b.connect(V5)
    watch.subscribe("#", retain_handling=2)
    c = b.connect(v)
    for topic in ("$foo", "$", "$/", "$SYS", "$SYS/x", "$CONTROL/dynamic-security/v1", "$share/a/b"):
        code = c.publish(topic, "x", qos=1)
        assert code == (0x87 if v == V5 else 0), (topic, code)
        c.publish(topic, "x", qos=1, retain=True)
        c.publish(topic, "x", qos=2)
    watch.expect_nothing()


@versions()
def test_empty_user_names_and_passwords_are_credentials_like_others(b, v):
    for options in ({"username": ""}, {"username": "", "password": ""}, {"username": "u", "password": ""},
                    {"username": "u"}):
        c = b.client(v)
        c.connect("empty", reason=0x87 if v == V5 else 5, **options)
        ends(c)
    if v == V5:  # a password without a user name
        b.client(V5).connect("empty", reason=0x87, password="")
    still_answers(b)


BAD_UTF8 = {"lone continuation": b"a\x80", "cut": b"\xe2\x82", "overlong": b"\xc0\xaf", "overlong 3": b"\xe0\x80\xaf",
            "surrogate": b"\xed\xa0\x80", "too high": b"\xf4\x90\x80\x80", "NUL": b"a\0b", "0xFF": b"\xff"}


@versions()
def test_invalid_utf8_reaches_no_other_client(b, v):
    watch = b.connect(V5)
    watch.subscribe("#", retain_handling=2)
    other = b.connect(v)
    for name, bad in BAD_UTF8.items():
        c = b.connect(v)
        c.send_raw(wire.publish(v, bad, "x"))
        ends(c, (0x81, 0x90))
        c = b.connect(v)
        c.send_raw(wire.subscribe(v, 1, [Sub(bad)]))
        ends(c, (0x81,))
        c = b.connect(v)
        c.send_raw(wire.unsubscribe(v, 1, [bad]))
        ends(c, (0x81,))
        for options in ({"client_id": bad}, {"client_id": "x", "username": bad},
                        {"client_id": "x", "will": Will(bad, "x")}):
            c = b.client(v)
            c.send_raw(wire.connect(v, **options))
            p = c.poll(c.timeout)
            assert p is None or p.reason != 0, (name, options, p)
            ends(c)
        if v == V5:
            for props in ([(USER_PROPERTY, (bad, "x"))], [(USER_PROPERTY, ("x", bad))], [(CONTENT_TYPE, bad)],
                          [(RESPONSE_TOPIC, bad)]):
                c = b.connect(V5)
                c.send_raw(wire.publish(V5, "t", "x", props=props))
                ends(c, (0x81,))
    watch.expect_nothing()
    other.ping()


def test_well_formed_text_of_every_length_passes(b):
    c = b.connect(V5)
    c.subscribe("text/#")
    for text in ("é", "€", "\U0001F600", "\U0010FFFF", "\uFEFFbom", "\uFFFD", "a\u0301", " "):
        c.publish("text/" + text, text)
        c.expect_message(topic="text/" + text, payload=text)


def test_retained_messages_with_odd_content_are_served(b):
    name = b.unique("odd")
    odd = {"empty-props": ("x", [(USER_PROPERTY, ("", ""))]), "nul": (b"\0", []), "": (b"x", []), " ": (b"x", []),
           "/": (b"x", []), "big": (b"z" * 200000, [(CORRELATION_DATA, b"\0" * 60000)]),
           "expiry": (b"x", [(MESSAGE_EXPIRY, 0xFFFFFFFF)]),
           "many": (b"x", [(USER_PROPERTY, ("k", "v"))] * 500)}
    c = b.connect(V5)
    for topic, (payload, props) in odd.items():
        assert c.publish("%s/%s" % (name, topic), payload, qos=1, retain=True, props=props) in (0, 0x10)
    for v in (V31, V311, V5):
        s = b.connect(v)
        s.subscribe(name + "/#", qos=1)
        got = {}
        for _ in odd:
            p = s.expect_message()
            got[p.topic[len(name) + 1:]] = p.payload
        assert got == {t: as_bytes(p) for t, (p, unused) in odd.items()}


# ---- what stays in the log ----------------------------------------------------------------------

INJECTION = "x\n2026-01-01T00:00:00.000Z notice ready: forged\r\x1b[31mred\x1b[0m\u202e\u2028\"\\"


@versions()
def test_names_cannot_forge_lines_of_the_log(b, v):
    mark = b.mark()
    evil = INJECTION + b.unique("")
    source = "127.0.1.%d" % v  # lines are limited per address
    c = b.connect(v, client_id=evil, source=source)
    c.publish("$SYS/" + evil, "x", qos=1)
    b.wait_log("acl_denied: ", since=mark)
    c.send_raw(b"\x00\x00")
    ends(c)
    refused = b.client(v, source=source)
    refused.connect(evil, reason=0x87 if v == V5 else 5, username=evil, password=evil)
    b.wait_log("closed: ", since=mark)
    b.wait_log("refused: ", since=mark)
    for line in b.log_lines(since=mark):
        assert re.match(r"\d{4}-\d\d-\d\dT[0-9:.]{12}Z (error|warning|notice|info|debug|trace) ", line), line
        assert not re.search("[\x00-\x1f\x7f-\x9f\u2028-\u202e]", line), ascii(line)
        assert not re.match(r"\S+ notice ready: forged", line), line


def test_names_cannot_break_the_json_of_the_log():
    b = Broker(listeners={"local": {"bind": "unix:{dir}/mqtt.sock", "anonymous": True}},
               top={"log": {"format": "json"}})
    try:
        b.start(wait=False)
        b.wait_log('"event":"ready"')
        c = Client(b.path("mqtt.sock"), V5)
        c.connect(INJECTION)
        c.publish("$SYS/" + INJECTION, "x", qos=1)
        c.disconnect()
        b.wait_log("DISCONNECT by the client")
        b.stop()
        for line in b.log_lines():
            assert json.loads(line)["level"], line
        assert any(INJECTION[:1] + "\\x0A2026" in json.loads(x)["message"] for x in b.log_lines())
    finally:
        b.remove()


def test_names_cannot_break_the_lines_of_grapnelctl(b):
    evil = b.unique(INJECTION)
    b.connect(V5, client_id=evil)
    out = b.ctl("clients", "list").stdout
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e]", out), ascii(out)
    assert "\n2026-01-01" not in out
    shown = [x for x in b.ctl_json("clients", "list")["clients"] if x["client_id"] == evil]
    assert len(shown) == 1


def test_faults_of_one_address_leave_a_bounded_number_of_lines(b):
    mark = b.mark()
    before = b.metric("log_suppressed_total")
    for _ in range(200):
        c = b.client(V5, source="127.0.0.77")
        c.send_raw(b"\x00\x00")
        ends(c)
        c.close()
    b.wait_metric("log_suppressed_total", lambda v: v > before)
    lines = b.log_lines(" notice protocol_error: .* from 127.0.0.77:", since=mark)
    assert 1 <= len(lines) < 150, len(lines)
    # Another address is not silenced by it.
    mark = b.mark()
    c = b.client(V5, source="127.0.0.78")
    c.send_raw(b"\x00\x00")
    ends(c)
    b.wait_log(" notice protocol_error: .* from 127.0.0.78:", since=mark)


def test_malformed_packets_are_counted(b):
    before = b.metric("packets_malformed_total")
    c = b.connect(V5)
    c.send_raw(b"\x00\x00")
    ends(c)
    b.wait_metric("packets_malformed_total", before + 1)


# ---- all at once --------------------------------------------------------------------------------


def mutated(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data))
        what = rng.randrange(5)
        if what == 0:
            data[at] = rng.randrange(256)
        elif what == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif what == 2 and len(data) > 2:
            del data[at:at + rng.randrange(1, 5)]
            data = data or bytearray(b"\0")
        elif what == 3:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
        else:
            data[at:at + 2] = rng.choice((b"\xff\xff", b"\0\0", b"\x80\x80", b"\x7f\xff"))
    return bytes(data)


@versions()
def test_the_broker_outlives_mutated_packets(b, v):
    """The same every time: the seed is fixed, and so is the number of connections."""
    rng = random.Random(v)
    host, port = b.address()
    props = [(USER_PROPERTY, ("k", "v"))]
    packets = [bytes([f]) + wire.varint(len(body)) + body for f, body in valid_bodies(v)[:-1]]
    packets += [wire.subscribe(v, 3, [Sub("fuzz/#", 2)]), wire.subscribe(v, 4, [Sub("$share/g/fuzz/#", 1)]),
                wire.publish(v, "fuzz/a", "x" * 300, 1, True, packet_id=9, props=props),
                wire.publish(v, "fuzz/b", "x", 2, packet_id=10), wire.ack(v, PUBREL, 10), b"\xc0\x00",
                wire.unsubscribe(v, 11, ["fuzz/#", "$share/g/fuzz/#"])]
    will = Will("fuzz/will", "gone", 1, True, props if v == V5 else ())
    sent = 0
    for i in range(300):
        first = wire.connect(v, "fuzz-%d-%d" % (v, i % 20), clean=i % 3 == 0, will=will if i % 2 else None,
                             props=[(SESSION_EXPIRY, 30)])
        if i % 4 == 0:
            first = mutated(rng, first)
        s = socket.create_connection((host, port))
        s.settimeout(TIMEOUT)
        try:
            s.sendall(first)
            for _ in range(rng.randrange(1, 25)):
                data = rng.choice(packets)
                s.sendall(mutated(rng, data) if rng.random() < 0.3 else data)
                sent += 1
            if i % 5 != 0:
                s.shutdown(socket.SHUT_WR)
                while s.recv(65536):
                    pass
        except TimeoutError:
            raise
        except OSError:  # closed while we were still sending
            pass
        s.close()
    assert sent > 1000
    still_answers(b)


def test_the_broker_outlives_random_bytes(b):
    rng = random.Random(1)
    host, port = b.address()
    for i in range(200):
        s = socket.create_connection((host, port))
        s.settimeout(TIMEOUT)
        try:
            if i % 2:
                s.sendall(wire.connect(rng.choice((3, 4, 5)), "random-%d" % (i % 7)))
            s.sendall(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 600))))
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        except TimeoutError:
            raise
        except OSError:  # closed while we were still sending
            pass
        s.close()
    still_answers(b)


@broker(own=True, listeners={"mqtt": {"anonymous": True}})
def test_after_kill_9_the_next_start_just_works(b):
    c = b.connect(V5, client_id="before", clean=False, props=[(SESSION_EXPIRY, 100)])
    c.subscribe("t", qos=1)
    b.kill9()
    b.start()
    b.connect(V5, client_id="before", clean=False, props=[(SESSION_EXPIRY, 100)])
    still_answers(b)
