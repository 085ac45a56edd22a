# SPDX-License-Identifier: Apache-2.0
"""webhook and end points that fail, lie, hang, send elsewhere or are not who they should be: nothing is lost, nothing is told to others."""
import base64
import hashlib
import subprocess
import time

from lib import pki
from lib.broker import FACTOR, run_grapneld
from lib.case import each
from lib.hooks import eventually
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import MIB, memory, slack, waits
from lib.receiver import Receiver, in_order
from lib.server import Mute
from lib.webhook import Hooked, dead_letters, endpoint, hooked, publish, section

SHORT = "%dms" % (400 * FACTOR)


def both(b, count, first=1):
    """From two clients, whose events go different ways."""
    for name in ("one", "two"):
        publish(b, name, count, first, client=next((c for c in b.clients if c.client_id == name), None))


def all_there(r, count):
    r.wait_events(2 * count)
    assert in_order(r.events(), lambda e: e.client) == {"one": count, "two": count}


# ---- answers that are none, or say "later" ---------------------------------------------------------------


LATER = {"500": dict(do="status", status=500), "502": dict(do="status", status=502, body="<html>"), "408": dict(do="status", status=408),
         "425": dict(do="status", status=425), "429": dict(do="status", status=429), "301": dict(do="status", status=301, headers={
             "Location": "/elsewhere"}), "307 to nowhere": dict(do="status", status=307), "304": dict(do="status", status=304),
         "reset": dict(do="reset"), "garbage": dict(do="garbage"), "forgotten": dict(do="forget"),
         "half an answer": dict(do="part"), "endless headers": dict(do="endless_headers"),
         "endless headers of an error": dict(do="endless_headers", status=500),
         "an endless body": dict(do="endless_body", status=500), "a body of a gigabyte": dict(do="huge_body", status=503)}


@each(what=tuple(LATER))
def test_what_fails_is_sent_again_until_it_is_taken(what):
    with Receiver(tls=LATER[what]["do"] != "status").start() as r:
        r.obeys(dict(LATER[what], times=3))
        with hooked(r, batch_events=20, requests=2, max_age="1h") as b:
            before = memory(b)
            both(b, 50)
            all_there(r, 50)
            eventually(lambda: b.status()["waiting"] == 0, "nothing waits")
            s = b.status()
            assert s["failures"] >= 2 and s["dead_letters"] == 0 and s["last_error"], s
            assert memory(b) < before + 48 * MIB + slack(b), "an answer was kept"
            assert b.log_lines(r'endpoint "main": .*events wait in the outbox') and b.log_lines("takes events again")


@each(what=("hang", "drip", "handshake"))
def test_who_takes_too_long_is_left_and_asked_again(what):
    with Receiver(tls=what == "handshake").start() as r:
        if what == "handshake":
            r.tls(handshake="hang")
        else:
            r.obeys({"do": what, "delay": 60, "times": 2})
        with hooked(r, batch_events=20, requests=2, request_timeout=SHORT if what != "handshake" else None,
                    connect_timeout=SHORT if what == "handshake" else None) as b:
            both(b, 20)
            eventually(lambda: b.status()["failures"] >= 1, "a time limit passed")
            if what == "handshake":
                r.tls()
            both(b, 20, first=21)
            all_there(r, 40)
            assert "time" in b.status()["last_error"].lower() or "within" in b.status()["last_error"], b.status()


def test_one_that_reads_nothing_holds_up_nobody_else():
    with Mute() as mute, Receiver(tls=False).start() as r:
        with hooked(["http://127.0.0.1:%d/" % mute.port, r], request_timeout=SHORT, payload_max="1m", retry_max="60s",
                    retry_min="60s") as b:
            c = b.connect(V5, "c")
            for i in range(5):
                c.publish("t", b"c %d%s" % (i + 1, b"." * 900000), qos=1)
            assert [e.number for e in r.wait_events(5)] == [1, 2, 3, 4, 5] and mute.accepted >= 1


