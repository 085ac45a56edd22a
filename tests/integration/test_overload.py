# SPDX-License-Identifier: Apache-2.0
"""Peers that want too much of something: memory, time, connections. Everything has a bound."""
import random
import select
import signal
import socket
import threading
import time

from lib import wire
from lib.broker import FACTOR, Broker
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import MIB, cpu_seconds, descriptors, memory, slack, sockets, wait_until
from lib.wire import Sub, Will

ALONE = True
BROKER = {"listeners": {"mqtt": {"anonymous": True}}}
DURABLE = [(SESSION_EXPIRY, 300)]
OPEN = {"mqtt": {"anonymous": True}}


def still_answers(b):
    c = b.connect(V5)
    topic = b.unique("alive")
    c.subscribe(topic)
    c.publish(topic, "yes", qos=1)
    c.expect_message(topic=topic, payload="yes")


def send_until_blocked(c, data, most, patience=0.7 * FACTOR):
    """Send again and again without reading, until the broker has not taken anything for a while. @return bytes."""
    sent = 0
    c.sock.setblocking(False)
    try:
        while sent < most:
            if not select.select([], [c.sock], [], patience)[1]:
                break
            try:
                n = c.sock.send(data[sent % len(data):] or data)
            except BlockingIOError:
                continue
            sent += n
    finally:
        c.sock.settimeout(c.timeout)
    return sent


# ---- topics and properties ----------------------------------------------------------------------


@versions()
def test_more_levels_than_max_topic_levels_are_refused(b, v):
    for deep in ("/".join(["a"] * 200), "/" * 60000, "/" * 128):
        c = b.connect(v)
        c.subscribe([deep], codes=[0x8F if v == V5 else 0x80])
        c.send_publish(deep, "x")
        if v == V5:
            c.expect_close(0x90)
        else:
            c.expect_close()
        c = b.client(v)
        c.send_connect("deep-will", will=Will(deep, "x"))
        p = c.poll(c.timeout)
        assert p is None or p.reason in ((0x90,) if v == V5 else (2, 5)), p
        c.wait_closed()
    c = b.connect(v)
    allowed = "/" * 127
    c.subscribe(allowed)
    c.publish(allowed, "x")
    c.expect_message(topic=allowed)


@broker(listeners=OPEN, limits={"max_topic_levels": 65536, "max_connect_size": "256k"})
def test_topics_of_65535_slashes_are_stored_matched_and_forgotten(b):
    c = b.connect(V5)
    deep = ["/" * 65535, "+/" * 32767 + "+", "a/" * 32767 + "#", "/" * 65534 + "x"]
    before = memory(b)
    for round_ in range(3):
        c.subscribe(deep, qos=1)
        c.publish("/" * 65535, "x", qos=1, retain=True)
        assert c.expect_message().payload == b"x"
        c.publish("a/" * 32767 + "a", "y", qos=1)
        got = [c.expect_message(payload="y")]
        assert got[0].topic == "a/" * 32767 + "a"
        c.subscribe(["/" * 65535], qos=0)  # replaced, and the retained message is served
        assert c.expect_message().retain
        c.publish("/" * 65535, "", retain=True)
        c.expect_message(payload="")
        c.unsubscribe(deep)
        assert round_ >= 0
    c.disconnect()
    b.wait_metric("subscriptions", 0)
    assert memory(b) - before < 120 * MIB + slack(b)
    still_answers(b)


def test_ten_thousand_user_properties_arrive_in_order(b):
    props = [(USER_PROPERTY, ("k%d" % i, "v%d" % i)) for i in range(10000)]
    c = b.connect(V5)
    topic = b.unique("t")
    c.subscribe(topic, qos=1)
    for qos in (0, 1):
        c.publish(topic, "x", qos=qos, props=props)
        assert c.expect_message(topic=topic).props == props
    c.send_raw(wire.subscribe(V5, 77, [Sub(topic + "/x")], props))
    c.expect(SUBACK, packet_id=77)


@broker(listeners=OPEN, own=True)
def test_stored_properties_cost_about_their_wire_size(b):
    c = b.connect(V5)
    props = [(USER_PROPERTY, ("k", "v"))] * 5000  # 35,000 bytes on the wire
    before = memory(b)
    for i in range(300):
        c.publish("kept/%d" % i, "", qos=1, props=props, retain=False)
        c.publish("kept/%d" % i, "x", qos=1, props=props, retain=True)
    grown = memory(b) - before
    assert grown < 3 * 300 * 35000 + slack(b), grown


