# SPDX-License-Identifier: Apache-2.0
"""auth-http with a server of Python's standard library and with nginx."""
import os
import re
import shutil
import socket
import subprocess
import threading

from lib import pki
from lib.backend import Backend
from lib.broker import Broker, run_grapneld
from lib.case import each, skip_if
from lib.http_server import NGINX, Nginx, Scripted, Users
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import wait_until

ALLOW = {"result": "allow"}
UNAVAILABLE = 0x88
REFUSED = 0x87
PLUGIN = '{plugin="auth-http"}'
ALWAYS = {"cache": False, "breaker_failures": 0}


class Case(Backend):
    instance = "auth-http"

    def options(self):
        return {"login_url": self.server.url("/login"), "superuser_url": self.server.url("/superuser"), "connections": 4,
                "idle_timeout": "1s"}

    def settled(self, b):
        """No request is under way, and what was kept alive is closed after idle_timeout."""
        for name in ("requests_active", "requests_waiting", "connections"):
            b.wait_metric("plugin_" + name + PLUGIN, 0)


CASE = Case(Users)


def plugin(server, *urls, **options):
    options = dict(dict({"timeout": "5s"}, **ALWAYS), **options)
    for url in urls:
        options[url + "_url"] = server.url("/" + url)
    return {"auth-http": {k: v for k, v in options.items() if v is not None}}


def asking(server, *urls, others=None, workers=2, files=None, **options):
    """A broker that asks this server at these URLs."""
    plugins = plugin(server, *urls, **options)
    plugins.update(others or {})
    return Broker(listeners={"mqtt": {}}, plugins=plugins, workers=workers, files=files)


def tries(b, username="u", password="p", client_id=None, v=V5):
    return Backend.code(b, username, password, v, client_id)


def count(b, name):
    return b.metric("plugin_" + name + PLUGIN)


# ---- what every back end must do ----------------------------------------------------------------


def test_right_and_wrong_passwords_and_unknown_users():
    CASE.logins()


def test_names_that_mean_something_elsewhere_are_nobodys():
    CASE.nasty_names()


def test_rights_come_with_the_login():
    CASE.rights()


def test_the_service_comes_after_the_broker():
    CASE.stopped_before_start()


def test_the_service_is_killed_under_load():
    CASE.killed_under_load()


def test_the_service_hangs():
    CASE.hung()


@each(scheme=("http", "https"))
def test_a_mute_server_holds_up_only_who_asks_it(scheme):
    CASE.up()
    CASE.mute(login_url=lambda port: "%s://127.0.0.1:%d/login" % (scheme, port), superuser_url=None)


# ---- requests -----------------------------------------------------------------------------------

NAMES = ("a&is_admin=1", "a=b", "a%26x", "a b+c", "a\r\nX-Admin: yes", "a\n\nGET / HTTP/1.1", "http://other/", "../admin?x#y", "ü&€",
         "%u%p${x}", '"},"is_admin":true,"x":{"y":"', "\\", "x" * 15000)


@each(format=("json", "form", "get"))
def test_a_value_stays_the_value_of_its_field_whatever_is_in_it(format):
    how = {"method": "get"} if format == "get" else {"format": format}
    with Scripted() as s, asking(s, "login", headers=["X-Api-Key: k3y"], login_fields=[
            "username=%u", "password=%p", "id=%c/%l", "fixed=1&2", "mount=%m"], **how) as b:
        s.answers["/login"] = (200, ALLOW)
        for name in NAMES:
            if any(c in name for c in "\r\n") or (format == "get" and len(name) > 10000):
                continue  # no broker lets control characters into user names; Python's server has a limit for lines
            password = name + "\0\x01\r\n&admin=1"
            s.requests.clear()
            assert tries(b, name, password, name) == 0, name
            r, = s.requests
            wanted = {"username": name, "password": password, "id": name + "/mqtt", "fixed": "1&2", "mount": ""}
            assert (r.json() if format == "json" else dict(r.form())) == wanted, r.body
            assert r.path == "/login" and r.method == ("GET" if format == "get" else "POST")
            assert r.headers["X-Api-Key"] == "k3y" and r.headers["X-Admin"] is None
            assert r.headers["Host"] == "127.0.0.1:%d" % s.port and r.headers["User-Agent"].startswith("grapnel/")
            if format != "json":
                assert len(r.form()) == 5, r.form()


def test_line_breaks_in_names_and_topics_reach_nobody():
    """Where the broker lets them through they are data; nothing becomes a header, a second request or a line of the log."""
    with Scripted() as s, asking(s, "login", "acl", format="form") as b:
        s.answers["/login"] = s.answers["/acl"] = (200, ALLOW)
        for text in ("a\r\nX-Admin: yes", "a\n\nGET /evil HTTP/1.1\n\n", "\x01"):
            for v in (V311, V5):
                c = b.client(v)
                c.send_connect(text, username=text, password=text)
                try:
                    c.expect(CONNACK)
                except AssertionError:
                    pass  # closed: not text in the sense of MQTT
                c.close()
        assert tries(b) == 0
        for r in s.requests:
            assert r.path == "/login" and r.headers["X-Admin"] is None, r.target
        assert not [x for x in b.log_lines() if x.startswith(("X-Admin", "GET "))]


