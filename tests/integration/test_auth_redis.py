# SPDX-License-Identifier: Apache-2.0
"""auth-redis against redis-server: what holds for every back end, layouts of keys, what a server can do wrong."""
import base64
import contextlib
import hashlib
import os
import shlex
import shutil
import socket
import subprocess

from lib import pki
from lib.backend import Backend
from lib.broker import GRAPNELCTL, SRC, TIMEOUT, Broker, run_grapneld
from lib.case import each, skip_if
from lib.hashes import quick_hash
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import wait_until
from lib.redis import AVAILABLE, Redis, RedisError, Scripted, Sentinel, cluster

need_redis = skip_if(not AVAILABLE, "redis-server is not installed")
METRIC = 'plugin_%s{plugin="auth-redis"}'


def fill(ask):
    """USERS of lib/backend.py. ask: as Redis.ask."""
    ask("HSET", "mqtt:user:alice", "password", quick_hash("wonder"), "tenant", "acme")
    # A set has no order: what is denied counts first.
    ask("SADD", "mqtt:user:alice:acl", "allow publish %u/#", "allow subscribe %u/#", "deny read shared/#",
        "allow subscribe shared/%{tenant}/#")
    ask("HSET", "mqtt:user:bob", "password", quick_hash("builder"))
    ask("SADD", "mqtt:user:bob:acl", "allow publish bob/#")
    ask("HSET", "mqtt:user:root", "password", quick_hash("toor"), "superuser", "1")


class Filled(Redis):
    def start(self):
        super().start()
        with self.session() as r:
            fill(r)
        return self


class Case(Backend):
    instance = "auth-redis"

    def options(self):
        return dict(QUICK, servers=["127.0.0.1:%d" % self.server.port], login_key="mqtt:user:%u",
                    acl_key="mqtt:user:%u:acl")

    def settled(self, b):
        b.wait_metric(METRIC % "connections", 2)

    @contextlib.contextmanager
    def with_keys(self, *commands):
        """Commands on the server; the keys they make are gone afterwards."""
        s = self.up()
        with s.session() as r:
            for words in commands:
                r(*words)
            try:
                yield r
            finally:
                for words in commands:
                    r("DEL", words[1])


QUICK = {"command_timeout": "500ms", "connect_timeout": "500ms", "reconnect_delay": "20ms", "reconnect_delay_max": "200ms"}
CASE = Case(Filled)


# ---- what holds for every back end ----------------------------------------------------------------


@need_redis
def test_logins():
    CASE.logins()


@need_redis
def test_names_that_mean_something_elsewhere_are_nobody():
    CASE.nasty_names()


@need_redis
def test_rights():
    CASE.rights()


@need_redis
def test_the_server_comes_after_the_broker():
    CASE.stopped_before_start()


@need_redis
def test_it_is_killed_under_load():
    CASE.killed_under_load()


@need_redis
def test_it_hangs():
    CASE.hung()


@need_redis
def test_a_connection_that_went_mute_is_given_up():
    s = CASE.up()
    with CASE.broker() as b:
        CASE.allowed(b)
        s.pause()
        try:
            CASE.unavailable(b)
            b.wait_log(r"the connection to Redis at .* is lost: no answer within 500 ms \(command_timeout\)")
            b.wait_log(r"no connection to Redis at .*: logging in took more than 500 ms")
            CASE.unavailable(b)
        finally:
            s.resume()
        CASE.recovers(b)
        CASE.settled(b)


@need_redis
def test_somebody_mute_in_its_place():
    CASE.up()
    CASE.mute(servers=lambda port: ["127.0.0.1:%d" % port])


@need_redis
def test_who_waits_for_a_slow_server_gets_an_answer():
    s = CASE.up()
    with CASE.broker(command_timeout="20s", timeout="20s") as b:
        CASE.allowed(b)
        s.ask("CLIENT", "PAUSE", "500", "ALL")
        CASE.allowed(b)
        assert b.metric(METRIC % "queries_timed_out_total") == 0


@need_redis
def test_down_and_up_are_one_line_each():
    s = CASE.up()
    with CASE.broker() as b:
        CASE.allowed(b)
        s.stop()
        wait_until(lambda: b.metric(METRIC % "connects_failed_total") > 4, "attempts", TIMEOUT)
        CASE.unavailable(b)
        s.start()
        b.wait_log(r'plugin "auth-redis": connected to Redis at 127\.0\.0\.1:%d again' % s.port)
        CASE.recovers(b)
        b.wait_log(r" error .*no connection to Redis")
        assert len(b.log_lines(r" error .*no connection to Redis")) == 1, b.log_lines("Redis")
        b.wait_log(r"connected to Redis .* again")
        assert len(b.log_lines(r"connected to Redis .* again")) == 1, b.log_lines("Redis")


