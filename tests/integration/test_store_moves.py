# SPDX-License-Identifier: Apache-2.0
"""grapnelctl store with real brokers: what moves from one to another arrives there, once."""
import os

from lib import mosquitto
from lib.broker import Broker
from lib.case import skip_if
from lib.mqtt import *  # noqa: F401,F403
from lib.store import Store, fill, named


def broker_on(store):
    return Broker(users={"ann": "pass-a-nn", "bob": "pass-b-ob"}, listeners={"mqtt": {"anonymous": True}},
                  limits={"takeover": "any"},
                  top={"store": {"directory": store.store, "durability": "strict"}})


def resume(b, client_id, version=V5, **options):
    if version == V5:
        options["props"] = [(P.SESSION_EXPIRY, 100000)]
    return b.connect(version, client_id, clean=False, session_present=True, **options)


def everything_arrives(b, made):
    """What lib.store.fill has left, at its clients, exactly once."""
    giver = resume(b, "giver")
    giver.expect_message("q2/1", b"twice", qos=2)
    giver.pubrel(made["given"])
    giver.wait_for(PUBCOMP, packet_id=made["given"], reason=0)
    giver.ping()

    watcher = resume(b, "watcher")
    for i in range(3):
        p = watcher.expect_message("q1/%d" % i, b"queued %d" % i, qos=1, retain=False)
        assert p.prop_all(P.SUBSCRIPTION_ID) == [7], p
    watcher.expect_message("q2/1", b"twice", qos=2, retain=True)
    watcher.expect_message("q2/given", b"not released", qos=2, retain=True)
    watcher.ping()
    b.connect(V5).publish("q2/new", "new", qos=2)
    watcher.expect_message("q2/new", b"new", qos=2)

    old = resume(b, "old", V311, username="ann", password="pass-a-nn")
    old.expect_message("q1/1", b"queued 1", qos=1)
    old.expect_message("/a/x", b"slash", qos=1)
    old.ping()

    share = resume(b, "share")
    share.expect_message("s/1", b"shared", qos=1)
    share.ping()

    flight = resume(b, "flight")
    released, *left = made["flight"]
    left = {p.topic: p for p in left}
    flight.expect(PUBREL, packet_id=released.packet_id)
    flight.pubcomp(released.packet_id)
    while left:
        p = flight.expect(PUBLISH)
        before = left.pop(p.topic)
        assert (p.payload, p.qos) == (before.payload, before.qos), p
        if p.qos == 2:  # it is the same delivery
            assert (p.packet_id, p.dup) == (before.packet_id, True), p
        flight.acknowledge(p)
    flight.ping()

    new = b.connect(V5)
    new.subscribe("retained/#")
    kept = {}
    for _ in range(2):
        p = new.expect(PUBLISH, retain=True)
        kept[p.topic] = p
    assert kept["retained/bytes"].payload == bytes(range(256))
    props = kept["retained/props"]
    assert props.prop_all(P.USER_PROPERTY) == [("k", "1"), ("k", "2")], props
    assert 90000 < props.prop(P.MESSAGE_EXPIRY) <= 100000, props
    new.ping()


@skip_if(mosquitto.PROGRAM is None, "there is no mosquitto here")
def test_clients_of_mosquitto_go_on_here():
    m = mosquitto.Mosquitto().start()
    try:
        made = fill(m)
        m.stop()
        with Store() as s:
            s.ctl("import", "--mosquitto", m.database)
            with broker_on(s) as b:
                everything_arrives(b, made)
                b.stop()
                assert b.start()
                resume(b, "watcher").ping()
    finally:
        m.remove()


def test_clients_go_on_at_another_broker():
    with Store() as s, Store() as other:
        with broker_on(s) as b:
            made = fill(b, {"bob": "pass-b-ob", "ann": "pass-a-nn"})
            b.kill9()
            before = s.lines()
        s.ctl("export", s.path("file"))
        other.ctl("import", s.path("file"))
        assert named(other.lines()) == named(before)
        with broker_on(other) as b:
            everything_arrives(b, made)


def test_a_running_broker_can_be_looked_into_and_copied():
    with Store() as s, Store() as copy:
        with broker_on(s) as b:
            made = fill(b, {"bob": "pass-b-ob", "ann": "pass-a-nn"})
            assert s.ctl("check").returncode == 0
            stats = s.stats()
            assert (stats["retained_messages"], stats["closed"]) == (4, False), stats
            assert stats["sessions_online"] + stats["sessions_offline"] == 5, stats
            r = s.ctl("import", "--merge", os.devnull, code=1)
            assert b"in use" in r.stderr, r.stderr
            lines = s.lines()
            os.mkdir(copy.store)
            s.ctl("backup", os.path.join(copy.store, "grapnel.db"))
            b.kill9()
        assert copy.lines() == lines
        with broker_on(copy) as b:
            everything_arrives(b, made)


def test_what_was_acknowledged_is_gone_after_compact():
    with Store() as s:
        with broker_on(s) as b:
            watcher = b.connect(V5, "watcher", clean=False, props=[(P.SESSION_EXPIRY, 100000)])
            watcher.subscribe("w/#", qos=1)
            watcher.close()
            p = b.connect(V5)
            for i in range(200):
                p.publish("w/%d" % i, b"x" * 5000, qos=1)
            watcher = resume(b, "watcher")
            for i in range(199):
                watcher.expect_message("w/%d" % i)
            watcher.expect(PUBLISH, topic="w/199")
            watcher.ping()
            b.stop()
            lines = s.lines()
            assert [x["topic"] for x in lines if x["type"] == "message"] == ["w/199"], lines
            s.ctl("compact")
            assert s.lines() == lines
            assert s.stats()["segments"] <= 2 and s.stats()["file_bytes"] < 500000, s.stats()
            s.ctl("check")
            b.start()
            resume(b, "watcher").expect_message("w/199", dup=True)
