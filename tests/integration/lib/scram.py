# SPDX-License-Identifier: Apache-2.0
"""The client's side of SCRAM (RFC 5802, RFC 7677) over MQTT 5 AUTH packets, without channel binding.

    c = b.client(V5)
    p = login(c, "SCRAM-SHA-256", "alice", "wonder", client_id="x")   # CONNACK, and the server has proved itself
"""
import base64
import hashlib
import hmac
import os

from .mqtt import AUTH, CONNACK, P

CONTINUE, REAUTH = 0x18, 0x19
HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}


def _b64(data):
    return base64.b64encode(data).decode()


def credential(method, password, iterations=4096, salt=b"0123456789abcdef"):
    """As PostgreSQL stores it."""
    name = HASHES[method]
    salted = hashlib.pbkdf2_hmac(name, password.encode(), salt, iterations)
    stored = hashlib.new(name, hmac.digest(salted, b"Client Key", name)).digest()
    return "%s$%d:%s$%s:%s" % (method, iterations, _b64(salt), _b64(stored), _b64(hmac.digest(salted, b"Server Key", name)))


class Exchange:
    def __init__(self, method, user, password, nonce=None, header="n,,"):
        self.method, self.hash, self.password = method, HASHES[method], password
        self.header, self.nonce = header, _b64(os.urandom(18)) if nonce is None else nonce
        self.bare = "n=%s,r=%s" % (user.replace("=", "=3D").replace(",", "=2C"), self.nonce)
        self.first = header + self.bare

    def final(self, challenge):
        """@return the client-final-message to this server-first-message."""
        fields = dict(f.split("=", 1) for f in challenge.split(","))
        assert list(fields) == ["r", "s", "i"], challenge
        assert fields["r"].startswith(self.nonce) and len(fields["r"]) >= len(self.nonce) + 24, challenge
        salted = hashlib.pbkdf2_hmac(self.hash, self.password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        without = "c=%s,r=%s" % (_b64(self.header.encode()), fields["r"])
        message = ",".join((self.bare, challenge, without)).encode()
        key = hmac.digest(salted, b"Client Key", self.hash)
        signature = hmac.digest(hashlib.new(self.hash, key).digest(), message, self.hash)
        self.expected = "v=" + _b64(hmac.digest(hmac.digest(salted, b"Server Key", self.hash), message, self.hash))
        return without + ",p=" + _b64(bytes(a ^ b for a, b in zip(key, signature)))


def properties(method, data=None):
    if isinstance(data, str):
        data = data.encode()
    return [(P.AUTH_METHOD, method)] + ([(P.AUTH_DATA, data)] if data is not None else [])


def _answer(c, method, exchange):
    """To the challenge. @return the packet after it."""
    p = c.recv()
    if p.type != AUTH:
        return p
    assert p.reason == CONTINUE and p.prop(P.AUTH_METHOD) == method, p
    c.send_raw(P.auth(CONTINUE, properties(method, exchange.final(p.prop(P.AUTH_DATA).decode()))))
    return c.recv()


def login(c, method, user, password, client_id, nonce=None, header="n,,", **options):
    """@return CONNACK."""
    exchange = Exchange(method, user, password, nonce, header)
    c.send_connect(client_id, props=properties(method, exchange.first), **options)
    p = _answer(c, method, exchange)
    assert p.type == CONNACK, p
    if p.reason == 0:
        assert p.prop(P.AUTH_DATA).decode() == exchange.expected, "the server has not proved that it knows the user"
    return p


def again(c, method, user, password):
    """Re-authentication. @return AUTH or DISCONNECT."""
    exchange = Exchange(method, user, password)
    c.send_raw(P.auth(REAUTH, properties(method, exchange.first)))
    p = _answer(c, method, exchange)
    if p.type == AUTH:
        assert p.reason == 0 and p.prop(P.AUTH_DATA).decode() == exchange.expected, p
    return p
