# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes a peer sends: the answer of the standard, the end, one line in the log, and the broker goes on."""
import random
import re

from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403

S, PK = wire.string, wire.packet
BAD_UTF8 = b"\xff\xfe"
SURROGATE = b"\xed\xa0\x80"
OVERLONG = b"\xc0\xaf"
TOO_HIGH = b"\xf4\x90\x80\x80"
NUL = b"a\0b"


def pub(rest, flags=0):
    return PK(PUBLISH, flags, rest)


def props(raw):
    return wire.varint(len(raw)) + raw


def sub(rest, packet_id=b"\x00\x01", p=b"\x00"):
    return PK(SUBSCRIBE, 2, packet_id + p + rest)


def unsub(rest, packet_id=b"\x00\x01", p=b"\x00"):
    return PK(UNSUBSCRIBE, 2, packet_id + p + rest)


MALFORMED, PROTOCOL, EITHER = (0x81,), (0x82,), (0x81, 0x82)
FORMAT = bytes([PAYLOAD_FORMAT])
ONE_FILTER = S("a") + b"\x00"

# What an MQTT 5 client sends that is connected, and the reason code of the DISCONNECT it gets.
AFTER = [
    # fixed header
    ("packet type 0", b"\x00\x00", MALFORMED),
    ("PUBLISH of QoS 3", pub(S("a") + b"\x00\x01\x00", 6), MALFORMED),
    ("PUBLISH of QoS 0 with DUP", pub(S("a") + b"\x00", 8), EITHER),
    ("PUBACK with flags", b"\x41\x02\x00\x01", MALFORMED),
    ("PUBREC with flags", b"\x52\x02\x00\x01", MALFORMED),
    ("PUBREL without its flag", b"\x60\x02\x00\x01", MALFORMED),
    ("PUBCOMP with flags", b"\x78\x02\x00\x01", MALFORMED),
    ("SUBSCRIBE without its flag", PK(SUBSCRIBE, 0, b"\x00\x01\x00" + ONE_FILTER), MALFORMED),
    ("SUBSCRIBE with flag 3", PK(SUBSCRIBE, 3, b"\x00\x01\x00" + ONE_FILTER), MALFORMED),
    ("UNSUBSCRIBE without its flag", PK(UNSUBSCRIBE, 0, b"\x00\x01\x00" + S("a")), MALFORMED),
    ("PINGREQ with flags", b"\xc1\x00", MALFORMED),
    ("PINGREQ with a body", b"\xc0\x01\x00", MALFORMED),
    ("DISCONNECT with flags", b"\xe1\x00", MALFORMED),
    ("AUTH with flags", b"\xf1\x00", MALFORMED),
    ("Remaining Length of 5 bytes", b"\x30\x80\x80\x80\x80\x01", MALFORMED),
    ("Remaining Length not in its shortest form", b"\xc0\x80\x00", MALFORMED),
    # only a server sends these
    ("CONNACK", b"\x20\x03\x00\x00\x00", PROTOCOL),
    ("SUBACK", b"\x90\x04\x00\x01\x00\x00", PROTOCOL),
    ("UNSUBACK", b"\xb0\x04\x00\x01\x00\x00", PROTOCOL),
    ("PINGRESP", b"\xd0\x00", PROTOCOL),
    # PUBLISH
    ("PUBLISH without a body", pub(b""), MALFORMED),
    ("PUBLISH with half a length", pub(b"\x00"), MALFORMED),
    ("PUBLISH whose topic is longer than the packet", pub(b"\x00\x09abc"), MALFORMED),
    ("PUBLISH of QoS 1 without identifier", pub(S("a"), 2), MALFORMED),
    ("PUBLISH of QoS 1 with half an identifier", pub(S("a") + b"\x01", 2), MALFORMED),
    ("PUBLISH of QoS 1 with identifier 0", pub(S("a") + b"\x00\x00\x00", 2), EITHER),
    ("PUBLISH of QoS 2 with identifier 0", pub(S("a") + b"\x00\x00\x00", 4), EITHER),
    ("PUBLISH without property length", pub(S("a")), MALFORMED),
    ("PUBLISH whose properties are longer than the packet", pub(S("a") + b"\x05\x01\x00"), MALFORMED),
    ("PUBLISH with a property length of 5 bytes", pub(S("a") + b"\x80\x80\x80\x80\x01" + b"x" * 40),
     MALFORMED),
    ("PUBLISH with a property length that is not minimal", pub(S("a") + b"\x80\x00"), MALFORMED),
    ("PUBLISH with an unknown property", pub(S("a") + props(b"\x7f\x00")), EITHER),
    ("PUBLISH with property 0", pub(S("a") + props(b"\x00\x00")), EITHER),
    ("PUBLISH with a property of two bytes", pub(S("a") + props(b"\x80\x01\x00")), EITHER),
    ("PUBLISH with a property of CONNECT", pub(S("a") + props(b"\x11\x00\x00\x00\x01")), EITHER),
    ("PUBLISH with half a property", pub(S("a") + props(b"\x02\x00\x00")), MALFORMED),
    ("PUBLISH with Payload Format twice", pub(S("a") + props(b"\x01\x00\x01\x00")), PROTOCOL),
    ("PUBLISH with Payload Format 2", pub(S("a") + props(b"\x01\x02")), EITHER),
    ("PUBLISH with Content Type twice", pub(S("a") + props((b"\x03" + S("x")) * 2)), PROTOCOL),
    ("PUBLISH with Topic Alias twice", pub(S("a") + props(b"\x23\x00\x01" * 2)), PROTOCOL),
    ("PUBLISH with Topic Alias 0", pub(S("a") + props(b"\x23\x00\x00")), (0x94,)),
    ("PUBLISH with an alias that was never set", pub(S("") + props(b"\x23\x00\x01")), (0x82, 0x94)),
    ("PUBLISH with a Subscription Identifier", pub(S("a") + props(b"\x0b\x01")), PROTOCOL),
    ("PUBLISH with a Content Type that is not UTF-8", pub(S("a") + props(b"\x03" + S(BAD_UTF8))),
     MALFORMED),
    ("PUBLISH with a User Property of one string", pub(S("a") + props(b"\x26" + S("x"))), MALFORMED),
    ("PUBLISH with a User Property that is not UTF-8",
     pub(S("a") + props(b"\x26" + S("x") + S(SURROGATE))), MALFORMED),
    ("PUBLISH with wildcards in Response Topic", pub(S("a") + props(b"\x08" + S("a/+"))),
     (0x81, 0x82, 0x90)),
    ("PUBLISH without topic and alias", pub(S("") + b"\x00"), (0x82, 0x90)),
    ("PUBLISH to a topic with +", pub(S("a/+") + b"\x00"), (0x81, 0x82, 0x90)),
    ("PUBLISH to a topic with #", pub(S("#") + b"\x00"), (0x81, 0x82, 0x90)),
    ("PUBLISH to a topic with U+0000", pub(S(NUL) + b"\x00"), (0x81, 0x90)),
    ("PUBLISH to a topic that is not UTF-8", pub(S(BAD_UTF8) + b"\x00"), (0x81, 0x90)),
    ("PUBLISH to a topic with a surrogate", pub(S(SURROGATE) + b"\x00"), (0x81, 0x90)),
    ("PUBLISH to a topic with an overlong form", pub(S(OVERLONG) + b"\x00"), (0x81, 0x90)),
    ("PUBLISH to a topic above U+10FFFF", pub(S(TOO_HIGH) + b"\x00"), (0x81, 0x90)),
    ("PUBLISH to a topic that ends inside a character", pub(S(b"a\xc3") + b"\x00"), (0x81, 0x90)),
    # acknowledgements
    ("PUBACK without a body", b"\x40\x00", MALFORMED),
    ("PUBACK with half an identifier", b"\x40\x01\x00", MALFORMED),
    ("PUBACK with identifier 0", b"\x40\x02\x00\x00", EITHER),
    ("PUBACK with a reason code it does not have", b"\x40\x03\x00\x01\x01", EITHER),
    ("PUBREC with a reason code it does not have", b"\x50\x03\x00\x01\x92", EITHER),
    ("PUBREL with a reason code it does not have", b"\x62\x03\x00\x01\x80", EITHER),
    ("PUBCOMP with a reason code it does not have", b"\x70\x03\x00\x01\x10", EITHER),
    ("PUBACK with bytes behind it", b"\x40\x06\x00\x01\x00\x00\x00\x00", MALFORMED),
    ("PUBACK with a property of PUBLISH", b"\x40\x06\x00\x01\x00\x02\x01\x00", EITHER),
    ("PUBACK with Reason String twice", b"\x40\x0a\x00\x01\x00\x06" + b"\x1f\x00\x00" * 2, PROTOCOL),
    ("PUBREL without a body", b"\x62\x00", MALFORMED),
    # SUBSCRIBE, UNSUBSCRIBE
    ("SUBSCRIBE without a body", PK(SUBSCRIBE, 2, b""), MALFORMED),
    ("SUBSCRIBE without filters", sub(b""), PROTOCOL),
    ("SUBSCRIBE with identifier 0", sub(ONE_FILTER, b"\x00\x00"), EITHER),
    ("SUBSCRIBE without options", sub(S("a")), MALFORMED),
    ("SUBSCRIBE whose second filter has no options", sub(ONE_FILTER + S("b")), MALFORMED),
    ("SUBSCRIBE with QoS 3", sub(S("a") + b"\x03"), EITHER),
    ("SUBSCRIBE with Retain Handling 3", sub(S("a") + b"\x30"), EITHER),
    ("SUBSCRIBE with reserved bits", sub(S("a") + b"\x40"), EITHER),
    ("SUBSCRIBE whose filter is longer than the packet", sub(b"\x00\x10a"), MALFORMED),
    ("SUBSCRIBE to what is not UTF-8", sub(S(BAD_UTF8) + b"\x00"), (0x81, 0x8F)),
    ("SUBSCRIBE to U+0000", sub(S(NUL) + b"\x00"), (0x81, 0x8F)),
    ("SUBSCRIBE with Subscription Identifier 0", sub(ONE_FILTER, p=props(b"\x0b\x00")), PROTOCOL),
    ("SUBSCRIBE with Subscription Identifier twice", sub(ONE_FILTER, p=props(b"\x0b\x01\x0b\x01")),
     PROTOCOL),
    ("SUBSCRIBE with Subscription Identifier of 5 bytes",
     sub(ONE_FILTER, p=props(b"\x0b\x80\x80\x80\x80\x01")), MALFORMED),
    ("SUBSCRIBE with a property of PUBLISH", sub(ONE_FILTER, p=props(b"\x01\x00")), EITHER),
    ("SUBSCRIBE with No Local on a shared filter", sub(S("$share/g/a") + b"\x04"), PROTOCOL),
    ("UNSUBSCRIBE without filters", unsub(b""), PROTOCOL),
    ("UNSUBSCRIBE with identifier 0", unsub(S("a"), b"\x00\x00"), EITHER),
    ("UNSUBSCRIBE with half a filter", unsub(b"\x00\x05ab"), MALFORMED),
    ("UNSUBSCRIBE from what is not UTF-8", unsub(S(OVERLONG)), (0x81, 0x8F)),
    ("UNSUBSCRIBE with a Subscription Identifier", unsub(S("a"), p=props(b"\x0b\x01")), EITHER),
    # DISCONNECT, AUTH, CONNECT
    ("DISCONNECT with an unknown reason code", b"\xe0\x01\x01", EITHER),
    ("DISCONNECT with bytes behind it", b"\xe0\x03\x00\x00\x00", MALFORMED),
    ("DISCONNECT with a property of CONNECT", b"\xe0\x05\x00\x03\x21\x00\x01", EITHER),
    ("DISCONNECT with Session Expiry twice", PK(DISCONNECT, 0, b"\x00" + props(b"\x11\0\0\0\0" * 2)),
     PROTOCOL),
    ("AUTH without a method", b"\xf0\x02\x19\x00", EITHER),
    ("AUTH where CONNECT had no method", wire.auth(0x19, [(AUTH_METHOD, "x")]), EITHER),
    ("AUTH with an unknown reason code", wire.auth(0x77, [(AUTH_METHOD, "x")]), EITHER),
    ("AUTH with reason code 0", b"\xf0\x00", EITHER),
    ("a second CONNECT", wire.connect(V5, "again"), PROTOCOL),
]
# The same where 3.x differs: closed without a word.
AFTER_3 = [
    ("packet type 0", b"\x00\x00"),
    ("AUTH", b"\xf0\x00"),
    ("CONNACK", b"\x20\x02\x00\x00"),
    ("SUBACK", b"\x90\x03\x00\x01\x00"),
    ("PUBLISH of QoS 3", pub(S("a") + b"\x00\x01", 6)),
    ("PUBLISH without a body", pub(b"")),
    ("PUBLISH of QoS 1 without identifier", pub(S("a"), 2)),
    ("PUBLISH of QoS 1 with identifier 0", pub(S("a") + b"\x00\x00", 2)),
    ("PUBLISH without topic", pub(S(""))),
    ("PUBLISH to a wildcard", pub(S("a/#"))),
    ("PUBLISH to U+0000", pub(S(NUL))),
    ("PUBLISH to what is not UTF-8", pub(S(BAD_UTF8))),
    ("PUBACK with a reason code", b"\x40\x03\x00\x01\x00"),
    ("PUBACK with half an identifier", b"\x40\x01\x00"),
    ("SUBSCRIBE without filters", PK(SUBSCRIBE, 2, b"\x00\x01")),
    ("SUBSCRIBE without QoS", PK(SUBSCRIBE, 2, b"\x00\x01" + S("a"))),
    ("SUBSCRIBE with QoS 3", PK(SUBSCRIBE, 2, b"\x00\x01" + S("a") + b"\x03")),
    ("SUBSCRIBE with options of 5.0", PK(SUBSCRIBE, 2, b"\x00\x01" + S("a") + b"\x14")),
    ("SUBSCRIBE with identifier 0", PK(SUBSCRIBE, 2, b"\x00\x00" + S("a") + b"\x00")),
    ("UNSUBSCRIBE without filters", PK(UNSUBSCRIBE, 2, b"\x00\x01")),
    ("DISCONNECT with a body", b"\xe0\x01\x00"),
    ("PINGRESP", b"\xd0\x00"),
]


