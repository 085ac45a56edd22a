# SPDX-License-Identifier: Apache-2.0
"""The server that tests of webhook send to (lib/receiver.py): what it is told to do wrong it does, as a plain client sees it."""
import http.client
import json
import socket
import ssl

from lib import pki, standard_webhooks
from lib.case import each, skip_if
from lib.http_server import NGINX
from lib.receiver import Receiver, http2, in_order

SHARED = {}


def receiver(tls=False):
    """One for all tests that leave it as it was."""
    if tls not in SHARED:
        SHARED[tls] = Receiver(tls).start()
    SHARED[tls].does()
    return SHARED[tls]


def batch(name, first, count):
    return json.dumps([{"specversion": "1.0", "id": "%s-%d" % (name, n), "type": "grapnel.message_published", "subject": name, "data": {
        "client": {"client_id": name}, "message": {"topic": "t", "payload": "%s %d" % (name, n)}}}
        for n in range(first, first + count)]).encode()


def trust():
    return ssl.create_default_context(cafile=pki.get().root.cert)


def client(r):
    if r.secure:
        return http.client.HTTPSConnection("localhost", r.port, context=trust(), timeout=20)
    return http.client.HTTPConnection("localhost", r.port, timeout=20)


def post(c, body, path="/", **headers):
    c.request("POST", path, body, dict({"Content-Type": "application/cloudevents-batch+json"}, **headers))
    answer = c.getresponse()
    answer.text = answer.read()
    return answer


def last(r):
    return r.deliveries()[-1]


@each(tls=(False, True))
def test_what_was_answered_is_there_after_a_kill(tls):
    r = Receiver(tls).start()
    c = client(r)
    for i in range(3):
        assert post(c, batch("a", 1 + 10 * i, 10)).status == 200
    r.kill9()
    with open(r.path("records"), "ab") as f:  # as one that was killed while it wrote
        f.write(b'{"len": 100}\nonly a part')
    r.start()
    assert post(client(r), batch("a", 31, 10)).status == 200
    events = r.events()
    assert [e.number for e in events] == list(range(1, 41))
    assert in_order(events, lambda e: e.client) == {"a": 40}
    assert (events[0].kind, events[0].subject, events[0].topic) == ("message_published", "a", "t")
    assert len(r.deliveries(taken=True)) == 4
    r.stop()


def test_a_paused_one_answers_when_it_goes_on():
    r = Receiver(tls=False).start()
    c = client(r)
    post(c, batch("a", 1, 1))
    r.pause()
    c.request("POST", "/", batch("a", 2, 1))
    c.sock.settimeout(0.2)
    try:
        c.getresponse()
        raise AssertionError("it was paused")
    except TimeoutError:
        pass
    r.resume()
    r.wait_deliveries(2)
    r.stop()


def test_statuses_rules_and_how_often():
    r, c = receiver(), client(receiver())
    r.does("status", status=429, headers={"Retry-After": "7"}, body="slowly", times=2)
    for status in (429, 429, 200):
        answer = post(c, batch("s", 1, 1))
        assert answer.status == status and last(r).taken == (status == 200), last(r)
        assert status == 200 or (answer.headers["Retry-After"], answer.text) == ("7", b"slowly")
    r.obeys({"do": "status", "status": 400, "match": "s 7\\b"}, {"do": "status", "status": 413, "over": 2000},
            {"do": "status", "status": 307, "path": "/moved", "headers": {"Location": "https://elsewhere.example/"}})
    assert [post(c, batch("s", n, 1)).status for n in (6, 7, 77)] == [200, 400, 200]
    assert post(c, batch("s", 10, 20)).status == 413
    answer = post(c, b"[]", path="/moved")
    assert (answer.status, answer.headers["Location"]) == (307, "https://elsewhere.example/")
    r.does("slow", delay=0.05)
    assert post(c, b"[]").status == 200


def raw(r):
    s = socket.create_connection(("127.0.0.1", r.port), 20)
    if r.secure:
        s = trust().wrap_socket(s, server_hostname="localhost")
    s.sendall(b"POST / HTTP/1.1\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: 2\r\n\r\n[]")
    return s


def read(s, at_most=1 << 20):
    """@return (what came, "end", "reset", "more" or "silence")."""
    data = b""
    try:
        while len(data) < at_most:
            more = s.recv(1 << 16)
            if not more:
                return data, "end"
            data += more
        return data, "more"
    except ConnectionResetError:
        return data, "reset"
    except TimeoutError:
        return data, "silence"


