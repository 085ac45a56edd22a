# SPDX-License-Identifier: Apache-2.0
"""What happens while a plugin has a request: order, leaving, deadlines, take-over, limits."""
from lib.case import broker, default_broker, each, versions
from lib.hooks import Events, Gate, eventually, gate
from lib.mqtt import (CONNACK, DISCONNECT, PINGRESP, PUBACK, PUBCOMP, PUBLISH, PUBREC, SUBACK, UNSUBACK, V31, V311, V5,
                      P)

ALL = ["client_authenticate", "acl_check", "message_publish", "client_subscribe", "client_unsubscribe",
       "message_deliver", "message_acknowledge"]
ALLOW = {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}


def held(*hooks, **options):
    """A gate on these hooks, behind which everything is allowed."""
    return {"gate": gate(hooks=list(hooks), **options), "allow": ALLOW}


BROKER = default_broker(plugins=held("client_authenticate", "acl_check"))


def waiting(c):
    """Nothing has come, and the connection is there."""
    assert c.poll(0.05) is None and not c.eof
    return True


# ---- order -----------------------------------------------------------------------------------------


@each(hook=("acl_check", "message_publish"))
@broker(plugins=lambda hook, **_: held(hook, verdict="allow"))
def test_packets_behind_a_pending_publish_keep_their_order(b, hook):
    topic = b.unique("t")
    watcher = b.connect(V5, b.unique("watcher"))
    watcher.subscribe(topic + "/#", qos=2)
    c = b.connect(V5, b.unique("c"))
    g = Gate(b).close()
    first = c.send_publish(topic + "/1", b"1", qos=1)
    g.asked(hook, c.client_id) if hook == "message_publish" else g.asked(hook + "-publish", c.client_id)
    second = c.send_publish(topic + "/2", b"2", qos=2)
    c.send_publish(topic + "/3", b"3")
    sub = c.send_subscribe(b.unique("other"))
    unsub = c.next_id()
    c.send_raw(P.unsubscribe(V5, unsub, ["no/such"]))
    c.send_raw(b"\xc0\x00")
    last = c.send_publish(topic + "/4", b"4", qos=1)
    assert waiting(c) and waiting(watcher)
    g.open()
    c.expect(PUBACK, packet_id=first)
    c.expect(PUBREC, packet_id=second)
    c.expect(SUBACK, packet_id=sub)
    c.expect(UNSUBACK, packet_id=unsub)
    c.expect(PINGRESP)
    c.expect(PUBACK, packet_id=last)
    for i in b"1234":
        watcher.expect_message("%s/%c" % (topic, i), bytes([i]))
    c.pubrel(second)
    c.expect(PUBCOMP, packet_id=second)


def test_filters_of_one_subscribe_are_decided_one_after_the_other(b):
    c = b.connect(V5, b.unique("c"))
    g = Gate(b).close()
    topic = b.unique("t")
    packet_id = c.send_subscribe([topic + "/a", topic + "/b", topic + "/c"])
    g.asked("acl_check-subscribe", c.client_id)
    g.open()
    c.expect(SUBACK, packet_id=packet_id, codes=[0, 0, 0])


def test_packets_that_came_with_the_connect_wait_for_it(b):
    g = Gate(b).close()
    c = b.client(V311)
    topic = b.unique("t")
    c.send_raw(P.connect(V311, b.unique("c")) + P.subscribe(V311, 1, [P.Sub(topic, 1)]) +
               P.publish(V311, topic, b"x", 1, packet_id=2) + b"\xc0\x00")
    g.asked("client_authenticate")
    assert waiting(c)
    g.open()
    c.expect(CONNACK, reason=0)
    c.expect(SUBACK, packet_id=1)
    got = sorted((c.recv() for _ in range(3)), key=lambda p: p.type)
    assert [p.type for p in got] == [PUBLISH, PUBACK, PINGRESP], got


