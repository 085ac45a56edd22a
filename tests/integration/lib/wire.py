# SPDX-License-Identifier: Apache-2.0
"""MQTT packets as bytes, written from the standard and not from the broker's codec.

Decoding is strict: whatever a broker must not send is a ProtocolError, and with it a failed test.
"""
import struct

V31, V311, V5 = 3, 4, 5
ALL = (V31, V311, V5)
VERSION_NAMES = {V31: "3.1", V311: "3.1.1", V5: "5.0"}

(CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE,
 UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, AUTH) = range(1, 16)
NAMES = ["RESERVED", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
         "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT",
         "AUTH"]


class ProtocolError(AssertionError):
    """The broker sent what the standard does not allow."""


# ---- properties --------------------------------------------------------------------------------

PAYLOAD_FORMAT = 0x01
MESSAGE_EXPIRY = 0x02
CONTENT_TYPE = 0x03
RESPONSE_TOPIC = 0x08
CORRELATION_DATA = 0x09
SUBSCRIPTION_ID = 0x0B
SESSION_EXPIRY = 0x11
ASSIGNED_CLIENT_ID = 0x12
SERVER_KEEP_ALIVE = 0x13
AUTH_METHOD = 0x15
AUTH_DATA = 0x16
REQUEST_PROBLEM_INFO = 0x17
WILL_DELAY = 0x18
REQUEST_RESPONSE_INFO = 0x19
RESPONSE_INFO = 0x1A
SERVER_REFERENCE = 0x1C
REASON_STRING = 0x1F
RECEIVE_MAXIMUM = 0x21
TOPIC_ALIAS_MAXIMUM = 0x22
TOPIC_ALIAS = 0x23
MAXIMUM_QOS = 0x24
RETAIN_AVAILABLE = 0x25
USER_PROPERTY = 0x26
MAXIMUM_PACKET_SIZE = 0x27
WILDCARD_AVAILABLE = 0x28
SUBSCRIPTION_ID_AVAILABLE = 0x29
SHARED_AVAILABLE = 0x2A

U8, U16, U32, VAR, STR, BIN, PAIR = "u8", "u16", "u32", "var", "str", "bin", "pair"
PROPERTY_TYPES = {
    PAYLOAD_FORMAT: U8, MESSAGE_EXPIRY: U32, CONTENT_TYPE: STR, RESPONSE_TOPIC: STR,
    CORRELATION_DATA: BIN, SUBSCRIPTION_ID: VAR, SESSION_EXPIRY: U32, ASSIGNED_CLIENT_ID: STR,
    SERVER_KEEP_ALIVE: U16, AUTH_METHOD: STR, AUTH_DATA: BIN, REQUEST_PROBLEM_INFO: U8,
    WILL_DELAY: U32, REQUEST_RESPONSE_INFO: U8, RESPONSE_INFO: STR, SERVER_REFERENCE: STR,
    REASON_STRING: STR, RECEIVE_MAXIMUM: U16, TOPIC_ALIAS_MAXIMUM: U16, TOPIC_ALIAS: U16,
    MAXIMUM_QOS: U8, RETAIN_AVAILABLE: U8, USER_PROPERTY: PAIR, MAXIMUM_PACKET_SIZE: U32,
    WILDCARD_AVAILABLE: U8, SUBSCRIPTION_ID_AVAILABLE: U8, SHARED_AVAILABLE: U8,
}
_ACK_PROPERTIES = {REASON_STRING, USER_PROPERTY}
# What a server may send, by packet type.
ALLOWED_PROPERTIES = {
    CONNACK: {SESSION_EXPIRY, RECEIVE_MAXIMUM, MAXIMUM_QOS, RETAIN_AVAILABLE, MAXIMUM_PACKET_SIZE,
              ASSIGNED_CLIENT_ID, TOPIC_ALIAS_MAXIMUM, REASON_STRING, USER_PROPERTY,
              WILDCARD_AVAILABLE, SUBSCRIPTION_ID_AVAILABLE, SHARED_AVAILABLE, SERVER_KEEP_ALIVE,
              RESPONSE_INFO, SERVER_REFERENCE, AUTH_METHOD, AUTH_DATA},
    PUBLISH: {PAYLOAD_FORMAT, MESSAGE_EXPIRY, TOPIC_ALIAS, RESPONSE_TOPIC, CORRELATION_DATA,
              USER_PROPERTY, SUBSCRIPTION_ID, CONTENT_TYPE},
    PUBACK: _ACK_PROPERTIES, PUBREC: _ACK_PROPERTIES, PUBREL: _ACK_PROPERTIES,
    PUBCOMP: _ACK_PROPERTIES, SUBACK: _ACK_PROPERTIES, UNSUBACK: _ACK_PROPERTIES,
    DISCONNECT: {REASON_STRING, USER_PROPERTY, SERVER_REFERENCE},
    AUTH: {AUTH_METHOD, AUTH_DATA, REASON_STRING, USER_PROPERTY},
}
# The reason codes a server may send, by packet type.
REASON_CODES = {
    CONNACK: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90,
              0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92}, PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    DISCONNECT: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93,
                 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0,
                 0xA1, 0xA2},
    AUTH: {0x00, 0x18},
}

