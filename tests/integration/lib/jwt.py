# SPDX-License-Identifier: Apache-2.0
"""JSON Web Tokens, made with the standard library and the openssl command, and a server for JWK Sets.

    key = Rsa()                     # Ec("P-256"), Secret(b"..."): made once, by the openssl command
    key.pem, key.jwk(kid="a")       # public, as text and as dict
    key.token({"sub": "alice"})     # header and claims may be anything: header={...}, a str or bytes as claims
    with Jwks() as server:          # http://127.0.0.1:PORT/, says server.answer
        server.keys(key.jwk(kid="a"))
"""
import base64
import hashlib
import hmac
import http.server
import json
import os
import re
import ssl
import tempfile
import threading
import time

from .pki import openssl
from .server import free_port


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else data.encode()).rstrip(b"=").decode()


def unb64(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def as_json(value):
    return value if isinstance(value, (str, bytes)) else json.dumps(value)


def now(seconds=0):
    return int(time.time()) + seconds


class Key:
    alg = None
    kid = None

    def sign(self, alg, data):
        raise NotImplementedError

    def token(self, claims, header=None, alg=None, **more):
        """exp is in an hour unless claims say otherwise ("exp": None: without). more: of the header; None: without."""
        if isinstance(claims, dict):
            claims = {k: v for k, v in dict({"exp": now(3600)}, **claims).items() if v is not None}
        if header is None:
            header = {"alg": alg or self.alg, "typ": "JWT", "kid": self.kid}
            header.update(more)
            header = {k: v for k, v in header.items() if v is not None}
        text = b64(as_json(header)) + "." + b64(as_json(claims))
        return text + "." + b64(self.sign(alg or self.alg, text.encode()))


class Secret(Key):
    alg = "HS256"

    def __init__(self, secret, kid=None):
        self.secret, self.kid = secret, kid

    def sign(self, alg, data):
        return hmac.new(self.secret, data, getattr(hashlib, "sha" + alg[2:])).digest()

    def jwk(self, **more):
        return dict({"kty": "oct", "k": b64(self.secret)}, **more)


class Pair(Key):
    def __init__(self, private, kid=None):
        self.kid = kid
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as f:
            f.write(private)
        self.path = f.name
        self.private = private
        self.pem = openssl("pkey", "-in", self.path, "-pubout")
        self.der = base64.b64decode("".join(self.pem.splitlines()[1:-1]))

    def __del__(self):
        if os.path.exists(self.path):
            os.unlink(self.path)

    def digest(self, alg, data, *options):
        return openssl("dgst", "-sha" + alg[2:], "-sign", self.path, *options, stdin=data, text=False)

    def certificate(self):
        return openssl("req", "-x509", "-key", self.path, "-subj", "/CN=tokens", "-days", "30")


class Rsa(Pair):
    alg = "RS256"

    def __init__(self, kid=None, bits=2048):
        super().__init__(openssl("genrsa", str(bits)), kid)

    def sign(self, alg, data):
        if alg.startswith("PS"):
            return self.digest(alg, data, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1")
        return self.digest(alg, data)

    def jwk(self, **more):
        text = openssl("rsa", "-in", self.path, "-noout", "-modulus")
        return dict({"kty": "RSA", "n": b64(bytes.fromhex(text.strip().split("=")[1])), "e": "AQAB"}, **more)


class Ec(Pair):
    algs = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    sizes = {"P-256": 32, "P-384": 48, "P-521": 66}

    def __init__(self, curve="P-256", kid=None):
        self.curve, self.alg, self.size = curve, self.algs.get(curve, "ES256"), self.sizes.get(curve, 32)
        super().__init__(openssl("ecparam", "-name", curve, "-genkey", "-noout"), kid)

    def sign(self, alg, data):
        text = openssl("asn1parse", "-inform", "DER", stdin=self.digest(alg, data), text=False).decode()
        r, s = (int(x, 16) for x in re.findall(r"INTEGER\s*:([0-9A-F]+)", text))
        return r.to_bytes(self.size, "big") + s.to_bytes(self.size, "big")

    def jwk(self, **more):
        x, y = self.der[-2 * self.size:-self.size], self.der[-self.size:]
        return dict({"kty": "EC", "crv": self.curve, "x": b64(x), "y": b64(y)}, **more)


class Ed(Pair):
    alg = "EdDSA"

    def __init__(self, kid=None):
        super().__init__(openssl("genpkey", "-algorithm", "ED25519"), kid)

    def sign(self, alg, data):
        with tempfile.NamedTemporaryFile() as f:
            f.write(data)
            f.flush()
            return openssl("pkeyutl", "-sign", "-inkey", self.path, "-rawin", "-in", f.name, text=False)

    def jwk(self, **more):
        return dict({"kty": "OKP", "crv": "Ed25519", "x": b64(self.der[-32:])}, **more)


class Jwks:
    """What it answers is `status` and `body`; `asked` counts. stop() and start() keep the port. hold: answers wait for release()."""

    def __init__(self, tls=None):
        self.status, self.body, self.asked, self.headers = 200, "{}", 0, {}
        self.tls = tls  # a certificate of lib.pki
        self.port, self.server, self.held = free_port(), None, threading.Event()
        self.held.set()

    def keys(self, *jwks):
        self.body = json.dumps({"keys": list(jwks)})
        return self

    @property
    def url(self):
        return "%s://127.0.0.1:%d/jwks" % ("https" if self.tls else "http", self.port)

    def start(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):  # noqa: N802
                outer.asked += 1
                outer.held.wait()
                body = outer.body if isinstance(outer.body, bytes) else outer.body.encode()
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *unused):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *unused):
                pass

        self.server = Quiet(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        if self.tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.cert, self.tls.key)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def stop(self):
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def hold(self):
        self.held.clear()

    def release(self):
        self.held.set()

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.release()
        self.stop()
