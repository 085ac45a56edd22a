# SPDX-License-Identifier: Apache-2.0
"""grapnelctl store: what is in a store comes out and goes in again, whole or not at all."""
import base64
import fcntl
import json
import os
import pwd
import sqlite3
import stat
import subprocess

from lib import mosquitto
from lib.broker import GRAPNELCTL, TIMEOUT
from lib.case import Skip, skip_if
from lib.store import HEADER, Store, b64, export_of, fill, named

LATER = {"at_ms": 99999999999999, "left_ms": 5000}


def session(number, client_id, **more):
    return dict({"type": "session", "id": number, "client_id": client_id, "protocol": 5, "expiry": 1000,
                 "connected": 7, "expires": LATER}, **more)


def message(number, topic, payload, *sessions, **more):
    return dict({"type": "message", "id": number, "topic": topic, "payload": payload, "qos": 1,
                 "receivers": [{"session": s, "qos": 1} for s in sessions]}, **more)


def retained(topic, payload, seq=1, **more):
    return dict({"type": "retained", "seq": seq, "topic": topic, "payload": payload, "qos": 1, "retain": True}, **more)


WILL = {"topic": "m/gone", "payload_base64": b64(b"\xff\x00"), "qos": 1, "retain": True, "delay": 3, "due": LATER,
        "expires": {"at_ms": 3, "left_ms": 4}, "properties": [{"property": "content_type", "value": "x"}]}
AUTHOR = {"client_id": "author", "username": "", "listener": "l", "protocol": 4}
EVERYTHING = [
    session(7, "a", mountpoint="m/", username="u", listener="l", peer="192.0.2.1:5", identity_source=2, superuser=True,
            attributes=[{"name": "n", "value": "v"}, {"name": "b", "value_base64": b64(b"\xff\x00")}],
            auth_plugin="auth-file", will_message=WILL),
    {"type": "session", "id": 9, "client_id": "a", "protocol": 4, "expiry": 4294967295, "connected": 0, "online": True,
     "anonymous": True},
    {"type": "session", "id": 12, "group": True, "client_id": "g/f/#", "protocol": 0, "expiry": 0, "connected": 0},
    {"type": "subscription", "session": 7, "filter": "m/x/+", "qos": 2, "subscription_id": 5, "retain_handling": 2,
     "no_local": True, "retain_as_published": True, "wild_first": True},
    {"type": "subscription", "session": 9, "filter": "$share/g/f/#", "qos": 1},
    {"type": "exchange", "session": 7, "confirmed": 3, "received": [1, 65535], "sent": [
        {"packet_id": 3, "state": "sent", "message": 100}, {"packet_id": 4, "state": "released"}]},
    retained("r/1", "one", 5, author=AUTHOR),
    {"type": "retained", "seq": 3, "topic": "r/2", "payload_base64": b64(bytes(range(256))), "qos": 2, "retain": True,
     "expires": LATER, "properties": [
         {"property": "payload_format", "value": 0}, {"property": "response_topic", "value": "answers"},
         {"property": "correlation_data", "value_base64": b64(b"\xfe")},
         {"property": "user_property", "name": "k", "value": "2"},
         {"property": "user_property", "name": "k", "value": "1"}]},
    {"type": "message", "id": 100, "topic": "m/x/1", "payload": "", "qos": 2, "will": True, "author": AUTHOR,
     "receivers": [{"session": 7, "qos": 2, "subscription_ids": [5, 268435455]},
                   {"session": 12, "qos": 1, "retain": True}]},
    message(70000, "x", "a\0b\x1b\u20ac", 9, author=AUTHOR, expires=LATER),
    message(70001, "x", "next", 9, author=AUTHOR),
    {"type": "ban", "address": "192.0.2.9", "until": LATER, "bans": 4},
    {"type": "value", "plugin": "p", "key": "k", "value": "v"},
    {"type": "value", "plugin": "p", "key_base64": b64(b"\xff"), "value": ""},
]


