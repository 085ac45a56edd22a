# SPDX-License-Identifier: Apache-2.0
"""What the broker keeps of the memory it once needed, and the profile for machines with little of it."""
from lib import wire
from lib.broker import FACTOR
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import MIB, memory, sanitized, wait_until
from lib.wire import Sub, Will

ALONE = True
OPEN = {"mqtt": {"anonymous": True}}
DURABLE = [(SESSION_EXPIRY, 3600)]
CLIENTS = 800
QUEUED = 40000


def back_to(b, base):
    """A sanitizer keeps what was freed, so there it is only the way that is tested."""
    if sanitized(b):
        return
    wait_until(lambda: memory(b) < base, "%d KiB resident again, not %d" % (base // 1024, memory(b) // 1024), 60 * FACTOR)


@broker(own=True, listeners=OPEN, log_level="info")
def test_memory_goes_back_after_many_connections(b):
    b.connect(V5).ping()
    base = memory(b)
    clients = []
    for i in range(CLIENTS):
        c = b.connect(V311, client_id="storm-%d" % i, will=Will("w/%d" % i, "x" * 8000))
        c.subscribe(["s/%d/%d/+" % (i, k) for k in range(4)])
        clients.append(c)
    high = memory(b)
    assert sanitized(b) or high > base + 6 * MIB, (base, high)
    # Those that stay lie between the others: no heap becomes free as a whole.
    stay = clients[::16]
    for c in clients:
        if c not in stay:
            c.disconnect()
            c.close()
    back_to(b, base + 3 * MIB)
    assert sanitized(b) or b.metric("grapnel_memory_trims_total") >= 1
    for c in stay:
        c.ping()


@broker(own=True, listeners=OPEN, log_level="info", limits={"max_queued_messages": QUEUED})
def test_memory_goes_back_after_a_long_queue(b):
    sleeper = b.connect(V5, client_id="sleeper", props=DURABLE)
    sleeper.subscribe("queue/#", qos=1)
    sleeper.disconnect()
    p = b.connect(V311)
    base = memory(b)
    done = 0
    while done < QUEUED:
        n = min(50, QUEUED - done)
        p.send_raw(b"".join(wire.publish(V311, "queue/%d" % (done + i), "x" * 100, qos=1, packet_id=i + 1) for i in range(n)))
        for i in range(n):
            p.expect(PUBACK, packet_id=i + 1)
        done += n
    high = memory(b)
    assert sanitized(b) or high > base + 6 * MIB, (base, high)
    b.connect(V5, client_id="sleeper", clean=True).ping()
    back_to(b, base + 2 * MIB)


# ---- profile = edge -----------------------------------------------------------------------------


EDGE = {"listeners": OPEN, "top": {"profile": "edge"}, "workers": None}


@broker(**EDGE)
def test_the_edge_profile_is_in_force_and_shown(b):
    shown = b.ctl("config").stdout
    for line in ("profile = edge", "workers = 1", "read_buffer = 16k", "\tmax_queued_messages = 1000", "\tbacklog = 128"):
        assert line + "\n" in shown, (line, shown)
    assert b.metric("grapnel_workers") == 1


@broker(listeners=OPEN, top={"profile": "edge"}, workers=2, limits={"max_queued_messages": 77})
def test_what_is_written_wins_over_the_edge_profile(b):
    shown = b.ctl("config").stdout
    assert "\nworkers = 2\n" in shown and "\tmax_queued_messages = 77\n" in shown, shown
    assert b.metric("grapnel_workers") == 2


@broker(**EDGE)
@versions()
def test_the_edge_profile_lacks_no_feature(b, v):
    topic = b.unique("t")
    will = Will(topic + "/will", "gone", qos=1)
    s = b.connect(v)
    s.subscribe([Sub(topic + "/#", qos=2)])
    c = b.connect(v, will=will)
    for qos in (0, 1, 2):
        c.publish(topic + "/%d" % qos, "x", qos=qos, retain=True)
        s.expect_message(topic=topic + "/%d" % qos, payload="x", qos=qos)
    late = b.connect(v)
    late.subscribe([Sub(topic + "/+", qos=1)])
    assert sorted(late.expect_message().topic for unused in range(3)) == [topic + "/%d" % q for q in (0, 1, 2)]
    if v == V5:
        members = [b.connect(v), b.connect(v)]
        for m in members:
            m.subscribe("$share/g/" + topic + "/s")
        for unused in range(2):
            c.publish(topic + "/s", "x")
        for m in members:
            m.expect_message(topic=topic + "/s")
        for unused in range(2):
            s.expect_message(topic=topic + "/s")
    s.ping()
    c.close()
    s.expect_message(topic=topic + "/will", payload="gone", qos=1)


@broker(listeners=OPEN, top={"read_buffer": "4k"})
@versions()
@each(size=(100, 4000, 4096, 5000, 200000))
def test_packets_of_all_sizes_pass_a_small_read_buffer(b, v, size):
    topic = b.unique("t")
    c = b.connect(v)
    c.subscribe([Sub(topic, qos=1)])
    payload = ("%d " % size * size)[:size]
    c.send_raw(b"".join(wire.publish(v, topic, payload) for unused in range(20)))
    for unused in range(20):
        c.expect_message(topic=topic, payload=payload)
