# SPDX-License-Identifier: Apache-2.0
"""Listeners whose socket a plugin has: handler = "instance", byte streams and datagrams."""
import socket

from lib import proc
from lib.broker import TIMEOUT, Broker
from lib.case import broker, default_broker, versions
from lib.mqtt import V5, Client
from lib.wire import PUBACK, Will
from lib.wire import publish as publish_packet

MASK = 0x5A


class Scrambled(Client):
    """Speaks to tests/plugins/scramble.c."""

    def send_raw(self, data):
        super().send_raw(bytes(b ^ MASK for b in data))

    def _fill(self, deadline):
        had = len(self.buffer)
        came = super()._fill(deadline)
        self.buffer[had:] = bytes(b ^ MASK for b in self.buffer[had:])
        return came


def config(stream=None, datagram=None, plugins=None, **more):
    listeners = {
        "mqtt": {"anonymous": True},
        "stream": dict({"handler": "scramble", "anonymous": True}, **(stream or {})),
        "local": {"handler": "scramble", "anonymous": True, "bind": "unix:{dir}/scrambled"},
        "datagram": dict({"handler": "datagrams", "anonymous": True,
                          "bind": "udp:127.0.0.1:0"}, **(datagram or {})),
    }
    return dict({"listeners": listeners,
                 "plugins": {"scramble": {}, "datagrams": {}} if plugins is None else plugins}, **more)


BROKER = default_broker(**config())


def stream(b, version=V5, listener="stream"):
    c = Scrambled(b.address(listener), version)
    b.clients.append(c)
    return c


SEEN = set()  # ports of clients before: to the plugin one that has the port again is the same client


def datagram(b, version=V5):
    while True:
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.connect(b.address("datagram"))
        if s.getsockname() not in SEEN:
            break
        s.close()
    SEEN.add(s.getsockname())
    c = Client(s, version)
    b.clients.append(c)
    return c


KINDS = {"stream": stream, "local": lambda b, v=V5: stream(b, v, "local"), "datagram": datagram}


def all_kinds(function):
    function.rows = [dict(row, kind=kind) for row in getattr(function, "rows", [{}])
                     for kind in KINDS]
    return function


# ---- MQTT goes through ---------------------------------------------------------------------------

@all_kinds
@versions()
def test_clients_publish_and_subscribe(b, kind, v):
    c, topic = KINDS[kind](b, v), b.unique("topic")
    c.connect(b.unique("handled"))
    c.subscribe(topic, qos=2)
    for qos in (0, 1, 2):
        if c.publish(topic, b"%d" % qos, qos=qos) not in (0, 0x10):
            raise AssertionError("refused")
        c.expect_message(topic, b"%d" % qos, qos=qos)
    other = b.connect(v)
    other.publish(topic, b"from the other", qos=1)
    c.expect_message(topic, b"from the other")
    c.ping()


def test_what_is_larger_than_all_buffers_goes_through(b):
    c, topic = stream(b), b.unique("topic")
    c.connect(b.unique("handled"))
    c.subscribe(topic)
    payload = bytes(range(256)) * 3000
    c.publish(topic, payload, qos=1)
    c.expect_message(topic, payload)


def test_a_large_message_comes_in_many_datagrams(b):
    """And the client may cut its packets as it likes."""
    c, topic = datagram(b), b.unique("topic")
    c.connect(b.unique("handled"))
    c.subscribe(topic)
    packet = publish_packet(V5, topic, b"x" * 30000, 1, False, False, 7, ())
    for at in range(0, len(packet), 1000):
        c.send_raw(packet[at:at + 1000])
    c.wait_for(PUBACK, packet_id=7)
    c.expect_message(topic, b"x" * 30000)


def test_many_clients_find_their_way_home(b):
    """The connection moves to the worker of its client id, whichever has the socket."""
    topic = b.unique("topic")
    clients = []
    for i in range(16):
        c = KINDS[("stream", "datagram")[i % 2]](b)
        c.connect(b.unique("home"))
        c.subscribe("%s/%d" % (topic, i), qos=1)
        clients.append(c)
    for i in range(16):
        clients[i].publish("%s/%d" % (topic, (i + 5) % 16), b"%d" % i, qos=1)
    for i, c in enumerate(clients):
        c.expect_message("%s/%d" % (topic, i), b"%d" % ((i - 5) % 16))


