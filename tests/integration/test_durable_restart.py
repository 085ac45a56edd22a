# SPDX-License-Identifier: Apache-2.0
"""What is there again after the broker has ended, well or not: Wills, retained messages, groups, whose session it is, its expiry."""
import contextlib
import hashlib
import signal
import time

from lib.broker import TIMEOUT
from lib.case import each, versions
from lib.durable import DURABLE, drain, kept, pour
from lib.mqtt import *  # noqa: F401,F403
from lib.wire import Will

HOUR = 3600
KILLED = each(killed=(False, True))


def kept_for(seconds):
    return [(SESSION_EXPIRY, seconds)]


def payloads(packets):
    return [p.payload for p in packets]


def present(b, name, v=V5, there=True, **options):
    """That session is there, or is not. @return its client."""
    c = b.connect(v, name, clean=False, props=DURABLE if v == V5 else (), **options)
    assert v == V31 or c.connack.session_present == there, "%s: session present: %r" % (name, not there)
    return c


# ---- Wills ------------------------------------------------------------------------------------------------

def will(delay=None, topic="will", **options):
    return Will(topic, "it is dead", 1, props=[] if delay is None else [(WILL_DELAY, delay)], **options)


@KILLED
@versions()
def test_a_will_is_published_when_the_broker_ends_under_its_client(v, killed):
    with kept(workers=1) as b:  # else it may come twice after a kill: QoS 1
        b.asleep("heir", "will", 2)
        c = b.durable("dying", v=v, will=will())
        b.again(killed)
        heir = b.durable("heir")
        heir.expect_message("will", "it is dead", qos=1)
        heir.expect_nothing()
        c = present(b, "dying", v)
        b.again(killed=True)
        b.durable("heir").expect_nothing()  # once is enough
        c.close()


HEIRS = ["heir-%d" % i for i in range(4)]  # on both workers


def test_a_gentle_end_passes_on_all_wills_and_all_that_was_acknowledged():
    with kept() as b:
        for name in HEIRS:
            b.asleep(name, "#", 1)
        for i in range(12):
            w = will(topic="will/%d" % i)
            b.durable("dying-%d" % i, will=w) if i % 2 else b.connect(V5, will=w)
        acknowledged, publishers = [], [b.connect(V5, "p%d" % i) for i in range(4)]
        for i in range(100):
            if i == 50:
                for n, p in enumerate(publishers):
                    acknowledged += [b"%d.%d" % (n, p.expect(PUBACK).packet_id - 1) for _ in range(50)]
                b.signal(signal.SIGTERM)
            for n, p in enumerate(publishers):
                with contextlib.suppress(OSError):
                    p.send_publish("m", "%d.%d" % (n, i), 1)
        for n, p in enumerate(publishers):
            with contextlib.suppress(OSError, Closed):
                while (got := p.recv()).type == PUBACK:
                    acknowledged.append(b"%d.%d" % (n, got.packet_id - 1))
        b.wait_exit()
        b.again()
        b.connect(V5).publish("mark", "mark", 1)
        for name in HEIRS:
            c, got = b.durable(name), []
            while not got or got[-1].topic != "mark":
                got.append(c.expect_message())
            assert {p.topic for p in got} == {"will/%d" % i for i in range(12)} | {"m", "mark"}
            missing = set(acknowledged) - {p.payload for p in got}
            assert not missing, missing


@KILLED
@each(published=(False, True))
def test_the_expiry_of_a_will_counts_from_when_it_is_published(killed, published):
    with kept() as b:
        b.asleep("heir", "will", 1)
        c = b.durable("dying", will=Will("will", "it is dead", 1, True, [(MESSAGE_EXPIRY, 2 * HOUR)]))
        if published:
            c.close()
            b.wait_metric("queued_messages", 1)
        b.again(killed, HOUR)
        first, last = (1, HOUR) if published or not killed else (HOUR + 1, 2 * HOUR)
        left = b.durable("heir").expect_message("will", "it is dead").prop(MESSAGE_EXPIRY)
        assert first <= left <= last, left
        c = b.connect(V5)
        c.subscribe("will")
        left = c.expect_message("will", "it is dead", retain=True).prop(MESSAGE_EXPIRY)
        assert first <= left <= last, left