def con(rest, flags=0x02, level=5, name="MQTT", keep=b"\x00\x3c"):
    return PK(CONNECT, 0, S(name) + bytes([level, flags]) + keep + rest)


# CONNECT of MQTT 5 and the reason code of the CONNACK; None: closed without one is right, too.
BEFORE = [
    ("flags", PK(CONNECT, 1, wire.connect(V5, "x")[2:]), None),
    ("no body", PK(CONNECT, 0, b""), None),
    ("half a protocol name", PK(CONNECT, 0, b"\x00\x04MQ"), None),
    ("no level", PK(CONNECT, 0, S("MQTT")), None),
    ("no flags", PK(CONNECT, 0, S("MQTT") + b"\x05"), None),
    ("no Keep Alive", PK(CONNECT, 0, S("MQTT") + b"\x05\x02"), MALFORMED),
    ("no properties", con(b""), MALFORMED),
    ("no client id", con(b"\x00"), MALFORMED),
    ("half a client id", con(b"\x00\x00\x05ab"), MALFORMED),
    ("bytes behind it", con(b"\x00" + S("x") + b"y"), MALFORMED),
    ("reserved flag", con(b"\x00" + S("x"), 0x03), EITHER),
    ("Will QoS without Will", con(b"\x00" + S("x"), 0x0A), EITHER),
    ("Will Retain without Will", con(b"\x00" + S("x"), 0x22), EITHER),
    ("Will QoS 3", con(b"\x00" + S("x") + b"\x00" + S("t") + S(""), 0x1E), EITHER),
    ("Will without topic", con(b"\x00" + S("x") + b"\x00", 0x06), MALFORMED),
    ("Will without payload", con(b"\x00" + S("x") + b"\x00" + S("t"), 0x06), MALFORMED),
    ("Will with half its properties", con(b"\x00" + S("x") + b"\x09\x18\x00", 0x06), MALFORMED),
    ("Will to a wildcard", con(b"\x00" + S("x") + b"\x00" + S("#") + S(""), 0x06), (0x81, 0x82, 0x90)),
    ("Will to an empty topic", con(b"\x00" + S("x") + b"\x00" + S("") + S(""), 0x06),
     (0x81, 0x82, 0x90)),
    ("Will to what is not UTF-8", con(b"\x00" + S("x") + b"\x00" + S(BAD_UTF8) + S(""), 0x06),
     (0x81, 0x90)),
    ("Will Delay twice", con(b"\x00" + S("x") + props(b"\x18\0\0\0\1" * 2) + S("t") + S(""), 0x06),
     PROTOCOL),
    ("Will with a Topic Alias", con(b"\x00" + S("x") + props(b"\x23\0\1") + S("t") + S(""), 0x06),
     EITHER),
    ("Will Delay among the properties of CONNECT", con(props(b"\x18\0\0\0\1") + S("x")), EITHER),
    ("user name missing", con(b"\x00" + S("x"), 0x82), MALFORMED),
    ("password missing", con(b"\x00" + S("x") + S("u"), 0xC2), MALFORMED),
    ("user name not UTF-8", con(b"\x00" + S("x") + S(SURROGATE), 0x82), MALFORMED),
    ("user name with U+0000", con(b"\x00" + S("x") + S(NUL), 0x82), MALFORMED),
    ("client id not UTF-8", con(b"\x00" + S(BAD_UTF8)), (0x81, 0x85)),
    ("client id with U+0000", con(b"\x00" + S(NUL)), (0x81, 0x85)),
    ("Session Expiry twice", con(props(b"\x11\0\0\0\1" * 2) + S("x")), PROTOCOL),
    ("Receive Maximum 0", con(props(b"\x21\0\0") + S("x")), PROTOCOL),
    ("Maximum Packet Size 0", con(props(b"\x27\0\0\0\0") + S("x")), PROTOCOL),
    ("Topic Alias Maximum twice", con(props(b"\x22\0\1" * 2) + S("x")), PROTOCOL),
    ("Request Problem Information 2", con(props(b"\x17\x02") + S("x")), PROTOCOL),
    ("Request Response Information 2", con(props(b"\x19\x02") + S("x")), PROTOCOL),
    ("Authentication Data without method", con(props(b"\x16" + S("d")) + S("x")), PROTOCOL),
    ("Authentication Method twice", con(props((b"\x15" + S("m")) * 2) + S("x")), PROTOCOL),
    ("Authentication Method not UTF-8", con(props(b"\x15" + S(BAD_UTF8)) + S("x")), MALFORMED),
    ("an unknown property", con(props(b"\x7e\x00") + S("x")), EITHER),
    ("a property of CONNACK", con(props(b"\x12" + S("a")) + S("x")), EITHER),
    ("half a property", con(props(b"\x11\0\0") + S("x")), MALFORMED),
    ("properties longer than the packet", con(b"\x7f" + S("x")), MALFORMED),
    ("User Property not UTF-8", con(props(b"\x26" + S("a") + S(OVERLONG)) + S("x")), MALFORMED),
]
BEFORE_3 = [
    ("no body", PK(CONNECT, 0, b"")),
    ("reserved flag", con(S("x"), 0x03, 4)),
    ("password without user name", con(S("x") + S("p"), 0x42, 4)),
    ("Will QoS 3", con(S("x") + S("t") + S(""), 0x1E, 4)),
    ("Will QoS without Will", con(S("x"), 0x0A, 4)),
    ("no client id", con(b"", 0x02, 4)),
    ("bytes behind it", con(S("x") + b"more", 0x02, 4)),
    ("client id not UTF-8", con(S(BAD_UTF8), 0x02, 4)),
    ("Will to a wildcard", con(S("x") + S("a/+") + S(""), 0x06, 4)),
]


