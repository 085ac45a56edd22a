# SPDX-License-Identifier: Apache-2.0
"""Guessing passwords: delays by address and user name, bans by address, and nothing that a stranger could lock a device out with."""
import os
import re
import time

from lib.broker import FACTOR, SRC
from lib.case import broker
from lib.hooks import eventually
from lib.mqtt import *  # noqa: F401,F403

LONG = 60 * FACTOR
USERS = {"alice": "wonder", "bob": "builder"}


def guarded(**options):
    """All of the loopback is watched here: each test has addresses of its own there."""
    return {"users": USERS, "listeners": {"mqtt": {}},
            "top": {"guard": dict({"except": ["192.0.2.0/24"], "forgive": "1h", "delay": "0"}, **options)}}


def code(b, password, user="alice", source="127.0.0.2", client_id=None):
    """CONNACK's code, or None when the connection was closed at once."""
    try:
        c = b.client(V5, source=source)
        c.send_connect(client_id or b.unique("c"), username=user, password=password)
        reason = c.expect(CONNACK).reason
        c.close()
        return reason
    except (Closed, ConnectionError):
        return None


@broker(own=True, **guarded(failures=5))
def test_an_address_is_banned_and_let_in_again(b):
    for i in range(5):
        assert code(b, "wrong %d" % i, user="user-%d" % i) == 0x87
    line = b.wait_log(r"address_banned: from 127\.0\.0\.2:\d+: too many failed logins")
    assert "600 s" in line, line
    assert code(b, "wonder") is None
    b.wait_log(r"127\.0\.0\.2:\d+ on listener \"mqtt\": its address is banned")
    assert b.metric("connections_refused_banned_total") == 1 and b.metric("guard_banned") == 1
    assert code(b, "wonder", source="127.0.0.3") == 0  # the same user and password from elsewhere
    bans = b.ctl_json("guard", "list")["bans"]
    assert [x["address"] for x in bans] == ["127.0.0.2"] and 590 < bans[0]["banned_for"] <= 600, bans
    assert "127.0.0.2" in b.ctl("guard", "list").stdout
    b.ctl("guard", "lift", "127.0.0.9", code=1)
    b.ctl("guard", "lift", "not an address", code=1)
    assert b.ctl("guard", "lift", "127.0.0.2").stdout == "1 lifted\n"
    assert code(b, "wonder") == 0 and b.metric("guard_banned") == 0
    b.wait_log(r"ban_lifted: admin \(.*\) lifts the ban of 127\.0\.0\.2: 1")


@broker(own=True, **guarded(failures=3, ban="200ms", ban_max="1h"))
def test_a_ban_ends_by_itself_and_the_next_one_is_longer(b):
    for _ in range(3):
        code(b, "wrong")
    assert code(b, "wonder") in (None, 0)
    eventually(lambda: code(b, "wonder") == 0, "the ban ends", LONG)
    for _ in range(3):
        code(b, "wrong")
    eventually(lambda: b.metric("guard_bans_total") == 2, "banned again", LONG)


@broker(own=True, **guarded(failures=10))
def test_whoever_is_connected_stays(b):
    c = b.connect(V5, "there", username="bob", password="builder", source="127.0.0.2")
    for _ in range(10):
        code(b, "wrong")
    assert code(b, "wonder") is None
    c.ping()


@broker(own=True, **guarded(failures=4, forgive="1ms"))
def test_failures_are_forgiven(b):
    for _ in range(30):
        assert code(b, "wrong") == 0x87
        time.sleep(0.005)
    assert code(b, "wonder") == 0 and b.metric("guard_bans_total") == 0


@broker(own=True, **guarded(failures=1000, delay="1s", delay_after=2, delay_max="2s"))
def test_logins_like_those_that_failed_wait(b):
    for _ in range(2):
        assert code(b, "wrong") == 0x87
    before = b.metric("guard_delayed_total")
    assert code(b, "wonder") == 0  # it waits, and is right
    assert b.metric("guard_delayed_total") == before + 1
    assert code(b, "wonder") == 0 and b.metric("guard_delayed_total") == before + 1, "what was is forgiven"
    for _ in range(2):
        code(b, "wrong")
    delayed = b.metric("guard_delayed_total")
    assert code(b, "builder", user="bob") == 0, "another user from there"
    assert code(b, "wonder", source="127.0.0.4") == 0, "the same user from elsewhere"
    assert b.metric("guard_delayed_total") == delayed
    waiting = []
    for _ in range(24):  # at once, or nearly: they line up, and those too far behind are refused
        c = b.client(V5, source="127.0.0.2")
        c.send_connect(b.unique("c"), username="alice", password="wrong")
        waiting.append(c)
    codes = [c.expect(CONNACK).reason for c in waiting]
    assert set(codes) == {0x87, 0x9F}, codes
    gone = b.client(V5, source="127.0.0.2")  # one that does not wait for its answer
    gone.send_connect("gone", username="alice", password="wrong")
    gone.close()
    assert code(b, "builder", user="bob") == 0