def test_a_password_that_is_no_text_is_wrong_in_json_and_sent_in_a_form():
    with Scripted() as s:
        s.answers["/login"] = (200, ALLOW)
        with asking(s, "login") as b:
            assert tries(b, "u", b"\xff\xfe") == REFUSED
            assert not s.requests
        with asking(s, "login", format="form") as b:
            assert tries(b, "u", b"\xff\xfe") == 0
            assert b"password=%FF%FE" in s.requests[-1].body


def test_nobody_is_asked_about_who_gave_no_name_or_password():
    with Scripted() as s, asking(s, "login") as b:
        s.answers["/login"] = (200, ALLOW)
        for user, password in ((None, None), ("u", None)):
            assert tries(b, user, password) == REFUSED
        assert not s.requests
        assert tries(b, "", "") == 0  # empty is not absent
        assert s.requests[0].json()["username"] == ""


def test_requests_share_few_connections_and_wait_for_one():
    most, now, lock = [0], [0], threading.Lock()

    def slow(request):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        threading.Event().wait(0.02)
        with lock:
            now[0] -= 1
        return 200, ALLOW

    with Scripted() as s, asking(s, "login", connections=2, workers=1, request_timeout="20s", timeout="20s") as b:
        s.answers["/login"] = slow
        clients = [b.client(V5) for _ in range(40)]
        for i, c in enumerate(clients):
            c.send_connect("c%d" % i, username="u", password="p")
        for c in clients:
            c.expect(CONNACK, reason=0)
        assert most[0] <= 2, most
        assert len({r.connection for r in s.requests}) == 2
        assert count(b, "requests_active") == count(b, "requests_waiting") == 0
        assert count(b, "requests_total") == 40 and count(b, "connections") == 2


def test_who_finds_the_queue_full_hears_that_it_is_unavailable():
    go = threading.Event()

    def held(request):
        go.wait(30)
        return 200, ALLOW

    with Scripted() as s, asking(s, "login", connections=1, queue=1, http2=False, workers=1, request_timeout="30s",
                                 timeout="30s") as b:
        s.answers["/login"] = held
        clients = [b.client(V5) for _ in range(5)]
        for i, c in enumerate(clients):
            c.send_connect("c%d" % i, username="u", password="p")
        wait_until(lambda: count(b, "requests_refused_total") == 3, "three are refused", TIMEOUT)
        assert count(b, "requests_active") == 1 and count(b, "requests_waiting") == 1
        go.set()
        assert sorted(c.expect(CONNACK).reason for c in clients) == [0, 0] + [UNAVAILABLE] * 3


def test_a_client_that_goes_takes_its_request_along():
    go = threading.Event()

    def held(request):
        go.wait(30)
        return 200, ALLOW

    with Scripted() as s, asking(s, "login", request_timeout="30s", timeout="30s") as b:
        s.answers["/login"] = held
        clients = [b.client(V5) for _ in range(4)]
        for i, c in enumerate(clients):
            c.send_connect("c%d" % i, username="u", password="p")
        wait_until(lambda: count(b, "requests_active") == 4, "all are asked about", TIMEOUT)
        for c in clients:
            c.close()
        b.wait_metric("plugin_requests_active" + PLUGIN, 0)
        b.wait_metric("plugin_connections" + PLUGIN, 0)
        go.set()
        assert tries(b) == 0


# ---- answers ------------------------------------------------------------------------------------