# ---- export and import -------------------------------------------------------------------------

def test_what_is_imported_is_exported_again():
    with Store() as s, Store() as other:
        s.load(*EVERYTHING)
        first = s.lines()
        assert named(first) == named(EVERYTHING), first
        s.ctl("export", other.path("file"))
        assert stat.S_IMODE(os.stat(other.path("file")).st_mode) == 0o600
        other.ctl("import", other.path("file"))
        assert other.lines() == first
        s.ctl("export", other.path("file"), code=1)  # never over another file


def test_a_long_queue_takes_many_segments_and_keeps_its_order():
    queue = [message(i, "q", "%05d" % i + "x" * 1000, 1 + i % 2, author=AUTHOR) for i in range(1, 1001)]
    with Store() as s:
        s.load(session(1, "one"), session(2, "two"), *queue)
        kept = s.of("message")
        assert [(x["payload"], x["author"]) for x in kept] == [(x["payload"], AUTHOR) for x in queue]
        stats = s.stats()
        assert stats["queued_messages"] == 1000 and stats["segments"] > 10, stats
        assert s.ctl("check").stdout


def test_nothing_is_imported_when_a_line_is_wrong():
    good = [session(1, "one"), message(5, "t", "p", 1)]
    wrong = (
            (b'{"type":"message"', b"JSON"),
            (b'[]', b"object"),
            (b'{"type":"nothing"}', b"no type"),
            (json.dumps(session(1, "two")).encode(), b"two sessions"),
            (json.dumps(session(2, "one")).encode(), b"client id"),
            (json.dumps(session(2, "")).encode(), b"client id"),
            (json.dumps(session(2, "two", extra=1)).encode(), b"does not know"),
            (json.dumps(session(2, "two", client_id_base64="YQ==")).encode(), b"twice"),
            (json.dumps(session(2, "two", attributes=[{"name": "n"}])).encode(), b'no "value"'),
            (json.dumps(message(6, "t", "p", 2)).encode(), b"no session 2"),
            (json.dumps(message(6, "t", "p", 1, 1)).encode(), b"twice"),
            (json.dumps(message(6, "t/#", "p", 1)).encode(), b"wildcard"),
            (json.dumps(message(6, "t", "p", 1, qos=3)).encode(), b"0 to 2"),
            (json.dumps(message(6, "t", "p", 1, properties_base64="JgA=")).encode(), b""),
            (json.dumps(message(6, "t", "p", 1, properties_base64="A")).encode(), b"base64"),
            (json.dumps(message(6, "t", "p", 1, properties=[{"property": "will_delay", "value": 1}])).encode(),
             b"no property"),
            (json.dumps(message(6, "t", "p")).encode(), b"receivers"),
            (json.dumps({"type": "subscription", "session": 1, "filter": "a/#/b", "qos": 1}).encode(), b"Filter"),
            (json.dumps({"type": "exchange", "session": 1, "received": [7, 7]}).encode(), b"twice"),
            (json.dumps(retained("r", "")).encode(), b"payload"),
            (json.dumps(HEADER).encode(), b"no type"),
            (json.dumps({"type": "end", "lines": 9}).encode(), b"missing"),
    )
    with Store() as s:
        lines = export_of(*good).splitlines()
        for text, why in wrong:
            r = s.ctl("import", "-", code=1, stdin=b"\n".join(lines[:-1] + [text, lines[-1]]))
            assert b"line 4: " in r.stderr and why in r.stderr and b"nothing is imported" in r.stderr, (text, r.stderr)
        assert s.lines() == []
        s.load(*good)