def test_a_session_is_taken_over_from_a_plain_listener(b):
    name = b.unique("both")
    first = b.connect(V5, name)
    second = stream(b)
    second.connect(name)
    first.expect_close(0x8E)
    b.connect(V5, name)
    second.expect_close(0x8E)


# ---- who it is -------------------------------------------------------------------------------------

@all_kinds
def test_the_peer_is_the_one_that_the_plugin_saw(b, kind):
    c, name = KINDS[kind](b), b.unique("peer")
    c.connect(name)
    peer = b.ctl_json("clients", "show", name)["peer"]
    wanted = "unix:" if kind == "local" else "127.0.0.1:%d" % c.sock.getsockname()[1]
    if not peer.startswith(wanted):
        raise AssertionError(peer)


@broker(own=True, **config(
    {"anonymous": False, "mountpoint": "site/"}, {"anonymous": False},
    plugins={"scramble": {"username": "from-the-stream", "attribute": "site.room=attic"},
             "datagrams": {"username": "*"},
             "tls-identity": {"sources": ["handler"]}},
    rules="user from-the-stream\nallow all rooms/%{site.room}/#\n"
          "everyone\nallow all %{gateway.kind}/#\n"))
def test_the_plugin_vouches_for_the_user_name(b):
    s, d = stream(b), datagram(b)
    s.connect("s", username="admin", password="x")
    if b.ctl_json("clients", "show", "s")["username"] != "from-the-stream":
        raise AssertionError("the client chose its name")
    s.subscribe("rooms/attic/#", qos=1)
    s.subscribe("rooms/cellar/#", codes=[0x87])
    d.connect("d")
    if b.ctl_json("clients", "show", "d")["username"] != "port-%d" % d.sock.getsockname()[1]:
        raise AssertionError(b.ctl_json("clients", "show", "d"))
    d.subscribe("datagram/x")
    d.subscribe("stream/x", codes=[0x87])


@broker(own=True, **config({"anonymous": False}, plugins={
    "scramble": {"attribute": "site.room=attic"}, "datagrams": {},
    "verdict": {"client_authenticate": "allow", "attribute": "site.room=cellar"}},
    rules="allow all rooms/%{site.room}/#\n"))
def test_a_login_does_not_change_what_the_connection_is(b):
    s = stream(b)
    s.connect("s", username="u", password="p")
    s.subscribe("rooms/attic/#")
    s.subscribe("rooms/cellar/#", codes=[0x87])


@broker(own=True, **config({"anonymous": False}))
def test_authentication_decides_as_ever(b):
    c = stream(b)
    c.send_connect("x")
    c.expect(2, reason=0x87)


@broker(own=True, **config(plugins={"scramble": {"attribute": "cert.cn=admin"}, "datagrams": {}}))
def test_a_handler_cannot_make_up_a_certificate(b):
    c = stream(b)
    b.wait_log(r'plugin "scramble": refused: -2')
    c.wait_closed()


# ---- limits ------------------------------------------------------------------------------------------

@broker(own=True, **config({"max_connections": 2}, {"max_connections": 2}))
def test_max_connections_of_the_listener_counts(b):
    kept = [stream(b), stream(b), datagram(b), datagram(b)]
    for i, c in enumerate(kept):
        c.connect("kept-%d" % i)
    mark = b.mark()
    stream(b).wait_closed()
    b.wait_log(r'connection_refused: 127\.0\.0\.1:\d+ on listener "stream": max_connections', since=mark)
    third = datagram(b)
    third.send_connect("third")
    b.wait_log(r'plugin "datagrams": refused: -3', since=mark)
    kept[0].disconnect()
    b.wait_metric("connections", 3)
    stream(b).connect("after")
    b.connect(V5).ping()


