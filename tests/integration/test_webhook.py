# SPDX-License-Identifier: Apache-2.0
"""webhook: what arrives, in which order and form, and what grapnelctl webhook says and does."""
import base64
import os
import time

from lib import standard_webhooks
from lib.broker import run_grapneld
from lib.case import each, skip_if
from lib.hooks import eventually
from lib.http_server import NGINX
from lib.mqtt import *  # noqa: F401,F403
from lib.receiver import Receiver, http2, in_order
from lib.webhook import control_bytes, dead_letters, endpoint, hooked, publish, section, Hooked
from lib.wire import Will

ALLOW = {"allow": {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}}
SHARED = []


def receiver():
    """http, for those who leave it as it was. It is told apart by paths; each broker has its own."""
    if not SHARED:
        SHARED.append(Receiver(tls=False).start())
    r = Receiver.__new__(Receiver)
    r.__dict__.update(SHARED[0].__dict__)
    SHARED[0].does()
    r.found, r.parsed, r.all_events = [], 0, []
    r.read_to = os.path.getsize(r.path("records")) if os.path.exists(r.path("records")) else 0
    return r


# ---- events and their fields -----------------------------------------------------------------------------


def every_kind(b):
    """Makes one of each, from one client's point of view. @return its name."""
    c = b.connect(V5, "alice", username="al", keep_alive=77, props=[(P.SESSION_EXPIRY, 100)])
    c.subscribe("a/+", qos=1)
    c.publish("a/b", "hello", qos=1, retain=True, props=[(P.CONTENT_TYPE, "text/plain"), (P.USER_PROPERTY, ("k", "v"))])
    c.expect_message("a/b", "hello")
    c.publish("a/b", b"", retain=True, qos=1)
    c.expect_message("a/b", "")
    c.publish("a/bytes", b"\xff\x00\x80", qos=0)
    c.expect_message("a/bytes")
    c.unsubscribe("a/+")
    other = b.connect(V5, "alice", clean=False, session_present=True, props=[(P.SESSION_EXPIRY, 0)],
                      username="al", will=Will("wills/alice", b"gone", 1))
    c.expect_close(0x8E)
    other.reset()
    refused = b.client(V5)
    refused.connect("mallory", reason=0x87, username="bad")
    sleeper = b.connect(V5, "sleeper", props=[(P.SESSION_EXPIRY, 100)])
    sleeper.subscribe("late", qos=1)
    sleeper.disconnect()
    b.connect(V5, "hasty").publish("late", "x", qos=1, props=[(P.MESSAGE_EXPIRY, 1)])
    return "alice"


WANTED = {"client_connected", "client_refused", "client_disconnected", "session_created", "session_resumed", "session_taken_over",
          "session_expired", "subscribed", "unsubscribed", "message_published", "message_delivered", "message_acknowledged",
          "message_expired", "will_published", "retained_set", "retained_cleared", "broker_ready", "broker_stopping"}
REFUSER = {"refuser": {"module": "verdict", "order": 10, "client_authenticate": "deny", "only_user": "bad", "reason_string": "not you"}}


