# SPDX-License-Identifier: Apache-2.0
"""Who a listener vouches for: the plugin tls-identity, auth-file's identity_login, and %{cert.cn} in rules."""
from lib.broker import TIMEOUT, Broker
from lib.case import each
from lib.s_client import Authority, SClient, psk

KEY = "00112233445566778899aabbccddeeff"


class Case:
    """A broker with a certificate of its own and an authority for clients."""

    def __init__(self, plugins=None, identity="cn", mtls=None, **options):
        self.b = b = Broker(
            listeners={
                "mqtt": {"anonymous": True},
                "mtls": dict({"tls": True, "certificate": "{dir}/server.pem",
                              "private_key": "{dir}/server.key", "client_ca": "{dir}/ca.pem",
                              "client_certificate": "optional", "identity": identity},
                             **(mtls or {})),
                "psk": {"tls": True, "psk_file": "{dir}/keys"},
                "unix": {"bind": "unix:{dir}/mqtt.sock", "identity": "peer"},
            }, plugins=plugins, files={"keys": "device:%s\n" % KEY}, **options)
        self.authority = Authority(b.dir)
        self.authority.issue("server")

    def __enter__(self):
        self.b.start()
        return self

    def __exit__(self, kind, *unused):
        try:
            self.b.close_clients()
            if kind is None:
                self.b.stop()
        finally:
            self.b.remove()

    def client(self, *args, listener="mtls"):
        c = SClient(self.b.address(listener), *args)
        self.b.clients.append(c)
        return c

    def certified(self, cn, **names):
        certificate, key = self.authority.issue(cn, **names)
        return self.client("-cert", certificate, "-key", key)

    def username(self, client_id):
        return self.b.ctl_json("clients", "show", client_id).get("username")


def refused(c, **options):
    c.send_connect("refused", **options)
    c.expect(2, reason=0x87)


# ---- tls-identity ------------------------------------------------------------------------------

def test_a_certificate_is_enough():
    with Case({"tls-identity": {"order": 15}}) as t:
        t.certified("alice").connect("a")
        t.certified("bob").connect("b", username="alice", password="x")
        if (t.username("a"), t.username("b")) != ("alice", "bob"):
            raise AssertionError(t.username("b"))
        refused(t.client())  # no certificate: nobody vouches
        refused(t.client(), username="alice", password="x")


def test_a_key_is_enough():
    with Case({"tls-identity": {}}) as t:
        t.client(psk("device", KEY), listener="psk").connect("a")
        if t.username("a") != "device":
            raise AssertionError(t.username("a"))


@each(sources=(["psk"], ["peer", "proxy", "handler"]))
def test_sources_say_whose_word_counts(sources):
    with Case({"tls-identity": {"sources": sources}}) as t:
        refused(t.certified("alice"))
        c = t.client(psk("device", KEY), listener="psk")
        if "psk" in sources:
            c.connect("a")
        else:
            refused(c)


def test_a_source_that_is_taken_away():
    """Whoever came in by it has to go."""
    with Case({"tls-identity": {}}) as t:
        a, d = t.certified("alice"), t.client(psk("device", KEY), listener="psk")
        a.connect("a")
        d.connect("d")
        t.b.configure(plugins={"tls-identity": {"sources": ["certificate"]}})
        t.b.reload()
        d.expect_close(0x87)
        a.ping()


@each(sources=(["certificate", "fingerprint"], []))
def test_sources_that_make_no_sense_are_refused(sources):
    t = Case({"tls-identity": {"sources": sources}})
    try:
        t.b.start(wait=False)
        if t.b.wait_exit(TIMEOUT) == 0:
            raise AssertionError("it started")
        text = "fingerprint" if sources else "there is nothing to do"
        if not t.b.log_lines(r'grapnel\.conf:\d+: plugin "tls-identity": .*' + text):
            raise AssertionError("\n".join(t.b.log_lines()))
    finally:
        t.b.remove()


