# SPDX-License-Identifier: Apache-2.0
"""What every SQL back end must do. A test file brings its server and runs these:

    from lib.sql_cases import *  # the tests
    from lib import sql_cases

    class Case(sql_cases.Sql):
        instance = "auth-postgres"
        def connection(self): return {"host": ..., ...}     # options that lead to self.server
        def execute(self, script): ...                      # statements that end in ";", on the server

    sql_cases.CASE = Case(Postgres)

The server has the tables of the plugin's schema.sql after its start (self.server.start() the first time); fill() below puts
users into them. The SQL in here is what all databases understand; columns that differ are named by the class.
"""
import base64
import contextlib
import hashlib
import os
import re

from . import scram
from .backend import NASTY, NOT_AUTHORIZED, USERS, Backend
from .broker import SRC, TIMEOUT, Broker, run_grapneld
from .hashes import quick_hash
from .mqtt import AUTH, CONNACK, DISCONNECT, V311, V5, P, Will
from .proc import wait_until

CASE = None  # a Sql; set by the test file

# As the plugins' README.md have them, on the tables of their schema.sql.
QUERIES = {
    "login_query": "SELECT password, superuser FROM mqtt_user WHERE username = %u AND enabled = TRUE",
    "attributes_query": "SELECT name, value FROM mqtt_attribute WHERE username = %u",
    "acl_query": "SELECT permission, action, topic, qos, retain FROM mqtt_acl "
                 "WHERE username = %u OR username IS NULL ORDER BY id",
}
ONE_USER = "SELECT password%s FROM mqtt_user WHERE username = %%u"  # with more columns


def quoted(value):
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def insert(table, **columns):
    return "INSERT INTO %s (%s) VALUES (%s);\n" % (
        table, ", ".join(columns), ", ".join(quoted(v) for v in columns.values()))


ACL = [
    ("alice", "deny", "read", "shared/#"),
    ("alice", "allow", "publish", "%u/#"),
    ("alice", "allow", "read", "%u/#"),
    ("alice", "allow", "subscribe", "%u/#"),
    ("alice", "allow", "subscribe", "shared/%{tenant}/#"),
    ("bob", "allow", "publish", "%u/#"),
]


def data():
    out = ""
    for user, password in USERS.items():
        out += insert("mqtt_user", username=user, password=quick_hash(password), superuser=user == "root")
    out += insert("mqtt_user", username="disabled", password=quick_hash("wonder"), enabled=False)
    out += insert("mqtt_user", username="none", password=None)
    out += insert("mqtt_user", username="empty", password="")
    out += insert("mqtt_user", username="plain", password="wonder")
    out += insert("mqtt_user", username="foreign", password="{SSHA}mUJ8aFLFSUDqPmMkMLBzGtMnBaBGa4bT")
    out += insert("mqtt_attribute", username="alice", name="tenant", value="acme")
    for i, (user, permission, action, topic) in enumerate(ACL):
        out += insert("mqtt_acl", id=i + 1, username=user, permission=permission, action=action, topic=topic)
    return out


class Sql(Backend):
    long_text = "REPEAT('x', %d)"
    readable = ""  # statements after which the broker may read table %s

    def __init__(self, server_class):
        super().__init__(server_class)
        self.changed = {}

    def connection(self):
        raise NotImplementedError

    def execute(self, script):
        raise NotImplementedError

    def options(self):
        return dict(QUERIES, **dict(self.connection(), **self.changed))

    def schema(self):
        """Text of the plugin's schema.sql."""
        with open(os.path.join(SRC, "plugins", self.instance, "schema.sql"), encoding="utf-8") as f:
            return f.read()

    def fill(self):
        """After the tables were made."""
        self.execute(data())

    @contextlib.contextmanager
    def using(self, **changed):
        """Other options in what runs inside."""
        self.changed = changed
        try:
            yield self
        finally:
            self.changed = {}

    @contextlib.contextmanager
    def with_rows(self, do, undo):
        self.up()
        self.execute(do)
        try:
            yield self
        finally:
            self.execute(undo)

    def refused_configurations(self, *rows):
        """Each (options, regex): one broker that is asked with -t, as all errors are said."""
        self.up()
        plugins = {"%s-%d" % (self.instance, i): self.plugin(**changed) for i, (changed, _) in enumerate(rows)}
        b = Broker(listeners={"mqtt": {}}, plugins=plugins)
        try:
            b.configure()
            r = run_grapneld("-t", "-c", b.conf)
            assert r.returncode != 0, r
            lines = (r.stdout + r.stderr).splitlines()
            for i, (changed, regex) in enumerate(rows):
                mine = [x for x in lines if re.search(r"%s-%d\b" % (self.instance, i), x)]
                assert any(re.search(regex, x) for x in mine), "%r: no /%s/ in %s" % (changed, regex, mine or lines)
        finally:
            b.remove()


