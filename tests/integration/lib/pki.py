# SPDX-License-Identifier: Apache-2.0
"""Certificates for tests, made by the openssl command in a folder that lasts as long as the process.

    pki = pki.get()                     # authorities "root", "other", and "inter", which root has signed
    c = pki.root.issue("alice", cn="alice", usage="clientAuth")     # the same call again: the same files
    c.cert, c.key, c.chain              # paths; chain is c.cert with the intermediate behind it

Keys are on the curve P-256 unless said otherwise, and shared by certificates of a kind: what is tested is never that two
keys differ, but for mismatches, which ask for a key of their own.
"""
import atexit
import os
import re
import shutil
import subprocess
import tempfile
import time

OPENSSL = shutil.which("openssl")
DAY = 86400


def openssl(*args, stdin=None, text=True):
    r = subprocess.run([OPENSSL] + list(args), input=stdin, capture_output=True, text=text, check=False)
    if r.returncode != 0:
        raise AssertionError("openssl %s\n%s" % (" ".join(args), r.stderr))
    return r.stdout


def stamp(seconds_from_now):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds_from_now))


# ---- DER: what no command would write -----------------------------------------------------------

def der_items(data):
    """[(tag, content)] of well-formed DER with tags of one byte."""
    out, at = [], 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            n = length & 0x7F
            length, at = int.from_bytes(data[at:at + n], "big"), at + n
        out.append((tag, data[at:at + length]))
        at += length
    return out