def test_a_slow_end_point_is_waited_for():
    with Receiver(tls=False).start() as r:
        r.does("slow", delay=0.03)
        with hooked(r, batch_events=5, requests=2) as b:
            both(b, 20)
            all_there(r, 20)
            assert b.status()["failures"] == 0 and len(r.events()) == 40, "none was sent twice"


@each(what=("endless_body", "huge_body"))
def test_once_the_status_says_taken_the_body_does_not_matter(what):
    with Receiver(tls=False).start() as r:
        r.obeys({"do": what, "times": 2})
        with hooked(r, batch_events=20, requests=1) as b:
            before = memory(b)
            publish(b, "c", 100)
            eventually(lambda: b.status()["delivered"] == 100, "all count as delivered")
            assert memory(b) < before + 48 * MIB + slack(b)
            assert b.status()["failures"] == 0


@each(how=("seconds", "date"))
def test_retry_after_is_heeded(how):
    with Receiver(tls=False).start() as r:
        text = "1" if how == "seconds" else "{date}"
        if how == "date":
            import email.utils
            text = email.utils.formatdate(time.time() + 2.0, usegmt=True)
        r.does("status", status=429, headers={"Retry-After": text}, times=1)
        with hooked(r) as b:
            publish(b, "c", 1)
            first, second = r.wait_deliveries(2)
            assert second.status == 200
            if how == "seconds":
                assert second.time - first.time >= 0.98, "it was to be left alone for a second"
            else:
                assert second.time - first.time >= 0.5, "it was to be left alone until then"


@each(text=("", "soon", "-5", "1e9", "99999999999999999999", "1\u00ff", "Thu, 01 Jan 1970 00:00:00 GMT"))
def test_a_retry_after_that_makes_no_sense_delays_nothing_for_long(text):
    with Receiver(tls=False).start() as r:
        with hooked(r) as b:
            r.does("status", status=503, headers={"Retry-After": text}, times=1)
            publish(b, "c", 1)
            if text != "99999999999999999999":
                r.wait_deliveries(2)
            else:
                r.wait_deliveries(1)
                eventually(lambda: b.status()["failures"] == 1, "it failed")


def test_pauses_grow():
    with Receiver(tls=False).start() as r:
        r.does("status", status=500, times=5)
        with hooked(r, retry_min="40ms", retry_max="10s") as b:
            publish(b, "c", 1)
            times = [d.time for d in r.wait_deliveries(6)]
            for i in range(5):  # each at least half of 40 ms, 80 ms ...
                assert times[i + 1] - times[i] >= 0.018 * 2 ** i, (i, times)


@each(why=("down", "paused"))
def test_the_sender_sleeps_while_nothing_can_be_sent(why):
    with Receiver(tls=False).start() as r:
        r.does("status", status=500)
        with hooked(r, batch_events=1, retry_min="60s", retry_max="60s") as b:
            if why == "paused":
                b.run("pause", "main")
            c = publish(b, "c", 1)
            eventually(lambda: b.status()["failures"] == (why == "down"), "it has tried")
            before = waits(b, "webhook")
            publish(b, "c", 500, first=2, window=1, client=c)
            assert b.status()["waiting"] == 501
            assert waits(b, "webhook") - before < 50, "it is woken up for each event"
            if why == "paused":
                r.does()
                b.run("resume", "main")
                assert [e.number for e in r.wait_events(501)] == list(range(1, 502))


# ---- answers that say "never" --------------------------------------------------------------------------------


@each(status=(400, 401, 404, 410, 413, 422, 451))
def test_a_poisoned_event_does_not_stop_the_others(status):
    with Receiver(tls=False).start() as r:
        r.does("status", status=status, body="poison: \x01 \u00e4 %s" % ("z" * 5000), match=r"one (7|8|31)\b")
        with hooked(r, batch_events=25, requests=1) as b:
            b.run("pause", "main")
            both(b, 40)
            b.run("resume", "main")
            eventually(lambda: b.status()["waiting"] == 0 and b.status()["dead_letters"] == 3, "three are dead letters")
            by = {n: [e.number for e in r.events(client=n)] for n in ("one", "two")}
            assert by == {"one": [n for n in range(1, 41) if n not in (7, 8, 31)], "two": list(range(1, 41))}, by
            letters = dead_letters(b)
            assert [x["event"]["message"]["payload"] for x in letters] == ["one 7", "one 8", "one 31"], letters
            for x in letters:
                assert x["status"] == status and x["response"].startswith("poison: ") and 500 < len(x["response"]) <= 1024, x
            assert b.status()["failures"] == 0, "the end point works"
            assert b.metric('grapnel_plugin_dead_letters_total{plugin="webhook"}') == 3


