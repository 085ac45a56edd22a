# SPDX-License-Identifier: Apache-2.0
"""Faults of the core that a review found, each with the test that would have shown it."""
import time

from lib import wire
from lib.broker import FACTOR
from lib.case import broker, versions
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import MIB, memory, slack
from lib.wire import Sub, Will

BROKER = {"listeners": {"mqtt": {"anonymous": True}}}
OPEN = {"mqtt": {"anonymous": True}}
DURABLE = [(SESSION_EXPIRY, 300)]


def test_a_will_that_waits_is_forgotten_by_the_next_connect_and_its_own_will_counts(b):
    # The one that waited was not released: a sanitizer sees that when the broker stops.
    topic, name = b.unique("will"), b.unique("c")
    watch = b.connect(V5)
    watch.subscribe(topic)
    for i in range(3):
        c = b.connect(V5, name, clean=False, props=DURABLE,
                      will=Will(topic, "will %d" % i, props=[(WILL_DELAY, 200)]))
        c.close()
    c = b.connect(V5, name, clean=False, props=DURABLE, will=Will(topic, "last"))
    watch.expect_nothing()
    c.close()
    watch.expect_message(topic=topic, payload="last")


@versions(3, 4, 5)
def test_a_qos_2_message_sent_twice_in_one_write_is_routed_once(b, v):
    topic = b.unique("t")
    watch, c = b.connect(V5), b.connect(v)
    watch.subscribe(topic, qos=1)
    one = wire.publish(v, topic, "once", qos=2, packet_id=7)
    c.send_raw(one + one)
    c.expect(PUBREC, packet_id=7)
    c.expect(PUBREC, packet_id=7)
    watch.expect_message(topic=topic, payload="once")
    watch.expect_nothing()


def in_flight(b, name, topic, count, qos=1, size=10):
    """A session with that many messages that were sent and not acknowledged."""
    c = b.connect(V5, name, clean=False, props=DURABLE)
    c.subscribe(topic, qos=qos)
    p = b.connect(V5)
    for i in range(count):
        p.publish(topic, ("%d " % i).ljust(size, "."), qos=qos)
    for i in range(count):
        c.expect(PUBLISH, topic=topic)
    c.close()


def test_what_is_sent_again_keeps_to_a_receive_maximum_that_became_smaller(b):
    topic, name = b.unique("t"), b.unique("c")
    in_flight(b, name, topic, 20)
    c = b.connect(V5, name, clean=False, props=DURABLE + [(RECEIVE_MAXIMUM, 3)])
    for i in range(20):  # the client itself complains when there are more than three
        p = c.expect(PUBLISH, topic=topic, dup=True)
        assert p.payload.startswith(b"%d " % i), p
        if i % 3 == 2:
            c.expect_nothing()
            for packet_id in list(c.in_flight):
                c.puback(packet_id)
    b.connect(V5).publish(topic, "new", qos=1)
    c.expect(PUBLISH, topic=topic, payload="new", dup=False)


def test_what_is_sent_again_keeps_to_a_maximum_packet_size_that_became_smaller(b):
    topic, name = b.unique("t"), b.unique("c")
    in_flight(b, name, topic, 5, size=500)
    c = b.connect(V5, name, clean=False,
                  props=DURABLE + [(MAXIMUM_PACKET_SIZE, 200), (RECEIVE_MAXIMUM, 5)])
    p = b.connect(V5)
    for i in range(5):  # what did not fit does not use up the window
        p.publish(topic, "%d" % i, qos=1)
    for i in range(5):
        c.expect(PUBLISH, topic=topic, payload="%d" % i, dup=False)


@broker(listeners=OPEN, limits={"receive_maximum": 4}, plugins={"acker": {"hold": "300ms"}})
def test_a_pubrec_that_a_plugin_holds_counts_once_against_receive_maximum(b):
    c = b.connect(V5)
    topic = b.unique("t")
    c.send_publish(topic, "1", qos=2, packet_id=1)
    c.send_publish(topic, "2", qos=2, packet_id=2)
    time.sleep(0.05)
    c.send_publish(topic, "3", qos=2, packet_id=3)
    c.send_publish(topic, "3", qos=2, packet_id=3, dup=True)  # its answer is still to come: one
    for i in (1, 2, 3):
        c.expect(PUBREC, packet_id=i)
    c.expect_nothing()


@broker(own=True, listeners={"mqtt": {"anonymous": True, "connect_timeout": "60s"}})
def test_connections_that_were_never_written_to_leave_no_memory_behind(b):
    half = wire.connect(V5, "x", username="u" * 50000)[:40000]
    b.connect(V5).ping()
    before = memory(b)
    for i in range(600):
        c = b.client(V5)
        c.send_raw(half)
        c.close()
    time.sleep(0.5 * FACTOR)
    assert memory(b) - before < 8 * MIB + slack(b), (before, memory(b))


def test_many_filters_in_one_packet_do_not_hold_up_other_clients(b):
    topic = b.unique("m")
    filters = ["%s/%d" % (topic, i) for i in range(30000)]
    c, other = b.connect(V5), b.connect(V5)
    c.sock.settimeout(60 * FACTOR)
    for data, answer in ((wire.subscribe(V5, 1, [Sub(f) for f in filters]), SUBACK),
                         (wire.unsubscribe(V5, 2, filters[::-1]), UNSUBACK),
                         (wire.subscribe(V5, 3, [Sub(f) for f in filters]), SUBACK)):
        c.send_raw(data)
        slowest = 0
        while (p := c.poll(0.01)) is None:
            began = time.monotonic()
            other.ping()
            slowest = max(slowest, time.monotonic() - began)
        assert p.type == answer, p
        assert slowest < 1 * FACTOR, slowest


def test_a_burst_of_small_packets_is_answered_to_the_last(b):
    # More than a connection may have handled in one turn, several times over.
    c = b.connect(V5)
    c.send_raw(wire.packet(PINGREQ, 0, b"") * 5000)
    for i in range(5000):
        c.expect(PINGRESP)
    topic = b.unique("t")
    c.subscribe(topic)
    c.send_raw(b"".join(wire.publish(V5, topic, "%d" % i, qos=1, packet_id=i % 60000 + 1)
                        for i in range(3000)))
    got = 0
    while got < 3000:
        p = c.recv()
        if p.type == PUBLISH:
            assert p.payload == b"%d" % got
            got += 1


def test_a_large_packet_in_small_pieces_arrives_whole_with_what_follows_it(b):
    c = b.connect(V5)
    topic = b.unique("t")
    c.subscribe(topic)
    payload = bytes(i * 7 % 251 for i in range(200000))
    data = wire.publish(V5, topic, payload) + wire.publish(V5, topic, "next") + b"\xc0\x00"
    for i in range(0, len(data), 977):
        c.send_raw(data[i:i + 977])
    c.expect(PUBLISH, topic=topic, payload=payload)
    c.expect(PUBLISH, topic=topic, payload=b"next")
    c.expect(PINGRESP)