@KILLED
def test_a_delayed_will_that_was_published_is_not_published_again(killed):
    with kept(workers=1) as b:
        b.asleep("heir", "will", 1)
        c = b.durable("dying", will=will(1))
        c.close()
        b.wait_metric("queued_messages", 1)
        b.again(killed)
        heir = b.durable("heir")
        heir.expect_message("will", "it is dead")
        heir.expect_nothing()


@KILLED
@each(online=(False, True))
def test_a_delayed_will_that_fell_due_while_the_broker_was_down(killed, online):
    with kept() as b:
        b.asleep("heir", "will", 1)
        c = b.durable("dying", will=will(HOUR))
        if not online:
            c.close()
            b.wait_metric("sessions_online", 0)
        b.again(killed, 2 * HOUR)
        b.durable("heir").expect_message("will", "it is dead")


@KILLED
def test_a_delayed_will_that_is_not_due_waits_and_is_cancelled_by_its_client(killed):
    with kept() as b:
        b.asleep("heir", "#", 1)
        for name, delay in (("later", HOUR), ("soon", 1)):
            b.durable(name, will=will(delay, "will/" + name)).close()
        b.again(killed)
        heir = b.durable("heir")
        heir.expect_message("will/soon", "it is dead")
        heir.expect_nothing()
        present(b, "later").disconnect()
        b.again(killed, 2 * HOUR)
        b.durable("heir").expect_nothing()


@KILLED
def test_the_delay_counts_over_several_ends(killed):
    with kept() as b:
        b.asleep("heir", "will", 1)
        b.durable("dying", will=will(3 * HOUR)).close()
        b.wait_metric("sessions_online", 0)
        b.again(killed, 2 * HOUR)
        b.durable("heir").expect_nothing()
        b.again(killed, 4 * HOUR)
        b.durable("heir").expect_message("will", "it is dead")


@KILLED
def test_a_session_that_expires_before_the_delay_publishes_its_will_then(killed):
    with kept() as b:
        b.asleep("heir", "will", 1)
        b.durable("dying", props=kept_for(HOUR), will=will(100 * HOUR)).close()
        b.wait_metric("sessions_online", 0)
        b.again(killed, 2 * HOUR)
        b.durable("heir").expect_message("will", "it is dead")
        present(b, "dying", there=False)


# ---- retained messages ----------------------------------------------------------------------------------------

def retained(b, topic_filter="#", **options):
    """@return {topic: payload}."""
    c = b.connect(V5, **options)
    c.subscribe(topic_filter)
    c.ping()
    got = {p.topic: p.payload for p in c.put_aside}
    c.disconnect()
    return got


@KILLED
def test_retained_messages_are_replaced_cleared_and_expire(killed):
    with kept() as b:
        p = b.connect(V5)
        for topic, payload, props in (("a", "1", []), ("a", "2", []), ("b", "1", []), ("b", "", []), ("c", "1", [(MESSAGE_EXPIRY, HOUR)]),
                                      ("d", "1", [(MESSAGE_EXPIRY, 3 * HOUR)]), ("e", "1", []), ("e", "", []), ("e", "2", [])):
            assert p.publish(topic, payload, 1, retain=True, props=props) in (0, 0x10)
        b.again(killed, 2 * HOUR)
        wanted = {"a": b"2", "d": b"1", "e": b"2"}
        assert retained(b) == wanted
        assert b.connect(V5).publish("a", "", 1, retain=True) in (0, 0x10)
        b.again(killed, 2 * HOUR)
        del wanted["a"]
        assert retained(b) == wanted


RULES = """
user alice
allow publish a/#
allow publish b/#
user bob
allow all #
"""
USERS = {"alice": "a", "bob": "b"}
ALICE, BOB = {"username": "alice", "password": "a"}, {"username": "bob", "password": "b"}


@KILLED
def test_retained_messages_and_wills_of_somebody_who_may_not_publish_any_more(killed):
    with kept(users=USERS, rules=RULES) as b:
        b.asleep("heir", ["a/will", "b/will"], 1, **BOB)
        p = b.connect(V5, **ALICE)
        for topic in ("a/1", "b/1"):
            assert p.publish(topic, "x", 1, retain=True) in (0, 0x10)
        for topic in ("a/will", "b/will"):
            b.durable(topic, will=will(HOUR, topic), **ALICE).close()
        b.wait_metric("sessions_online", 1)
        b.options["files"]["rules"] = RULES.replace("allow publish b/#\n", "")
        b.again(killed, 2 * HOUR)
        assert set(retained(b, "+/1", **BOB)) == {"a/1"}
        heir = b.durable("heir", **BOB)
        heir.expect_message("a/will", "it is dead")
        heir.expect_nothing()


