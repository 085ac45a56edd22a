# SPDX-License-Identifier: Apache-2.0
"""Certificates of clients: who is let in, who is refused and with which words, and what becomes of a name."""
import calendar
import os
import re
import shutil
import ssl
import subprocess
import time

from lib import pki
from lib.broker import FACTOR
from lib.case import broker, default_broker, each, skip_if
from lib.mqtt import *  # noqa: F401,F403

WAIT = 20 * FACTOR
PKI = pki.get()
SERVER = PKI.server()
V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
DAY = pki.DAY


def tls(**options):
    return dict({"tls": True, "certificate": SERVER.cert, "private_key": SERVER.key,
                 "client_ca": PKI.root.cert}, **options)


def context(certificate=None, version=None, chain=True):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    c.set_ciphers("DEFAULT:@SECLEVEL=0")
    if certificate is not None:
        c.load_cert_chain(certificate.chain if chain else certificate.cert, certificate.key)
    if version:
        c.minimum_version = c.maximum_version = version
    return c


def another_address(b):
    """One that no other test came from: the log writes only some lines a second about each."""
    b.number += 1
    return "127.0.%d.%d" % (3 + b.number // 250, 1 + b.number % 250)


def connects(b, listener, ctx, **options):
    """True: in; False: refused in the handshake, of TLS 1.3 perhaps noticed only behind it."""
    try:
        c = b.connect(listener=listener, tls=ctx, source=another_address(b), **options)
        c.ping()
        return c
    except (ssl.SSLError, ConnectionError, BrokenPipeError, Closed):
        return None


# ---- who is let in --------------------------------------------------------------------------------

def certificates():
    root, other, inter = PKI.root, PKI.other, PKI.inter
    return {
        "none": None,
        "valid": root.issue("valid", usage="clientAuth"),
        "any purpose": root.issue("any-purpose", usage=None),
        "rsa": root.issue("rsa-client", usage="clientAuth", key=2048),
        "ed25519": root.issue("ed-client", usage="clientAuth", key="ed25519"),
        "intermediate given": inter.issue("under", usage="clientAuth"),
        "intermediate missing": inter.issue("under", usage="clientAuth"),
        "expired": root.issue("expired", usage="clientAuth", start=-9 * DAY, end=-3600),
        "not yet valid": root.issue("future", usage="clientAuth", start=3600),
        "wrong authority": other.issue("stranger", usage="clientAuth"),
        "self-signed": pki.Cert(other.cert, other.key, other.cert),
        "revoked": root.issue("revoked", usage="clientAuth"),
        "weak key": root.issue("weak", usage="clientAuth", key=1024),
        "wrong purpose": root.issue("a-server", usage="serverAuth"),
    }


CERTIFICATES = certificates()
CRL = PKI.file("crl.pem", PKI.root.crl(CERTIFICATES["revoked"]), PKI.inter.crl())
# What the log says; None: it is let in.
OUTCOME = {
    "none": "peer did not return a certificate", "valid": None, "any purpose": None, "rsa": None, "ed25519": None,
    "intermediate given": None,
    "intermediate missing": "its certificate is refused: unable to get local issuer certificate",
    "expired": "its certificate is refused: certificate has expired",
    "not yet valid": "its certificate is refused: certificate is not yet valid",
    "wrong authority": "its certificate is refused: unable to get local issuer certificate",
    "self-signed": "its certificate is refused: self.signed certificate",
    "revoked": "its certificate is refused: certificate revoked",
    "weak key": "its certificate is refused: EE certificate key too weak",
    "wrong purpose": r"its certificate is refused: unsuitable certificate purpose",
}
BROKER = default_broker(
    listeners={"mqtt": {"anonymous": True},
               "none": {k: v for k, v in tls(anonymous=True).items() if k != "client_ca"},
               "optional": tls(anonymous=True, client_certificate="optional", crl=CRL),
               "required": tls(anonymous=True, client_certificate="required", crl=CRL)})


@each(mode=("none", "optional", "required"), case=tuple(OUTCOME), version=(V12, V13))
def test_a_certificate_is_verified_and_a_refusal_says_why(b, mode, case, version):
    mark, wanted = b.mark(), OUTCOME[case]
    if mode == "none" or (mode == "optional" and case == "none"):
        wanted = None
    ctx = context(CERTIFICATES[case], version, chain=case != "intermediate missing")
    c = connects(b, mode, ctx)
    if wanted is None:
        assert c, b.log_lines(since=mark)
        assert not b.log_lines("handshake_failed", since=mark)
    else:
        assert not c
        line = b.wait_log(r'notice handshake_failed: 127\.0\.\d+\.\d+:\d+ on listener "%s": TLS: ' % mode,
                          since=mark)
        assert re.search(wanted, line), line


@each(kind=("folder", "two files in one"))
@broker(own=True, listeners=lambda kind: {"mqtt": tls(
    anonymous=True, client_certificate="required",
    client_ca=ca_folder() if kind == "folder" else PKI.file("cas.pem", PKI.other.cert, PKI.root.cert))})
def test_authorities_may_be_a_folder_or_several_in_a_file(b, kind):
    assert connects(b, "mqtt", context(CERTIFICATES["valid"]))
    assert connects(b, "mqtt", context(CERTIFICATES["wrong authority"]))
    assert not connects(b, "mqtt", context(CERTIFICATES["expired"]))


def ca_folder():
    folder = PKI.path("cas")
    os.makedirs(folder, exist_ok=True)
    for authority in (PKI.root, PKI.other):
        shutil.copy(authority.cert, os.path.join(folder, authority.name + ".pem"))
    return folder


@broker(own=True, listeners={"mqtt": tls(anonymous=True, client_certificate="required",
                                         crl=PKI.file("root-crl.pem", PKI.root.crl()))})
def test_an_authority_without_a_revocation_list_is_refused(b):
    mark = b.mark()
    assert connects(b, "mqtt", context(CERTIFICATES["valid"]))
    assert not connects(b, "mqtt", context(CERTIFICATES["intermediate given"]))
    b.wait_log("its certificate is refused: unable to get certificate CRL", since=mark)


@each(version=(V12, V13))
@broker(own=True, listeners={"mqtt": tls(anonymous=True, client_certificate="required"),
                             "plain": {"anonymous": True}})
def test_a_session_of_a_certificate_is_resumed_until_the_next_reload(b, version):
    ctx = context(CERTIFICATES["valid"], version)
    session = connects(b, "mqtt", ctx).sock.session
    c = connects(b, "mqtt", ctx, session=session)
    assert c.sock.session_reused
    b.reload()  # it may be on a new revocation list
    c = connects(b, "mqtt", ctx, session=session)
    assert c and not c.sock.session_reused


@each(version=(V12, V13))
@broker(own=True, listeners={"mqtt": tls(client_certificate="required", identity="cn")},
        plugins={"gate": {"order": 1, "hooks": ["client_authenticate"]}})
def test_a_session_does_not_outlive_its_certificate(b, version):
    ends = time.time() + 4 * FACTOR
    brief = PKI.root.issue("brief-%d" % version, cn="brief", usage="clientAuth", end=ends - time.time())
    ctx = context(brief, version)
    first = connects(b, "mqtt", ctx)
    session = first.sock.session
    resumed = connects(b, "mqtt", ctx, session=session)
    assert resumed.sock.session_reused
    session = resumed.sock.session or session
    time.sleep(max(ends + 1.1 - time.time(), 0))  # nothing but time ends a certificate
    mark = b.mark()
    assert not connects(b, "mqtt", ctx, session=session)
    b.wait_log("its certificate is refused: certificate has expired", since=mark)
    first.ping()  # whoever is in stays


@each(until=(True, False))
@broker(own=True, listeners={"mqtt": tls(client_certificate="required", identity="cn")},
        plugins=lambda until: {"tls-identity": {"until_certificate_ends": until}})
def test_a_login_by_certificate_ends_with_it(b, until):
    brief = PKI.root.issue("short-%d" % until, cn="brief", usage="clientAuth", end=4 * FACTOR)
    c = connects(b, "mqtt", context(brief))
    lasting = connects(b, "mqtt", context(FULL))
    if until:
        p = c.expect(DISCONNECT, timeout=60 * FACTOR)
        assert p.reason == 0xA0 and time.time() >= not_after(brief) - 1, p
    else:
        time.sleep(max(not_after(brief) + 1.5 - time.time(), 0))
        c.ping()
    lasting.ping()


# ---- what becomes of a name -----------------------------------------------------------------------

GATE = {"gate": {"order": 1, "hooks": ["client_authenticate"]}}
NAMED = {
    "plain": {"anonymous": True},
    "cn": tls(client_certificate="required", identity="cn"),
    "san": tls(client_certificate="required", identity="san"),
    "subject": tls(client_certificate="required", identity="subject"),
    "nobody": tls(client_certificate="required"),
    "maybe": tls(client_certificate="optional", identity="cn", anonymous=True),
}
FULL = PKI.root.issue("full", subject="/C=DE/O=Grapnel, Inc./OU=sensors/CN=sensor-7",
                      san="DNS:s7.example.org,email:s7@example.org,URI:urn:dev:s7,DNS:second.example.org",
                      usage="clientAuth")
SUBJECT = "CN=sensor-7,OU=sensors,O=Grapnel\\, Inc.,C=DE"


def not_after(certificate):
    """Seconds since 1970."""
    text = pki.openssl("x509", "-noout", "-enddate", "-in", certificate.cert).strip().split("=")[1]
    return calendar.timegm(time.strptime(text, "%b %d %H:%M:%S %Y %Z"))


def show(b, c):
    return b.ctl_json("clients", "show", c.client_id)


@each(identity=("cn", "san", "subject", "nobody"), version=(V12, V13), resumed=(False, True))
@broker(listeners=NAMED, plugins=GATE)
def test_a_part_of_the_certificate_is_the_user_name(b, identity, version, resumed):
    ctx = context(FULL, version)
    c = connects(b, identity, ctx, client_id=b.unique("named"), username="somebody-else")
    if resumed:
        c = connects(b, identity, ctx, session=c.sock.session, client_id=b.unique("named"),
                     username="somebody-else")
        assert c.sock.session_reused
    c.client_id = "named-%d" % (b.number - 1)
    shown = b.ctl_json("clients", "show", c.client_id)
    assert shown["username"] == {"cn": "sensor-7", "san": "s7.example.org", "subject": SUBJECT,
                                 "nobody": "somebody-else"}[identity], shown
    a = shown["attributes"]
    fingerprint = pki.openssl("x509", "-noout", "-fingerprint", "-sha256", "-in", FULL.cert)
    serial = pki.openssl("x509", "-noout", "-serial", "-in", FULL.cert)
    assert abs(int(a.pop("cert.not_after")) - not_after(FULL)) <= 1
    assert {k: v for k, v in a.items() if k.startswith("cert.")} == {
        "cert.subject": SUBJECT, "cert.issuer": "CN=Test root,O=Grapnel", "cert.cn": "sensor-7",
        "cert.dns": "s7.example.org", "cert.email": "s7@example.org", "cert.uri": "urn:dev:s7",
        "cert.serial": serial.strip().split("=")[1].lower(),
        "cert.fingerprint": fingerprint.strip().split("=")[1].replace(":", "").lower()}, a


@broker(listeners=NAMED, plugins=GATE)
def test_the_server_name_is_an_attribute_with_and_without_certificate(b):
    for listener, certificate in (("nobody", FULL), ("maybe", None)):
        name = b.unique("sni")
        c = b.connect(listener=listener, tls=context(certificate), server_name="Some.Host", client_id=name)
        assert b.ctl_json("clients", "show", name)["attributes"]["tls.sni"] == "Some.Host"
        c.disconnect()


def patched(name, content):
    placeholder = ("patch-" + name)[:40]
    return PKI.root.issue(name, cn=placeholder, usage="clientAuth", patch=(placeholder.encode(), content))


ODD_IN = {"utf-8": "Zoë ☂", "slashes": "a/b/c", "wildcards": "+", "hash": "#", "dollar": "$SYS", "quotes": 'a"b\'c',
          "percent": "%u%{cert.cn}", "long": "x" * 1000}
# What is no UTF-8 in a UTF8String, OpenSSL does not even read: "alert bad certificate" and the like.
ODD_OUT = {"nul": b"admin\0x", "newline": b"a\nb", "escape": b"\x1b[2J", "delete": b"a\x7f", "c1": b"a\xc2\x85b",
           "30 kB": b"x" * 30000, "empty": b""}


@each(case=tuple(ODD_IN), version=(V12, V13))
@broker(listeners=NAMED, plugins=GATE)
def test_an_odd_name_is_taken_as_it_is(b, case, version):
    name = b.unique("odd")
    c = connects(b, "cn", context(patched(case, ODD_IN[case].encode()), version), client_id=name)
    assert c, b.log_lines("handshake_failed")
    shown = b.ctl_json("clients", "show", name)
    assert shown["username"] == shown["attributes"]["cert.cn"] == ODD_IN[case]


@each(case=tuple(ODD_OUT), version=(V12, V13))
@broker(listeners=NAMED, plugins=GATE)
def test_a_name_that_could_fool_somebody_is_refused(b, case, version):
    certificate, mark = patched(case, ODD_OUT[case]), b.mark()
    assert not connects(b, "cn", context(certificate, version))
    line = b.wait_log("handshake_failed: .* its certificate is good, but has no CN that can be a user name",
                      since=mark)
    assert not re.search(r"[\x00-\x1f\x7f]", line), line
    # Where it is not asked for, it is left out, and nothing else is.
    name = b.unique("odd")
    c = connects(b, "nobody", context(certificate, version), client_id=name)
    assert c
    assert "cert.cn" not in b.ctl_json("clients", "show", name)["attributes"]


@each(version=(V12, V13))
@broker(listeners=NAMED, plugins=GATE)
def test_a_certificate_of_64_kib_is_no_harm(b, version):
    """It does not fit a session ticket, and OpenSSL gives up."""
    certificate, mark = patched("64 KiB", b"x" * 65536), b.mark()
    assert not connects(b, "cn", context(certificate, version))
    b.wait_log("handshake_failed: .* TLS: ", since=mark)
    assert connects(b, "cn", context(FULL, version))


@broker(listeners=NAMED, plugins=GATE)
def test_a_certificate_without_the_name_is_refused(b):
    mark = b.mark()
    assert not connects(b, "san", context(CERTIFICATES["valid"]))
    b.wait_log(r"has no alternative name \(DNS, e-mail, URI\) that can be a user name", since=mark)
    ip = PKI.root.issue("only-ip", san="IP:127.0.0.1", usage="clientAuth")
    assert not connects(b, "san", context(ip))
    many = PKI.root.issue("many", san=",".join("DNS:h%d.example.org" % n for n in range(500)), usage="clientAuth")
    assert connects(b, "san", context(many))
    huge = PKI.root.issue("huge", san="URI:urn:" + "x" * 5000, usage="clientAuth")
    assert not connects(b, "san", context(huge))


@broker(users={"sensor-7": "right", "mallory": "own"}, listeners=NAMED)
def test_the_certificate_names_the_user_and_the_chain_still_runs(b):
    assert connects(b, "cn", context(FULL), username="sensor-7", password="right")
    # Whatever the client calls itself, the account is that of the certificate.
    c = connects(b, "cn", context(FULL), username="mallory", password="right", client_id="as-mallory")
    assert c and b.ctl_json("clients", "show", "as-mallory")["username"] == "sensor-7"
    for options in ({}, {"username": "mallory", "password": "own"}, {"username": "sensor-7", "password": "wrong"}):
        c = b.client(listener="cn", tls=context(FULL), source=another_address(b))
        c.connect(b.unique("refused"), reason=0x87, **options)


@broker(users={"sensor-7": "right"}, listeners=NAMED)
def test_anonymous_is_nobody_with_a_verified_name(b):
    assert connects(b, "maybe", context())
    c = b.client(listener="maybe", tls=context(FULL))
    c.send_connect(b.unique("known"))
    assert c.expect(CONNACK).reason != 0


RULES = """allow all devices/%{cert.cn}/#
allow all users/%u/#
"""


@broker(own=True, listeners=NAMED, plugins=GATE, rules=RULES)
def test_names_are_literal_in_rules(b):
    for name, topic, good in (("+", "devices/x/t", False), ("#", "devices/x/t", False), ("sensor-7", "devices/x/t", False),
                              ("sensor-7", "devices/sensor-7/t", True), ("+", "users/x/t", False),
                              ("%u", "devices/%u/t", True), ("%u", "users/%u/t", True), ("%u", "users/x/t", False)):
        certificate = patched("rule" + name.encode().hex(), name.encode())
        c = connects(b, "cn", context(certificate))
        assert c
        reason = c.publish(topic, "x", qos=1)
        assert (reason < 0x80) == good, (name, topic, reason)


# ---- pre-shared keys ------------------------------------------------------------------------------

KEY = "0123456789abcdef0123456789abcdef"
PSK = dict(own=True, plugins=GATE, files={"psk": "# keys\nalice:%s\nzoë:%s\nb:c:%s\n" % (KEY, KEY, KEY)}, listeners={
    "mqtt": {"anonymous": True},
    "only": {"tls": True, "psk_file": "{dir}/psk"},
    "both": {"tls": True, "psk_file": "{dir}/psk", "certificate": SERVER.cert, "private_key": SERVER.key},
})


def s_client_psk(b, listener, *args, identity="alice", key=KEY):
    host, port = b.address(listener)
    r = subprocess.run(["openssl", "s_client", "-bind", another_address(b) + ":0", "-connect",
                        "%s:%d" % (host, port), "-psk_identity", identity, "-psk", key] + list(args),
                       input="", text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                       timeout=WAIT)
    return r.stdout


@broker(**PSK)
def test_s_client_comes_in_with_a_pre_shared_key(b):
    for listener in ("only", "both"):
        out = s_client_psk(b, listener, "-tls1_3")
        assert "Reused, TLSv1.3" in out and "no peer certificate" in out, out
        for cipher in ("ECDHE-PSK-AES128-CBC-SHA256", "ECDHE-PSK-CHACHA20-POLY1305",
                       "PSK-AES128-GCM-SHA256"):
            out = s_client_psk(b, listener, "-tls1_2", "-cipher", cipher)
            assert "Cipher is " + cipher in out, out
    for options in ({"identity": "nobody"}, {"key": KEY[::-1]}, {"identity": "x" * 120}):
        for version in ("-tls1_2", "-tls1_3"):
            mark = b.mark()
            out = s_client_psk(b, "only", version, "-cipher", "PSK", **options)
            assert "Cipher is (NONE)" in out or ":error:" in out, out
            b.wait_log('handshake_failed: .* on listener "only": TLS: ', since=mark)


@skip_if(not shutil.which("mosquitto_pub"), "mosquitto_pub is not installed")
@broker(**PSK)
def test_mosquitto_pub_is_who_its_pre_shared_key_says(b):
    c = b.connect()
    c.subscribe("psk")
    for identity in ("alice", "zoë", "b:c"):
        mark = b.mark()
        r = subprocess.run(["mosquitto_pub", "-h", "localhost", "-p", str(b.address("only")[1]), "-t", "psk", "-m", "x",
                            "-q", "1", "--psk", KEY, "--psk-identity", identity, "-u", "mallory", "-P", "x"],
                           timeout=WAIT, check=False, capture_output=True, text=True)
        assert r.returncode == 0, r
        c.expect_message("psk", "x")
        b.wait_log('client_connected: client "[^"]*" user "%s" ' % identity, since=mark)


@each(version=(V12, V13))
@broker(**PSK)
def test_a_client_without_a_key_is_nobody_on_a_listener_that_has_some(b, version):
    name = b.unique("certificate-only")
    c = connects(b, "both", context(None, version), client_id=name, username="somebody")
    assert c and b.ctl_json("clients", "show", name)["username"] == "somebody"
    # A ticket would not say whose key it was: there are none.
    c = connects(b, "both", context(None, version), session=None)
    assert not c.sock.session or not c.sock.session.has_ticket


@broker(**PSK)
def test_a_name_without_its_key_is_no_name(b):
    """The key is asked for, but the suite does not fit it: the certificate is used instead, and the claim is worth nothing."""
    out = s_client_psk(b, "both", "-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384", key=KEY[::-1])
    assert "New, TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384" in out, out
    host, port = b.address("both")
    with subprocess.Popen(["openssl", "s_client", "-quiet", "-connect", "%s:%d" % (host, port), "-tls1_3",
                           "-psk_identity", "alice", "-psk", KEY[::-1], "-ciphersuites", "TLS_AES_256_GCM_SHA384"],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as p:
        mark = b.mark()
        p.stdin.write(P.connect(V5, "claimed"))
        p.stdin.flush()
        line = b.wait_log('client_connected: client "claimed" user ', since=mark)
        p.kill()
    assert 'user "alice"' not in line, line