STATUSES = (
    (200, ALLOW, 0), (201, ALLOW, 0), (401, "", REFUSED), (403, ALLOW, REFUSED),
    (404, ALLOW, REFUSED),  # not mine; nobody else knows, either
    (204, "", REFUSED),
    (400, ALLOW, UNAVAILABLE), (405, "", UNAVAILABLE), (418, "", UNAVAILABLE), (429, "", UNAVAILABLE), (500, ALLOW, UNAVAILABLE),
    (502, "", UNAVAILABLE), (503, "", UNAVAILABLE),
    (301, ALLOW, UNAVAILABLE), (304, "", UNAVAILABLE),
    (200, {"result": "deny"}, REFUSED), (200, {"result": "ignore"}, REFUSED),
    # status 200 is not enough
    (200, "", UNAVAILABLE), (200, "OK", UNAVAILABLE), (200, "<html>Please log in</html>", UNAVAILABLE), (200, "{}", UNAVAILABLE),
    (200, "[]", UNAVAILABLE), (200, '"allow"', UNAVAILABLE), (200, "true", UNAVAILABLE), (200, '{"result":true}', UNAVAILABLE),
    (200, '{"result":"ALLOW"}', UNAVAILABLE), (200, '{"result":"allowed"}', UNAVAILABLE), (200, '{"Result":"allow"}', UNAVAILABLE),
    (200, '{"result":"allow"', UNAVAILABLE), (200, '{"result":"allow"}x', UNAVAILABLE), (200, '{"result":"allow\\u0000"}', UNAVAILABLE),
    (200, '{"result":"deny","result":"allow"}', UNAVAILABLE), (200, "[" * 10000, UNAVAILABLE), (200, '{"result":"al\xfflow"}', UNAVAILABLE),
    # nor is half an answer
    (200, {"result": "allow", "acl": 7}, UNAVAILABLE), (200, {"result": "allow", "acl": ["nonsense"]}, UNAVAILABLE),
    (200, {"result": "allow", "acl": [{"permission": "maybe", "topic": "x"}]}, UNAVAILABLE),
    (200, {"result": "allow", "acl": [{"topic": "#", "ipaddr": "10.0.0.0/8"}]}, UNAVAILABLE),
    (200, {"result": "allow", "attributes": {"A B": "x"}}, UNAVAILABLE), (200, {"result": "allow", "attributes": {"a": []}}, UNAVAILABLE),
    (200, {"result": "allow", "attributes": {"cert.cn": "x"}}, UNAVAILABLE), (200, {"result": "allow", "limits": {"nonsense": 1}}, UNAVAILABLE),
    (200, {"result": "allow", "limits": {"max_qos": 7}}, UNAVAILABLE), (200, {"result": "allow", "valid_until": "soon"}, UNAVAILABLE),
    (200, {"result": "allow", "attributes": {"a%d" % i: "x" for i in range(33)}}, UNAVAILABLE),
)


def test_only_what_is_understood_lets_anybody_in():
    with Scripted() as s, asking(s, "login") as b:
        for status, body, code in STATUSES:
            s.answers["/login"] = (status, body)
            assert tries(b) == code, (status, body)
        for v, code in ((V311, 3), (V5, UNAVAILABLE)):
            s.answers["/login"] = (500, "")
            assert tries(b, v=v) == code
        s.answers["/login"] = (200, ALLOW)
        assert tries(b) == 0
        b.wait_log(r"login_url .*works again")


def test_trouble_is_told_once_and_its_end_too_and_never_with_a_secret():
    with Scripted() as s, asking(s, "login", bearer_token="t0ken-secret", headers=["X-Key: header-secret"]) as b:
        for _ in range(5):
            s.answers["/login"] = (503, "answer-secret")
            assert tries(b, "u", "pass-secret") == UNAVAILABLE
        for _ in range(3):
            s.answers["/login"] = (200, ALLOW)
            assert tries(b, "u", "pass-secret") == 0
        assert s.requests[0].headers["Authorization"] == "Bearer t0ken-secret"
        line, = b.log_lines(r"error .*login_url")
        assert "status 503" in line and s.url("/login") in line, line
        b.wait_log(r"login_url .*works again")
        assert len(b.log_lines(r"login_url .*works again")) == 1
        assert not b.log_lines(r"secret"), b.log_lines(r"secret")
        assert "secret" not in b.ctl("config").stdout


def test_a_redirection_is_not_followed():
    with Scripted() as other, Scripted() as s, asking(s, "login", bearer_token="secret") as b:
        other.answers["/login"] = (200, ALLOW)
        for status in (301, 302, 303, 307, 308):
            s.answers["/login"] = (status, "", {"Location": other.url("/login")})
            assert tries(b) == UNAVAILABLE
        assert not other.requests
        b.wait_log(r"redirection")


def raw(*parts, pause=0.0, times=1):
    """An answer as bytes."""
    def write(handler):
        try:
            for _ in range(times):
                for part in parts:
                    handler.wfile.write(part)
                    threading.Event().wait(pause)
        except OSError:
            pass  # cut: that is the point
    return lambda request: write


