# SPDX-License-Identifier: Apache-2.0
"""auth-ldap against slapd, and against peers that are none."""
import concurrent.futures
import os
import re
import shutil
import socket
import struct
import subprocess
import threading

from lib import pki, slapd
from lib.backend import USERS, Backend
from lib.broker import FACTOR, TIMEOUT, Broker, run_grapneld
from lib.case import Skip, each
from lib.hooks import eventually
from lib.mqtt import *  # noqa: F401,F403
from lib.relay import Relay, Script
from lib.server import Mute
from lib.slapd import GROUPS, PEOPLE, SERVICE, SERVICE_PASSWORD, entry, group, person

UID = "uid=%s," + PEOPLE
MODES = ("search", "bind")
WORKERS = 2
# Names with all that means something in a DN or a filter, as they stand in a DN.
ODD = {'Smith, "J"+x\\y;<z>': 'Smith\\2C \\22J\\22\\2Bx\\5Cy\\3B\\3Cz\\3E', "#7 a=b": "\\237 a\\3Db", "(a*)b|c&d!": "(a*)b|c&d!",
       "\u00fcn\u00ef": "\u00fcn\u00ef"}


class Directory(slapd.Slapd):
    people = "".join([
        person("alice", "wonder", departmentNumber="acme"), person("bob", "builder"), person("root", "toor"),
        person("mapped", "pw", departmentNumber="t2", mqttAcl=["allow all x/#", "deny publish x/secret"], mqttSuperuser="FALSE",
               mqttMountpoint="mp/", mqttMessageRate="1000", title="engineer"),
        person("super", "pw", mqttSuperuser="TRUE"), person("expired", "pw", mqttValidUntil="2001-01-01 00:00:00Z"),
        person("many", "pw", departmentNumber=["a", "b"]), person("badrule", "pw", mqttAcl="grant everything"),
        person("nopassword", None), person("emptyhash", None, description="x"),
        person("twin", "pw"), entry("ou=other,dc=test", "organizationalUnit", ou="other"),
        person("twin", "pw", base="ou=other,dc=test"),
        entry("ou=hidden,dc=test", "organizationalUnit", ou="hidden"), person("shy", "pw", base="ou=hidden,dc=test"),
    ] + [person(name, "odd", dn="uid=%s,%s" % (dn, PEOPLE)) for name, dn in ODD.items()])
    groups = group("readers", UID % "alice") + group("Staff", UID % "root", UID % "bob") + group("root", UID % "root")


class Ldap(Backend):
    instance = "auth-ldap"
    mode = "search"

    def up(self):
        if slapd.MISSING:
            raise Skip("%s is not installed" % slapd.MISSING)
        return super().up()

    def options(self):
        common = {
            "servers": [self.server.url], "reconnect_max": "1s", "network_timeout": "1s",
            "attributes": ["departmentNumber=tenant"],
            # Written as nobody would, but the same names.
            'group "CN=readers, %s"' % GROUPS: {
                "rules": ["deny read shared/#", "allow read %u/#", "allow subscribe %u/#",
                          "allow subscribe shared/%{tenant}/#"]},
            'group "cn=root,%s"' % GROUPS: {"superuser": True},
            'group "cn=staff,%s"' % GROUPS: {"set": ["role=staff"]},
            "rules": ["allow publish %u/#", "allow publish role/%{role}"],
        }
        return dict(common, **(self.by_bind() if self.mode == "bind" else self.by_search()))

    @staticmethod
    def by_bind():
        return {"bind_dn": "uid=%u," + PEOPLE}

    @staticmethod
    def by_search():
        return {"service_dn": SERVICE, "service_password": SERVICE_PASSWORD, "search_base": PEOPLE}

    def settled(self, b):
        """No more connections than it may have, and nobody waits."""
        eventually(lambda: gauge(b, "waiting") == 0, "nobody waits")
        assert 1 <= gauge(b, "connections") <= WORKERS * (4 + 2), gauge(b, "connections")