@broker(own=True, **config({"max_connections_per_address": 2}, {"max_connections_per_address": 2}))
def test_limits_of_an_address_count(b):
    """One count for both listeners, since it is one address."""
    kept = [stream(b), datagram(b)]
    for i, c in enumerate(kept):
        c.connect("kept-%d" % i)
    mark = b.mark()
    stream(b).wait_closed()
    b.wait_log(r'connection_refused: 127\.0\.0\.1:\d+ on listener "stream": max_connections_per_address', since=mark)
    third = datagram(b)
    third.send_connect("third")
    b.wait_log(r'plugin "datagrams": refused: -3', since=mark)
    assert b.metric("connections_refused_address_total") == 2
    kept[0].disconnect()
    b.wait_metric("connections", 1)
    stream(b).connect("after")


@broker(own=True, **config({"max_packet_size": 1024}))
def test_limits_of_the_section_count(b):
    c = stream(b)
    c.connect("x")
    c.send_publish("topic", b"x" * 2000)
    c.expect_close(0x95)


@broker(own=True, **config({"connect_timeout": "300ms"}, {"connect_timeout": "300ms"}))
def test_who_does_not_connect_is_gone(b):
    stream(b).wait_closed()
    datagram(b).send_raw(b"\x10")
    b.wait_metric("connect_timeouts_total", 2)
    b.wait_metric("connections", 0)


def test_garbage_ends_the_connection_and_no_other(b):
    c, kept = datagram(b), datagram(b)
    kept.connect(b.unique("kept"))
    malformed = b.metric("packets_malformed_total")
    c.send_raw(b"\xff\xff\xff\xff\xff")
    b.wait_metric("packets_malformed_total", malformed + 1)
    kept.ping()
    c.connect(b.unique("anew"))  # the same source begins again


@broker(own=True, **config(limits={"max_output_bytes": "64k"}))
def test_one_that_does_not_read_is_slow(b):
    c, topic = stream(b), "topic"
    c.connect("slow")
    c.subscribe(topic)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    p = b.connect(V5)
    for _ in range(400):
        p.send_publish(topic, b"x" * 50000)
    p.ping()
    b.wait_metric("messages_dropped_output_full_total", lambda n: n > 0)
    if b.metric("output_bytes") > 1 << 20:
        raise AssertionError("kept too much")


# ---- the end of it -------------------------------------------------------------------------------------

@all_kinds
@broker(own=True, **config())
def test_the_client_goes_away(b, kind):
    watcher, before = b.connect(V5), None
    watcher.subscribe("will")
    for _ in range(3):
        c = KINDS[kind](b)
        c.connect("x", will=Will("will", b"gone"))
        c.close()
        if kind == "datagram":  # which nobody notices, before its Keep Alive is over
            b.ctl("clients", "kick", "x")
        watcher.expect_message("will", b"gone")
        b.wait_metric("connections", 1)
        if before is None:
            before = proc.descriptors(b)
    proc.wait_until(lambda: proc.descriptors(b) <= before, "descriptors", TIMEOUT)


@broker(own=True, **config(plugins={"scramble": {"end_after": 200}, "datagrams": {}}))
def test_the_plugin_closes(b):
    watcher = b.connect(V5)
    watcher.subscribe("will")
    c = stream(b)
    c.connect("x", will=Will("will", b"gone"))
    c.send_publish("topic", b"x" * 300)
    c.wait_closed()
    watcher.expect_message("will", b"gone")
    b.wait_metric("connections", 1)


@all_kinds
@broker(own=True, **config())
def test_the_broker_stops_with_clients_on(b, kind):
    for i in range(3):
        KINDS[kind](b).connect("x-%d" % i)
    b.stop()
    b.wait_log(r'plugin "datagrams": 2 sockets opened, 2 closed')


# ---- reload --------------------------------------------------------------------------------------------

@broker(own=True, **config())
def test_a_reload_that_changes_nothing_leaves_the_sockets(b):
    c, d = stream(b), datagram(b)
    c.connect("c")
    d.connect("d")
    mark = b.mark()
    b.reload()
    c.ping()
    d.ping()
    if b.log_lines(r'plugin "(scramble|datagrams)": (open|close)', mark):
        raise AssertionError("moved for nothing")
    assert not b.log_lines("cannot change its sockets", mark)  # of datagrams: there is nothing to change


