# SPDX-License-Identifier: Apache-2.0
"""Files of TLS: what is wrong with one is said with file and line, and a reload takes all new ones or none."""
import os
import re
import shutil
import ssl
import threading

from lib import pki, wire
from lib.broker import FACTOR, Broker, run_grapneld
from lib.case import Skip, broker, each
from lib.hooks import eventually
from lib.mqtt import *  # noqa: F401,F403
from lib.rawtls import Tap

PKI = pki.get()
DAY = pki.DAY
OLD = PKI.root.issue("old", cn="localhost", san="DNS:localhost", usage="serverAuth", own_key=True)
NEW = PKI.root.issue("new", cn="localhost", san="DNS:localhost", usage="serverAuth", own_key=True)
RSA = PKI.root.issue("rsa-server", cn="localhost", san="DNS:localhost", usage="serverAuth", key=2048)


def context():
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.load_verify_locations(PKI.root.cert)
    return c


def install(b, certificate):
    """As an operator would: each file replaced as a whole."""
    for name, source in (("cert.pem", certificate.chain), ("key.pem", certificate.key)):
        shutil.copy(source, b.path(name + ".new"))
        os.rename(b.path(name + ".new"), b.path(name))


def pem(path):
    with open(path, encoding="ascii") as f:
        return f.read()


FILES = {"cert.pem": pem(OLD.cert), "key.pem": pem(OLD.key)}
LISTENER = {"anonymous": True, "tls": True, "certificate": "{dir}/cert.pem", "private_key": "{dir}/key.pem"}
ONE = dict(listeners={"mqtt": LISTENER}, files=FILES)


def shown(b, listener="mqtt"):
    """The serial number of the certificate that is shown."""
    c = b.client(listener=listener, tls=context())
    serial = int(c.sock.getpeercert()["serialNumber"], 16)
    c.close()
    return serial


def serial_of(certificate):
    return int(pki.openssl("x509", "-noout", "-serial", "-in", certificate.cert).strip().split("=")[1], 16)


# ---- what is wrong is found before anything starts ------------------------------------------------

def encrypted():
    out = PKI.path("encrypted.key")
    pki.openssl("pkey", "-in", OLD.key, "-aes256", "-passout", "pass:secret", "-out", out)
    return out


ROOT_ONLY_CRL = PKI.root.crl()
# {option: value} and what is said of it; {d} is the folder with the files "garbage" and "empty".
BAD = {
    "no such certificate": ({"certificate": "{d}/none.pem"}, r"certificate: cannot read {d}/none.pem: No such file or directory"),
    "no such key": ({"private_key": "{d}/none.key"}, r"private_key: cannot read {d}/none.key: No such file or directory"),
    "folder as certificate": ({"certificate": "{d}"}, r"certificate: {d}: is a folder, not a file"),
    "garbage certificate": ({"certificate": "{d}/garbage"}, r"certificate: {d}/garbage: no start line"),
    "empty certificate": ({"certificate": "{d}/empty"}, r"certificate: {d}/empty: no start line"),
    "garbage key": ({"private_key": "{d}/garbage"}, r"private_key: {d}/garbage: .+"),
    "key as certificate": ({"certificate": OLD.key}, r"certificate: \S+: no start line"),
    "mismatched key": ({"private_key": NEW.key}, r"private_key: \S+ is not the key of the certificate \S+"),
    "key of another kind": ({"private_key": RSA.key}, r"private_key: \S+ is not the key of the certificate \S+"),
    "swapped pairs": ({"certificate": [OLD.cert, RSA.cert], "private_key": [RSA.key, OLD.key]},
                      r"private_key: \S+ is not the key of the certificate \S+"),
    "one key twice": ({"certificate": [RSA.cert, OLD.cert], "private_key": [RSA.key, RSA.key]},
                      r"private_key: \S+ is not the key of the certificate \S+"),
    "encrypted key": ({"private_key": encrypted()}, r"private_key: \S+ has a passphrase: write it without one \(openssl pkey\)"),
    "two of a kind": ({"certificate": [OLD.cert, NEW.cert], "private_key": [OLD.key, NEW.key]},
                      r"certificate: \S+ is the second one with a key of the same kind \(id-ecPublicKey\)"),
    "weak key": ({"certificate": PKI.root.issue("weak-server", cn="localhost", key=1024).cert,
                  "private_key": PKI.key(1024)}, r"certificate: \S+: ee key too small"),
    "no such authority": ({"client_ca": "{d}/none"}, r"client_ca: {d}/none: No such file or directory"),
    "empty authority": ({"client_ca": "{d}/empty"}, r"client_ca: {d}/empty: .+"),
    "garbage authority": ({"client_ca": "{d}/garbage"}, r"client_ca: {d}/garbage: .+"),
    "revocations as authority": ({"client_ca": ROOT_ONLY_CRL}, r"client_ca: \S+: no certificate in it"),
    "folder without certificates": ({"client_ca": "{d}/folder"}, r"client_ca: {d}/folder: no certificate in it "
                                    r"\(of a folder, the files that end in \.pem, \.crt or \.cer are read\)"),
    "folder with garbage": ({"client_ca": "{d}/mixed"}, r"client_ca: {d}/mixed/x\.crt: .+"),
    "no such revocations": ({"crl": "{d}/none"}, r"crl: cannot read {d}/none: No such file or directory"),
    "garbage revocations": ({"crl": "{d}/garbage"}, r"crl: {d}/garbage: .+"),
    "certificate as revocations": ({"crl": PKI.root.cert}, r"crl: \S+: .+"),
    "garbage response": ({"ocsp_response": "{d}/garbage"}, r"ocsp_response: {d}/garbage is not a successful OCSP response in DER"),
    "empty response": ({"ocsp_response": "{d}/empty"}, r"ocsp_response: {d}/empty is not a successful OCSP response in DER"),
    "ciphers": ({"ciphers": "NONSENSE"}, r"ciphers: no cipher match"),
    "cipher suites": ({"cipher_suites": "TLS_NONSENSE"}, r'cipher_suites: "TLS_NONSENSE": no cipher match'),
    "groups": ({"groups": "nonsense"}, r'groups: "nonsense": .+'),
    "no such keys": ({"psk_file": "{d}/none"}, r"psk_file: {d}/none: No such file or directory"),
    "garbage keys": ({"psk_file": "{d}/garbage"}, r'psk_file: {d}/garbage:1: the line is not "identity:hex key"'),
    "short key": ({"psk_file": "{d}/short"}, r"psk_file: {d}/short:2: the line needs a key of 32 to 128 hexadecimal digits"),
    "key twice": ({"psk_file": "{d}/twice"}, r"psk_file: {d}/twice:3: the line names an identity that an earlier line has"),
    "server name": ({'server_name "h"': {"certificate": OLD.cert, "private_key": NEW.key}},
                    r'server_name "h": private_key: \S+ is not the key of the certificate \S+'),
}