def muted_dns():
    """Whether /etc/resolv.conf can be another one for a process."""
    r = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False) if shutil.which("unshare") else None
    return r is not None and r.returncode == 0


@skip_if(not muted_dns(), "no mount namespaces here")
def test_a_mute_dns_server_holds_nobody():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dns:
        dns.bind(("127.0.0.1", 0))
        b = Broker(users={"fred": "fred"}, workers=2, listeners={"mqtt": {}}, plugins={
            "auth-redis": dict(QUICK, connect_timeout="20s", order=30, timeout="1s", cache=False,
                               servers=["redis.grapnel.test"], login_key="u:%u")},
            files={"resolv.conf": "nameserver 127.0.0.1:%d\n" % dns.getsockname()[1]})
        b.wrapper = ["unshare", "-rm", "sh", "-c", "mount --bind %s/resolv.conf /etc/resolv.conf && exec \"$@\"" % b.dir, "sh"]
        with b:
            dns.settimeout(TIMEOUT)
            assert b"redis" in dns.recv(1000).lower()
            waiting = b.client(V5)
            waiting.send_connect("waiting", username="alice", password="wonder")
            fred = b.connect(V5, "fred", username="fred", password="fred")
            for _ in range(20):
                fred.ping()
            assert waiting.expect(CONNACK).reason == 0x88
            b.held_nobody()


# ---- users ----------------------------------------------------------------------------------------


@need_redis
def test_a_key_that_is_only_a_hash():
    with CASE.with_keys(("SET", "s:carol", quick_hash("sing")), ("SET", "s:empty", ""), ("SET", "s:plain", "sing"),
                        ("SET", "su:carol", "true"), ("SET", "su:plain", "true")):
        with CASE.broker(login_key="s:%u", login_layout="string", acl_key=None, superuser_key="su:%u") as b:
            assert CASE.code(b, "carol", "sing") == 0
            CASE.denied(b, "carol", "song")
            CASE.denied(b, "empty", "")
            CASE.denied(b, "alice", "wonder")
            assert CASE.code(b, "plain", "sing") == 0x88  # no hash at all, superuser or not: an error of whoever wrote it
            carol = b.connect(V5, username="carol", password="sing")
            carol.subscribe("#")


@need_redis
def test_fields_of_the_hash_count_for_the_user():
    with CASE.with_keys(("HSET", "mqtt:user:dave", "password", quick_hash("x"), "max_qos", "1", "mountpoint", "m/d/",
                         "username", "david", "max_packet_size", "2000"),
                        ("HSET", "mqtt:user:odd", "password", quick_hash("x"), "valid_until", "soon"),
                        ("HSET", "mqtt:user:hashless", "tenant", "acme"),
                        ("SADD", "mqtt:user:david:acl", "allow all %u/#")):
        with CASE.broker() as b:
            root = b.connect(V5, username="root", password="toor")
            root.subscribe("m/d/#")
            dave = b.connect(V5, username="dave", password="x")
            assert dave.connack.prop(P.MAXIMUM_QOS) == 1
            assert dave.connack.prop(P.MAXIMUM_PACKET_SIZE) == 2000
            assert dave.publish("david/x", "1", qos=1) == 0
            root.expect_message(topic="m/d/david/x")
            CASE.denied(b, "hashless", "x")
            CASE.denied(b, "hashless", "")
            assert CASE.code(b, "odd", "x") == 0x88
            line = b.wait_log(r"what is under a key cannot be used: ")
            assert "$6$" not in line


@need_redis
def test_only_an_unknown_user_goes_to_the_next_plugin():
    CASE.up()
    with CASE.broker(others={"verdict": {"order": 90, "client_authenticate": "allow"}}, acl_key=None) as b:
        assert CASE.code(b, "stranger", "x") == 0
        CASE.denied(b, "alice", "x")
        assert CASE.code(b, None, None) == 0


@need_redis
def test_without_check_password_the_key_is_enough():
    CASE.up()
    with CASE.broker(check_password=False) as b:
        assert CASE.code(b, "alice", "whatever") == 0
        assert CASE.code(b, "alice", None) == 0
        CASE.denied(b, "nobody", "x")