# ---- writing -----------------------------------------------------------------------------------


def as_bytes(value):
    return value.encode() if isinstance(value, str) else bytes(value)


def varint(n):
    out = bytearray()
    while True:
        n, low = n >> 7, n & 0x7F
        out.append(low | (0x80 if n else 0))
        if not n:
            return bytes(out)


def string(value):
    value = as_bytes(value)
    return struct.pack(">H", len(value)) + value


def one_property(prop, value):
    kind = PROPERTY_TYPES[prop]
    head = bytes([prop])
    if kind == U8:
        return head + bytes([value])
    if kind == U16:
        return head + struct.pack(">H", value)
    if kind == U32:
        return head + struct.pack(">I", value)
    if kind == VAR:
        return head + varint(value)
    if kind == PAIR:
        return head + string(value[0]) + string(value[1])
    return head + string(value)


def properties(props):
    """A list of (id, value) with its length in front."""
    body = b"".join(one_property(p, v) for p, v in props)
    return varint(len(body)) + body


def packet(kind, flags, body):
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


class Will:
    def __init__(self, topic, payload=b"", qos=0, retain=False, props=()):
        self.topic, self.payload, self.qos, self.retain = topic, as_bytes(payload), qos, retain
        self.props = list(props)


def connect(version, client_id, clean=True, keep_alive=60, will=None, username=None, password=None,
            props=(), flags=None):
    name = "MQIsdp" if version == V31 else "MQTT"
    bits = 0x02 if clean else 0
    body = b""
    if version == V5:
        body += properties(props)
    body += string(client_id)
    if will is not None:
        bits |= 0x04 | will.qos << 3 | (0x20 if will.retain else 0)
        if version == V5:
            body += properties(will.props)
        body += string(will.topic) + string(will.payload)
    if username is not None:
        bits |= 0x80
        body += string(username)
    if password is not None:
        bits |= 0x40
        body += string(password)
    head = string(name) + bytes([version, bits if flags is None else flags])
    return packet(CONNECT, 0, head + struct.pack(">H", keep_alive) + body)


def publish(version, topic, payload=b"", qos=0, retain=False, dup=False, packet_id=0, props=()):
    body = string(topic)
    if qos > 0:
        body += struct.pack(">H", packet_id)
    if version == V5:
        body += properties(props)
    flags = (8 if dup else 0) | qos << 1 | (1 if retain else 0)
    return packet(PUBLISH, flags, body + as_bytes(payload))


def ack(version, kind, packet_id, reason=0, props=()):
    body = struct.pack(">H", packet_id)
    if version == V5 and (reason or props):
        body += bytes([reason])
        if props:
            body += properties(props)
    return packet(kind, 2 if kind == PUBREL else 0, body)