def der(tag, content):
    n = len(content)
    if n < 0x80:
        head = bytes([n])
    else:
        raw = n.to_bytes((n.bit_length() + 7) // 8, "big")
        head = bytes([0x80 | len(raw)]) + raw
    return bytes([tag]) + head + content


def der_replace(data, old, new):
    """Every primitive value `old` becomes `new`, whatever its length."""
    out = b""
    for tag, content in der_items(data):
        if tag & 0x20:
            content = der_replace(content, old, new)
        elif content == old:
            content = new
        out += der(tag, content)
    return out


# ---- certificates -------------------------------------------------------------------------------

CONFIG = """
[ca]
default_ca = x
[x]
dir = {dir}
database = {dir}/index.txt
new_certs_dir = {dir}/new
serial = {dir}/serial
crlnumber = {dir}/crlnumber
certificate = {cert}
private_key = {key}
default_md = sha256
policy = any
unique_subject = no
default_crl_days = 30
[any]
countryName = optional
organizationName = optional
organizationalUnitName = optional
commonName = optional
emailAddress = optional
[req]
distinguished_name = dn
[dn]
"""


class Cert:
    def __init__(self, cert, key, chain):
        self.cert, self.key, self.chain = cert, key, chain


class Authority:
    """Has what `openssl ca` needs: an index of what it issued, serial numbers."""

    def __init__(self, pki, name, issuer=None):
        self.pki, self.name, self.issuer, self.number, self.made = pki, name, issuer, 0, {}
        self.dir = os.path.join(pki.dir, name)
        os.makedirs(os.path.join(self.dir, "new"))
        self.cert, self.key = self.path("ca.pem"), pki.new_key(name)
        for file, text in (("index.txt", ""), ("serial", "1000\n"), ("crlnumber", "01\n")):
            with open(self.path(file), "w", encoding="ascii") as f:
                f.write(text)
        self.conf = self.path("ca.cnf")
        with open(self.conf, "w", encoding="ascii") as f:
            f.write(CONFIG.format(dir=self.dir, cert=self.cert, key=self.key))
        extensions = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        self._sign(issuer or self, "/O=Grapnel/CN=Test " + name, self.key, extensions, self.cert,
                   ["-selfsign", "-keyfile", self.key] if issuer is None else [])

    def path(self, name):
        return os.path.join(self.dir, name)

    def _sign(self, issuer, subject, key, extensions, out, more, start=-DAY, end=100 * DAY):
        csr, ext = out + ".csr", out + ".ext"
        openssl("req", "-new", "-utf8", "-config", self.conf, "-key", key, "-subj", subject, "-out", csr)
        with open(ext, "w", encoding="ascii") as f:
            f.write(extensions)
        openssl("ca", "-batch", "-notext", "-utf8", "-preserveDN", "-config", issuer.conf, "-in", csr,
                "-out", out, "-extfile", ext, "-startdate", stamp(start), "-enddate", stamp(end), *more)

    def issue(self, name, cn=None, subject=None, san=None, usage="serverAuth,clientAuth", key="ec",
              start=-DAY, end=100 * DAY, own_key=False, patch=None):
        """
        A certificate for `cn`, or for a whole `subject` ("/O=x/CN=y"; / + and \\ in values behind a backslash).
        patch: (old, new) bytes, put into the finished certificate, which is then signed again.
        """
        if name in self.made:
            return self.made[name]
        key = self.pki.new_key(self.name + "-" + name, key) if own_key else self.pki.key(key)
        extensions = "basicConstraints=CA:FALSE\n"
        if usage:
            extensions += "extendedKeyUsage=%s\n" % usage
        if san:
            extensions += "subjectAltName=%s\n" % san
        self.number += 1
        out = self.path("cert-%d.pem" % self.number)
        self._sign(self, subject or "/CN=" + (cn or name), key, extensions, out, [], start, end)
        if patch:
            self._patch(out, *patch)
        chain = out
        if self.issuer is not None:
            chain = self.path("chain-%d.pem" % self.number)
            with open(chain, "w", encoding="ascii") as f:
                for part in (out, self.cert):
                    with open(part, encoding="ascii") as g:
                        f.write(g.read())
        self.made[name] = Cert(out, key, chain)
        return self.made[name]

    def _patch(self, path, old, new):
        data = openssl("x509", "-in", path, "-outform", "DER", text=False, stdin=b"")
        (_, whole), = der_items(data)
        (_, tbs), (tag, algorithm), _ = der_items(whole)
        changed = der(0x30, der_replace(tbs, old, new))
        assert changed != der(0x30, tbs), "nothing to patch"
        signature = openssl("dgst", "-sha256", "-sign", self.key, text=False, stdin=changed)
        data = der(0x30, changed + der(tag, algorithm) + der(0x03, b"\0" + signature))
        pem = openssl("x509", "-inform", "DER", text=False, stdin=data)
        with open(path, "wb") as f:
            f.write(pem)

    def crl(self, *revoked):
        """A list with these (and those of earlier calls). @return its path."""
        for c in revoked:
            openssl("ca", "-config", self.conf, "-revoke", c.cert)
        out = self.path("crl-%d.pem" % len(os.listdir(self.dir)))
        openssl("ca", "-config", self.conf, "-gencrl", "-out", out)
        return out

    def ocsp(self, c, name, stale=False):
        """
        What its responder says about a certificate, in DER. @return the path. stale: it was good until 2020 (and the
        signature does not fit, which is for clients to find out).
        """
        request, out = self.path(name + ".req"), self.path(name + ".ocsp")
        openssl("ocsp", "-issuer", self.cert, "-cert", c.cert, "-no_nonce", "-reqout", request)
        openssl("ocsp", "-index", self.path("index.txt"), "-CA", self.cert, "-rsigner", self.cert, "-rkey",
                self.key, "-reqin", request, "-respout", out, "-ndays", "7")
        if stale:
            with open(out, "rb") as f:
                data = f.read()
            end = max(re.findall(rb"\x18\x0f(\d{14}Z)", data))
            with open(out, "wb") as f:
                f.write(data.replace(end, b"20200101000000Z"))
        return out


class Pki:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="grapnel-pki-")
        atexit.register(shutil.rmtree, self.dir, ignore_errors=True)
        self.keys = {}
        self.root, self.other = Authority(self, "root"), Authority(self, "other")
        self.inter = Authority(self, "inter", self.root)

    def path(self, name):
        return os.path.join(self.dir, name)

    def new_key(self, name, kind="ec"):
        out = self.path(name + ".key")
        if kind == "ec":
            openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", out)
        elif kind == "ed25519":
            openssl("genpkey", "-algorithm", "ED25519", "-out", out)
        else:
            openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:%d" % kind, "-out", out)
        return out

    def key(self, kind="ec"):
        if kind not in self.keys:
            self.keys[kind] = self.new_key("shared-%s" % kind, kind)
        return self.keys[kind]

    def server(self):
        """For the broker: localhost, 127.0.0.1."""
        return self.root.issue("server", cn="localhost", san="DNS:localhost,IP:127.0.0.1", usage="serverAuth")

    def file(self, name, *parts):
        """A file of other files (paths) or text. @return its path."""
        out = self.path(name)
        with open(out, "w", encoding="utf-8") as f:
            for part in parts:
                if os.path.isabs(part):
                    with open(part, encoding="utf-8") as g:
                        part = g.read()
                f.write(part)
        return out


_pki = None


def get():
    """The one of this process."""
    global _pki  # pylint: disable=global-statement
    if _pki is None:
        _pki = Pki()
    return _pki