# ---- auth-file -----------------------------------------------------------------------------------

def test_a_certificate_and_an_account():
    with Case({"auth-file": {"identity_login": True}}, users={"alice": "secret"}) as t:
        t.certified("alice").connect("a")
        refused(t.certified("bob"))  # a good certificate, and no account
        t.certified("alice").connect("b", username="alice", password="secret")
        refused(t.certified("alice"), username="alice", password="wrong")
        refused(t.client(), username="alice")  # an account, and nobody who vouches
        t.client().connect("c", username="alice", password="secret")
        # Deleted: the certificate alone is not enough any more.
        c = t.certified("alice")
        c.connect("d")
        t.b.passwd_file({"carol": "x"})
        t.b.reload()
        c.expect_close(0x87)


def test_a_certificate_alone_is_not_enough_by_default():
    with Case({}, users={"alice": "secret"}) as t:
        refused(t.certified("alice"))
        t.certified("alice").connect("a", password="secret", username="alice")


def test_identity_login_works_for_keys():
    with Case({"auth-file": {"identity_login": True}}, users={"device": "x"}) as t:
        t.client(psk("device", KEY), listener="psk").connect("a")


# ---- attributes of the connection in rules ---------------------------------------------------------

ACL = "pattern readwrite devices/%u/#\n"
RULES = ("allow all devices/%{cert.cn}/#\n"
         "allow all hosts/%{cert.dns}/#\n"
         "allow all issued/%{cert.issuer}/#\n")


@each(identity=("cn", "san", "subject"))
def test_rules_know_the_certificate(identity):
    with Case({"tls-identity": {}}, identity=identity, rules=RULES) as t:
        c = t.certified("alice", san="DNS:alice.example.org")
        c.connect("a")
        c.subscribe(["devices/alice/#", "hosts/alice.example.org/#", "issued/CN=ca/#"])
        c.subscribe("devices/bob/#", codes=[0x87])
        c.subscribe("devices/a/#", codes=[0x87])
        if c.publish("devices/alice/x", b"1", qos=1) != 0:
            raise AssertionError("refused")
        c.expect_message("devices/alice/x", b"1")
        if c.publish("devices/bob/x", b"1", qos=1) != 0x87:
            raise AssertionError("allowed")


def test_what_a_certificate_lacks_matches_nothing():
    with Case({"tls-identity": {}}, rules=RULES) as t:
        c = t.certified("alice")
        c.connect("a")
        c.subscribe("hosts//#", codes=[0x87])
        c.subscribe("hosts/+/#", codes=[0x87])


def test_wildcards_in_a_certificate_stand_for_themselves():
    with Case({"tls-identity": {}}, rules=RULES) as t:
        c = t.certified("plus", subject="/CN=\\+")
        c.connect("a")
        c.subscribe("devices/alice/x", codes=[0x87])
        if c.publish("devices/alice/x", b"1", qos=1) != 0x87:
            raise AssertionError("allowed")


def test_a_login_cannot_replace_what_the_certificate_says():
    with Case({"verdict": {"client_authenticate": "allow", "attribute": "cert.cn=admin"}},
              rules=RULES) as t:
        c = t.certified("alice")
        c.connect("a")
        c.subscribe("devices/alice/#")
        c.subscribe("devices/admin/#", codes=[0x87])
        plain = t.client()  # without a certificate it does not get one by this
        plain.connect("p")
        plain.subscribe("devices/admin/#", codes=[0x87])


def test_mosquittos_acl_file_goes_by_the_name_in_the_certificate():
    with Case({"tls-identity": {}}, acl=ACL) as t:
        c = t.certified("alice")
        c.connect("a")
        if c.publish("devices/alice/x", b"1", qos=1) != 0x10:  # allowed, and nobody subscribes
            raise AssertionError("refused")
        if c.publish("devices/bob/x", b"1", qos=1) != 0x87:
            raise AssertionError("allowed")
