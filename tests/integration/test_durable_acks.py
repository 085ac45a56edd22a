# SPDX-License-Identifier: Apache-2.0
"""Acknowledgements and the disk: their order, who waits for it, what is said when it fails, and clients that do not wait."""
import os

from lib import wire
from lib.case import each, versions
from lib.durable import DURABLE, drain, kept
from lib.hooks import Events
from lib.mqtt import *  # noqa: F401,F403

OFF = {"off_topics": ["gone/#"]}
# Some wait for the disk: "waits" has a durable receiver that is away, retained ones are kept.
MIXED = [("waits", 1, False), ("nobody", 1, False), ("gone/x", 1, True), ("waits", 2, False), ("nobody", 2, False),
         ("kept/1", 1, True), ("gone/x", 2, False), ("online", 1, False), ("kept/2", 2, True), ("nobody", 1, False),
         ("waits", 1, True), ("online", 2, False)]


def send_mixed(c):
    """@return what must come, in this order: [(type, packet identifier)]."""
    return [(PUBACK if qos == 1 else PUBREC, c.send_publish(topic, "x", qos, retain)) for topic, qos, retain in MIXED]


def expect_all(c, wanted):
    got = [(p.type, p.packet_id) for p in (c.recv() for _ in wanted)]
    assert got == wanted, "%r, not %r" % (got, wanted)


# ---- order ------------------------------------------------------------------------------------------------

@each(v=ALL, durable=(False, True))
def test_acknowledgements_leave_in_the_order_of_their_packets(v, durable):
    with kept(store=OFF) as b:
        b.asleep("away", ["waits", "gone/#"], 2)
        online = b.connect(V5)
        online.subscribe("online", 1)
        c = b.durable("publisher", v=v) if durable else b.connect(v)
        released = [c.send_publish("nobody", "before", qos=2) for _ in range(2)]
        for packet_id in released:
            c.expect(PUBREC, packet_id=packet_id)
        b.hold()
        wanted = [(PUBACK, c.send_publish("waits", "first", qos=1))]
        c.pubrel(released[0])
        wanted.append((PUBCOMP, released[0]))
        wanted += send_mixed(c)
        c.pubrel(released[1])
        wanted.append((PUBCOMP, released[1]))
        wanted.append((PUBACK, c.send_publish("nobody", "last", qos=1)))
        c.expect_nothing()
        b.let_go()
        expect_all(c, wanted)
        for kind, packet_id in wanted:
            if kind == PUBREC:
                c.pubrel(packet_id)
                c.expect(PUBCOMP, packet_id=packet_id)


@each(hold=("0ms", "60ms"))
def test_acknowledgements_that_a_plugin_holds_keep_their_order_too(hold):
    with kept(store=OFF, plugins={"acker": {"hold": hold, "deny_topic": "bad/*"}}) as b:
        b.asleep("away", ["waits", "bad/x"], 2)
        b.connect(V5).subscribe("online", 1)
        c = b.connect(V5)
        b.hold()
        wanted = [(PUBACK, c.send_publish("bad/x", "x", qos=1))]
        wanted += send_mixed(c)
        wanted.append((PUBREC, c.send_publish("bad/x", "x", qos=2)))
        wanted.append((PUBACK, c.send_publish("nobody", "x", qos=1)))
        c.expect_nothing()
        b.let_go()
        got = [c.recv() for _ in wanted]
        assert [(p.type, p.packet_id) for p in got] == wanted, got
        assert [i for i, p in enumerate(got) if p.reason >= 0x80] == [0, len(got) - 2], got
        assert got[0].reason == got[-2].reason == 0x83, got


# ---- who waits, and for whom ---------------------------------------------------------------------------------

@each(qos=(1, 2))
def test_it_is_enough_when_all_that_are_kept_have_acknowledged(qos):
    with kept() as b:
        receivers = [b.durable("r%d" % i, "a", 1) for i in range(5)]  # on both workers
        c = b.connect(V5)
        spared = b.metric("store_spared_total")
        b.hold()
        packet_id = c.send_publish("a", "x", qos)
        packets = [r.expect(PUBLISH, payload=b"x") for r in receivers]
        for r, p in zip(receivers[:-1], packets):
            r.puback(p.packet_id)
            r.ping()
        c.expect_nothing()
        receivers[-1].puback(packets[-1].packet_id)
        c.expect(PUBACK if qos == 1 else PUBREC, packet_id=packet_id, reason=0)
        assert b.metric("store_spared_total") > spared, "it is to be written all the same"


