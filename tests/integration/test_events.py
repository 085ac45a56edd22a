# SPDX-License-Identifier: Apache-2.0
"""What a plugin sees: every type of event, in order, with identifiers that never repeat; full queues."""
import os
import time

from lib.case import broker, default_broker, each, versions
from lib.hooks import Events, eventually
from lib.mqtt import CONNACK, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, V31, V311, V5, P
from lib.wire import Will

ALLOW = {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}


def scribe(**options):
    return {"scribe": dict({"file": "{dir}/events"}, **options)}


BROKER = default_broker(plugins=dict(scribe(), allow=ALLOW), top={"sys_interval": 0})


def kinds(events, **fields):
    return [e["type"] for e in events.of(**fields)]


@versions()
def test_a_clients_life_in_order(b, v):
    e = Events(b)
    topic, name = b.unique("t"), b.unique("c")
    c = b.connect(v, name, username="someone")
    c.subscribe(topic, qos=1)
    c.publish(topic, b"hello", qos=1)
    c.expect_message(topic, b"hello")
    c.unsubscribe(topic)
    c.disconnect()
    e.wait("session_expired", client=name)
    assert kinds(e, client=name) == [
        "session_created", "client_connected", "subscribed", "message_delivered", "message_published", "message_acknowledged",
        "unsubscribed", "client_disconnected", "session_expired"] or kinds(e, client=name) == [
        "session_created", "client_connected", "subscribed", "message_published", "message_delivered", "message_acknowledged",
        "unsubscribed", "client_disconnected", "session_expired"], kinds(e, client=name)
    for x in e.of(client=name):
        assert (x["user"], x["listener"], x["protocol"], x["mountpoint"]) == ("someone", "mqtt", v, ""), x
        assert x["peer"].startswith("127.0.0.1:") and x["generation"] > 0, x
    assert len({x["generation"] for x in e.of(client=name)}) == 1
    sub, = e.of("subscribed", client=name)
    assert (sub["filter"], sub["qos"], sub["code"]) == (topic, 1, 1), sub
    unsub, = e.of("unsubscribed", client=name)
    assert unsub["filter"] == topic, unsub
    for kind in ("message_published", "message_delivered", "message_acknowledged"):
        x, = e.of(kind, client=name)
        assert (x["topic"], bytes.fromhex(x["payload"]), x["qos"]) == (topic, b"hello", 1), x
    gone, = e.of("client_disconnected", client=name)
    assert (gone["code"], gone["reason"]) == (0, "DISCONNECT by the client"), gone


def test_the_qos_of_a_delivery_is_the_one_that_was_used(b):
    e = Events(b)
    topic = b.unique("t")
    c, d = b.connect(V5), b.connect(V5)
    c.subscribe(topic, qos=0)
    d.subscribe(topic, qos=2)
    c.publish(topic, b"x", qos=1)
    c.expect_message(topic, qos=0)
    d.expect_message(topic, qos=1)
    assert e.wait("message_delivered", client=c.client_id, topic=topic)["qos"] == 0
    assert e.wait("message_delivered", client=d.client_id, topic=topic)["qos"] == 1
    assert e.wait("message_published", topic=topic)["qos"] == 1


def test_a_resumed_session_and_a_take_over(b):
    e = Events(b)
    name = b.unique("c")
    old = b.connect(V5, name, props=[(P.SESSION_EXPIRY, 100)])
    neu = b.connect(V5, name, clean=False, session_present=True, props=[(P.SESSION_EXPIRY, 100)])
    old.expect_close(0x8E)
    neu.disconnect()
    e.wait("client_disconnected", 2, client=name)
    assert kinds(e, client=name) == ["session_created", "client_connected", "session_taken_over", "client_disconnected",
                                     "session_resumed", "client_connected", "client_disconnected"], kinds(e, client=name)
    taken, = e.of("session_taken_over", client=name)
    assert taken["code"] == 0x8E, taken
    gone = e.of("client_disconnected", client=name)
    assert (gone[0]["code"], gone[1]["code"]) == (0x8E, 0), gone
    assert [x["present"] for x in e.of("client_connected", client=name)] == [False, True]
    assert len({x["generation"] for x in e.of(client=name)}) == 1, "one session"
    b.connect(V5, name, clean=True)
    e.wait("client_connected", 3, client=name)
    assert kinds(e, client=name)[7:] == ["session_expired", "session_created", "client_connected"], kinds(e, client=name)
    assert len({x["generation"] for x in e.of(client=name)}) == 2, "another one"


def test_a_session_that_expires_by_itself(b):
    e = Events(b)
    name = b.unique("c")
    b.connect(V5, name, props=[(P.SESSION_EXPIRY, 1)]).disconnect()
    x = e.wait("session_expired", client=name)
    assert x["reason"] == "expired", x


