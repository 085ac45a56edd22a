# SPDX-License-Identifier: Apache-2.0
"""What waits for the disk, and what does not: with a disk whose fsync takes until the test lets it end (lib/disk.py)."""
from lib.case import each
from lib.durable import DURABLE, FOREVER, kept
from lib.mqtt import *  # noqa: F401,F403


def held(durability="strict", **store):
    """One worker, so that what waits is in one batch."""
    return kept(durability, store, workers=1)


def test_puback_waits_for_the_disk_and_online_receivers_do_not():
    with held() as b:
        b.durable("offline", "a/#").disconnect()
        online, publisher = b.connect(V5), b.connect(V5)
        online.subscribe("a/#", 1)
        b.hold()
        publisher.send_publish("a/b", "at once", qos=1)
        online.expect_message("a/b", "at once")
        publisher.expect_nothing()
        b.let_go()
        publisher.expect(PUBACK, reason=0)


def test_puback_does_not_wait_when_all_that_are_kept_have_it():
    with held() as b:
        receiver, publisher = b.durable("receiver", "a/#"), b.connect(V5)
        b.hold()
        publisher.send_publish("a/b", "quick", qos=1)
        p = receiver.expect(PUBLISH, payload=b"quick")
        publisher.expect_nothing()
        receiver.puback(p.packet_id)
        publisher.expect(PUBACK, reason=0)


def test_acknowledgements_leave_in_the_order_of_the_packets():
    with held() as b:
        b.durable("offline", "a/#").disconnect()
        publisher = b.connect(V5)
        b.hold()
        ids = [publisher.send_publish("a/b", "waits", qos=1), publisher.send_publish("nobody", "does not", qos=1)]
        publisher.expect_nothing()
        b.let_go()
        for packet_id in ids:
            publisher.expect(PUBACK, packet_id=packet_id)


def test_qos_2_of_a_session_that_is_kept_is_routed_when_its_identifier_is_on_the_disk():
    with held() as b:
        online, publisher = b.connect(V5), b.durable("publisher")
        online.subscribe("a/#", 2)
        b.hold()
        packet_id = publisher.send_publish("a/b", "once", qos=2)
        online.expect_nothing()
        publisher.expect_nothing()
        b.let_go()
        publisher.expect(PUBREC, packet_id=packet_id, reason=0)
        online.expect_message("a/b", "once", qos=2)


def test_qos_2_to_a_session_that_is_kept_is_sent_when_its_identifier_is_on_the_disk():
    with held() as b:
        receiver, publisher = b.durable("receiver", "a/#", 2), b.connect(V5)
        b.hold()
        publisher.send_publish("a/b", "once", qos=2)
        receiver.expect_nothing()
        b.let_go()
        receiver.expect_message("a/b", "once", qos=2)


def test_a_release_is_on_the_disk_before_pubcomp():
    with held() as b:
        publisher = b.durable("publisher")
        packet_id = publisher.send_publish("a/b", "x", qos=2)
        publisher.expect(PUBREC, packet_id=packet_id)
        b.hold()
        publisher.pubrel(packet_id)
        publisher.expect_nothing()
        b.let_go()
        publisher.expect(PUBCOMP, packet_id=packet_id, reason=0)


def test_a_session_and_its_subscriptions_are_on_the_disk_before_it_is_told():
    with held() as b:
        there = b.durable("there", "old")
        b.hold()
        c = b.client(V5)
        c.send_connect("new", clean=False, props=DURABLE)
        assert c.poll(BRIEF) is None and not c.eof, "CONNACK before the disk has the session"
        there.send_subscribe("new/#", 1)
        there.send_raw(P.unsubscribe(V5, there.next_id(), ["old"]))
        there.expect_nothing()
        b.connect(V5).subscribe("a", 1)  # what is not kept does not wait
        b.let_go()
        c.expect(CONNACK, reason=0)
        there.expect(SUBACK)
        there.expect(UNSUBACK)


def test_relaxed_acknowledges_before_the_disk_has_it_and_keeps_it_soon():
    with held("relaxed") as b:
        b.durable("offline", "a/#").disconnect()
        b.close_clients()
        b.stop()  # this is kept
        b.start()
        publisher = b.connect(V5)
        b.disk.slow(FOREVER)
        assert publisher.publish("a/b", "at risk", qos=1) == 0
        b.lose_power()
        c = b.connect(V5, "offline", clean=False, props=DURABLE)
        assert c.connack.session_present
        c.expect_nothing()
        c.disconnect()
        assert b.connect(V5).publish("a/b", "kept", qos=1) == 0
        b.close_clients()
        b.stop()
        b.disk.cut()
        b.start()
        b.connect(V5, "offline", clean=False, props=DURABLE).expect_message("a/b", "kept")


KINDS = {
    "strict but": {"durability": "strict", "off_topics": ["gone/#"]},
    "off but": {"durability": "off", "strict_topics": ["kept/#"]},
    "relaxed but": {"durability": "relaxed", "strict_topics": ["kept/#"], "off_topics": ["gone/#"]},
}


@each(kind=tuple(KINDS))
def test_topics_have_a_durability_of_their_own(kind):
    with held(**KINDS[kind]) as b:
        b.durable("offline", ["kept/#", "gone/#"]).disconnect()
        with b.connect(V5) as p:
            for topic in ("gone/x", "kept/x"):
                assert p.publish(topic, "queued", qos=1) == 0
                assert p.publish(topic, "retained", qos=1, retain=True) == 0
        b.lose_power()
        c = b.connect(V5, "offline", clean=False, props=DURABLE)
        assert c.connack.session_present, "the session is gone"
        for payload in ("queued", "retained"):
            c.expect_message("kept/x", payload)
        c.expect_nothing()
        c = b.connect(V5)
        c.subscribe(["kept/#", "gone/#"])
        c.ping()
        assert [(p.topic, p.payload) for p in c.put_aside] == [("kept/x", b"retained")], c.put_aside