def test_those_who_are_connected_go_on_when_the_disk_fails():
    with kept() as b:
        receiver, c = b.durable("receiver", "a", 1), b.connect(V5)
        b.fail()
        receiver.ping()  # now the workers know it, too
        c.ping()
        for i in range(50):
            packet_id = c.send_publish("a", "%d" % i, qos=1)
            receiver.expect_message("a", "%d" % i)
            c.expect(PUBACK, packet_id=packet_id, reason=0)
        b.work()


@versions()
def test_nothing_waits_for_sessions_that_end_with_their_connection(v):
    with kept() as b:
        b.hold()
        c, receiver = b.connect(v), b.connect(v)
        receiver.subscribe(["a/#", "$share/g/s"] if v == V5 else "a/#", 2)
        for qos in (0, 1, 2):
            assert c.publish("a/b", "qos %d" % qos, qos) == 0
            receiver.expect_message("a/b", "qos %d" % qos, qos=qos)
        receiver.unsubscribe("a/#")
        if v == V5:
            b.connect(v, "expires with it", clean=False, props=[(SESSION_EXPIRY, 0)]).disconnect()


@versions()
def test_connack_suback_and_unsuback_of_a_session_that_is_kept_wait(v):
    with kept() as b:
        b.asleep("old", "a", v=v)
        there = b.durable("there", "old", v=v)
        b.hold()
        waiting = []
        for name, clean in (("new", False), ("old", False)):
            c = b.client(v)
            c.send_connect(name, clean=clean, props=DURABLE if v == V5 else ())
            waiting.append(c)
        waiting.append(b.client(v))
        waiting[-1].send_connect("there too", clean=v != V5, props=())  # 3.x: ends with it; 5.0: too
        waiting.pop().expect(CONNACK, reason=0)
        there.send_subscribe("new/#", 1)
        there.send_raw(wire.unsubscribe(v, there.next_id(), ["old"]))
        there.expect_nothing()
        for c in waiting:
            assert c.poll(0.01) is None and not c.eof, "CONNACK before the disk has the session"
        b.let_go()
        there.expect(SUBACK)
        there.expect(UNSUBACK)
        for c in waiting:
            c.expect(CONNACK, reason=0)


@versions()
def test_a_clean_start_says_that_the_old_session_is_gone_when_it_is(v):
    with kept() as b:
        b.asleep("old", "a", v=v)
        b.hold()
        c = b.client(v)
        c.send_connect("old", clean=True)
        assert c.poll(BRIEF) is None and not c.eof, "CONNACK before the disk has forgotten the session"
        b.let_go()
        c.expect(CONNACK, reason=0)


@versions()
def test_what_is_sent_ahead_of_connack_is_answered_behind_it(v):
    with kept() as b:
        b.asleep("away", "a", 2)
        b.hold()
        c = b.client(v)
        c.send_connect("eager", clean=False, props=DURABLE if v == V5 else ())
        wanted = [(SUBACK, c.send_subscribe("x", 1)), (PUBACK, c.send_publish("a", "1", 1)), (PUBREC, c.send_publish("a", "2", 2)),
                  (PUBACK, c.send_publish("nobody", "3", 1)), (SUBACK, c.send_subscribe("y", 0))]
        assert c.poll(BRIEF) is None and not c.eof
        b.let_go()
        c.expect(CONNACK, reason=0)
        expect_all(c, wanted)


@each(v=(V311, V5), goes=("taken over", "closed", "kicked"))
def test_a_connection_that_ends_before_its_connack(v, goes):
    with kept() as b:
        b.hold()
        first, second = b.client(v), b.client(v)
        for c in (first, second):
            c.send_connect("same", clean=False, props=DURABLE if v == V5 else ())
            c.send_subscribe("q", 1)
            assert c.poll(BRIEF) is None
            if c is first and goes != "taken over":
                c.close() if goes == "closed" else b.ctl("clients", "kick", "same")
        b.let_go()
        second.expect(CONNACK, reason=0, **({} if v == V31 else {"session_present": True}))
        second.expect(SUBACK)
        if goes == "taken over":
            packets = list(iter(lambda: first.poll(TIMEOUT), None))
            assert first.eof and [p.type for p in packets if p.type != SUBACK] in ([], [CONNACK], [CONNACK, DISCONNECT]), packets
        assert b.connect(V5).publish("q", "x", 1) == 0
        second.expect_message("q", "x")