def tenant_of(b, c):
    return b.ctl_json("clients", "show", c.client_id)["attributes"].get("tenant")


# ---- logins -------------------------------------------------------------------------------------


def test_logins():
    CASE.logins()


def test_nasty_user_names():
    CASE.nasty_names()


def test_a_row_without_a_usable_hash_lets_nobody_in():
    CASE.up()
    with CASE.broker() as b:
        for user in ("disabled", "none", "empty"):
            for password in ("wonder", "", None, "NULL"):
                CASE.denied(b, user, password)
        for user, password in (("plain", "wonder"), ("foreign", "wonder")):
            assert CASE.code(b, user, password) == 0x88, user
        b.wait_log("a stored password hash could not be checked")
        assert not b.log_lines("SSHA|wonder"), "a hash or a password is in the log"
        CASE.allowed(b)
        plugin = '{plugin="%s"}' % CASE.instance
        assert b.metric("plugin_logins_refused_total" + plugin) == 8
        assert b.metric("plugin_logins_unknown_total" + plugin) == 4
        assert b.metric("plugin_logins_unavailable_total" + plugin) == 2
        assert b.metric("plugin_logins_accepted_total" + plugin) == 1


def test_only_an_unknown_user_goes_to_the_next_plugin():
    CASE.up()
    file = {"module": "auth-file", "order": 30, "password_file": "{dir}/pw"}
    users = "".join("%s:%s\n" % (u, quick_hash("file")) for u in ("fred", "alice", "none"))
    with CASE.broker(others={"file": file}, files={"pw": users}, listeners={"mqtt": {"anonymous": True}},
                     acl_query=None) as b:
        assert CASE.code(b, "fred", "file") == 0
        CASE.denied(b, "fred", "wonder")
        CASE.denied(b, "alice", "file")
        CASE.denied(b, "none", "file")
        CASE.allowed(b)
        b.connect(V5).ping()  # no user name: nothing is asked
        CASE.denied(b, "", "x")


def test_columns_are_what_counts_for_the_user():
    CASE.up()
    columns = (", 'Alice L.' AS username, 'globex' AS tenant, 'site/' AS mountpoint, 1 AS max_qos, 'allow all %%{tenant}/#' AS acl, "
               "NULL AS role, 4102444800 AS valid_until, 3 AS MAX_INFLIGHT")
    with CASE.broker(login_query=ONE_USER % columns, attributes_query=None, acl_query=None) as b:
        c = b.connect(V5, "c", username="alice", password="wonder")
        assert c.connack.prop(P.MAXIMUM_QOS) == 1, c.connack
        assert c.publish("globex/x", "1", qos=1) in (0, 0x10)
        assert c.publish("acme/x", "1", qos=1) == 0x87
        info = b.ctl_json("clients", "show", "--mountpoint", "site/", "c")
        assert info["username"] == "Alice L." and info["attributes"] == {"tenant": "globex"}, info


def test_places_in_a_query_are_parameters():
    CASE.up()
    query = ONE_USER % "" + " AND %c <> 'bad' AND %h = '127.0.0.1' AND %l = 'mqtt' AND %m = '' AND 'a%%b' LIKE '_%%_'"
    with CASE.broker(login_query=query) as b:
        for client_id in NASTY:
            assert CASE.code(b, "alice", "wonder", client_id=client_id) == 0, client_id
        CASE.denied(b, "alice", "wrong")
        assert CASE.code(b, "alice", "wonder", client_id="bad") in NOT_AUTHORIZED[V5]


def test_the_database_may_compare_the_password_itself():
    CASE.up()
    with CASE.broker(login_query="SELECT 1 AS found FROM mqtt_user WHERE username = %u AND password = %p",
                     check_password=False, attributes_query=None) as b:
        assert CASE.code(b, "plain", "wonder") == 0
        for password in ("wonde", "' OR '1'='1", "", None, b"\xff\xfe", b"wonder\0", "x" * 60000):
            CASE.denied(b, "plain", password)
        assert CASE.code(b, "plain", "wonder", V311) == 0


