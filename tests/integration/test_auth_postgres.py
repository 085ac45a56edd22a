# SPDX-License-Identifier: Apache-2.0
"""auth-postgres with a PostgreSQL of its own."""
from lib import sql_cases
from lib.postgres import Postgres
from lib.sql_cases import *  # noqa: F401,F403


class Case(sql_cases.Sql):
    instance = "auth-postgres"
    readable = "GRANT SELECT ON %s TO grapnel;\n"

    def up(self):
        if self.server is None:
            self.server = Postgres()
            self.server.start_script = self.schema() + sql_cases.data() + \
                "GRANT SELECT ON mqtt_user, mqtt_attribute, mqtt_acl TO grapnel;"
        return super().up()

    def connection(self):
        s = self.server
        return {"host": s.host, "port": str(s.port), "dbname": s.database, "user": s.role, "password": s.password,
                "connect_timeout": "1s", "reconnect_max": "1s"}

    def execute(self, script):
        self.server.execute(script)


CASE = sql_cases.CASE = Case(Postgres)


# ---- outages ------------------------------------------------------------------------------------


def test_it_is_not_there_when_the_broker_starts():
    CASE.stopped_before_start()


def test_it_is_killed_under_load():
    CASE.killed_under_load()


def test_it_hangs():
    CASE.hung()
