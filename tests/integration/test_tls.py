# SPDX-License-Identifier: Apache-2.0
"""TLS on the wire: versions, ciphers, names, resumption, and a stream that survives whatever its peer does to it.

Certificates of clients are in test_tls_clients.py, files and reloads in test_tls_files.py.
"""
import os
import pty
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time

from lib import pki, wire
from lib.broker import FACTOR, TIMEOUT
from lib.case import Skip, broker, default_broker, each, skip_if, versions
from lib.hooks import eventually
from lib.mqtt import *  # noqa: F401,F403
from lib.rawtls import Libssl, Tap

try:
    import paho.mqtt.client as paho
except ImportError:
    paho = None

WAIT = 20 * FACTOR
PKI = pki.get()
SERVER = PKI.server()


def tls(**options):
    return dict({"anonymous": True, "tls": True, "certificate": SERVER.cert, "private_key": SERVER.key},
                **options)


def rsa(name):
    return PKI.root.issue(name, cn="localhost", san="DNS:localhost", usage="serverAuth", key=2048)


HOSTS = {name: PKI.root.issue("host-" + name, cn=name, san="DNS:" + name, usage="serverAuth")
         for name in ("a.example.org", "*.example.org", "b.example.org")}
INTER = PKI.inter.issue("inter-host", cn="inter.example.org", san="DNS:inter.example.org", usage="serverAuth")


def server_name(name, certificate):
    return {'server_name "%s"' % name: {"certificate": certificate.chain, "private_key": certificate.key}}


LISTENERS = {
    "mqtt": {"anonymous": True},
    "tls": tls(),
    "tls13": tls(tls_minimum="1.3"),
    # The wildcard stands before a name that it covers.
    "names": tls(**{k: v for name in ("*.example.org", "a.example.org")
                    for k, v in server_name(name, HOSTS[name]).items()},
                 **server_name("inter.example.org", INTER)),
    "both": tls(certificate=[rsa("rsa").cert, SERVER.cert], private_key=[rsa("rsa").key, SERVER.key]),
}
BROKER = default_broker(listeners=LISTENERS, limits={"max_packet_size": "4m", "max_output_bytes": "64m"})


def client_context(minimum=None, maximum=None, check=False):
    c = ssl.create_default_context(cafile=PKI.root.cert)
    c.check_hostname = check
    if not check:
        c.verify_mode = ssl.CERT_NONE
    if minimum:
        c.minimum_version = minimum
    if maximum:
        c.maximum_version = maximum
    return c


V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def only(version):
    return client_context(version, version)


def another_address(b):
    """One of ours that no other test came from: the log writes only some lines a second about each."""
    b.number += 1
    return "127.0.%d.%d" % (1 + b.number // 250, 1 + b.number % 250)


def s_client(b, listener, *args, stdin="", code=None):
    """Of one handshake. @return all that openssl s_client says."""
    host, port = b.address(listener)
    args = ("-bind", another_address(b) + ":0") + args
    r = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % (host, port), "-CAfile", PKI.root.cert]
                       + list(args), input=stdin, text=True, stdout=subprocess.PIPE, check=False,
                       stderr=subprocess.STDOUT, timeout=WAIT)
    if code is not None:
        assert r.returncode == code, r.stdout
    return r.stdout


# ---- versions and ciphers -------------------------------------------------------------------------

@each(version=(V12, V13), v=(3, 4, 5))
def test_clients_speak_mqtt_over_tls(b, version, v):
    topic = b.unique("t")
    c = b.connect(v, listener="tls", tls=client_context(version, version, True), server_name="localhost")
    assert c.sock.version() == {V12: "TLSv1.2", V13: "TLSv1.3"}[version]
    c.subscribe(topic, qos=2)
    p = b.connect(v, listener="tls", tls=client_context(version, version))
    for qos in (0, 1, 2):
        p.publish(topic, b"%d" % qos, qos)
        c.expect_message(topic, b"%d" % qos, qos=qos)