def test_without_check_password_a_row_is_enough():
    CASE.up()
    with CASE.broker(check_password=False) as b:
        for password in ("wonder", "wrong", "", None):
            assert CASE.code(b, "alice", password) == 0
        assert CASE.code(b, "foreign", "x") == 0
        CASE.denied(b, "nobody", "wonder")
        CASE.denied(b, "disabled", "wonder")


# ---- answers that cannot be used ----------------------------------------------------------------

ANSWERS = {  # name: (options, what the log says)
    "no-column": ({"login_query": "SELECT username FROM mqtt_user WHERE username = %u"}, "login_query .*no column named password"),
    "two-rows": ({"login_query": "SELECT password FROM mqtt_user WHERE username = %u OR username = 'bob'"},
                 "login_query .*more than one row"),
    "two-passwords": ({"login_query": ONE_USER % ", password"}, "login_query .*two columns named password"),
    "bad-name": ({"login_query": ONE_USER % ', 1 AS "some thing"'}, "login_query .*cannot be an attribute"),
    "bad-limit": ({"login_query": ONE_USER % ", 'many' AS max_inflight"}, "login_query .*max_inflight is not a number"),
    "bad-acl": ({"login_query": ONE_USER % ", 'allow everything' AS acl"}, "\\w+_query cannot be used: .*everything"),
    "no-name": ({"attributes_query": "SELECT NULL AS name, 'x' AS value FROM mqtt_user WHERE username = %u"},
                "attributes_query .*name of an attribute is NULL"),
    "password-attribute": ({"attributes_query": "SELECT 'password' AS name, password AS value FROM mqtt_user WHERE username = %u"},
                           "attributes_query .*cannot be an attribute"),
    "permission": ({"acl_query": "SELECT 'maybe' AS permission, username AS topic FROM mqtt_user"}, "acl_query .*neither allow nor deny"),
    "misspelt": ({"acl_query": "SELECT 'deny' AS permision, username AS topic FROM mqtt_user"}, "acl_query .*a column is none of"),
    "acl-and-more": ({"acl_query": "SELECT 'allow all #' AS acl, 'deny' AS permission"}, "acl_query .*stands for itself"),
    "no-topic": ({"acl_query": "SELECT 'allow' AS permission FROM mqtt_user"}, "acl_query .*has no topic"),
    "bad-filter": ({"acl_query": "SELECT 'a/#/b' AS topic FROM mqtt_user"}, "acl_query .*cannot be used: "),
    "many-rows": ({"acl_query": "SELECT a.topic FROM mqtt_acl a, mqtt_user b, mqtt_user c, mqtt_user d, mqtt_user e"},
                  "acl_query .*too many rows"),
    "large": ({"acl_query": "SELECT {long} AS permission, {long} AS topic, {long} AS qos FROM mqtt_user WHERE username = 'alice'"},
              "acl_query .*too large"),
}


def test_an_answer_that_cannot_be_used_is_unavailable_and_logged_once():
    CASE.up()
    long = CASE.long_text % 2000000
    others = {}
    for i, (name, (options, _)) in enumerate(ANSWERS.items()):
        options = {k: v.replace("{long}", long) for k, v in options.items()}
        others[name] = CASE.plugin(order=i + 1, on_error="next", **options)
    # Only the last one says what becomes of the client.
    with CASE.broker(others=others, workers=1, login_query="SELECT username FROM mqtt_user WHERE username = %u") as b:
        logins = []

        def asked_three_times():  # a busy machine may keep an answer away
            logins.append(CASE.code(b, "alice", "wonder"))
            seen = b.metrics()
            counts = [seen['grapnel_plugin_answers_unusable_total{plugin="%s"}' % name] for name in ANSWERS]
            assert logins[-1] == 0x88 and max(counts) <= len(logins), (logins, counts)  # each is counted once
            return min(counts) >= 3

        wait_until(asked_three_times, "three answers that cannot be used of each", 3 * TIMEOUT)
        for name, (_, regex) in ANSWERS.items():
            b.wait_log(r"\b%s\b.* an answer to .*%s" % (name, regex))
            lines = b.log_lines(r"\b%s\b.* an answer to .*%s" % (name, regex))
            assert len(lines) == 1, "%s: %s of %s" % (name, lines, b.log_lines(name))
        assert not b.log_lines(re.escape(quick_hash("wonder"))), "a hash is in the log"