@need_redis
def test_a_name_with_a_separator_is_not_somebody_elses_key():
    mac = "aa:bb*"
    # Rules in a hash, so that a key with rules has the type of a user's key.
    keys = (("HSET", "mqtt:user:eve:acl", "password", quick_hash("x"), "superuser", "1"),
            ("HSET", "mqtt:user:aa%3Abb%2A", "password", quick_hash("mac")),
            ("HSET", "u/aa:bb*", "password", quick_hash("raw")))
    with CASE.with_keys(*keys):
        with CASE.broker(acl_layout="hash", acl_key=None) as b:
            CASE.denied(b, "eve:acl", "x")
            assert CASE.code(b, mac, "mac") == 0
            CASE.denied(b, "aa%3Abb%2A", "mac")
        with CASE.broker(acl_layout="hash", key_names="refuse", acl_key=None) as b:
            for name in ("eve:acl", mac, "aa%3Abb%2A"):
                CASE.denied(b, name, "x")
                CASE.denied(b, name, "mac")
            CASE.allowed(b)
        with CASE.broker(key_names="raw", login_key="u/%u", acl_key="a/%u") as b:
            assert CASE.code(b, mac, "raw") == 0


@need_redis
def test_a_long_name_is_nobody():
    with CASE.with_keys(("HSET", "mqtt:user:" + "x" * 90, "password", quick_hash("x"))):
        with CASE.broker(max_key=100) as b:
            assert CASE.code(b, "x" * 90, "x") == 0
            CASE.denied(b, "x" * 91, "x")


@need_redis
def test_a_template_without_its_value_is_nobody():
    CASE.up()
    with CASE.broker(login_key="mqtt:user:%{tenant}") as b:
        CASE.denied(b, "alice", "wonder")
    with CASE.broker(login_key="mqtt:user:%c", acl_key=None) as b:
        assert CASE.code(b, "whoever", "wonder", client_id="alice") == 0
        CASE.denied(b, "alice", "wonder")


# ---- rights ---------------------------------------------------------------------------------------

LAYOUTS = {
    "set": ("SADD", "r:alice", "allow publish alice/#", "deny all alice/secret/#", "allow subscribe alice/#"),
    "list": ("RPUSH", "r:alice", "deny all alice/secret/#", "user alice", "allow publish alice/#", "user bob", "allow all #",
             "everyone", "allow subscribe alice/#"),
    "hash": ("HSET", "r:alice", "alice/#", "all", "alice/secret/#", "deny all"),
    "string": ("SET", "r:alice", "deny all alice/secret/#\nallow all %u/#\n"),
}


def check_rules(b):
    alice = b.connect(V5, username="alice", password="wonder")
    alice.subscribe("alice/#", qos=1)
    alice.subscribe("bob/#", codes=[0x87])
    assert alice.publish("alice/x", "1", qos=1) == 0
    alice.expect_message(topic="alice/x")
    for topic in ("alice/secret/x", "bob/x"):
        assert alice.publish(topic, "1", qos=1) == 0x87
    root = b.connect(V5, username="root", password="toor")
    root.publish("alice/secret/x", "1", qos=1)
    root.publish("alice/y", "1", qos=1)
    alice.expect_message(topic="alice/y")
    return alice


@need_redis
@each(layout=tuple(LAYOUTS), mode=("connect", "check"))
def test_rules_in_every_layout(layout, mode):
    with CASE.with_keys(LAYOUTS[layout]):
        with CASE.broker(acl_key="r:%u", acl_layout=layout, acl_mode=mode) as b:
            check_rules(b)


@need_redis
def test_numbers_of_access_and_emqx_words_in_a_hash():
    with CASE.with_keys(("HSET", "r:bob", "r", "1", "w", "2", "rw", "3", "s", "4", "rs", "5", "e", "publish", "none", "0")):
        with CASE.broker(acl_key="r:%u", acl_layout="hash") as b:
            bob = b.connect(V5, username="bob", password="builder")
            for topic in ("w", "rw", "e"):
                assert bob.publish(topic, "1", qos=1) in (0, 0x10), topic
            for topic in ("r", "s", "rs", "none", "other"):
                assert bob.publish(topic, "1", qos=1) == 0x87, topic
            bob.subscribe(["s", "rs", "none", "w"], codes=[0, 0, 0x87, 0x87])


@need_redis
def test_rights_alone_when_somebody_else_knows_who_it_is():
    with CASE.with_keys(("SADD", "r:fred:publish:a%2Ab", "allow publish a*b"), ("SADD", "r:common", "allow subscribe c")) as r:
        with CASE.broker(users={"fred": "fred", "bob": "b"}, login_key=None, acl_mode="check", acl_key="r:%u:%a:%t",
                         others={"verdict": {"order": 90, "acl_check": "allow"}}) as b:
            fred = b.connect(V5, username="fred", password="fred")
            assert fred.publish("a*b", "1", qos=1) in (0, 0x10)
            assert fred.publish("other", "1", qos=1) in (0, 0x10)  # no key: the next plugin
            r("SADD", "r:fred:publish:a%2Ab", "deny publish #")
            assert fred.publish("a*b", "1", qos=1) == 0x87  # at once: it is asked each time


