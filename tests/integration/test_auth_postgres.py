# SPDX-License-Identifier: Apache-2.0
"""auth-postgres with a PostgreSQL of its own."""
import os
import re
import signal
import threading
import time

from lib import pki, sql_cases
from lib.broker import FACTOR, Broker
from lib.case import skip_if
from lib.postgres import AVAILABLE, Postgres
from lib.proc import wait_until
from lib.server import Mute, MuteDns, free_port
from lib.sql_cases import *  # noqa: F401,F403

PASSPHRASE = "open sesame"


class Case(sql_cases.Sql):
    instance = "auth-postgres"
    long_text = "repeat('x', %d)"
    readable = "GRANT SELECT ON %s TO grapnel;\n"

    def up(self):
        if self.server is None:
            p = pki.get()
            self.server = s = Postgres()
            s.start_script = self.schema() + sql_cases.data() + \
                "GRANT SELECT ON mqtt_user, mqtt_attribute, mqtt_acl TO grapnel; CREATE ROLE carl LOGIN IN ROLE grapnel;"
            s.hba = ("local all owner trust\nhost mqtt grapnel 127.0.0.1/32 scram-sha-256\n"
                     "hostssl mqtt carl 127.0.0.1/32 cert\n")
            db = p.root.issue("db", cn="db", san="DNS:localhost", usage="serverAuth")
            s.files = {"db.crt": db.cert, "db.key": db.key, "ca.crt": p.root.cert}
            s.conf = {"ssl": "on", "ssl_cert_file": "'%s'" % s.path("db.crt"), "ssl_key_file": "'%s'" % s.path("db.key"),
                      "ssl_ca_file": "'%s'" % s.path("ca.crt")}
        return super().up()

    def connection(self):
        s = self.server
        return {"host": s.host, "port": str(s.port), "dbname": s.database, "user": s.role, "password": s.password,
                "connect_timeout": "%dms" % (1000 * FACTOR), "reconnect_max": "500ms", "sslmode": "disable"}

    def execute(self, script):
        self.server.execute(script)

    def settled(self, b):
        connections = 4
        b.wait_metric("plugin_connections" + LABEL, connections)
        wait_until(lambda: self.server.sessions() == connections, "the pool has its size again", TIMEOUT)
        assert not b.log_lines(re.escape(self.server.password)), "the password is in the log"


CASE = sql_cases.CASE = Case(Postgres)
LABEL = '{plugin="auth-postgres"}'
NO_PLACE = {name: None for name in ("host", "port", "dbname", "user", "password", "sslmode")}


def pids(where="true"):
    return CASE.server.execute("SELECT pid FROM pg_stat_activity WHERE usename = 'grapnel' AND %s ORDER BY 1;" % where).split()


def own_pids(b, count=2):
    """Of the connections of this broker, when all of them are there and those of the one before are gone."""
    b.wait_metric("plugin_connections" + LABEL, count)
    wait_until(lambda: len(pids()) == count, "only this broker's connections are there", TIMEOUT)
    return pids()


def terminate(where="true"):
    CASE.server.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'grapnel' AND %s;" % where)


ASLEEP = "wait_event = 'PgSleep'"  # one of these runs


def slowly(seconds, user=None):
    """A login_query that takes its time, for everybody or for one."""
    when = "pg_sleep(%g) IS NULL" % seconds
    if user:
        when = "CASE WHEN username = '%s' THEN %s END" % (user, when)
    return "SELECT CASE WHEN %s THEN NULL ELSE password END AS password FROM mqtt_user WHERE username = %%u" % when


# ---- outages ------------------------------------------------------------------------------------


def test_it_is_not_there_when_the_broker_starts():
    CASE.stopped_before_start()


def test_it_is_killed_under_load():
    CASE.killed_under_load()


def test_it_hangs():
    CASE.hung()


def test_a_mute_server_holds_nobody():
    CASE.up()
    CASE.mute(port=lambda port: str(port))