def test_a_query_that_the_database_refuses_is_unavailable():
    CASE.up()
    with CASE.broker(login_query="SELECT password FROM no_such_table WHERE username = %u", workers=1) as b:
        for v in (V311, V5):
            CASE.unavailable(b, v=v)
        b.wait_log(r" error .*login_query.*no_such_table")
        lines = b.log_lines(r" error .*login_query.*no_such_table")
        assert len(lines) == 1, b.log_lines(CASE.instance)
        assert b.metric('plugin_queries_failed_total{plugin="%s"}' % CASE.instance) == 2


def test_queries_that_cannot_be_meant_are_errors_of_the_configuration():
    question = "SELECT password FROM mqtt_user WHERE username = "
    CASE.refused_configurations(
        ({"login_query": question + "'%u'"}, r"login_query.*between quotes"),
        ({"login_query": question + '"x %u"'}, r"login_query.*between quotes"),
        ({"login_query": question + "%z"}, r"login_query.*'%' must be followed"),
        ({"login_query": question + "%t"}, r"login_query.*%t has no meaning here"),
        ({"acl_query": "SELECT %p AS topic"}, r"acl_query.*%p has no meaning here"),
        ({"acl_query": "SELECT %t AS topic"}, r"acl_query.*%t has no meaning here"),
        ({"login_query": None}, r"acl_mode = connect"),
        ({"login_query": None, "acl_mode": "check"}, r"attributes_query is asked after the login"),
        ({"login_query": None, "acl_query": None, "attributes_query": None}, r"there is nothing to do"),
    )


# ---- rights -------------------------------------------------------------------------------------


def test_rights_at_connect():
    CASE.rights()


def test_rights_when_they_are_needed():
    with CASE.using(acl_mode="check"):
        CASE.rights()


def test_numbers_of_go_auth_are_rights():
    CASE.up()
    rules = " UNION ALL ".join("SELECT %s AS topic, %d AS access" % (quoted(t), n) for t, n in (
        ("r/#", 1), ("w/#", 2), ("rw/#", 3), ("s/#", 4), ("rs/#", 5)))
    for mode in ("connect", "check"):
        with CASE.broker(acl_query=rules, acl_mode=mode) as b:
            alice = b.connect(V5, username="alice", password="wonder")
            codes = [alice.publish(t + "/x", "1", qos=1) in (0, 0x10) for t in ("r", "w", "rw", "s", "rs")]
            assert codes == [False, True, True, False, False], (mode, codes)
            alice.subscribe([t + "/#" for t in ("r", "w", "rw", "s", "rs")], codes=[0x87, 0x87, 0x87, 0, 0])


def test_rules_as_text_and_the_first_that_matches():
    CASE.up()
    rules = quoted("deny publish t/secret/#\nallow publish t/# qos<=1 retain=no\nallow subscribe t/#\n").replace("%", "%%")
    for mode in ("connect", "check"):
        with CASE.broker(acl_query="SELECT %s AS acl" % rules, acl_mode=mode) as b:
            alice = b.connect(V5, username="alice", password="wonder")
            assert alice.publish("t/secret/x", "1", qos=1) == 0x87
            assert alice.publish("t/x", "1", qos=1) in (0, 0x10)
            assert alice.publish("t/x", "1", qos=2) == 0x87
            assert alice.publish("t/x", "1", qos=1, retain=True) == 0x87
            assert alice.publish("else", "1", qos=1) == 0x87


def test_no_rows_at_connect_are_no_rights():
    CASE.up()
    with CASE.broker(acl_query="SELECT topic FROM mqtt_acl WHERE username = 'nobody'") as b:
        alice = b.connect(V5, username="alice", password="wonder")
        assert alice.publish("alice/x", "1", qos=1) == 0x87
        alice.subscribe("alice/#", codes=[0x87])


def test_no_rows_when_checking_ask_the_next_plugin_and_rows_that_do_not_match_deny():
    CASE.up()
    file = {"module": "auth-file", "order": 30, "rules": ["{dir}/rules"]}
    with CASE.broker(others={"file": file}, files={"rules": "allow all file/#\nallow all alice/#\n"}, acl_mode="check",
 acl_query="SELECT topic FROM mqtt_acl WHERE username = %u AND permission = 'allow'") as b:
        alice = b.connect(V5, username="alice", password="wonder")
        bob = b.connect(V5, username="bob", password="builder")
        assert alice.publish("alice/x", "1", qos=1) in (0, 0x10)
        assert alice.publish("file/x", "1", qos=1) == 0x87
        assert bob.publish("file/x", "1", qos=1) == 0x87
        with CASE.with_rows("UPDATE mqtt_acl SET username = 'gone' WHERE username = 'bob';",
                            "UPDATE mqtt_acl SET username = 'bob' WHERE username = 'gone';"):
            assert bob.publish("file/x", "1", qos=1) in (0, 0x10)
            assert bob.publish("bob/x", "1", qos=1) == 0x87