class Sources:
    """Loopback addresses: the log says only so much about one."""
    number = 0

    @classmethod
    def next(cls):
        cls.number += 1
        return "127.1.%d.%d" % (cls.number // 200, cls.number % 200 + 1)


def one_line(b, mark, source, name):
    """Exactly one line that an operator sees, and it names the address."""
    pattern = r" (notice|warning|error) .*%s:" % re.escape(source)
    b.wait_log(pattern, since=mark)
    lines = b.log_lines(pattern, since=mark)
    assert len(lines) == 1, "%s: %d lines: %s" % (name, len(lines), lines)


def rows(table):
    return dict((row[0], row) for row in table)


@each(case=rows(AFTER))
def test_what_a_connected_client_must_not_send_is_answered_and_closed(b, case):
    name, data, reasons = rows(AFTER)[case]
    source, mark = Sources.next(), b.mark()
    c = b.connect(V5, source=source)
    c.send_raw(data)
    p = c.recv()
    assert p.type == DISCONNECT and p.reason in reasons, (name, p)
    assert p.prop(REASON_STRING), p
    c.expect_close()
    one_line(b, mark, source, name)
    b.connect(V5).ping()


@each(case=rows(AFTER_3), v=(V31, V311))
def test_what_a_connected_client_of_3_x_must_not_send_is_closed(b, case, v):
    name, data = rows(AFTER_3)[case]
    if v == V31 and name == "SUBSCRIBE with options of 5.0":
        return  # 3.1 has bits there that nobody uses
    source, mark = Sources.next(), b.mark()
    c = b.connect(v, source=source)
    c.send_raw(data)
    c.expect_close()
    one_line(b, mark, source, name)
    b.connect(v).ping()


@each(case=rows(BEFORE))
def test_a_malformed_connect_is_refused(b, case):
    name, data, reasons = rows(BEFORE)[case]
    source, mark = Sources.next(), b.mark()
    c = b.client(V5, source=source)
    c.send_raw(data)
    p = c.poll(c.timeout)
    if reasons is not None:
        assert p is not None and p.type == CONNACK and p.reason in reasons, (name, p)
    elif p is not None:
        # Whether it was MQTT 5 may not have been readable.
        assert p.type == CONNACK and p.reason != 0, (name, p)
    c.expect_close()
    one_line(b, mark, source, name)
    b.connect(V5).ping()


@each(case=rows(BEFORE_3))
def test_a_malformed_connect_of_3_1_1_is_closed(b, case):
    name, data = rows(BEFORE_3)[case]
    source, mark = Sources.next(), b.mark()
    c = b.client(V311, source=source)
    c.send_raw(data)
    p = c.poll(c.timeout)
    assert p is None or (p.type == CONNACK and p.reason != 0), (name, p)
    c.expect_close()
    one_line(b, mark, source, name)
    b.connect(V311).ping()


def test_the_rest_of_a_write_behind_a_fault_is_ignored(b):
    topic = b.unique("behind")
    s = b.connect(V5)
    s.subscribe(topic)
    c = b.connect(V5)
    c.send_raw(wire.publish(V5, topic, b"before") + b"\x00\x00" + wire.publish(V5, topic, b"after"))
    s.expect_message(topic, "before")
    s.expect_nothing()


@versions()
def test_a_packet_that_never_ends_costs_nothing_but_its_connection(b, v):
    some = []
    for _ in range(50):
        c = b.connect(v)
        c.send_raw(b"\x30\xf0\xff\x3f" + b"\x00\x05")  # almost 1 MiB announced
        some.append(c)
    b.connect(v).ping()
    for c in some:
        c.reset()


@broker(own=True)
def test_noise_does_no_harm(b):
    rng = random.Random(4711)
    seeds = [data for _, data, _ in AFTER] + [
        wire.publish(V5, "noise/a", b"x" * 30, 1, packet_id=3, props=[(USER_PROPERTY, ("a", "b"))]),
        wire.subscribe(V5, 4, [Sub("noise/#", 1), Sub("$share/g/noise/+", 2)], [(SUBSCRIPTION_ID, 9)]),
        wire.connect(V5, "noise", will=Will("noise/w", "x", 1, props=[(WILL_DELAY, 1)])),
        wire.unsubscribe(V5, 5, ["noise/#"])]
    for n in range(1500):
        data = bytearray(b"".join(rng.choice(seeds) for _ in range(rng.randrange(1, 4))))
        for _ in range(rng.randrange(4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)):]
        if rng.random() < 0.1:
            data = bytearray(rng.randbytes(rng.randrange(200)))
        c = b.client(rng.choice(ALL))
        try:
            if n % 3:
                c.send_raw(wire.connect(c.version, "noise-%d" % (n % 7), clean=n % 2 == 0))
            c.send_raw(data)
            if n % 5 == 0:
                c.poll(0.002)
        except (OSError, AssertionError):
            pass
        c.close()
        if n % 300 == 0:
            b.connect(V5).ping()
    b.connect(V5).ping()
    b.wait_metric("connections", 6, timeout=20)


@broker(own=True)
def test_one_address_that_misbehaves_does_not_flood_the_log(b):
    for _ in range(300):
        c = b.client(V5)
        c.send_raw(b"\x00\x00")
        c.expect_close()
    assert 1 <= len(b.log_lines(r" notice ")) < 60
    assert b.metric("log_suppressed_total") > 200


@broker(own=True)
def test_names_of_clients_cannot_forge_lines_of_the_log(b):
    c = b.client(V5)
    c.send_connect("x\n2026-01-01T00:00:00.000Z error forged: line\x1b[31m", username="u\r\nforged")
    c.expect(CONNACK)
    c = b.connect(V5, "y\nforged: \u202e")
    c.send_raw(b"\x00\x00")
    c.expect(DISCONNECT)
    b.wait_log("protocol_error")
    for line in b.log_lines("forged"):
        assert re.match(r"20\d\d-.*(connect_refused|login_failed|client_connected|client_disconnected|protocol_error|"
                        r"debug|trace)", line), line
        assert "\x1b" not in line and "\u202e" not in line, line