@broker(plugins=dict(scribe(), no={"module": "verdict", "client_authenticate": "deny", "reason_string": "not you", "only_user": "bad"}))
def test_a_refused_client(b):
    e = Events(b)
    c = b.client(V5)
    c.connect("refused", reason=0x87, username="bad")
    x = e.wait("client_refused", client="refused")
    assert (x["user"], x["code"], x["reason"], x["protocol"]) == ("bad", 0x87, "not you", 5), x
    assert x["peer"] == "127.0.0.1:%d" % c.sock.getsockname()[1], x
    assert kinds(e, client="refused") == ["client_refused"]
    c = b.client(V5)
    c.send_raw(b"\x10\x10" + b"\0\4MQTT\5\xff" + b"\0" * 8)
    c.expect(CONNACK)
    e.wait("client_refused", 2)


@each(qos=(1, 2))
def test_an_acknowledged_delivery_names_the_receiver_and_its_code(b, qos):
    e = Events(b)
    topic = b.unique("t")
    c = b.connect(V5)
    c.subscribe(topic, qos=2)
    b.connect(V5).publish(topic, b"x", qos=qos)
    p = c.expect(PUBLISH, topic=topic)
    if qos == 1:
        c.puback(p.packet_id, 0x80)
    else:
        c.acknowledge(p)
    x = e.wait("message_acknowledged", client=c.client_id)
    assert (x["topic"], x["payload"], x["code"]) == (topic, b"x".hex(), 0x80 if qos == 1 else 0), x


def test_retained_set_and_cleared(b):
    e = Events(b)
    topic = b.unique("t")
    c = b.connect(V5, b.unique("c"), username="author")
    c.publish(topic, b"x", qos=1, retain=True)
    c.publish(topic, b"", qos=1, retain=True)
    c.publish(topic, b"", qos=1, retain=True)  # there is nothing to clear any more
    e.wait("message_published", 3, client=c.client_id)
    assert kinds(e, topic=topic) == ["retained_set", "message_published", "retained_cleared", "message_published",
                                     "message_published"], kinds(e, topic=topic)
    x, = e.of("retained_set", topic=topic)
    assert (x["client"], x["user"]) == (c.client_id, "author"), x


def test_a_will(b):
    e = Events(b)
    topic = b.unique("t")
    c = b.connect(V5, b.unique("c"), username="late", will=Will(topic, b"bye", qos=1))
    c.close()
    x = e.wait("will_published", topic=topic)
    assert (x["client"], x["user"], x["payload"]) == (c.client_id, "late", b"bye".hex()), x
    gone = e.wait("client_disconnected", client=c.client_id)
    assert "closed by the client" in gone["reason"], gone


def test_dropped_and_expired_messages_say_why(b):
    e = Events(b)
    topic = b.unique("t")
    c = b.connect(V5, b.unique("c"), props=[(P.SESSION_EXPIRY, 100)])
    c.subscribe(topic, qos=1)
    c.disconnect()
    p = b.connect(V5)
    p.publish(topic, b"0", qos=0)
    x = e.wait("message_dropped", client=c.client_id)
    assert (x["reason"], x["payload"]) == ("QoS 0, receiver offline", b"0".hex()), x
    p.publish(topic, b"1", qos=1, props=[(P.MESSAGE_EXPIRY, 1)])
    time.sleep(1.1)
    c = b.connect(V5, c.client_id, clean=False)
    x = e.wait("message_expired", client=c.client_id)
    assert x["payload"] == b"1".hex(), x
    c.expect_nothing()
    small = b.connect(V5, b.unique("small"), props=[(P.MAXIMUM_PACKET_SIZE, 60)])
    small.subscribe(topic)
    p.publish(topic, b"y" * 100, qos=1)
    x = e.wait("message_dropped", client=small.client_id)
    assert "Maximum Packet Size" in x["reason"], x


@broker(plugins=dict(scribe(), drop={"module": "verdict", "message_publish": "allow", "drop": True, "only_topic": "forget"}))
def test_what_a_plugin_drops_is_seen_as_dropped_not_as_published(b):
    e = Events(b)
    c = b.connect(V5)
    c.publish("forget", b"x", qos=1)
    x = e.wait("message_dropped", topic="forget")
    assert x["client"] == c.client_id and "plugin" in x["reason"], x
    assert not e.of("message_published", topic="forget")


@broker(limits={"max_queued_messages": 2}, plugins=scribe())
def test_a_full_queue_of_messages(b):
    e = Events(b)
    c = b.connect(V5, b.unique("c"), props=[(P.SESSION_EXPIRY, 100)])
    c.subscribe("t", qos=1)
    c.disconnect()
    p = b.connect(V5)
    for i in range(3):
        p.publish("t", b"%d" % i, qos=1)
    x = e.wait("message_dropped", client=c.client_id)
    assert (x["reason"], x["payload"]) == ("max_queued_messages reached", b"2".hex()), x