@each(flag=("-tls1", "-tls1_1"), listener=("tls", "tls13"))
def test_old_versions_are_refused_and_the_log_says_why(b, flag, listener):
    mark = b.mark()
    out = s_client(b, listener, flag, "-cipher", "ALL:@SECLEVEL=0")
    assert "alert protocol version" in out, out
    line = b.wait_log(r'handshake_failed: 127\.0\.\d+\.\d+:\d+ on listener "%s": ' % listener, since=mark)
    assert "TLS: unsupported protocol" in line, line


def test_tls_minimum_refuses_the_version_before(b):
    assert "Protocol  : TLSv1.2" in s_client(b, "tls", "-tls1_2")
    assert "alert protocol version" in s_client(b, "tls13", "-tls1_2")
    assert "TLSv1.3" in s_client(b, "tls13", "-tls1_3", code=0)


def accepted(b, listener, flag, ciphers, *args):
    out = set()
    for cipher in ciphers:
        text = s_client(b, listener, flag, cipher, *args)
        m = re.search(r"New, TLSv1\.[23], Cipher is (\S+)", text)
        if m and m.group(1) not in ("(NONE)", "0000"):
            out.add(m.group(1))
    return out


def documented(title):
    """The list of the manual page behind `.\\" ciphers: title`."""
    with open(os.path.join(os.environ.get("GRAPNEL_SRC", "."), "man/grapnel.conf.5"), encoding="utf-8") as f:
        text = f.read()
    block = text.split('.\\" ciphers: %s\n' % title, 1)[1].split('.\\" end of ciphers', 1)[0]
    return {line for line in block.splitlines() if line and not line.startswith(".")}


def test_only_documented_ciphers_of_tls_1_2_are_accepted(b):
    every = pki.openssl("ciphers", "-tls1_2", "ALL:COMPLEMENTOFALL:@SECLEVEL=0").strip().split(":")
    every = [c for c in every if not c.startswith("TLS_")]
    assert len(every) > 60, every
    args = ("-tls1_2",)
    # Each by itself, and with the lowest security level on our side, or nothing weak would be offered at all.
    got = accepted(b, "both", "-cipher", [c + ":@SECLEVEL=0" for c in every], *args)
    assert got == documented("1.2"), (sorted(got - documented("1.2")), sorted(documented("1.2") - got))


def test_only_documented_cipher_suites_of_tls_1_3_are_accepted(b):
    every = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
             "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_8_SHA256"]
    got = accepted(b, "tls", "-ciphersuites", every, "-tls1_3")
    assert got == documented("1.3"), got


@broker(own=True, listeners={"mqtt": tls(
    ciphers="ECDHE-ECDSA-AES256-GCM-SHA384", cipher_suites="TLS_CHACHA20_POLY1305_SHA256", groups="P-384")})