# ---- the same thing again and again -------------------------------------------------------------


def test_a_subscribe_unsubscribe_loop_leaks_nothing(b):
    c = b.connect(V5)
    filters = ["loop/%d/+/#" % i for i in range(20)] + ["$share/g%d/loop/#" % i for i in range(5)]

    def rounds(n):
        for _ in range(n):
            c.subscribe(filters, qos=1)
            c.subscribe(filters, qos=0)  # replaces
            c.unsubscribe(filters)

    rounds(300)
    before = memory(b)
    rounds(600)
    grown = memory(b) - before
    assert grown < 2 * MIB + slack(b), "%d bytes more" % grown
    b.wait_metric("shared_groups", 0)


def test_connecting_and_leaving_with_a_session_leaks_nothing(b):
    def rounds(n):
        for _ in range(n):
            c = b.connect(V5, client_id="loop", clean=True, props=DURABLE, will=Will("w", "x" * 100))
            c.subscribe(["loop/a", "loop/#", "$share/g/loop/+"], qos=2)
            c.publish("loop/a", "x" * 1000, qos=2)
            c.close()
            b.clients.remove(c)

    rounds(200)
    before = memory(b)
    rounds(400)
    grown = memory(b) - before
    assert grown < 3 * MIB + slack(b), "%d bytes more" % grown


@versions()
def test_one_qos_2_identifier_again_and_again_costs_nothing_and_is_forwarded_once(b, v):
    topic = b.unique("t")
    watch = b.connect(V5)
    watch.subscribe(topic, qos=2)
    c = b.connect(v)
    payload = "x" * 1000
    c.send_publish(topic, payload, qos=2, packet_id=9)
    c.expect(PUBREC, packet_id=9)
    watch.expect_message(topic=topic)
    before = memory(b)
    for _ in range(100):
        for _ in range(50):
            c.send_publish(topic, payload, qos=2, packet_id=9, dup=True)
        for _ in range(50):
            c.expect(PUBREC, packet_id=9, reason=0)
    grown = memory(b) - before
    assert grown < 2 * MIB + slack(b), grown
    watch.expect_nothing()
    c.pubrel(9)
    c.expect(PUBCOMP, packet_id=9)


@versions()
def test_a_qos_2_message_twice_in_one_segment_is_forwarded_once(b, v):
    topic = b.unique("t")
    watch = b.connect(V5)
    watch.subscribe(topic, qos=2)
    c = b.connect(v)
    c.send_raw(wire.publish(v, topic, "x", 2, packet_id=3) +
               wire.publish(v, topic, "x", 2, dup=True, packet_id=3))
    c.expect(PUBREC, packet_id=3)
    c.expect(PUBREC, packet_id=3)
    watch.expect_message(topic=topic)
    watch.expect_nothing()


def test_the_receive_maximum_of_the_broker_is_enforced(b):
    c = b.connect(V5)
    most = c.connack.prop(RECEIVE_MAXIMUM)
    c.send_raw(b"".join(wire.publish(V5, "t", "x", 2, packet_id=i + 1) for i in range(most)))
    for i in range(most):
        c.expect(PUBREC, packet_id=i + 1)
    c.send_publish("t", "x", qos=0)  # has no identifier
    c.ping()
    c.send_publish("t", "x", qos=2, packet_id=most + 1)
    c.expect_close(0x93)


# ---- clients that never read --------------------------------------------------------------------


# The kernel's buffers of a Unix socket are small, those of TCP grow to megabytes.
WITH_UNIX = {"mqtt": {"anonymous": True}, "unix": {"anonymous": True, "bind": "unix:{dir}/mqtt.sock"}}

FLOODS = {
    "PINGREQ": b"\xc0\x00" * 2000,
    "SUBSCRIBE": b"".join(wire.subscribe(V5, i + 1, [Sub("flood/%d" % (i % 10))] * 20) for i in range(100)),
    "UNSUBSCRIBE": b"".join(wire.unsubscribe(V5, i + 1, ["none/%d" % (i % 10)] * 20) for i in range(100)),
    "PUBREL": b"".join(wire.ack(V5, PUBREL, i + 1) for i in range(1000)),
    "QoS 1 PUBLISH": b"".join(wire.publish(V5, "flood/t", "", 1, packet_id=i + 1) for i in range(500)),
    "QoS 2 PUBLISH": wire.publish(V5, "flood/t", "", 2, packet_id=5) * 500,
    "PUBREC": b"".join(wire.ack(V5, PUBREC, i + 1) for i in range(1000)),
}