def bad_files(b):
    key = "0123456789abcdef" * 2
    for name, text in (("garbage", "garbage\n"), ("empty", ""), ("short", "# x\na:%s\n" % key[2:]),
                       ("twice", "a:%s\nb:%s\na:%s\n" % (key, key, key))):
        b.write(name, text)
    for folder in ("folder", "mixed"):
        os.makedirs(b.path(folder))
        b.write(folder + "/README", "Authorities\n")
    shutil.copy(PKI.root.cert, b.path("mixed/root.pem"))
    b.write("mixed/x.crt", "garbage\n")


@each(case=tuple(BAD))
def test_a_bad_file_is_named_with_its_place(case):
    options, wanted = BAD[case]
    listener = dict(LISTENER, client_ca=PKI.root.cert, client_certificate="optional")
    b = Broker(files=FILES)
    try:
        bad_files(b)

        def here(value):
            if isinstance(value, dict):
                return {k: here(v) for k, v in value.items()}
            if isinstance(value, list):
                return [here(v) for v in value]
            return value.replace("{d}", b.dir)
        listener.update(here(options))
        b.configure(listeners={"mqtt": listener})
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode != 0, r
        assert re.search(r'(?m)^grapnel\.conf:\d+: listener "mqtt": %s' % wanted.replace("{d}", re.escape(b.dir)),
                         r.stderr), r.stderr
        assert "secret" not in r.stderr and "0123456789" not in r.stderr, r.stderr
        r2 = run_grapneld("-c", b.conf)  # and does not start
        assert r2.returncode != 0 and r2.stderr.count("mqtt") >= 1, r2
    finally:
        b.remove()


def test_all_bad_files_are_named_at_once():
    b = Broker(files=FILES)
    try:
        bad_files(b)
        b.configure(listeners={
            "a": dict(LISTENER, certificate=b.path("none"), ocsp_response=b.path("garbage")),
            "b": dict(LISTENER, private_key=NEW.key, crl=b.path("garbage"), client_ca=PKI.root.cert,
                      client_certificate="optional"),
            "c": LISTENER})
        r = run_grapneld("-t", "-c", b.conf)
        assert len(re.findall(r'(?m)^grapnel\.conf:\d+: listener "[ab]": ', r.stderr)) == 4, r.stderr
        b.configure(listeners={"c": LISTENER})
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 0, r.stderr
    finally:
        b.remove()