@each(mode=("batch", "structured", "binary"))
def test_every_event_arrives_with_its_fields(mode):
    r = receiver()
    plugins = dict(section({"main": endpoint(r, events=None, mode=mode, source="/here", type_prefix="x.y.")}), **REFUSER, **ALLOW)
    with Hooked(plugins=plugins, top={"sys_interval": 0}) as b:
        name = every_kind(b)
        r.wait(lambda r: {e.kind for e in r.events()} >= {"will_published", "client_refused", "session_expired"}, "the events")
        time.sleep(1.1)  # that is how long the message for it may wait
        b.connect(V5, "sleeper", clean=False, session_present=True)
        r.wait_events(1, "message_expired")
        b.close_clients()
        b.stop()
        events = r.events()
        assert {e.kind for e in events} >= WANTED, WANTED - {e.kind for e in events}
        assert len({e.id for e in events}) == len(events) and all(e.id for e in events)
        for e in events:
            assert e.fields["specversion"] == "1.0" and e.fields["source"] == "/here" and e.fields["type"] == "x.y." + e.kind, e.fields
            assert e.delivery.headers["webhook-id"] and "webhook-signature" not in e.delivery.headers
            assert e.delivery.method == "POST" and e.delivery.target == "/events"

        connected = next(e for e in events if e.kind == "client_connected" and e.client == name)
        assert connected.subject == name, connected.fields
        client = connected.data["client"]
        assert {k: client[k] for k in ("client_id", "username", "listener", "protocol", "keep_alive", "session_expiry", "clean_start")} == {
            "client_id": name, "username": "al", "listener": "mqtt", "protocol": "5.0", "keep_alive": 77, "session_expiry": 100,
            "clean_start": True}, client
        assert client["peer"].startswith("127.0.0.1:") and client["generation"] > 0, client
        assert connected.data["session_present"] is False

        def one(kind, **fields):
            found, = [e for e in r.events(kind) if all(getattr(e, k) == v for k, v in fields.items())]
            return found.data

        hello = one("message_published", topic="a/b", payload="hello")
        assert hello["client"]["client_id"] == name and hello["client"]["username"] == "al"
        m = hello["message"]
        assert (m["qos"], m["retain"], m["payload_size"], m["will"]) == (1, True, 5, False), m
        assert m["properties"] == {"content_type": "text/plain", "user_properties": [{"name": "k", "value": "v"}]}, m
        bytes_ = one("message_published", topic="a/bytes")["message"]
        assert "payload" not in bytes_ and base64.b64decode(bytes_["payload_base64"]) == b"\xff\x00\x80" and bytes_["payload_size"] == 3
        assert one("message_delivered", topic="a/b", payload="hello")["qos"] == 1
        assert one("message_acknowledged", topic="a/b", payload="hello")["reason_code"] == 0
        subscribed = one("subscribed", client=name)
        assert (subscribed["filter"], subscribed["qos"]) == ("a/+", 1)
        assert one("unsubscribed", client=name)["filter"] == "a/+"
        refused = one("client_refused")
        assert (refused["reason_code"], refused["reason"], refused["client"]["client_id"]) == (0x87, "not you", "mallory"), refused
        assert one("will_published", topic="wills/alice")["message"]["payload"] == "gone"
        assert one("session_taken_over", client=name)["reason_code"] == 0x8E
        assert [e.data["reason_code"] for e in r.events("client_disconnected", client=name)][0] == 0x8E
        kinds = [e.kind for e in events if e.client == name]
        assert kinds.index("session_created") < kinds.index("client_connected") < kinds.index("subscribed") \
            < kinds.index("session_taken_over") < kinds.index("session_resumed") < kinds.index("session_expired"), kinds


def test_a_selection_for_each_endpoint():
    r = receiver()
    one = endpoint(r.url("/one"), events=["message_published", "client_connected"], topics=["a/#"], clients=["c?"])
    two = endpoint(r.url("/two"), events=["client_connected"], users=["boss*"])
    with Hooked(plugins=dict(section({"one": one, "two": two}), **ALLOW)) as b:
        b.connect(V5, "c1", username="boss1").publish("a/x", "c1 1", qos=1)
        b.connect(V5, "long", username="boss2").publish("a/x", "long 1", qos=1)
        b.connect(V5, "c2", username="other").publish("b/x", "c2 1", qos=1)
        b.connect(V5, "c3").publish("a", "c3 1", qos=1)
        eventually(lambda: [b.status(n)["delivered"] for n in ("one", "two")] == [5, 2], "all were delivered")
        got = [(e.delivery.target, e.kind, e.client) for e in r.events()]
        assert sorted(got) == sorted(
            [("/one", "client_connected", c) for c in ("c1", "c2", "c3")] + [("/one", "message_published", c) for c in ("c1", "c3")] +
            [("/two", "client_connected", c) for c in ("c1", "long")]), got