@each(flood=tuple(FLOODS))
@broker(listeners=WITH_UNIX, limits={"max_output_bytes": "256k"})
def test_a_client_that_asks_and_never_reads_costs_bounded_memory(b, flood):
    data = FLOODS[flood]
    c = b.client(V5, listener="unix")
    c.connect(b.unique("flood"), keep_alive=0)
    before = memory(b)
    sent = send_until_blocked(c, data, 200 * MIB)
    assert sent < 200 * MIB, "the broker read on and on"
    grown = memory(b) - before
    assert grown < 12 * MIB + slack(b), "%d bytes more" % grown
    still_answers(b)
    waiting = b.metric("output_bytes")
    assert 0 < waiting < 2 * MIB, waiting
    if flood != "PINGREQ":
        return
    # It reads after all: every question has its answer, and life goes on.
    if sent % 2:
        c.send_raw(b"\x00")
        sent += 1
    got = b""
    while len(got) < sent:
        got += c.sock.recv(1 << 16)
    assert got == b"\xd0\x00" * (sent // 2)
    c.expect_nothing()


@broker(listeners=OPEN, limits={"max_output_bytes": "256k"})
def test_a_flooder_that_vanishes_while_its_output_is_blocked_is_let_go(b):
    c = b.client(V5)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.connect("vanishes", keep_alive=0)
    send_until_blocked(c, b"\xc0\x00" * 2000, 200 * MIB)
    c.close()  # with unread bytes: a reset
    b.wait_metric("connections", 0)
    b.wait_metric("output_bytes", 0)


@broker(listeners=WITH_UNIX, limits={"max_output_bytes": "512k", "publisher_pause": "300ms"})
def test_a_subscriber_that_does_not_read_pauses_its_publisher_for_a_while_and_then_loses_qos_0(b):
    deaf = b.connect(V5, client_id="deaf", listener="unix", keep_alive=0)
    deaf.subscribe("hose")
    good = b.connect(V5)
    good.subscribe("hose/count")
    pub = b.connect(V5, client_id="hose")
    dropped = b.metric("messages_dropped_output_full_total")
    paused = b.metric("publishers_paused_total")
    before = memory(b)
    message = wire.publish(V5, "hose", "x" * 1000)
    # 10 MB: far more than all buffers together. All of it is taken in the end.
    for i in range(100):
        pub.send_raw(message * 100)
        if i % 30 == 0:
            other = b.connect(V5)  # others are not affected
            other.subscribe("calm")
            other.publish("calm", "x", qos=1)
            other.expect_message(topic="calm")
    pub.ping()
    pub.publish("hose/count", "end", qos=1)
    good.expect_message(topic="hose/count")
    grown = memory(b) - before
    assert grown < 20 * MIB + slack(b), grown
    assert b.metric("messages_dropped_output_full_total") > dropped
    assert b.metric("publishers_paused_total") > paused
    # What it gets when it reads is whole packets, and the newest come again.
    for _ in range(100):
        p = deaf.recv()
        assert p.type == PUBLISH and len(p.payload) == 1000
    deaf.close()
    b.wait_metric("output_bytes", 0)


@broker(listeners=WITH_UNIX, limits={"max_output_bytes": "512k", "publisher_pause": "200ms",
                                "max_queued_messages": 100})
def test_qos_1_for_a_subscriber_that_does_not_read_is_queued_up_to_its_limit_and_then_counted(b):
    deaf = b.connect(V5, client_id="deaf", listener="unix", keep_alive=0)
    deaf.subscribe("hose", qos=1)
    pub = b.connect(V5)
    dropped = b.metric("messages_dropped_queue_full_total")
    n, payload = 3000, "x" * 2000
    for i in range(n):
        pub.send_publish("hose", payload, qos=1, packet_id=i % 100 + 1)
        if i % 100 == 99:
            for _ in range(100):
                pub.expect(PUBACK, reason=0)
    assert b.metric("messages_dropped_queue_full_total") > dropped
    assert b.metric("queued_messages") <= 100
    got = 0
    while True:
        p = deaf.poll(BRIEF * 4)
        if p is None:
            break
        deaf.puback(p.packet_id)
        got += 1
    assert got + b.metric("messages_dropped_queue_full_total") - dropped == n


# ---- time ---------------------------------------------------------------------------------------


@broker(listeners={"mqtt": {"anonymous": True, "connect_timeout": "500ms"}})
def test_the_whole_connect_has_one_deadline(b):
    before = b.metric("connect_timeouts_total")
    silent = b.client(V5)
    half = b.client(V5)
    half.send_raw(wire.connect(V5, "half")[:5])
    dribbler = b.client(V5)
    data = wire.connect(V5, "dribbler", props=[(USER_PROPERTY, ("k", "v" * 2000))])
    started = time.monotonic()
    closed = False
    for i in range(len(data) - 1):
        try:
            dribbler.send_raw(data[i:i + 1])
        except OSError:
            closed = True
            break
        if select.select([dribbler.sock], [], [], 0.02)[0]:
            closed = True
            break
        assert time.monotonic() - started < TIMEOUT, "a dribbler was let live"
    assert closed
    for c in (silent, half, dribbler):
        try:
            c.wait_closed()
        except OSError:
            pass
    b.wait_metric("connect_timeouts_total", before + 3)
    b.wait_metric("connections", 0)


@versions()
def test_single_bytes_do_not_outlive_keep_alive(b, v):
    before = b.metric("keep_alive_timeouts_total")
    c = b.connect(v, keep_alive=1)
    data = wire.publish(v, "t", "x" * 5000)
    started = time.monotonic()
    for i in range(len(data)):
        try:
            c.send_raw(data[i:i + 1])
        except OSError:
            break
        if select.select([c.sock], [], [], 0.05)[0]:
            break
        assert time.monotonic() - started < TIMEOUT, "a dribbler was let live"
    took = time.monotonic() - started
    assert took > 1.3, "only %g s" % took
    if v == V5:
        c.expect_close(0x8D)
    else:
        c.expect_close()
    assert b.metric("keep_alive_timeouts_total") == before + 1


@versions()
@broker(listeners=OPEN, limits={"max_keep_alive": 1})
def test_the_keep_alive_ceiling_counts_for_clients_that_ask_for_none(b, v):
    c = b.connect(v, keep_alive=0)
    if v == V5:
        assert c.connack.prop(SERVER_KEEP_ALIVE) == 1
        c.expect_close(0x8D)
    else:
        c.expect_close()


def test_two_hundred_delayed_wills_all_fire(b):
    topic = b.unique("will")
    watch = b.connect(V5, props=[(RECEIVE_MAXIMUM, 500)])
    watch.subscribe(topic + "/#", qos=1)
    published = b.metric("wills_published_total")
    clients = [b.connect(V5, client_id="%s-%d" % (topic, i), props=DURABLE,
                         will=Will("%s/%d" % (topic, i), "gone", 1, props=[(WILL_DELAY, 1)])) for i in range(200)]
    for c in clients:
        c.close()
    got = {watch.expect_message().topic for _ in range(200)}
    assert len(got) == 200
    watch.expect_nothing()
    assert b.metric("wills_published_total") == published + 200


def test_a_delayed_will_fires_when_its_session_ends_first_and_not_after_a_reconnect(b):
    topic = b.unique("will")
    watch = b.connect(V5)
    watch.subscribe(topic + "/#")
    b.connect(V5, client_id=topic + "a", props=[(SESSION_EXPIRY, 1)],
              will=Will(topic + "/a", "x", props=[(WILL_DELAY, 500)])).close()
    watch.expect_message(topic=topic + "/a")
    for i in range(5):
        b.connect(V5, client_id=topic + "b", clean=False, props=DURABLE,
                  will=Will(topic + "/b", "x", props=[(WILL_DELAY, 2)])).close()
    c = b.connect(V5, client_id=topic + "b", clean=False, props=DURABLE, session_present=True)
    watch.expect_nothing(2.2)
    c.disconnect()


def test_session_expiry_counts_at_the_moment_of_resuming(b):
    name = b.unique("expires")
    for _ in range(3):
        b.connect(V5, client_id=name, clean=False, props=[(SESSION_EXPIRY, 1)], session_present=False).close()
        time.sleep(1.05)


# ---- sockets ------------------------------------------------------------------------------------


def gone(b):
    """No socket of the broker is left in CLOSE_WAIT, and no descriptor is lost."""
    wait_until(lambda: "CLOSE_WAIT" not in sockets(b.port), "no socket in CLOSE_WAIT", TIMEOUT)


def test_no_socket_stays_in_close_wait_whoever_closes_when(b):
    idle = descriptors(b)
    some = [b.client(V5) for _ in range(10)]  # nothing sent
    for i, c in enumerate(some):
        if i % 2:
            c.send_raw(wire.connect(V5, "half")[:7])
        c.close()
    for how in range(4):
        for _ in range(5):
            c = b.connect(V5, keep_alive=0)
            c.subscribe("t")
            if how == 1:
                c.send_raw(b"\x30\xff\x01")  # half a packet
            elif how == 2:
                c.send_raw(wire.publish(V5, "t", "x", 1, packet_id=1))
            elif how == 3:
                c.reset()
                continue
            c.close()
    gone(b)
    b.wait_metric("connections", 0)
    wait_until(lambda: descriptors(b) <= idle, "all descriptors closed", TIMEOUT)


@broker(listeners=OPEN, plugins={"slow": {"auth_delay": "60s", "acl_delay": 0}}, limits={"auth_timeout": "60s"})
def test_a_client_that_leaves_while_a_plugin_decides_is_let_go_at_once(b):
    for data in (b"", wire.publish(V5, "t", "x"), wire.publish(V5, "t", "x" * 10000)):
        c = b.client(V5)
        c.send_raw(wire.connect(V5, "waits") + data)
        b.wait_metric("connections", 1)
        c.close()
        b.wait_metric("connections", 0)
    gone(b)


@broker(listeners=OPEN, plugins={"slow": {"auth_delay": 0, "acl_delay": "1s"}})
def test_a_client_that_leaves_while_its_publish_is_decided_is_let_go_after_the_decision(b):
    c = b.connect(V5)
    c.send_publish("t", "x", qos=1)
    c.close()
    b.wait_metric("connections", 0)
    gone(b)


@broker(own=True, listeners={"mqtt": {"anonymous": True, "max_connections": 3},
                             "more": {"anonymous": True}}, limits={"max_connections": 5})
def test_max_connections_is_kept_per_listener_and_in_total(b):
    mine = [b.connect(V5) for _ in range(3)]
    c = b.client(V5)
    c.wait_closed()
    b.wait_log(r"connection_refused: .*listener \"mqtt\": max_connections of the listener is reached")
    more = [b.connect(V5, listener="more") for _ in range(2)]
    c = b.client(V5, listener="more")
    c.wait_closed()
    b.wait_log(r"connection_refused: .*listener \"more\": max_connections is reached")
    assert b.metric("connections_refused_total") == 2
    more[0].close()
    b.wait_metric("connections", 4)
    b.connect(V5, listener="more").ping()
    for c in mine:
        c.ping()


@broker(own=True, workers=4, listeners=OPEN, limits={"max_connections": 10})
def test_max_connections_is_exact_although_every_worker_accepts(b):
    crowd = []
    for _ in range(200):
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setblocking(False)
        s.connect_ex(b.address())
        crowd.append(s)
    b.wait_metric("connections_refused_total", 190)
    assert b.metric("connections") == 10
    for s in crowd:
        s.close()
    b.wait_metric("connections", 0)
    still_answers(b)


@each(nofile=(40, 96))
def test_running_out_of_descriptors_neither_spins_nor_opens_anything(nofile):
    b = Broker(users={"u": "p"}, log_level="info")
    b.wrapper = ["prlimit", "--nofile=%d" % nofile]
    try:
        b.start()
        first = b.connect(V5, username="u", password="p")
        crowd = []
        for _ in range(150):
            s = socket.create_connection(b.address(), TIMEOUT)
            s.setblocking(False)
            crowd.append(s)
        b.wait_log("connection_refused|cannot accept")
        first.ping()
        used, at = cpu_seconds(b), time.monotonic()
        time.sleep(1)
        share = (cpu_seconds(b) - used) / (time.monotonic() - at)
        assert share < 0.5, "the broker is busy %d%% of the time" % (share * 100)
        # Nobody came in without credentials meanwhile, and a reload without descriptors changes nothing.
        b.signal(signal.SIGHUP)
        b.wait_log(" (reloaded|reload_refused): ")
        first.ping()
        for s in crowd:
            s.close()
        b.wait_metric("connections", 1)
        c = b.client(V5)
        c.connect("nobody", reason=0x87)
        c = b.client(V5)
        c.connect("wrong", reason=0x87, username="u", password="wrong")
        b.connect(V5, username="u", password="p").ping()
        b.close_clients()
        b.stop()
    finally:
        b.remove()


# ---- limits -------------------------------------------------------------------------------------


@versions()
@broker(listeners=OPEN, limits={"message_rate": 20})
def test_message_rate_holds_back_and_drops_nothing(b, v):
    topic = b.unique("t")
    watch = b.connect(V5)
    watch.subscribe(topic, qos=2)
    c = b.connect(v)
    started = time.monotonic()
    n = 45
    for i in range(n):
        c.send_publish(topic, "%d" % i, qos=i % 3, packet_id=i + 1)
    for i in range(n):
        if i % 3:
            c.expect(PUBACK if i % 3 == 1 else PUBREC, packet_id=i + 1)
    took = time.monotonic() - started
    got = [watch.expect(PUBLISH).payload for _ in range(n)]
    assert sorted(int(x) for x in got) == list(range(n))
    assert took > 1.0, "%d messages at 20 per second in %g s" % (n, took)
    assert b.metric("rate_limited_total") > 0


@broker(listeners=OPEN, limits={"byte_rate": "20k"})
def test_byte_rate_holds_back_and_drops_nothing(b):
    topic = b.unique("t")
    watch = b.connect(V5)
    watch.subscribe(topic, qos=1)
    c = b.connect(V5)
    started = time.monotonic()
    for i in range(45):
        c.send_publish(topic, b"%04d" % i + b"x" * 1000, qos=1, packet_id=i + 1)
    for i in range(45):
        c.expect(PUBACK, packet_id=i + 1)
    assert time.monotonic() - started > 1.0
    for i in range(45):
        assert watch.expect_message().payload[:4] == b"%04d" % i


@broker(listeners=OPEN, limits={"max_queued_messages": 10})
def test_max_queued_messages_keeps_the_oldest_and_counts_the_rest(b):
    name = b.unique("q")
    b.connect(V5, client_id=name, props=DURABLE).subscribe(name, qos=1)
    b.close_clients()
    b.wait_metric("sessions_online", 0)
    before = b.metric("messages_dropped_queue_full_total")
    pub = b.connect(V5)
    for i in range(25):
        pub.publish(name, "%d" % i, qos=1)
    assert b.metric("messages_dropped_queue_full_total") == before + 15
    assert b.metric("queued_messages") == 10
    c = b.connect(V5, client_id=name, clean=False, props=DURABLE)
    for i in range(10):
        c.expect_message(payload="%d" % i)
    c.expect_nothing()
    assert b.metric("queued_messages") == 0


@broker(listeners=OPEN, limits={"max_queued_bytes": "20k"})
def test_max_queued_bytes_is_kept(b):
    name = b.unique("q")
    b.connect(V5, client_id=name, props=DURABLE).subscribe(name, qos=1)
    b.close_clients()
    b.wait_metric("sessions_online", 0)
    pub = b.connect(V5)
    for i in range(30):
        pub.publish(name, "x" * 1000, qos=1)
    assert 10 <= b.metric("queued_messages") <= 20
    assert b.metric("queued_bytes") <= 20480
    assert b.metric("messages_dropped_queue_full_total") >= 10
    c = b.connect(V5, client_id=name, clean=True)
    c.ping()
    b.wait_metric("queued_bytes", 0)


@broker(listeners=OPEN, limits={"max_total_queued_bytes": "1m"})
def test_max_total_queued_bytes_is_kept_over_all_sessions(b):
    for i in range(20):
        b.connect(V5, client_id="total-%d" % i, props=DURABLE).subscribe("total/%d" % i, qos=1)
    b.close_clients()
    b.wait_metric("sessions_online", 0)
    pub = b.connect(V5)
    for i in range(20):
        for _ in range(10):
            pub.publish("total/%d" % i, "x" * 10000, qos=1)
    assert b.metric("queued_bytes") <= (1 << 20)
    assert b.metric("queued_messages") >= 90
    assert b.metric("messages_dropped_queue_full_total") >= 90
    for i in range(20):
        b.connect(V5, client_id="total-%d" % i, clean=True).close()
    b.wait_metric("queued_bytes", 0)


@broker(listeners=OPEN, limits={"retained_max_messages": 5, "retained_max_bytes": "20k"})
def test_retained_limits_are_kept_and_the_publisher_is_told(b):
    c = b.connect(V5)
    for i in range(5):
        assert c.publish("r/%d" % i, "x", qos=1, retain=True) in (0, 0x10)
    assert c.publish("r/5", "x", qos=1, retain=True) == 0x97
    assert c.publish("r/0", "y", qos=1, retain=True) in (0, 0x10)  # replacing is no more
    assert c.publish("r/0", "z" * 30000, qos=1, retain=True) == 0x97  # bytes
    assert b.metric("retained_messages") == 5
    assert b.metric("retained_refused_total") == 2
    s = b.connect(V5)
    s.subscribe("r/0")
    s.expect_message(payload="y")  # the old one is still in place
    assert c.publish("r/1", "", qos=1, retain=True) in (0, 0x10)
    assert c.publish("r/5", "x", qos=1, retain=True) in (0, 0x10)
    old = b.connect(V311)
    old.publish("r/6", "x", qos=1, retain=True)  # 3.x cannot be told: a message like any other
    assert b.metric("retained_messages") == 5


@broker(listeners=OPEN, limits={"max_sessions": 3}, own=True)
def test_max_sessions_counts_sessions_that_are_offline(b):
    for i in range(2):
        b.connect(V5, client_id="kept-%d" % i, props=DURABLE).close()
    b.wait_metric("sessions_online", 0)
    third = b.connect(V5, client_id="third")
    c = b.client(V5)
    c.connect("fourth", reason=0x97)
    c = b.client(V311)
    c.connect("fourth", reason=3)
    b.connect(V5, client_id="kept-0", clean=False, props=DURABLE, session_present=True)
    third.disconnect()
    b.wait_metric("sessions", 2)
    b.connect(V5, client_id="fourth")


@broker(listeners=OPEN, limits={"max_subscriptions": 10, "max_subscriptions_per_client": 6}, own=True)
def test_max_subscriptions_is_kept_in_total_and_per_client(b):
    one = b.connect(V5)
    one.subscribe(["a/%d" % i for i in range(8)], codes=[0] * 6 + [0x97] * 2)
    one.subscribe("a/0", qos=1)  # replacing is no more
    two = b.connect(V5)
    two.subscribe(["b/%d" % i for i in range(6)], codes=[0] * 4 + [0x97] * 2)
    one.unsubscribe("a/0")
    two.subscribe("b/5")
    assert b.metric("subscriptions") == 10


@broker(listeners=OPEN, limits={"max_subscriptions": 10, "max_subscriptions_per_client": 6}, own=True)
def test_shared_subscriptions_count_like_others(b):
    one = b.connect(V5)
    one.subscribe(["$share/g/a/%d" % i for i in range(8)], codes=[0] * 6 + [0x97] * 2)
    two = b.connect(V5)
    two.subscribe(["$share/g/a/%d" % i for i in range(6)], codes=[0] * 4 + [0x97] * 2)
    one.disconnect()
    two.subscribe(["c/0", "c/1"])


# ---- many at once -------------------------------------------------------------------------------


@broker(own=True, listeners=OPEN, workers=3)
def test_take_over_unsubscribe_and_publish_race_without_harm(b):
    """The same client ids from several threads: take-overs, subscriptions that come and go, messages."""
    address = b.address()
    failures = []

    def work(seed):
        rng = random.Random(seed)
        try:
            for i in range(60):
                c = Client(address, rng.choice((V311, V5)))
                try:
                    c.send_raw(wire.connect(c.version, "race-%d" % rng.randrange(4), clean=rng.random() < 0.3,
                                            will=Will("race/will", "x", 1), props=DURABLE))
                    for n in range(rng.randrange(8)):
                        share = rng.choice(("", "$share/g/"))
                        data = rng.choice((
                            wire.subscribe(c.version, n + 1, [Sub(share + "race/#", rng.randrange(3))]),
                            wire.unsubscribe(c.version, n + 1, [share + "race/#"]),
                            wire.publish(c.version, "race/%d" % n, b"x" * rng.choice((10, 5000)), 0),
                            wire.publish(c.version, "race/%d" % n, "x", 1, packet_id=n + 1),
                            wire.publish(c.version, "race/%d" % n, "x", 2, packet_id=n + 1),
                            wire.publish(c.version, "race/r", "x", 1, True, packet_id=n + 1)))
                        c.send_raw(data)
                    end = rng.randrange(4)
                    if end == 0:
                        c.send_raw(b"\xe0\x00")
                    elif end == 1:
                        c.reset()
                    elif end == 2:
                        c.sock.shutdown(socket.SHUT_WR)
                        while c.sock.recv(65536):
                            pass
                except TimeoutError:
                    raise
                except OSError:  # taken over
                    pass
                finally:
                    c.close()
        except Exception as e:  # pylint: disable=broad-except
            failures.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120 * FACTOR)
        assert not t.is_alive(), "a client hangs"
    assert not failures, failures
    still_answers(b)
    b.close_clients()
    b.wait_metric("connections", 0)  # a CONNECT that is read later takes over, although its client has gone
    for i in range(4):
        c = b.connect(V5, client_id="race-%d" % i, clean=True)
        c.ping()
    b.close_clients()
    b.wait_metric("connections", 0)
    b.wait_metric("sessions", 0)
    b.wait_metric("subscriptions", 0)
    b.wait_metric("shared_groups", 0)
    assert b.metric("inflight_messages") == 0
    assert b.metric("queued_messages") == 0