# ---- shared groups ---------------------------------------------------------------------------------------------------

MEMBERS = ["member-%d" % i for i in range(4)]  # on both workers


def group(b, filters=("$share/g/s/#",)):
    for name in MEMBERS:
        b.asleep(name, list(filters), 1)


def share_out(b, members, count):
    """All that comes to any of them, until there were so many. @return [[payload] of each]."""
    clients = [b.durable(name) for name in members]
    got = [[] for _ in members]
    deadline = time.monotonic() + TIMEOUT
    while sum(map(len, got)) < count:
        assert time.monotonic() < deadline, "%d of %d came: %r" % (sum(map(len, got)), count, got)
        for c, mine in zip(clients, got):
            p = c.poll(0.02)
            while p is not None:
                mine.append(p.payload)
                c.acknowledge(p)
                p = c.poll(0.002)
    for c in clients:
        c.expect_nothing(0.02)
    return got


@KILLED
def test_a_group_gets_what_came_while_nobody_was_there(killed):
    with kept() as b:
        group(b)
        with b.connect(V5) as p:
            pour(p, (("s/%d" % (i % 7), b"%d" % i) for i in range(200)))
        b.again(killed)
        got = share_out(b, MEMBERS, 200)
        assert sorted(int(x) for mine in got for x in mine) == list(range(200)), got
        b.again(killed)
        share_out(b, MEMBERS, 0)


@KILLED
@each(leaves=("unsubscribe", "clean start", "expires"))
def test_a_member_that_is_gone_for_good_leaves_its_part_to_the_others(killed, leaves):
    with kept() as b:
        group(b)
        if leaves == "expires":
            b.durable(MEMBERS[0], props=kept_for(HOUR)).disconnect()
        with b.connect(V5) as p:
            pour(p, (("s/x", b"%d" % i) for i in range(100)))
        b.again(killed, 2 * HOUR if leaves == "expires" else 0)
        if leaves == "unsubscribe":
            c = b.durable(MEMBERS[0], props=DURABLE + [(RECEIVE_MAXIMUM, 1)])
            c.unsubscribe("$share/g/s/#")
            c.close()
        elif leaves == "clean start":
            b.connect(V5, MEMBERS[0], clean=True, props=[(RECEIVE_MAXIMUM, 1)]).disconnect()
        # What it had been given before it left may still be its own.
        got = share_out(b, MEMBERS if leaves == "unsubscribe" else MEMBERS[1:], 100)
        assert sorted(int(x) for mine in got for x in mine) == list(range(100)), got
        b.again(killed)
        with b.connect(V5) as p:
            pour(p, (("s/x", b"%d" % i) for i in range(20)))
        got = share_out(b, MEMBERS[1:], 20)
        assert sorted(int(x) for mine in got for x in mine) == list(range(20)), got


@KILLED
def test_what_a_member_had_in_flight_goes_to_another(killed):
    with kept() as b:
        group(b)
        holder = b.durable(MEMBERS[0])
        with b.connect(V5) as p:
            pour(p, (("s/x", b"%d" % i) for i in range(20)))
        got = [holder.expect(PUBLISH) for _ in range(20)]
        for m in got[:5]:
            holder.puback(m.packet_id)
        holder.ping()
        b.again(killed)
        b.connect(V5, MEMBERS[0], clean=True).disconnect()
        left = sorted(int(x) for mine in share_out(b, MEMBERS[1:], 15) for x in mine)
        assert left == list(range(5, 20)) or (killed and set(left) >= set(range(5, 20))), left


# ---- whose session it is ------------------------------------------------------------------------------------------------

@KILLED
def test_the_same_client_identifier_in_two_mountpoints(killed):
    places = {"mqtt": {"anonymous": True}, "one": {"anonymous": True, "mountpoint": "one/"}, "two": {"anonymous": True, "mountpoint": "two/"}}
    with kept(listeners=places) as b:
        for place in places:
            b.asleep("same", ["#", "$share/g/+"], 1, listener=place)
        for place in places:
            with b.connect(V5, listener=place) as p:
                assert p.publish("x", place, 1) == 0
                assert p.publish("r", place, 1, retain=True) == 0
        b.again(killed)
        for place in ("one", "two"):
            c = present(b, "same", listener=place)
            got = sorted((p.topic, p.payload) for p in drain(c, 4))
            assert got == sorted([("x", place.encode()), ("r", place.encode())] * 2), got
            c.expect_nothing()
            assert retained(b, "r", listener=place) == {"r": place.encode()}
        got = drain(present(b, "same"), 8)
        assert sorted(set(p.topic for p in got)) == ["one/r", "one/x", "r", "two/r", "two/x", "x"], got