@each(payload=("auto", "base64", "none"))
def test_payloads_as_text_in_base64_or_not_at_all(payload):
    r = receiver()
    with hooked(r, payload=payload, payload_max="1k") as b:
        c = b.connect(V5, "c")
        for body in (b"text", b"\xff", b"", b"x" * 1024, b"y" * 1025, "\u00e4\u0000\U0001f600".encode()):
            c.publish("t", body, qos=1)
        messages = [e.data["message"] for e in r.wait_events(6)]
        for m, body in zip(messages, (b"text", b"\xff", b"", b"x" * 1024, None, "\u00e4\u0000\U0001f600".encode())):
            as_text, as_base64 = m.get("payload"), m.get("payload_base64")
            if payload == "none" or body is None:
                assert as_text is None and as_base64 is None, m
            elif payload == "base64" or body == b"\xff":
                assert base64.b64decode(as_base64) == body and as_text is None, m
            elif b"\0" in body:
                assert (as_text or base64.b64decode(as_base64).decode()).encode() == body, m
            else:
                assert as_text.encode() == body and as_base64 is None, m
        assert [m["payload_size"] for m in messages] == [4, 1, 0, 1024, 1025, 7]


# ---- order and batches -------------------------------------------------------------------------------------


ORDERS = {"client": lambda e: e.client, "topic": lambda e: e.topic, "total": lambda e: "all"}


@each(order_by=("client", "topic", "total"), requests=(1, 7))
def test_order_holds_with_several_requests_and_failures(order_by, requests):
    r = receiver()
    r.obeys({"do": "status", "status": 503, "match": r" (13|77|150)\b", "times": 6}, {"do": "reset", "match": r" 99\b", "times": 3},
            {"do": "forget", "match": r" 120\b", "times": 4}, {"do": "slow", "delay": 0.004, "match": " [0-9]*7"})
    with hooked(r, order_by=order_by, requests=requests, batch_events=20) as b:
        names = ["total"] if order_by == "total" else ["k%d" % i for i in range(12)]
        for first in range(1, 201, 50):
            for name in names:
                publish(b, name, 50, first, topic=name, client=next((c for c in b.clients if c.client_id == name), None))
        r.wait_events(200 * len(names))
        assert in_order(r.events(), ORDERS[order_by]) == {("all" if order_by == "total" else n): 200 for n in names}
        if order_by != "total" and requests > 1:
            assert len({d.connection for d in r.deliveries()}) > 1, "several at once"
        assert len(r.events()) > 200 * len(names), "those that were taken and not answered came again"


def test_without_order_all_come():
    r = receiver()
    r.does("slow", delay=0.01)
    with hooked(r, order_by="none", requests=5, batch_events=5) as b:
        publish(b, "c", 200)
        assert sorted(e.number for e in r.wait_events(200)) == list(range(1, 201))
        assert max(len(d.events()) for d in r.deliveries()) <= 5


def test_batches_have_limits_of_number_and_size():
    r = receiver()
    with hooked(r, batch_events=10, batch_bytes="8k", requests=1) as b:
        b.run("pause", "main")
        publish(b, "c", 60)
        publish(b, "c", 60, first=61, pad=1500)
        publish(b, "c", 3, first=121, pad=9000)
        b.run("resume", "main")
        r.wait_events(123)
        assert in_order(r.events(), lambda e: e.client) == {"c": 123}
        sizes = [len(d.events()) for d in r.deliveries()]
        assert max(sizes) == 10 and sizes[:6] == [10] * 6, sizes
        for d in r.deliveries():
            assert len(d.body) <= 8192 or len(d.events()) == 1, d
        assert sum(s > 1 and s < 10 for s in sizes) >= 10, "limited by bytes"


