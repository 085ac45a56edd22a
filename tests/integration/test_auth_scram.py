# SPDX-License-Identifier: Apache-2.0
"""auth-scram with a client of the test's own, and one password file for it and auth-file."""
import os
import subprocess

from lib import scram
from lib.broker import GRAPNELCTL, Broker, run_grapneld
from lib.case import broker, default_broker, each
from lib.mqtt import AUTH, CONNACK, PINGRESP, V311, V5, P
from lib.scram import CONTINUE, REAUTH, Exchange, again, credential, properties

S256, S512 = METHODS = ("SCRAM-SHA-256", "SCRAM-SHA-512")


def stored(method, password):
    """With salt of its own."""
    return credential(method, password, salt=os.urandom(16))


# alice comes either way and in plain text, bob with one method only, carol with none.
FILE = "".join("%s:%s\n" % line for line in (
    ("alice", stored(S256, "wonder")),
    ("alice", stored(S512, "wonder")),
    ("bob", stored(S512, "builder")),
    ("ünï=,", stored(S256, "pässwörd")),
    ("carol", "$7$1$c2FsdHNhbHRzYWx0$pAJ54u6NE8x86StgFYcBydmmZ7dkpFP5mJXjjQb6YhNfdxdiOBu+BpqkRC55FKz9Q28TfQH9tGZb+sOYVCz4gQ==")))
PLUGINS = {"auth-scram": {"order": 10, "password_file": "{dir}/passwd"},
           "auth-file": {"order": 20, "password_file": "{dir}/passwd"}}
OPTIONS = {"plugins": PLUGINS, "listeners": {"mqtt": {}}, "files": {"passwd": FILE}}

BROKER = default_broker(**OPTIONS)


def metric(name, plugin="auth-scram"):
    return 'grapnel_plugin_%s{plugin="%s"}' % (name, plugin)


def start(b, data, method=S256, username=None, client_id=None):
    """CONNECT with that Authentication Data. @return the client."""
    c = b.client(V5)
    c.send_connect(client_id or b.unique("c"), username=username, props=properties(method, data))
    return c


def send(c, data, method=S256, reason=CONTINUE):
    c.send_raw(P.auth(reason, properties(method, data)))


def challenged(b, x, **options):
    """@return client and challenge, which must come."""
    c = start(b, x.first, method=x.method, **options)
    p = c.expect(AUTH, reason=CONTINUE)
    assert p.prop(P.AUTH_METHOD) == x.method, p
    return c, p.prop(P.AUTH_DATA).decode()


def login(b, user, password, method=S256, **options):
    """@return client and CONNACK."""
    c = b.client(V5)
    c.client_id = b.unique("c")
    return c, scram.login(c, method, user, password, c.client_id, **options)


def refused(b, user, password, **options):
    c, p = login(b, user, password, **options)
    assert (p.reason, p.prop(P.REASON_STRING)) == (0x87, "authentication failed"), p
    c.expect_close()
    return p


@each(method=METHODS)
def test_the_right_password_lets_in_a_wrong_one_does_not(b, method):
    for header in ("n,,", "y,,", "n,a=alice,"):
        c, p = login(b, "alice", "wonder", method, header=header)
        assert p.reason == 0, p
    c.ping()
    info = b.ctl_json("clients", "show", c.client_id)
    assert info["username"] == "alice", info
    for wrong in ("wonde", "Wonder", "wonder ", "", "builder"):
        refused(b, "alice", wrong, method=method)


def test_names_and_passwords_are_utf_8(b):
    _, p = login(b, "ünï=,", "pässwörd")
    assert p.reason == 0, p
    refused(b, "ünï=,", "passwort")


def test_the_user_name_of_connect_is_the_one_of_the_exchange(b):
    c, p = login(b, "alice", "wonder", username="alice")
    assert p.reason == 0, p
    for other in ("bob", "Alice", "", "alice "):
        c = start(b, Exchange(S256, "alice", "wonder").first, username=other)
        c.expect(CONNACK, reason=0x87)
        c.expect_close()


def test_one_password_file_serves_both_plugins(b):
    for v in (V311, V5):
        b.connect(v, username="alice", password="wonder").ping()
        b.client(v).connect(b.unique("c"), reason=0x87 if v == V5 else 5, username="alice", password="wonde")
    b.connect(V5, username="bob", password="builder").ping()