@need_redis
def test_no_key_at_connect_is_no_rights():
    CASE.up()
    with CASE.broker(acl_key="nothing:%u") as b:
        alice = b.connect(V5, username="alice", password="wonder")
        assert alice.publish("alice/x", "1", qos=1) == 0x87


@need_redis
def test_a_key_with_rules_may_hang_on_an_attribute():
    with CASE.with_keys(("SADD", "tenant:acme", "allow publish acme/#")):
        with CASE.broker(acl_key="tenant:%{tenant}") as b:
            alice = b.connect(V5, username="alice", password="wonder")
            assert alice.publish("acme/x", "1", qos=1) in (0, 0x10)
            bob = b.connect(V5, username="bob", password="builder")
            assert bob.publish("acme/x", "1", qos=1) == 0x87


GO_AUTH = (("SET", "gina", "PBKDF2$sha512$4$" + "$".join(base64.b64encode(x).decode() for x in (
    b"a salt", hashlib.pbkdf2_hmac("sha512", b"go", b"a salt", 4, 64)))),
    ("SADD", "gina:wacls", "w/#"), ("SADD", "gina:racls", "r"), ("SADD", "gina:rwacls", "rw/+"),
    ("SADD", "gina:sacls", "s/#"), ("SADD", "common:wacls", "all/%u"), ("SET", "boss", quick_hash("go")),
    ("SET", "boss:su", "true"))


@need_redis
def test_a_database_of_mosquitto_go_auth_is_read_as_it_is():
    with CASE.with_keys(*GO_AUTH):
        with CASE.broker(login_key="%u", login_layout="string", superuser_key="%u:su", acl_key=None, **{
                'acl "%s"' % key: {"key": key, "access": access} for key, access in (
                    ("%u:racls", "read"), ("%u:wacls", "publish"), ("%u:rwacls", "all"), ("%u:sacls", "subscribe"),
                    ("common:wacls", "publish"))}) as b:
            gina = b.connect(V5, username="gina", password="go")
            for topic, code in (("w/x", 0x10), ("rw/x", 0x10), ("all/gina", 0x10), ("r", 0x87), ("s/x", 0x87)):
                assert gina.publish(topic, "1", qos=1) == code, topic
            gina.subscribe(["s/x", "rw/x", "w/x"], codes=[0, 0, 0x87])
            b.connect(V5, username="boss", password="go").subscribe("#")
            for name in ("gina:su", "boss:su", "gina:wacls"):
                CASE.denied(b, name, "true")
            CASE.denied(b, "gina", "gone")


@need_redis
def test_nasty_topics_are_only_topics():
    with CASE.with_keys(LAYOUTS["set"]):
        with CASE.broker(login_key="mqtt:user:%u", acl_mode="check", acl_key="r:%u:%t") as b:
            alice = b.connect(V5, username="alice", password="wonder")
            for topic in ("x\r\nFLUSHALL", "'", "*", "a:b", "%u", "{x}", "ü", "x" * 60000):
                assert alice.publish(topic, "1", qos=1) == 0x87, topic
            alice.ping()
        assert CASE.server.ask("EXISTS", "mqtt:user:alice") == 1


# ---- answers that are none ------------------------------------------------------------------------

BULK = b"$%d\r\n%s\r\n"
ANSWERS = {
    "an error": b"-ERR what?\r\n",
    "a number": b":1\r\n",
    "a status": b"+OK\r\n",
    "nil": b"$-1\r\n",
    "a nil array": b"*-1\r\n",
    "an odd hash": b"*1\r\n$8\r\npassword\r\n",
    "a nested array": b"*2\r\n$8\r\npassword\r\n*1\r\n$1\r\nx\r\n",
    "nil in a hash": b"*2\r\n$8\r\npassword\r\n$-1\r\n",
    "deep arrays": b"*1\r\n" * 100,
    "the largest array": b"*2147483647\r\n",
    "many arrays": b"*20000\r\n" * 1000,
    "a huge text": b"*2\r\n$8\r\npassword\r\n$1000000000\r\n" + b"x" * 3000000,
    "the largest text": b"$9223372036854775807\r\n",
    "a negative length": b"$-7\r\n",
    "no number": b"*x\r\n",
    "garbage": b"HTTP/1.1 200 OK\r\n\r\n",
    "no end of line": b"+" + b"x" * 3000000,
    "twice the answer": b"*0\r\n*0\r\n",
    "a push nobody asked for": b"*3\r\n$7\r\nmessage\r\n$1\r\nx\r\n$1\r\nx\r\n" * 2,
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "moved nowhere": b"-MOVED 99999999 ::::\r\n",
    "a hash of another kind": b"*4\r\n$8\r\npassword\r\n$1\r\nx\r\n$1\r\n.\r\n$1\r\nx\r\n",
}
KNOWN = {"twice the answer": 0x87}  # the first one is good: nobody of that name