def test_events_wait_for_others_to_fill_a_batch():
    r = receiver()
    with hooked(r, batch_events=30, batch_time="60s") as b:
        c = publish(b, "c", 29)
        eventually(lambda: b.status()["waiting"] == 29, "29 wait")
        assert not r.deliveries()
        publish(b, "c", 1, first=30, client=c)
        d, = r.wait_deliveries(1)
        assert len(d.events()) == 30
        publish(b, "c", 1, first=31, client=c)  # stays in the outbox when the broker ends, and is sent by the next
        b.again(section({"main": endpoint(r, batch_time="0ms")}))
        b.close_clients()
        b.stop()
        b.start()
        assert [e.number for e in r.wait_events(31)] == list(range(1, 32))


@skip_if(NGINX is None, "there is no nginx")
@each(http2_=(True, False))
def test_requests_over_http_2(http2_):
    r = receiver()
    front = http2(r)
    with hooked(front, requests=4, http2=http2_, batch_events=10) as b:
        for i in range(4):
            publish(b, "h%d" % i, 100)
        r.wait_events(400)
        assert in_order(r.events(), lambda e: e.client) == {"h%d" % i: 100 for i in range(4)}
    front.stop()
    accesses = front.accesses()
    assert {a[0] for a in accesses} == {"HTTP/2.0" if http2_ else "HTTP/1.1"}, accesses
    assert len({a[3] for a in accesses}) <= 4, "connections are used again"


# ---- headers -------------------------------------------------------------------------------------------------


