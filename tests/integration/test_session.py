# SPDX-License-Identifier: Apache-2.0
"""Sessions: clean start, expiry, resuming across versions, take-over, owners."""
import time

from lib import wire
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403

EXPIRY = [(SESSION_EXPIRY, 300)]


def keep(b, v, client_id, **options):
    """Connect with a session that outlives the connection."""
    props = EXPIRY if v == V5 else ()
    return b.connect(v, client_id, clean=False, props=props, **options)


@versions()
def test_a_kept_session_keeps_its_subscriptions_and_gets_what_came_meanwhile(b, v):
    name, topic = b.unique("kept"), b.unique("kept/t")
    c = keep(b, v, name, session_present=False)
    c.subscribe(topic, qos=2)
    c.disconnect()
    p = b.connect(V5)
    for n in range(1, 4):
        p.publish(topic, "message %d" % n, qos=n % 2 + 1)
    c = keep(b, v, name, session_present=True)
    for n in range(1, 4):
        c.expect_message(topic, "message %d" % n, qos=n % 2 + 1, dup=False)
    c.expect_nothing()


@versions()
def test_messages_of_qos_0_are_not_queued_for_a_client_that_is_away(b, v):
    name, topic = b.unique("away"), b.unique("away/t")
    c = keep(b, v, name)
    c.subscribe(topic, qos=1)
    c.disconnect()
    p = b.connect(V5)
    p.publish(topic, "gone", qos=0)
    p.publish(topic, "kept", qos=1)
    c = keep(b, v, name, session_present=True)
    c.expect_message(topic, "kept")
    c.expect_nothing()


@broker(limits={"queue_qos0": True})
def test_queue_qos0_keeps_qos_0_too(b):
    name, topic = b.unique("away"), b.unique("away/t")
    c = keep(b, V5, name)
    c.subscribe(topic, qos=1)
    c.disconnect()
    p = b.connect(V5)
    p.publish(topic, "zero", qos=0)
    p.publish(topic, "one", qos=1)
    c = keep(b, V5, name, session_present=True)
    c.expect_message(topic, "zero", qos=0)
    c.expect_message(topic, "one", qos=1)


@versions()
def test_a_clean_session_ends_with_its_connection(b, v):
    name, topic = b.unique("clean"), b.unique("clean/t")
    c = b.connect(v, name, clean=True)
    c.subscribe(topic, qos=1)
    c.disconnect()
    b.connect(V5).publish(topic, "nobody", qos=1)
    c = keep(b, v, name, session_present=False)
    c.expect_nothing()


@versions()
def test_clean_start_ends_the_session_there_was(b, v):
    name, topic = b.unique("fresh"), b.unique("fresh/t")
    c = keep(b, v, name)
    c.subscribe(topic, qos=1)
    c.disconnect()
    b.connect(V5).publish(topic, "lost", qos=1)
    c = b.connect(v, name, clean=True, session_present=False)
    c.expect_nothing()
    b.connect(V5).publish(topic, "not subscribed", qos=1)
    c.expect_nothing()


@each(first=ALL, second=ALL)
def test_a_session_is_resumed_by_a_client_of_another_version(b, first, second):
    if first == second:
        return
    name, topic = b.unique("across"), b.unique("across/t")
    c = keep(b, first, name)
    c.subscribe(topic, qos=2)
    c.disconnect()
    b.connect(V5).publish(topic, "hello", qos=2,
                          props=[(USER_PROPERTY, ("a", "b")), (CONTENT_TYPE, "text")])
    c = keep(b, second, name, session_present=True)
    p = c.expect_message(topic, "hello", qos=2)
    assert p.props == ([] if second != V5 else
                       [(USER_PROPERTY, ("a", "b")), (CONTENT_TYPE, "text")]), p


def test_session_expiry_0_ends_the_session_with_the_connection(b):
    name = b.unique("zero")
    c = b.connect(V5, name, clean=False, props=[(SESSION_EXPIRY, 0)])
    c.subscribe("zero/t", qos=1)
    c.disconnect()
    b.connect(V5, name, clean=False, session_present=False)