def gauge(b, name):
    return sum(v for k, v in b.metrics().items() if k.startswith("grapnel_plugin_%s{" % name))


CASE = Ldap(Directory)


def in_mode(mode):
    CASE.mode = mode
    CASE.up()
    return CASE


@each(mode=MODES)
def test_logins(mode):
    in_mode(mode).logins()


@each(mode=MODES)
def test_rights(mode):
    in_mode(mode).rights()


@each(mode=MODES)
def test_nasty_names(mode):
    in_mode(mode).nasty_names()


# ---- outages ------------------------------------------------------------------------------------


@each(mode=MODES)
def test_the_broker_starts_without_its_directory(mode):
    in_mode(mode).stopped_before_start()


@each(mode=MODES)
def test_it_is_killed_under_load(mode):
    in_mode(mode).killed_under_load()


@each(mode=MODES)
def test_it_hangs(mode):
    in_mode(mode).timeout = "1s"
    try:
        CASE.hung()
    finally:
        CASE.timeout = Ldap.timeout


@each(how=(("ldap", "search"), ("ldap", "bind"), ("ldaps", "search"), ("starttls", "bind")))
def test_somebody_who_listens_and_says_nothing(how):
    scheme, mode = how
    in_mode(mode).mute(servers=lambda port: ["%s://127.0.0.1:%d" % ("ldaps" if scheme == "ldaps" else "ldap", port)],
                       starttls=scheme == "starttls", tls_ca=CASE.server.ca)


# ---- who somebody is ----------------------------------------------------------------------------


@each(mode=MODES)
def test_an_empty_password_never_reaches_a_bind(mode):
    with in_mode(mode).broker() as b:
        CASE.allowed(b)
        before = gauge(b, "binds_total")
        for v in (V311, V5):
            CASE.denied(b, "alice", "", v)
            CASE.denied(b, "alice", None, v)
        assert gauge(b, "binds_total") == before
        CASE.allowed(b)
        assert gauge(b, "binds_total") == before + 1
        for user in ("nopassword", "emptyhash"):
            for password in ("", "x", "\0"):
                CASE.denied(b, user, password)


@each(mode=MODES)
def test_names_with_all_that_means_something_in_dn_and_filter(mode):
    with in_mode(mode).broker() as b:
        for name in ODD:
            assert CASE.code(b, name, "odd") == 0, name
            CASE.denied(b, name, "wonder")
        for name in ("*)(uid=*", "alice)(objectClass=*", "alice,ou=people", "alice+cn=alice", "\\61lice", "\\2aalice", "a*", "*",
                     "alice)(|(uid=alice", "alice\\", "#alice", " alice", "alice ", "ALICE", "Alice", "alice\u0301", "#616c696365"):
            for password in ("wonder", "odd", "toor"):
                CASE.denied(b, name, password)
        CASE.allowed(b)


@each(mode=MODES)
def test_the_case_of_a_name_counts_unless_told_otherwise(mode):
    with in_mode(mode).broker(exact_username=False, attributes=["uid=username", "departmentNumber=tenant"]) as b:
        c = b.connect(V5, username="ALICE", password="wonder")
        # It is called what the directory calls it.
        c.subscribe("alice/x", qos=1)
        c.subscribe("ALICE/x", qos=1, codes=[0x87])
        CASE.denied(b, "ALICE", "Wonder")


def test_more_than_one_entry_is_nobody():
    with in_mode("search").broker(search_base="dc=test") as b:
        CASE.allowed(b)
        mark = b.mark()
        CASE.denied(b, "twin", "pw")
        CASE.denied(b, "twin", "pw")
        b.wait_log("search_filter finds more than one entry", since=mark)
        CASE.allowed(b)
        b.wait_log("more than one entry", since=mark)
        assert len(b.log_lines("more than one entry", since=mark)) == 1