@each(qos=(0, 1, 2))
def test_retained_messages_follow_suback(qos):
    with kept() as b:
        c = b.durable("there")
        b.connect(V5).publish("r/1", "kept", qos=qos, retain=True)
        b.hold()
        packet_id = c.send_subscribe("r/#", qos)
        c.expect_nothing()
        b.let_go()
        c.expect(SUBACK, packet_id=packet_id)
        c.expect_message("r/1", "kept", qos=qos, retain=True)


# ---- a disk that fails -----------------------------------------------------------------------------------------

@versions()
def test_what_cannot_be_kept_is_refused_as_the_version_says(v):
    with kept() as b:
        b.asleep("asleep", "a", v=v)
        there = b.durable("there", ["old", "a"], v=v)
        b.fail()
        for name in ("new", "asleep"):
            c = b.client(v)
            c.connect(name, reason=0x88 if v == V5 else 3, clean=False, props=DURABLE if v == V5 else ())
        there.subscribe(["new", "old"], qos=1, codes=[0x83 if v == V5 else 0x80] * 2)
        if v == V5:
            there.unsubscribe(["old", "a"], codes=[0x83, 0x83])
        else:
            there.send_raw(wire.unsubscribe(v, 99, ["old"]))
            there.expect_close()
        for qos in (1, 2):
            c = b.connect(v)
            if v == V5:
                assert c.publish("kept", "x", qos, retain=True) == 0x97
            else:
                c.send_publish("kept", "x", qos, retain=True)
                c.expect_close()
        c = b.connect(v)  # what ends with its connection is as ever
        c.subscribe("old", 1)
        c.unsubscribe("old")
        b.work()
        there = b.durable("there", v=v)
        assert b.connect(V5).publish("new", "not subscribed to", qos=1) == 0x10
        for topic in ("old", "a"):
            assert b.connect(V5).publish(topic, topic, qos=1) == 0
            there.expect_message(topic, topic)
        there.subscribe("new", 1)
        there.unsubscribe("old")
        c = b.connect(V5)
        c.subscribe("kept")
        c.expect_nothing()


# ---- Receive Maximum, and publishers that do not wait --------------------------------------------------------------

@each(qos=(1, 2), durable=(False, True))
def test_receive_maximum_counts_acknowledgements_that_wait(qos, durable):
    with kept(limits={"receive_maximum": 4}) as b:
        b.asleep("away", "a", qos)

        def publisher(name, v):
            return b.durable(name, v=v) if durable else b.connect(v)

        good, bad, old = publisher("good", V5), publisher("bad", V5), publisher("old", V311)
        b.hold()
        ids = {c: [c.next_id() for _ in range(n)] for c, n in ((good, 4), (bad, 5), (old, 20))}
        for c, some in ids.items():
            c.send_raw(b"".join(wire.publish(c.version, "a", "x", qos, packet_id=i) for i in some))
        bad.expect_close(0x93)
        good.poll(BRIEF)
        assert not good.eof and not old.eof
        b.let_go()
        for c in (good, old):
            expect_all(c, [(PUBACK if qos == 1 else PUBREC, i) for i in ids[c]])


def resent(b, c, qos, packet_id, session_present):
    """The same client again, with what it got no answer for."""
    c.expect(CONNACK, reason=0, session_present=session_present)
    c.send_publish("a", "once", qos, dup=True, packet_id=packet_id)
    c.expect(PUBACK if qos == 1 else PUBREC, packet_id=packet_id, reason=0)
    if qos == 2:
        c.pubrel(packet_id)
        c.expect(PUBCOMP, packet_id=packet_id, reason=0)