def test_an_unreadable_key_is_named_with_the_user_who_reads_it():
    if os.getuid() != 0:
        raise Skip("only root can start a broker that then is somebody else")
    b = Broker(files=FILES, top={"user": "nobody"})
    try:
        b.configure(listeners={"mqtt": LISTENER})
        os.chmod(b.dir, 0o755)
        os.chmod(b.path("key.pem"), 0o600)
        r = run_grapneld("-c", b.conf)
        assert r.returncode != 0
        assert re.search(r"private_key: cannot read \S+key\.pem: Permission denied \(the broker reads it as the "
                         r"user it runs as, at every reload\)", r.stderr), r.stderr
    finally:
        b.remove()


# ---- reload ---------------------------------------------------------------------------------------

@broker(own=True, **ONE)
def test_a_reload_shows_the_new_certificate_to_new_connections(b):
    ctx = context()
    c = b.connect(tls=ctx)
    c.ping()
    session = c.sock.session
    assert shown(b) == serial_of(OLD)
    install(b, NEW)
    assert shown(b) == serial_of(OLD)  # not before it is asked for
    b.reload()
    assert shown(b) == serial_of(NEW)
    c.ping()
    assert b.connect(tls=ctx, session=session).sock.session_reused


@each(bad=("mismatch", "garbage", "missing"))
@broker(own=True, listeners={"mqtt": LISTENER, "other": dict(LISTENER, certificate=OLD.cert, private_key=OLD.key),
                             "plain": {"anonymous": True}}, files=FILES)
def test_a_reload_with_a_bad_pair_changes_nothing(b, bad):
    c = b.connect(tls=context())
    before = b.options["listeners"]
    if bad == "mismatch":
        shutil.copy(NEW.cert, b.path("cert.pem"))
    elif bad == "garbage":
        b.write("cert.pem", "garbage")
    else:
        os.unlink(b.path("cert.pem"))
    # The other changes of this reload are good, and not made.
    b.configure(listeners=dict(before, other=dict(LISTENER, certificate=NEW.cert, private_key=NEW.key),
                               plain={"anonymous": False}), files={})
    mark = b.mark()
    line = b.reload(good=False)
    assert "nothing was changed: 1 error in the new configuration" in line, line
    b.wait_log(r'error grapnel\.conf:\d+: listener "mqtt": (certificate|private_key): .*pem', since=mark)
    assert shown(b) == shown(b, "other") == serial_of(OLD)
    c.ping()
    b.connect(listener="plain").ping()
    install(b, NEW)
    b.reload()
    assert shown(b) == shown(b, "other") == serial_of(NEW)
    c.ping()


@broker(own=True, listeners={"mqtt": LISTENER, "plain": {"anonymous": True}}, files=FILES)
def test_tls_can_be_switched_on_and_off_by_a_reload(b):
    old = b.connect(listener="plain")
    b.configure(listeners={"mqtt": {"anonymous": True}, "plain": LISTENER})
    b.reload()
    b.connect().ping()
    b.connect(listener="plain", tls=context()).ping()
    old.ping()


@broker(own=True, listeners={"mqtt": dict(LISTENER, client_ca=PKI.root.cert, client_certificate="required",
                                          crl="{dir}/crl.pem")},
        files=dict(FILES, **{"crl.pem": pem(PKI.root.crl())}))
def test_a_revocation_counts_from_the_next_reload_on(b):
    client = PKI.root.issue("to-be-revoked", usage="clientAuth", own_key=True)
    ctx = context()
    ctx.load_cert_chain(client.cert, client.key)
    c = b.connect(tls=ctx)
    c.ping()
    shutil.copy(PKI.root.crl(client), b.path("crl.pem"))
    b.reload()
    mark = b.mark()
    try:
        b.connect(tls=ctx, session=c.sock.session)
    except (ssl.SSLError, OSError, Closed):
        pass
    else:
        raise AssertionError("a revoked certificate is let in")
    b.wait_log("its certificate is refused: certificate revoked", since=mark)


@broker(own=True, **ONE)
def test_a_handshake_under_way_goes_on_with_what_it_began_with(b):
    taps = [Tap(b.address(), context()) for _ in range(8)]  # on both workers
    for t in taps:
        t.sock.sendall(t.hello()[:50])
        t.rest = t.hello_bytes[50:]
    b.wait_metric("connections", 8)
    for n in range(3):  # the first configuration is gone by then
        install(b, NEW)
        b.configure(listeners={"mqtt": dict(LISTENER, backlog=10 + n)}, files={})
        b.reload()
    for t in taps:
        with t:
            t.sock.sendall(t.rest)
            t.fill()
            t.handshake()
            assert int(t.tls.getpeercert()["serialNumber"], 16) == serial_of(OLD)
            t.write(wire.connect(V311, ""))
            assert t.read_exactly(4) == b"\x20\x02\x00\x00"