def test_the_scope_of_the_search():
    with in_mode("search").broker(search_base="dc=test", search_scope="one") as b:
        CASE.denied(b, "alice", "wonder")
    with CASE.broker(search_base="uid=%u," + PEOPLE, search_filter="(objectClass=inetOrgPerson)", search_scope="base",
                     exact_username=False) as b:
        CASE.allowed(b)
        CASE.denied(b, "alice,ou=people", "wonder")  # a place that is not there
        CASE.denied(b, "nobody", "wonder")


def test_a_search_base_that_is_not_there_is_trouble_not_an_unknown_user():
    with in_mode("search").broker(search_base="ou=nowhere,dc=test") as b:
        CASE.unavailable(b)
        b.wait_log("the search for a user is answered with 32")


def test_the_account_that_searches_is_refused():
    with in_mode("search").broker(service_password="a wrong secret") as b:
        CASE.unavailable(b)
        b.wait_log("cannot be used: it refuses service_dn with service_password: Invalid credentials")
        assert not b.log_lines("a wrong secret")
        assert not b.log_lines("wonder")


@each(mode=MODES)
def test_no_password_is_in_the_log(mode):
    with in_mode(mode).broker() as b:
        CASE.allowed(b)
        CASE.denied(b, "alice", "not the secret word")
        config = b.ctl("config").stdout
        for secret in ("wonder", "not the secret word", SERVICE_PASSWORD):
            assert not b.log_lines(re.escape(secret)), secret
            assert secret not in config


def test_an_entry_is_enough_where_another_plugin_checks_who_it_is():
    users = {"alice": "of the file", "stranger": "of the file"}
    with in_mode("search").broker(users=users, check_password=False, order=30) as b:
        # auth-file lets in whom it knows; the directory whoever it knows, with whatever password.
        assert CASE.code(b, "bob", "anything") == 0
        CASE.denied(b, "nobody", "anything")


# ---- what it may do -----------------------------------------------------------------------------

MAPPED = ["departmentNumber=tenant", "title=job", "mqttAcl=acl", "mqttSuperuser=superuser", "mqttMountpoint=mountpoint",
          "mqttValidUntil=valid_until", "mqttMessageRate=message_rate"]


@each(mode=MODES)
def test_what_the_entry_says_counts(mode):
    rules = ["allow publish jobs/%{job}/%{tenant}"]
    with in_mode(mode).broker(attributes=MAPPED, rules=rules) as b:
        c = b.connect(V5, username="mapped", password="pw")
        assert c.publish("x/1", "1", qos=1) in (0, 0x10)
        assert c.publish("x/secret", "1", qos=1) == 0x87  # whatever the order of the values
        assert c.publish("jobs/engineer/t2", "1", qos=1) in (0, 0x10)
        assert c.publish("jobs/engineer/t1", "1", qos=1) == 0x87
        boss = b.connect(V5, username="super", password="pw")
        boss.subscribe("#", qos=1)
        c.publish("x/2", "mine", qos=1)
        boss.expect_message(topic="mp/x/2", payload="mine")
        assert CASE.code(b, "expired", "pw") == 0x87  # the time is over
        for user in ("many", "badrule"):  # what cannot be understood lets nobody in, and is no wrong password
            assert CASE.code(b, user, "pw") == 0x88, user
        b.wait_log("attribute departmentNumber has 2 values")
        b.wait_log("what the directory says of a user cannot be used")


@each(mode=MODES)
def test_groups_by_a_search(mode):
    with in_mode(mode).broker(group_base=GROUPS, group_filter="(member=%{dn})") as b:
        alice = b.connect(V5, username="alice", password="wonder")
        alice.subscribe("shared/acme/x", qos=1)
        bob = b.connect(V5, username="bob", password="builder")
        bob.subscribe("bob/x", qos=1, codes=[0x87])
        assert bob.publish("role/staff", "x", qos=1) in (0, 0x10)
        assert alice.publish("role/staff", "x", qos=1) == 0x87
        b.connect(V5, username="root", password="toor").subscribe("#", qos=1)
        assert CASE.code(b, 'Smith, "J"+x\\y;<z>', "odd") == 0  # its DN in a filter
        assert CASE.code(b, "(a*)b|c&d!", "odd") == 0