@each(what=tuple(ANSWERS))
def test_an_answer_that_makes_no_sense_is_trouble(what):
    with Scripted(ANSWERS[what]) as server:
        options = dict(QUICK, servers=["127.0.0.1:%d" % server.port], login_key="u:%u", cache=False, timeout="2s",
                       max_answer="1m", breaker_wait="10ms", breaker_max_wait="10ms")
        with Broker(listeners={"mqtt": {}}, plugins={"auth-redis": options}, workers=1) as b:
            codes = set()
            for _ in range(2):
                codes.add(Backend.code(b, "alice", "wonder"))
            assert codes <= {0x88, KNOWN.get(what, 0x88)}, codes
            b.held_nobody()


def test_a_server_that_refuses_at_once_is_tried_later():
    with Scripted(b"", greeting=b"-ERR max number of clients reached\r\n") as server:
        options = dict(QUICK, servers=["127.0.0.1:%d" % server.port], login_key="u:%u")
        with Broker(listeners={"mqtt": {}}, plugins={"auth-redis": options}) as b:
            b.wait_log(r"no connection to Redis at .*: PING: ERR max number of clients reached")
            wait_until(lambda: b.metric(METRIC % "connects_failed_total") > 2, "it tries again", TIMEOUT)


@need_redis
def test_a_key_of_another_type_is_trouble():
    with CASE.with_keys(("SET", "mqtt:user:wrong", "x"), ("SET", "mqtt:user:bob2:acl", "x"),
                        ("HSET", "mqtt:user:bob2", "password", quick_hash("x")),
                        ("HSET", "mqtt:user:bob3", "password", quick_hash("x")), ("SADD", "mqtt:user:bob3:acl", "alow all #")):
        with CASE.broker(breaker_failures=100) as b:
            for user in ("wrong", "bob2", "bob3"):
                assert CASE.code(b, user, "x") == 0x88, user
            b.wait_log(r"such lines come every ten seconds at most")
            assert len(b.log_lines(r"such lines come every ten seconds at most")) == 1
            CASE.allowed(b)


# ---- accounts, databases, places ------------------------------------------------------------------


@need_redis
def test_auth_select_and_a_unix_socket():
    s = Redis("--unixsocket", "redis.sock", password="s3cret-of-redis").start()
    try:
        with s.session() as r:
            r("ACL", "SETUSER", "grapnel", "on", ">s3cret-of-grapnel", "~mqtt:*", "+@read", "+select", "-ping")
            r("SELECT", 3)
            fill(r)
        options = dict(QUICK, database=3, login_key="mqtt:user:%u", acl_key="mqtt:user:%u:acl", cache=False,
                       servers=["unix:%s/redis.sock" % s.dir])
        for account in ({"password": "s3cret-of-redis"}, {"username": "grapnel", "password": "s3cret-of-grapnel"}):
            with Broker(listeners={"mqtt": {}}, plugins={"auth-redis": dict(options, **account)}) as b:
                CASE.allowed(b)
                assert "s3cret" not in "\n".join(b.log_lines()) + b.ctl("config").stdout
        for account in ({"password": "s3cret-of-others"}, {}, {"username": "nobody", "password": "s3cret-of-redis"}):
            with Broker(listeners={"mqtt": {}}, plugins={"auth-redis": dict(options, **account)}) as b:
                b.wait_log(r"no connection to Redis at unix:.*: (AUTH: WRONGPASS|SELECT: NOAUTH) ")
                CASE.unavailable(b)
                assert "s3cret" not in "\n".join(b.log_lines())
    finally:
        s.remove()


@need_redis
def test_the_next_server_of_the_list_is_tried():
    s = CASE.up()
    with Scripted(b"", greeting=b"-LOADING Redis is loading the dataset in memory\r\n") as loading:
        with CASE.broker(servers=["127.0.0.1:1", "127.0.0.1:%d" % loading.port, "localhost:%d" % s.port]) as b:
            CASE.recovers(b)


@need_redis
def test_several_connections_and_few_commands():
    CASE.up()
    with CASE.broker(connections=3, max_commands=1) as b:
        b.wait_metric(METRIC % "connections", 6)
        CASE.allowed(b)
        codes = set()
        clients = [b.client(V5) for _ in range(60)]
        for i, c in enumerate(clients):
            c.send_connect("few-%d" % i, username="alice", password="wonder")
        for c in clients:
            codes.add(c.expect(CONNACK).reason)
        assert codes <= {0, 0x88}, codes
        CASE.recovers(b)


