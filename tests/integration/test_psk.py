# SPDX-License-Identifier: Apache-2.0
"""TLS with pre-shared keys: from psk_file, and from plugins (hook tls_psk_key)."""
import os
import resource
import socket
import subprocess

from lib.broker import TIMEOUT, Broker
from lib.case import Skip, broker, default_broker, each
from lib.mqtt import V5
from lib.s_client import Authority, SClient, psk

KEY = "00112233445566778899aabbccddeeff"
WRONG = "ff112233445566778899aabbccddeeff"
FILE_KEY = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
INTERNAL_ERROR = 80
# OpenSSL keeps the stacks on which handshakes wait in ordinary memory and switches to them unseen.
# AddressSanitizer's fake frames go by the address of the stack: those of a paused handshake may be
# taken for abandoned and used again. Everything else stays on.
ASAN = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=1") +
        ":detect_stack_use_after_return=0"}
VERSIONS = each(tls=("-tls1_2", "-tls1_3"))


def options(**more):
    out = {
        "listeners": {
            "mqtt": {"anonymous": True},
            "psk": {"tls": True, "psk": True, "psk_file": "{dir}/keys"},
            "file": {"tls": True, "psk_file": "{dir}/keys"},
        },
        "plugins": {"keyring": {"order": 10, "hold": "{dir}/hold"},
                    "in": {"module": "tls-identity", "order": 15}},
        "files": {"keys": "# ours\nin-file:%s\n" % FILE_KEY},
        "env": ASAN,
    }
    out.update(more)
    return out


BROKER = default_broker(**options())


def client(b, *args, listener="psk"):
    c = SClient(b.address(listener), *args)
    b.clients.append(c)
    return c


def username(b, client_id):
    return b.ctl_json("clients", "show", client_id).get("username")


def keyring(b, text, since):
    return b.wait_log(r'plugin "keyring": ' + text, since=since)


# ---- who gets in -------------------------------------------------------------------------------

@VERSIONS
@each(identity=("now-a", "late-a", "pool-a"))
def test_the_key_of_a_plugin_lets_a_client_in(b, tls, identity):
    c, name = client(b, psk(identity, KEY), tls), b.unique("psk")
    c.connect(name)
    c.subscribe(name)
    c.publish(name, b"x" * 100000, qos=1)
    c.expect_message(name, b"x" * 100000)
    if username(b, name) != identity:
        raise AssertionError(username(b, name))


@VERSIONS
@each(listener=("file", "psk"))
def test_the_key_of_the_file_lets_a_client_in(b, tls, listener):
    mark, name = b.mark(), b.unique("psk")
    client(b, psk("in-file", FILE_KEY), tls, listener=listener).connect(name)
    if username(b, name) != "in-file":
        raise AssertionError(username(b, name))
    if b.log_lines('plugin "keyring": asked in-file', mark):
        raise AssertionError("a plugin was asked about what the file knows")


@VERSIONS
def test_the_plugin_chooses_the_user_name(b, tls):
    name = b.unique("psk")
    client(b, psk("named-x", KEY), tls).connect(name)
    if username(b, name) != "user-of-named-x":
        raise AssertionError(username(b, name))


def test_the_identity_counts_whatever_the_client_calls_itself(b):
    name = b.unique("psk")
    client(b, psk("now-a", KEY)).connect(name, username="admin", password="x")
    if username(b, name) != "now-a":
        raise AssertionError(username(b, name))


def test_the_plugin_is_told_listener_and_peer(b):
    mark = b.mark()
    client(b, psk("now-told", KEY)).connect(b.unique("psk"))
    keyring(b, r"asked now-told by 127\.0\.0\.1:\d+ on psk$", mark)


@broker(own=True, **options(plugins={"keyring": {"order": 10}}, listeners={
    "mqtt": {"anonymous": True}, "psk": {"tls": True, "psk": True, "anonymous": True}}))
def test_authentication_decides_all_the_same(b):
    """Nobody who lets a verified identity in, and anonymous is not for those who have one."""
    c = client(b, psk("now-a", KEY))
    c.send_connect("x")
    c.expect(2, reason=0x87)


