# SPDX-License-Identifier: Apache-2.0
"""auth-mysql with a MariaDB server of its own."""
from lib import mariadb, sql_cases
from lib.mariadb import MariaDB
from lib.sql_cases import *  # noqa: F401,F403


class Filled(MariaDB):
    def start(self):
        fresh = not self.prepared
        super().start()
        if fresh:
            self.sql(CASE.schema() + sql_cases.data())
        return self


class Case(sql_cases.Sql):
    instance = "auth-mysql"

    def connection(self):
        return {"host": ["127.0.0.1:%d" % self.server.port], "user": "grapnel", "password": self.server.password,
                "database": "mqtt", "reconnect_max": "200ms"}

    def execute(self, script):
        self.server.sql(script)

    def settled(self, b):
        b.wait_metric('plugin_connections{plugin="auth-mysql"}', 4)


CASE = sql_cases.CASE = Case(Filled)


# ---- outages --------------------------------------------------------------------------------------


def test_the_server_is_not_there_at_start():
    CASE.stopped_before_start()


def test_it_is_killed_under_load():
    CASE.killed_under_load()


def test_it_hangs_under_load():
    CASE.hung()


def test_a_mute_server_holds_nobody():
    CASE.up()
    CASE.mute(host=lambda port: ["127.0.0.1:%d" % port])
