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
import hashlib
import os

from . import mqtt
from .backend import USERS, Backend
from .broker import SRC
from .mqtt import CONNACK, V5, V311

CASE = None  # a Sql; set by the test file

QUERIES = {
    "login_query": "SELECT password, superuser FROM mqtt_user WHERE username = %u AND enabled = TRUE",
    "attributes_query": "SELECT name, value FROM mqtt_attribute WHERE username = %u",
    "acl_query": "SELECT permission, action, topic, qos, retain FROM mqtt_acl "
                 "WHERE username = %u OR username IS NULL ORDER BY id",
}
CHECK = dict(QUERIES, acl_mode="check")


def hashed(password):
    """One that costs nothing to check: the older form of mosquitto_passwd."""
    salt = b"0123456789ab"
    digest = hashlib.sha512(password.encode() + salt).digest()
    return "$6$%s$%s" % (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())


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
        out += insert("mqtt_user", username=user, password=hashed(password), superuser=user == "root")
    out += insert("mqtt_user", username="disabled", password=hashed("wonder"), enabled=False)
    out += insert("mqtt_user", username="none", password=None)
    out += insert("mqtt_user", username="empty", password="")
    out += insert("mqtt_user", username="plain", password="wonder")
    out += insert("mqtt_user", username="foreign", password="{SSHA}mUJ8aFLFSUDqPmMkMLBzGtMnBaBGa4bT")
    out += insert("mqtt_attribute", username="alice", name="tenant", value="acme")
    for i, (user, permission, action, topic) in enumerate(ACL):
        out += insert("mqtt_acl", id=i + 1, username=user, permission=permission, action=action, topic=topic)
    return out


class Sql(Backend):
    def connection(self):
        raise NotImplementedError

    def execute(self, script):
        raise NotImplementedError

    def options(self):
        return dict(QUERIES, **self.connection())

    def schema(self):
        """Text of the plugin's schema.sql."""
        with open(os.path.join(SRC, "plugins", self.instance, "schema.sql"), encoding="utf-8") as f:
            return f.read()

    def fill(self):
        """After the tables were made."""
        self.execute(data())


# ---- logins -------------------------------------------------------------------------------------


def test_logins():
    CASE.logins()


def test_nasty_names():
    CASE.nasty_names()


def test_rights_at_connect():
    CASE.rights()
