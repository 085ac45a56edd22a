# SPDX-License-Identifier: Apache-2.0
"""auth-mysql with a MariaDB server of its own, which speaks TLS to those who want it."""
import base64
import hashlib
import os
import re
import socket
import subprocess

from lib import mariadb, pki, sql_cases
from lib.backend import NOT_AUTHORIZED
from lib.broker import FACTOR, TIMEOUT, Broker
from lib.case import Skip, each
from lib.mqtt import CONNACK, V5
from lib.proc import wait_until
from lib.server import Mute, free_port
from lib.sql_cases import *  # noqa: F401,F403

INSTANCE = '{plugin="auth-mysql"}'


class Filled(mariadb.MariaDB):
    def prepare(self):
        root = pki.get().root
        # By its name, not by its address.
        c = root.issue("mariadb", cn="localhost", san="DNS:localhost")
        self.tls = (c.cert, c.key, root.cert)
        super().prepare()

    def start(self):
        fresh = not self.prepared
        super().start()
        if fresh:
            self.sql(CASE.schema() + sql_cases.data() + EXTRA)
        return self


EXTRA = """
CREATE PROCEDURE mqtt_login(IN u VARBINARY(255)) SELECT password, superuser FROM mqtt_user WHERE username = u;
CREATE PROCEDURE mqtt_complain(IN c VARCHAR(100)) SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = c;
CREATE TABLE loose (username VARCHAR(255) COLLATE utf8mb4_unicode_ci PRIMARY KEY, password VARCHAR(255));
INSERT INTO loose SELECT CONVERT(username USING utf8mb4), password FROM mqtt_user;
CREATE USER certified@'%' IDENTIFIED BY 'x' REQUIRE X509;
GRANT SELECT ON mqtt.* TO certified@'%';
"""