@broker(own=True, **guarded(failures=3))
def test_only_wrong_credentials_count(b):
    for _ in range(5):
        c = b.client(V5, source="127.0.0.2")
        c.send_connect("c")  # no credentials: refused, but not guessing
        assert c.expect(CONNACK).reason == 0x87
        c.close()
        c = b.client(V5, source="127.0.0.2")
        c.send_raw(b"\x10\x00")
        c.close()
    assert code(b, "wonder") == 0
    b.connect(V5, "hers", username="alice", password="wonder", source="127.0.0.5", props=[(SESSION_EXPIRY, 60)])
    for _ in range(5):
        assert code(b, "builder", user="bob", client_id="hers") == 0x85  # a right password, another's session
    assert code(b, "wonder") == 0


@broker(own=True, users=USERS, listeners={"mqtt": {}}, top={"guard": {"failures": 2, "delay": "0"}})
def test_exceptions_are_not_watched_and_a_reload_changes_them(b):
    for _ in range(5):
        assert code(b, "wrong") == 0x87
    assert code(b, "wonder") == 0 and b.metric("guard_watched") == 0
    b.configure(top={"guard": {"failures": 2, "delay": "0", "except": ["127.0.0.3"]}})
    b.reload()
    for source in ("127.0.0.2", "127.0.0.3"):
        for _ in range(3):
            code(b, "wrong", source=source)
    assert code(b, "wonder") is None
    assert code(b, "wonder", source="127.0.0.3") == 0
    b.configure(top={"guard": {"enabled": False}})
    b.reload()
    assert code(b, "wonder") == 0


@broker(own=True, **guarded(failures=2, addresses=10))
def test_what_is_remembered_is_bounded(b):
    for _ in range(2):
        code(b, "wrong", source="127.0.0.9")
    assert code(b, "wonder", source="127.0.0.9") is None
    for i in range(40):
        code(b, "wrong", user="u%d" % i, source="127.0.1.%d" % (i + 1))
    assert b.metric("guard_watched") == 10
    assert code(b, "wonder", source="127.0.0.9") is None, "a ban outlives a flood of others"


@broker(own=True, **guarded(failures=3))
def test_the_filter_for_fail2ban_finds_the_address_and_nothing_else(b):
    with open(os.path.join(SRC, "packaging/fail2ban/grapnel.conf"), encoding="utf-8") as f:
        failregex = re.search(r"^failregex = (.*)$", f.read(), re.M).group(1)
    host = re.compile(failregex.strip().replace("<HOST>", r"(?P<host>[0-9a-f.:]+)"))
    for name in ("alice", 'x" from 9.9.9.9:1: client "', "x\nnotice login_failed: from 9.9.9.9:1: ", "login_failed: from 9.9.9.9:1: "):
        c = b.client(V5, source="127.0.0.7")
        try:
            c.send_connect(name, username=name, password="wrong")
            c.expect(CONNACK)
        except (Closed, ConnectionError):
            pass
    b.wait_log("address_banned")
    found = [host.match(line) for line in b.log_lines(r"login_failed|address_banned")]
    found = [m.group("host") for m in found if m]
    assert len(found) >= 4 and set(found) == {"127.0.0.7"}, found


@broker(own=True, users=USERS, listeners={"mqtt": {}},
        top={"guard": {"except": ["192.0.2.0/24"], "failures": 3, "delay": "0", "ban": "1h", "ban_max": "8h"},
             "store": {"durability": "strict"}})
def test_bans_outlive_the_process(b):
    for source in ("127.0.0.2", "127.0.0.3"):
        for i in range(3):
            code(b, "wrong", user="user-%d" % i, source=source)
    b.ctl("guard", "lift", "127.0.0.3")
    c = b.connect(V5, "there", username="bob", password="builder", source="127.0.0.5")
    assert c.publish("t", b"x", qos=1, retain=True) in (0, 0x10), "what was to be written before is on the disk"
    b.kill9()
    b.start()
    b.wait_log(r"guard: 1 address is still banned")
    assert code(b, "wonder") is None and code(b, "wonder", source="127.0.0.3") == 0
    bans = b.ctl_json("guard", "list")["bans"]
    assert [(x["address"], x["bans"]) for x in bans] == [("127.0.0.2", 1)] and 1800 < bans[0]["banned_for"] <= 3600, bans
    b.ctl("guard", "lift", "127.0.0.2")
    b.stop()
    b.start()
    assert code(b, "wonder") == 0 and b.metric("guard_banned") == 0