@each(tls=(False, True))
def test_connections_that_end_the_wrong_way(tls):
    r = receiver(tls)
    for what, taken, begins, ends in (
            ("forget", True, b"", "end"), ("part", True, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "end"),
            ("reset", False, b"", "reset"), ("garbage", False, b"\0\xff\xfe", "end"),
            ("endless_headers", False, b"HTTP/1.1 200 OK\r\nX-More: xxx", "more"),
            ("endless_body", False, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4000\r\nxxx", "more"),
            ("huge_body", False, b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n\0\0", "more"),
            ("hang", False, b"", "silence")):
        r.does(what)
        with raw(r) as s:
            s.settimeout(0.2 if what == "hang" else 20)
            data, end = read(s)
        if tls and what in ("reset",):
            ends = ("reset", "end")
        assert data.startswith(begins) and bool(data) == bool(begins) and end in ends, (what, data[:100], end)
        r.wait_deliveries(1)
        assert (last(r).taken, last(r).body) == (taken, b"[]"), (what, last(r))
    r.does("drip", delay=0.001)
    with raw(r) as s:
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += s.recv(100)
    assert data == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def test_bodies_in_chunks_and_after_100_continue():
    r = receiver()
    c = client(r)
    assert post(c, iter([b"[", b"]"])).status == 200  # http.client sends that in chunks
    assert last(r).body == b"[]" and last(r).headers["transfer-encoding"] == "chunked"
    with socket.create_connection(("127.0.0.1", r.port), 20) as s:
        s.sendall(b"POST / HTTP/1.1\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert s.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        s.sendall(b"[]")
        assert s.recv(100).startswith(b"HTTP/1.1 200 ")


def handshake(r, **options):
    context = trust()
    for name, value in options.items():
        context.load_cert_chain(value.cert, value.key) if name == "cert" else setattr(context, name, value)
    with socket.create_connection(("127.0.0.1", r.port), 20) as s:
        s.settimeout(0.3 if r.tls_wanted.get("handshake") else 20)
        with context.wrap_socket(s, server_hostname="localhost") as t:
            t.sendall(b"POST / HTTP/1.1\r\nContent-Type: application/cloudevents-batch+json\r\nContent-Length: 2\r\n\r\n[]")
            return t.recv(1000)[:15]


def test_certificates_and_handshakes():
    r = Receiver().start()
    p = pki.get()
    assert handshake(r) == b"HTTP/1.1 200 OK"
    for cert, why in ((p.root.issue("elsewhere", san="DNS:elsewhere.example"), "Hostname mismatch"),
                      (p.other.issue("localhost", san="DNS:localhost"), "unable to get local issuer"),
                      (p.root.issue("old", san="DNS:localhost", start=-2 * pki.DAY, end=-pki.DAY), "expired")):
        r.tls(cert)
        try:
            handshake(r)
            raise AssertionError("it was believed: " + why)
        except ssl.SSLCertVerificationError as e:
            assert why in str(e), e
    r.tls(handshake="hang")
    try:
        handshake(r)
        raise AssertionError("it did not hang")
    except TimeoutError:
        pass
    r.tls(client_ca=p.root.cert)
    try:
        assert handshake(r) != b"HTTP/1.1 200 OK"
    except ssl.SSLError:
        pass
    assert handshake(r, cert=p.root.issue("sender", cn="sender", usage="clientAuth")) == b"HTTP/1.1 200 OK"
    assert last(r).subject == "sender"
    r.stop()


@skip_if(NGINX is None, "there is no nginx")
def test_nginx_in_front_speaks_http_2():
    r = receiver()
    front = http2(r)
    context = trust()
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", front.port), 20) as s, context.wrap_socket(s, server_hostname="localhost") as t:
        assert t.selected_alpn_protocol() == "h2"
    c = http.client.HTTPSConnection("localhost", front.port, context=trust(), timeout=20)
    assert post(c, batch("n", 1, 5)).status == 200
    assert [e.number for e in r.events(client="n")] == [1, 2, 3, 4, 5]
    front.stop()


def test_in_order_finds_what_is_out_of_order():
    r = receiver()
    c = client(r)
    for first, count in ((1, 3), (2, 2), (4, 2)):  # the second is a repeat
        post(c, batch("o", first, count))
    events = r.events(client="o")
    assert in_order(events, lambda e: e.client) == {"o": 5}
    for wrong in (events[:2] + events[5:], events[1:], [events[0], events[6], events[1]]):
        try:
            in_order(wrong, lambda e: e.client)
            raise AssertionError("not found")
        except AssertionError as e:
            assert " after " in str(e), e


# ---- Standard Webhooks ---------------------------------------------------------------------------------

KNOWN = (  # of the documentation of those who wrote the specification
    ("whsec_plJ3nmyCDGBKInavdOK15jsl", "msg_loFOjxBNrRLzqYUf", 1731705121, b'{"event_type":"ping","data":{"success":true}}',
     "rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="),
    ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}',
     "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="))


def test_signatures_that_others_have_made():
    other = "whsec_" + "A" * 32
    for secret, message_id, stamp, body, signature in KNOWN:
        assert standard_webhooks.sign(secret, message_id, stamp, body) == signature
        headers = {"webhook-id": message_id, "webhook-timestamp": str(stamp), "webhook-signature": "v1,%s" % signature}
        right = dict(headers=headers, body=body, secrets=[other, secret], now=stamp + 100)
        assert standard_webhooks.verify(**right) == "v1," + signature
        several = dict(headers, **{"webhook-signature": "v1a,xx v1,%s v1,%s" % ("A" * 43 + "=", signature)})
        assert standard_webhooks.verify(**dict(right, headers=several)) == "v1," + signature
        for wrong in (dict(body=body + b" "), dict(secrets=[other]), dict(now=stamp + 301), dict(now=stamp - 301),
                      dict(headers=dict(headers, **{"webhook-id": message_id + "x"})),
                      dict(headers=dict(headers, **{"webhook-id": "a.b"})),
                      dict(headers=dict(headers, **{"webhook-timestamp": "+%d" % stamp})),
                      dict(headers=dict(headers, **{"webhook-signature": signature})),
                      dict(headers=dict(headers, **{"webhook-signature": "v2," + signature})),
                      dict(headers={k: v for k, v in headers.items() if k != "webhook-id"})):
            try:
                standard_webhooks.verify(**dict(right, **wrong))
                raise AssertionError("taken for right: %r" % wrong)
            except standard_webhooks.Wrong:
                pass