def test_mosquitto_clients_come_in(b):
    host, port = b.address("psk")
    topic = b.unique("mosquitto")
    c = b.connect(V5)
    c.subscribe(topic)
    subprocess.run(["mosquitto_pub", "-h", host, "-p", str(port), "--psk", KEY, "--psk-identity",
                    "late-mosquitto", "-i", "mosquitto", "-t", topic, "-m", "hello", "-q", "1"],
                   check=True, timeout=TIMEOUT)
    c.expect_message(topic, b"hello")


# ---- who does not ------------------------------------------------------------------------------

# What a peer gets to hear must not tell whether the identity exists.
@VERSIONS
@each(identity=("nobody", "deny-a", "now-a", "in-file"))
def test_an_unknown_identity_and_a_wrong_key_look_the_same(b, tls, identity):
    failed = b.metric("handshakes_failed_total")
    alert = client(b, psk(identity, WRONG), tls).alert()
    b.wait_metric("handshakes_failed_total", failed + 1)
    wanted = {"-tls1_2": 20, "-tls1_3": 47}[tls]
    if alert != wanted:
        raise AssertionError("alert %d" % alert)


@broker(own=True, **options())
def test_the_log_says_which_identity_nobody_knows(b):
    mark = b.mark()
    client(b, psk("nobody-here", KEY)).failed()
    b.wait_log(r'handshake_failed: .* nobody knows a pre-shared key of "nobody-here"', since=mark)
    if b.log_lines(KEY):
        raise AssertionError("a key is in the log")


@VERSIONS
@each(identity=("down-a", "nokey-a", "short-a"))
@broker(own=True, **options())
def test_trouble_fails_the_handshake(b, tls, identity):
    mark = b.mark()
    if client(b, psk(identity, KEY), tls).alert() != INTERNAL_ERROR:
        raise AssertionError("not internal_error")
    b.wait_log(r'plugin "keyring" could not say the key of "%s"' % identity, since=mark)


@broker(own=True, **options(plugins={
    "keyring": {"order": 10, "on_error": "next"}, "second": {"module": "keyring", "order": 20},
    "in": {"module": "tls-identity"}}))
def test_the_chain_goes_on_as_on_error_says(b):
    mark = b.mark()
    if client(b, psk("down-a", KEY), "-tls1_2").alert() != INTERNAL_ERROR:
        raise AssertionError("not internal_error")
    b.wait_log(r'plugin "second": asked down-a', since=mark)
    name = b.unique("psk")
    client(b, psk("now-a", KEY)).connect(name)


@broker(own=True, **options(plugins={
    "keyring": {"order": 10, "timeout": "100ms"}, "in": {"module": "tls-identity"}}))
def test_no_answer_in_time_is_unavailable(b):
    if client(b, psk("never-a", KEY), "-tls1_3").alert() != INTERNAL_ERROR:
        raise AssertionError("not internal_error")
    if b.metric("tls_psk_waiting") != 0:
        raise AssertionError("still waiting")


@broker(own=True, **options(plugins={
    "keyring": {"order": 10, "max_pending": 1, "hold": "{dir}/hold"},
    "in": {"module": "tls-identity"}}))
def test_max_pending_counts(b):
    mark = b.mark()
    b.write("hold", "")
    first = client(b, psk("held-1", KEY))
    keyring(b, "asked held-1", mark)
    if client(b, psk("held-2", KEY), "-tls1_2").alert() != INTERNAL_ERROR:
        raise AssertionError("not internal_error")
    os.unlink(b.path("hold"))
    first.connect("first")


# ---- an offered identity is no proof -------------------------------------------------------------

def with_certificate(**more):
    return options(listeners={
        "mqtt": {"anonymous": True},
        "both": dict({"tls": True, "psk": True, "certificate": "{dir}/server.pem",
                      "private_key": "{dir}/server.key"}, **more)})


def certificates(b):
    Authority(b.dir).issue("server")
    return b


