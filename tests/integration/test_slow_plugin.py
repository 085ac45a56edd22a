# SPDX-License-Identifier: Apache-2.0
"""A backend that takes 500 ms, or blocks, costs nobody but the client that waits for it.

What is asserted is the order of events; the round-trip times are printed, for people.
"""
import threading
import time

from lib.broker import FACTOR
from lib.case import broker, default_broker, each
from lib.hooks import Gate, gate
from lib.mqtt import CONNACK, PINGRESP, PUBACK, PUBLISH, SUBACK, V311, V5

FAST = {"module": "verdict", "order": 10, "only_user": "fast*", "client_authenticate": "allow",
        "acl_check": "allow"}
ROUND_TRIPS = 1000
CLIENTS = 4

LONG = "%ds" % (30 * FACTOR)  # for that many on a slow machine

BROKER = default_broker(limits={"connect_timeout": LONG, "auth_timeout": LONG},
                        plugins={"fast": FAST, "gate": gate(hooks=["client_authenticate", "acl_check"], timeout=LONG)})


def pairs(b, count=CLIENTS):
    """Clients that publish to themselves; with 2 workers some of them are on each."""
    out = []
    for i in range(count):
        c = b.connect(V5, b.unique("fast"), username="fast")
        c.topic = b.unique("rtt")
        c.subscribe(c.topic, qos=1)
        out.append(c)
    return out


def round_trips(c, n):
    """@return seconds of each PUBLISH until its own PUBACK and the message have come back."""
    times = []
    for i in range(n):
        start = time.perf_counter()
        packet_id = c.send_publish(c.topic, b"%d" % i, qos=1)
        kinds = set()
        while kinds != {PUBACK, PUBLISH}:
            p = c.recv()
            kinds.add(p.type)
            if p.type == PUBLISH:
                c.puback(p.packet_id)
                assert p.payload == b"%d" % i
            else:
                assert (p.packet_id, p.reason) == (packet_id, 0)
        times.append(time.perf_counter() - start)
    return times


def percentiles(times):
    times = sorted(times)
    return "p50 %.0f us, p99 %.0f us, max %.0f us" % tuple(
        times[min(len(times) - 1, int(len(times) * q))] * 1e6 for q in (0.5, 0.99, 1.0))


def show(what, times):
    print("        %-34s %s" % (what, percentiles(times)))


def all_round_trips(clients, n=ROUND_TRIPS):
    times = []
    for i in range(n // 50):
        for c in clients:
            times += round_trips(c, 50)
    return times


def test_1000_round_trips_of_each_client_fit_into_one_pending_connect(b):
    fast = pairs(b)
    show("before", all_round_trips(fast))
    g = Gate(b).close()
    slow = b.client(V5)
    slow.send_connect(b.unique("slow"), username="slow")
    g.asked("client_authenticate", slow.client_id)
    show("while a CONNECT is pending", all_round_trips(fast))
    assert slow.poll(0.001) is None and not slow.eof, "it must still wait"
    g.open()
    slow.expect(CONNACK, reason=0)


@each(what=("publish", "subscribe"))
def test_1000_round_trips_of_each_client_fit_into_one_pending_right(b, what):
    fast = pairs(b)
    slow = b.connect(V5, b.unique("slow"), username="slow")
    g = Gate(b).close()
    if what == "publish":
        slow.send_publish(b.unique("t"), b"x", qos=1)
    else:
        slow.send_subscribe(b.unique("t"))
    g.asked("acl_check-" + what, slow.client_id)
    show("while a right to %s is pending" % what, all_round_trips(fast))
    assert slow.poll(0.001) is None
    g.open()
    slow.expect(PUBACK if what == "publish" else SUBACK)


@broker(plugins={"fast": FAST, "slow": {"order": 50, "auth_delay": "500ms", "acl_delay": "500ms"}})
def test_500_ms_for_authentication_and_for_each_right_cost_only_the_one_who_waits(b):
    fast = pairs(b)
    before = all_round_trips(fast)
    events, stop = [], threading.Event()

    def slow_client():
        c = b.client(V5)
        begin = time.monotonic()
        c.connect(b.unique("slow"), username="slow")
        c.subscribe("slow/topic")
        assert c.publish("slow/topic", b"x", qos=1) in (0, 0x10)
        c.expect_message("slow/topic", b"x")
        events.append(time.monotonic() - begin)
        stop.set()

    thread = threading.Thread(target=slow_client)
    thread.start()
    during = []
    while not stop.is_set():
        assert thread.is_alive() or stop.is_set(), "the slow client failed"
        for c in fast:
            during += round_trips(c, 10)
    thread.join()
    assert events[0] >= 1.9, "CONNECT, SUBSCRIBE, PUBLISH and READ take 500 ms each: %g s" % events[0]
    # Four waits of 500 ms: had each of them held a worker, its clients would have made almost none.
    assert len(during) >= 200, "%d round trips in %g s" % (len(during), events[0])
    show("before", before)
    show("while a client waits 4 x 500 ms", during)


@broker(plugins={"fast": FAST, "blocker": {"order": 50, "block": "%dms" % (500 * FACTOR), "offload_threads": 2, "timeout": LONG}},
        limits={"connect_timeout": LONG, "auth_timeout": LONG})
def test_a_library_that_blocks_in_the_offload_pool_holds_nobody_else(b):
    fast = pairs(b)
    show("before", all_round_trips(fast))
    blocked = []
    for i in range(4):  # the pool has two threads for them
        c = b.client(V5)
        c.send_connect(b.unique("blocked"), username="blocked")
        blocked.append(c)
    during = []
    waiting = set(blocked)
    while waiting:
        for c in fast:
            during += round_trips(c, 10)
        for c in list(waiting):
            p = c.poll(0.001)
            if p is not None:
                assert (p.type, p.reason) == (CONNACK, 0), p
                waiting.remove(c)
    assert len(during) >= 200, "%d round trips in the time of 4 blocking jobs" % len(during)
    show("while 4 jobs block the pool", during)


# The blocker lets in, slow decides about rights.
@broker(plugins={"fast": FAST, "slow": {"order": 40}, "blocker": {"order": 30, "block": "500ms"}})
def test_both_kinds_at_once(b):
    fast = pairs(b)
    others = []
    for i in range(20):
        c = b.client(V311)
        c.send_connect(b.unique("other"), username="other")
        others.append(c)
    during = []
    waiting = set(others)
    while waiting:
        for c in fast:
            during += round_trips(c, 5)
        for c in list(waiting):
            p = c.poll(0.001)
            if p is not None:
                assert (p.type, p.reason) == (CONNACK, 0), p
                waiting.remove(c)
    show("while 20 clients wait for both", during)
    assert len(during) >= 100
    for c in others:
        c.send_publish(b.unique("t"), b"x", qos=1)
    for c in fast:
        round_trips(c, 20)
    for c in others:
        c.expect(PUBACK)


def test_a_ping_of_the_waiting_client_itself_comes_after_what_it_waits_for(b):
    slow = b.connect(V5, b.unique("slow"), username="slow")
    g = Gate(b).close()
    slow.send_publish(b.unique("t"), b"x", qos=1)
    slow.send_raw(b"\xc0\x00")
    g.asked("acl_check-publish", slow.client_id)
    assert slow.poll(0.1) is None
    g.open()
    slow.expect(PUBACK)
    slow.expect(PINGRESP)