@KILLED
@each(takeover=("owner", "any"), v=(V311, V5))
def test_a_session_that_is_back_belongs_to_its_user(killed, takeover, v):
    with kept(users=USERS, rules=RULES + "user alice\nallow all #\n", limits={"takeover": takeover}) as b:
        b.asleep("s", "q", 1, v=v, **ALICE)
        with b.connect(V5, **BOB) as p:
            assert p.publish("q", "hers", 1) == 0
        b.again(killed)
        c = b.client(v)
        options = dict(clean=False, props=DURABLE if v == V5 else ())
        if takeover == "owner":
            c.connect("s", reason=0x85 if v == V5 else 2, **options, **BOB)
            present(b, "s", v, **ALICE).expect_message("q", "hers")
        else:
            c.connect("s", session_present=True, **options, **BOB)
            c.expect_message("q", "hers")


@KILLED
@versions()
def test_clean_start_ends_a_session_that_is_back(killed, v):
    with kept() as b:
        b.asleep("s", "q", 1, v=v)
        with b.connect(V5) as p:
            assert p.publish("q", "old", 1) == 0
        b.again(killed)
        c = b.connect(v, "s", clean=True, session_present=False, props=DURABLE if v == V5 else ())
        c.expect_nothing()
        b.again(killed)
        assert b.connect(V5).publish("q", "nobody", 1) == 0x10
        present(b, "s", v, there=v == V5).expect_nothing()


# ---- what it has -----------------------------------------------------------------------------------------------------------

@KILLED
def test_subscriptions_are_what_they_were(killed):
    with kept() as b:
        c = b.durable("s")
        c.subscribe([Sub("a/+", 2, rap=True)], props=[(SUBSCRIPTION_ID, 1)])
        c.subscribe([Sub("a/#", 1, no_local=True)], props=[(SUBSCRIPTION_ID, 268435455)])
        c.subscribe([Sub("own/#", 1, no_local=True), Sub("$share/g/a/x", 1), Sub("gone", 1), Sub("lower", 2)])
        c.subscribe([Sub("$share/h/y", 2)], props=[(SUBSCRIPTION_ID, 7)])
        c.subscribe("lower", 0)
        c.unsubscribe("gone")
        b.again(killed)
        c, p = present(b, "s"), b.connect(V5)
        p.publish("a/x", "1", 2, retain=True)
        got = sorted(drain(c, 2), key=lambda m: m.qos)
        assert [(m.qos, m.retain, sorted(m.prop_all(SUBSCRIPTION_ID))) for m in got] == [(1, False, []), (2, True, [1, 268435455])], got
        p.publish("y", "2", 2)
        assert c.expect_message("y", "2", qos=2).prop_all(SUBSCRIPTION_ID) == [7]
        for topic in ("own/x", "a/b/c"):
            assert c.publish(topic, "no local", 1) in (0, 0x10)
        assert p.publish("gone", "x", 1) == 0x10
        p.publish("lower", "3", 2)
        c.expect_message("lower", "3", qos=0)
        c.expect_nothing()


@KILLED
@each(v=(V311, V5))
def test_identifiers_go_with_their_session(killed, v):
    with kept() as b:
        b.asleep("heir", "q", 2)
        b.durable("s", "r", 2, v=v).close()
        p = b.connect(V5)
        assert p.publish("r", "1", 2) == p.publish("r", "2", 1) == 0
        c = b.durable("s", v=v)
        c.send_publish("q", "old", 2, packet_id=77)
        c.wait_for(PUBREC, packet_id=77)
        c.close()
        b.again(killed)
        b.connect(v, "s", clean=True).disconnect()
        b.again(killed)
        c = b.durable("s", "r", 2, v=v)
        c.expect_nothing()
        assert c.publish("q", "new", 2, packet_id=77) == 0
        assert payloads(drain(b.durable("heir"), 2)) == [b"old", b"new"]
        assert b.connect(V5).publish("r", "3", 2) == 0
        c.expect_message("r", "3", dup=False)