def test_answers_that_are_too_large_never_end_or_are_no_http_are_cut():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    large = b'{"result":"allow","x":"' + b"x" * 2000 + b'"}'
    with Scripted() as s, asking(s, "login", max_answer=1000, request_timeout="500ms", timeout="20s") as b:
        for what, answer in {
                "said to be too large": raw(head + b"Content-Length: 2025\r\n\r\n" + large),
                "too large": raw(head + b"\r\n" + large),
                "chunks without end": raw(head + b"Transfer-Encoding: chunked\r\n\r\n", *[b"3e8\r\n" + b" " * 1000 + b"\r\n"] * 50),
                "too many headers": raw(head, *[b"X-%d: " % i + b"x" * 5000 + b"\r\n" for i in range(20)], b'\r\n{"result":"allow"}'),
                "one header without end": raw(head + b"X: ", b"x" * 65536, times=20),
                "a body that is cut": raw(head + b"Content-Length: 100\r\n\r\n{\"result\":\"allow\"}"),
                "slow drops": raw(b"HTTP/1.1 200 OK\r\n", *[b"x"] * 100, pause=0.05),
                "slow drops of a body": raw(head + b"\r\n{", *[b" "] * 100, pause=0.05),
                "nothing": raw(),
                "no HTTP": raw(b"SSH-2.0-x\r\n" * 10),
                "bad chunks": raw(head + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
                "two lengths": raw(head + b"Content-Length: 18\r\nContent-Length: -1\r\n\r\n{\"result\":\"allow\"}"),
        }.items():
            s.answers["/login"] = answer
            assert tries(b) == UNAVAILABLE, what
        s.answers["/login"] = (200, ALLOW)
        assert tries(b) == 0
        assert count(b, "requests_failed_total") >= 11 and count(b, "requests_timeout_total") >= 2
        b.held_nobody()


def test_a_slow_answer_is_an_answer():
    def slow(request):
        threading.Event().wait(0.5)
        return 200, ALLOW

    with Scripted() as s, asking(s, "login", request_timeout="30s", timeout="30s") as b:
        s.answers["/login"] = slow
        assert tries(b) == 0


def test_what_a_login_brings():
    with Scripted() as s, asking(s, "login") as b:
        s.answers["/login"] = (200, {
            "result": "allow", "username": "renamed", "attributes": {"tenant": "acme", "acl": "a name like others", "n": 7, "none": None},
            "limits": {"max_qos": 1}, "unknown": {"x": []}, "mountpoint": "m/",
            "acl": ["allow publish out/%u", {"topic": "in/%{tenant}/#", "qos": 1, "action": "subscribe"}, "allow read in/#"]})
        c = b.client(V5)
        c.send_connect("c", username="u", password="p")
        assert (36, 1) in c.expect(CONNACK, reason=0).props  # Maximum QoS
        c.subscribe("in/acme/#", qos=1)
        c.subscribe("in/other/#", qos=1, codes=[0x87])
        assert c.publish("out/renamed", "x", qos=1) in (0, 0x10)
        assert c.publish("out/u", "x", qos=1) == 0x87
        s.answers["/login"] = (200, ALLOW)
        watcher = b.connect(V5, username="w", password="p")
        watcher.subscribe("#", qos=1)
        assert c.publish("out/renamed", "x", qos=1) == 0
        watcher.expect_message(topic="m/out/renamed", payload="x")


def test_a_reason_goes_to_mqtt_5_clients():
    with Scripted() as s, asking(s, "login") as b:
        s.answers["/login"] = (200, {"result": "deny", "reason": "your subscription has ended"})
        c = b.client(V5)
        c.send_connect("c", username="u", password="p")
        assert (31, "your subscription has ended") in c.expect(CONNACK, reason=REFUSED).props


def test_a_login_ends_when_the_service_says():
    import time
    with Scripted() as s, asking(s, "login") as b:
        s.answers["/login"] = (200, {"result": "allow", "expire_at": int(time.time()) + 2})
        c = b.connect(V5, username="u", password="p")
        c.expect(DISCONNECT, reason=0xA0)


# ---- superusers, rights, revalidation -----------------------------------------------------------


def test_superusers_are_asked_about_after_the_login():
    with Scripted() as s, asking(s, "login", "superuser", "acl") as b:
        s.answers["/login"] = lambda r: (200, {"result": "allow", "username": r.json()["username"].upper()})
        s.answers["/superuser"] = lambda r: (200, {"result": "allow" if r.json()["username"] == "ROOT" else "deny"})
        s.answers["/acl"] = (403, "")
        root, other = b.connect(V5, username="root", password="p"), b.connect(V5, username="other", password="p")
        assert root.publish("t", "x", qos=1) in (0, 0x10)
        assert other.publish("t", "x", qos=1) == REFUSED
        assert [r.path for r in s.requests] == ["/login", "/superuser"] * 2 + ["/acl"]
        for status in (404, 401):
            s.answers["/superuser"] = (status, "")
            c = b.connect(V5, username="root", password="p")
            assert c.publish("t", "x", qos=1) == REFUSED
        s.answers["/superuser"] = (500, "")
        assert tries(b, "root") == UNAVAILABLE
        s.answers["/login"] = (403, "")
        s.requests.clear()
        assert tries(b, "root") == REFUSED  # who is not let in is not asked about
        assert [r.path for r in s.requests] == ["/login"]


def test_rights_are_asked_for_one_by_one():
    def acl(request):
        q = request.json()
        allowed = {("publish", "a/b"), ("subscribe", "a/#"), ("read", "a/b"), ("will", "w")}
        return 200, {"result": "allow" if (q["action"], q["topic"]) in allowed else "deny", "max_qos": 1, "reason": "no"}

    with Scripted() as s, asking(s, "login", "acl") as b:
        s.answers["/login"], s.answers["/acl"] = (200, ALLOW), acl
        c = b.connect(V5, "id", username="u", password="p")
        c.subscribe("a/#", qos=2, codes=[1])
        c.subscribe("#", qos=0, codes=[REFUSED])
        assert c.publish("a/c", "no", qos=1) == REFUSED
        assert c.publish("a/b", "yes", qos=1, retain=True) == 0
        c.expect_message(topic="a/b", payload="yes")
        for q in (r.json() for r in s.requests if r.path == "/acl"):
            assert q["username"] == "u" and q["clientid"] == "id" and set(q) == {
                "username", "clientid", "action", "topic", "qos", "retain"}, q
        asked = {(q["action"], q["topic"], q["qos"], q["retain"]) for q in (r.json() for r in s.requests if r.path == "/acl")}
        assert {("subscribe", "a/#", "2", "0"), ("publish", "a/b", "1", "1")} <= asked, asked
        assert any(a[:2] == ("read", "a/b") for a in asked), asked
        s.answers["/acl"] = (500, "")
        assert c.publish("a/b", "later", qos=1) == 0x83
        c.subscribe("a/b", codes=[0x80])
        s.answers["/acl"] = (404, "")
        assert c.publish("a/b", "x", qos=1) == REFUSED
        c.ping()


def test_nasty_topics_are_values_like_others():
    with Scripted() as s, asking(s, "login", "acl", format="form", check_read=False) as b:
        s.answers["/login"] = (200, ALLOW)
        s.answers["/acl"] = lambda r: (200 if dict(r.form())["topic"].startswith("ok") else 403, ALLOW)
        c = b.connect(V5, username="u", password="p")
        for topic in ("ok&topic=other", "ok'\"<>", "ok/%2e%2e", "ok/ü", "ok/" + "x" * 60000):
            assert c.publish(topic, "x", qos=1) in (0, 0x10), topic
            r = s.requests[-1].form()
            assert dict(r)["topic"] == topic and len(r) == 6, r
        for topic in ("no&topic=ok", "no\\", "o", "NO%0Aok"):
            assert c.publish(topic, "x", qos=1) == REFUSED, topic


def test_cache_control_says_how_long_an_answer_is_kept():
    with Scripted() as s, asking(s, "login", "acl", cache=True, cache_jitter=0, cache_ttl="1h", cache_negative_ttl="1h") as b:
        headers = {}
        s.answers["/login"] = lambda r: (200, ALLOW, headers)
        s.answers["/acl"] = lambda r: (200, ALLOW, headers)

        def asked(times, **login):
            s.requests.clear()
            for _ in range(times):
                assert tries(b, **login) == 0
            return len(s.requests)

        assert asked(3, client_id="same") == 1
        for value in ("no-store", "no-cache, private", "max-age=0", "max-age=60, no-store"):
            headers["Cache-Control"] = value
            assert asked(3, client_id="same-" + value) == 3, value
        headers["Cache-Control"] = "private, max-age=1"
        assert asked(1, client_id="short") == 1
        wait_until(lambda: asked(1, client_id="short") == 1, "asked again after a second", TIMEOUT)
        # what it depends on: nobody gets the answer of somebody else
        headers["Cache-Control"] = "max-age=3600"
        assert asked(1, username="x", password="p", client_id="c") == 1
        assert asked(1, username="x", password="q", client_id="c") == 1
        assert asked(1, username="y", password="p", client_id="c") == 1
        assert asked(1, username="x", password="p", client_id="d") == 1
        assert asked(1, username="x", password="p", client_id="c") == 0


def test_who_may_no_longer_be_here_is_disconnected_after_a_purge():
    with Scripted() as s, asking(s, "login", "revalidate") as b:
        s.answers["/login"] = (200, {"result": "allow", "acl": ["allow all t/#"]})
        s.answers["/revalidate"] = lambda r: {"gone": (403, ""), "unknown": (404, ""), "trouble": (500, ""),
                                              "less": (200, {"result": "allow", "acl": ["allow subscribe #"]})}.get(
                                                  r.json()["username"], (200, ALLOW))
        c = {name: b.connect(V5, name, username=name, password="p") for name in ("gone", "unknown", "trouble", "less", "same")}
        b.ctl("cache", "purge")
        c["gone"].expect(DISCONNECT, reason=0x87)
        wait_until(lambda: len([r for r in s.requests if r.path == "/revalidate"]) >= 5, "all are asked about", TIMEOUT)
        for r in s.requests:
            assert r.path != "/revalidate" or "password" not in r.json()
        wait_until(lambda: c["less"].publish("t/x", "x", qos=1) == REFUSED, "the new rules count", TIMEOUT)
        for name in ("same", "trouble", "unknown"):
            assert c[name].publish("t/x", "x", qos=1) in (0, 0x10), name


# ---- dialects -----------------------------------------------------------------------------------

GO_AUTH = (
    ("status", 200, "", 0), ("status", 200, "whatever", 0), ("status", 400, "", REFUSED), ("status", 401, "", REFUSED),
    ("status", 403, "", REFUSED), ("status", 404, "", REFUSED), ("status", 500, "", UNAVAILABLE), ("status", 302, "", UNAVAILABLE),
    ("text", 200, "ok", 0), ("text", 200, "wrong password", REFUSED), ("text", 200, "okay", REFUSED), ("text", 200, "", UNAVAILABLE),
    ("text", 401, "ok", REFUSED),
    ("json", 200, {"ok": True, "error": ""}, 0), ("json", 200, {"Ok": True, "Error": ""}, 0), ("json", 200, {"ok": False, "error": "x"}, REFUSED),
    ("json", 200, {}, UNAVAILABLE), ("json", 200, {"ok": "true"}, UNAVAILABLE), ("json", 200, "ok", UNAVAILABLE),
    ("json", 200, ALLOW, UNAVAILABLE),
)


@each(answer=("status", "text", "json"))
def test_answers_of_mosquitto_go_auth(answer):
    with Scripted() as s, asking(s, "login", dialect="mosquitto-go-auth", answer=None if answer == "status" else answer) as b:
        for mode, status, body, code in GO_AUTH:
            if mode == answer:
                s.answers["/login"] = (status, body)
                assert tries(b) == code, (mode, status, body)


@each(format=("json", "form"))
def test_requests_of_mosquitto_go_auth(format):
    with Scripted() as s, asking(s, "login", "superuser", "acl", dialect="mosquitto-go-auth", format=format) as b:
        s.answers["/login"], s.answers["/superuser"] = (200, ""), (403, "")
        s.answers["/acl"] = (200, "")
        c = b.connect(V5, "id", username="u", password="p")
        c.subscribe("t/#", qos=1)
        assert c.publish("t/x", "x", qos=1) == 0
        c.expect_message(topic="t/x", payload="x")
        asked = [(r.path, r.json() if format == "json" else dict(r.form())) for r in s.requests]
        number = int if format == "json" else str
        assert asked == [
            ("/login", {"username": "u", "password": "p", "clientid": "id"}), ("/superuser", {"username": "u"}),
            ("/acl", {"username": "u", "clientid": "id", "topic": "t/#", "acc": number(4)}),
            ("/acl", {"username": "u", "clientid": "id", "topic": "t/x", "acc": number(2)}),
            ("/acl", {"username": "u", "clientid": "id", "topic": "t/x", "acc": number(1)})], asked


def test_requests_and_answers_of_emqx():
    with Scripted() as s, asking(s, "login", "acl", dialect="emqx") as b:
        s.answers["/login"] = (200, {
            "result": "allow", "is_superuser": False, "client_attrs": {"role": "admin"}, "expire_at": 4102444800, "acl": [
                {"permission": "deny", "action": "all", "topic": "secret/#"},
                {"permission": "allow", "action": "subscribe", "topic": "eq of/${username}", "qos": [0, 1], "retain": "all"},
                {"permission": "allow", "action": "publish", "topic": "of/${username}/${client_attrs.role}"}]})
        s.answers["/acl"] = lambda r: (200, {"result": "allow" if r.json()["topic"].startswith("ask/") else "deny"})
        c = b.connect(V5, "id", username="u", password="p")
        assert s.requests[0].json() == {"username": "u", "password": "p", "clientid": "id"}
        c.subscribe("of/u", qos=1)
        assert c.publish("of/u/admin", "x", qos=1) in (0, 0x10)
        assert c.publish("secret/x", "x", qos=1) == REFUSED
        assert len(s.requests) == 1  # the rules of the login were enough
        c.subscribe("ask/#", qos=1)
        assert c.publish("ask/x", "x", qos=1) == 0
        c.expect_message(topic="ask/x", payload="x")
        assert [r.json() for r in s.requests[1:]] == [
            {"username": "u", "clientid": "id", "action": "subscribe", "topic": "ask/#"},
            {"username": "u", "clientid": "id", "action": "publish", "topic": "ask/x"}]
        for status, body, code in ((204, "", 0), (200, {"result": "ignore"}, REFUSED), (200, {"result": "deny"}, REFUSED), (200, "", UNAVAILABLE),
                                   (200, {"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "#", "qos": [1]}]}, UNAVAILABLE),
                                   (200, {"result": "allow", "acl": [{"permission": "allow", "action": "all", "topic": "#", "clientid_re": "x"}]}, UNAVAILABLE)):
            s.answers["/login"] = (status, body)
            assert tries(b) == code, (status, body)
        s.answers["/login"] = (200, {"result": "allow", "is_superuser": True})
        root = b.connect(V5, username="root", password="p")
        assert root.publish("secret/x", "x", qos=1) in (0, 0x10)


# ---- TLS, HTTP/2, sockets -----------------------------------------------------------------------

TLS = """
server {
	listen 127.0.0.1:{port} ssl http2;
	listen 127.0.0.2:{port} ssl http2;
	ssl_certificate %(cert)s; ssl_certificate_key %(key)s;
	ssl_client_certificate %(ca)s; ssl_verify_client optional;
	default_type application/json;
	location /login { return 200 '{"result":"allow"}'; }
	location /mutual {
		if ($ssl_client_verify != SUCCESS) { return 403; }
		return 200 '{"result":"allow","username":"$ssl_client_s_dn"}';
	}
}
"""


@skip_if(not NGINX, "nginx is not installed")
def test_servers_are_verified_over_http_2_and_1():
    p = pki.get()
    server, client = p.server(), p.root.issue("http-client", cn="broker-1", usage="clientAuth")
    stranger = p.other.issue("http-stranger", cn="broker-1", usage="clientAuth")
    n = Nginx(TLS % {"cert": server.chain, "key": server.key, "ca": p.root.cert}).start()
    at = "https://localhost:%d" % n.port

    def login(url, code, **options):
        with Broker(listeners={"mqtt": {}}, workers=1, plugins={"auth-http": dict({"login_url": url}, **dict(ALWAYS, **options))}) as b:
            for i in range(3):
                assert tries(b, client_id="c%d" % i) == code, (url, options)
            return b.log_lines(r"error .*login_url")

    login(at + "/login", 0, tls_ca=p.root.cert)
    login(at + "/login", 0, tls_ca=p.root.cert, http2=False)
    login("https://127.0.0.1:%d/login" % n.port, 0, tls_ca=p.root.cert)
    wait_until(lambda: len(n.accesses()) == 9, "nine requests", TIMEOUT)
    assert [x[0] for x in n.accesses()] == ["HTTP/2.0"] * 3 + ["HTTP/1.1"] * 3 + ["HTTP/2.0"] * 3
    assert len({x[3] for x in n.accesses()}) == 3  # each broker's three requests went over one connection
    for options in ({}, {"tls_ca": p.other.cert}):
        line, = login(at + "/login", UNAVAILABLE, **options)
        assert "certificate" in line, line
    line, = login("https://127.0.0.2:%d/login" % n.port, UNAVAILABLE, tls_ca=p.root.cert)
    assert "127.0.0.2" in line and len(n.accesses()) == 9, line  # the certificate is for another name
    login(at + "/mutual", REFUSED, tls_ca=p.root.cert)
    login(at + "/mutual", 0, tls_ca=p.root.cert, tls_cert=client.cert, tls_key=client.key)
    login(at + "/mutual", UNAVAILABLE, tls_ca=p.root.cert, tls_cert=stranger.cert, tls_key=stranger.key)
    n.stop()


def test_a_unix_socket_is_asked():
    import http.server
    import socketserver
    import tempfile
    from lib.http_server import Handler

    class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

        def handle_error(self, *unused):
            pass

    class UnixHandler(Handler):
        def address_string(self):
            return "unix"

    with tempfile.TemporaryDirectory() as folder, Scripted() as s:
        s.answers["/login"] = (200, ALLOW)
        path = os.path.join(folder, "s")
        server = UnixServer(path, UnixHandler)
        server.owner = s
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        with Broker(listeners={"mqtt": {}}, plugins={"auth-http": {"login_url": "http://nowhere.test/login", "socket": path}}) as b:
            assert tries(b) == 0
            assert s.requests[0].headers["Host"] == "nowhere.test"
        server.shutdown()
        server.server_close()


# ---- names --------------------------------------------------------------------------------------

OWN_RESOLVER = ["unshare", "-rm", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"']


def can_unshare():
    if not shutil.which("unshare"):
        return False
    return subprocess.run(OWN_RESOLVER + ["/etc/resolv.conf", "true"], capture_output=True, check=False).returncode == 0


@skip_if(not can_unshare(), "no mount namespaces here")
def test_a_mute_dns_server_holds_up_only_who_waits_for_it():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
        dns.bind(("127.0.0.1", 0))
        dns.settimeout(TIMEOUT)
        b = Broker(users={"fred": "fred"}, listeners={"mqtt": {}}, workers=1, files={"resolv.conf": "nameserver 127.0.0.1:%d\n" % dns.getsockname()[1]},
                   plugins={"auth-http": dict({"login_url": "http://auth.test/login", "order": 30, "connect_timeout": "1s", "timeout": "20s",
                                               "request_timeout": "20s"}, **ALWAYS)})
        b.wrapper = OWN_RESOLVER + [b.path("resolv.conf")]
        with b:
            fred = b.connect(V5, "fred", username="fred", password="fred", keep_alive=0)
            fred.subscribe("t", qos=1)
            waiting, leaving = b.client(V5), b.client(V5)
            waiting.send_connect("waiting", username="alice", password="wonder")
            leaving.send_connect("leaving", username="alice", password="wonder")
            assert dns.recv(4096)  # by the broker: the C library, and so a resolver of libcurl's, cannot read that port
            leaving.close()
            for _ in range(20):
                fred.publish("t", "x", qos=1)
                fred.expect_message(topic="t", payload="x")
            assert waiting.expect(CONNACK).reason == UNAVAILABLE
            b.wait_log(r"login_url .*no DNS server has answered in time")
            b.held_nobody()


def test_the_host_of_a_url_is_looked_up_and_found_in_hosts():
    with Scripted() as s:
        s.answers["/login"] = (200, ALLOW)
        with Broker(listeners={"mqtt": {}}, plugins={"auth-http": {"login_url": "http://localhost:%d/login" % s.port}}) as b:
            assert tries(b) == 0
            assert s.requests[0].headers["Host"] == "localhost:%d" % s.port


def test_a_proxy_of_the_environment_is_not_used():
    with Scripted() as s, Scripted() as proxy:
        s.answers["/login"] = proxy.answers["/login"] = (200, ALLOW)
        env = {name: "http://127.0.0.1:%d" % proxy.port for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")}
        with Broker(listeners={"mqtt": {}}, plugins=plugin(s, "login"), env=env) as b:
            assert tries(b) == 0
        assert len(s.requests) == 1 and not proxy.requests


# ---- configuration ------------------------------------------------------------------------------

OK = "http://127.0.0.1:1/"
BAD = (
    ({}, r"there is nothing to do"),
    ({"superuser_url": OK}, r"superuser_url|asked after login_url"),
    ({"login_url": "ftp://x/"}, r"http:// and https://|http or https"),
    ({"login_url": "http://%u.example.org/"}, r"never depends on the client"),
    ({"login_url": "http://user:pw@x/"}, r"credentials"),
    ({"login_url": OK, "login_fields": ["username"]}, r"name=value"),
    ({"login_url": OK, "login_fields": ["a=%u", "a=%c"]}, r"there already"),
    ({"login_url": OK, "login_fields": ["a=%t"]}, r"%t has no meaning here"),
    ({"login_url": OK, "superuser_url": OK, "superuser_fields": ["a=%p"]}, r"%p has no meaning here"),
    ({"acl_url": OK, "acl_fields": ["a=%p"]}, r"%p has no meaning here"),
    ({"acl_url": OK, "login_fields": ["a=%u"]}, r"login_url, which is not set"),
    ({"login_url": OK, "headers": ["X: a\nY: b"]}, r"line breaks"),
    ({"login_url": OK, "bearer_token": "a\r\nY: b"}, r"line breaks"),
    ({"login_url": OK, "method": "get", "format": "json"}, r"a GET has no body"),
    ({"login_url": OK, "tls_ca": "/nonexistent"}, r"none of the URLs is https"),
    ({"login_url": "https://x/", "tls_ca": "/nonexistent"}, r"tls_ca: /nonexistent"),
    ({"login_url": "https://x/", "tls_ca": "{dir}/grapnel.conf"}, r"no certificate in PEM format"),
    ({"login_url": "https://x/", "tls_cert": "{dir}/grapnel.conf"}, r"belong together"),
    ({"login_url": OK, "socket": "/" + "x" * 200}, r"path of a Unix socket"),
    ({"login_url": OK, "dialect": "nonsense"}, r"dialect"),
)


def test_mistakes_in_the_configuration_are_explained():
    b = Broker()
    try:
        for options, wanted in BAD:
            b.configure(plugins={"auth-http": options})
            r = run_grapneld("-t", "-c", b.conf)
            assert r.returncode != 0, options
            assert re.search(wanted, r.stderr + r.stdout), (options, r.stderr)
            assert "pw@" not in r.stderr
    finally:
        b.remove()


def test_a_reload_while_requests_are_under_way_loses_none():
    go = threading.Event()

    def held(request):
        go.wait(30)
        return 200, ALLOW

    with Scripted() as s, asking(s, "login", request_timeout="30s", timeout="30s") as b:
        s.answers["/login"] = held
        clients = [b.client(V5) for _ in range(4)]
        for i, c in enumerate(clients):
            c.send_connect("c%d" % i, username="u", password="p")
        wait_until(lambda: len(s.requests) == 4, "all are asked about", TIMEOUT)
        b.reload()
        go.set()
        for c in clients:
            c.expect(CONNACK, reason=0)
        assert tries(b) == 0
