# SPDX-License-Identifier: Apache-2.0
"""PUBLISH both ways: the three QoS levels, resending, identifiers, order, flow control."""
from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403

EXPIRY = [(SESSION_EXPIRY, 300)]


def keep(b, v, client_id, props=(), **options):
    return b.connect(v, client_id, clean=False, props=(EXPIRY if v == V5 else []) + list(props),
                     **options)


# ---- QoS ------------------------------------------------------------------------------------------

@each(v=ALL, to=ALL, qos=(0, 1, 2), granted=(0, 1, 2))
def test_a_message_arrives_with_the_lower_qos_of_both(b, v, to, qos, granted):
    topic = b.unique("qos")
    s, p = b.connect(to), b.connect(v)
    s.subscribe(topic, qos=granted)
    p.publish(topic, "payload", qos=qos)
    s.expect_message(topic, "payload", qos=min(qos, granted), retain=False, dup=False)
    s.expect_nothing(0.01)


@versions()
def test_a_client_gets_its_own_messages(b, v):
    topic = b.unique("own")
    c = b.connect(v)
    c.subscribe(topic, qos=2)
    for qos in (0, 1, 2):
        c.publish(topic, "own", qos=qos)
        c.expect_message(topic, "own", qos=qos)


@versions()
def test_a_qos_2_identifier_sent_again_is_answered_and_delivered_once(b, v):
    topic = b.unique("once")
    s, p = b.connect(V5), b.connect(v)
    s.subscribe(topic, qos=2)
    for _ in range(20):
        p.send_publish(topic, "once", qos=2, packet_id=77, dup=True)
        p.expect(PUBREC, packet_id=77, reason=0)
    s.expect_message(topic, "once")
    s.expect_nothing()
    p.pubrel(77)
    p.expect(PUBCOMP, packet_id=77, reason=0)
    assert p.publish(topic, "again", qos=2, packet_id=77) == 0
    s.expect_message(topic, "again")


@versions()
def test_a_qos_2_identifier_is_remembered_across_connections(b, v):
    name, topic = b.unique("c"), b.unique("across")
    s, p = b.connect(V5), keep(b, v, name)
    s.subscribe(topic, qos=2)
    p.send_publish(topic, "once", qos=2, packet_id=5)
    p.expect(PUBREC, packet_id=5)
    p.reset()
    p = keep(b, v, name, session_present=True)
    p.send_publish(topic, "once", qos=2, packet_id=5, dup=True)
    p.expect(PUBREC, packet_id=5, reason=0)
    p.pubrel(5)
    p.expect(PUBCOMP, packet_id=5, reason=0)
    s.expect_message(topic, "once")
    s.expect_nothing()


@versions()
def test_a_pubrel_of_an_unknown_identifier_is_answered(b, v):
    c = b.connect(v)
    c.pubrel(99)
    c.expect(PUBCOMP, packet_id=99, reason=0x92 if v == V5 else 0)


def test_acknowledgements_say_when_nobody_has_subscribed(b):
    c = b.connect(V5)
    topic = b.unique("nobody")
    assert c.publish(topic, "x", qos=1) == 0x10
    assert c.publish(topic, "x", qos=2) == 0x10
    c.subscribe(topic + "/#", qos=0)
    assert c.publish(topic, "x", qos=1) == 0
    c.expect_message(topic)


def test_unknown_acknowledgements_do_no_harm(b):
    for v in ALL:
        c = b.connect(v)
        c.puback(4711)
        c.pubcomp(4711)
        c.pubrec(4711)
        if v == V5:
            c.expect(PUBREL, packet_id=4711, reason=0x92)
        else:
            p = c.poll(0.1)
            assert p is None or p.type == PUBREL, p
        c.ping()