def test_a_take_over_always_completes_and_the_last_one_has_the_session(b):
    name = b.unique("storm")
    for _ in range(5):
        crowd = [b.client(V5) for _ in range(20)]
        for c in crowd:
            c.send_raw(wire.connect(V5, name, clean=False, props=DURABLE))
        b.wait_metric("sessions_online", 1)
        wait_until(lambda: b.metric("connections") == 1, "one connection is left", TIMEOUT)
        alive = 0
        for c in crowd:
            p = c.recv()
            assert p.type == CONNACK and p.reason == 0, p
            p = c.poll(BRIEF / 10)
            if p is None and not c.eof:
                alive += 1
                c.ping()
            else:
                assert p.type == DISCONNECT and p.reason == 0x8E, p
        assert alive == 1
        b.close_clients()


def test_sigterm_under_load_tells_mqtt_5_clients_and_ends_in_time():
    b = Broker(listeners=OPEN, limits={"max_output_bytes": "1m"}, log_level="info")
    try:
        b.start()
        deaf = b.client(V5)
        deaf.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect("deaf", keep_alive=0)
        deaf.subscribe("load/#")
        watch = [b.connect(V5, will=Will("load/will", "x")) for _ in range(20)]
        old = [b.connect(v) for v in (V31, V311)]
        waiting = b.client(V5)
        waiting.send_raw(b"\x10")
        stop = threading.Event()

        def publish(seed):
            c = Client(b.address(), V5)
            c.connect("load-%d" % seed, props=DURABLE)
            data = wire.publish(V5, "load/%d" % seed, "x" * 500) * 20
            try:
                while not stop.is_set():
                    c.send_raw(data)
            except OSError:
                pass
            c.close()

        threads = [threading.Thread(target=publish, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        b.wait_metric("messages_received_total", lambda n: n > 2000)
        b.signal(signal.SIGTERM)
        assert b.wait_exit() == 0  # within 5 s
        stop.set()
        for t in threads:
            t.join(TIMEOUT)
        for c in watch:
            assert c.expect(DISCONNECT).reason == 0x8B
        for c in old:
            c.expect_close()
        b.check_sanitizers()
    finally:
        b.remove()


@broker(own=True, listeners={"mqtt": {"anonymous": True}}, plugins={
    "odd.name-1_x": {"module": "verdict", "client_authenticate": "next"}})
def test_metrics_are_valid_text_whatever_clients_call_themselves(b):
    evil = 'x"\n\\grapnel_forged 1\n'
    c = b.connect(V5, client_id=evil)
    c.subscribe(evil)
    c.publish(evil, "x", retain=True)
    c.expect_message()
    for line in b.ctl("metrics").stdout.splitlines():
        assert line.startswith("# ") or len(line.rsplit(" ", 1)) == 2, line
        assert not line.startswith("grapnel_forged"), line
        if not line.startswith("#"):
            float(line.rsplit(" ", 1)[1])
            head = line.rsplit(" ", 1)[0]
            assert head.count('"') % 2 == 0 and "evil" not in head, line