def test_a_right_may_be_asked_for_with_all_that_is_known():
    CASE.up()
    query = ("SELECT topic FROM mqtt_acl WHERE username = %u AND ((%a = 'publish' AND %q = '1' AND %r = '0' AND %t = 'alice/x') "
             "OR (%a = 'subscribe' AND %t = 'alice/+') OR (%a = 'will' AND %t = 'alice/x'))")
    with CASE.broker(acl_mode="check", acl_query=query) as b:
        alice = b.connect(V5, username="alice", password="wonder", will=Will("alice/x"))
        assert alice.publish("alice/x", "1", qos=1) in (0, 0x10)
        assert alice.publish("alice/x", "1", qos=2) == 0x87
        assert alice.publish("alice/x", "1", qos=1, retain=True) == 0x87
        assert alice.publish("alice/y", "1", qos=1) == 0x87
        alice.subscribe("alice/+")
        alice.subscribe("alice/#", codes=[0x87])
        c = b.client(V5)
        c.send_connect("w", username="alice", password="wonder", will=Will("alice/y"))
        assert c.expect(CONNACK).reason == 0x87


def test_nasty_topics_are_only_topics():
    CASE.up()
    with CASE.broker(acl_mode="check", acl_query="SELECT topic FROM mqtt_acl WHERE username = %u AND topic <> %t") as b:
        alice = b.connect(V5, username="alice", password="wonder")
        for name in NASTY:
            if "+" in name or "#" in name:
                alice.subscribe(name, codes=[0x87])
            elif name != "alice/":
                assert alice.publish(name, "1", qos=1) == 0x87, name
                assert alice.publish("alice/" + name, "1", qos=1) in (0, 0x10), name
        alice.subscribe(["alice/'", "' OR '1'='1", "x" * 60000], codes=[0, 0x87, 0x87])


def test_a_change_counts_at_once_when_rights_are_checked():
    CASE.up()
    with CASE.broker(acl_mode="check") as b:
        alice = b.connect(V5, username="alice", password="wonder")
        assert alice.publish("late/x", "1", qos=1) == 0x87
        with CASE.with_rows(insert("mqtt_acl", id=100, username="alice", topic="late/#"), "DELETE FROM mqtt_acl WHERE id = 100;"):
            assert alice.publish("late/x", "1", qos=1) in (0, 0x10)
        assert alice.publish("late/x", "1", qos=1) == 0x87


# ---- superusers, and who may stay ---------------------------------------------------------------


def test_a_superuser_needs_the_password_too():
    CASE.up()
    with CASE.broker(superuser_query="SELECT username = 'alice' AS yes FROM mqtt_user WHERE username = %u",
                     login_query=ONE_USER % "") as b:
        for password in ("wrong", "", None):
            CASE.denied(b, "alice", password)
        CASE.denied(b, "nobody", "wonder")
        CASE.denied(b, "none", "wonder")
        alice = b.connect(V5, username="alice", password="wonder")
        assert alice.publish("any/thing", "1", qos=1) in (0, 0x10)
        bob = b.connect(V5, username="bob", password="builder")
        assert bob.publish("any/thing", "1", qos=1) == 0x87
    with CASE.broker(superuser_query="SELECT 1 FROM mqtt_user WHERE username = 'nobody'", login_query=ONE_USER % "") as b:
        root = b.connect(V5, username="root", password="toor")
        assert root.publish("any/thing", "1", qos=1) == 0x87


def test_later_queries_know_what_earlier_ones_found():
    CASE.up()
    with CASE.broker(login_query=ONE_USER % ", 'bob' AS username",
                     attributes_query="SELECT %u AS team",
                     superuser_query="SELECT %{team} = 'alice'",
                     acl_query="SELECT topic FROM mqtt_acl WHERE username = %{team}") as b:
        c = b.connect(V5, username="alice", password="wonder")
        assert c.publish("bob/x", "1", qos=1) in (0, 0x10)
        assert c.publish("alice/x", "1", qos=1) == 0x87


def test_an_attribute_that_is_not_there_gives_no_rights():
    CASE.up()
    with CASE.broker(acl_query="SELECT '#' AS topic, %{tenant} AS permission") as b:
        bob = b.connect(V5, username="bob", password="builder")
        assert bob.publish("bob/x", "1", qos=1) == 0x87