def test_an_export_that_is_not_whole_is_refused():
    whole = export_of(session(1, "one"), message(5, "t", "p", 1))
    with Store() as s:
        for cut in (0, 20, whole.rindex(b"{"), len(whole) - 4):
            s.ctl("import", "-", code=1, stdin=whole[:cut])
            assert s.lines() == []
        r = s.ctl("import", "--max-line", "100", "-", code=1, stdin=whole)
        assert b"--max-line" in r.stderr
        newer = whole.replace(b'"format": 1', b'"format": 2')
        assert newer != whole and b"newer" in s.ctl("import", "-", code=1, stdin=newer).stderr
        s.ctl("import", "-", stdin=whole)


def test_merging_keeps_what_is_there_unless_it_is_told():
    group = {"type": "session", "id": 3, "group": True, "client_id": "g/t", "protocol": 0, "expiry": 0, "connected": 0}
    with Store() as s:
        s.load(session(1, "one", username="old"), group, retained("r", "old", 8), message(5, "t", "1", 1, 3))
        new = (session(1, "one", username="new"), session(2, "two"), dict(group, id=4),
               {"type": "subscription", "session": 1, "filter": "new", "qos": 1},
               retained("r", "new", 2), retained("other", "new", 3), message(5, "t", "2", 1, 2, 4))
        assert b"not empty" in s.load(*new, code=1).stderr
        r = s.load(*new, args=("--merge", "--json"))
        done = json.loads(r.stdout)
        assert (done["sessions"], done["sessions_kept"], done["retained_kept"]) == (1, 1, 1), done
        assert b"session of one " in r.stderr
        assert [x["username"] for x in s.of("session") if x["client_id"] == "one"] == ["old"]
        assert not s.of("subscription")
        assert {x["topic"]: x["payload"] for x in s.of("retained")} == {"r": "old", "other": "new"}
        first, second = s.of("message")
        assert (len(first["receivers"]), len(second["receivers"])) == (2, 2), (first, second)
        assert first["receivers"][1] == second["receivers"][1], "the group is one"
        s.load(*new, args=("--merge", "--replace"))
        assert [x["username"] for x in s.of("session") if x["client_id"] == "one"] == ["new"]
        assert len(s.of("subscription")) == 1
        assert {x["topic"]: x["payload"] for x in s.of("retained")} == {"r": "new", "other": "new"}
        assert [(x["payload"], len(x["receivers"])) for x in s.of("message")] == [("1", 1), ("2", 1), ("2", 3)]


# ---- while the broker runs, and when the file is damaged --------------------------------------------

def test_only_what_reads_works_while_somebody_has_the_store():
    with Store() as s:
        s.load(*EVERYTHING)
        with open(os.path.join(s.store, "grapnel.lock"), "r+", encoding="ascii") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for command in (("import", "--merge", "-"), ("compact",)):
                r = s.ctl(*command, code=1, stdin=export_of(session(1, "x")))
                assert b"in use" in r.stderr, r.stderr
            assert len(s.lines()) == len(EVERYTHING)
            s.ctl("check")
            assert s.stats()["sessions_offline"] == 1
            os.mkdir(s.path("copy"))
            s.ctl("backup", s.path("copy/grapnel.db"))
            s.ctl("backup", s.path("copy/grapnel.db"), code=1)
        before, s.store = s.lines(), s.path("copy")
        assert s.lines() == before


def test_damage_is_told_and_left_out():
    with Store() as s:
        s.load(session(1, "one"), retained("r", "a payload to be found"), message(5, "t", "p", 1))
        assert b"no fault" in s.ctl("check").stdout
        with open(os.path.join(s.store, "grapnel.db"), "r+b") as f:
            data = f.read()
            f.seek(data.index(b"a payload to be found"))
            f.write(b"b")
        r = s.ctl("check", code=1)
        assert b"retained" in r.stdout and b"1 fault" in r.stdout, r.stdout
        assert json.loads(s.ctl("check", "--json", code=1).stdout)["count"] == 1
        r = s.ctl("export", code=1)
        assert b"retained r: " in r.stderr, r.stderr
        kinds = [json.loads(x)["type"] for x in r.stdout.splitlines()]
        assert kinds == ["grapnel-store", "session", "message", "end"]
        assert s.stats()["damaged_rows"] == 1