@need_redis
def test_a_reload_takes_its_connections_with_it():
    s = CASE.up()
    before = int(s.ask("INFO", "clients").decode().split("connected_clients:")[1].split()[0])
    with CASE.broker() as b:
        CASE.allowed(b)
        for keep in ("300ms", "400ms"):
            b.configure(plugins={"auth-redis": CASE.plugin(command_timeout=keep)})
            b.reload()
            CASE.recovers(b)
        wait_until(lambda: int(s.ask("INFO", "clients").decode().split("connected_clients:")[1].split()[0]) == before + 2,
                   "connections of old instances", TIMEOUT)


# ---- TLS ------------------------------------------------------------------------------------------


@need_redis
def test_tls_to_whom_the_certificate_names_and_nobody_else():
    p = pki.get()
    s = Redis(tls=(p.server(), p.root.cert)).start()
    try:
        with s.session() as r:
            fill(r)
        client = p.root.issue("redis-client", cn="grapnel", usage="clientAuth")
        options = dict(QUICK, connect_timeout="5s", login_key="mqtt:user:%u", cache=False, tls=True, tls_ca=p.root.cert,
                       servers=["localhost:%d" % s.tls_port])

        def with_options(**changed):
            return Broker(listeners={"mqtt": {}}, plugins={"auth-redis": dict(options, **changed)})

        for good in ({}, {"servers": ["127.0.0.1:%d" % s.tls_port]},
                     {"tls_certificate": client.cert, "tls_private_key": client.key}):
            with with_options(**good) as b:
                CASE.recovers(b)
                CASE.allowed(b)
        for bad, why in (({"tls_ca": p.other.cert}, "certificate is not accepted: "),
                         ({"tls_ca": None}, "certificate is not accepted: "),
                         ({"tls_server_name": "elsewhere.test"}, "hostname mismatch"),
                         ({"servers": ["127.0.0.1:%d" % s.port], "connect_timeout": "500ms"}, "TLS")):
            with with_options(**bad) as b:
                b.wait_log(r"no connection to Redis at .*: .*%s" % why)
                CASE.unavailable(b)
        with with_options(tls_server_name="elsewhere.test", tls_verify="ca") as b:
            CASE.recovers(b)
        with with_options(tls_server_name="localhost") as b:
            CASE.recovers(b)
            big = "".join("allow all t/%d\n" % i for i in range(9000))  # many TLS records
            s.hash("mqtt:user:big", password=quick_hash("x"), acl=big[:60000])
            assert CASE.code(b, "big", "x") == 0
    finally:
        s.remove()


# ---- sentinels and clusters -----------------------------------------------------------------------


@need_redis
def test_sentinels_say_where_the_master_is():
    CASE.up()
    other, deaf = Filled().start(), Redis().start()
    sentinel = Sentinel(CASE.server, password="of-sentinel").start()
    try:
        with CASE.broker(servers=None, sentinels=["127.0.0.1:1", "127.0.0.1:%d" % sentinel.port], sentinel_master="mymaster",
                         sentinel_password="of-sentinel") as b:
            CASE.recovers(b)
            CASE.settled(b)
            # The old master becomes a replica, which closes nothing and would go on to answer.
            sentinel.watch(other)
            CASE.server.ask("REPLICAOF", "127.0.0.1", str(other.port))
            CASE.server.ask("CLIENT", "KILL", "TYPE", "normal")
            other.hash("mqtt:user:moved", password=quick_hash("x"))
            wait_until(lambda: CASE.code(b, "moved", "x") == 0, "the new master is found", TIMEOUT)
            # A sentinel that is behind: what it names is a replica.
            sentinel.watch(deaf)
            deaf.ask("REPLICAOF", "127.0.0.1", str(other.port))
            other.ask("CLIENT", "KILL", "TYPE", "normal")
            b.wait_log(r"Redis at .*:%d: the sentinels call it master, but it is none" % deaf.port)
            sentinel.watch(other)
            CASE.recovers(b)
        with CASE.broker(servers=None, sentinels=["127.0.0.1:%d" % sentinel.port], sentinel_master="unknown",
                         sentinel_password="of-sentinel") as b:
            b.wait_log(r'no connection to Redis: no sentinel says where the master "unknown" is')
            CASE.unavailable(b)
    finally:
        for s in (sentinel, other, deaf):
            s.remove()
        CASE.server.remove()
        CASE.server = None


def by_slot(nodes, r, key):
    slot = r("CLUSTER", "KEYSLOT", key)
    return slot, next(n for n in nodes if n.first <= slot <= n.last)