@KILLED
@each(v=(V311, V5))
def test_what_was_in_flight_with_qos_1_comes_again(killed, v):
    with kept() as b:
        c = b.durable("s", "q", 1, v=v)
        with b.connect(V5) as p:
            pour(p, (("q", b"%d" % i) for i in range(10)))
        before = [c.expect(PUBLISH) for _ in range(10)]
        for m in before[::2]:
            c.puback(m.packet_id)
        c.ping()
        b.again(killed)
        c = present(b, "s", v)
        if killed:  # what was acknowledged a moment ago may come once more
            got = payloads(drain(c, 5))
            while len(got) < 10 and got[-1] != b"9":
                got += payloads(drain(c, 1))
            assert set(got) >= {b"1", b"3", b"5", b"7", b"9"} and got == sorted(got), got
        else:
            got = drain(c, 5)
            assert [(m.packet_id, m.payload, m.dup) for m in got] == [(m.packet_id, m.payload, True) for m in before[1::2]], got
        c.disconnect()
        b.again(killed=False)
        present(b, "s", v).expect_nothing()


# ---- how long it lives ------------------------------------------------------------------------------------------------------

@KILLED
def test_session_expiry_is_what_was_said_last(killed):
    with kept(workers=1) as b:
        b.asleep("ended", "q", 1)
        b.durable("ended").disconnect(props=kept_for(0))
        b.asleep("longer", "q", 1, props=kept_for(10))
        b.durable("longer", props=kept_for(3 * HOUR)).disconnect()
        b.asleep("shorter", "q", 1)
        b.durable("shorter", props=kept_for(HOUR)).disconnect()
        b.asleep("by disconnect", "q", 1, props=kept_for(10))
        b.durable("by disconnect", props=kept_for(10)).disconnect(props=kept_for(3 * HOUR))
        b.durable("online", "q", 1, props=kept_for(3 * HOUR))
        b.durable("online, shorter", "q", 1, props=kept_for(HOUR))
        b.asleep("not any more", "q", 1)
        b.connect(V5, "not any more", clean=False, props=kept_for(0))
        b.durable("mark")  # nobody is told that a DISCONNECT is on the disk, but it is when this is
        b.again(killed, 2 * HOUR)
        for name in ("ended", "shorter", "online, shorter", "not any more"):
            present(b, name, there=False)
        for name in ("longer", "by disconnect", "online"):
            present(b, name)


@KILLED
@each(v=(V31, V311))
def test_clean_session_of_3_x_changes_what_is_kept(killed, v):
    with kept() as b:
        def connect(clean):
            return b.connect(v, "s", clean=clean)

        connect(True).disconnect()
        b.asleep("s", "q", 1, v=v)
        b.again(killed)
        assert b.connect(V5).publish("q", "1", 1) == 0
        connect(False).expect_message("q", "1")
        c = connect(True)
        c.subscribe("q", 1)
        b.again(killed)
        assert b.connect(V5).publish("q", "2", 1) == 0x10
        c = connect(False)
        c.expect_nothing()
        c.subscribe("q", 1)
        b.again(killed)
        assert b.connect(V5).publish("q", "3", 1) == 0
        connect(False).expect_message("q", "3")


# ---- other settings than before --------------------------------------------------------------------------------------------------

NAMES = ["s%d" % i for i in range(8)]


@KILLED
def test_the_number_of_workers_may_change(killed):
    with kept(workers=1) as b:
        group(b)
        for name in NAMES:
            b.asleep(name, name, 2)
        p = b.durable("publisher")
        pour(p, ((name, b"%d" % i, 2) for i in range(30) for name in NAMES))
        pour(p, (("s/x", b"%d" % i) for i in range(40)))
        given = p.send_publish("s0", "30", qos=2)
        p.expect(PUBREC, packet_id=given)
        left = {}
        for name in NAMES:  # one released, one sent, the rest queued
            c = b.durable(name, props=DURABLE + [(RECEIVE_MAXIMUM, 2)])
            first, second = c.expect(PUBLISH, payload=b"0"), c.expect(PUBLISH, payload=b"1")
            c.pubrec(first.packet_id)
            c.wait_for(PUBREL, packet_id=first.packet_id)
            left[name] = first.packet_id, second.packet_id
        for workers in (3, 2):
            b.again(killed, workers=workers)
        for name in NAMES:
            c = present(b, name)
            first, second = left[name]
            c.wait_for(PUBREL, packet_id=first)
            c.pubcomp(first)
            again = c.recv()
            assert (again.type, again.packet_id, again.payload, again.dup) == (PUBLISH, second, b"1", True), again
            c.acknowledge(again)
            assert payloads(drain(c, 28 + (name == "s0"))) == [b"%d" % i for i in range(2, 30 + (name == "s0"))]
            c.expect_nothing(0.01)
        p = present(b, "publisher")
        p.send_publish("s0", "30", qos=2, dup=True, packet_id=given)
        p.expect(PUBREC, packet_id=given, reason=0)
        p.pubrel(given)
        p.expect(PUBCOMP, packet_id=given, reason=0)
        b.durable("s0").expect_nothing()
        got = share_out(b, MEMBERS, 40)
        assert sorted(int(x) for mine in got for x in mine) == list(range(40)), got