@broker(listeners={"mqtt": {"anonymous": True, "mountpoint": "mp/"}}, plugins=scribe())
def test_mountpoints_are_in_the_event_and_not_in_its_topics(b):
    e = Events(b)
    c = b.connect(V5)
    c.subscribe("a/#")
    c.publish("a/b", b"x", qos=1)
    c.expect_message("a/b")
    for kind in ("message_published", "message_delivered"):
        x = e.wait(kind, client=c.client_id)
        assert (x["topic"], x["mountpoint"]) == ("a/b", "mp/"), x


# ---- the broker itself, identifiers ----------------------------------------------------------------


@broker(own=True, plugins=scribe(), top={"sys_interval": 0})
def test_starting_ready_stopping_and_identifiers_that_never_repeat(b):
    e = Events(b)
    for boot in range(3):
        clients = [b.connect(V5) for _ in range(10)]
        for c in clients:
            c.publish("t", b"x", qos=1)
        b.stop()
        if boot < 2:
            b.start()
    e.read()
    assert kinds(e).count("broker_starting") == kinds(e).count("broker_ready") == kinds(e).count("broker_stopping") == 3
    boots = sorted({x["boot"] for x in e.seen}, key=[x["boot"] for x in e.seen].index)
    assert len(boots) == 3, boots
    assert len({x["node"] for x in e.seen}) == 1, "one node"
    for boot in boots:
        mine = [x for x in e.seen if x["boot"] == boot]
        assert mine[0]["type"] == "broker_starting", mine[0]
        assert len(mine) > 30
        for worker in range(2):
            numbers = [x["seq"] for x in mine if x["worker"] == worker]
            assert numbers and numbers == sorted(set(numbers)), "ascending per worker"
            assert {n >> 56 for n in numbers} == {worker}, "the worker's number is on top"
    ids = [(x["node"], x["boot"], x["seq"]) for x in e.seen]
    assert len(ids) == len(set(ids)), "no identifier twice"


# ---- queues ----------------------------------------------------------------------------------------


def stall(b, name="stall"):
    with open(b.path(name), "w", encoding="ascii"):
        pass


def proceed(b, name="stall"):
    os.unlink(b.path(name))


@broker(own=True, workers=1, plugins=scribe(stall="{dir}/stall", event_queue=20, only=["message_published", "gap"]))
def test_a_lossy_queue_drops_counts_and_marks_the_gap(b):
    e = Events(b)
    c = b.connect(V5)
    stall(b)
    for i in range(100):
        c.publish("t", b"%d" % i, qos=1)  # nobody waits
    lost = b.metric('grapnel_plugin_events_lost_total{plugin="scribe"}')
    assert lost == 80, lost
    proceed(b)
    e.wait("message_published", 20)
    c.publish("t", b"after", qos=1)
    e.wait("message_published", payload=b"after".hex())
    got = [bytes.fromhex(x["payload"]).decode() if x["type"] == "message_published" else ("gap", x["lost"]) for x in e.seen]
    assert got == [str(i) for i in range(20)] + [("gap", 80), "after"], got
    info = b.ctl_json("plugin", "show", "scribe")["events"]
    assert (info["mode"], info["lost"]) == ("lossy", 80), info


@broker(own=True, workers=1, plugins={"scribe": {"module": "scribe-lossless", "file": "{dir}/events", "stall": "{dir}/stall",
        "event_queue": 20, "only": ["message_published", "gap"]}}, limits={"publisher_pause": "1h"})
def test_a_lossless_queue_pauses_publishers_and_loses_nothing(b):
    """Until there is room, and no longer: publisher_pause is for receivers that are slow."""
    e = Events(b)
    idle, c = b.connect(V5), b.connect(V5)
    idle.subscribe("t")
    stall(b)
    for i in range(200):
        c.send_publish("t", b"%d" % i, qos=1, packet_id=i + 1)
    c.send_raw(b"\xc0\x00")
    acked = 0
    while True:
        p = c.poll(0.3)
        if p is None:
            break
        acked += 1
        assert p.type == PUBACK, p
    assert acked < 200, "the publisher must have been paused"
    assert acked >= 20, acked
    b.wait_log(r'plugin "scribe": its event queue on worker 0 is full; publishers wait')
    proceed(b)
    for i in range(acked, 200):
        c.expect(PUBACK, packet_id=i + 1)
    c.expect(PINGRESP)
    e.wait("message_published", 200)
    assert [bytes.fromhex(x["payload"]) for x in e.seen] == [b"%d" % i for i in range(200)]
    assert b.metric('grapnel_plugin_events_lost_total{plugin="scribe"}') == 0
    idle.ping()