def test_an_identity_that_is_offered_and_not_used_gives_no_user_name():
    """With a suite whose hash does not fit, TLS 1.3 goes on with the certificate."""
    b = Broker(**with_certificate(anonymous=True))
    try:
        certificates(b).start()
        mark = b.mark()
        c = client(b, psk("now-victim", WRONG), "-tls1_3", "-ciphersuites",
                   "TLS_AES_256_GCM_SHA384", listener="both")
        c.connect("x")
        keyring(b, "asked now-victim", mark)
        if username(b, "x"):
            raise AssertionError("it has the user name of somebody else")
        b.stop()
    finally:
        b.remove()


@VERSIONS
def test_a_ticket_does_not_bring_the_user_name_along(tls):
    """A key that was taken away must not live on in a ticket."""
    b = Broker(**with_certificate(anonymous=True))
    try:
        certificates(b).start()
        args = [] if tls == "-tls1_3" else ["-cipher", "ECDHE-PSK-CHACHA20-POLY1305"]
        c = client(b, psk("now-a", KEY), tls, *args, "-sess_out", b.path("session"), listener="both")
        c.connect("x")
        if username(b, "x") != "now-a":
            raise AssertionError(username(b, "x"))
        c.disconnect()
        if os.path.exists(b.path("session")):
            mark = b.mark()
            c = client(b, psk("now-a", WRONG), tls, *args, "-sess_in", b.path("session"),
                       listener="both")
            c.failed()
            b.wait_log("handshake_failed", since=mark)
        b.stop()
    finally:
        b.remove()


def test_an_unknown_identity_may_still_use_the_certificate():
    b = Broker(**with_certificate(anonymous=True))
    try:
        certificates(b).start()
        client(b, psk("nobody", KEY), "-tls1_3", listener="both").connect("x")
        b.stop()
    finally:
        b.remove()


# ---- while it waits --------------------------------------------------------------------------------

@VERSIONS
@each(identity=("never-gone", "held-gone"))
@broker(own=True, **options())
def test_a_client_that_goes_away_leaves_nothing(b, tls, identity):
    mark = b.mark()
    b.write("hold", "")
    c = client(b, psk(identity, KEY), tls)
    keyring(b, "asked " + identity, mark)
    b.wait_metric("tls_psk_waiting", 1)
    c.close()
    keyring(b, "cancelled " + identity, mark)
    b.wait_metric("connections", 0)
    os.unlink(b.path("hold"))
    keyring(b, "resolved %s: cancelled" % identity, mark)
    b.wait_metric("tls_psk_waiting", 0)


@VERSIONS
@broker(own=True, **options(limits={"connect_timeout": "500ms"}))
def test_connect_timeout_ends_the_wait(b, tls):
    mark = b.mark()
    c = client(b, psk("never-a", KEY), tls)
    keyring(b, "asked never-a", mark)
    c.failed()
    keyring(b, "cancelled never-a", mark)
    b.wait_metric("connections", 0)


@broker(own=True, **options())
def test_a_broker_stops_while_handshakes_wait(b):
    mark = b.mark()
    for i in range(4):
        client(b, psk("never-%d" % i, KEY), "-tls1_%d" % (2 + i % 2))
        keyring(b, "asked never-%d" % i, mark)
    b.stop()


@VERSIONS
@broker(own=True, **options())
def test_many_wait_and_nobody_else_does(b, tls):
    mark = b.mark()
    b.write("hold", "")
    waiting = [client(b, psk("held-%d" % i, KEY), tls) for i in range(50)]
    b.wait_metric("tls_psk_waiting", 50)
    plain, topic = b.connect(V5), b.unique("topic")
    plain.subscribe(topic)
    for i in range(100):
        plain.publish(topic, b"%d" % i, qos=1)
        plain.expect_message(topic, b"%d" % i)
    if b.log_lines("resolved held-", mark):
        raise AssertionError("they did not wait")
    os.unlink(b.path("hold"))
    for i, c in enumerate(waiting):
        c.connect("waited-%d" % i)
    if b.metric("tls_psk_waiting") != 0 or b.metric("tls_psk_refused_total") != 0:
        raise AssertionError("counted wrongly")