def test_a_pubrec_with_an_error_ends_the_message(b):
    topic = b.unique("err")
    name = b.unique("c")
    s, p = keep(b, V5, name), b.connect(V5)
    s.subscribe(topic, qos=2)
    p.publish(topic, "x", qos=2)
    m = s.expect(PUBLISH, qos=2)
    s.pubrec(m.packet_id, 0x83)
    s.expect_nothing()
    s.disconnect()
    keep(b, V5, name, session_present=True).expect_nothing()


def test_a_puback_with_an_error_ends_the_message(b):
    topic = b.unique("err")
    name = b.unique("c")
    s, p = keep(b, V5, name), b.connect(V5)
    s.subscribe(topic, qos=1)
    p.publish(topic, "x", qos=1)
    s.puback(s.expect(PUBLISH, qos=1).packet_id, 0x80, [(REASON_STRING, "no")])
    s.disconnect()
    keep(b, V5, name, session_present=True).expect_nothing()


def test_nothing_is_sent_again_on_a_connection_that_stays(b):
    topic = b.unique("patience")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=2)
    p.publish(topic, "1", qos=1)
    p.publish(topic, "2", qos=2)
    s.expect(PUBLISH, payload="1")
    m = s.expect(PUBLISH, payload="2")
    s.pubrec(m.packet_id)
    s.expect(PUBREL, packet_id=m.packet_id)
    s.expect_nothing(1.2)


# ---- resending ------------------------------------------------------------------------------------

@versions()
def test_unacknowledged_messages_are_resent_in_order_with_their_identifiers(b, v):
    name, topic = b.unique("resend"), b.unique("resend/t")
    s, p = keep(b, v, name), b.connect(V5)
    s.subscribe(topic, qos=2)
    sent = []
    for n in range(10):
        p.publish(topic, "message %d" % n, qos=n % 2 + 1)
        sent.append(s.expect(PUBLISH, payload="message %d" % n, qos=n % 2 + 1, dup=False))
    s.puback(sent[2].packet_id)
    s.ping()
    s.reset()
    b.wait_log('client "%s" .*closed' % name)  # else it may be sent into the broken connection
    p.publish(topic, "later", qos=1)
    for _ in range(2):
        s = keep(b, v, name, session_present=True)
        for n in [n for n in range(10) if n != 2]:
            s.expect(PUBLISH, payload="message %d" % n, dup=True, packet_id=sent[n].packet_id,
                     qos=n % 2 + 1)
        if _ == 0:
            s.expect(PUBLISH, payload="later", dup=False)
            s.reset()


@versions()
def test_a_pubrel_without_pubcomp_is_resent(b, v):
    name, topic = b.unique("rel"), b.unique("rel/t")
    s, p = keep(b, v, name), b.connect(V5)
    s.subscribe(topic, qos=2)
    p.publish(topic, "1", qos=2)
    p.publish(topic, "2", qos=2)
    one, two = s.expect(PUBLISH, payload="1"), s.expect(PUBLISH, payload="2")
    s.pubrec(one.packet_id)
    s.expect(PUBREL, packet_id=one.packet_id)
    s.reset()
    s = keep(b, v, name, session_present=True)
    got = [s.recv(), s.recv()]
    assert sorted((p.type, p.packet_id) for p in got) == sorted(
        [(PUBREL, one.packet_id), (PUBLISH, two.packet_id)]), got
    assert [p.dup for p in got if p.type == PUBLISH] == [True]
    s.pubcomp(one.packet_id)
    s.pubrec(two.packet_id)
    s.expect(PUBREL, packet_id=two.packet_id)
    s.pubcomp(two.packet_id)
    s.expect_nothing(0.01)
    s.disconnect()
    keep(b, v, name, session_present=True).expect_nothing(0.05)