@skip_if(os.geteuid() != 0, "only root can have a resolv.conf of his own")
def test_a_mute_dns_holds_nobody():
    CASE.up()
    with MuteDns() as dns:
        b = Broker(listeners={"mqtt": {}}, users={"fred": "fred"},
                   plugins={"auth-postgres": CASE.plugin(order=30, host="db.example.org", timeout="1s", connect_timeout="700ms")})
        b.wrapper = dns.wrapper(b)
        with b:
            fred = b.connect(V5, "fred", username="fred", password="fred", keep_alive=0)
            fred.subscribe("t", qos=1)
            waiting = b.client(V5)
            waiting.send_connect("waiting", username="alice", password="wonder")
            for _ in range(20):
                fred.publish("t", "x", qos=1)
                fred.expect_message(topic="t", payload="x")
            assert waiting.expect(CONNACK).reason == 0x88
            b.wait_log(r"database cannot be used.*db\.example\.org: no answer from the DNS")
            assert dns.asked > 0
            b.held_nobody()


def test_who_loses_a_connection_is_asked_on_another():
    CASE.up()
    with CASE.broker(login_query=slowly(0.5), workers=1, timeout="20s") as b:
        c = b.client(V5)
        c.send_connect("c", username="alice", password="wonder")
        wait_until(lambda: pids(ASLEEP), "the query runs", TIMEOUT)
        terminate(ASLEEP)
        assert c.expect(CONNACK).reason == 0
        assert b.metric("plugin_query_retries_total" + LABEL) == 1


def test_connections_that_were_ended_come_back_and_nobody_is_told():
    CASE.up()
    with CASE.broker() as b:
        b.wait_metric("plugin_connections" + LABEL, 4)
        for _ in range(3):
            terminate()
            CASE.allowed(b)
            CASE.allowed(b, "bob", V311)
        CASE.settled(b)
        assert not b.log_lines("database cannot be used")


def test_a_slow_query_holds_nobody_who_is_connected_and_ends_at_the_deadline():
    CASE.up()
    with CASE.broker(login_query=slowly(60, "bob"), timeout="1s", workers=1) as b:
        alice = b.connect(V5, "a", username="alice", password="wonder")
        alice.subscribe("alice/#", qos=1)
        waiting = b.client(V5)
        waiting.send_connect("w", username="bob", password="builder")
        for _ in range(20):
            CASE.round_trip(alice)
        assert waiting.expect(CONNACK).reason == 0x88
        assert b.metric("plugin_query_timeouts_total" + LABEL) >= 1
        CASE.recovers(b)
        b.wait_metric("plugin_connections" + LABEL, 2)


def test_many_slow_logins_share_few_connections():
    CASE.up()
    with CASE.broker(login_query=slowly(0.1), timeout="60s", workers=1, connections=1, pipeline=4) as b:
        clients = [b.client(V5) for _ in range(8)]
        for i, c in enumerate(clients):
            c.send_connect("c%d" % i, username=("alice", "nobody")[i % 2], password="wonder")
        codes = [c.expect(CONNACK).reason for c in clients]
        assert codes == [0, 0x87] * 4, codes
        b.wait_metric("plugin_connections" + LABEL, 1)
        wait_until(lambda: CASE.server.sessions() == 1, "there is one connection", TIMEOUT)


def test_a_connection_that_has_died_in_silence_is_replaced():
    CASE.up()
    with CASE.broker(workers=1, timeout="1s") as b:
        CASE.allowed(b)
        dead = [int(pid) for pid in own_pids(b)]
        for pid in dead:
            os.kill(pid, signal.SIGSTOP)
        try:
            CASE.unavailable(b)
            CASE.recovers(b)
            b.wait_log("lost a connection.*not answered in time")
        finally:
            for pid in dead:
                os.kill(pid, signal.SIGCONT)


def test_an_answer_without_end_is_cut():
    CASE.up()
    query = "SELECT a.topic FROM " + ", ".join("mqtt_acl " + x for x in "abcdefghij") + " WHERE %u = 'alice'"
    with CASE.broker(acl_query=query, workers=1, timeout="60s", statement_timeout="60s") as b:
        CASE.unavailable(b)
        b.wait_log("an answer to acl_query cannot be used: it has too many rows")
        b.wait_log("lost a connection.*an answer is too large")
        CASE.allowed(b, "root")


def test_the_database_ends_a_query_that_takes_too_long_and_the_connection_stays():
    CASE.up()
    with CASE.broker(login_query=slowly(60, "bob"), timeout="30s", statement_timeout="%dms" % (200 * FACTOR), workers=1) as b:
        CASE.allowed(b)
        before = own_pids(b)
        CASE.unavailable(b, "bob")
        b.wait_log(r" error .*login_query failed with SQLSTATE 57014")
        assert pids() == before
        CASE.recovers(b)