def test_ciphers_suites_and_groups_can_be_chosen(b):
    out = s_client(b, "mqtt", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384")
    assert "Server Temp Key: ECDH, secp384r1" in out or "P-384" in out, out
    assert "handshake failure" in s_client(b, "mqtt", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert "Cipher is TLS_CHACHA20_POLY1305_SHA256" in s_client(b, "mqtt", "-tls1_3")
    assert "Cipher is (NONE)" in s_client(b, "mqtt", "-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256")
    assert "Cipher is (NONE)" in s_client(b, "mqtt", "-tls1_3", "-groups", "X25519")


def test_renegotiation_and_compression_are_off(b):
    out = s_client(b, "tls", "-tls1_2", "-legacy_renegotiation", stdin="R\n")
    assert "Compression: NONE" in out and ("no renegotiation" in out or "handshake failure" in out), out


# ---- certificates shown ---------------------------------------------------------------------------

def shown(b, listener, name, *args):
    out = s_client(b, listener, *(["-servername", name] if name else ["-noservername"]), *args)
    return re.search(r"subject=CN = (\S+)", out).group(1)


@each(version=("-tls1_2", "-tls1_3"))
def test_a_name_chooses_its_certificate(b, version):
    for asked, wanted in ((None, "localhost"), ("localhost", "localhost"), ("nowhere.org", "localhost"),
                          ("a.example.org", "a.example.org"), ("A.Example.ORG", "a.example.org"),
                          ("x.example.org", "*.example.org"), ("x.y.example.org", "localhost"),
                          ("example.org", "localhost"), ("inter.example.org", "inter.example.org")):
        assert shown(b, "names", asked, version) == wanted, asked


def test_the_chain_behind_a_certificate_is_sent(b):
    out = s_client(b, "names", "-servername", "inter.example.org", "-verify_hostname", "inter.example.org",
                   "-verify_return_error")
    assert "Verify return code: 0 (ok)" in out, out


@each(version=("-tls1_2", "-tls1_3"))
def test_rsa_and_ecdsa_stand_side_by_side(b, version):
    for algorithm, kind in (("ECDSA+SHA256", "id-ecPublicKey"), ("rsa_pss_rsae_sha256:RSA+SHA256", "rsaEncryption")):
        out = s_client(b, "both", version, "-sigalgs", algorithm, "-verify_return_error")
        assert "Verify return code: 0 (ok)" in out, out
        text = pki.openssl("x509", "-noout", "-text", stdin=out[out.index("-----BEGIN"):])
        assert "Public Key Algorithm: " + kind in text, text


@each(case=("good", "expired", "other host", "other authority"))
@broker(own=True, listeners=lambda case: {"mqtt": tls(**{
    "good": {},
    "expired": dict(certificate=PKI.root.issue("old-server", cn="localhost", san="DNS:localhost",
                                               usage="serverAuth", end=-60).cert),
    "other host": dict(certificate=HOSTS["b.example.org"].cert),
    "other authority": dict(certificate=PKI.other.issue("alien", cn="localhost", san="DNS:localhost").cert),
}[case])})
def test_a_client_that_verifies_refuses_a_certificate_that_is_not_good(b, case):
    alert = {"expired": "certificate expired", "other host": None, "other authority": "unknown CA"}
    mark = b.mark()
    try:
        b.connect(listener="mqtt", source=another_address(b), tls=client_context(check=True),
                  server_name="localhost")
    except ssl.SSLCertVerificationError as e:
        assert case != "good", e
        if alert[case]:
            b.wait_log("handshake_failed: .* TLS: the peer refuses: %s" % alert[case], since=mark)
    else:
        assert case == "good"
    if case == "expired":
        assert b.log_lines(r'error certificate_expired: listener "mqtt": certificate \S+ has ended on ')


@each(protocols=(["mqtt"], ["x", "mqtt"], ["x"], ["http/1.1"], ["mqttv5"]))
def test_alpn_knows_mqtt_and_refuses_nobody(b, protocols):
    context = client_context()
    context.set_alpn_protocols(protocols)
    c = b.connect(listener="tls", tls=context)
    assert c.sock.selected_alpn_protocol() == ("mqtt" if "mqtt" in protocols else None)
    c.ping()


# ---- resumption -----------------------------------------------------------------------------------

def session_of(c):
    """After a round trip, since TLS 1.3 sends its tickets behind the handshake."""
    c.ping()
    return c.sock.session


@each(version=(V12, V13))
def test_a_session_is_resumed_on_every_worker(b, version):
    context = only(version)
    session = session_of(b.connect(listener="tls", tls=context))
    before = b.metric("tls_resumed_total")
    for _ in range(12):  # the kernel shares connections out by their ports
        c = b.connect(listener="tls", tls=context, session=session)
        assert c.sock.session_reused
        session = session_of(c)
        c.disconnect()
    assert b.metric("tls_resumed_total") == before + 12


@each(version=(V12, V13))
def test_a_session_of_another_listener_is_not_resumed(b, version):
    context = only(version)
    session = session_of(b.connect(listener="tls", tls=context))
    for listener in ("names", "both"):
        c = b.connect(listener=listener, tls=context, session=session)
        assert not c.sock.session_reused
        c.ping()


@each(version=(V12, V13))
@broker(own=True, listeners=LISTENERS)
def test_a_session_is_resumed_after_a_reload(b, version):
    context = only(version)
    session = session_of(b.connect(listener="tls", tls=context))
    b.reload()
    assert b.connect(listener="tls", tls=context, session=session).sock.session_reused


# ---- OCSP -----------------------------------------------------------------------------------------

STAPLED = PKI.root.issue("stapled", cn="localhost", san="DNS:localhost", usage="serverAuth", own_key=True)


@broker(own=True, listeners={"mqtt": tls(
    certificate=STAPLED.cert, private_key=STAPLED.key, ocsp_response=PKI.root.ocsp(STAPLED, "good"),
    **{'server_name "a.example.org"': {"certificate": HOSTS["a.example.org"].cert,
                                       "private_key": HOSTS["a.example.org"].key}})})
def test_an_ocsp_response_is_stapled_to_its_certificate_only(b):
    for version in ("-tls1_2", "-tls1_3"):
        out = s_client(b, "mqtt", version, "-status")
        assert "OCSP Response Status: successful" in out and "Cert Status: good" in out, out
        assert "OCSP response: no response sent" in s_client(
            b, "mqtt", version, "-status", "-servername", "a.example.org")
        assert "OCSP" not in s_client(b, "mqtt", version)


@broker(own=True, listeners={"mqtt": tls(
    certificate=STAPLED.cert, private_key=STAPLED.key,
    ocsp_response=PKI.root.ocsp(STAPLED, "stale", stale=True))})
def test_an_ocsp_response_that_is_too_old_is_not_sent(b):
    assert "no response sent" in s_client(b, "mqtt", "-status")
    b.connect(tls=client_context()).ping()


# ---- clients of others ----------------------------------------------------------------------------

no_mosquitto = skip_if(not (shutil.which("mosquitto_pub") and shutil.which("mosquitto_sub")),
                       "mosquitto_pub and mosquitto_sub are not installed")


def mosquitto(program, b, *args):
    return subprocess.Popen(["mosquitto_" + program, "-h", "localhost", "-p", str(b.address("tls")[1]),
                             "--cafile", PKI.root.cert] + list(args),
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@each(version=("tlsv1.2", "tlsv1.3"), protocol=("mqttv311", "mqttv5"))
@no_mosquitto
def test_mosquitto_clients_talk_over_tls(b, version, protocol):
    topic, before = b.unique("m"), b.metric("subscriptions")
    s = mosquitto("sub", b, "--tls-version", version, "-V", protocol, "-t", topic, "-q", "1", "-C", "2")
    b.wait_metric("subscriptions", before + 1)
    for text in ("one", "x" * 100000):
        p = mosquitto("pub", b, "--tls-version", version, "-V", protocol, "-t", topic, "-q", "2", "-m", text)
        assert p.communicate(timeout=WAIT)[0] == "" and p.returncode == 0
    assert s.communicate(timeout=WAIT)[0] == "one\n%s\n" % ("x" * 100000)


@skip_if(paho is None, "python3-paho-mqtt is not installed")
@each(qos=(0, 1, 2))
def test_paho_python_talks_over_tls(b, qos):
    topic, got, subscribed = b.unique("p"), [], threading.Event()
    c = paho.Client(b.unique("paho"), protocol=paho.MQTTv5)
    c.tls_set_context(client_context(check=True))
    c.on_connect = lambda *a: c.subscribe(topic, qos)
    c.on_subscribe = lambda *a: subscribed.set()
    c.on_message = lambda client, data, m: got.append(m.payload)
    c.connect("localhost", b.address("tls")[1], 60)
    c.loop_start()
    try:
        assert subscribed.wait(WAIT)
        large = os.urandom(900000)
        for n in range(50):
            c.publish(topic, b"%d" % n, qos)
        c.publish(topic, large, qos)
        eventually(lambda: len(got) == 51, "51 messages", WAIT)
        assert got == [b"%d" % n for n in range(50)] + [large]
    finally:
        c.disconnect()
        c.loop_stop()


@versions()
def test_paho_c_does_round_trips_over_tls(b, v):
    program = os.path.join(os.environ.get("GRAPNEL_BUILD", "."), "tests/integration/paho_client")
    if not os.path.exists(program):
        raise Skip("built by make check where libpaho-mqtt-dev is installed")
    r = subprocess.run([program, "ssl://localhost:%d" % b.address("tls")[1], str(v), b.unique("paho-c"), "10",
                        PKI.root.cert], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=WAIT * 3, check=False)
    if "create: -10 " in r.stdout:  # MQTTCLIENT_SSL_NOT_SUPPORTED
        raise Skip("the Paho C library here has no TLS")
    assert r.returncode == 0 and r.stdout == "ok\n", r.stdout


# ---- the stream -----------------------------------------------------------------------------------

def packets(*parts):
    return b"".join(parts)


def large(n, size=1 << 20):
    return (b"%08d" % n) * (size // 8)


@each(version=(V12, V13))
def test_a_client_hello_may_come_byte_by_byte(b, version):
    with Tap(b.address("tls"), only(version)) as t:
        t.handshake(step=1)
        t.write(wire.connect(V5, b.unique("slow")))
        assert t.read_exactly(1) == b"\x20"


@each(version=(V12, V13), record=(1, 7, 16384))
def test_packets_right_behind_finished_are_served(b, version, record):
    """One segment: the last flight of the handshake, CONNECT, SUBSCRIBE and many PUBLISH, in records of all sizes."""
    for _ in range(4):  # sometimes on the worker that accepted, sometimes on the other one
        topic, count = b.unique("early"), 40 if record == 1 else 3000
        with Tap(b.address("tls"), only(version)) as t:
            t.handshake(last=version == V12)
            data = packets(wire.connect(V311, b.unique("early")), wire.subscribe(V311, 1, [wire.Sub(topic)]),
                           *(wire.publish(V311, topic, b"%05d" % n + b"x" * 40) for n in range(count)))
            t.write(data, record=record)
            one = len(wire.publish(V311, topic, b"%05d" % 0 + b"x" * 40))
            got = t.read_exactly(4 + 5 + count * one)
            assert got[:9] == b"\x20\x02\x00\x00\x90\x03\x00\x01\x00", got[:9]
            for n in range(count):
                assert b"%05d" % n in got[9 + n * one:9 + (n + 1) * one]


@each(version=(V12, V13), size=(4500, 6000, 16000, 98000), record=(500, 1000, 16384))
@broker(listeners=LISTENERS, top={"read_buffer": "4k"})
def test_what_is_decoded_goes_along_to_the_home_worker(b, version, size, record):
    """More than a read buffer, all of it taken from the socket with CONNECT: nothing else will say that it is there."""
    for _ in range(6):
        with Tap(b.address("tls"), only(version)) as t:
            t.handshake(last=version == V12)
            ends = packets(wire.connect(V311, b.unique("along"))), b"\xc0\x00"
            empty = wire.publish(V311, "x", b"x" * 70000)
            pad = size - len(ends[0]) - len(ends[1]) - (len(empty) - 70000)
            b.signal(signal.SIGSTOP)  # so that all of it is there when it is looked for
            try:
                t.write(packets(ends[0], wire.publish(V311, "x", b"x" * pad), ends[1]), record=record)
            finally:
                b.signal(signal.SIGCONT)
            assert t.read_exactly(6) == b"\x20\x02\x00\x00\xd0\x00"


@each(version=(V12, V13))
def test_connect_and_close_notify_in_one_segment(b, version):
    """The end is seen, although nothing more makes the socket readable but what is read already."""
    mark, name = b.mark(), b.unique("brief")
    with Tap(b.address("tls"), only(version)) as t:
        t.handshake()
        t.write(wire.connect(V5, name), flush=False)
        t.shutdown()
        b.wait_log('client_disconnected: client "%s" from .*: closed: connection closed by the client' % name,
                   since=mark)


@each(version=(V12, V13))
def test_large_messages_pass_both_ways(b, version):
    topic = b.unique("large")
    c = b.connect(listener="tls", tls=only(version))
    c.subscribe(topic, qos=1)
    p = b.connect(listener="tls", tls=only(version))
    for n in range(6):
        p.publish(topic, large(n, (1 << 20) + 8 * n), qos=1)
    for n in range(6):
        c.expect_message(topic, large(n, (1 << 20) + 8 * n), qos=1)


@each(version=(V12, V13))
def test_a_slow_reader_gets_all_of_it(b, version):
    """Its window is small and full most of the time: every write of the broker stops somewhere in a record."""
    topic = b.unique("slow")
    with Tap(b.address("tls"), only(version)) as t:
        t.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        t.handshake()
        t.write(packets(wire.connect(V311, b.unique("slow")), wire.subscribe(V311, 1, [wire.Sub(topic)])))
        assert t.read_exactly(9)[:2] == b"\x20\x02"
        p, wanted, got, at = b.connect(V311), b"", [], 0
        for n in range(160):
            payload = large(n, 200000 + 8 * n) if n % 2 else b"%08d" % n
            p.send_publish(topic, payload)
            wanted += wire.publish(V311, topic, payload)
        b.wait_metric("output_bytes", lambda v: v > 1 << 20)
        while at < len(wanted):
            data = t.read(3000)
            assert data == wanted[at:at + len(data)], at
            at += len(data)


@each(version=(V12, V13))
def test_a_slow_writer_is_read_to_the_end(b, version):
    topic, payload = b.unique("drip"), large(7)
    s = b.connect(V5)
    s.subscribe(topic)
    with Tap(b.address("tls"), only(version)) as t:
        t.handshake()
        t.write(wire.connect(V311, b.unique("drip")))
        t.read_exactly(4)
        t.write(wire.publish(V311, topic, payload), flush=False)
        t.flush(step=5000)  # never at the border of a record
    s.expect_message(topic, payload)


@each(version=(V12, V13))
def test_the_end_without_close_notify_is_an_end_like_any_other(b, version):
    mark, name = b.mark(), b.unique("rude")
    with Tap(b.address("tls"), only(version)) as t:
        t.handshake()
        t.write(wire.connect(V5, name))
        t.read_exactly(2)
        t.sock.shutdown(socket.SHUT_WR)
        b.wait_log('client_disconnected: client "%s" .*: connection closed by the client' % name, since=mark)
        while t.read():
            pass


@each(version=(V12, V13), how=("DISCONNECT", "malformed"))
def test_the_broker_ends_with_close_notify(b, version, how):
    with Tap(b.address("tls"), only(version)) as t:
        t.handshake()
        t.write(wire.connect(V5, b.unique("end")))
        t.read_exactly(2)
        t.write(wire.disconnect(V5) if how == "DISCONNECT" else b"\x00\x00")
        data = b""
        while True:
            got = t.read()
            if not got:
                break
            data += got
        if how == "malformed":  # the last words arrive, whatever was under way
            assert t.notified and data[-1:] and b"\xe0" in data, data


def test_what_comes_behind_a_close_is_thrown_away(b):
    """Half-closed: we say the end, and the client goes on sending for a while."""
    with Tap(b.address("tls"), only(V13)) as t:
        t.handshake()
        t.write(wire.connect(V5, b.unique("deaf")) + b"\x00\x00")
        try:
            for _ in range(100):
                t.write(b"x" * 16384)
        except OSError:
            pass
    b.connect(listener="tls", tls=only(V13)).ping()


# ---- KeyUpdate ------------------------------------------------------------------------------------

def libssl(b, address=None):
    try:
        return Libssl(address or b.address("tls"))
    except OSError:
        raise Skip("there is no libssl.so.3 for ctypes") from None


def test_keys_are_updated_on_request_and_without(b):
    topic = b.unique("ku")
    k = libssl(b)
    k.write(packets(wire.connect(V311, topic), wire.subscribe(V311, 1, [wire.Sub(topic)])))
    assert k.read_exactly(9)[:1] == b"\x20"
    for n in range(200):
        k.key_update(request=n % 2 == 0)
        k.write(wire.publish(V311, topic, b"%08d" % n))
        assert k.read_exactly(len(wire.publish(V311, topic, b"%08d" % n)))[-8:] == b"%08d" % n
    k.close()


def test_s_client_updates_keys_while_mqtt_goes_on(b):
    master, slave = pty.openpty()  # on a pipe it would keep what it says to itself
    seen = bytearray()

    def wait(what):
        deadline = time.monotonic() + TIMEOUT
        while what not in seen:
            assert time.monotonic() < deadline, (what, bytes(seen[-500:]))
            if select.select([master], [], [], 0.1)[0]:
                seen.extend(os.read(master, 65536))
        seen.clear()
    with subprocess.Popen(["openssl", "s_client", "-connect", "%s:%d" % b.address("tls"), "-tls1_3", "-msg"],
                          stdin=subprocess.PIPE, stdout=slave, stderr=slave) as p:
        try:
            wait(b"Max Early Data")
            for command in (b"K\n", b"k\n"):
                p.stdin.write(command)
                p.stdin.flush()
                wait(b"KEYUPDATE")
                p.stdin.write(wire.connect(V311, b.unique("sc")) if command == b"K\n" else b"\xc0\x00")
                p.stdin.flush()
                if command == b"K\n":  # K asks for an update of the other side's, too
                    wait(b"<<< TLS 1.3, Handshake [length 0005], KeyUpdate")
                else:
                    wait(b"\xd0\x00")
        finally:
            p.kill()
            os.close(slave)
            os.close(master)


def test_a_key_update_is_asked_for_while_output_is_stuck(b):
    """Half a record waits to go out when the request comes: the answer must wait for the rest of it."""
    topic, count = b.unique("stuck"), 30
    k = libssl(b)
    k.write(packets(wire.connect(V311, topic), wire.subscribe(V311, 1, [wire.Sub(topic)])))
    k.read_exactly(9)
    p = b.connect(V5)
    for n in range(count):
        p.send_publish(topic, large(n, 1 << 20))
    b.wait_metric("output_bytes", lambda v: v > 8 << 20)
    for n in range(10):
        k.key_update(request=True)
        k.write(b"\xc0\x00")
    one = len(wire.publish(V311, topic, large(0, 1 << 20)))
    got = k.read_exactly(count * one + 10 * 2)
    pongs = got.count(b"\xd0\x00")  # between messages, wherever they found room
    assert pongs == 10 and got.replace(b"\xd0\x00", b"") == b"".join(
        wire.publish(V311, topic, large(n, 1 << 20)) for n in range(count))
    k.key_update(request=True)
    k.write(b"\xc0\x00")
    assert k.read_exactly(2) == b"\xd0\x00"
    k.close()


def test_a_key_update_is_asked_for_while_small_messages_are_stuck(b):
    """The socket takes nothing at all of the next record: OpenSSL must not be left with it either."""
    topic, count, size = b.unique("small"), 60000, 100
    k = libssl(b)
    k.write(packets(wire.connect(V311, topic), wire.subscribe(V311, 1, [wire.Sub(topic)])))
    k.read_exactly(9)
    p = b.connect(V5)
    packet = wire.publish(V5, topic, b"s" * size)
    for _ in range(count // 100):
        p.send_raw(packet * 100)
    p.ping()
    b.wait_metric("output_bytes", lambda v: v > 1 << 20)
    for _ in range(10):
        k.key_update(request=True)
        k.write(b"\xc0\x00")
    one = len(wire.publish(V311, topic, b"s" * size))
    got = k.read_exactly(count * one + 10 * 2)
    assert got.count(b"\xd0\x00") == 10 and len(got.replace(b"\xd0\x00", b"")) == count * one
    k.close()


class Dam:
    """Between a client and the broker: what the client sends can be held back and let go at once."""

    def __init__(self, address):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address, self.to, self.open = self.listening.getsockname(), address, True
        self.held, self.lock = bytearray(), threading.Lock()
        self.threads = [threading.Thread(target=self._run)]
        self.threads[0].start()

    def _run(self):
        client, self.broker = self.listening.accept()[0], socket.create_connection(self.to, TIMEOUT)
        self.broker.settimeout(None)
        self.threads.append(threading.Thread(target=self._copy, args=(self.broker, client)))
        self.threads[1].start()
        while True:
            data = client.recv(1 << 16)
            if not data:
                break
            with self.lock:
                self.held += data
            if self.open:
                self.let_go()

    def let_go(self):
        with self.lock:
            data, self.held = self.held, bytearray()
        self.broker.sendall(data)

    @staticmethod
    def _copy(source, target):
        try:
            while True:
                data = source.recv(1 << 16)
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass

    def close(self):
        self.threads[0].join(TIMEOUT)
        self.broker.close()
        self.listening.close()


@broker(own=True, workers=1, listeners=LISTENERS)
def test_a_flood_of_key_updates_keeps_nobody_waiting(b):
    """50,000 of them at once; then somebody else's ping is answered before the one behind them."""
    dam = Dam(b.address("tls"))
    k = libssl(b, dam.address)
    k.write(wire.connect(V311, b.unique("flood")))
    k.read_exactly(4)
    c = b.connect()
    dam.open = False
    for _ in range(50000):
        k.key_update()
    k.write(b"\xc0\x00")
    eventually(lambda: len(dam.held) > 50000 * 27, "all of them")
    dam.open = True
    flood = threading.Thread(target=dam.let_go)
    flood.start()
    c.ping()
    first = select.select([k.sock], [], [], 0)[0]
    flood.join()
    assert k.read_exactly(2) == b"\xd0\x00"
    assert not first, "the ping had to wait for the whole flood"
    k.close()
    dam.close()


# ---- those who speak no TLS -----------------------------------------------------------------------

@each(data=(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /mqtt HTTP/1.1\r\n\r\n", wire.connect(V5, "plain"),
            wire.connect(V311, "x" * 200), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIT\n", os.urandom(1) and b"\x00\xff\x17garbage", b"\x80\x2e\x01\x00\x02",
            b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01\xff\xff" + b"x" * 100, b"\x16\x09\x09\x00\x05hello"))
def test_what_is_no_tls_is_named_in_the_log(b, data):
    what = {71: "HTTP without TLS", 80: "HTTP without TLS|a PROXY header", 16: "MQTT without TLS",
            13: "a PROXY header", 0: "not TLS; first byte 0x00", 128: "not TLS; first byte 0x80"}.get(data[0], ".")
    mark = b.mark()
    address = another_address(b)
    with socket.create_connection(b.address("tls"), TIMEOUT, (address, 0)) as s:
        s.sendall(data)
        b.wait_log('handshake_failed: %s:%d on listener "tls": TLS: .*(%s)' % (
            re.escape(address), s.getsockname()[1], what), since=mark)
        try:
            while s.recv(1000):
                pass
        except ConnectionResetError:
            pass


def test_tls_on_the_plain_port_is_malformed_mqtt(b):
    try:
        b.client(listener="mqtt", tls=client_context())
    except (ssl.SSLError, OSError):
        pass
    else:
        raise AssertionError("a handshake with nobody")


@broker(own=True, listeners=LISTENERS, limits={"connect_timeout": "2s"})
def test_half_a_client_hello_is_gone_after_connect_timeout(b):
    with Tap(b.address("tls"), client_context()) as t:
        hello = t.hello()
    before, failed = b.metric("connections"), b.metric("connect_timeouts_total")
    sockets = []
    try:
        for n in range(500):
            s = socket.create_connection(b.address("tls"), TIMEOUT)
            s.sendall(hello[:1 + n % (len(hello) - 1)])
            sockets.append(s)
        c = b.connect(listener="tls", tls=client_context())  # served meanwhile
        c.ping()
        c.disconnect()
        for s in sockets:
            s.settimeout(TIMEOUT)
            assert s.recv(1) == b""
    finally:
        for s in sockets:
            s.close()
    b.wait_metric("connections", before)
    assert b.metric("connect_timeouts_total") == failed + 500


def test_a_client_that_leaves_in_the_handshake_is_counted(b):
    failed, mark = b.metric("handshakes_failed_total"), b.mark()
    with Tap(b.address("tls"), client_context()) as t:
        t.sock.sendall(t.hello())
        assert t.sock.recv(1)
    b.wait_log("handshake_failed: .* TLS: the peer is gone before the handshake was done|"
               "handshake_failed: .* TLS: .*reset", since=mark)
    assert b.metric("handshakes_failed_total") == failed + 1


def test_clients_show_tells_the_transport(b):
    for listener, context, wanted in (
            ("mqtt", None, r"tcp"), ("tls", only(V13), r"tcp, TLSv1\.3 TLS_\w+"),
            ("tls", only(V12), r"tcp, TLSv1\.2 ECDHE-ECDSA-\S+")):
        c = b.connect(listener=listener, tls=context, client_id=b.unique("shown"))
        name = "shown-%d" % b.number
        assert re.search(r"(?m)^transport +%s$" % wanted, b.ctl("clients", "show", name).stdout), (
            b.ctl("clients", "show", name).stdout)
        c.disconnect()
