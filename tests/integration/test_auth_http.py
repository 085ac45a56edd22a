# SPDX-License-Identifier: Apache-2.0
"""auth-http with a server of Python's standard library and with nginx."""
from lib.backend import Backend
from lib.http_server import Users
from lib.mqtt import *  # noqa: F401,F403


class Case(Backend):
    instance = "auth-http"

    def options(self):
        return {"login_url": self.server.url("/login"), "superuser_url": self.server.url("/superuser"),
                "cache_ttl": 0, "cache_negative_ttl": 0}


CASE = Case(Users)


def test_right_and_wrong_passwords_and_unknown_users():
    CASE.logins()


def test_names_that_mean_something_elsewhere_are_nobodys():
    CASE.nasty_names()


def test_rights_come_with_the_login():
    CASE.rights()


def test_the_service_comes_after_the_broker():
    CASE.stopped_before_start()


def test_the_service_is_killed_under_load():
    CASE.killed_under_load()


def test_the_service_hangs():
    CASE.hung()


def test_a_mute_server_holds_up_only_who_asks_it():
    CASE.up()
    CASE.mute(login_url=lambda port: "http://127.0.0.1:%d/login" % port, superuser_url=None, order=30)