@broker(plugins=held("message_deliver"))
def test_deliveries_that_are_decided_in_another_order_leave_in_their_own(b):
    topic = b.unique("t")
    c = b.connect(V5, b.unique("c"))
    c.subscribe(topic, qos=2)
    g = Gate(b)
    before = b.connect(V5).publish(topic, b"before", qos=1)  # a number to start from
    assert before == 0
    n = g.asked("message_deliver", c.client_id)
    c.expect_message(topic, b"before")
    for i in (1, 3):
        g.close(n + i)
    p = b.connect(V5)
    for i in range(1, 6):
        p.publish(topic, b"%d" % i, qos=i % 3)
    b.wait_log(r"asked %d message_deliver" % (n + 5))
    assert waiting(c), "2 must not pass 1"
    g.open(n + 1)
    c.expect_message(topic, b"1")
    c.expect_message(topic, b"2")
    assert waiting(c)
    g.open(n + 3)
    for i in (3, 4, 5):
        c.expect_message(topic, b"%d" % i)


@broker(plugins=held("message_acknowledge"))
def test_held_acknowledgements_keep_their_order(b):
    c = b.connect(V5, b.unique("c"))
    g = Gate(b)
    c.publish(b.unique("t"), b"x", qos=1)
    n = g.asked("message_acknowledge-puback", c.client_id)
    g.close(n + 1)
    first = c.send_publish(b.unique("t"), b"1", qos=1)
    second = c.send_publish(b.unique("t"), b"2", qos=2)
    third = c.send_publish(b.unique("t"), b"3", qos=1)
    c.send_raw(b"\xc0\x00")
    c.expect(PINGRESP)  # no acknowledgement of a PUBLISH: nothing that waits for its turn
    assert waiting(c)
    g.open(n + 1)
    c.expect(PUBACK, packet_id=first)
    c.expect(PUBREC, packet_id=second)
    c.expect(PUBACK, packet_id=third)
    g.close()
    c.pubrel(second)
    g.asked("message_acknowledge-pubcomp", c.client_id)
    assert waiting(c)
    g.open()
    c.expect(PUBCOMP, packet_id=second)


# ---- leaving ---------------------------------------------------------------------------------------


@versions()
def test_a_client_that_leaves_while_its_connect_is_pending_is_never_attached(b, v):
    g = Gate(b).close()
    c = b.client(v)
    c.send_connect(b.unique("gone"))
    n = g.asked("client_authenticate", c.client_id)
    c.reset()
    g.cancelled(n)
    g.resolved(n, "cancelled")
    g.open()
    b.connect(V5).ping()
    assert b.ctl("clients", "show", c.client_id, code=None).returncode != 0
    assert b.metric("sessions") == b.metric("sessions_online")


@broker(plugins=held("client_authenticate", late=True))
def test_a_late_answer_to_a_client_that_left_is_told_so(b):
    g = Gate(b).close()
    c = b.client(V5)
    c.send_connect(b.unique("gone"))
    n = g.asked("client_authenticate", c.client_id)
    c.close()
    g.cancelled(n)
    assert b.metric('grapnel_plugin_pending_requests{plugin="gate"}') == 1
    g.open()
    g.resolved(n, "cancelled")
    b.wait_metric('grapnel_plugin_pending_requests{plugin="gate"}', 0)
    # The same id is as good as new.
    b.connect(V5, c.client_id, session_present=False)


@each(hook=("acl_check", "message_publish", "message_acknowledge", "client_subscribe", "client_unsubscribe"))
@broker(plugins=lambda hook, **_: held(hook))
def test_who_is_kicked_while_a_packet_is_pending_leaves_nothing_behind(b, hook):
    c = b.connect(V5, b.unique("c"))
    c.subscribe("a/b")
    g = Gate(b).close()
    if hook == "client_subscribe":
        c.send_subscribe("a/c")
    elif hook == "client_unsubscribe":
        c.send_raw(P.unsubscribe(V5, 77, ["a/b"]))
    else:
        c.send_publish(b.unique("t"), b"x", qos=1)
    n = g.asked(hook, None)
    b.ctl("clients", "kick", c.client_id)
    c.expect(DISCONNECT, reason=0x98)
    g.cancelled(n)
    g.resolved(n, "cancelled")
    g.open()
    b.connect(V5).ping()
    assert b.metric('grapnel_plugin_pending_requests{plugin="gate"}') == 0