def client_hello(*args):
    """The first bytes of a client, to be sent as often as one likes."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        with subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, *args],
                              stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as p:
            with door.accept()[0] as s:
                hello = s.recv(5)
                while len(hello) < 5 + int.from_bytes(hello[3:5], "big"):
                    hello += s.recv(65536)
            p.kill()
    return hello


@broker(own=True, **options(workers=1, limits={"connect_timeout": "1h"}))
def test_the_number_that_waits_is_bounded(b):
    """One more than 1000 is told so at once, and the stacks of the others go back when they end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2000:
        raise Skip("needs 2000 open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    hello = client_hello("-tls1_3", *psk("never-a", KEY))
    waiting = []
    try:
        for n in range(1, 1001):
            waiting.append(socket.create_connection(b.address("psk"), TIMEOUT))
            waiting[-1].sendall(hello)
            if n % 100 == 0:
                b.wait_metric("tls_psk_waiting", n)
        with socket.create_connection(b.address("psk"), TIMEOUT) as s:
            s.sendall(hello)
            if s.recv(100) != bytes((21, 3, 3, 0, 2, 2, INTERNAL_ERROR)):
                raise AssertionError("not internal_error")
        if b.metric("tls_psk_refused_total") != 1 or b.metric("tls_psk_waiting") != 1000:
            raise AssertionError("counted wrongly")
        b.wait_log("1000 handshakes of this worker wait for a plugin to say a key")
        b.connect(V5).ping()
        client(b, psk("in-file", FILE_KEY)).connect("needs-no-plugin")
    finally:
        for s in waiting:
            s.close()
    b.wait_metric("tls_psk_waiting", 0)
    client(b, psk("late-a", KEY)).connect("after")


@VERSIONS
@broker(own=True, **options())
def test_a_reload_while_one_waits(b, tls):
    """The instance that was asked answers; whoever comes later asks the new one."""
    mark = b.mark()
    b.write("hold", "")
    c = client(b, psk("held-a", KEY), tls)
    keyring(b, "asked held-a", mark)
    b.configure(plugins={"keyring": {"order": 10, "hold": "{dir}/other", "key": WRONG},
                         "in": {"module": "tls-identity", "order": 15}})
    b.reload()
    client(b, psk("held-b", WRONG), tls).connect("new")
    os.unlink(b.path("hold"))
    c.connect("old")


@broker(own=True, **options(plugins={
    "keyring": {"order": 10}, "in": {"module": "tls-identity"}, "verdict": {}}))
def test_statistics_and_the_record_of_the_decision(b):
    mark = b.mark()
    client(b, psk("now-a", KEY)).connect("x")
    client(b, psk("nobody", KEY)).failed()
    if b.metric('hook_answers_total{plugin="keyring",hook="tls_psk_key",answer="allow"}') < 1:
        raise AssertionError("not counted")
    b.wait_log(r'decision: tls_psk_key .*"now-a": allow \(keyring: allow in', since=mark)
    b.wait_log(r'decision: tls_psk_key .*"nobody": .*nobody decided', since=mark)


# ---- configuration -----------------------------------------------------------------------------------

def refused(text, **more):
    b = Broker(**options(**more))
    try:
        b.start(wait=False)
        b.wait_exit(TIMEOUT)
        if not b.log_lines(text):
            raise AssertionError("not said: %s\n%s" % (text, "\n".join(b.log_lines())))
    finally:
        b.remove()


def test_psk_without_a_plugin_that_knows_keys_is_an_error():
    refused(r'grapnel\.conf:\d+: listener "psk": psk = yes, but no plugin that is enabled knows',
            plugins={"in": {"module": "tls-identity"}})


def test_psk_is_only_for_tls():
    refused(r'"psk" is only for tls = yes', listeners={"mqtt": {"anonymous": True, "psk": True}})