@each(v=(V311, V5), qos=(1, 2), end=("let go", "killed", "power"))
def test_a_publisher_that_was_gone_before_the_answer_resends(v, qos, end):
    with kept() as b:
        b.asleep("away", "a", 2)
        online, c = b.connect(V5), b.durable("publisher", v=v)
        online.subscribe("a", 2)
        b.hold()
        packet_id = c.send_publish("a", "once", qos)
        c.expect_nothing()
        c.close()
        if end == "let go":
            c = b.client(v)
            c.send_connect("publisher", clean=False, props=DURABLE if v == V5 else ())
            assert c.poll(BRIEF) is None and not c.eof
            b.let_go()
        else:
            if end == "power":
                b.lose_power()
            else:
                b.let_go()
                b.again(killed=True)
            c = b.client(v)
            c.send_connect("publisher", clean=False, props=DURABLE if v == V5 else ())
        resent(b, c, qos, packet_id, True)
        away = b.durable("away")
        assert b.connect(V5).publish("a", "mark", qos) == 0  # of another QoS it may come first: QoS 2 waits for the disk
        got = []
        while not got or got[-1] != b"mark":
            got.append(away.expect_message("a").payload)
        copies = got.count(b"once")
        assert copies == 1 or (qos == 1 and copies == 2), got
        if end == "let go" and qos == 2:
            online.expect_message("a", "once")
            online.expect_message("a", "mark")


def test_what_is_resent_before_the_disk_has_it_is_not_taken_twice():
    with kept() as b:
        b.asleep("away", "a", 2)
        online, c = b.connect(V5), b.durable("publisher")
        online.subscribe("a", 2)
        b.hold()
        packet_id = c.send_publish("a", "once", 2)
        c.send_publish("a", "once", 2, dup=True, packet_id=packet_id)
        c.expect_nothing()
        c.close()
        c = b.client(V5)  # what is sent ahead of CONNACK
        c.send_connect("publisher", clean=False, props=DURABLE)
        c.send_publish("a", "once", 2, dup=True, packet_id=packet_id)
        assert c.poll(BRIEF) is None and not c.eof
        b.let_go()
        c.expect(CONNACK, session_present=True)
        c.expect(PUBREC, packet_id=packet_id, reason=0)
        c.pubrel(packet_id)
        c.expect(PUBCOMP, packet_id=packet_id, reason=0)
        online.expect_message("a", "once")
        online.expect_nothing()
        away = b.durable("away")
        away.expect_message("a", "once")
        away.expect_nothing()


@each(hook=(False, True))
def test_a_message_of_qos_2_whose_event_may_be_lost_has_another_one_when_it_comes_again(hook):
    """It was passed on, and its acknowledgement held, when the process was killed."""
    plugins = {"acker": {"hold": "60s"}, "scribe-lossless": {"file": "{dir}/events", "stall": "{dir}/stall"}}
    if hook:
        plugins["rewrite"] = {"order": 10}
    with kept(plugins=plugins) as b:
        e = Events(b)
        b.write("stall", "")
        receiver, name = b.durable("receiver", "a", 2), b.unique("c")
        c = b.durable(name)
        ids = [c.send_publish("a", "x%d" % i, qos=2) for i in range(3)]
        assert [p.payload for p in drain(receiver, 3)] == [b"x0", b"x1", b"x2"]
        b.options["plugins"]["acker"]["hold"] = "0ms"
        b.close_clients()
        b.kill9()
        os.unlink(b.path("stall"))
        b.start()
        receiver, c = b.durable("receiver", session_present=True), b.durable(name, session_present=True)
        for i, packet_id in enumerate(ids[:2]):
            for _ in range(2):
                c.send_publish("a", "x%d" % i, qos=2, dup=True, packet_id=packet_id)
                c.expect(PUBREC, packet_id=packet_id, reason=0)
        for packet_id in ids:  # the last one was acknowledged, for all its client knows
            c.pubrel(packet_id)
            c.expect(PUBCOMP, packet_id=packet_id, reason=0)
        assert c.publish("a", "new", qos=2) == 0
        assert [p.payload for p in drain(receiver, 1)] == [b"new"]
        e.wait("message_published", payload=b"new".hex())
        assert [bytes.fromhex(x["payload"]) for x in e.of("message_published", client=name)] == [b"x0", b"x1", b"new"]