def test_batches_become_smaller_for_one_that_takes_no_large_ones():
    with Receiver(tls=False).start() as r:
        r.does("status", status=413, over=3000)
        with hooked(r, batch_events=100, requests=1) as b:
            b.run("pause", "main")
            publish(b, "c", 300)
            b.run("resume", "main")
            r.wait_events(300)
            assert in_order(r.events(), lambda e: e.client) == {"c": 300} and b.status()["dead_letters"] == 0
            refused = len(r.deliveries(taken=False))
            assert refused < len(r.deliveries(taken=True)), "it remembers what is too large"


def test_after_max_attempts_an_event_is_given_up():
    with Receiver(tls=False).start() as r:
        r.does("status", status=500, body="not that one", match=r"c 3\b")
        with hooked(r, batch_events=1, requests=1, max_attempts=3) as b:
            publish(b, "c", 5)
            eventually(lambda: b.status()["waiting"] == 0, "all were sent, or given up")
            assert [e.number for e in r.events()] == [1, 2, 4, 5]
            letter, = dead_letters(b)
            assert (letter["status"], letter["response"]) == (500, "not that one"), letter
            assert len([d for d in r.deliveries() if b"c 3" in d.body]) == 3


def test_failures_of_what_was_too_old_do_not_count_for_the_next():
    with Receiver(tls=False).start() as r:
        r.does("status", status=500)
        with hooked(r, batch_events=1, requests=1, max_attempts=2, max_age="700ms", retry_min="2s", retry_max="2s") as b:
            for n in (1, 2):
                publish(b, "c%d" % n, 1)
                eventually(lambda n=n: b.status()["lost"]["too_old"] + b.status()["dead_letters"] == n, "it is given up")
            s = b.status()
            assert (s["lost"]["too_old"], s["dead_letters"]) == (2, 0), "each had its first attempt only: %s" % s


def test_dead_letters_over_their_limit_do_not_fill_the_log():
    with Receiver(tls=False).start() as r:
        r.does("status", status=400)
        with hooked(r, batch_events=1, dead_letters=1) as b:
            start = time.monotonic()
            c = publish(b, "c", 1)
            eventually(lambda: len(dead_letters(b)) == 1, "it is kept, and the next one is too many")
            publish(b, "c", 299, first=2, client=c)
            eventually(lambda: b.status()["waiting"] == 0, "all were refused")
            eventually(lambda: len(dead_letters(b)) == 1, "one is kept")
            eventually(lambda: b.log_lines("more than dead_letters = 1 are kept"), "it was said")
            said = len(b.log_lines("more than dead_letters = 1 are kept"))
            assert 0 < said <= time.monotonic() - start + 1, "each second once: %d" % said


def test_dead_letters_have_a_limit():
    with Receiver(tls=False).start() as r:
        r.does("status", status=400)
        with hooked(r, batch_events=1, dead_letters=5) as b:
            publish(b, "c", 20)
            eventually(lambda: b.status()["waiting"] == 0, "all were refused")
            eventually(lambda: len(dead_letters(b)) <= 5, "five are kept")
            kept = [x["event"]["message"]["payload"] for x in dead_letters(b)]
            assert len(kept) > 0 and b.status()["delivered"] == 0


def test_dead_letters_that_nobody_wants_are_thrown_away_and_that_is_said():
    with Receiver(tls=False).start() as r:
        r.does("status", status=400, match=r"c 1\b")
        with hooked(r, batch_events=1, requests=1, dead_letters=0, events=["message_published", "gap"]) as b:
            publish(b, "c", 2)
            r.wait_events(1, "message_published")
            eventually(lambda: b.status()["waiting"] == 0, "one was refused")
            s = b.status()
            assert (s["delivered"], s["dead_letters"], s["lost"]["full"]) == (1, 0, 0), s
            assert b.metric('grapnel_plugin_dead_letters_total{plugin="webhook"}') == 1
            assert b.log_lines("was refused with status 400 and is thrown away") and not b.log_lines("its outbox is full")
            assert not r.events("gap"), "its outbox lost nothing"