@broker(plugins=held("message_deliver"))
def test_a_receiver_that_leaves_while_a_delivery_is_pending_gets_it_when_it_is_back(b):
    topic = b.unique("t")
    c = b.connect(V5, b.unique("c"), props=[(P.SESSION_EXPIRY, 100)])
    c.subscribe(topic, qos=1)
    g = Gate(b).close()
    p = b.connect(V5)
    p.publish(topic, b"1", qos=1)
    p.publish(topic, b"2", qos=1)
    n = g.asked("message_deliver", c.client_id)
    b.wait_log(r"asked %d message_deliver" % (n + 1), since=g.since)
    c.close()
    g.cancelled(n)
    g.cancelled(n + 1)
    g.open()
    c = b.connect(V5, c.client_id, clean=False, session_present=True, props=[(P.SESSION_EXPIRY, 0)])
    c.expect_message(topic, b"1", dup=False)
    c.expect_message(topic, b"2", dup=False)


def test_a_publish_whose_sender_has_gone_is_still_decided(b):
    """QoS 0 and away, as mosquitto_pub does it: a slow right must not lose the message."""
    topic = b.unique("t")
    watcher = b.connect(V5)
    watcher.subscribe(topic)
    g = Gate(b).close()
    c = b.client(V311)
    c.send_connect(b.unique("c"))
    g.asked("client_authenticate", c.client_id)
    g.open()
    c.expect(CONNACK, reason=0)
    g.close()
    c.send_publish(topic, b"x")
    c.send_raw(P.disconnect(V311))
    c.close()
    g.asked("acl_check-publish", c.client_id)
    assert waiting(watcher)
    g.open()
    watcher.expect_message(topic, b"x")


@broker(own=True, plugins=held(*ALL, late=True))
def test_the_broker_stops_although_requests_are_pending(b):
    c = b.connect(V5, b.unique("c"))
    g = Gate(b).close()
    c.send_publish("t", b"x", qos=1)
    g.asked("acl_check-publish", c.client_id)
    w = b.client(V5)
    w.send_connect(b.unique("w"))
    g.asked("client_authenticate", w.client_id)
    g.open()  # late: it answers what was cancelled
    b.stop()
    b.wait_log(r"destroyed: 0 workers, slots made (\d+) freed \1$")


# ---- deadlines -------------------------------------------------------------------------------------

SHORT = {"timeout": "200ms"}
CODES = {V31: 3, V311: 3, V5: 0x88}


@versions()
@broker(plugins=held("client_authenticate", **SHORT))
def test_a_connect_not_decided_in_time_is_server_unavailable(b, v):
    g = Gate(b).close()
    c = b.client(v)
    c.send_connect(b.unique("c"))
    n = g.asked("client_authenticate", c.client_id)
    c.expect(CONNACK, reason=CODES[v])
    c.expect_close()
    line = g.cancelled(n)
    assert "0 ms left" in line
    b.wait_log(r'plugin "gate": client_authenticate was not answered within \d+ ms', since=g.since)
    g.open()
    b.connect(v)


@versions()
@broker(plugins=held("acl_check", **SHORT))
def test_a_subscribe_not_decided_in_time_is_0x80(b, v):
    c = b.connect(v, b.unique("c"))
    g = Gate(b).close()
    p = c.subscribe([b.unique("a"), b.unique("b")], codes=[0x80, 0x80])
    if v == V5:
        assert "unavailable" in p.prop(P.REASON_STRING)
    g.open()
    c.subscribe(b.unique("a"))


@each(hook=("acl_check", "message_publish"), qos=(0, 1, 2))
@broker(plugins=lambda hook, **_: held(hook, **SHORT))
def test_a_publish_not_decided_in_time_is_0x83_in_5_0(b, hook, qos):
    topic = b.unique("t")
    watcher = b.connect(V5)
    watcher.subscribe(topic)
    c = b.connect(V5, b.unique("c"))
    g = Gate(b).close()
    packet_id = c.send_publish(topic, b"x", qos=qos)
    if qos:
        p = c.expect(PUBACK if qos == 1 else PUBREC, packet_id=packet_id, reason=0x83)
        assert "unavailable" in p.prop(P.REASON_STRING)
    else:
        g.asked(hook, None)
        b.wait_log(r"was not answered within", since=g.since)
    c.ping()
    assert waiting(watcher)
    g.open()
    assert c.publish(topic, b"y", qos=qos) == 0
    watcher.expect_message(topic, b"y")