def test_too_many_groups_are_trouble():
    with in_mode("search").broker(group_base=GROUPS, group_filter="(objectClass=groupOfNames)", max_groups=2) as b:
        CASE.unavailable(b)
    with CASE.broker(max_groups=1) as b:
        CASE.unavailable(b, "root")
        CASE.allowed(b, "alice")


@each(mode=MODES)
def test_a_group_can_be_required(mode):
    with in_mode(mode).broker(require_group=True) as b:
        CASE.allowed(b)
        CASE.denied(b, "twin", "pw")


def test_who_was_removed_and_what_was_taken_away_counts_for_those_who_are_connected():
    CASE.up()
    CASE.server.modify(person("carol", "c") + person("dave", "d"), "-a")
    member = "dn: cn=readers,%s\nchangetype: modify\n%s: member\nmember: %s\n"
    CASE.server.modify(member % (GROUPS, "add", UID % "carol"))
    with in_mode("search").broker() as b:
        carol = b.connect(V5, username="carol", password="c")
        dave = b.connect(V5, username="dave", password="d")
        root = b.connect(V5, username="root", password="toor")
        carol.subscribe("carol/#", qos=1)
        root.publish("carol/1", "1", qos=1)
        carol.expect_message(topic="carol/1")
        CASE.server.modify(member % (GROUPS, "delete", UID % "carol"))
        CASE.server.modify("dn: %s\nchangetype: delete\n" % (UID % "dave"))
        b.ctl("cache", "purge")
        dave.expect_close(0x87)
        eventually(lambda: lost_right(root, carol), "carol gets nothing any more")
        assert carol.publish("carol/2", "x", qos=1) in (0, 0x10)  # that is everybody's
        CASE.denied(b, "dave", "d")
    CASE.server.modify("dn: %s\nchangetype: delete\n" % (UID % "carol"))


def lost_right(publisher, subscriber):
    publisher.publish("carol/probe", "x", qos=1)
    return subscriber.poll(0.2) is None


# ---- connections --------------------------------------------------------------------------------


@each(scheme=("ldaps", "starttls"), mode=MODES)
def test_tls_with_the_right_certificate(scheme, mode):
    url = in_mode(mode).server.tls_url if scheme == "ldaps" else CASE.server.url
    with CASE.broker(servers=[url], starttls=scheme == "starttls", tls_ca=CASE.server.ca) as b:
        for user in USERS:
            CASE.allowed(b, user)
        CASE.denied(b, "alice", "wrong")


@each(scheme=("ldaps", "starttls"), what=("another authority", "another name"))
def test_tls_with_the_wrong_certificate(scheme, what):
    in_mode("search")
    port = CASE.server.tls_port if scheme == "ldaps" else CASE.server.port
    host, ca = ("127.0.0.1", pki.get().other.cert) if what == "another authority" else ("127.0.0.2", CASE.server.ca)
    relay = None if what == "another authority" else Elsewhere(host, port)
    try:
        url = "%s://%s:%d" % ("ldaps" if scheme == "ldaps" else "ldap", host, relay.port if relay else port)
        changed = {"servers": [url], "starttls": scheme == "starttls", "tls_ca": ca}
        with CASE.broker(**changed) as b:
            CASE.unavailable(b)
            b.wait_log("cannot be used: the handshake of TLS, or the certificate of the server")
            assert gauge(b, "binds_total") == 0
        with CASE.broker(tls_verify=False, **changed) as b:
            CASE.allowed(b)
            b.wait_log("warning .*tls_verify = no")
    finally:
        if relay:
            relay.close()