@broker(own=True, **config(workers=2))
def test_old_connections_stay_with_the_old_instance(b):
    old, mark = stream(b), b.mark()
    old.connect("old")
    b.configure(plugins={"scramble": {"mask": 0}, "datagrams": {}})
    b.reload()
    plain = Client(b.address("stream"))
    b.clients.append(plain)
    plain.connect("new")  # the new instance turns no bits
    old.ping()
    old.subscribe("topic")
    plain.publish("topic", b"across", qos=1)
    old.expect_message("topic", b"across")
    if b.log_lines(r'plugin "scramble": stop', mark):
        raise AssertionError("the old instance was stopped under its client")
    old.disconnect()
    for _ in range(2):
        b.wait_log(r'plugin "scramble": stop: 0 connections', since=mark)
    plain.ping()


@broker(own=True, **config(plugins={"scramble": {"drain": "200ms"}, "datagrams": {}}))
def test_the_drain_is_bounded(b):
    old, mark = stream(b), b.mark()
    old.connect("old")
    b.configure(plugins={"scramble": {"mask": 0, "drain": "200ms"}, "datagrams": {}})
    b.reload()
    b.wait_log(r'plugin "scramble": stop: 1 connections', since=mark)
    old.wait_closed()
    b.wait_metric("connections", 0)


@broker(own=True, **config())
def test_clients_of_datagrams_begin_anew_after_a_reload(b):
    d, mark = datagram(b), b.mark()
    d.connect("d", clean=False, props=[(0x11, 3600)])
    b.configure(plugins={"scramble": {}, "datagrams": {"username": "named"},
                         "tls-identity": {"sources": ["handler"]}})
    b.reload()
    b.wait_log(r'plugin "datagrams": 2 sockets opened, 2 closed', since=mark)
    b.wait_metric("connections", 0)
    d.connect("d2")
    if b.ctl_json("clients", "show", "d2")["username"] != "named":
        raise AssertionError("the old instance has it")


@broker(own=True, **config())
def test_an_instance_that_does_not_take_the_socket(b):
    mark = b.mark()
    b.configure(plugins={"scramble": {}, "datagrams": {"refuse": True}})
    b.reload()
    b.wait_log(r'plugin "datagrams": listener_open of listener "datagram" failed on worker \d '
               r'\(error -8\); nobody is served', since=mark)
    b.configure(plugins={"scramble": {}, "datagrams": {}})
    b.reload()
    datagram(b).connect("d")


@broker(own=True, **config())
def test_a_handler_cannot_be_taken_away(b):
    b.configure(plugins={"datagrams": {}})
    mark = b.mark()
    b.reload(good=False)
    b.wait_log(r'listener "stream": handler = "scramble": no plugin of that name is enabled; write '
               r'plugin "scramble"', since=mark)
    stream(b).connect("still")


# ---- configuration ---------------------------------------------------------------------------------------

def refused(listener, text, **plugins):
    b = Broker(listeners={"mqtt": {"anonymous": True}, "x": listener}, plugins=plugins)
    try:
        b.start(wait=False)
        if b.wait_exit(TIMEOUT) == 0:
            raise AssertionError("it started")
        if not b.log_lines(text):
            raise AssertionError("not said: %s\n%s" % (text, "\n".join(b.log_lines())))
    finally:
        b.remove()


def test_what_a_handler_needs_is_said():
    refused({"handler": "nobody"}, r'grapnel\.conf:\d+: listener "x": handler = "nobody": no plugin of that '
            r'name is enabled; write plugin "nobody" \{ enabled = yes \}')
    refused({"handler": "verdict"}, r"does not take sockets", verdict={"client_authenticate": "allow"})
    refused({"bind": "udp:127.0.0.1:0"}, r'MQTT is not spoken over datagrams: "udp:" needs handler')
    refused({"handler": "scramble", "proxy_protocol": True, "trusted_proxies": ["127.0.0.1"]},
            r'"proxy_protocol" and "handler" exclude each other', scramble={})
    refused({"handler": "scramble", "websocket": True}, r'"websocket" and "handler" exclude each other',
            scramble={})
    refused({"handler": "datagrams", "bind": "udp:localhost:1"}, r"numeric address", datagrams={})


def test_a_port_of_datagrams_that_is_taken():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
        refused({"handler": "datagrams", "bind": "udp:127.0.0.1:%d" % port},
                r"cannot listen on udp:127\.0\.0\.1:%d: Address already in use; .*ss -lunp" % port,
                datagrams={})
