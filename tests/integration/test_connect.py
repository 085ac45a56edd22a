# SPDX-License-Identifier: Apache-2.0
"""CONNECT, CONNACK, PINGREQ and the end of a connection."""
import time

from lib import wire
from lib.broker import Broker
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403

# ---- versions -----------------------------------------------------------------------------------


@versions()
def test_a_client_connects_and_is_told_that_there_was_no_session(b, v):
    b.connect(v, session_present=False).ping()


@versions()
def test_pings_are_answered_one_by_one(b, v):
    c = b.connect(v)
    c.send_raw(b"\xc0\x00" * 50)
    for _ in range(50):
        c.expect(PINGRESP)


def test_the_connack_says_what_differs_from_the_defaults(b):
    c = b.connect(V5)
    assert c.connack.prop(RECEIVE_MAXIMUM) == 512
    assert c.connack.prop(MAXIMUM_PACKET_SIZE) == 1 << 20
    assert c.connack.prop(TOPIC_ALIAS_MAXIMUM) == 16
    for prop in (MAXIMUM_QOS, RETAIN_AVAILABLE, WILDCARD_AVAILABLE, SHARED_AVAILABLE,
                 SERVER_KEEP_ALIVE, ASSIGNED_CLIENT_ID, SESSION_EXPIRY):
        assert c.connack.prop(prop) is None, c.connack


def test_the_connack_of_3_1_1_has_no_properties(b):
    c = b.connect(V311)
    assert c.connack.size == 4


def connect_bytes(name, level, flags=2, rest=b"\x00\x3c\x00\x01x"):
    return wire.packet(CONNECT, 0, wire.string(name) + bytes([level, flags]) + rest)


@each(level=(0, 1, 2, 6, 7, 127))
def test_an_unknown_protocol_level_is_refused_with_return_code_1(b, level):
    c = b.client(V311)
    c.send_raw(connect_bytes("MQTT", level))
    c.expect(CONNACK, reason=1, session_present=False)
    c.expect_close()


def test_a_wrong_protocol_name_gets_no_answer_or_a_refusal_and_is_closed(b):
    for name in ("MQTTX", "mqtt", "MQIsdP", "", "HTTP"):
        c = b.client(V311)
        c.send_raw(connect_bytes(name, 4))
        p = c.poll(c.timeout)
        assert p is None or (p.type == CONNACK and p.reason == 1), p
        c.expect_close()


@broker(limits={"protocol_versions": ["5.0"]})
def test_a_version_that_is_switched_off_is_refused(b):
    for v in (V31, V311):
        c = b.client(v)
        c.connect("off-%d" % v, reason=1)
        c.expect_close()
    b.connect(V5).ping()


@broker(limits={"protocol_versions": ["3.1.1"]})
def test_mqtt_5_that_is_switched_off_is_refused_with_0x84(b):
    c = b.client(V5)
    c.connect("off", reason=0x84)
    assert c.connack.prop(REASON_STRING)
    c.expect_close()
    b.connect(V311).ping()


# ---- client identifiers -------------------------------------------------------------------------

def test_an_empty_client_id_is_replaced_by_one_of_the_broker(b):
    ids = set()
    for _ in range(20):
        c = b.client(V5)
        c.connect("")
        assigned = c.connack.prop(ASSIGNED_CLIENT_ID)
        assert assigned, c.connack
        ids.add(assigned)
    assert len(ids) == 20


def test_an_assigned_client_id_can_be_used_to_come_back(b):
    c = b.client(V5)
    c.connect("", clean=False, props=[(SESSION_EXPIRY, 60)])
    c.subscribe("assigned/back")
    c.disconnect()
    b.connect(V5, c.client_id, clean=False, session_present=True)


def test_an_empty_client_id_in_3_1_1_needs_clean_session(b):
    b.connect(V311, "", clean=True).ping()
    c = b.client(V311)
    c.connect("", reason=2, clean=False)
    c.expect_close()


def test_an_empty_client_id_in_3_1_is_refused(b):
    c = b.client(V31)
    c.connect("", reason=2, clean=True)
    c.expect_close()


def test_two_anonymous_3_1_1_clients_are_two_clients(b):
    one, two = b.connect(V311, ""), b.connect(V311, "")
    one.ping()
    two.ping()


@versions()
def test_long_and_unusual_client_ids_are_accepted(b, v):
    for client_id in ("x" * 60000, "a/b+c#", "ünïcödé", "with space", "$SYS"):
        c = b.connect(v, client_id)
        c.ping()
        c.disconnect()


# ---- the first packet ---------------------------------------------------------------------------

def test_a_second_connect_is_a_protocol_error(b):
    for v in ALL:
        c = b.connect(v)
        c.send_connect(c.client_id)
        c.expect_close(0x82)