class Elsewhere(Relay):
    """The same server at an address that its certificate does not name."""

    def __init__(self, host, port):
        self.host = host
        super().__init__(port, 0)

    def listen(self):
        return socket.create_server((self.host, 0), backlog=100)


def test_a_server_that_wants_a_certificate():
    CASE.up()

    class Strict(Directory):
        verify_client = "demand"

    server = Strict().start()
    try:
        c = pki.get().root.issue("ldap-client", cn="grapnel", usage="clientAuth")
        changed = {"servers": [server.tls_url], "tls_ca": server.ca}
        in_mode("search")
        # libldap with GnuTLS keeps what it read of a certificate for ever: once for an instance, which is the least.
        with Broker(listeners={"mqtt": {}}, env={"LSAN_OPTIONS": "suppressions={dir}/lsan:print_suppressions=0"},
                    files={"lsan": "leak:libgnutls\nleak:libtasn1\nleak:libgmp\nleak:libldap\nleak:liblber\nleak:libnettle\nleak:libhogweed\n"},
                    plugins={"auth-ldap": CASE.plugin(tls_certificate=c.cert, tls_key=c.key, **changed)}) as b:
            CASE.allowed(b)
            b.reload()
            CASE.allowed(b)
        with CASE.broker(**changed) as b:
            CASE.unavailable(b)
    finally:
        server.remove()


@each(mode=MODES)
def test_the_next_server_is_used_when_one_is_gone_or_mute(mode):
    in_mode(mode)
    with socket.create_server(("127.0.0.1", 0)) as s:
        gone = s.getsockname()[1]
    with CASE.broker(servers=["ldap://127.0.0.1:%d" % gone, CASE.server.url]) as b:
        for user in USERS:
            CASE.allowed(b, user)
    with Mute() as mute:
        short = "%dms" % (200 * FACTOR)
        with CASE.broker(servers=["ldap://127.0.0.1:%d" % mute.port, CASE.server.url], operation_timeout=short,
                         network_timeout=short, timeout="10s") as b:
            for user in USERS:
                CASE.allowed(b, user)
            assert mute.accepted > 0


@each(mode=MODES)
def test_a_slow_server_costs_only_who_waits_for_it(mode):
    in_mode(mode)
    with Relay(CASE.server.port, 0.3) as relay:
        with CASE.broker(users={"fred": "fred"}, servers=["ldap://127.0.0.1:%d" % relay.port], timeout="20s",
                         network_timeout="10s", operation_timeout="10s") as b:
            fred = b.connect(V5, "fred", username="fred", password="fred", keep_alive=0)
            fred.subscribe("t", qos=1)
            waiting = b.client(V5)
            waiting.send_connect("waiting", username="alice", password="wonder")
            for _ in range(20):
                fred.publish("t", "x", qos=1)
                fred.expect_message(topic="t", payload="x")
            assert waiting.expect(CONNACK, timeout=3 * TIMEOUT).reason == 0
            b.held_nobody()