# ---- who is at the other end -----------------------------------------------------------------------------------


def pin_of(cert):
    key = subprocess.run("openssl x509 -in '%s' -noout -pubkey | openssl pkey -pubin -outform DER" % cert.cert, shell=True,
                         capture_output=True, check=True).stdout
    return "sha256//" + base64.b64encode(hashlib.sha256(key).digest()).decode()


@each(wrong=("name", "authority", "expired"))
def test_nothing_is_sent_to_one_with_a_wrong_certificate(wrong):
    p = pki.get()
    certs = {"name": p.root.issue("elsewhere", san="DNS:elsewhere.example"),
             "authority": p.other.issue("localhost", san="DNS:localhost"),
             "expired": p.root.issue("old", san="DNS:localhost", start=-2 * pki.DAY, end=-pki.DAY)}
    with Receiver(cert=certs[wrong]).start() as r:
        with hooked(r) as b:
            publish(b, "c", 10)
            eventually(lambda: b.status()["failures"] >= 2, "it is tried more than once")
            assert not r.deliveries() and "certificate" in b.status()["last_error"].lower(), b.status()
            r.tls()
            assert [e.number for e in r.wait_events(10)] == list(range(1, 11))


def test_a_pinned_key():
    p = pki.get()
    mine = p.root.issue("pinned", san="DNS:localhost", own_key=True)
    with Receiver().start() as r:  # with another key, of the same authority
        with hooked(r, tls_pin=pin_of(mine)) as b:
            publish(b, "c", 5)
            eventually(lambda: b.status()["failures"] >= 2, "it is tried more than once")
            assert not r.deliveries()
            r.tls(mine)
            r.wait_events(5)


@each(shown=(False, True))
def test_a_certificate_for_those_who_ask_for_one(shown):
    p = pki.get()
    me = p.root.issue("sender", cn="the sender", usage="clientAuth")
    with Receiver(client_ca=p.root.cert).start() as r:
        with hooked(r, tls_cert=me.cert if shown else None, tls_key=me.key if shown else None) as b:
            publish(b, "c", 5)
            if shown:
                r.wait_events(5)
                assert r.deliveries()[0].subject == "the sender"
            else:
                eventually(lambda: b.status()["failures"] >= 1, "it is refused")
                assert not r.deliveries()


PRIVATE = ("127.0.0.1", "127.1", "0x7f000001", "2130706433", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1",
           "169.254.169.254", "192.168.0.1", "172.16.0.1", "[fd00::1]", "[fe80::1]", "[::]", "[64:ff9b::7f00:1]", "100.64.0.1")


def test_private_addresses_are_refused_if_asked_for():
    b = Hooked()
    try:
        for host in PRIVATE:
            b.configure(plugins=section({"main": endpoint("http://%s:80/" % host, private_addresses=False)}))
            said = run_grapneld("-t", "-c", b.conf)
            assert said.returncode != 0 and "private address" in said.stderr, (host, said.stderr)
    finally:
        b.remove()


def test_names_that_lead_to_private_addresses_are_refused_if_asked_for():
    with Receiver(tls=False).start() as r:
        with hooked(r.url("/", "localhost"), private_addresses=False) as b:
            publish(b, "c", 1)
            eventually(lambda: b.status()["failures"] >= 2, "it is refused")
            assert not r.deliveries() and b.status()["last_error"], b.status()


# ---- redirects -------------------------------------------------------------------------------------------------------


SECRETS = {"bearer_token": "tell-nobody-1", "headers": ["X-Api-Key: tell-nobody-2", "Cookie: tell-nobody-3"]}


def to(url, status=307, **more):
    return dict({"do": "status", "status": status, "headers": {"Location": url}, "path": "/events"}, **more)