SECRETS = {"old": "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode(), "new": "a secret that is plain text"}
AS_RAW = {"old": SECRETS["old"], "new": "whsec_" + base64.b64encode(SECRETS["new"].encode()).decode()}


def keys(*names):
    return {'key "%s"' % n: {"secret": SECRETS[n]} for n in names}


@each(mode=("batch", "structured", "binary"))
def test_signatures_and_their_keys_change_with_a_reload(mode):
    r = receiver()
    with hooked(r, mode=mode, **keys("old")) as b:
        c = publish(b, "c", 10)
        r.wait_events(10)
        for names in (("old", "new"), ("new",)):
            b.configure(plugins=section({"main": endpoint(r, mode=mode, **keys(*names))}))
            b.reload()
            known, events = len(r.deliveries()), len(r.events())
            publish(b, "c", 10, first=events + 1, client=c)
            r.wait_events(events + 10)
            for d in r.deliveries()[known:]:
                assert d.headers["webhook-key-id"] == " ".join(names), d.headers
                assert len(d.headers["webhook-signature"].split(" ")) == len(names)
                for name in SECRETS:
                    if name in names:
                        standard_webhooks.verify(d.headers, d.body, [AS_RAW[name]])
                        try:
                            standard_webhooks.verify(d.headers, d.body + b" ", [AS_RAW[name]])
                            raise AssertionError("a body that was changed")
                        except standard_webhooks.Wrong:
                            pass
                    else:
                        try:
                            standard_webhooks.verify(d.headers, d.body, [AS_RAW[name]])
                            raise AssertionError("signed with %s" % name)
                        except standard_webhooks.Wrong:
                            pass
        for d in r.deliveries()[:1]:
            standard_webhooks.verify(d.headers, d.body, [AS_RAW["old"]])
        assert in_order(r.events(), lambda e: e.client) == {"c": 30}


def test_a_repeat_has_the_same_id_and_a_signature_of_its_own():
    r = receiver()
    r.does("forget", times=3)
    with hooked(r, **keys("old")) as b:
        publish(b, "c", 1)
        r.wait_deliveries(4)
        ids = {d.headers["webhook-id"] for d in r.deliveries()}
        assert len(ids) == 1 and len({e.id for e in r.events()}) == 1 and len(r.events()) == 4
        for d in r.deliveries():
            standard_webhooks.verify(d.headers, d.body, [AS_RAW["old"]])


def test_the_bearer_token_is_read_again_when_its_file_changes():
    r = receiver()
    with hooked(r) as b:
        b.write("token", "first-token\n")
        b.configure(plugins=section({"main": endpoint(r, bearer_token_file="{dir}/token")}))
        b.reload()
        c = publish(b, "c", 1)
        r.wait_events(1)
        assert r.deliveries()[-1].headers["authorization"] == "Bearer first-token"
        b.write("token", "second-token")
        number = 1

        def is_new():
            nonlocal number
            number += 1
            publish(b, "c", 1, first=number, client=c)
            r.wait_events(number)
            return r.deliveries()[-1].headers["authorization"] == "Bearer second-token"
        eventually(is_new, "the new token is sent")
        assert "second-token" not in "\n".join(b.log_lines()), "a secret in the log"
        assert "second-token" not in b.ctl("webhook", "status").stdout + b.ctl("plugin", "show", "webhook").stdout


NASTY = ("c\r\nX-Evil: yes", "c\r\n\r\nGET / HTTP/1.1", "c: d", "\u00e4\u20ac\U0001f600", "a" * 2000, "%0d%0aX-Evil: yes", "\"quoted\\\"",
         "c\x7f\x85", "  c  ")


@each(mode=("batch", "binary"))
def test_names_cannot_make_headers(mode):
    r = receiver()
    with hooked(r, mode=mode, headers=["X-Client: %c", "X-Topic: %t", "X-User: %u"], batch_events=1 if mode == "batch" else None,
                plugins=ALLOW) as b:
        for i, name in enumerate(NASTY):
            c = b.connect(V5, name, username=name)
            c.publish("t/" + name.replace("#", "").replace("+", ""), "%s %d" % (i, 1), qos=1)
        events = r.wait_events(len(NASTY))
        assert sorted(e.client for e in events) == sorted(NASTY), "in the body they are what they are"
        for d in r.deliveries():
            names = [n.lower() for n, _ in d.raw_headers]
            assert len(names) == len(set(names)) and "x-evil" not in names, names
            assert "x-client" in names and "x-topic" in names, names
            for name, value in d.raw_headers:
                assert not control_bytes(name + value), (name, value)


def test_a_header_whose_value_is_absent_is_left_out():
    r = receiver()
    with hooked(r, headers=["X-User: %u", "X-Fixed: a b", "X-Client: <%c>"]) as b:
        publish(b, "c", 1)
        d, = r.wait_deliveries(1)
        assert "x-user" not in d.headers and (d.headers["x-fixed"], d.headers["x-client"]) == ("a b", "<c>"), d.headers


def test_a_template_of_the_operators_own():
    r = receiver()
    body = '{"who":"%c","what":"%e","where":"%t","text":"%d"}'
    with hooked(r, format="template", body=body, content_type="application/x-own") as b:
        c = b.connect(V5, 'a"b\\c')
        c.publish("t", 'q"\\\n', qos=1)
        d, = r.wait_deliveries(1)
        assert d.json() == {"who": 'a"b\\c', "what": "message_published", "where": "t", "text": 'q"\\\n'}, d.body
        assert d.headers["content-type"] == "application/x-own"


# ---- several URLs ------------------------------------------------------------------------------------------------


def test_failover_to_the_next_url_and_back():
    with Receiver(tls=False).start() as one, Receiver(tls=False).start() as two:
        with hooked([one, two], retry_min="50ms", retry_max="50ms") as b:
            c = publish(b, "c", 10)
            one.wait_events(10)
            assert not two.deliveries()
            one.kill9()
            publish(b, "c", 10, first=11, client=c)
            two.wait_events(10)
            one.start()
            sent = 20

            def back():
                nonlocal sent
                sent += 1
                publish(b, "c", 1, first=sent, client=c)
                return len(one.events()) > 10
            eventually(back, "the first is used again")
            eventually(lambda: b.status()["waiting"] == 0, "all were sent")
            together = sorted(one.events() + two.events(), key=lambda e: e.delivery.time)
            assert in_order(together, lambda e: e.client) == {"c": sent}


def test_spread_over_all_that_are_up():
    with Receiver(tls=False).start() as one, Receiver(tls=False).start() as two, Receiver(tls=False).start() as three:
        two.does("status", status=500)
        with hooked([one, two, three], url_policy="spread", batch_events=1, requests=3) as b:
            for i in range(6):
                publish(b, "s%d" % i, 20)
            eventually(lambda: b.status()["delivered"] == 120, "all were sent")
            assert len(one.events()) > 20 and len(three.events()) > 20 and not two.events()
            assert two.deliveries(), "it was tried"
            urls = b.status()["urls"]
            assert [u["status"] for u in urls] == [200, 500, 200] and "status 500" in urls[1]["error"], urls
            two.does()
            eventually(lambda: publish(b, "more", 1) and two.events(), "it is used again")


# ---- commands --------------------------------------------------------------------------------------------------------


def test_pause_and_resume_also_across_a_restart():
    r = receiver()
    with hooked(r) as b:
        c = publish(b, "c", 5)
        r.wait_events(5)
        assert b.run("pause", "main") == {"name": "main", "paused": True}
        publish(b, "c", 5, first=6, client=c)
        s = b.status()
        assert s["paused"] and s["delivered"] == 5 and len(r.events()) == 5, s
        b.configure(plugins=section({"main": endpoint(r, requests=2)}))
        b.reload()
        eventually(lambda: b.status()["waiting"] == 5, "they wait after the reload")
        assert b.status()["paused"]
        b.options["top"] = {"store": {"durability": "strict"}}
        assert b.run("resume", "main") == {"name": "main", "paused": False}
        assert [e.number for e in r.wait_events(10)] == list(range(1, 11))


def test_test_sends_an_event_now_and_shows_the_answer():
    r = receiver()
    with hooked(r, **keys("old")) as b:
        b.run("pause", "main")
        publish(b, "c", 3)
        answer = b.run("test", "main")
        assert answer["delivered"] and answer["status"] == 200, answer
        d, = r.deliveries()
        e, = d.events()
        assert e.kind == "client_connected"
        standard_webhooks.verify(d.headers, d.body, [AS_RAW["old"]])
        r.does("status", status=403, body="who are you? \u00e4 \"x\"")
        answer = b.run("test", "main")
        assert (answer["delivered"], answer["status"], answer["response"]) == (False, 403, "who are you? \u00e4 \"x\""), answer
        r.does("reset")
        answer = b.run("test", "main")
        assert not answer["delivered"] and answer["error"], answer
        r.does()
        assert b.status()["waiting"] == 3 and b.status()["dead_letters"] == 0, "what waits is as it was"
        assert len({e.id for e in r.events()}) == len(r.events())


def test_dead_letters_are_shown_and_sent_again():
    r = receiver()
    r.does("status", status=422, body="no such plant", match=r"c (3|7)\b")
    with hooked(r, batch_events=10, requests=1) as b:
        b.run("pause", "main")
        c = publish(b, "c", 10)
        b.run("resume", "main")
        eventually(lambda: b.status()["dead_letters"] == 2 and b.status()["waiting"] == 0, "two were refused")
        assert [e.number for e in r.events()] == [1, 2, 4, 5, 6, 8, 9, 10]
        letters = dead_letters(b)
        assert [(x["status"], x["response"], x["event"]["event"], x["event"]["message"]["payload"]) for x in letters] == [
            (422, "no such plant", "message_published", "c %d" % n) for n in (3, 7)], letters
        ids = [x["event"]["id"] for x in letters]
        assert b.run("replay", "main", str(letters[1]["id"]))["replayed"] == 1
        eventually(lambda: b.status()["waiting"] == 0 and b.status()["dead_letters"] == 2, "it was refused again")
        r.does()
        assert b.run("replay", "main")["replayed"] == 2
        assert sorted(e.id for e in r.wait_events(10)[8:]) == sorted(ids), "with the ids they had"
        eventually(lambda: b.status()["dead_letters"] == 0 and not dead_letters(b), "none is left")
        publish(b, "c", 1, first=11, client=c)
        r.wait_events(11)


def test_commands_that_make_no_sense_say_what_does():
    r = receiver()
    with hooked(r) as b:
        for words in (("fly",), (), ("status", "nowhere"), ("replay", "main", "x"), ("replay", "main", "0"), ("pause",), ("test", "main", "x"),
                      ("dead-letters",)):
            said = b.run(*words, code=1)
            assert "endpoint" in said.lower() or "ID is a number" in said, said
        assert b.run("replay", "main", "12345")["replayed"] == 0
        s = b.ctl("webhook", "status").stdout
        assert "main" in s and r.url("/events") in s, s


# ---- configuration ---------------------------------------------------------------------------------------------------


BAD = (
    ({"urls": ["ftp://x/"]}, "only http"), ({"urls": []}, "urls"), ({"urls": ["http://user:secret@x/"]}, "URL number 1"),
    ({"headers": ["no colon"]}, "headers"), ({"headers": ["X: a\nY: b"]}, "headers"), ({"format": "template"}, "body"),
    ({"body": "x"}, "body"), ({"mode": "structured", "batch_events": 5}, "batch_events"), ({"events": ["nothing"]}, "no event"),
    ({"format": "nanomq", "events": ["subscribed"]}, "nanomq"), ({"tls_cert": "/nowhere.pem"}, "write https"), ({"urls": ["https://x/"], "tls_cert": "/nowhere.pem"}, "belong together"), ({"urls": ["https://x/"], "tls_pin": "x"}, "sha256//"),
    ({'key "a"': {"secret": "short"}}, "16 bytes"), ({'key "a b"': {"secret": "x" * 20}}, "ASCII"),
    ({"retry_min": "5m", "retry_max": None}, "raise that, too"), ({"source": ""}, "a URI reference"), ({"source": "my broker"}, "a URI reference"), ({"type_prefix": "a\nb"}, "control characters"),
    ({"headers": ["content-type: a/b"]}, "not yours"),
    ({'key "a"': {"secret": "whsec_%%%"}}, "base64"), ({"url_policy": "random"}, "url_policy"))


def test_mistakes_in_the_configuration_are_explained():
    b = Hooked()
    try:
        for options, about in BAD:
            b.configure(plugins=section({"main": endpoint("http://127.0.0.1:1/", **options)}))
            said = run_grapneld("-t", "-c", b.conf)
            assert said.returncode != 0 and about in said.stderr + said.stdout and "grapnel.conf:" in said.stderr + said.stdout, (
                options, said.stderr)
            assert "secret@" not in said.stderr + said.stdout
    finally:
        b.remove()


def test_files_that_are_of_no_use_are_refused():
    b = Hooked()
    try:
        b.write("token", "\n")
        for options, more, about in (({"bearer_token_file": b.path("token")}, {}, "does not begin with a token"),
                                     ({}, {"path": os.path.relpath(b.path("outbox/main"))}, "write the whole path")):
            b.configure(plugins=section({"main": endpoint("http://127.0.0.1:1/", **options)}, **more))
            said = run_grapneld("-t", "-c", b.conf)
            assert said.returncode != 0 and about in said.stderr + said.stdout, said.stderr
    finally:
        b.remove()


def test_two_sections_cannot_have_one_outbox():
    b = Hooked()
    try:
        one = section({"main": endpoint("http://127.0.0.1:1/")})["webhook"]
        b.configure(plugins={"webhook": one, "other": dict(one, module="webhook")})
        said = run_grapneld("-t", "-c", b.conf)
        assert said.returncode != 0 and 'this is the outbox of the plugin "webhook"' in said.stderr + said.stdout, said.stderr
    finally:
        b.remove()