@broker(own=True, workers=1, plugins={"scribe": {"module": "scribe-lossless", "file": "{dir}/events", "stall": "{dir}/stall",
        "event_queue": 5, "only": ["message_published", "client_disconnected", "gap"]}})
def test_a_paused_publisher_can_leave(b):
    e = Events(b)
    c = b.connect(V5, b.unique("c"))
    stall(b)
    for i in range(50):
        c.send_publish("t", b"%d" % i)
    c.close()
    time.sleep(0.1)
    proceed(b)
    e.wait("client_disconnected", client=c.client_id)
    assert [bytes.fromhex(x["payload"]) for x in e.of("message_published")] == [b"%d" % i for i in range(50)]


@broker(own=True, workers=2, plugins={"scribe": {"module": "scribe-lossless", "file": "{dir}/events", "stall": "{dir}/stall",
        "event_queue": 100, "only": ["message_delivered", "gap"]}})
def test_a_lossless_queue_of_deliveries_pauses_publishers_on_other_workers(b):
    e = Events(b)
    receivers = [b.connect(V5, b.unique("r")) for _ in range(12)]
    for c in receivers:
        c.subscribe("t")
    senders = [b.connect(V5, b.unique("s")) for _ in range(4)]
    for c in senders:
        c.sent = c.acked = 0
    stall(b)
    deadline = time.monotonic() + 0.7
    paused = False
    while any(c.acked < 100 for c in senders):
        for c in senders:
            if c.sent == c.acked and c.sent < 100:
                c.send_publish("t", b"%d" % c.sent, qos=1)
                c.sent += 1
            p = c.poll(0.001)
            if p is not None:
                assert p.type == PUBACK, p
                c.acked += 1
        if not paused and time.monotonic() > deadline:
            paused = True
            assert all(c.acked < 100 for c in senders), "publishers must have been paused"
            proceed(b)
    assert paused, "100 messages of each of 4 senders to 12 receivers do not fit into two queues of 100 events"
    e.wait("message_delivered", 100 * 4 * 12)
    assert b.metric('grapnel_plugin_events_lost_total{plugin="scribe"}') == 0
    assert not e.of("gap")


@broker(own=True, plugins={"one": {"module": "scribe", "file": "{dir}/one"},
                           "two": {"module": "scribe", "file": "{dir}/two", "only": ["client_connected"]}})
def test_two_instances_see_the_same_events_and_choose_their_own(b):
    one, two = Events(b, "one"), Events(b, "two")
    for v in (V31, V311, V5):
        b.connect(v).publish("t", b"x", qos=1)
    two.wait("client_connected", 3)
    one.wait("message_published", 3)
    assert {x["type"] for x in two.seen} == {"client_connected"}
    assert [x["seq"] for x in two.of()] and {(x["boot"], x["seq"]) for x in two.seen} <= {(x["boot"], x["seq"]) for x in one.seen}


@broker(own=True, plugins=dict(scribe(), allow=ALLOW))
def test_what_the_broker_does_at_its_end_is_seen_in_order(b):
    e = Events(b)
    c = b.connect(V5, "last", username="u", props=[(P.SESSION_EXPIRY, 100)])
    b.stop()
    c.expect_close(0x8B)
    e.read()
    stop = eventually(lambda: e.of("broker_stopping"), "the end")[0]
    gone, = e.of("client_disconnected", client="last")
    assert gone["code"] == 0x8B, gone
    assert stop["type"] == "broker_stopping"


# ---- their place before acknowledgements -----------------------------------------------------------


@each(mode=("off", "relaxed", "strict"), kept=(False, True))
@versions(4, 5)
@broker(plugins={"acker": {"await_event": True}, "allow": ALLOW}, top=lambda mode, **_: {"store": {"durability": mode}})
def test_the_event_of_a_message_is_there_before_its_acknowledgement_is_asked_for(b, v, mode, kept):
    """acker holds each acknowledgement until the event whose number events_waiting foretold, and refuses if it is another one."""
    name = b.unique("c")
    props = {"props": [(P.SESSION_EXPIRY, 100)]} if kept and v == V5 else {}
    c = b.connect(v, name, clean=not kept or v == V5, **props)
    other = b.connect(v)
    other.subscribe(name, qos=2)
    for i in range(10):  # both kinds in one batch, and in one of their own
        ids = [(qos, c.send_publish(name, b"%d %d" % (i, qos), qos=qos)) for qos in ((1, 2, 2, 1) if i % 2 else (1 + i // 2 % 2,))]
        for qos, packet_id in ids:
            c.expect(PUBREC if qos == 2 else PUBACK, packet_id=packet_id, reason=0)
        for qos, packet_id in ids:
            if qos == 2:
                c.pubrel(packet_id)
                c.expect(PUBCOMP, packet_id=packet_id, reason=0)
    b.wait_metric('grapnel_plugin_pending_requests{plugin="acker"}', 0)