def test_a_session_expires_after_its_time(b):
    name = b.unique("short")
    c = b.connect(V5, name, clean=False, props=[(SESSION_EXPIRY, 1)])
    c.subscribe("short/t", qos=1)
    c.disconnect()
    c = b.connect(V5, name, clean=False, props=[(SESSION_EXPIRY, 1)], session_present=True)
    c.disconnect()
    expired = b.metric("sessions_expired_total")
    b.wait_metric("sessions_expired_total", lambda n: n > expired)
    b.connect(V5, name, clean=False, session_present=False)


def test_a_session_with_clean_start_and_expiry_is_kept(b):
    name = b.unique("start")
    b.connect(V5, name, clean=True, props=EXPIRY).disconnect()
    b.connect(V5, name, clean=False, session_present=True)


def test_disconnect_can_change_the_session_expiry(b):
    name = b.unique("longer")
    b.connect(V5, name, props=[(SESSION_EXPIRY, 1)]).disconnect(props=[(SESSION_EXPIRY, 300)])
    time.sleep(1.3)  # the time that the first expiry takes
    b.connect(V5, name, clean=False, session_present=True, props=EXPIRY).disconnect(
        props=[(SESSION_EXPIRY, 0)])
    b.connect(V5, name, clean=False, session_present=False)


def test_disconnect_must_not_make_a_session_expiry_out_of_0(b):
    c = b.connect(V5)
    c.send_raw(wire.disconnect(V5, 0, [(SESSION_EXPIRY, 10)]))
    c.expect_close(0x82)


@broker(limits={"max_session_expiry": 3})
def test_a_longer_session_expiry_is_lowered_and_the_client_is_told(b):
    for asked in (10, 0xFFFFFFFF):
        c = b.connect(V5, props=[(SESSION_EXPIRY, asked)])
        assert c.connack.prop(SESSION_EXPIRY) == 3, c.connack
    assert b.connect(V5, props=[(SESSION_EXPIRY, 2)]).connack.prop(SESSION_EXPIRY) is None


@broker(limits={"max_session_expiry": 1})
def test_sessions_of_3_1_1_end_at_the_ceiling(b):
    name = b.unique("old")
    b.connect(V311, name, clean=False).disconnect()
    b.connect(V311, name, clean=False, session_present=True).disconnect()
    b.wait_metric("sessions", 0)
    b.connect(V311, name, clean=False, session_present=False)


# ---- take-over ------------------------------------------------------------------------------------

@each(first=ALL, second=ALL)
def test_a_second_connection_takes_the_session_over(b, first, second):
    name, topic = b.unique("twice"), b.unique("twice/t")
    one = keep(b, first, name)
    one.subscribe(topic, qos=1)
    two = keep(b, second, name, session_present=True)
    one.expect_close(0x8E)
    b.connect(V5).publish(topic, "to the new one", qos=1)
    two.expect_message(topic, "to the new one")


def test_the_last_of_many_connections_has_the_session(b):
    name = b.unique("many")
    some = [keep(b, V5, name) for _ in range(30)]
    for c in some[:-1]:
        c.expect_close(0x8E)
    some[-1].ping()
    assert b.ctl_json("clients", "show", name)["connected"] is True


def test_unacknowledged_messages_go_to_the_one_that_took_over(b):
    name, topic = b.unique("moved"), b.unique("moved/t")
    one = keep(b, V5, name)
    one.subscribe(topic, qos=2)
    p = b.connect(V5)
    p.publish(topic, "1", qos=1)
    p.publish(topic, "2", qos=2)
    first = one.expect(PUBLISH, payload="1", dup=False)
    second = one.expect(PUBLISH, payload="2", dup=False)
    two = keep(b, V5, name, session_present=True)
    two.expect_message(topic, "1", dup=True, packet_id=first.packet_id)
    two.expect_message(topic, "2", dup=True, packet_id=second.packet_id)
    two.expect_nothing()