@each(packet=("PUBLISH", "PINGREQ", "SUBSCRIBE", "DISCONNECT", "PUBACK", "CONNACK", "AUTH"))
def test_anything_before_connect_is_closed_without_an_answer(b, packet):
    data = {
        "PUBLISH": wire.publish(V311, "a", b"x"), "PINGREQ": b"\xc0\x00",
        "SUBSCRIBE": wire.subscribe(V311, 1, [Sub("a")]), "DISCONNECT": b"\xe0\x00",
        "PUBACK": b"\x40\x02\x00\x01", "CONNACK": b"\x20\x02\x00\x00", "AUTH": b"\xf0\x00",
    }[packet]
    c = b.client(V311)
    c.send_raw(data)
    c.expect_close()


def test_what_follows_connect_in_one_write_is_handled_in_order(b):
    for v in ALL:
        topic = b.unique("pipeline")
        c = b.client(v)
        c.send_raw(wire.connect(v, b.unique("c")) + wire.subscribe(v, 7, [Sub(topic, 1)]) +
                   wire.publish(v, topic, b"one") + wire.publish(v, topic, b"two", 1, packet_id=9) +
                   b"\xc0\x00")
        c.expect(CONNACK, reason=0)
        got = [c.recv() for _ in range(5)]
        kinds = [p.type for p in got]
        assert [p.payload for p in got if p.type == PUBLISH] == [b"one", b"two"], got
        assert sorted(kinds) == sorted([SUBACK, PUBLISH, PUBLISH, PUBACK, PINGRESP]), got
        # The answers come in the order of what was asked.
        assert [k for k in kinds if k != PUBLISH] == [SUBACK, PUBACK, PINGRESP], got


@versions()
def test_a_connect_that_comes_byte_by_byte_is_understood(b, v):
    c = b.client(v)
    data = wire.connect(v, "slow-%d" % v, username=None,
                        will=Will("will/topic", "x", props=[(WILL_DELAY, 5)] if v == V5 else ()))
    for byte in data:
        c.send_raw(bytes([byte]))
        time.sleep(0.0005)
    c.expect(CONNACK, reason=0)
    c.ping()


@broker(limits={"connect_timeout": "400ms"})
def test_a_connect_that_dribbles_is_closed_when_connect_timeout_is_over(b):
    c = b.client(V5)
    data = wire.connect(V5, "dribble" * 100)
    started = time.monotonic()
    for byte in data:
        try:
            c.send_raw(bytes([byte]))
        except OSError:
            break
        if c.poll(0.05) is not None or c.eof:
            break
        assert time.monotonic() - started < 5, "still open"
    c.expect_close()
    assert b.metric("connect_timeouts_total") >= 1


@broker(limits={"connect_timeout": "300ms"})
def test_a_silent_connection_is_closed_when_connect_timeout_is_over(b):
    c = b.client(V5)
    c.expect_close(timeout=5)


@broker(limits={"max_connect_size": "1k"})
def test_a_connect_above_max_connect_size_is_refused_before_it_is_read(b):
    c = b.client(V5)
    c.send_raw(b"\x10\xff\xff\xff\x7f")  # 256 MiB announced
    c.expect_close()
    c = b.client(V5)
    c.send_raw(wire.connect(V5, "x", will=Will("t", b"x" * 2000)))
    c.expect_close()
    b.connect(V5, will=Will("t", b"x" * 100)).ping()


# ---- credentials --------------------------------------------------------------------------------

USERS = {"alice": "secret", "bob": "builder"}


@versions()
@broker(users=USERS)
def test_the_right_password_lets_in_and_the_wrong_one_does_not(b, v):
    b.connect(v, username="alice", password="secret").ping()
    for user, password in (("alice", "Secret"), ("alice", ""), ("nobody", "secret"),
                           ("alice", None), (None, None)):
        if v != V5 and user is None and password is not None:
            continue
        c = b.client(v)
        c.send_connect("wrong", username=user, password=password)
        p = c.expect(CONNACK)
        assert p.reason in ((0x86, 0x87) if v == V5 else (4, 5)), (user, password, p)
        c.expect_close()


@broker(users=USERS)
def test_a_password_without_user_name_is_legal_in_5_0_and_refused_by_rights(b):
    c = b.client(V5)
    c.send_connect("pw", password="secret")
    p = c.expect(CONNACK)
    assert p.reason in (0x86, 0x87)
    c.expect_close()


@broker(users=USERS, listeners={"mqtt": {"anonymous": True}})
def test_bad_credentials_never_become_anonymous(b):
    b.connect(V5).ping()
    for v in ALL:
        c = b.client(v)
        c.send_connect("x", username="alice", password="wrong")
        assert c.expect(CONNACK).reason != 0
        c.expect_close()


def test_credentials_that_nobody_knows_are_refused_where_anonymous_is_allowed(b):
    for v in ALL:
        c = b.client(v)
        c.send_connect("x", username="whoever", password="pw")
        assert c.expect(CONNACK).reason in ((0x86, 0x87) if v == V5 else (4, 5))
        c.expect_close()


def test_an_unknown_authentication_method_is_refused_with_0x8c(b):
    c = b.client(V5)
    c.connect("x", reason=0x8C, props=[(AUTH_METHOD, "SCRAM-SHA-9"), (AUTH_DATA, b"x")])
    c.expect_close()


# ---- keep alive ---------------------------------------------------------------------------------