def test_identifiers_are_not_reused_while_unacknowledged(b):
    topic = b.unique("ids")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=1)
    stuck = []
    for n in range(20):
        p.publish(topic, "stuck", qos=1)
        stuck.append(s.expect(PUBLISH).packet_id)
    assert len(set(stuck)) == 20
    # Once around all 65,535 identifiers: the client itself watches for one that is still in use.
    for start in range(0, 66000, 250):
        p.send_raw(b"".join(wire.publish(V5, topic, b"x", 1, packet_id=n + 1) for n in range(250)))
        acks = bytearray()
        for n in range(250):
            m = s.expect(PUBLISH)
            assert m.packet_id not in stuck
            s.in_flight.pop(m.packet_id)
            acks += wire.ack(V5, PUBACK, m.packet_id)
        s.send_raw(acks)
        for n in range(250):
            p.expect(PUBACK, packet_id=n + 1, reason=0)


# ---- order ----------------------------------------------------------------------------------------

@each(v=(V311, V5), qos=(0, 1, 2))
def test_messages_of_a_publisher_arrive_in_order(b, v, qos):
    topic = b.unique("order")
    publishers = [b.connect(v) for _ in range(4)]
    subscribers = [b.connect(w) for w in (V311, V5, V5)]
    for s in subscribers:
        s.subscribe(topic + "/#", qos=qos)
    count = 120
    for n, p in enumerate(publishers):
        p.send_raw(b"".join(
            wire.publish(v, "%s/%d" % (topic, n), b"%d" % i, qos, packet_id=i + 1)
            for i in range(count)))
    for s in subscribers:
        nexts = [0] * len(publishers)
        for _ in range(count * len(publishers)):
            while True:
                m = s.recv()
                if m.type != PUBREL:
                    break
                s.pubcomp(m.packet_id)
            assert m.type == PUBLISH and m.qos == qos, m
            n = int(m.topic.rsplit("/", 1)[1])
            assert int(m.payload) == nexts[n], (m, nexts)
            nexts[n] += 1
            if qos == 1:
                s.puback(m.packet_id)
            elif qos == 2:
                s.pubrec(m.packet_id)
    for p in publishers:
        if qos:
            for i in range(count):
                p.expect(PUBACK if qos == 1 else PUBREC, packet_id=i + 1, reason=0)


@versions()
def test_acknowledgements_come_in_the_order_of_the_packets(b, v):
    c = b.connect(v)
    topic = b.unique("acks")
    data, wanted = b"", []
    for i in range(1, 101):
        if i % 5 == 0:
            data += wire.subscribe(v, i, [Sub(topic + "/%d" % i)])
            wanted.append((SUBACK, i))
        elif i % 7 == 0:
            data += wire.unsubscribe(v, i, [topic + "/%d" % i])
            wanted.append((UNSUBACK, i))
        else:
            data += wire.publish(v, topic, b"x", i % 2 + 1, packet_id=i)
            wanted.append((PUBACK if i % 2 == 0 else PUBREC, i))
    c.send_raw(data)
    got = [c.recv() for _ in wanted]
    assert [(p.type, p.packet_id) for p in got] == wanted


# ---- flow control ---------------------------------------------------------------------------------

@each(maximum=(1, 3), qos=(1, 2))
def test_no_more_than_the_clients_receive_maximum_is_in_flight(b, maximum, qos):
    topic = b.unique("flow")
    s = b.connect(V5, props=[(RECEIVE_MAXIMUM, maximum)])
    p = b.connect(V5)
    s.subscribe(topic, qos=2)
    for n in range(10):
        p.publish(topic, str(n), qos=qos)
    held = [s.expect(PUBLISH, payload=str(n)) for n in range(maximum)]
    s.expect_nothing()
    p.publish(topic, "zero", qos=0)
    s.expect(PUBLISH, payload="zero", qos=0)  # QoS 0 is not held back [MQTT-3.3.4-9 allows]
    for n in range(maximum, 10):
        s.acknowledge(held.pop(0))
        held.append(s.expect(PUBLISH, payload=str(n)))
    s.expect_nothing(0.01)