@KILLED
def test_strict_relaxed_and_strict_again(killed):
    with kept() as b:
        b.asleep("s", "q", 2)
        wanted = []
        for run, durability in enumerate(("relaxed", "strict", "strict")):
            b.store(durability=durability)
            b.again(killed and run != 1)
            with b.connect(V5) as p:
                pour(p, (("q", b"%d.%d" % (run, i), 2) for i in range(20)))
                assert p.publish("r/%d" % run, "x", 1, retain=True) in (0, 0x10)
            wanted += [b"%d.%d" % (run, i) for i in range(20)]
        b.store(durability="relaxed")
        b.again(killed)
        assert payloads(drain(present(b, "s"), 60)) == wanted
        assert set(retained(b, "r/#")) == {"r/0", "r/1", "r/2"}


def fingerprint(b):
    with open(b.database, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def test_off_leaves_the_store_alone():
    with kept() as b:
        b.asleep("s", "q", 1)
        with b.connect(V5) as p:
            assert p.publish("q", "before", 1) == 0
            assert p.publish("r", "before", 1, retain=True) in (0, 0x10)
        b.close_clients()
        b.stop()
        before = fingerprint(b)
        b.store(durability="off")
        b.start()
        assert b.database in b.log_lines(" warning store_off: ", since=b.start_mark)[0]
        assert retained(b) == {}
        c = present(b, "s", there=False)
        c.subscribe("q", 1)
        assert b.connect(V5).publish("q", "in memory", 1) == 0
        assert b.connect(V5).publish("r", "in memory", 1, retain=True) in (0, 0x10)
        b.store(durability="strict")
        b.close_clients()
        b.stop()
        assert fingerprint(b) == before, "it was written to"
        b.start()
        c = present(b, "s")
        c.expect_message("q", "before")
        c.expect_nothing()
        assert retained(b) == {"r": b"before"}


def test_figures_of_the_store():
    with kept() as b:
        names = ("commits_total", "batches_total", "messages_total", "written_bytes_total", "commit_microseconds_total")
        before = {n: b.metric("store_" + n) for n in names}
        assert b.metric("store_state") == 0
        b.asleep("s", "q", 1)
        with b.connect(V5) as p:
            pour(p, (("q", b"x" * 1000) for i in range(50)))
        after = {n: b.metric("store_" + n) for n in names}
        assert after["messages_total"] - before["messages_total"] == 50, after
        assert after["written_bytes_total"] - before["written_bytes_total"] > 50000, after
        for n in ("commits_total", "batches_total", "commit_microseconds_total"):
            assert after[n] > before[n], n
        assert b.metric("store_file_bytes") + b.metric("store_wal_bytes") > 50000
        b.wait_metric("store_segments", lambda n: n > 0)
        b.fail()
        assert b.metric("store_state") == 2 and b.metric("store_failures_total") > 0
        refused = b.metric("store_refused_total")
        assert b.connect(V5).publish("q", "x", 1) == 0x97
        assert b.metric("store_refused_total") == refused + 1
        b.work()
        assert b.metric("store_state") == 0
        # A receiver that is faster than the disk saves it the work.
        c = b.durable("s")
        drain(c, 50)
        b.hold()
        written, spared = b.metric("store_messages_total"), b.metric("store_spared_total")
        with b.connect(V5) as p:
            for i in range(10):
                p.send_publish("q", "%d" % i, 1)
            drain(c, 10)
            for i in range(10):
                p.expect(PUBACK, reason=0)
        assert b.metric("store_spared_total") == spared + 10
        b.let_go()
        b.connect(V5).publish("kept", "x", 1, retain=True)
        assert b.metric("store_messages_total") == written