class Sub:
    """A Topic Filter with its options."""

    def __init__(self, topic_filter, qos=0, no_local=False, rap=False, retain_handling=0):
        self.filter, self.qos = topic_filter, qos
        self.options = qos | no_local << 2 | rap << 3 | retain_handling << 4


def subscribe(version, packet_id, subs, props=()):
    body = struct.pack(">H", packet_id)
    if version == V5:
        body += properties(props)
    for s in subs:
        body += string(s.filter) + bytes([s.options if version == V5 else s.qos])
    return packet(SUBSCRIBE, 2, body)


def unsubscribe(version, packet_id, filters, props=()):
    body = struct.pack(">H", packet_id)
    if version == V5:
        body += properties(props)
    return packet(UNSUBSCRIBE, 2, body + b"".join(string(f) for f in filters))


def disconnect(version, reason=0, props=()):
    body = b""
    if version == V5 and (reason or props):
        body = bytes([reason])
        if props:
            body += properties(props)
    return packet(DISCONNECT, 0, body)


def auth(reason, props=()):
    return packet(AUTH, 0, bytes([reason]) + properties(props) if reason or props else b"")


# ---- reading -----------------------------------------------------------------------------------


class Packet:
    """What came: .type and, by type, topic, payload, qos, retain, dup, packet_id, reason, codes,
    session_present, props (list of (id, value) in order), size (bytes on the wire)."""

    def __init__(self, kind, **fields):
        self.type = kind
        self.props = []
        self.__dict__.update(fields)

    def prop(self, prop, default=None):
        for p, v in self.props:
            if p == prop:
                return v
        return default

    def prop_all(self, prop):
        return [v for p, v in self.props if p == prop]

    def __repr__(self):
        show = {k: v for k, v in self.__dict__.items() if k not in ("type", "size")}
        if isinstance(show.get("payload"), bytes) and len(show["payload"]) > 80:
            show["payload"] = show["payload"][:80] + b"... (%d)" % len(self.payload)
        return "%s(%s)" % (NAMES[self.type], ", ".join("%s=%r" % i for i in show.items()))


class Reader:
    def __init__(self, data, what):
        self.data, self.at, self.what = data, 0, what

    def take(self, n):
        if self.at + n > len(self.data):
            raise ProtocolError("%s ends too early: %r" % (self.what, self.data[:200]))
        self.at += n
        return self.data[self.at - n:self.at]

    def u8(self):
        return self.take(1)[0]

    def u16(self):
        return struct.unpack(">H", self.take(2))[0]

    def u32(self):
        return struct.unpack(">I", self.take(4))[0]

    def var(self):
        value = 0
        for i in range(4):
            byte = self.u8()
            value |= (byte & 0x7F) << 7 * i
            if not byte & 0x80:
                if i > 0 and byte == 0:
                    raise ProtocolError("%s: a variable byte integer is not minimal" % self.what)
                return value
        raise ProtocolError("%s: a variable byte integer of 5 bytes" % self.what)

    def bin(self):
        return self.take(self.u16())

    def str(self):
        raw = self.bin()
        try:
            text = raw.decode("utf-8", "strict")
        except UnicodeDecodeError as e:
            raise ProtocolError("%s: not UTF-8: %r" % (self.what, raw)) from e
        if "\0" in text:
            raise ProtocolError("%s: U+0000 in %r" % (self.what, raw))
        return text

    def left(self):
        return len(self.data) - self.at

    def props(self, kind):
        inner = Reader(self.take(self.var()), self.what + " properties")
        out, seen = [], set()
        while inner.left():
            prop = inner.var()
            if prop not in PROPERTY_TYPES or prop not in ALLOWED_PROPERTIES[kind]:
                raise ProtocolError("%s has property 0x%02X" % (self.what, prop))
            if prop in seen and prop not in (USER_PROPERTY, SUBSCRIPTION_ID):
                raise ProtocolError("%s has property 0x%02X twice" % (self.what, prop))
            seen.add(prop)
            t = PROPERTY_TYPES[prop]
            if t == PAIR:
                value = (inner.str(), inner.str())
            else:
                value = getattr(inner, {U8: "u8", U16: "u16", U32: "u32", VAR: "var", STR: "str",
                                        BIN: "bin"}[t])()
            if value == 0 and prop in (RECEIVE_MAXIMUM, MAXIMUM_PACKET_SIZE, TOPIC_ALIAS,
                                       SUBSCRIPTION_ID):
                raise ProtocolError("%s: property 0x%02X is 0" % (self.what, prop))
            if t == U8 and value > 1:
                raise ProtocolError("%s: property 0x%02X is %d" % (self.what, prop, value))
            out.append((prop, value))
        return out

    def end(self):
        if self.left():
            raise ProtocolError("%s: %d bytes too many" % (self.what, self.left()))


