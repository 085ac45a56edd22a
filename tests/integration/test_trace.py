# SPDX-License-Identifier: Apache-2.0
"""grapnelctl clients trace: what is decided about one client, and by whom."""
import json

from lib.case import broker, default_broker, versions
from lib.mqtt import *  # noqa: F401,F403

NEXT = {"module": "verdict", "order": 10, "acl_check": "next", "only_topic": "never/*",
        "message_publish": "allow", "client_authenticate": "allow", "only_user": "nobody"}
RULES = "allow all free/#\ndeny publish closed/#\n"

BROKER = default_broker(users={"alice": "wonderland-1"}, rules=RULES,
                        plugins={"asked-first": dict(NEXT, acl_check="deny")}, log_level="info")


def login(b, client_id, version=V5, **options):
    return b.connect(version, client_id, username="alice", password="wonderland-1", **options)


def decisions(b, client_id, hook=None, **fields):
    """The kept records, oldest first: those of this hook and with these members."""
    kept = b.ctl_json("clients", "show", client_id)["decisions"]
    return [d for d in kept if hook in (None, d["hook"]) and
            all(d.get(k) == v for k, v in fields.items())]


def logged(b, client_id, since=0):
    return b.log_lines(r' info decision: .* for client "%s" ' % client_id, since)


def test_a_client_that_is_not_traced_leaves_no_record(b):
    name = b.unique("plain")
    c = login(b, name)
    c.publish("free/x", "1", qos=1)
    assert "decisions" not in b.ctl_json("clients", "show", name)
    assert not logged(b, name)


@versions()
def test_each_decision_is_kept_with_who_was_asked(b, v):
    name = b.unique("traced")
    c = login(b, name, v)
    b.ctl("clients", "trace", name)
    c.publish("free/x", "1", qos=1)
    c.subscribe("free/y", qos=1)
    d = decisions(b, name, "acl_check", action="publish")
    assert len(d) == 1, d
    d = d[0]
    assert (d["topic"], d["qos"], d["verdict"], d["plugin"]) == ("free/x", 1, "allow", "auth-file"), d
    assert [(s["plugin"], s["verdict"]) for s in d["steps"]] == [
        ("asked-first", "next"), ("auth-file", "allow")], d
    assert d["steps"][1]["rule"].endswith("rules:1"), d
    assert all(s["microseconds"] >= 0 for s in d["steps"]), d
    assert d["time"].endswith("Z"), d
    assert decisions(b, name, "acl_check", action="subscribe", topic="free/y", verdict="allow")
    assert decisions(b, name, "message_publish", topic="free/x", verdict="allow")
    assert len(logged(b, name)) == len(decisions(b, name))


def test_a_denial_names_the_rule(b):
    name = b.unique("denied")
    c = login(b, name)
    b.ctl("clients", "trace", name)
    assert c.publish("closed/x", "1", qos=1) == 0x87
    assert c.publish("elsewhere", "1", qos=1) == 0x87
    by_rule, by_default = decisions(b, name, "acl_check", verdict="deny")
    assert (by_rule["topic"], by_rule["plugin"]) == ("closed/x", "auth-file"), by_rule
    assert by_rule["steps"][-1]["rule"].endswith("rules:2"), by_rule
    assert by_default["topic"] == "elsewhere", by_default
    assert "default" in by_default["steps"][-1]["rule"], by_default


@broker(plugins={"part": {"module": "verdict", "order": 5, "acl_check": "allow", "only_topic": "a/*"}})
def test_what_no_plugin_decides_is_denied_by_default(b):
    name = b.unique("default")
    c = b.connect(V5, name)
    b.ctl("clients", "trace", name)
    assert c.publish("b/x", "1", qos=1) == 0x87
    d, = decisions(b, name, "acl_check")
    assert (d["verdict"], d["plugin"]) == ("deny", None) and "default" in d["rule"], d
    assert [(s["plugin"], s["verdict"]) for s in d["steps"]] == [("part", "next")], d


def test_the_trace_outlives_reconnects_and_has_the_logins(b):
    name = b.unique("again")
    c = login(b, name, clean=True)
    b.ctl("clients", "trace", name)
    for clean in (True, False):
        c.disconnect()
        c = login(b, name, clean=clean)
    good = decisions(b, name, "client_authenticate", verdict="allow")
    assert len(good) == 2, good
    assert good[0]["plugin"] == "auth-file" and good[0]["username"] == "alice", good