@each(mode=MODES)
def test_connections_nobody_needs_are_closed_but_for_one(mode):
    with in_mode(mode).broker(idle_timeout="300ms", connections=3) as b:
        codes = []
        threads = [threading.Thread(target=lambda i=i: codes.append(CASE.code(b, "alice", "wonder", client_id="n%d" % i)))
                   for i in range(30)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(3 * TIMEOUT)
        assert codes == [0] * 30, codes
        assert gauge(b, "connections") <= WORKERS * (3 + 2)
        least = WORKERS * (2 if mode == "search" else 1)
        eventually(lambda: gauge(b, "connections") == least, "only %d connections are left" % least)
        CASE.allowed(b)


def test_connections_are_replaced_when_they_are_old():
    with in_mode("search").broker(connection_lifetime="1s", idle_timeout="1h") as b:
        with_relay = gauge(b, "errors_total")
        for _ in range(3):
            CASE.allowed(b)
        eventually(lambda: CASE.allowed(b) is None and gauge(b, "connections") > 0, "it goes on")
        assert gauge(b, "errors_total") == with_relay


def test_too_many_who_wait_are_told_that_it_is_unavailable():
    in_mode("search")
    with Mute() as mute:
        with CASE.broker(servers=["ldap://127.0.0.1:%d" % mute.port], queue=1, workers=1, network_timeout="10s",
                         operation_timeout="10s", timeout="10s") as b:
            first = b.client(V5)
            first.send_connect("first", username="alice", password="wonder")
            eventually(lambda: gauge(b, "waiting") == 1, "one waits")
            CASE.unavailable(b)
            assert gauge(b, "queue_full_total") == 1
            first.close()
            eventually(lambda: gauge(b, "waiting") == 0, "nobody waits")


def test_a_client_that_leaves_takes_nothing_with_it():
    in_mode("search")
    with Relay(CASE.server.port, 0.2) as relay:
        with CASE.broker(servers=["ldap://127.0.0.1:%d" % relay.port], connections=1, search_connections=1, workers=1,
                         timeout="20s", network_timeout="10s", operation_timeout="10s") as b:
            eventually(lambda: gauge(b, "connections") == 2, "both pools have one")
            for i in range(6):
                c = b.client(V5)
                c.send_connect("gone-%d" % i, username="alice", password="wonder")
                if i % 2:
                    eventually(lambda: gauge(b, "searches_total") > 0, "it is asked")
                c.close()
            CASE.allowed(b)
            assert gauge(b, "connections") == 2
            assert gauge(b, "errors_total") == 0


def test_referrals_are_not_followed():
    in_mode("search")
    with Mute() as trap:
        CASE.server.modify(entry("ou=away,dc=test", "referral", "extensibleObject", ou="away",
                                 ref="ldap://127.0.0.1:%d/ou=people,dc=test" % trap.port), "-a")
        try:
            with CASE.broker(search_base="dc=test") as b:  # among the entries of an answer: passed over
                CASE.allowed(b)
                CASE.denied(b, "nobody", "wonder")
            with CASE.broker(search_base="ou=away,dc=test") as b:  # instead of an answer
                CASE.unavailable(b)
                b.wait_log("answered with 10, a referral; they are not followed")
            with CASE.broker(search_base="uid=%u,ou=away,dc=test", search_scope="base") as b:
                CASE.unavailable(b)
            in_mode("bind")
            with CASE.broker(bind_dn="uid=%u,ou=away,dc=test") as b:
                assert CASE.code(b, "alice", "wonder") != 0
            assert trap.accepted == 0
        finally:
            CASE.server.modify("dn: ou=away,dc=test\nchangetype: delete\n", "-M")


# ---- answers that are none ----------------------------------------------------------------------


def ber(tag, *parts):
    content = b"".join(parts)
    n = len(content)
    return bytes([tag]) + (bytes([n]) if n < 128 else b"\x84" + struct.pack(">I", n)) + content


def message(number, *op):
    return ber(0x30, ber(0x02, bytes([number])), *op)


def result(number, tag, code=0):
    return message(number, ber(tag, ber(0x0A, bytes([code])), ber(0x04), ber(0x04)))


def found(number, dn, **attributes):
    pairs = [ber(0x30, ber(0x04, k.encode()), ber(0x31, *[ber(0x04, x) for x in v])) for k, v in attributes.items()]
    return message(number, ber(0x64, ber(0x04, dn), ber(0x30, *pairs)))


def flood(s):
    while True:
        s.sendall(found(2, b"uid=alice,dc=x") * 100)


def answers(*parts):
    """After the bind of the service account, to the search: these, in turn; a function is called."""
    def serve(s):
        s.recv(4096)
        s.sendall(result(1, 0x61))
        s.recv(4096)
        for part in parts:
            if callable(part):
                part(s)
            else:
                s.sendall(part)
    return serve


def only(*parts):
    def serve(s):
        for part in parts:
            s.sendall(part)
    return serve


NOTICE = message(0, ber(0x78, ber(0x0A, b"\x34"), ber(0x04), ber(0x04), ber(0x8A, b"1.3.6.1.4.1.1466.20036")))
HOSTILE = {
    "garbage at once": only(b"\xff" * 300), "http": only(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "closes at once": lambda s: s.shutdown(socket.SHUT_RDWR),
    "a huge length": only(b"\x30\x84\x7f\xff\xff\xff"), "an endless length": only(b"\x30" + b"\xff" * 200),
    "garbage instead of entries": answers(b"\xde\xad\xbe\xef" * 50), "endless entries": answers(flood),
    "entries of others": answers(*[found(2, b"uid=a%d,dc=x" % i) for i in range(50)]),
    "a bind's answer to a search": answers(result(2, 0x61)), "a notice of disconnection": answers(NOTICE),
    "an entry without a DN": answers(found(2, b"", uid=[b"alice"]), result(2, 0x65)),
    "an entry that is too large": answers(found(2, b"uid=alice", uid=[b"alice"], x=[b"y" * 300000]), result(2, 0x65)),
    "an entry that is cut": answers(found(2, b"uid=alice,dc=x", uid=[b"alice"])[:20], lambda s: s.shutdown(socket.SHUT_RDWR)),
    "a negative result": answers(message(2, ber(0x65, ber(0x0A, b"\xff"), ber(0x04), ber(0x04)))),
    "busy": answers(result(2, 0x65, 51)), "unavailable": answers(result(2, 0x65, 52)),
    "a result without its parts": answers(message(2, ber(0x65))),
    "references without end": answers(lambda s: [s.sendall(message(2, ber(0x73, ber(0x04, b"ldap://x/")))) for _ in range(5000)]),
}


def no_verdict(what):
    """@return what is wrong, or None."""
    # Two entries are an answer: that name is nobody's.
    allowed = (0x87, 0x88) if what in ("endless entries", "entries of others") else (0x88,)
    with Script(HOSTILE[what]) as peer:
        with CASE.broker(users={"fred": "fred"}, servers=["ldap://127.0.0.1:%d" % peer.port], timeout="2s", workers=1,
                         operation_timeout="300ms", network_timeout="300ms") as b:
            fred = b.connect(V5, "fred", username="fred", password="fred", keep_alive=0)
            for _ in range(2):
                code = CASE.code(b, "alice", "wonder")
                if code not in allowed:
                    return "%s: %#x" % (what, code)
            fred.ping()
            if not peer.accepted:
                return "%s: nobody came" % what
    return None


def test_what_is_no_answer_is_no_verdict():
    in_mode("search")
    with concurrent.futures.ThreadPoolExecutor(6) as pool:  # each of them mostly waits
        wrong = [x for x in pool.map(no_verdict, HOSTILE) if x is not None]
    assert not wrong, wrong


def test_a_right_answer_of_such_a_peer_is_one():
    """So that the test above does not fail for another reason than it says."""
    in_mode("search")

    def serve(s):
        answers(found(2, b"uid=alice,dc=x", uid=[b"alice"]), result(2, 0x65))(s)

    with Script(serve) as peer:
        with CASE.broker(servers=["ldap://127.0.0.1:%d" % peer.port], check_password=False) as b:
            assert CASE.code(b, "alice", "wonder") == 0


def test_a_name_server_that_says_nothing():
    """The broker's own /etc/resolv.conf names one; nobody who is connected waits for it."""
    if os.geteuid() != 0 or not shutil.which("unshare") or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0:
        raise Skip("mounts cannot be unshared here")
    in_mode("search")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.2", 53))
        plugin = CASE.plugin(servers=["ldap://directory.example.org:%d" % CASE.server.port], timeout="1s", order=30,
                             network_timeout="500ms")
        b = Broker(listeners={"mqtt": {}}, plugins={"auth-ldap": plugin}, users={"fred": "fred"})
        b.write("resolv.conf", "nameserver 127.0.0.2\n")
        b.wrapper = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', b.path("resolv.conf")]
        with b:
            fred = b.connect(V5, "fred", username="fred", password="fred", keep_alive=0)
            fred.subscribe("t", qos=1)
            waiting = b.client(V5)
            waiting.send_connect("waiting", username="alice", password="wonder")
            for _ in range(20):
                fred.publish("t", "x", qos=1)
                fred.expect_message(topic="t", payload="x")
            assert waiting.expect(CONNACK).reason == 0x88
            assert mute.recv(512)  # it was asked
            b.wait_log("the name service does not answer")
            b.held_nobody()


# ---- options ------------------------------------------------------------------------------------

WRONG = {
    "no mode": ({"search_base": None, "service_dn": None, "service_password": None}, "set search_base, or bind_dn"),
    "both modes": ({"bind_dn": "uid=%u,dc=x"}, "with bind_dn nothing is searched"),
    "no user name": ({"search_filter": "(uid=alice)"}, "without %u it finds the same entry for everybody"),
    "a service without a password": ({"service_password": None}, "belong together; a bind without a password"),
    "an empty service password": ({"service_password": ""}, "belong together; a bind without a password"),
    "another scheme": ({"servers": ["http://x"]}, "server 1 is not of the form"),
    "a server with a DN": ({"servers": ["ldap://x/dc=test"]}, "server 1 is not of the form"),
    "a group that is no DN": ({'group "admins"': {"superuser": True}}, "the title of a group is its DN"),
    "a group twice": ({'group "cn=READERS,%s"' % GROUPS: {"superuser": True}}, "this group is there twice"),
    "rules of a group": ({'group "cn=x"': {"rules": ["allow everything"]}}, "rules:1: "),
    "rules": ({"rules": ["grant"]}, "rules:1: "), "an attribute": ({"attributes": ["tenant"]}, 'of the form "name=value"'),
    "half a group search": ({"group_filter": "(member=%{dn})"}, "belong together"),
    "half a certificate": ({"tls_key": "/etc/hosts"}, "belong together"),
    "no such authority": ({"servers": ["ldaps://x"], "tls_ca": "/nowhere/ca.pem"}, "/nowhere/ca.pem: No such file"),
    "a certificate without its key": ({"servers": ["ldaps://x"], "tls_ca": "/etc/hosts", "tls_certificate": "/nowhere/c.pem",
                                       "tls_key": "/nowhere/k.pem"}, "libldap cannot use the files"),
    "a name that cannot be compared": ({"search_filter": "(mail=%u@example.org)"}, "set exact_username = no"),
    "a place without meaning": ({"search_filter": "(uid=%p)"}, "%p has no meaning here"),
}


def test_options_that_make_no_sense_are_refused_with_a_reason():
    in_mode("search")
    b = Broker(listeners={"mqtt": {}})
    try:
        for what, (changed, expected) in WRONG.items():
            b.configure(plugins={"auth-ldap": CASE.plugin(**changed)})
            r = run_grapneld("-t", "-c", b.conf)
            assert r.returncode == 1 and expected in r.stderr and "grapnel.conf:" in r.stderr, (what, r.stderr)
        b.configure(plugins={"auth-ldap": CASE.plugin()})
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 0, r.stderr
    finally:
        b.remove()


def test_a_reload_makes_new_connections_and_closes_the_old_ones():
    with in_mode("search").broker() as b:
        alice = b.connect(V5, username="alice", password="wonder")
        for _ in range(3):
            b.options["plugins"]["auth-ldap"]["queue"] = 500 + _
            b.configure()
            b.reload()
            CASE.allowed(b)
        alice.ping()
        eventually(lambda: gauge(b, "connections") <= WORKERS * 2 + 2, "the old connections are closed")