@broker(limits={"max_keep_alive": 2})
def test_a_longer_keep_alive_is_lowered_and_the_client_is_told(b):
    assert b.connect(V5, keep_alive=100).connack.prop(SERVER_KEEP_ALIVE) == 2
    assert b.connect(V5, keep_alive=0).connack.prop(SERVER_KEEP_ALIVE) == 2
    assert b.connect(V5, keep_alive=1).connack.prop(SERVER_KEEP_ALIVE) is None


@versions()
@broker(limits={"max_keep_alive": 1})
def test_a_client_that_is_silent_for_one_and_a_half_keep_alives_is_closed(b, v):
    c = b.connect(v, keep_alive=1)
    started = time.monotonic()
    c.expect_close(0x8D)
    assert 1.2 < time.monotonic() - started < 6


@broker(limits={"max_keep_alive": 1})
def test_a_client_that_asks_for_no_keep_alive_is_under_the_ceiling_too(b):
    b.connect(V311, keep_alive=0).expect_close()


@broker(limits={"max_keep_alive": 1})
def test_single_bytes_do_not_keep_a_connection_alive(b):
    c = b.connect(V5, keep_alive=1)
    packet = wire.publish(V5, "a/b", b"x" * 1000)
    started = time.monotonic()
    for byte in packet:
        try:
            c.send_raw(bytes([byte]))
        except OSError:
            break
        p = c.poll(0.05)
        if p is not None or c.eof:
            break
        assert time.monotonic() - started < 6, "it outlived its Keep Alive"
    assert time.monotonic() - started < 6


@broker(limits={"max_keep_alive": 1})
def test_pings_keep_a_connection_alive(b):
    c = b.connect(V5, keep_alive=1)
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        c.ping()
        time.sleep(0.2)


# ---- DISCONNECT ---------------------------------------------------------------------------------

@versions()
def test_disconnect_closes_the_connection_without_an_answer(b, v):
    c = b.connect(v)
    c.send_raw(wire.disconnect(v))
    c.expect_close()


def test_packets_behind_a_disconnect_are_not_handled(b):
    watch = b.connect(V5)
    topic = b.unique("behind")
    watch.subscribe(topic)
    c = b.connect(V5)
    c.send_raw(wire.disconnect(V5) + wire.publish(V5, topic, b"no"))
    c.expect_close()
    watch.expect_nothing()


def test_request_problem_information_0_leaves_reason_strings_out(b):
    c = b.connect(V5, props=[(REQUEST_PROBLEM_INFO, 0)])
    c.send_raw(wire.subscribe(V5, 5, [Sub("a/#/b")]))
    p = c.expect(SUBACK, codes=[0x8F])
    assert p.prop(REASON_STRING) is None
    c.send_raw(b"\x00\x00")
    p = c.poll(c.timeout)
    assert p is None or (p.type == DISCONNECT and p.prop(REASON_STRING) is None), p


def test_a_protocol_error_is_explained_by_a_reason_string(b):
    c = b.connect(V5)
    c.send_connect("again")
    p = c.expect(DISCONNECT, reason=0x82)
    assert p.prop(REASON_STRING), p


@broker(own=True)
def test_clients_are_told_when_the_broker_stops(b):
    clients = [b.connect(V5) for _ in range(20)]
    old = b.connect(V311)
    b.stop()
    for c in clients:
        c.expect_close(0x8B)
    old.expect_close()


@broker(own=True)
def test_an_admin_can_disconnect_a_client(b):
    c = b.connect(V5, "victim")
    b.ctl("clients", "kick", "victim")
    c.expect_close(0x98)


@broker(limits={"max_connections": 3})
def test_connections_above_max_connections_are_closed(b):
    some = [b.connect(V5) for _ in range(3)]
    c = b.client(V5)
    try:
        c.send_connect("fourth")
        p = c.poll(c.timeout)
        assert p is None or p.reason != 0, p
    except OSError:
        pass
    for s in some:
        s.ping()
    some[0].disconnect()
    b.wait_metric("connections", 2)
    b.connect(V5).ping()


@broker(own=True, workers=4)
def test_a_port_belongs_to_one_broker_however_many_sockets_it_has_there(b):
    second = Broker(listeners={"mqtt": {"bind": "127.0.0.1:%d" % b.port, "anonymous": True}}, workers=4)
    try:
        second.start(wait=False)
        assert second.wait_exit() == 1
        assert second.log_lines("another program listens there"), second.lines
        some = [b.connect(V5) for _ in range(40)]  # all of them with the first one
        assert b.metric("connections") == len(some)
        b.stop()
        second.start()
        second.connect(V5).ping()
        second.stop()
    finally:
        second.remove()


@broker(listeners={"mqtt": {"anonymous": True}, "six": {"bind": "[::1]:0", "anonymous": True},
                   "local": {"bind": "unix:{dir}/mqtt.sock", "anonymous": True}})
def test_clients_of_all_listeners_meet(b):
    topic = b.unique("meet")
    some = [b.connect(V5, listener=name) for name in ("mqtt", "six", "local")]
    for c in some:
        c.subscribe(topic)
    for n, c in enumerate(some):
        c.publish(topic, str(n))
        for other in some:
            other.expect_message(topic, str(n))