def test_what_grapnelctl_writes_is_understood():
    with Broker(**dict(OPTIONS, files={"passwd": ""})) as b:
        def passwd(*args, stdin):
            subprocess.run([GRAPNELCTL, "passwd", *args], input=stdin, text=True, check=True, stdout=subprocess.DEVNULL)

        passwd("set", "--scheme", "scram-sha-512,scram-sha-256", b.path("passwd"), "alice", stdin="s3cret\n")
        passwd("batch", "--scheme", "scram-sha-256", b.path("passwd"), stdin="bob:a:b\ncarol:c\n")
        b.reload()
        for method in METHODS:
            assert login(b, "alice", "s3cret", method)[1].reason == 0
        assert login(b, "bob", "a:b")[1].reason == 0
        b.connect(V311, username="alice", password="s3cret").ping()
        # another password: nothing of the old one is left, in no line
        passwd("set", "--scheme", "scram-sha-256", b.path("passwd"), "alice", stdin="other\n")
        b.reload()
        for method in METHODS:
            refused(b, "alice", "s3cret", method=method)
        assert login(b, "alice", "other")[1].reason == 0
        b.client(V311).connect("old", reason=5, username="alice", password="s3cret")


def challenge_parts(b, user, method):
    """Salt and iterations of a challenge."""
    c, challenge = challenged(b, Exchange(method, user, "x", nonce="abc"))
    c.close()
    return challenge.split(",")[1:]


def test_who_does_not_exist_is_not_told_from_who_does():
    with Broker(**OPTIONS) as b:
        before = {}
        for method, users in ((S256, ("alice", "nobody", "bob", "carol")), (S512, ("bob", "nobody", "carol"))):
            for user in users:
                before[method, user] = challenge_parts(b, user, method)
                assert challenge_parts(b, user, method) == before[method, user], "the same each time"
                refused(b, user, "wrong", method=method)
        assert len({tuple(x) for x in before.values()}) == len(before), before  # everyone's own
        assert len({(len(salt), i) for salt, i in before.values()}) == 1, before
        b.stop()
        b.start()
        for (method, user), parts in before.items():
            assert challenge_parts(b, user, method) == parts, "%s %s after a restart" % (method, user)
        b.stop()


FIRST = (None, b"", b"n", b"n,,", b"n,,n=alice", b"n,,n=alice,r=", b"n,,r=x,n=alice", b"p=tls-unique,,n=alice,r=x",
         b"n,,m=x,n=alice,r=x", b"n,a=bob,n=alice,r=x", b"n,,n=al\0ice,r=x", b"n,,n=\xff,r=x", b"n,,n=a=b,r=x",
         b"n,,n=alice,r=a b", b"n,,n=alice,r=x,", b"x" * 60000, b"n,,n=alice,r=" + b"x" * 60000,
         b"n,,n=" + b"x" * 60000 + b",r=x", b"n,,n=alice,r=" + b"x" * 2048)


def test_a_malformed_first_message_is_a_refusal(b):
    before = b.metric(metric("malformed_total"))
    for first in FIRST:
        c = start(b, first)
        c.expect(CONNACK, reason=0x87)
        c.expect_close()
    assert b.metric(metric("malformed_total")) == before + len(FIRST)
    assert login(b, "alice", "wonder")[1].reason == 0


def test_a_malformed_last_message_is_a_refusal(b):
    def replace(**changes):
        def change(final):
            parts = dict(x.split("=", 1) for x in final.split(","))
            parts.update(changes)
            return ",".join("%s=%s" % p for p in parts.items())
        return change

    for change in (lambda f: None, lambda f: "", lambda f: "x" * 60000, lambda f: f[:-1], lambda f: f + ",x=y",
                   lambda f: f.split(",p=")[0], lambda f: f + "\0", replace(c="eSws"), replace(r="abc"), replace(p=""),
                   replace(p="AAAA"), replace(p="A" * 88), lambda f: f.replace(",r=", ",R=")):
        x = Exchange(S256, "alice", "wonder")
        c, challenge = challenged(b, x)
        send(c, change(x.final(challenge)))
        c.expect(CONNACK, reason=0x87)
        c.expect_close()


def test_long_nonces(b):
    for n in (1, 100, 1000, 1900):
        assert login(b, "alice", "wonder", nonce="~" * n)[1].reason == 0


def test_a_proof_is_good_for_one_exchange(b):
    x = Exchange(S256, "alice", "wonder", nonce="mine")
    c, challenge = challenged(b, x)
    final = x.final(challenge)
    d, other = challenged(b, Exchange(S256, "alice", "wonder", nonce="mine"))
    assert other != challenge
    send(d, final)
    d.expect(CONNACK, reason=0x87)
    send(c, final)
    c.expect(CONNACK, reason=0)


@each(method=("SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256", "PLAIN"))
def test_another_method_is_0x8c(b, method):
    c = start(b, b"n,,n=alice,r=x", method=method)
    c.expect(CONNACK, reason=0x8C)
    c.expect_close()