def test_what_is_no_store_is_said():
    with Store() as s:
        assert s.store.encode() in s.ctl("check", code=2).stderr
        for command in ("stats", "export", "compact"):
            assert s.store.encode() in s.ctl(command, code=1).stderr
        assert not os.path.exists(s.store)
        os.mkdir(s.store)
        with open(os.path.join(s.store, "grapnel.db"), "wb") as f:
            f.write(b"this is no database" * 1000)
        s.ctl("check", code=2)


def test_only_the_user_whose_it_is_writes_it():
    if os.geteuid() != 0:
        raise Skip("only root can give a folder away")
    with Store() as s:
        s.load(session(1, "one"))
        os.chown(s.store, pwd.getpwnam("nobody").pw_uid, -1)
        for command in (("import", "--merge", "-"), ("compact",)):
            r = s.ctl(*command, code=1, stdin=export_of(session(1, "two")))
            assert b"runuser -u nobody" in r.stderr, r.stderr
        assert len(s.lines()) == 1


def test_the_configuration_says_where_it_is():
    with Store() as s:
        s.load(session(1, "one"))
        with open(s.path("conf"), "w", encoding="utf-8") as f:
            f.write('store {\n\tdirectory = "%s"\n}\n' % s.store)
        r = subprocess.run([GRAPNELCTL, "store", "stats", "-c", s.path("conf"), "--json"], capture_output=True,
                           timeout=TIMEOUT, check=True)
        assert json.loads(r.stdout)["sessions_offline"] == 1
        r = subprocess.run([GRAPNELCTL, "store", "stats", "-c", s.path("none")], capture_output=True,
                           timeout=TIMEOUT, check=False)
        assert r.returncode == 1 and b"--directory" in r.stderr, r


def test_compact_drops_what_nobody_waits_for():
    with Store() as s:
        s.load(session(1, "one"), session(2, "two"),
               *[message(i, "t", "x" * 10000, 1) for i in range(1, 101)], message(101, "t", "stays", 2))
        s.load(session(1, "one"), args=("--merge", "--replace"))
        assert s.stats()["segments"] > 5
        sizes = json.loads(s.ctl("compact", "--json").stdout)
        assert sizes["bytes_before"] > 1000000 > 300000 > sizes["bytes_after"], sizes
        assert s.stats()["segments"] == 1
        assert [x["payload"] for x in s.of("message")] == ["stays"]
        s.load(session(1, "three"), message(1, "t", "behind", 1), args=("--merge",))
        assert [x["payload"] for x in s.of("message")] == ["stays", "behind"]
        s.ctl("check")


def test_no_number_means_two_things():
    with Store() as s:
        s.load(session(1, "one"), message(1, "t", "1", 1))
        session_id, = [x["id"] for x in s.of("session")]
        message_id, = [x["id"] for x in s.of("message")]
        s.load(session(1, "one"), args=("--merge", "--replace"))
        s.ctl("compact")
        assert s.stats()["segments"] == 0
        db = sqlite3.connect(os.path.join(s.store, "grapnel.db"))
        db.execute("UPDATE meta SET value = 1 WHERE name = 'next_id'")
        db.commit()
        db.close()
        s.load(session(1, "two"), message(1, "t", "2", 1), args=("--merge",))
        assert [x["id"] for x in s.of("session")] == [session_id + 1, session_id + 2]
        assert [x["id"] >> 16 for x in s.of("message")] == [(message_id >> 16) + 1]


# ---- from Mosquitto ----------------------------------------------------------------------------