@versions(3, 4)
@each(qos=(1, 2))
@broker(plugins=held("acl_check", **SHORT))
def test_a_publish_not_decided_in_time_closes_3_x_without_acknowledgement(b, v, qos):
    c = b.connect(v, b.unique("c"))
    g = Gate(b).close()
    c.send_publish(b.unique("t"), b"x", qos=qos)
    c.expect_close()
    g.open()


@versions(3, 4)
@broker(plugins=held("acl_check", **SHORT))
def test_qos_0_not_decided_in_time_is_dropped_in_3_x(b, v):
    c = b.connect(v, b.unique("c"))
    g = Gate(b).close()
    c.send_publish(b.unique("t"), b"x")
    c.ping()
    g.open()


@broker(plugins=held("message_deliver", timeout="100ms"))
def test_a_delivery_not_decided_in_time_is_kept_and_tried_again(b):
    topic = b.unique("t")
    c = b.connect(V5, b.unique("c"))
    c.subscribe(topic, qos=1)
    g = Gate(b).close()
    assert b.connect(V5).publish(topic, b"x", qos=1) == 0
    n = g.asked("message_deliver", c.client_id)
    g.cancelled(n)
    g.open()
    c.expect_message(topic, b"x", qos=1)


@broker(plugins=held("client_authenticate", **SHORT), limits={"connect_timeout": "100ms", "auth_timeout": "100ms"})
def test_a_plugin_may_be_given_more_time_than_connect_timeout(b):
    g = Gate(b).close()
    c = b.client(V5)
    c.send_connect(b.unique("c"))
    g.asked("client_authenticate", c.client_id)
    c.expect(CONNACK, reason=0x88)
    g.open()


@versions()
@each(on_error=("unavailable", "deny", "next"))
@broker(plugins=lambda on_error, **_: held("client_authenticate", "acl_check", on_error=on_error, verdict="unavailable"))
def test_on_error_says_what_a_backend_in_trouble_means(b, v, on_error):
    c = b.client(v)
    name = b.unique("c")
    if on_error == "unavailable":
        c.connect(name, reason=CODES[v])
    elif on_error == "deny":
        c.connect(name, reason=0x87 if v == V5 else 5)
    else:
        c.connect(name)
        c.subscribe(b.unique("t"))
        assert c.publish(b.unique("t"), b"x", qos=1) in (0, 0x10)


@each(verdict=("deny", "next", "unavailable"))
@broker(plugins=lambda verdict, **_: {"gate": gate(hooks=["client_authenticate"], verdict=verdict)})
def test_the_end_of_the_chain_is_no_and_trouble_is_not(b, verdict):
    """The same, answered late and at once; nobody else is in the chain, and credentials never become anonymous."""
    reason = 0x88 if verdict == "unavailable" else 0x87
    c = b.client(V5)
    c.connect(b.unique("c"), reason=reason, username="u", password="p")
    g = Gate(b).close()
    c = b.client(V5)
    c.send_connect(b.unique("c"), username="u", password="p")
    g.asked("client_authenticate", c.client_id)
    g.open()
    c.expect(CONNACK, reason=reason)
    c = b.client(V5)
    if verdict == "next":  # anonymous = yes is for those who brought nothing
        c.connect(b.unique("c"))
    else:
        c.connect(b.unique("c"), reason=reason)


# ---- limits ----------------------------------------------------------------------------------------


@broker(plugins=held("client_authenticate", max_pending=2))
def test_max_pending_bounds_what_a_plugin_is_asked(b):
    g = Gate(b).close()
    clients = []
    for i in range(2):
        c = b.client(V5)
        c.send_connect(b.unique("c"))
        g.asked("client_authenticate", c.client_id)
        clients.append(c)
    # The plugin was told; that it has not answered is counted when it has returned.
    b.wait_metric('grapnel_plugin_pending_requests{plugin="gate"}', 2)
    b.client(V5).connect(b.unique("more"), reason=0x88)
    assert b.metric('grapnel_hook_refused_total{plugin="gate",hook="client_authenticate"}') == 1
    g.open()
    for c in clients:
        c.expect(CONNACK, reason=0)
    b.connect(V5)


# ---- take-over -------------------------------------------------------------------------------------