def test_a_refused_login_of_a_client_without_a_session_is_recorded_without_the_password(b):
    name = b.unique("refused")
    answer = b.ctl_json("clients", "trace", name)
    assert answer["session"] is False, answer
    c = b.client(V5)
    c.connect(name, username="alice", password="a-wrong-password-7", reason=0x87)
    shown = b.ctl("--json", "clients", "show", name).stdout
    client = json.loads(shown)
    assert client["session"] is False and client["connected"] is False, client
    assert [(d["hook"], d["verdict"]) for d in client["decisions"]] == [
        ("client_authenticate", "deny")], client
    assert client["decisions"][0]["peer"].startswith("127.0.0.1:"), client
    login(b, name)
    shown += b.ctl("clients", "show", name).stdout + "\n".join(b.log_lines())
    assert "a-wrong-password-7" not in shown and "wonderland-1" not in shown


def test_the_last_64_are_kept_and_payloads_are_not(b):
    name = b.unique("many")
    c = login(b, name)
    b.ctl("clients", "trace", name, "--minutes", "1440")
    for i in range(100):
        c.publish("free/%d" % i, "the-payload-%d" % i, qos=1)
    kept = decisions(b, name)
    assert len(kept) == 64, len(kept)
    assert kept[-1]["topic"] == "free/99", kept[-1]
    assert "the-payload" not in json.dumps(kept) + "\n".join(b.log_lines())


def test_off_forgets_and_ends_it(b):
    name = b.unique("off")
    c = login(b, name)
    b.ctl("clients", "trace", name)
    c.publish("free/x", "1", qos=1)
    b.ctl("clients", "trace", name, "--off")
    mark = b.mark()
    c.publish("free/y", "1", qos=1)
    assert "decisions" not in b.ctl_json("clients", "show", name)
    assert not logged(b, name, mark)
    r = b.ctl("clients", "trace", name, "--off", code=1)
    assert "not under trace" in r.stderr, r


def test_wrong_usage_is_said(b):
    for args in ([], ["--minutes", "0", "x"], ["--minutes", "1441", "x"], ["--minutes", "x", "x"],
                 ["--off", "--minutes", "5", "x"], ["x", "y"], ["--other", "x"]):
        b.ctl("clients", "trace", *args, code=2)


@broker()
def test_the_brokers_own_decisions_are_recorded_without_any_plugin(b):
    name = b.unique("anonymous")
    b.ctl("clients", "trace", name)
    c = b.connect(V5, name)
    c.publish("a/b", "1", qos=1)
    c.subscribe("$other/x", codes=[0x87])
    auth, publish, subscribe = decisions(b, name)
    assert (auth["hook"], auth["verdict"], auth["plugin"]) == ("client_authenticate", "next", None), auth
    assert (publish["topic"], publish["verdict"], publish["plugin"]) == ("a/b", "allow", None), publish
    assert publish["rule"].startswith("default") and publish["steps"] == [], publish
    assert (subscribe["topic"], subscribe["verdict"]) == ("$other/x", "deny"), subscribe


@broker(plugins={"tenants": {"module": "verdict", "order": 5, "client_authenticate": "allow",
                             "mountpoint": "north/", "rules": "allow all a/#", "only_user": "n*"},
                 "others": {"module": "verdict", "order": 6, "client_authenticate": "allow"}})
def test_session_rules_and_mountpoints(b):
    name = b.unique("tenant")
    north = b.connect(V5, name, username="n", clean=False, props=[(SESSION_EXPIRY, 600)])
    b.connect(V5, name, username="s")
    r = b.ctl("clients", "trace", name, code=1)
    assert "mountpoint" in r.stderr, r
    b.ctl("clients", "trace", name, "--mountpoint", "north/")
    north.publish("a/x", "1", qos=1)
    north.publish("a/x", "1", qos=1)
    north.publish("b/x", "1", qos=1)
    client = b.ctl_json("clients", "show", name, "--mountpoint", "north/")
    got = [(d["topic"], d["verdict"], d["plugin"]) for d in client["decisions"]]
    assert got == [("a/x", "allow", None), ("a/x", "allow", None), ("b/x", "deny", None)], client
    assert client["decisions"][0]["rule"] == "rules:1", client
    assert "kept" in client["decisions"][1]["rule"], client
    assert "decisions" not in b.ctl_json("clients", "show", name, "--mountpoint", "")


@broker(plugins={"slow": {"order": 5, "auth_delay": "10ms", "acl_delay": "300ms", "timeout": "100ms"}})
def test_a_plugin_that_does_not_answer_in_time_is_seen(b):
    name = b.unique("late")
    c = b.connect(V5, name)
    b.ctl("clients", "trace", name)
    assert c.publish("a/b", "1", qos=1) == 0x83
    d, = decisions(b, name, "acl_check")
    assert (d["verdict"], d["plugin"]) == ("unavailable", "slow"), d
    assert d["steps"][0]["microseconds"] >= 90000, d