class Case(sql_cases.Sql):
    instance = "auth-mysql"

    def up(self):
        if mariadb.MISSING:
            raise Skip(mariadb.MISSING)
        return super().up()

    def connection(self):
        return {"host": ["127.0.0.1:%d" % self.server.port], "user": "grapnel", "password": self.server.password,
                "database": "mqtt", "reconnect_max": "200ms", "connect_timeout": "%ds" % (5 * FACTOR)}

    def execute(self, script):
        self.server.sql(script)

    def settled(self, b, connections=4):
        b.wait_metric("plugin_connections" + INSTANCE, connections)

    def server_sees(self, connections):
        """So many of ours, whatever the broker thinks."""
        wait_until(lambda: int(self.server.ask(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE user IN ('grapnel', 'certified')")) == connections,
            "%d connections at the server" % connections, TIMEOUT)


CASE = sql_cases.CASE = Case(Filled)


def down_lines(b):
    return b.log_lines(r" error .*no connection: ")


def no_secrets(b):
    assert not b.log_lines(re.escape(CASE.server.password)), "the password is in the log"


# ---- names ----------------------------------------------------------------------------------------


def test_a_table_that_takes_capitals_and_blanks_for_equal_needs_the_longer_query():
    CASE.up()
    loose = "SELECT password FROM loose WHERE username = %u"
    exact = loose + " AND CAST(username AS BINARY) = CAST(%u AS BINARY)"
    others = ("ALICE", "Alice", "alice ", "älice")
    with CASE.broker(login_query=loose, attributes_query=None) as b:
        for name in others:  # what the server does with such a table
            assert CASE.code(b, name, "wonder") == 0, name
    with CASE.broker(login_query=exact, attributes_query=None) as b:
        for name in others:
            CASE.denied(b, name, "wonder")
        CASE.allowed(b)


# ---- answers --------------------------------------------------------------------------------------


def test_a_stored_procedure_may_answer():
    CASE.up()
    with CASE.broker(login_query="CALL mqtt_login(%u)") as b:
        for _ in range(5):  # what follows its rows is read, too
            CASE.allowed(b)
            CASE.denied(b, "alice", "wrong")
            CASE.denied(b, "nobody", "wonder")
        CASE.settled(b)


def test_a_value_longer_than_its_buffer_comes_whole():
    CASE.up()
    rules = "CONCAT(REPEAT('deny all nothing/of/that/sort/at/all\n', %d), 'allow all alice/#')"
    for count in (6, 7, 500, 9000):
        with CASE.broker(workers=1, acl_query="SELECT %s AS acl" % (rules % count)) as b:
            for _ in range(3):
                c = b.connect(V5, username="alice", password="wonder")
                assert c.publish("alice/x", "x", qos=1) in (0, 0x10)
                assert c.publish("other/x", "x", qos=1) == 0x87


def test_values_of_any_type_are_text():
    CASE.up()
    query = ("SELECT password, CAST(42 AS SIGNED) AS i, 2.50 AS d, TRUE AS t, DATE '2030-01-02' AS day, NULL AS n, "
             "TIMESTAMP '2099-01-02 03:04:05' AS valid_until, CAST('blob' AS BINARY) AS b, '' AS e, 'ü€😀' AS u, "
             "REPEAT('y', 400) AS y FROM mqtt_user WHERE username = %u")
    with CASE.broker(login_query=query, attributes_query=None) as b:
        c = b.connect(V5, username="alice", password="wonder")
        got = b.ctl_json("clients", "show", c.client_id)["attributes"]
        assert got == {"i": "42", "d": "2.50", "t": "1", "day": "2030-01-02", "b": "blob", "e": "", "u": "ü€😀",
                       "y": "y" * 400}, got


def test_an_answer_with_too_many_columns_is_unavailable():
    CASE.up()
    query = "SELECT password, %s FROM mqtt_user WHERE username = %%u"
    with CASE.broker(login_query=query % ", ".join("%d AS c%d" % (i, i) for i in range(64))) as b:
        CASE.unavailable(b)
        b.wait_log(r"login_query fails: .*more than 64 columns")
        CASE.settled(b)
    with CASE.broker(login_query=query % ", ".join("%d AS c%d" % (i, i) for i in range(20))) as b:
        CASE.allowed(b)


def test_an_error_at_execution_is_logged_without_values():
    CASE.up()
    with CASE.broker(login_query="CALL mqtt_complain(%c)", workers=1) as b:
        for _ in range(3):
            assert CASE.code(b, "alice", "wonder", client_id="private-value") == 0x88
        line, = b.log_lines(r"login_query fails: ")
        assert "error 1644 (SQLSTATE 45000)" in line and "private" not in line, line
        CASE.settled(b, 2)  # and the connections are still good


def test_a_value_that_the_server_refuses_is_one_that_nobody_has():
    CASE.up()
    query = "SELECT password FROM mqtt_user WHERE username = %u AND 9223372036854775807 - 1 + CAST(%c AS SIGNED) > 0"
    with CASE.broker(login_query=query, workers=1) as b:
        assert CASE.code(b, "alice", "wonder", client_id="1") == 0
        assert CASE.code(b, "alice", "wonder", client_id="2") in NOT_AUTHORIZED[V5]
        assert not b.log_lines(r"login_query fails")
        CASE.settled(b, 2)


def test_a_query_that_works_again_says_so():
    CASE.up()
    with CASE.broker() as b:
        CASE.allowed(b)
        with CASE.with_rows("RENAME TABLE mqtt_user TO mqtt_gone;", "RENAME TABLE mqtt_gone TO mqtt_user;"):
            for _ in range(3):
                CASE.unavailable(b)
            b.wait_log(r"login_query fails: ")
            assert len(b.log_lines(r"login_query fails: ")) == 1
        CASE.recovers(b)
        b.wait_log(r"login_query works again")


# ---- time -----------------------------------------------------------------------------------------


def test_a_slow_server_is_waited_for():
    CASE.up()
    with CASE.broker(login_query="SELECT password FROM mqtt_user WHERE username = %u AND SLEEP(0.5) = 0", timeout="60s",
                     query_timeout="60s", connections=1, workers=1) as b:
        clients = [b.client(V5) for _ in range(3)]
        for i, c in enumerate(clients):
            c.send_connect("c%d" % i, username="alice", password="wonder" if i != 1 else "wrong")
        assert [c.expect(CONNACK).reason for c in clients] == [0, 0x87, 0]


def test_a_query_that_takes_too_long_is_given_up_and_its_connection_made_again():
    CASE.up()
    with CASE.broker(login_query="SELECT password FROM mqtt_user WHERE username = %u AND IF(%u = 'bob', SLEEP(60), 0) = 0",
                     query_timeout="300ms") as b:
        CASE.settled(b)
        CASE.unavailable(b, "bob")
        assert b.metric("plugin_query_timeouts_total" + INSTANCE) == 1
        CASE.settled(b)
        CASE.allowed(b)
        for i in CASE.server.ask("SELECT id FROM information_schema.processlist WHERE state = 'User sleep'").split():
            CASE.server.ask("KILL %s" % i)  # the server does not see at once that nobody waits


def test_clients_that_leave_while_their_query_runs_cost_no_connection():
    CASE.up()
    with CASE.broker(login_query="SELECT password FROM mqtt_user WHERE username = %u AND SLEEP(0.2) = 0") as b:
        CASE.settled(b)
        for i in range(8):
            c = b.client(V5)
            c.send_connect("gone-%d" % i, username="alice", password="wonder")
            c.reset()
        CASE.allowed(b)
        CASE.settled(b)
        assert b.metric("plugin_query_timeouts_total" + INSTANCE) == 0
        CASE.server_sees(4)


# ---- connections ----------------------------------------------------------------------------------


def test_the_server_is_not_there_at_start():
    CASE.stopped_before_start()


def test_it_is_killed_under_load():
    CASE.killed_under_load()


def test_it_hangs_under_load():
    CASE.hung()


def test_an_outage_is_two_lines_in_the_log():
    CASE.up()
    with CASE.broker() as b:
        CASE.allowed(b)
        CASE.server.stop()
        b.wait_log(r" error .*no connection: ")
        for _ in range(5):
            CASE.unavailable(b)
        CASE.server.start()
        CASE.recovers(b)
        CASE.settled(b)
        assert len(down_lines(b)) == 1 and len(b.log_lines(r"connected again")) == 1, b.log_lines("auth-mysql")
        no_secrets(b)


def test_connections_that_the_server_closes_are_made_again_and_nobody_notices():
    CASE.up()
    with CASE.broker() as b:
        CASE.settled(b)
        for _ in range(3):
            ids = CASE.server.ask("SELECT id FROM information_schema.processlist WHERE user = 'grapnel'").split()
            assert len(ids) == 4, ids
            CASE.server.ask("".join("KILL %s;" % i for i in ids))
            for _ in range(4):
                CASE.allowed(b)
            wait_until(lambda: not set(ids) & set(CASE.server.ask("SELECT id FROM information_schema.processlist").split()),
                       "they are gone", TIMEOUT)
            CASE.settled(b)
        assert not down_lines(b)


def test_a_query_whose_connection_breaks_is_run_again():
    CASE.up()
    with CASE.broker(login_query="SELECT password FROM mqtt_user WHERE username = %u AND SLEEP(1) = 0", timeout="60s",
                     query_timeout="60s") as b:
        CASE.settled(b)
        c = b.client(V5)
        c.send_connect("c", username="alice", password="wonder")
        running = []

        def runs():
            running[:] = CASE.server.ask("SELECT id FROM information_schema.processlist WHERE state = 'User sleep'").split()
            return running

        wait_until(runs, "its query runs", TIMEOUT)
        CASE.server.ask("KILL %s" % running[0])
        assert c.expect(CONNACK).reason == 0
        assert not down_lines(b) and not b.log_lines("login_query fails")


def test_a_broker_that_stops_does_not_wait_for_a_mute_server():
    CASE.up()
    with Mute() as mute:
        with CASE.broker(host=["127.0.0.1:%d" % mute.port], tls="required", connect_timeout="60s") as b:
            wait_until(lambda: mute.accepted == 4, "it connects", TIMEOUT)
    assert not b.log_lines(r"leaving worker "), b.log_lines(r"leaving worker ")


def test_a_mute_server_holds_nobody():
    CASE.up()
    CASE.mute(host=lambda port: ["127.0.0.1:%d" % port])


def test_a_mute_server_holds_nobody_with_tls_either():
    CASE.up()
    CASE.mute(host=lambda port: ["127.0.0.1:%d" % port], tls="required", connect_timeout="60s")


def test_the_first_host_that_is_there_is_used():
    CASE.up()
    with Mute() as mute:
        hosts = ["127.0.0.1:%d" % free_port(), "127.0.0.1:%d" % mute.port, "localhost:%d" % CASE.server.port]
        with CASE.broker(host=hosts, connect_timeout="200ms") as b:
            CASE.recovers(b)
            CASE.settled(b)
            assert mute.accepted > 0


def test_the_unix_socket_and_a_file_with_the_password():
    CASE.up()
    with CASE.broker(host=None, socket=CASE.server.socket, password=None, password_file="{dir}/pw",
                     files={"pw": CASE.server.password + "\n"}) as b:
        CASE.allowed(b)
        CASE.settled(b)


def test_a_wrong_password_of_the_broker_is_no_wrong_password_of_a_client():
    CASE.up()
    with CASE.broker(password="not-that-one") as b:
        CASE.unavailable(b)
        b.wait_log(r"no connection: Access denied for user 'grapnel'")
        assert not b.log_lines("not-that-one")


def test_a_reload_with_other_options_leaves_no_connection_behind():
    CASE.up()
    with CASE.broker(connections=1) as b:
        c = b.connect(V5, username="alice", password="wonder")
        for connections in (3, 2):
            b.options["plugins"]["auth-mysql"]["connections"] = connections
            b.configure()
            b.reload()
            CASE.settled(b, 2 * connections)
            CASE.allowed(b)
            assert c.publish("alice/x", "x", qos=1) in (0, 0x10)
        CASE.server_sees(4)
    CASE.server_sees(0)


# ---- TLS ------------------------------------------------------------------------------------------


def tls(host="localhost", ca=None, **more):
    return dict({"host": ["%s:%d" % (host, CASE.server.port)], "tls": "verify", "tls_ca": ca or pki.get().root.cert}, **more)


def test_with_tls_the_certificate_and_the_name_count():
    CASE.up()
    with CASE.broker(**tls()) as b:
        CASE.allowed(b)
        CASE.denied(b, "alice", "wrong")
        CASE.settled(b)
    with CASE.broker(login_query="SELECT password, (SELECT variable_value FROM information_schema.session_status WHERE "
                                 "variable_name = 'ssl_cipher') AS cipher FROM mqtt_user WHERE username = %u", **tls()) as b:
        c = b.connect(V5, username="alice", password="wonder")
        assert b.ctl_json("clients", "show", c.client_id)["attributes"]["cipher"].startswith(("TLS_", "ECDHE")), "no TLS"


@each(case=("other authority", "other name", "no authority is asked for"))
def test_with_tls_a_server_that_is_not_the_right_one_gets_nothing(case):
    CASE.up()
    if case == "other authority":
        options = tls(ca=pki.get().other.cert)
    elif case == "other name":
        options = tls(host="127.0.0.1")
    else:
        options = tls(tls="required", ca=pki.get().other.cert)
    with CASE.broker(**options) as b:
        b.wait_log(r"no connection: .*(TLS|SSL|certificate)")
        CASE.unavailable(b)
        assert b.metric("plugin_connections" + INSTANCE) == 0


def test_tls_without_verification_is_still_tls():
    CASE.up()
    with CASE.broker(**tls(host="127.0.0.1", tls="required", tls_ca=None)) as b:
        CASE.recovers(b)  # the connections may be late: the library reads all authorities of the system for each
        CASE.settled(b)


def test_a_certificate_of_the_broker_is_shown():
    CASE.up()
    c = pki.get().root.issue("grapnel-client", cn="grapnel", usage="clientAuth")
    with CASE.broker(user="certified", password="x", tls_certificate=c.cert, tls_key=c.key, **tls()) as b:
        CASE.allowed(b)
    with CASE.broker(user="certified", password="x", **tls()) as b:
        b.wait_log(r"no connection: Access denied for user 'certified'")
        CASE.unavailable(b)


def test_tls_through_outages():
    CASE.up()
    with CASE.using(**tls()):
        CASE.killed_under_load()
        CASE.hung()


def test_a_server_without_tls_gets_nothing_where_tls_is_required():
    CASE.up().stop()
    offers, CASE.server.offers_tls = CASE.server.offers_tls, False
    try:
        CASE.server.start()
        for mode in ("required", "verify"):
            with CASE.broker(**tls(tls=mode)) as b:
                b.wait_log(r"no connection: .*(TLS|SSL)")
                CASE.unavailable(b)
        with CASE.broker() as b:
            CASE.allowed(b)
    finally:
        CASE.server.stop()
        CASE.server.offers_tls = offers


# ---- names of hosts -------------------------------------------------------------------------------


class MuteDNS:
    """Where /etc/resolv.conf leads in a mount namespace of the broker: it takes questions and says nothing."""
    address = "127.0.0.9"

    def __enter__(self):
        try:
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.socket.bind((self.address, 53))
        except OSError as e:
            raise Skip("no port 53: %s" % e) from None
        if subprocess.run(["unshare", "-m", "mount", "--bind", "/dev/null", "/etc/resolv.conf"], check=False,
                          capture_output=True).returncode != 0:
            self.socket.close()
            raise Skip("no mount namespaces")
        return self

    def __exit__(self, *unused):
        self.socket.close()

    def asked(self):
        self.socket.settimeout(TIMEOUT)
        return self.socket.recv(512)

    def wrap(self, b):
        path = b.write("resolv.conf", "nameserver %s\n" % self.address)
        b.wrapper = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', path]


@each(mode=("no", "verify"))
def test_a_mute_dns_holds_nobody(mode):
    CASE.up()
    options = tls(host="db.example.org", connect_timeout="60s") if mode == "verify" else {
        "host": ["db.example.org:%d" % CASE.server.port], "connect_timeout": "60s"}
    with MuteDNS() as dns:
        b = Broker(listeners={"mqtt": {}}, users={"fred": "fred"},
                   plugins={"auth-mysql": CASE.plugin(order=30, **dict(options, timeout="1s"))})
        dns.wrap(b)
        with b:
            assert b"example" in dns.asked().lower()
            fred = b.connect(V5, "fred", username="fred", password="fred", keep_alive=0)
            fred.subscribe("t", qos=1)
            waiting = b.client(V5)
            waiting.send_connect("waiting", username="alice", password="wonder")
            for _ in range(20):
                fred.publish("t", "x", qos=1)
                fred.expect_message(topic="t", payload="x")
            assert waiting.expect(CONNACK).reason == 0x88


def test_a_host_that_does_not_exist_is_named():
    CASE.up()
    with CASE.broker(host=["no-such-host.invalid"], connect_timeout="1s") as b:
        CASE.unavailable(b)
        b.wait_log(r"no-such-host.invalid:3306: no connection: ")


# ---- options, and where one comes from ------------------------------------------------------------


def test_options_that_cannot_be_meant_are_errors_of_the_configuration():
    c = pki.get().root
    CASE.up()
    empty = os.path.join(CASE.server.dir, "empty")
    with open(empty, "w", encoding="ascii"):
        pass
    CASE.refused_configurations(
        ({"host": ["a,b"]}, r"each host is a name or an address"),
        ({"host": ["a;b=c"]}, r"each host is a name or an address"),
        ({"host": ["replication://x"]}, r"each host"),
        ({"host": ["db:0"]}, r"each host"), ({"host": ["db:65536"]}, r"each host"),
        ({"host": ["[::1"]}, r"each host"), ({"host": [""]}, r"each host"),
        ({"host": ["db%d" % i for i in range(17)]}, r"more than 16"),
        ({"socket": "/run/x"}, r"there is a .socket."),
        ({"host": None, "socket": "x"}, r"absolute"),
        ({"user": ""}, r"empty"),
        ({"password_file": empty}, r"there is a .password. as well"),
        ({"password": None, "password_file": "/nonexistent"}, r"No such file"),
        ({"tls": "verify"}, r"needs the file"),
        ({"tls": "verify", "tls_ca": empty}, r"empty"),
        ({"tls": "verify", "tls_ca": "/nonexistent"}, r"No such file"),
        ({"tls": "verify", "tls_ca": c.cert, "tls_certificate": c.cert}, r"come together"),
        ({"tls_ca": c.cert}, r"yet there are files"),
        ({"host": None, "socket": "/run/x", "tls": "required"}, r"not for a Unix socket"),
    )


def test_tables_and_queries_of_mosquitto_go_auth():
    """As README.md says under "From mosquitto-go-auth"."""
    digest = hashlib.pbkdf2_hmac("sha512", b"secret", b"salt-of-16-bytes", 1000, 64)
    stored = "PBKDF2$sha512$1000$%s$%s" % tuple(base64.b64encode(x).decode() for x in (b"salt-of-16-bytes", digest))
    CASE.up()
    make = """
        CREATE TABLE users (id INT AUTO_INCREMENT PRIMARY KEY, username VARCHAR(100) NOT NULL, password_hash VARCHAR(200) NOT NULL,
            is_admin TINYINT NOT NULL DEFAULT 0);
        CREATE TABLE acl (id INT AUTO_INCREMENT PRIMARY KEY, username VARCHAR(100) NOT NULL, topic VARCHAR(200) NOT NULL, rw INT NOT NULL);
        INSERT INTO users (username, password_hash, is_admin) VALUES ('dev', '%s', 0), ('admin', '%s', 1);
        INSERT INTO acl (username, topic, rw) VALUES ('dev', 'in/%%u/#', 1), ('dev', 'in/%%u/#', 4), ('dev', 'out/%%u', 2), ('dev', 'both/#', 7);
        """ % (stored, stored)
    with CASE.with_rows(make, "DROP TABLE users; DROP TABLE acl;"):
        with CASE.broker(login_query="SELECT password_hash AS password FROM users WHERE username = %u",
                         superuser_query="SELECT count(*) > 0 FROM users WHERE username = %u AND is_admin = 1",
                         acl_query="SELECT topic, rw AS access FROM acl WHERE username = %u", attributes_query=None) as b:
            CASE.denied(b, "dev", "wrong")
            dev = b.connect(V5, username="dev", password="secret")
            admin = b.connect(V5, username="admin", password="secret")
            dev.subscribe("in/dev/x", qos=1)
            dev.subscribe("out/dev", qos=1, codes=[0x87])
            assert dev.publish("in/dev/x", "x", qos=1) == 0x87
            assert dev.publish("out/dev", "x", qos=1) in (0, 0x10)
            assert admin.publish("in/dev/x", "hello", qos=1) == 0
            dev.expect_message(topic="in/dev/x", payload="hello")
