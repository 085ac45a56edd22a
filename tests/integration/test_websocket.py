# SPDX-License-Identifier: Apache-2.0
"""WebSocket: the upgrade and its refusals, frames as RFC 6455 and Autobahn's cases have them, MQTT in frames."""
import os
import queue
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import threading

from lib import wire
from lib.broker import FACTOR
from lib.case import broker, default_broker, each, skip_if, versions
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import descriptors, memory, sanitized, wait_until
from lib.websocket import (BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Client, WebSocket, encode, request)

try:
    import paho.mqtt.client as paho
except ImportError:
    paho = None

WAIT = 15 * FACTOR
PINGREQ, PINGRESP_BYTES = b"\xc0\x00", b"\xd0\x00"
CONNECT_BYTES = wire.connect(V311, "", keep_alive=60)
CONNACK_BYTES = b"\x20\x02\x00\x00"


def certificate():
    """A key and a certificate for localhost that signs itself: their texts, and a context that trusts it."""
    folder = tempfile.mkdtemp(prefix="grapnel-test-")
    try:
        key, cert = os.path.join(folder, "key"), os.path.join(folder, "cert")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-keyout", key, "-out", cert, "-days", "60", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
                       check=True, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
        with open(key, encoding="ascii") as k, open(cert, encoding="ascii") as c:
            return k.read(), c.read(), ssl.create_default_context(cafile=cert)
    finally:
        shutil.rmtree(folder)