ROTATIONS, CLIENTS = 20, 20


@broker(own=True, **ONE)
def test_nobody_notices_that_certificates_are_rotated(b):
    """20 clients send to each other while the certificate changes 20 times; new ones come in all the time."""
    stop, problems, sent = threading.Event(), [], [0] * CLIENTS
    clients = [b.connect(V5, "c%d" % n, tls=context()) for n in range(CLIENTS)]
    for n, c in enumerate(clients):
        c.subscribe("to/%d" % n, qos=1)

    def talk(n):
        c, expected = clients[n], 0
        try:
            while not stop.is_set() or sent[n] < 50:
                c.send_publish("to/%d" % n, b"%d" % sent[n], qos=1, packet_id=sent[n] % 60000 + 1)
                sent[n] += 1
                got = acked = False
                while not (got and acked):
                    p = c.recv()
                    if p.type == PUBACK:
                        acked = True
                    else:
                        assert p.payload == b"%d" % expected, (n, p, expected)
                        c.puback(p.packet_id)
                        expected += 1
                        got = True
        except BaseException as e:  # pylint: disable=broad-except
            problems.append((n, repr(e)))

    def come_and_go():
        try:
            while not stop.is_set():
                c = Client(b.address(), tls=context())
                c.connect("guest")
                c.ping()
                c.disconnect()
        except BaseException as e:  # pylint: disable=broad-except
            problems.append(("guest", repr(e)))
    threads = [threading.Thread(target=talk, args=(n,)) for n in range(CLIENTS)]
    threads.append(threading.Thread(target=come_and_go))
    for t in threads:
        t.start()
    try:
        for n in range(ROTATIONS):
            current = (NEW, OLD)[n % 2]
            install(b, current)
            b.reload()
            assert shown(b) == serial_of(current)
            if problems:
                break
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not problems, problems
    assert min(sent) >= 50 and not b.log_lines("client_disconnected: client \"c\\d"), sent
    for c in clients:
        c.ping()


# ---- before they end ------------------------------------------------------------------------------

def ending(name, days):
    return PKI.root.issue(name, cn="localhost", san="DNS:localhost", usage="serverAuth", start=-60 * DAY, end=days * DAY)


SOON, ENDED, FINE = ending("soon", 7.5), ending("ended", -1), ending("fine", 31)


def pair(certificate):
    return {"certificate": certificate.cert, "private_key": certificate.key}


@broker(own=True, listeners={
    "mqtt": dict(LISTENER, **pair(FINE)),
    "wss": dict(LISTENER, **pair(SOON), **{'server_name "a.example.org"': pair(ENDED)}),
    "plain": {"anonymous": True}})
def test_a_certificate_that_ends_soon_is_told_and_shown(b):
    def told(mark):
        return b.log_lines("certificate_expire", since=mark)
    lines = told(0)
    assert len(lines) == 2, lines
    assert re.search(r'warning certificate_expires: listener "wss": certificate %s ends on \d{4}-\d\d-\d\d '
                     r"\d\d:\d\d:\d\d UTC, in 7 days\. Put a new one there, then grapnelctl reload$" %
                     re.escape(SOON.cert), lines[0]), lines
    assert re.search(r'error certificate_expired: listener "wss": server_name "a\.example\.org": certificate %s has '
                     r"ended on .*: clients refuse it\. Put a new one there, then grapnelctl reload$" %
                     re.escape(ENDED.cert), lines[1]), lines
    metrics = {k: v for k, v in b.metrics().items() if k.startswith("grapnel_cert_expiry_seconds")}
    wanted = {'grapnel_cert_expiry_seconds{listener="%s",server_name="%s",file="%s"}' % (listener, name, c.cert): days
              for listener, name, c, days in (("mqtt", "", FINE, 31), ("wss", "", SOON, 7.5),
                                              ("wss", "a.example.org", ENDED, -1))}
    assert set(metrics) == set(wanted), metrics
    for name, days in wanted.items():
        assert abs(metrics[name] - days * DAY) < 600 * FACTOR, (name, metrics[name])
    mark = b.mark()
    b.reload()
    eventually(lambda: len(told(mark)) == 2, "the same two lines")
    b.configure(listeners=dict(b.options["listeners"], wss=dict(LISTENER, **pair(FINE))))
    mark = b.mark()
    b.reload()
    assert b.metric('grapnel_cert_expiry_seconds{listener="wss",server_name="",file="%s"}' % FINE.cert) > 0
    assert not told(mark) and "ended" not in str(b.metrics())


def test_without_tls_there_is_no_such_metric():
    with Broker() as b:
        assert not [k for k in b.metrics() if "cert_expiry" in k]