@each(status=(307, 308))
def test_a_redirect_on_the_same_host_is_followed(status):
    with Receiver(tls=False).start() as r:
        r.obeys(to("/new?a=b", status))
        with hooked(r, **SECRETS) as b:
            publish(b, "c", 5)
            r.wait_events(5)
            taken = r.deliveries(taken=True)[0]
            assert (taken.method, taken.target) == ("POST", "/new?a=b")
            assert taken.headers["authorization"] == "Bearer tell-nobody-1" and taken.headers["x-api-key"] == "tell-nobody-2"


@each(policy=("none", "same_host", "any_host"))
@each(tls=(False, True))
def test_a_redirect_elsewhere_gets_no_credentials(policy, tls):
    p = pki.get()
    me = p.root.issue("sender", cn="the sender", usage="clientAuth")
    with Receiver(tls).start() as r, Receiver(tls).start() as other:
        r.obeys(to(other.url("/stolen")))
        more = {"tls_cert": me.cert, "tls_key": me.key} if tls else {}
        with hooked(r, redirects=policy, **more, **SECRETS) as b:
            publish(b, "c", 5)
            if policy == "any_host":
                other.wait_events(5)
                for d in other.deliveries():
                    assert "tell-nobody" not in str(d.raw_headers), d.raw_headers
                    assert d.subject is None and d.target == "/stolen"
                    assert d.headers["host"] == "localhost:%d" % other.port
            else:
                eventually(lambda: b.status()["failures"] >= 2, "it counts as a failure")
                assert not other.deliveries() and "redirect" in b.status()["last_error"], b.status()


def test_a_redirect_from_https_to_http_is_not_followed():
    with Receiver().start() as r, Receiver(tls=False).start() as other:
        r.obeys(to(other.url("/plain")))
        with hooked(r, redirects="any_host") as b:
            publish(b, "c", 5)
            eventually(lambda: b.status()["failures"] >= 2, "it counts as a failure")
            assert not other.deliveries()


@each(where=("/events", "http://127.0.0.1:1/", "file:///etc/passwd", "gopher://127.0.0.1:25/x", "//", "http://a:b@localhost/",
             "/" + "x" * 5000, "http://[::1", "ht\ttp:/"))
def test_redirects_that_lead_nowhere(where):
    with Receiver(tls=False).start() as r:
        r.obeys(to(where, times=4))
        with hooked(r, redirects="any_host", retry_max="50ms") as b:
            publish(b, "c", 3)
            r.wait_events(3)
            assert b.status()["failures"] >= 1


# ---- sizes -----------------------------------------------------------------------------------------------------------


@each(tls=(False, True))
def test_bodies_around_the_sizes_of_buffers(tls):
    sizes = [n + d for n in (4096, 16384, 65536, 262144) for d in (-1, 0, 1)] + [1000000]
    texts = [b"x" * n for n in sizes] + [b"\x01" * 65536, b"\"\\" * 40000, "\u00e4".encode() * 40000, b"\xff" * 65537, b"\n" * 16384]
    with Receiver(tls).start() as r:
        with hooked(r, payload_max="2m", requests=3, order_by="none") as b:
            c = b.connect(V5, "c")
            for text in texts:
                c.publish("t", text, qos=1)
            events = sorted(r.wait_events(len(texts)), key=lambda e: e.id)
            got = [m["payload"].encode() if "payload" in m else base64.b64decode(m["payload_base64"])
                   for m in (e.data["message"] for e in events)]
            assert got == texts, [(len(a), len(b)) for a, b in zip(got, texts) if a != b]


def test_a_topic_and_a_client_id_of_the_largest_size():
    with Receiver(tls=False).start() as r:
        with hooked(r, headers=["X-C: %c"]) as b:
            name, topic = "n" * 60000, "/".join(["\u00e4" * 100] * 100)
            c = b.connect(V5, name)
            c.publish(topic, "x", qos=1)
            publish(b, "after", 1)
            eventually(lambda: b.status()["waiting"] == 0, "all were sent, or given up")
            assert [e.client for e in r.events(client="after")] == ["after"]