KEY, CERT, TRUST = certificate()
BROKER = default_broker(
    listeners={
        "ws": {"websocket": "yes", "anonymous": True},
        "auto": {"websocket": "auto", "anonymous": True},
        "site": {"websocket": "yes", "anonymous": True, "websocket_path": "/mqtt",
                 "websocket_origins": ["https://example.org", "http://localhost:8080"]},
        "wss": {"websocket": "yes", "anonymous": True, "tls": True,
                "certificate": "{dir}/cert.pem", "private_key": "{dir}/key.pem"},
        "all": {"websocket": "auto", "anonymous": True, "tls": True,
                "certificate": "{dir}/cert.pem", "private_key": "{dir}/key.pem"},
        "proxied": {"websocket": "yes", "anonymous": True, "trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]},
        "unix": {"websocket": "yes", "anonymous": True, "bind": "unix:{dir}/ws.sock"},
    },
    files={"cert.pem": CERT, "key.pem": KEY},
    limits={"max_packet_size": "4m", "max_output_bytes": "16m", "connect_timeout": "20s"})


def ws(b, listener="ws", **options):
    w = WebSocket(b.address(listener), **options)
    b.clients.append(w)
    return w


def mqtt_ws(b, listener="ws", version=V5, client_id=None, cut=None, **options):
    c = Client(b.address(listener), version, cut=cut, **options)
    b.clients.append(c)
    c.connect(b.unique("ws") if client_id is None else client_id)
    return c


def connected(b, listener="ws", **options):
    """A WebSocket whose CONNECT has been answered, for frames by hand."""
    w = ws(b, listener, **options)
    w.send(BINARY, CONNECT_BYTES)
    assert w.data(4) == CONNACK_BYTES
    return w


def alive(w):
    w.send(BINARY, PINGREQ)
    assert w.data(2) == PINGRESP_BYTES


# ---- the upgrade -----------------------------------------------------------------------------------


@each(protocol=("mqtt", "mqttv3.1", "chat, mqtt"))
def test_a_known_sub_protocol_is_echoed(b, protocol):
    w = ws(b, protocol=protocol)
    assert w.fields["sec-websocket-protocol"] == protocol.split(", ")[-1]
    w.send(BINARY, CONNECT_BYTES)
    assert w.data(4) == CONNACK_BYTES


REFUSED = {
    "no protocol": (400, "offer mqtt", "ws", dict(protocol=None)),
    "protocol": (400, "none is mqtt", "ws", dict(protocol="chat")),
    "version": (426, "13", "ws", dict(version="8")),
    "key": (400, "Key", "ws", dict(key="short")),
    "no upgrade": (426, "WebSocket", "ws", dict(without=("Upgrade", "Connection"))),
    "no host": (400, "Host", "ws", dict(without=("Host",))),
    "two keys": (400, "twice", "ws", dict(more=["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="])),
    "folded": (400, "second line", "ws", dict(more=["X-Long: a", " b"])),
    "fields": (431, "fields", "ws", dict(more=["X-%d: y" % i for i in range(80)])),
    "long": (431, "too long", "ws", dict(more=["X: " + "y" * 9000])),
    "path": (404, "path", "site", dict(path="/other")),
    "origin": (403, "origin", "site", dict(more=["Origin: https://evil.example"])),
    "prefix": (403, "origin", "site", dict(more=["Origin: https://example.org.evil.example"])),
    "null": (403, "origin", "site", dict(more=["Origin: null"])),
}


@each(case=tuple(REFUSED))
def test_a_request_that_will_not_do_gets_an_http_error(b, case):
    status, text, listener, options = REFUSED[case]
    before, mark = b.metric("websocket_upgrades_refused_total"), b.mark()
    source = "127.0.1.%d" % (1 + list(REFUSED).index(case))  # of one address not all is logged
    w = ws(b, listener, upgrade=False, source=source)
    w.send_raw(request(**options))
    assert text in w.expect_refusal(status)
    if status == 426:
        assert w.fields["sec-websocket-version"] == "13" and w.fields["upgrade"] == "websocket"
    b.wait_log(r'handshake_failed: %s:\d+ on listener "%s": WebSocket: answered %d: ' % (
        source, listener, status), since=mark)
    b.wait_metric("websocket_upgrades_refused_total", before + 1)


@each(junk=(b"\x10\x12\x00\x04MQTT", b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01\x02\x00", b"hello\r\n\r\n",
            b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"))
def test_what_is_no_request_gets_an_http_error(b, junk):
    w = ws(b, upgrade=False)
    w.send_raw(junk)
    w.expect_refusal(405 if junk.startswith(b"POST") else 400)


@each(origin=("https://example.org", "https://EXAMPLE.org", "http://localhost:8080", None))
def test_an_origin_of_the_list_or_none_is_let_in(b, origin):
    connected_to = ws(b, "site", more=["Origin: " + origin] if origin else ())
    connected_to.send(BINARY, CONNECT_BYTES)
    assert connected_to.data(4) == CONNACK_BYTES


def test_the_path_may_have_a_query(b):
    connected(b, "site", path="/mqtt?token=1")


@each(listener=("ws", "auto"))
def test_a_request_may_come_byte_by_byte_with_connect_behind_it(b, listener):
    w = ws(b, listener, upgrade=False)
    w.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in request() + encode(BINARY, CONNECT_BYTES):
        w.send_raw(bytes([byte]))
    w.expect_upgrade("dGhlIHNhbXBsZSBub25jZQ==")
    assert w.data(4) == CONNACK_BYTES


@each(listener=("ws", "wss", "auto", "all"))
def test_everything_may_come_in_one_write(b, listener):
    topic = b.unique("early")
    packets = [CONNECT_BYTES, wire.subscribe(V311, 1, [wire.Sub(topic, 1)]),
               wire.publish(V311, topic, b"x" * 3000, 1, packet_id=2), PINGREQ]
    w = ws(b, listener, upgrade=False, tls=TRUST if listener in ("wss", "all") else None)
    w.send_raw(request() + b"".join(encode(BINARY, p) for p in packets) + encode(CLOSE, struct.pack(">H", 1000)))
    w.expect_upgrade("dGhlIHNhbXBsZSBub25jZQ==")
    answers = [CONNACK_BYTES, b"\x90\x03\x00\x01\x01", PINGRESP_BYTES, b"\x40\x02\x00\x02"]
    delivered = wire.publish(V311, topic, b"x" * 3000, 1, packet_id=1)
    got = w.data(sum(len(a) for a in answers) + len(delivered))  # all of it, and Close last
    assert all(a in got for a in answers + [delivered]), got
    w.expect_close(1000)


def test_half_a_request_is_given_up_after_connect_timeout(b):
    with b_with_short_timeout() as short:
        w = WebSocket(short.address("ws"), upgrade=False)
        w.send_raw(request()[:40])
        w.wait_eof()
        w.close()
        assert short.metric("connect_timeouts_total") == 1
        silent = WebSocket(short.address("ws"))  # upgraded, and never a CONNECT
        silent.wait_eof()
        silent.close()
        assert short.metric("connect_timeouts_total") == 2


def b_with_short_timeout():
    from lib.broker import Broker  # pylint: disable=import-outside-toplevel
    return Broker(listeners={"ws": {"websocket": "yes", "anonymous": True}}, limits={"connect_timeout": "1s"})


def test_one_port_serves_tcp_and_websocket(b):
    topic = b.unique("both")
    sub = mqtt_ws(b, "auto")
    sub.subscribe(topic)
    b.connect(V5, listener="auto").publish(topic, "over tcp", qos=1)
    sub.expect_message(topic, "over tcp")
    mqtt_ws(b, "auto", V311).publish(topic, "over websocket", qos=1)
    sub.expect_message(topic, "over websocket")


def test_one_port_serves_four_ways_with_tls(b):
    c = mqtt_ws(b, "all", tls=TRUST)
    topic = b.unique("tls")
    c.subscribe(topic)
    plain = socket.create_connection(b.address("all"), WAIT)
    with TRUST.wrap_socket(plain, server_hostname="localhost") as s:
        s.sendall(CONNECT_BYTES + wire.publish(V311, topic, b"over tls"))
        assert s.recv(4) == CONNACK_BYTES
        c.expect_message(topic, "over tls")


def test_a_unix_socket_serves_it_too(b):
    w = connected(b, "unix")
    alive(w)


# ---- X-Forwarded-For --------------------------------------------------------------------------------


@each(fields=(("192.0.2.7", "192.0.2.7:0"), ("198.51.100.9, 192.0.2.7, 10.1.1.1", "192.0.2.7:0"),
              ("[2001:db8::7]:4711", "[2001:db8::7]:4711"), ("10.0.0.1", None), ("rubbish", None)))
def test_a_trusted_proxy_says_whom_it_is_for(b, fields):
    text, wanted = fields
    address, own = address_of(b, "proxied", text)
    assert address == (wanted or own), address


def test_nobody_else_is_believed(b):
    address, own = address_of(b, "ws", "192.0.2.7")
    assert address == own, address


def address_of(b, listener, forwarded):
    """@return where the broker says that a client comes from, and where it does."""
    name, mark = b.unique("forwarded"), b.mark()
    w = ws(b, listener, more=["X-Forwarded-For: " + forwarded])
    w.send(BINARY, wire.connect(V311, name))
    assert w.data(4) == CONNACK_BYTES
    line = b.wait_log(r'client_connected: client "%s" ' % name, since=mark)
    return line.split(" from ")[1].split(" ")[0], "127.0.0.1:%d" % w.sock.getsockname()[1]


# ---- frames -----------------------------------------------------------------------------------------


@each(listener=("ws", "wss"))
def test_a_packet_may_be_cut_anywhere(b, listener):
    w = connected(b, listener, tls=TRUST if listener == "wss" else None)
    topic = b.unique("cut")
    w.send(BINARY, wire.subscribe(V311, 1, [wire.Sub(topic)]))
    w.data(5)
    packet = wire.publish(V311, topic, bytes(range(100)))
    for size in list(range(1, 20)) + [len(packet) - 1, len(packet)]:
        parts = [packet[i:i + size] for i in range(0, len(packet), size)]
        w.send_raw(b"".join(encode(BINARY, p, mask=os.urandom(4)) for p in parts))  # one frame each
        assert w.data(len(packet)) == packet
        for i, p in enumerate(parts):  # one message, with a Ping between its fragments
            w.send(BINARY if i == 0 else CONTINUATION, p, fin=i == len(parts) - 1, mask=os.urandom(4))
            if i == 0 and len(parts) > 1:
                w.send(PING, b"between")
        got = []
        while sum(len(p) for o, p in got if o == BINARY) < len(packet):
            got.append(w.frame())
        assert b"".join(p for o, p in got if o == BINARY) == packet
        if len(parts) > 1:
            assert (PONG, b"between") in got, got


def test_a_frame_may_hold_many_packets_and_halves(b):
    w = connected(b)
    w.send(BINARY, PINGREQ * 50 + PINGREQ[:1])
    assert w.data(100) == PINGRESP_BYTES * 50
    w.send(BINARY, PINGREQ[1:] + PINGREQ)
    assert w.data(4) == PINGRESP_BYTES * 2


@each(size=(0, 1, 125, 126, 127, 65535, 65536, 300000))
def test_every_form_of_length_is_read_and_written(b, size):
    c = mqtt_ws(b)
    topic, payload = b.unique("size"), os.urandom(size)
    c.subscribe(topic)
    c.send_publish(topic, payload)
    c.expect_message(topic, payload)


@each(mask=(b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\2\3\4"))
def test_every_mask_is_taken_off(b, mask):
    w = connected(b)
    w.send(BINARY, PINGREQ, mask=mask)
    assert w.data(2) == PINGRESP_BYTES


def test_empty_frames_and_fragments_are_nothing(b):
    w = connected(b)
    for options in (dict(), dict(fin=False)):
        w.send(BINARY, b"", **options)
    w.send(CONTINUATION, b"", fin=False)
    w.send(CONTINUATION, PINGREQ)
    assert w.data(2) == PINGRESP_BYTES


@each(payload=(b"", b"hello", b"\x00\xff\xfe\xfd", b"p" * 125))
def test_a_ping_is_answered(b, payload):
    w = connected(b)
    w.send(PING, payload)
    assert w.frame() == (PONG, payload)
    w.send_raw(b"".join(bytes([byte]) for byte in encode(PING, payload)))
    assert w.frame() == (PONG, payload)
    alive(w)


def test_a_ping_byte_by_byte_is_answered(b):
    w = connected(b)
    w.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in encode(PING, b"slowly"):
        w.send_raw(bytes([byte]))
    assert w.frame() == (PONG, b"slowly")


def test_ten_pings_at_once_are_answered_in_order(b):
    w = connected(b)
    w.send_raw(b"".join(encode(PING, b"%d" % i) for i in range(10)))
    assert [w.frame() for _ in range(10)] == [(PONG, b"%d" % i) for i in range(10)]


@each(listener=("ws", "wss"))
def test_of_a_flood_of_pings_the_newest_is_answered(b, listener):
    w = connected(b, listener, tls=TRUST if listener == "wss" else None)
    w.send_raw(b"".join(encode(PING, b"%d" % i) for i in range(2000)) + encode(BINARY, PINGREQ))
    last = None
    while True:
        got = w.frame()
        if got[0] == BINARY:
            break
        last = got
    if last != (PONG, b"1999"):
        assert w.frame() == (PONG, b"1999")


def test_pings_before_connect_and_pongs_of_nobody_are_fine(b):
    w = ws(b)
    w.send(PING, b"early")
    assert w.frame() == (PONG, b"early")
    w.send(PONG, b"unasked")
    w.send(BINARY, CONNECT_BYTES)
    assert w.data(4) == CONNACK_BYTES


WRONG = {
    "unmasked": (1002, encode(BINARY, PINGREQ, mask=None), "without mask"),
    "unmasked ping": (1002, encode(PING, b"x", mask=None), "without mask"),
    "text": (1003, encode(TEXT, b"hello"), "text"),
    "text fragment": (1003, encode(TEXT, b"hello", fin=False), "text"),
    "rsv1": (1002, encode(BINARY, PINGREQ, rsv=4), "reserved bit"),
    "rsv2": (1002, encode(BINARY, PINGREQ, rsv=2), "reserved bit"),
    "rsv3": (1002, encode(PING, b"x", rsv=1), "reserved bit"),
    "opcode 3": (1002, encode(3, b"x"), "unknown kind"),
    "opcode 7": (1002, encode(7, b"x"), "unknown kind"),
    "opcode 11": (1002, encode(11, b"x"), "unknown control"),
    "opcode 15": (1002, encode(15, b"x"), "unknown control"),
    "continuation": (1002, encode(CONTINUATION, b"x"), "continuation"),
    "continuation more": (1002, encode(CONTINUATION, b"x", fin=False), "continuation"),
    "second message": (1002, encode(BINARY, b"", fin=False) + encode(BINARY, PINGREQ), "new message"),
    "ping fragment": (1002, encode(PING, b"x", fin=False), "125"),
    "close fragment": (1002, encode(CLOSE, b"\x03\xe8", fin=False), "125"),
    "long ping": (1002, encode(PING, b"x" * 126), "125"),
    "long close": (1002, encode(CLOSE, b"\x03\xe8" + b"x" * 124), "125"),
    "huge": (1009, encode(BINARY, b"x", announced=1 << 62), "larger"),
    "one too many": (1009, encode(BINARY, b"x", announced=268435461), "larger"),
    "negative": (1002, encode(BINARY, b"x", announced=(1 << 64) - 1), "length"),
    "not shortest 16": (1002, b"\x82\xfe\x00\x02" + b"\0" * 4 + PINGREQ, "shortest"),
    "not shortest 64": (1002, b"\x82\xff" + struct.pack(">Q", 2) + b"\0" * 4 + PINGREQ, "shortest"),
    "half a code": (1002, encode(CLOSE, b"\x03"), "half a code"),
    "reason": (1007, encode(CLOSE, b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"), "UTF-8"),
}
for _code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
    WRONG["code %d" % _code] = (1002, encode(CLOSE, struct.pack(">H", _code)), "a code")


@each(case=tuple(WRONG), cut=(False, True))
def test_what_breaks_the_protocol_is_told_and_ends_it(b, case, cut):
    code, data, why = WRONG[case]
    w = connected(b)
    mark = b.mark()
    w.send(BINARY, PINGREQ)  # what came before counts
    if cut:
        assert w.data(2) == PINGRESP_BYTES
        w.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            w.send_raw(bytes([byte]))
            if w.fill(0):
                break
    else:
        w.send_raw(encode(BINARY, PINGREQ) + data)
        assert w.data(4) == PINGRESP_BYTES * 2
    w.expect_close(code)
    assert why in b.wait_log(r"client_disconnected: .* closed: WebSocket: ", since=mark)


@each(code=(1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999))
def test_close_is_echoed(b, code):
    w = connected(b)
    w.send(CLOSE, struct.pack(">H", code) + "until μετά".encode())
    w.expect_close(code)


def test_close_without_a_code_is_echoed(b):
    w = connected(b)
    w.send(BINARY, PINGREQ)
    w.send(CLOSE)
    assert w.data(2) == PINGRESP_BYTES
    w.expect_close(None)


def test_nothing_behind_close_is_read(b):
    w = connected(b)
    topic = b.unique("late")
    sub = b.connect(V5, listener="auto")
    sub.subscribe(topic)
    w.send_raw(encode(BINARY, wire.publish(V311, topic, "before")) + encode(CLOSE, b"\x03\xe8") +
               encode(BINARY, wire.publish(V311, topic, "behind")))
    w.expect_close(1000)
    sub.expect_message(topic, "before")
    sub.expect_nothing()


@versions()
def test_the_broker_says_close_when_it_closes(b, v):
    w = Client(b.address("ws"), v)
    b.clients.append(w)
    w.connect(b.unique("kicked"))
    b.ctl("clients", "kick", w.client_id)
    got = w.ws.frame()
    if v == V5:
        assert got[0] == BINARY and got[1][0] == 0xE0, got
        got = w.ws.frame()
    assert got[0] == CLOSE and got[1] in (b"\x03\xe8", b"\x03\xe9"), got
    w.ws.wait_eof()


def test_a_malformed_packet_is_told_in_mqtt_and_then_closed(b):
    c = mqtt_ws(b)
    c.send_raw(b"\x00\x00")
    c.expect_close(reason=0x81)


def test_a_will_is_published_when_the_socket_just_ends(b):
    topic = b.unique("will")
    sub = mqtt_ws(b)
    sub.subscribe(topic)
    for how in ("eof", "reset", "close frame", "half a frame"):
        c = Client(b.address("ws"), V311)
        b.clients.append(c)
        c.connect(b.unique("dies"), will=wire.Will(topic, how))
        if how == "close frame":
            c.ws.send(CLOSE, b"\x03\xe8")
        elif how == "half a frame":
            c.ws.send_raw(encode(BINARY, PINGREQ)[:5])
            c.sock.shutdown(socket.SHUT_WR)
        elif how == "reset":
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.ws.close()
        else:
            c.ws.close()
        sub.expect_message(topic, how)


# ---- MQTT in it -------------------------------------------------------------------------------------


@versions()
@each(listener=("ws", "wss", "auto", "all"), cut=(None, 1, 7))
def test_mqtt_works(b, v, listener, cut):
    options = dict(tls=TRUST) if listener in ("wss", "all") else {}
    c = mqtt_ws(b, listener, v, cut=cut, **options)
    topic = b.unique("mqtt")
    for qos in (0, 1, 2):
        c.subscribe(topic + "/%d" % qos, qos=qos)
        c.publish(topic + "/%d" % qos, "q%d" % qos, qos=qos)
        c.expect_message(topic + "/%d" % qos, "q%d" % qos, qos=qos)
    c.ping()
    c.send_raw(wire.disconnect(v, 0))
    got = c.ws.frame()
    assert got == (CLOSE, b"\x03\xe9"), got


@each(listener=("ws", "wss"))
def test_a_mib_both_ways_with_a_slow_reader(b, listener):
    """More than the sockets hold waits in the broker, and comes out whole, Pongs in between."""
    tls = TRUST if listener == "wss" else None
    topic, size, count = b.unique("mib"), 1 << 20, 8
    payloads = [bytes([i]) * size for i in range(count)]
    slow = Client(b.address(listener), V311, tls=tls, receive_buffer=16384)
    b.clients.append(slow)
    slow.connect(b.unique("slow"))
    slow.subscribe(topic)
    fast = mqtt_ws(b, listener, V311, tls=tls)
    for p in payloads:
        fast.send_publish(topic, p)
    fast.ping()  # all has been handed to the slow one
    for i in range(50):
        slow.ws.send(PING, b"%d" % i)
    pongs, opcodes, data = [], set(), bytearray()
    whole = len(wire.publish(V311, topic, payloads[0]))
    while len(data) < count * whole:
        opcode, payload = slow.ws.frame()
        opcodes.add(opcode)
        if opcode == BINARY:
            data += payload
        else:
            pongs.append(payload)
    for i, p in enumerate(payloads):
        assert bytes(data[i * whole:(i + 1) * whole]) == wire.publish(V311, topic, p), i
    if not pongs or pongs[-1] != b"49":
        while slow.ws.frame() != (PONG, b"49"):
            pass
    assert opcodes <= {BINARY, PONG} and len(pongs) <= 50
    slow.ping()


def test_packets_larger_than_the_limit_are_refused_in_mqtt(b):
    c = mqtt_ws(b)
    c.send_raw(wire.publish(V5, "t", b"x" * (5 << 20))[:70000])
    c.expect_close(reason=0x95)


def test_peers_that_leave_at_any_byte_leave_nothing(b):
    address = b.address("wss")
    before = descriptors(b)
    data = request() + encode(BINARY, CONNECT_BYTES) + encode(PING, b"x") + encode(CLOSE, b"\x03\xe8")
    for n in range(1, len(data), 7):
        w = WebSocket(b.address("ws"), upgrade=False)
        w.send_raw(data[:n])
        w.close()
    for n in (1, 100, len(request()), len(data) - 3, len(data)):
        w = WebSocket(address, upgrade=False, tls=TRUST)
        w.send_raw(data[:n])
        w.close()
    wait_until(lambda: descriptors(b) <= before, "%d descriptors" % descriptors(b), WAIT)


def test_idle_connections_cost_little(b):
    """doc/performance.md has what they cost; here that nothing of 4 KiB stays with each."""
    count = 300
    idle = [mqtt_ws(b) for _ in range(20)]
    before = memory(b)
    idle += [mqtt_ws(b) for _ in range(count)]
    for c in idle:
        c.ping()
    if not sanitized(b):
        assert (memory(b) - before) / count < 3000, (memory(b) - before) / count


def test_many_at_once_on_all_workers(b):
    """Connections move to other threads with what their layer holds, and close on any."""
    topic = b.unique("many")
    errors = []

    def one(i):
        try:
            tls = TRUST if i % 2 else None
            c = Client(b.address("all" if i % 2 else "auto"), V311, cut=5, tls=tls)
            c.connect("many-%d" % i)
            c.subscribe("%s/%d" % (topic, i), qos=1)
            for k in range(20):
                c.publish("%s/%d" % (topic, i), "m%d" % k, qos=1)
                if not c.put_aside:
                    c.put_aside.append(c.recv())
                p = c.put_aside.pop(0)
                assert p.payload == b"m%d" % k, p
                c.acknowledge(p)
            c.close()
        except Exception as e:  # pylint: disable=broad-except
            errors.append((i, e))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


# ---- clients of others -------------------------------------------------------------------------------


@skip_if(paho is None, "python3-paho-mqtt is not installed")
@versions()
@each(listener=("ws", "wss", "auto", "all"))
def test_paho_publishes_and_receives(b, v, listener):
    got, connected_, subscribed = queue.Queue(), queue.Queue(), queue.Queue()
    topic = b.unique("paho")
    c = paho.Client(b.unique("paho"), transport="websockets",
                    protocol={V31: paho.MQTTv31, V311: paho.MQTTv311, V5: paho.MQTTv5}[v])
    c.ws_set_options(path="/mqtt")
    if listener in ("wss", "all"):
        c.tls_set_context(TRUST)
    c.on_connect = lambda *a: connected_.put(a)
    c.on_message = lambda client, data, m: got.put(m)
    c.on_subscribe = lambda *a: subscribed.put(a)
    c.connect("localhost" if listener in ("wss", "all") else "127.0.0.1", b.address(listener)[1], 60)
    c.loop_start()
    try:
        connected_.get(timeout=WAIT)
        c.subscribe(topic, 2)
        subscribed.get(timeout=WAIT)
        for qos in (0, 1, 2):
            for size in (5, 70000):
                payload = os.urandom(size)
                c.publish(topic, payload, qos)
                m = got.get(timeout=WAIT)
                assert m.payload == payload and m.qos == qos
    finally:
        c.disconnect()
        c.loop_stop()


@broker(own=True, listeners={"ws": {"websocket": "yes", "anonymous": True}})
def test_clients_are_told_when_the_broker_stops(b):
    clients = [Client(b.address("ws"), v) for v in (V311, V5)]
    for i, c in enumerate(clients):
        b.clients.append(c)
        c.connect("stays-%d" % i)
    half = WebSocket(b.address("ws"), upgrade=False)
    half.send_raw(request()[:30])
    b.clients.append(half)
    b.signal(15)
    for c in clients:
        got = c.ws.frame()
        if c.version == V5:
            assert got[0] == BINARY and got[1][:1] == b"\xe0", got
            got = c.ws.frame()
        assert got[0] == CLOSE, got
    half.wait_eof()
    b.wait_exit()