@versions()
def test_clean_start_takes_over_without_the_state(b, v):
    name, topic = b.unique("new"), b.unique("new/t")
    one = keep(b, v, name)
    one.subscribe(topic, qos=1)
    two = b.connect(v, name, clean=True, session_present=False)
    one.expect_close(0x8E)
    b.connect(V5).publish(topic, "x", qos=1)
    two.expect_nothing()


# ---- owners ---------------------------------------------------------------------------------------

USERS = {"alice": "a", "bob": "b"}


@versions()
@broker(users=USERS)
def test_a_session_of_another_user_cannot_be_taken_over(b, v):
    name, topic = b.unique("owned"), b.unique("owned/t")
    alice = keep(b, v, name, username="alice", password="a")
    alice.subscribe(topic, qos=1)
    for clean in (False, True):
        thief = b.client(v)
        thief.connect(name, clean=clean, username="bob", password="b",
                      reason=0x85 if v == V5 else 2)
        thief.expect_close()
    alice.ping()
    alice.disconnect()
    b.connect(V5, username="alice", password="a").publish(topic, "mine", qos=1)
    thief = b.client(v)
    thief.connect(name, clean=True, username="bob", password="b", reason=0x85 if v == V5 else 2)
    thief.expect_close()
    alice = keep(b, v, name, username="alice", password="a", session_present=True)
    alice.expect_message(topic, "mine")


@broker(users=USERS)
def test_the_id_is_free_for_others_when_the_session_has_ended(b):
    name = b.unique("freed")
    b.connect(V5, name, username="alice", password="a").disconnect()
    b.connect(V5, name, username="bob", password="b", session_present=False).ping()


@broker(users=USERS, limits={"takeover": "any"})
def test_takeover_any_lets_every_user_take_over(b):
    name = b.unique("any")
    alice = keep(b, V5, name, username="alice", password="a")
    bob = keep(b, V5, name, username="bob", password="b", session_present=True)
    alice.expect_close(0x8E)
    bob.ping()


@broker(users=USERS, listeners={"mqtt": {"anonymous": True}})
def test_an_anonymous_client_does_not_get_a_users_session_nor_the_other_way_round(b):
    for first, second in (({"username": "alice", "password": "a"}, {}),
                          ({}, {"username": "alice", "password": "a"})):
        name = b.unique("anon")
        keep(b, V5, name, **first)
        thief = b.client(V5)
        thief.connect(name, reason=0x85, **second)


# ---- limits ---------------------------------------------------------------------------------------

@broker(limits={"max_sessions": 3})
def test_more_than_max_sessions_are_refused(b):
    names = [b.unique("s") for _ in range(3)]
    for name in names:
        keep(b, V5, name)
    c = b.client(V5)
    c.connect("one too many", reason=0x97)
    c.expect_close()
    keep(b, V5, names[0], session_present=True).disconnect(props=[(SESSION_EXPIRY, 0)])
    b.wait_metric("sessions", 2)
    b.connect(V5).ping()


@broker(limits={"max_queued_messages": 5})
def test_a_full_queue_drops_messages_and_counts_them(b):
    name, topic = b.unique("full"), b.unique("full/t")
    c = keep(b, V5, name)
    c.subscribe(topic, qos=1)
    c.disconnect()
    p = b.connect(V5)
    before = b.metric("messages_dropped_queue_full_total")
    for n in range(12):
        p.publish(topic, str(n), qos=1)
    b.wait_metric("messages_dropped_queue_full_total", before + 7)
    assert b.metric("queued_messages") == 5
    c = keep(b, V5, name, session_present=True)
    got = [int(c.expect_message(topic).payload) for _ in range(5)]
    assert got == sorted(got), got
    c.expect_nothing()


@versions()
def test_the_queue_of_a_session_is_freed_with_it(b, v):
    name, topic = b.unique("freed"), b.unique("freed/t")
    before = b.metric("queued_messages")
    c = keep(b, v, name)
    c.subscribe(topic, qos=1)
    c.disconnect()
    p = b.connect(V5)
    for _ in range(20):
        p.publish(topic, "x" * 100, qos=1)
    b.wait_metric("queued_messages", before + 20)
    b.connect(v, name, clean=True)
    b.wait_metric("queued_messages", before)