@broker(limits={"max_inflight": 2})
def test_max_inflight_holds_for_3_1_1_too(b):
    topic = b.unique("flow")
    s, p = b.connect(V311), b.connect(V5)
    s.subscribe(topic, qos=1)
    for n in range(5):
        p.publish(topic, str(n), qos=1)
    held = [s.expect(PUBLISH, payload=str(n)) for n in range(2)]
    s.expect_nothing()
    for n in range(2, 5):
        s.acknowledge(held.pop(0))
        held.append(s.expect(PUBLISH, payload=str(n)))


def test_a_pubrec_without_pubcomp_still_counts_against_receive_maximum(b):
    topic = b.unique("half")
    s, p = b.connect(V5, props=[(RECEIVE_MAXIMUM, 1)]), b.connect(V5)
    s.subscribe(topic, qos=2)
    p.publish(topic, "1", qos=2)
    p.publish(topic, "2", qos=2)
    m = s.expect(PUBLISH, payload="1")
    s.pubrec(m.packet_id)
    s.expect(PUBREL)
    s.expect_nothing()
    s.pubcomp(m.packet_id)
    s.expect(PUBLISH, payload="2")


@broker(limits={"receive_maximum": 4})
def test_more_than_the_brokers_receive_maximum_is_refused_with_0x93(b):
    c = b.connect(V5)
    assert c.connack.prop(RECEIVE_MAXIMUM) == 4
    for n in range(1, 5):
        c.send_publish(b.unique("t"), "x", qos=2, packet_id=n)
        c.expect(PUBREC, packet_id=n)
    c.send_publish("t", "x", qos=2, packet_id=5)
    c.expect_close(0x93)


@broker(limits={"receive_maximum": 4})
def test_an_identifier_that_is_under_way_already_does_not_count_twice(b):
    c = b.connect(V5)
    for n in (1, 2, 3, 4, 1, 2, 3, 4):
        c.send_publish("t", "x", qos=2, packet_id=n)
        c.expect(PUBREC, packet_id=n)
    for n in (1, 2, 3, 4):
        c.pubrel(n)
        c.expect(PUBCOMP, packet_id=n)
    c.ping()


@broker(limits={"receive_maximum": 4})
def test_qos_1_that_is_answered_at_once_never_reaches_receive_maximum(b):
    for v in ALL:
        c = b.connect(v)
        c.send_raw(b"".join(wire.publish(v, "t", b"x", 1, packet_id=n) for n in range(1, 101)))
        for n in range(1, 101):
            c.expect(PUBACK, packet_id=n)


# ---- sizes ----------------------------------------------------------------------------------------

@versions()
def test_a_message_of_1_mib_goes_through(b, v):
    topic = b.unique("large")
    s, p = b.connect(v), b.connect(v)
    s.subscribe(topic, qos=1)
    head = len(wire.publish(v, topic, b"", 1, packet_id=1))
    payload = bytes(range(256)) * 4096
    payload = payload[:(1 << 20) - head - 2]
    assert len(wire.publish(v, topic, payload, 1, packet_id=1)) == 1 << 20
    p.publish(topic, payload, qos=1)
    assert s.expect_message(topic, qos=1).payload == payload


@versions()
def test_a_packet_above_max_packet_size_is_refused_with_0x95(b, v):
    topic = b.unique("larger")
    p = b.connect(v)
    head = len(wire.publish(v, topic, b"", 0))
    data = wire.publish(v, topic, b"x" * ((1 << 20) - head - 1), 0)
    assert len(data) == (1 << 20) + 1
    try:
        p.send_raw(data)
    except OSError:
        pass
    p.expect_close(0x95)


def test_only_the_announcement_of_a_large_packet_is_refused(b):
    c = b.connect(V5)
    c.send_raw(b"\x30\xff\xff\xff\x7f")
    c.expect_close(0x95)