@broker(limits={"connect_timeout": "500ms", "auth_timeout": "500ms"}, **OPTIONS)
def test_an_exchange_left_half_way_is_forgotten(b):
    left = [challenged(b, Exchange(S256, user, "x"))[0] for user in ("alice", "nobody", "alice")]
    b.wait_metric(metric("exchanges"), lambda n: n <= 3)
    left[0].close()
    left[1].send_raw(P.disconnect(V5))
    left[1].expect_close()
    left[2].expect(CONNACK, reason=0x87)  # its time is over
    b.wait_metric(metric("exchanges"), 0)


def test_two_exchanges_for_one_client_id(b):
    name, x, y = b.unique("c"), Exchange(S256, "alice", "wonder"), Exchange(S512, "bob", "builder")
    one, challenge = challenged(b, x, client_id=name)
    two, other = challenged(b, y, client_id=name)
    send(one, x.final(challenge))
    one.expect(CONNACK, reason=0)
    send(two, y.final(other), S512)
    two.expect(CONNACK)
    two.close()


# ---- re-authentication --------------------------------------------------------------------------


@each(method=METHODS)
def test_re_authentication(b, method):
    c, p = login(b, "alice", "wonder", method, username="alice")
    assert p.reason == 0
    for _ in range(2):
        assert again(c, method, "alice", "wonder").type == AUTH
        c.ping()
    p = again(c, method, "alice", "wonde")
    assert (p.reason, p.prop(P.REASON_STRING)) == (0x87, "authentication failed"), p
    c.expect_close()


def test_re_authentication_as_another_user_is_refused(b):
    c, _ = login(b, "alice", "wonder", S512)
    assert again(c, S512, "bob", "builder").reason == 0x87
    c.expect_close()


def test_packets_flow_during_re_authentication(b):
    c, _ = login(b, "alice", "wonder")
    x = Exchange(S256, "alice", "wonder")
    send(c, x.first, reason=REAUTH)
    challenge = c.expect(AUTH, reason=CONTINUE).prop(P.AUTH_DATA).decode()
    c.ping()
    c.send_raw(P.auth(CONTINUE, properties(S256, x.final(challenge))) + b"\xc0\x00")
    c.expect(AUTH, reason=0)
    c.expect(PINGRESP)
    send(c, x.first, reason=REAUTH)
    c.expect(AUTH, reason=CONTINUE)
    c.close()  # half way, and gone
    b.wait_metric(metric("exchanges"), 0)


# ---- files and chains ---------------------------------------------------------------------------


def test_an_exchange_that_a_reload_interrupts_is_to_be_tried_again():
    with Broker(**OPTIONS) as b:
        x = Exchange(S256, "alice", "wonder")
        c, challenge = challenged(b, x)
        b.reload()
        send(c, x.final(challenge))
        assert c.expect(CONNACK).reason in (0, 0x88)  # the old instance may still have it
        assert login(b, "alice", "wonder")[1].reason == 0


def test_who_is_taken_out_of_the_file_is_disconnected():
    with Broker(**OPTIONS) as b:
        c, _ = login(b, "alice", "wonder")
        d, _ = login(b, "bob", "builder", S512)
        b.write("passwd", "".join(x for x in FILE.splitlines(True) if not x.startswith("bob")))
        b.reload()
        d.expect_close(0x87)
        c.ping()


def test_pass_unknown_asks_the_next_plugin():
    plugins = {"auth-scram": dict(PLUGINS["auth-scram"], pass_unknown=True),
               "more": {"module": "auth-scram", "order": 11, "password_file": "{dir}/more"}}
    more = "dora:%s\nalice:%s\n" % (stored(S256, "explorer"), stored(S256, "other"))
    with Broker(**dict(OPTIONS, plugins=plugins, files={"passwd": FILE, "more": more})) as b:
        c, p = login(b, "dora", "explorer")
        assert p.reason == 0
        assert again(c, S256, "dora", "explorer").type == AUTH  # of the instance that let it in
        assert login(b, "alice", "wonder")[1].reason == 0
        refused(b, "alice", "other")
        refused(b, "nobody", "x")


def test_a_file_with_a_fault_is_refused_with_its_line():
    for line, what in (("alice:SCRAM-SHA-256$4096:c2FsdA==$AAAA:AAAA", "malformed"),
                       ("alice:" + stored(S256, "x"), "line 1 already")):
        b = Broker(**dict(OPTIONS, files={"passwd": "alice:%s\n%s\n" % (stored(S256, "x"), line)}))
        try:
            r = run_grapneld("-t", "-c", b.configure().conf)
            assert r.returncode != 0 and "/passwd:2: " in r.stderr and what in r.stderr, r
        finally:
            b.remove()


@broker(**dict(OPTIONS, files={"passwd": "carol:$7$1$c2FsdHNhbHRzYWx0$%s\n" % FILE.rsplit("$", 1)[1].strip()}))
def test_a_file_without_scram_is_warned_about(b):
    b.wait_log("no SCRAM credential")
    refused(b, "carol", "x")