def test_a_client_that_leaves_costs_no_connection():
    CASE.up()
    with CASE.broker(login_query=slowly(1, "bob"), workers=1, connections=1) as b:
        CASE.allowed(b)
        before = own_pids(b, 1)
        for i in range(3):
            c = b.client(V5)
            c.send_connect("c%d" % i, username="bob", password="builder")
            wait_until(lambda: pids(ASLEEP), "the query runs", TIMEOUT)
            c.close()
        CASE.allowed(b)
        assert pids() == before


# ---- what the database says ---------------------------------------------------------------------


def test_a_table_that_changes_under_a_prepared_query():
    CASE.up()
    with CASE.broker(login_query="SELECT * FROM mqtt_user WHERE username = %u AND enabled", workers=1) as b:
        CASE.execute("CREATE TABLE IF NOT EXISTS unused ();")
        with CASE.with_rows("ALTER TABLE mqtt_user RENAME COLUMN enabled TO active;"
                            "ALTER TABLE mqtt_user ADD COLUMN enabled boolean DEFAULT true;"
                            "ALTER TABLE mqtt_user ADD COLUMN tenant text DEFAULT 'late';",
                            "ALTER TABLE mqtt_user DROP COLUMN enabled; ALTER TABLE mqtt_user DROP COLUMN tenant;"
                            "ALTER TABLE mqtt_user RENAME COLUMN active TO enabled;"):
            c = b.connect(V5, "c", username="bob", password="builder")
            assert b.ctl_json("clients", "show", "c")["attributes"]["tenant"] == "late"
            c.ping()
        CASE.allowed(b)


def test_a_row_that_is_of_no_use_costs_no_connection():
    CASE.up()
    with CASE.broker(login_query="SELECT password FROM mqtt_user WHERE username = %u OR %u = 'bob'", workers=1) as b:
        CASE.allowed(b)
        before = own_pids(b)
        for _ in range(3):
            assert CASE.code(b, "bob", "builder") == 0x88
        CASE.allowed(b)
        assert pids() == before


def test_an_error_tells_its_number_and_no_value():
    CASE.up()
    query = "SELECT password FROM mqtt_user WHERE username = %u AND (CASE WHEN %c = 'c' THEN 0 ELSE (%c || '')::int END) = 0"
    with CASE.broker(login_query=query, workers=1) as b:
        assert CASE.code(b, "alice", "wonder", client_id="c") == 0
        before = own_pids(b)
        for _ in range(3):
            assert CASE.code(b, "alice", "wonder", client_id="hunter2") == 0x88
        assert CASE.code(b, "alice", "wonder", client_id="c") == 0
        assert pids() == before
        b.wait_log("login_query failed with SQLSTATE 22P02")
        lines = b.log_lines("login_query failed with SQLSTATE 22P02")
        assert len(lines) == 1 and "hunter2" not in lines[0], lines


def test_a_value_that_has_not_its_type_is_nobodys_and_no_trouble_of_the_database():
    CASE.up()
    login = "SELECT password FROM mqtt_user WHERE username = %u AND %c::int > 0"
    with CASE.broker(login_query=login, workers=1) as b:
        assert CASE.code(b, "alice", "wonder", client_id="1") == 0
        for client_id in ("x", "99999999999", "1;", "") * 5:
            assert CASE.code(b, "alice", "wonder", client_id=client_id) == 0x87, client_id
        assert CASE.code(b, "alice", "wonder", client_id="2") == 0
        assert not b.log_lines("SQLSTATE")
    with CASE.broker(acl_mode="check", acl_query="SELECT '#' AS topic WHERE %u <> '' AND %t::int > 0", workers=1) as b:
        alice = b.connect(V5, username="alice", password="wonder")
        assert [alice.publish(t, "x", qos=1) in (0, 0x10) for t in ("1", "x", "0", "2")] == [True, False, False, True]


def test_a_role_with_too_few_connections_is_said_once():
    CASE.up()
    wait_until(lambda: CASE.server.sessions() == 0, "earlier connections are gone", TIMEOUT)
    with CASE.with_rows("ALTER ROLE grapnel CONNECTION LIMIT 1;", "ALTER ROLE grapnel CONNECTION LIMIT -1;"):
        with CASE.broker(workers=1, reconnect_max="100ms") as b:
            CASE.recovers(b)
            b.wait_log(r" warning .*worker 0 has 1 of 2 connections.*too many connections")
            b.wait_metric("plugin_connection_failures_total" + LABEL, lambda n: n >= 3)
            b.wait_log("another cannot be opened")
            assert len(b.log_lines("another cannot be opened")) == 1
            CASE.execute("ALTER ROLE grapnel CONNECTION LIMIT -1;")
            b.wait_metric("plugin_connections" + LABEL, 2)