@need_redis
def test_a_cluster_says_where_keys_are():
    nodes = cluster(3)
    try:
        with nodes[0].session() as r:
            owners = set()
            for i in range(12):
                key = "u:user-%d" % i
                _, node = by_slot(nodes, r, key)
                owners.add(node)
                node.hash(key, password=quick_hash("x"))
            assert len(owners) == 3
            moved, holder = by_slot(nodes, r, "u:user-0")
        target = next(n for n in nodes if n is not holder)
        options = dict(QUICK, servers=["127.0.0.1:%d" % nodes[0].port], login_key="u:%u", cache=False, timeout="3s")
        with Broker(listeners={"mqtt": {}}, plugins={"auth-redis": dict(options, cluster=True)}, workers=1) as b:
            for _ in range(2):
                for i in range(12):
                    assert CASE.code(b, "user-%d" % i, "x") == 0, i
            learned = b.metric(METRIC % "redirects_total")
            assert 0 < learned <= 12
            CASE.denied(b, "user-0", "y")
            assert b.metric(METRIC % "redirects_total") == learned  # remembered
            b.wait_metric(METRIC % "connections", 3)
            # The slot is on its way, the key is there already: ASK, and nothing to remember.
            ids = {n: n.ask("CLUSTER", "MYID").decode() for n in nodes}
            target.ask("CLUSTER", "SETSLOT", str(moved), "IMPORTING", ids[holder])
            holder.ask("CLUSTER", "SETSLOT", str(moved), "MIGRATING", ids[target])
            holder.ask("MIGRATE", "127.0.0.1", str(target.port), "u:user-0", "0", "5000")
            for _ in range(2):
                assert CASE.code(b, "user-0", "x") == 0
            assert b.metric(METRIC % "redirects_total") == learned + 2
            # It has arrived: MOVED.
            for n in (target, holder):
                n.ask("CLUSTER", "SETSLOT", str(moved), "NODE", ids[target])
            for _ in range(2):
                assert CASE.code(b, "user-0", "x") == 0
            assert b.metric(METRIC % "redirects_total") == learned + 3
        with Broker(listeners={"mqtt": {}}, plugins={"auth-redis": options}, workers=1) as b:
            codes = {CASE.code(b, "user-%d" % i, "x") for i in range(12)}
            assert 0x88 in codes and codes <= {0, 0x88}, codes
            b.wait_log(r"the server is a node of a cluster; set cluster = yes")
    finally:
        for n in nodes:
            n.remove()


def test_nodes_that_send_from_one_to_another_end_somewhere():
    with Scripted(b"") as server:
        server.answer = b"-MOVED 1 127.0.0.1:%d\r\n" % server.port
        options = dict(QUICK, servers=["127.0.0.1:%d" % server.port], login_key="u:%u", cluster=True, cache=False)
        with Broker(listeners={"mqtt": {}}, plugins={"auth-redis": options}, workers=1) as b:
            assert CASE.code(b, "alice", "x") == 0x88
            assert b.metric(METRIC % "redirects_total") == 5


# ---- changes --------------------------------------------------------------------------------------


def listening(b):
    b.wait_metric(METRIC % "listening", 1)


@need_redis
def test_a_published_name_ends_the_rights_that_are_gone():
    s = CASE.up()
    with CASE.broker(purge_channel="mqtt:purge", cache=True) as b:
        listening(b)
        alice = b.connect(V5, "alice", username="alice", password="wonder")
        bob = b.connect(V5, "bob", username="bob", password="builder")
        root = b.connect(V5, "root", username="root", password="toor")
        alice.subscribe("alice/#")
        with s.session() as r:
            r("SREM", "mqtt:user:alice:acl", "allow subscribe %u/#")
            r("DEL", "mqtt:user:bob")
            root.publish("alice/x", "1", qos=1)
            alice.expect_message(topic="alice/x")
            assert r("PUBLISH", "mqtt:purge", "alice") == 1

            def ended():
                root.publish("alice/y", "2", qos=1)
                alice.ping()
                got, alice.put_aside = alice.put_aside, []
                return not got
            wait_until(ended, "the subscription lives on", TIMEOUT)
            bob.ping()
            r("PUBLISH", "mqtt:purge", "")
            bob.expect_close(0x87)
            alice.ping()
            fill(r)