def test_who_is_online_is_asked_about_again():
    CASE.up()
    with CASE.broker() as b:
        alice = b.connect(V5, "a", username="alice", password="wonder")
        bob = b.connect(V5, "b", username="bob", password="builder")
        alice.subscribe("alice/#", qos=1)
        assert alice.publish("late/x", "1", qos=1) == 0x87
        with CASE.with_rows("UPDATE mqtt_user SET enabled = FALSE WHERE username = 'bob';\n"
                            "UPDATE mqtt_user SET password = NULL WHERE username = 'alice';\n" +
                            insert("mqtt_acl", id=100, username="alice", topic="late/#"),
                            "UPDATE mqtt_user SET enabled = TRUE WHERE username = 'bob';\n"
                            "UPDATE mqtt_user SET password = %s WHERE username = 'alice';\n"
                            "DELETE FROM mqtt_acl WHERE id = 100;" % quoted(quick_hash("wonder"))):
            b.reload()
            bob.expect_close(0x87)
            wait_until(lambda: alice.publish("late/x", "1", qos=1) in (0, 0x10), "the new right does not count", TIMEOUT)
            assert alice.publish("alice/x", "1", qos=1) == 0
            alice.expect_message(topic="alice/x")


def test_a_query_of_its_own_says_who_may_stay():
    CASE.up()
    with CASE.broker(revalidate_query="SELECT 'new' AS tenant FROM mqtt_user WHERE username = %u AND username <> 'bob'",
                     attributes_query=None) as b:
        alice = b.connect(V5, "a", username="alice", password="wonder")
        bob = b.connect(V5, "b", username="bob", password="builder")
        alice.subscribe("shared/new/#", codes=[0x87])
        b.reload()
        bob.expect_close(0x87)
        wait_until(lambda: tenant_of(b, alice) == "new", "the new attribute does not count", TIMEOUT)
        alice.subscribe("shared/new/#")


# ---- answers that the broker keeps --------------------------------------------------------------


def asked(b):
    return b.metric('plugin_queries_total{plugin="%s"}' % CASE.instance)


def test_answers_are_kept_for_what_the_queries_ask_about():
    CASE.up()
    with CASE.broker(cache=True) as b:
        CASE.allowed(b)
        assert asked(b) == 3
        for client_id in ("x", "y", "z"):
            assert CASE.code(b, "alice", "wonder", client_id=client_id) == 0
        assert asked(b) == 3  # who knows the user name and the password knows the answer
        CASE.denied(b, "alice", "wrong")
        assert asked(b) == 4
        CASE.allowed(b, "bob")
        assert asked(b) == 7
    with CASE.broker(cache=True, login_query=ONE_USER % ", 0 AS cache_ttl" + " AND %c <> ''", attributes_query=None,
                     acl_query=None) as b:
        for n in (1, 2):
            assert CASE.code(b, "alice", "wonder", client_id="x") == 0
            assert asked(b) == n  # cache_ttl 0
        CASE.denied(b, "alice", "wrong", v=V5)
        CASE.denied(b, "alice", "wrong", v=V5)  # another client id
        assert asked(b) == 4


def test_a_purge_takes_what_the_database_took():
    CASE.up()
    with CASE.broker(cache=True) as b:
        alice = b.connect(V5, "a", username="alice", password="wonder")
        bob = b.connect(V5, "b", username="bob", password="builder")
        alice.subscribe("alice/#", qos=1)
        with CASE.with_rows("UPDATE mqtt_acl SET action = 'subscribe' WHERE username = 'alice' AND action = 'publish';\n"
                            "UPDATE mqtt_user SET enabled = FALSE WHERE username = 'bob';\n",
                            "UPDATE mqtt_acl SET action = 'publish' WHERE id = 2;\n"
                            "UPDATE mqtt_user SET enabled = TRUE WHERE username = 'bob';\n"):
            assert alice.publish("alice/x", "1", qos=1) == 0
            alice.expect_message(topic="alice/x")
            CASE.allowed(b, "bob")  # as it was
            b.ctl("cache", "purge")
            bob.expect_close(0x87)
            wait_until(lambda: alice.publish("alice/x", "1", qos=1) == 0x87, "the right is still there", TIMEOUT)
            CASE.denied(b, "bob", "builder")


# ---- coming from mosquitto-go-auth --------------------------------------------------------------