def _decode_publish(version, flags, r):
    qos = flags >> 1 & 3
    if qos == 3 or (qos == 0 and flags & 8):
        raise ProtocolError("PUBLISH with flags 0x%X" % flags)
    p = Packet(PUBLISH, topic=r.str(), qos=qos, retain=bool(flags & 1), dup=bool(flags & 8))
    if "+" in p.topic or "#" in p.topic:
        raise ProtocolError("PUBLISH to %r" % p.topic)
    p.packet_id = r.u16() if qos else 0
    if qos and p.packet_id == 0:
        raise ProtocolError("PUBLISH with packet identifier 0")
    if version == V5:
        p.props = r.props(PUBLISH)
    if p.topic == "" and p.prop(TOPIC_ALIAS) is None:
        raise ProtocolError("PUBLISH without topic")
    p.payload = r.take(r.left())
    return p


def _decode_ack(version, kind, r):
    p = Packet(kind, packet_id=r.u16(), reason=0)
    if version == V5 and r.left():
        p.reason = r.u8()
        if r.left():
            p.props = r.props(kind)
    return p


def decode(version, first, body):
    """One packet that a server sent. @return a Packet."""
    kind, flags = first >> 4, first & 15
    if kind != PUBLISH and flags != (2 if kind == PUBREL else 0):
        raise ProtocolError("%s with flags 0x%X" % (NAMES[kind], flags))
    r = Reader(body, NAMES[kind])
    if kind == PUBLISH:
        p = _decode_publish(version, flags, r)
    elif kind == CONNACK:
        p = Packet(kind)
        bits, p.reason = r.u8(), r.u8()
        if bits > 1 or (version == V31 and bits):
            raise ProtocolError("CONNACK with acknowledge flags 0x%02X" % bits)
        if bits and p.reason:
            raise ProtocolError("CONNACK refuses, but says session present")
        p.session_present = bits == 1
        if version == V5:
            p.props = r.props(kind)
        elif p.reason > 5:
            raise ProtocolError("CONNACK with return code %d" % p.reason)
    elif kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        p = _decode_ack(version, kind, r)
    elif kind in (SUBACK, UNSUBACK):
        p = Packet(kind, packet_id=r.u16())
        if version == V5:
            p.props = r.props(kind)
        p.codes = list(r.take(r.left()))
        if version != V5 and kind == UNSUBACK and p.codes:
            raise ProtocolError("UNSUBACK with codes")
        if version != V5 and any(c not in (0, 1, 2, 0x80) for c in p.codes):
            raise ProtocolError("SUBACK with codes %r" % p.codes)
    elif kind == PINGRESP:
        p = Packet(kind)
    elif kind in (DISCONNECT, AUTH) and version == V5:
        p = Packet(kind, reason=r.u8() if r.left() else 0)
        if r.left():
            p.props = r.props(kind)
    else:
        raise ProtocolError("a server must not send %s" % NAMES[kind])
    r.end()
    if version == V5:
        for code in getattr(p, "codes", [getattr(p, "reason", None)]):
            if code is not None and code not in REASON_CODES[kind]:
                raise ProtocolError("%s with reason code 0x%02X" % (NAMES[kind], code))
    return p