@skip_if(mosquitto.PROGRAM is None, "there is no mosquitto here")
def test_what_mosquitto_kept_moves_over():
    m = mosquitto.Mosquitto().start()
    try:
        made = fill(m)
        m.stop()
        with Store() as s:
            done = json.loads(s.ctl("import", "--mosquitto", "--json", m.database).stdout)
            lines = s.lines()
            s.ctl("check")
    finally:
        m.remove()
    sessions = {x["client_id"]: x for x in lines if x["type"] == "session"}
    assert set(sessions) == {"watcher", "old", "share", "flight", "giver"}, sessions
    assert sessions["old"]["username"] == "ann" and sessions["old"]["expiry"] == 4294967295
    assert "expires" not in sessions["old"]
    assert 99000000 < sessions["watcher"]["expires"]["left_ms"] <= 100000000, sessions["watcher"]
    names = {x["id"]: name for name, x in sessions.items()}
    subs = {(names[x["session"]], x["filter"]): x for x in lines if x["type"] == "subscription"}
    assert set(subs) >= {("watcher", "q1/#"), ("watcher", "q2/+"), ("old", "q0/#"), ("old", "/+/x"), ("old", "q1/1"),
                         ("flight", "f/#"), ("giver", "q2/+")}, subs
    both = subs["watcher", "q2/+"]
    assert (both["qos"], both["subscription_id"], both["no_local"], both["retain_as_published"]) == (2, 7, True, True)
    kept = {x["topic"]: x for x in lines if x["type"] == "retained"}
    assert set(kept) == {"retained/bytes", "retained/props", "q2/1", "q2/given"}, kept
    assert base64.b64decode(kept["retained/bytes"]["payload_base64"]) == bytes(range(256))
    assert kept["retained/props"]["properties"] == [
        {"property": "content_type", "value": "text/plain"}, {"property": "user_property", "name": "k", "value": "1"},
        {"property": "user_property", "name": "k", "value": "2"}], kept
    assert 99000000 < kept["retained/props"]["expires"]["left_ms"] <= 100000000
    assert kept["retained/bytes"]["author"]["username"] == "bob"
    queues = {}
    for x in lines:
        for r in x.get("receivers", []):
            queues.setdefault(names[r["session"]], []).append((x["payload"], r["qos"]))
    assert queues["watcher"] == [("queued 0", 1), ("queued 1", 1), ("queued 2", 1), ("twice", 2), ("not released", 2)]
    assert queues["old"] == [("queued 1", 1), ("slash", 1)]
    assert queues["share"] == [("shared", 1)], "what one of a group had moves, the group itself is not in the file"
    assert queues["flight"] == [("f/qos1", 1), ("f/qos2", 2), ("f/qos2/b", 2)]
    assert queues["giver"] == [("twice", 2)], "what it had retained, but not its own: no_local"
    addresses = {x["payload"]: x["id"] for x in lines if x["type"] == "message"}
    exchanges = {names[x["session"]]: x for x in lines if x["type"] == "exchange"}
    assert exchanges["giver"]["received"] == [made["given"]], exchanges
    assert sorted(exchanges["flight"]["sent"], key=lambda x: x["packet_id"]) == [
        {"packet_id": p.packet_id, "state": "released"} if p.topic == "f/released" else
        {"packet_id": p.packet_id, "state": "sent", "message": addresses[p.topic]}
        for p in made["flight"]], exchanges
    assert done["sessions"] == 5, done
    assert [len(x["receivers"]) for x in lines if x.get("payload") == "queued 1"] == [2], "one message, two who wait"


@skip_if(mosquitto.PROGRAM is None, "there is no mosquitto here")
def test_half_a_file_of_mosquitto_moves_nothing():
    m = mosquitto.Mosquitto().start()
    try:
        fill(m)
        m.stop()
        with open(m.database, "rb") as f:
            data = f.read()
    finally:
        m.remove()
    with Store() as s:
        with open(s.path("half"), "wb") as f:
            f.write(data[:-3])
        r = s.ctl("import", "--mosquitto", s.path("half"), code=1)
        assert b"byte " in r.stderr and b"ends" in r.stderr, r.stderr
        assert s.lines() == []
        s.ctl("import", "--mosquitto", os.devnull, code=1)