GO_AUTH = """
CREATE TABLE test_user (id INTEGER NOT NULL PRIMARY KEY, username VARCHAR(100) NOT NULL, password_hash VARCHAR(200) NOT NULL,
    is_admin INTEGER NOT NULL);
CREATE TABLE test_acl (id INTEGER NOT NULL PRIMARY KEY, test_user_id INTEGER NOT NULL, topic VARCHAR(200) NOT NULL,
    rw INTEGER NOT NULL);
"""
GO_AUTH_QUERIES = {  # README.md of the plugins
    "login_query": "SELECT password_hash AS password FROM test_user WHERE username = %u limit 1",
    "superuser_query": "SELECT count(*) > 0 FROM test_user WHERE username = %u AND is_admin = 1",
    "acl_query": "SELECT topic, rw AS access FROM test_acl, test_user WHERE username = %u AND test_user_id = test_user.id",
    "attributes_query": None,
}


def go_auth_hash(password):
    salt = b"0123456789abcdef"
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 4, 64)
    return "PBKDF2$sha512$4$%s$%s" % (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())


def test_the_tables_of_mosquitto_go_auth():
    script = GO_AUTH + "".join(CASE.readable % table for table in ("test_user", "test_acl") if CASE.readable)
    for i, (user, password) in enumerate(USERS.items()):
        script += insert("test_user", id=i, username=user, password_hash=go_auth_hash(password), is_admin=int(user == "root"))
    for i, (topic, rw) in enumerate((("test/r", 1), ("test/w", 2), ("test/rw", 3), ("test/s", 4), ("%u/%c/#", 7))):
        script += insert("test_acl", id=i, test_user_id=0, topic=topic, rw=rw)
    three = GO_AUTH_QUERIES["acl_query"].replace("rw AS", "CASE rw WHEN 3 THEN 7 ELSE rw END AS")
    with CASE.with_rows(script, "DROP TABLE test_user;\nDROP TABLE test_acl;\n"):
        with CASE.broker(**GO_AUTH_QUERIES) as b:
            for user in USERS:
                CASE.allowed(b, user)
                CASE.denied(b, user, "wrong")
            CASE.denied(b, "nobody", "wonder")
            alice = b.connect(V5, "c", username="alice", password="wonder")
            root = b.connect(V5, username="root", password="toor")
            for topic, may_publish, may_subscribe in (
                    ("test/r", False, False), ("test/w", True, False), ("test/rw", True, False), ("test/s", False, True),
                    ("alice/c/x", True, True), ("alice/d/x", False, False)):
                assert alice.publish(topic, "1", qos=1) in ((0, 0x10) if may_publish else (0x87,)), topic
                alice.subscribe(topic, codes=[0 if may_subscribe else 0x87])
                assert root.publish(topic, "root", qos=1) in (0, 0x10)
            alice.expect_message(topic="test/s")
            alice.expect_message(topic="alice/c/x")
        with CASE.broker(**dict(GO_AUTH_QUERIES, acl_query=three)) as b:
            alice = b.connect(V5, "c", username="alice", password="wonder")
            alice.subscribe(["test/rw", "test/w"], codes=[0, 0x87])


# ---- SCRAM --------------------------------------------------------------------------------------


@contextlib.contextmanager
def scram_users():
    rows = [("sam256", scram.credential("SCRAM-SHA-256", "wonder")), ("sam512", scram.credential("SCRAM-SHA-512", "wonder")),
            ("sam,=", scram.credential("SCRAM-SHA-256", "wonder")),
            ("broken", scram.credential("SCRAM-SHA-256", "wonder").replace("=", "", 1))]
    do = "".join(insert("mqtt_user", username=user, password=password) for user, password in rows)
    do += insert("mqtt_attribute", username="sam256", name="tenant", value="acme")
    do += insert("mqtt_acl", id=100, username="sam256", topic="%{tenant}/%u/#")
    undo = "DELETE FROM mqtt_user WHERE username LIKE 'sam%' OR username = 'broken';\n"
    undo += "DELETE FROM mqtt_attribute WHERE username = 'sam256';\nDELETE FROM mqtt_acl WHERE id = 100;\n"
    with CASE.with_rows(do, undo), CASE.broker(scram=True) as b:
        yield b


def scram_code(b, method, user, password="wonder"):
    return scram.login(b.client(), method, user, password, b.unique("c")).reason


