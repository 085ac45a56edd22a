# SPDX-License-Identifier: Apache-2.0
"""auth-ldap against slapd."""
from lib import slapd
from lib.backend import USERS, Backend
from lib.case import Skip, each
from lib.mqtt import *  # noqa: F401,F403
from lib.slapd import GROUPS, PEOPLE, SERVICE, SERVICE_PASSWORD, group, person

STAFF, READERS = "cn=staff," + GROUPS, "cn=readers," + GROUPS
UID = "uid=%s," + PEOPLE
MODES = ("search", "bind")


class Directory(slapd.Slapd):
    people = "".join(person(u, p, **({"departmentNumber": "acme"} if u == "alice" else {})) for u, p in USERS.items())
    groups = group("readers", UID % "alice") + group("Staff", UID % "root", UID % "bob")


class Ldap(Backend):
    instance = "auth-ldap"
    mode = "search"

    def where(self):
        """How a user is found."""
        if self.mode == "bind":
            return {"bind_dn": "uid=%u," + PEOPLE}
        return {"service_dn": SERVICE, "service_password": SERVICE_PASSWORD, "search_base": PEOPLE}

    def options(self):
        return dict({
            "servers": [self.server.url], "reconnect_max": "1s", "attributes": ["departmentNumber=tenant"],
            'group "CN=readers, %s"' % GROUPS: {
                "rules": ["deny read shared/#", "allow read %u/#", "allow subscribe %u/#",
                          "allow subscribe shared/%{tenant}/#"]},
            'group "%s"' % STAFF: {"set": ["role=staff"]},
            "rules": ["allow publish %u/#"],
        }, **self.where())

    def up(self):
        if slapd.MISSING:
            raise Skip("%s is not installed" % slapd.MISSING)
        return super().up()


class Case(Ldap):
    def options(self):
        root = {'group "cn=root,%s"' % GROUPS: {"superuser": True}}
        return dict(super().options(), **root)


Directory.groups += group("root", UID % "root")
CASE = Case(Directory)


def in_mode(mode):
    CASE.mode = mode
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
    in_mode(mode).hung()


@each(scheme=("ldap", "ldaps", "starttls"), mode=MODES)
def test_somebody_who_listens_and_says_nothing(scheme, mode):
    CASE.up()
    changed = {"tls_ca": CASE.server.ca} if scheme == "ldaps" else {"starttls": scheme == "starttls", "tls_ca": CASE.server.ca}
    in_mode(mode).mute(servers=lambda port: ["%s://127.0.0.1:%d" % ("ldaps" if scheme == "ldaps" else "ldap", port)], **changed)