def test_queries_may_have_effects_and_be_functions():
    CASE.up()
    with CASE.with_rows("CREATE TABLE seen (who text); GRANT INSERT, SELECT ON seen TO grapnel;"
                        "CREATE FUNCTION login(who text) RETURNS TABLE (password text, tenant text) LANGUAGE sql AS "
                        "$$INSERT INTO seen VALUES (who) RETURNING (SELECT password FROM mqtt_user WHERE username = who), 'fn'$$;",
                        "DROP FUNCTION login; DROP TABLE seen;"):
        with CASE.broker(login_query="SELECT * FROM login(%u)", attributes_query=None, workers=1) as b:
            b.connect(V5, "c", username="alice", password="wonder")
            assert b.ctl_json("clients", "show", "c")["attributes"]["tenant"] == "fn"
            assert CASE.server.execute("SELECT who FROM seen;") == "alice"


# ---- who it is: TLS, services, several hosts -----------------------------------------------------


def cannot(b, **instances):
    """Each of these instances says why; whoever comes is told "unavailable"."""
    for name, regex in instances.items():
        b.wait_log(r'"%s".*database cannot be used.*(%s)' % (name, regex))


def test_tls_with_the_right_authority_and_name():
    CASE.up()
    p = pki.get()
    tls = {"sslmode": "verify-full", "sslrootcert": p.root.cert, "host": "localhost"}
    with CASE.broker(**tls) as b:
        CASE.recovers(b)
        assert CASE.server.execute("SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                                   "WHERE usename = 'grapnel';") == "t"
        with CASE.with_rows("INSERT INTO mqtt_acl (id, username, topic) SELECT n, 'alice', repeat('x', 100) || n "
                            "FROM generate_series(1000, 4000) AS n;", "DELETE FROM mqtt_acl WHERE id >= 1000;"):
            alice = b.connect(V5, username="alice", password="wonder")  # an answer of many records
            assert alice.publish("x" * 100 + "3999", "1", qos=1) in (0, 0x10)
        CASE.allowed(b)


def test_tls_with_another_authority_name_or_certificate_is_no_connection():
    CASE.up()
    p = pki.get()
    full = {"sslmode": "verify-full", "sslrootcert": p.root.cert, "host": "localhost"}
    alien = p.other.issue("carl", cn="carl", usage="clientAuth")
    carl = p.root.issue("carl", cn="carl", usage="clientAuth")
    locked = p.file("locked.key", pki.openssl("pkey", "-in", carl.key, "-aes256", "-passout", "pass:" + PASSPHRASE))
    os.chmod(locked, 0o600)
    as_carl = dict(full, user="carl", password=None, sslkey=carl.key, sslcert=carl.cert)
    others = {
        "other-authority": CASE.plugin(order=1, on_error="next", **dict(full, sslrootcert=p.other.cert)),
        "other-name": CASE.plugin(order=2, on_error="next", **dict(full, host="127.0.0.1")),
        "no-authorities": CASE.plugin(order=3, on_error="next", **dict(full, sslrootcert="/nowhere/ca.pem")),
        "alien-certificate": CASE.plugin(order=4, on_error="next", **dict(as_carl, sslcert=alien.cert, sslkey=alien.key)),
        "no-certificate": CASE.plugin(order=5, on_error="next", **dict(as_carl, sslcert=None, sslkey=None)),
        "wrong-passphrase": CASE.plugin(order=6, on_error="next", **dict(as_carl, sslkey=locked, sslpassword="not " + PASSPHRASE)),
        "wrong-password": CASE.plugin(order=7, on_error="next", password="hunter2"),
    }
    with CASE.broker(others=others, order=90, **dict(as_carl, sslkey=locked, sslpassword=PASSPHRASE)) as b:
        CASE.recovers(b)
        cannot(b, **{"other-authority": "certificate verify failed", "other-name": "does not match host name",
                     "no-authorities": "root certificate file", "alien-certificate": "unknown ca",
                     "no-certificate": "certificate", "wrong-passphrase": "private key",
                     "wrong-password": "password authentication failed"})
        assert not b.log_lines(PASSPHRASE + "|hunter2"), "a secret is in the log"
        CASE.allowed(b)


def test_ways_to_say_where_the_database_is():
    CASE.up()
    s = CASE.server
    with Mute() as mute:
        quoted_password = s.password.replace("\\", "\\\\").replace("'", "\\'")
        string = "host=%s port=%d dbname=mqtt user=grapnel password='%s' sslmode=disable" % (s.host, s.port, quoted_password)
        uri = "postgresql://grapnel:it%%27s%%20a%%20%%5Csecret@localhost:%d/mqtt?sslmode=disable&application_name=uri" % s.port
        ways = {
            "string": dict(NO_PLACE, connection=string),
            "uri": dict(NO_PLACE, connection=uri),
            "override": dict(NO_PLACE, connection=string.replace("mqtt", "nowhere"), dbname="mqtt"),
            "service": dict(NO_PLACE, service="here"),
            "in-a-string": dict(NO_PLACE, connection="service=here application_name=x"),
            "file": {"password": None, "password_file": "{dir}/password"},
            "second-host": {"host": "127.0.0.1,127.0.0.1", "port": "%d,%d" % (free_port(), s.port)},
            "second-address": {"host": "localhost,127.0.0.1", "port": "%d,%d" % (free_port(), s.port)},
            "behind-a-mute": {"host": "127.0.0.1,127.0.0.1", "port": "%d,%d" % (mute.port, s.port)},
            "hostaddr": dict(NO_PLACE, connection=string.replace("host=", "host=db.example.org hostaddr=")),
            "socket": dict(NO_PLACE, host=s.dir, port=str(s.port), dbname="mqtt", user="grapnel"),
        }
        s.hba += "local mqtt grapnel trust\n"
        s.reload()
        # Each of them must be able to say that it does not know this user; the last one does.
        others = {"w-" + name: CASE.plugin(order=i + 1, login_query="SELECT NULL AS password WHERE %u = '-'",
                                           attributes_query=None, acl_query=None, connections=1, timeout="%ds" % (3 * FACTOR), **way)
                  for i, (name, way) in enumerate(ways.items())}
        b = Broker(listeners={"mqtt": {}}, plugins=dict(others, **{"auth-postgres": CASE.plugin(order=50)}), workers=1,
                   files={"password": s.password + "\n", "services": "[here]\n" + string.replace(" ", "\n", 4).replace(
                       " sslmode", "\nsslmode").replace("'", "").replace("it\\s", "it's").replace("\\\\", "\\") + "\n"},
                   env={"PGSERVICEFILE": "{dir}/services", "PGPORT": "1"})
        with b:
            CASE.recovers(b)
            for name in others:
                b.wait_metric('plugin_connections{plugin="%s"}' % name, 1)
            CASE.allowed(b)
            assert mute.accepted > 0
            assert not b.log_lines("secret"), b.log_lines("secret")
            # A new password needs no reload.
            b.write("password", "another\n")
            with CASE.with_rows("ALTER ROLE grapnel PASSWORD 'another';",
                                "ALTER ROLE grapnel PASSWORD %s;" % quoted(s.password)):
                terminate()
                b.wait_metric('plugin_connections{plugin="w-file"}', 1)


def test_what_leads_nowhere_is_an_error_of_the_configuration_and_tells_no_secret():
    CASE.up()
    mine = dict(NO_PLACE)
    rows = (
        (dict(mine, connection="host=x password=top hunter2 dbname=y"), r"no connection string"),
        (dict(mine, connection="postgresql://u:hunter2@[::1/x"), r"no connection string"),
        (dict(mine, connection="host=x hunter2=y"), r"no connection string"),
        (dict(mine, service="no-such-service"), r"no-such-service"),
        (dict(mine, host="a,b", port="1,2,3"), r"port"),
        (dict(mine, host=",".join("h%d" % i for i in range(17))), r"17 hosts"),
        (dict(mine, host="x", sslmode="verify"), r"sslmode"),
        (dict(listen_channel="c" * 64), r"63 bytes"),
        (dict(connections=0), r"connections"),
        (dict(login_query=None, acl_query=None, attributes_query=None), r"nothing to do"),
    )
    CASE.refused_configurations(*rows)
    plugins = {"p-%d" % i: CASE.plugin(**row) for i, (row, _) in enumerate(rows)}
    b = Broker(listeners={"mqtt": {}}, plugins=plugins)
    try:
        b.configure()
        r = sql_cases.run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 1 and "hunter2" not in r.stdout + r.stderr, r
    finally:
        b.remove()


# ---- servers that lie ----------------------------------------------------------------------------

HELLO = b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"
LIES = {
    "noise": (b"\xff" * 300, b""),
    "an error without end": (b"E\xff\xff\xff\xff" + b"x" * 300, b""),
    "rows nobody asked for": (HELLO, b"D\0\0\0\x0a\0\x01\xff\xff\xff\xff" * 50),
    "a row of two gigabytes": (HELLO, b"1\0\0\0\x04" + b"D\x7f\xff\xff\xff\0\x01" + b"x" * 3000),
    "a copy": (HELLO, b"1\0\0\0\x042\0\0\0\x04H\0\0\0\x07\0\0\0" + b"d\0\0\0\x05x" * 40),
    "too many syncs": (HELLO, b"Z\0\0\0\x05I" * 40),
    "nothing but notices": (HELLO, b"N\0\0\0\x0aSNOTE\0\0" * 400),
}


class Liar(Mute):
    """Says `hello` to the start of a connection and `rest` to whatever comes next."""

    def __init__(self, hello, rest):
        self.hello, self.rest = hello, rest
        super().__init__()

    def _serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.held.append(s)
            self.accepted += 1
            threading.Thread(target=self._lie, args=(s,), daemon=True).start()

    def _lie(self, s):
        try:
            s.recv(65536)
            s.sendall(self.hello)
            s.recv(65536)
            s.sendall(self.rest)
        except OSError:
            pass


def test_a_server_that_lies_is_no_database():
    CASE.up()
    liars = {name: Liar(*lies) for name, lies in LIES.items()}
    try:
        others = {"l-%d" % i: CASE.plugin(order=i + 1, on_error="next", port=str(liar.port), connect_timeout="500ms", timeout="1s")
                  for i, liar in enumerate(liars.values())}
        with CASE.broker(others=others, workers=1, timeout="10s") as b:
            alice = b.connect(V5, "alice", username="alice", password="wonder")
            alice.subscribe("alice/#", qos=1)
            for i, name in enumerate(liars):
                b.wait_log(r'"l-%d".*database cannot be used' % i)
                CASE.round_trip(alice)
                assert b.metric('plugin_connections{plugin="l-%d"}' % i) == 0, name
            CASE.allowed(b)
            b.held_nobody()
    finally:
        for liar in liars.values():
            liar.close()


# ---- changes ------------------------------------------------------------------------------------

LISTEN = {"listen_channel": "grapnel"}


def listening(b):
    b.wait_metric("plugin_listening" + LABEL, 1)


def hears(root, alice, n):
    """Does what goes to alice/live reach her? A message behind it, to what she may read, says when it would have."""
    root.publish("alice/live", "%d" % n, qos=1)
    root.publish("alice/mark", "%d" % n, qos=1)
    got = []
    while True:
        m = alice.expect_message()
        got.append((m.topic, m.payload.decode()))
        if got[-1] == ("alice/mark", "%d" % n):
            return ("alice/live", "%d" % n) in got


def revoked_after(root, alice, since):
    """Until it is so. @return seconds."""
    deadline = since + 10 * TIMEOUT
    for n in range(1000000):
        if not hears(root, alice, n):
            return time.monotonic() - since
        assert time.monotonic() < deadline, "what was revoked is still delivered"
    return None


REVOKE = "INSERT INTO mqtt_acl (id, username, permission, action, topic) VALUES (0, 'alice', 'deny', 'read', 'alice/live');"
GIVE_BACK = "DELETE FROM mqtt_acl WHERE id = 0;"


def test_a_right_revoked_with_a_notification_ends_a_live_subscription_and_not_the_connection():
    CASE.up()
    with CASE.broker(**LISTEN) as b:
        listening(b)
        alice = b.connect(V5, "a", username="alice", password="wonder")
        bob = b.connect(V5, "b", username="bob", password="builder")
        root = b.connect(V5, "r", username="root", password="toor")
        alice.subscribe("alice/#", qos=1)
        assert hears(root, alice, -1)
        try:
            CASE.execute(REVOKE)
            took = revoked_after(root, alice, time.monotonic())
            print("        revoked after %.3f s" % took)
            assert b.metric("plugin_notifications_total" + LABEL) >= 1
            alice.ping()
            CASE.execute(GIVE_BACK)
            wait_until(lambda: hears(root, alice, -2), "what was given back is delivered", TIMEOUT)
            CASE.execute("UPDATE mqtt_user SET enabled = false WHERE username = 'bob';")
            bob.expect_close(0x87)
            alice.ping()
            CASE.denied(b, "bob", "builder")
        finally:
            CASE.execute(GIVE_BACK + "UPDATE mqtt_user SET enabled = true WHERE username = 'bob';")


def test_what_changed_while_nobody_listened_is_found_out_afterwards():
    CASE.up()
    with CASE.broker(**LISTEN) as b:
        listening(b)
        alice = b.connect(V5, "a", username="alice", password="wonder")
        root = b.connect(V5, "r", username="root", password="toor")
        alice.subscribe("alice/#", qos=1)
        assert hears(root, alice, -1)
        try:
            CASE.execute("SET session_replication_role = replica;" + REVOKE)  # without triggers
            assert hears(root, alice, -2)
            terminate("query LIKE 'LISTEN%'")
            revoked_after(root, alice, time.monotonic())
            b.wait_log("listening on grapnel again")
            listening(b)
        finally:
            CASE.execute(GIVE_BACK)


def test_the_listener_is_asked_for_signs_of_life():
    CASE.up()
    with CASE.broker(listen_check="100ms", listen_channel='odd "channel') as b:
        listening(b)
        CASE.execute('NOTIFY "odd ""channel", \'user=alice\'; NOTIFY "odd ""channel", \'what?\';'
                     'NOTIFY "odd ""channel", \'client=x\'; NOTIFY "odd ""channel";')
        b.wait_metric("plugin_notifications_total" + LABEL, 4)
        b.wait_log("neither empty, user=NAME nor client=ID")
        CASE.server.pause()
        try:
            b.wait_log("changes in the database are not heard of: .*no sign of life")
        finally:
            CASE.server.resume()
        listening(b)


def test_the_triggers_tell_whom_a_change_is_about():
    CASE.up()
    s = CASE.server

    def told(script):
        r = s.psql("LISTEN grapnel;" + script)
        return sorted(re.findall(r'notification "grapnel" (?:with payload "([^"]*)" )?received', r.stdout + r.stderr))

    assert told("UPDATE mqtt_user SET enabled = enabled WHERE username IN ('alice', 'bob');") == ["user=alice", "user=bob"]
    assert told("INSERT INTO mqtt_acl (id, topic) VALUES (900, 'x');") == [""]
    assert told("UPDATE mqtt_acl SET username = 'bob' WHERE id = 900;") == [""]
    assert told("UPDATE mqtt_acl SET username = 'alice' WHERE id = 900;") == ["user=alice", "user=bob"]
    assert told("DELETE FROM mqtt_acl WHERE id = 900;") == ["user=alice"]
    assert told("DELETE FROM mqtt_acl WHERE id = 900;") == []
    assert told("INSERT INTO mqtt_attribute SELECT 'u' || n, 'x', 'y' FROM generate_series(1, 101) AS n;") == [""]
    assert told("BEGIN; DELETE FROM mqtt_attribute WHERE name = 'x'; ROLLBACK;") == []
    assert told("DELETE FROM mqtt_attribute WHERE name = 'x' AND username <> 'u1';") == ["user=u%d" % n for n in sorted(
        range(2, 102), key=str)]
    assert told("DELETE FROM mqtt_attribute WHERE name = 'x';") == ["user=u1"]
    assert told("INSERT INTO mqtt_attribute VALUES (repeat('x', 8000), 'x', 'y');") == [""]
    assert told("DELETE FROM mqtt_attribute WHERE name = 'x';") == [""]
    s.psql(CASE.schema())  # again: nothing breaks


# ---- reload -------------------------------------------------------------------------------------


def test_a_reload_takes_the_new_connections_and_leaves_none_of_the_old():
    CASE.up()
    with CASE.broker(**LISTEN) as b:
        listening(b)
        alice = b.connect(V5, "a", username="alice", password="wonder")
        for connections in (1, 3):
            b.options["plugins"]["auth-postgres"]["connections"] = connections
            b.configure()
            b.reload()
            CASE.allowed(b)
            b.wait_metric("plugin_connections" + LABEL, 2 * connections)
            wait_until(lambda n=connections: CASE.server.sessions() == 2 * n + 1, "only the new connections", TIMEOUT)
        alice.ping()