def test_scram_logs_in_with_what_is_in_the_column_password():
    with scram_users() as b:
        for method, user in (("SCRAM-SHA-256", "sam256"), ("SCRAM-SHA-512", "sam512"), ("SCRAM-SHA-256", "sam,=")):
            assert scram_code(b, method, user) == 0, user
            for wrong in ("wonde", "", "wonder "):
                assert scram_code(b, method, user, wrong) == 0x87, (user, wrong)
            CASE.denied(b, user, "wrong")  # without SCRAM
            assert CASE.code(b, user, "wonder") == 0
        c = b.client()
        p = scram.login(c, "SCRAM-SHA-256", "sam256", "wonder", "sam")
        assert p.reason == 0
        info = b.ctl_json("clients", "show", "sam")
        assert info["username"] == "sam256" and info["attributes"]["tenant"] == "acme", info
        assert c.publish("acme/sam256/x", "1", qos=1) in (0, 0x10)
        assert c.publish("acme/sam512/x", "1", qos=1) == 0x87


def test_scram_does_not_tell_who_is_there():
    with scram_users() as b:
        challenges = []
        for user in ("nobody", "alice", "none", "disabled", "sam512", "' OR '1'='1", "sam256"):
            c = b.client()
            exchange = scram.Exchange("SCRAM-SHA-256", user, "wonder")
            c.send_connect(b.unique("c"), props=scram.properties("SCRAM-SHA-256", exchange.first))
            p = c.expect(AUTH)
            challenge = dict(f.split("=", 1) for f in p.prop(P.AUTH_DATA).decode().split(","))
            challenges.append({k: len(v) for k, v in challenge.items()})
            if user != "sam256":
                assert scram_code(b, "SCRAM-SHA-256", user) == 0x87, user
        assert all(set(c) == set(challenges[0]) and c["r"] == challenges[0]["r"] for c in challenges), challenges


def test_scram_goes_wrong_in_all_the_ways_it_can():
    method = "SCRAM-SHA-256"
    with scram_users() as b:
        for first in (None, "", "n,,", "y,,n=sam256,r=x", "p=tls-unique,,n=sam256,r=x", "n,,n=,r=x", "n,,n=sam256", "x" * 60000,
                      "n,,n=sam256,r=" + "x" * 3000, "n,,n=a\0b,r=x"):
            c = b.client()
            c.send_connect(b.unique("c"), props=scram.properties(method, first))
            p = c.recv()
            if p.type == AUTH:  # "y" is fine: a client that would bind, and knows that we cannot
                assert first.startswith("y,,"), first
                c.send_raw(P.auth(scram.CONTINUE, scram.properties(method, "c=eSws,r=x,p=AAAA")))
                p = c.recv()
            assert p.type == CONNACK and p.reason == 0x87, (first, p)
        for final in (None, "", "c=biws,r=x,p=AAAA", "x" * 60000):
            c = b.client()
            c.send_connect(b.unique("c"), props=scram.properties(method, scram.Exchange(method, "sam256", "x").first))
            c.expect(AUTH)
            c.send_raw(P.auth(scram.CONTINUE, scram.properties(method, final)))
            c.expect(CONNACK, reason=0x87)
        assert scram_code(b, method, "broken") in (0x87, 0x88)
        for other in ("alice", "SAM256", ""):
            assert scram.login(b.client(), method, "sam256", "wonder", "named", username="sam256").reason == 0
            c = b.client()
            c.send_connect("named", props=scram.properties(method, scram.Exchange(method, "sam256", "wonder").first),
                           username=other)
            c.expect(CONNACK, reason=0x87)
        c = b.client()
        c.send_connect(b.unique("c"), props=scram.properties("PLAIN", "x"))
        c.expect(CONNACK, reason=0x8C)
        for _ in range(10):  # gone in the middle
            c = b.client()
            c.send_connect("same", props=scram.properties(method, scram.Exchange(method, "sam256", "x").first))
            c.expect(AUTH)
            c.close()
        assert scram_code(b, method, "sam256") == 0


def test_scram_again_while_connected():
    method = "SCRAM-SHA-256"
    with scram_users() as b:
        c = b.client()
        assert scram.login(c, method, "sam256", "wonder", "c").reason == 0
        assert c.publish("late/x", "1", qos=1) == 0x87
        with CASE.with_rows(insert("mqtt_acl", id=101, username="sam256", topic="late/#"), "DELETE FROM mqtt_acl WHERE id = 101;"):
            assert scram.again(c, method, "sam256", "wonder").type == AUTH
            assert c.publish("late/x", "1", qos=1) in (0, 0x10)
        p = scram.again(c, method, "sam256", "wrong")
        assert p.type == DISCONNECT and p.reason == 0x87, p