@need_redis
def test_keyspace_events_and_what_was_missed():
    s = CASE.up()
    with s.session() as r:
        with CASE.broker(keyspace_events=True, cache=True) as b:
            listening(b)
            b.wait_log(r"keyspace_events = yes, but the server sends none")
        r("CONFIG", "SET", "notify-keyspace-events", "KA")
        with CASE.broker(keyspace_events=True, cache=True) as b:
            listening(b)
            mark = b.mark()
            alice = b.connect(V5, "alice", username="alice", password="wonder")
            bob = b.connect(V5, "bob", username="bob", password="builder")
            assert alice.publish("late/x", "1", qos=1) == 0x87
            r("SADD", "mqtt:user:alice:acl", "allow publish late/#")
            wait_until(lambda: alice.publish("late/x", "1", qos=1) in (0, 0x10), "the new right does not count", TIMEOUT)
            r("DEL", "mqtt:user:alice")
            alice.expect_close(0x87)
            bob.ping()
            # While nobody listens.
            with contextlib.suppress(RedisError):
                r("MULTI")
                r("CLIENT", "KILL", "TYPE", "pubsub")
                r("DEL", "mqtt:user:bob")
                r("EXEC")
            bob.expect_close(0x87)
            assert not b.log_lines("sends none", mark)
        fill(r)
        r("CONFIG", "SET", "notify-keyspace-events", "")


# ---- configuration --------------------------------------------------------------------------------

LOGIN = {"login_key": "u:%u"}
WRONG = (
    ({}, "there is nothing to do"),
    ({"login_key": "%p"}, "%p has no meaning here"),
    ({"login_key": ""}, "cannot be empty"),
    ({"acl_key": "a:%u"}, "set acl_mode = check"),
    ({"acl_key": "a:%u", "acl_mode": "check", "superuser_key": "s:%u"}, "without login_key"),
    (dict(LOGIN, acl_key="a:%t"), "%t has no meaning here"),
    (dict(LOGIN, key_names="raw", superuser_key="u:%u:su"), "end with its only place"),
    (dict(LOGIN, key_names="raw", superuser_key="u:su:%u"), "end with its only place"),
    (dict(LOGIN, servers=["a b"]), "is no address"),
    (dict(LOGIN, servers=["a:0"]), "is no address"),
    (dict(LOGIN, servers=[]), "no server"),
    (dict(LOGIN, sentinels=["a"]), "need each other"),
    (dict(LOGIN, sentinel_master="m"), "need each other"),
    (dict(LOGIN, sentinels=["a"], sentinel_master="m", servers=["b"]), "leave out servers"),
    (dict(LOGIN, cluster=True, database=1), "no database but number 0"),
    (dict(LOGIN, cluster=True, keyspace_events=True), "use purge_channel"),
    (dict(LOGIN, username="x"), "needs password"),
    (dict(LOGIN, tls_ca="/x"), "tls is no"),
    (dict(LOGIN, tls=True, tls_ca="/nonexistent"), "tls_ca cannot be used: No such file"),
    (dict(LOGIN, tls=True, tls_certificate="/x"), "need each other"),
    (dict(LOGIN, **{'acl "x"': {"layout": "hash", "access": "publish", "key": "y"}}), "only the members of a set or a list"),
)


def test_what_cannot_be_meant_is_an_error_of_the_configuration():
    b = Broker()
    try:
        for options, why in WRONG:
            b.configure(plugins={"auth-redis": options})
            r = run_grapneld("-t", "-c", b.conf, env=b.env)
            assert r.returncode != 0 and why in r.stdout + r.stderr, "%r\n%s%s" % (options, r.stdout, r.stderr)
    finally:
        b.remove()


def of_source(*path):
    with open(os.path.join(SRC, *path), encoding="utf-8") as f:
        return f.read()


def test_the_example_of_the_configuration_would_start():
    text = of_source("conf.d", "30-auth-redis.conf")
    b = Broker(extra=text.replace("enabled = no", "enabled = yes"))
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf, env=b.env)
        assert r.returncode == 0, r.stdout + r.stderr
    finally:
        b.remove()


@need_redis
def test_the_users_of_the_schema_can_have_passwords():
    with Redis().start().session() as r, CASE.broker(servers=["127.0.0.1:%d" % r.sock.getpeername()[1]],
                                                     acl_key="mqtt:acl:%u") as b:
        for line in of_source("plugins", "auth-redis", "schema.redis").splitlines():
            r(*shlex.split(line))
        CASE.denied(b, "alice", "wonder")
        for user in ("alice", "admin"):
            made = subprocess.run([GRAPNELCTL, "passwd", "--hash-only"], input="wonder\n", text=True, capture_output=True,
                                  check=True).stdout.rstrip("\n")
            r("HSET", "mqtt:user:" + user, "password", made)
        CASE.denied(b, "alice", "builder")
        alice = b.connect(V5, username="alice", password="wonder")
        alice.subscribe(["alice/#", "tenants/acme/#", "tenants/other/#"], codes=[0, 0, 0x87])
        b.connect(V5, username="admin", password="wonder").subscribe("#")