@each(clean=(True, False))
def test_of_two_pending_connects_the_last_to_attach_wins(b, clean):
    name = b.unique("dev")
    g = Gate(b)
    b.connect(V5)
    start = b.metric('grapnel_hook_answers_total{plugin="gate",hook="client_authenticate",answer="allow"}')
    assert start > 0
    g.close()
    one, two = b.client(V5), b.client(V5)
    one.send_connect(name, clean=clean, props=[(P.SESSION_EXPIRY, 100)])
    n = g.asked("client_authenticate", name)
    two.send_connect(name, clean=clean, props=[(P.SESSION_EXPIRY, 100)])
    b.wait_log(r"asked %d client_authenticate %s$" % (n + 1, name))
    g.close(n)
    g.open()
    two.expect(CONNACK, reason=0, session_present=False)  # the second is decided first
    two.ping()
    g.open(n)
    one.expect(CONNACK, reason=0, session_present=not clean)
    two.expect_close(0x8E)
    one.ping()
    one.publish(b.unique("t"), b"x", qos=1)


def test_who_is_connected_stays_so_until_another_is_let_in(b):
    name = b.unique("dev")
    device = b.connect(V5, name, username="owner")
    g = Gate(b).close()
    again = b.client(V5)
    again.send_connect(name, username="owner")
    n = g.asked("client_authenticate", name)
    device.ping()
    again.reset()
    g.cancelled(n)
    g.open()
    device.ping()
    again = b.connect(V5, name, username="owner")
    device.expect_close(0x8E)
    again.ping()


def test_a_stranger_with_pending_connects_locks_no_device_out(b):
    """Requests are never keyed by client id: as many as one likes, and the device gets in all the same."""
    name = b.unique("dev")
    g = Gate(b).close()
    strangers = []
    for i in range(5):
        c = b.client(V5)
        c.send_connect(name, username="stranger")
        strangers.append(c)
    n = g.asked("client_authenticate", name)
    for i in range(5):
        b.wait_log(r"asked %d client_authenticate" % (n + i), since=g.since)
        g.close(n + i)
    g.open()
    device = b.connect(V5, name, username="owner")
    device.ping()
    for i in range(5):
        g.open(n + i)
    for c in strangers:  # the session has an owner
        c.expect(CONNACK, reason=0x85)
    device.ping()


@broker(plugins=held("acl_check"))
def test_a_take_over_cancels_what_the_old_connection_waited_for(b):
    name, topic = b.unique("dev"), b.unique("t")
    watcher = b.connect(V5)
    watcher.subscribe(topic)
    old = b.connect(V5, name)
    g = Gate(b).close()
    old.send_publish(topic, b"x", qos=1)
    n = g.asked("acl_check-publish", name)
    neu = b.connect(V5, name)
    old.expect_close(0x8E)
    g.cancelled(n)
    g.open()
    neu.ping()
    assert waiting(watcher), "it was never decided"


@broker(plugins=held("client_authenticate"))
def test_many_clients_that_come_and_leave_while_they_wait(b):
    g = Gate(b).close()
    for _ in range(3):
        clients = []
        for i in range(40):
            c = b.client((V31, V311, V5)[i % 3])
            c.send_connect(b.unique("c") if i % 4 else "same")
            clients.append(c)
        g.asked("client_authenticate", clients[-1].client_id)
        for i, c in enumerate(clients):
            if i % 2:
                c.reset()
        g.open()
        for i, c in enumerate(clients):
            if not i % 2:
                p = c.recv()
                assert (p.type, p.reason) == (CONNACK, 0), p
        g.close()
    g.open()
    b.wait_metric('grapnel_plugin_pending_requests{plugin="gate"}', 0)
    b.close_clients()
    b.wait_metric("connections", lambda v: v == 0)


@broker(plugins=dict(held("client_authenticate"), scribe={"file": "{dir}/events"}))
def test_who_leaves_before_connack_is_seen_as_refused(b):
    e = Events(b)
    g = Gate(b).close()
    c = b.client(V5)
    c.send_connect(b.unique("gone"), username="me")
    g.asked("client_authenticate", c.client_id)
    c.reset()
    got = e.wait("client_refused", client=c.client_id)
    assert (got["user"], got["code"], got["reason"]) == ("me", 0, "connection lost"), got
    g.open()
    b.connect(V5).ping()
    assert eventually(lambda: e.of("client_connected"), "the other one") and not e.of("client_connected", client=c.client_id)