@broker(limits={"max_packet_size": 200})
def test_max_packet_size_is_told_and_kept(b):
    c = b.connect(V5)
    assert c.connack.prop(MAXIMUM_PACKET_SIZE) == 200
    c.publish("a", "x" * 150)
    c.ping()
    c.send_publish("a", "x" * 200)
    c.expect_close(0x95)


def test_messages_above_the_clients_maximum_packet_size_are_not_sent(b):
    topic = b.unique("small")
    s, p = b.connect(V5, props=[(MAXIMUM_PACKET_SIZE, 100)]), b.connect(V5)
    s.subscribe(topic, qos=1)
    before = b.metric("messages_dropped_too_large_total")
    for qos in (0, 1, 2):
        p.publish(topic, "x" * 100, qos=qos)
        p.publish(topic, "fits", qos=qos)
        s.expect_message(topic, "fits")
    s.expect_nothing()
    assert b.metric("messages_dropped_too_large_total") == before + 3


def test_a_message_that_is_too_large_does_not_block_the_queue(b):
    name, topic = b.unique("block"), b.unique("small")
    s = keep(b, V5, name)
    s.subscribe(topic, qos=1)
    s.disconnect()
    p = b.connect(V5)
    for payload in ("one", "x" * 1000, "two"):
        p.publish(topic, payload, qos=1)
    s = keep(b, V5, name, props=[(MAXIMUM_PACKET_SIZE, 100)], session_present=True)
    s.expect_message(topic, "one")
    s.expect_message(topic, "two")
    s.expect_nothing(0.01)


@versions()
def test_packets_that_come_byte_by_byte_are_understood(b, v):
    topic = b.unique("bytes")
    c = b.connect(v)
    data = (wire.subscribe(v, 3, [Sub(topic, 2)]) + wire.publish(v, topic, b"hello", 1, packet_id=4) +
            wire.publish(v, topic, b"x" * 200, 0) + b"\xc0\x00")
    for byte in data:
        c.send_raw(bytes([byte]))
    c.expect(SUBACK, packet_id=3, codes=[2])
    got = [c.recv() for _ in range(4)]
    assert sorted(p.type for p in got) == sorted([PUBLISH, PUBACK, PUBLISH, PINGRESP]), got
    assert [p.payload for p in got if p.type == PUBLISH] == [b"hello", b"x" * 200]


@versions()
def test_many_packets_in_one_write_are_all_handled(b, v):
    topic = b.unique("bulk")
    s, p = b.connect(v), b.connect(v)
    s.subscribe(topic)
    p.send_raw(b"".join(wire.publish(v, topic, b"%d" % n) for n in range(5000)))
    for n in range(5000):
        s.expect(PUBLISH, payload=str(n))


def test_an_empty_payload_is_a_message(b):
    for v in ALL:
        topic = b.unique("empty")
        c = b.connect(v)
        c.subscribe(topic, qos=1)
        c.publish(topic, b"", qos=1)
        c.expect_message(topic, b"", qos=1)


@broker(limits={"message_rate": 20})
def test_message_rate_slows_down_and_drops_nothing(b):
    topic = b.unique("rate")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=1)
    p.send_raw(b"".join(wire.publish(V5, topic, b"%d" % n, 1, packet_id=n + 1) for n in range(50)))
    for n in range(50):
        s.expect_message(topic, str(n))
    for n in range(50):
        p.expect(PUBACK, packet_id=n + 1)
    assert b.metric("rate_limited_total") > 0
    s.ping()


@broker(limits={"byte_rate": "20k"})
def test_byte_rate_slows_down_and_drops_nothing(b):
    topic = b.unique("rate")
    s, p = b.connect(V5), b.connect(V5)
    s.subscribe(topic, qos=0)
    p.send_raw(b"".join(wire.publish(V5, topic, b"%04d" % n + b"x" * 1000) for n in range(40)))
    for n in range(40):
        assert s.expect(PUBLISH).payload[:4] == b"%04d" % n
    assert b.metric("rate_limited_total") > 0
