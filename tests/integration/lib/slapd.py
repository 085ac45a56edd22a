# SPDX-License-Identifier: Apache-2.0
"""OpenLDAP's slapd: ldap:// with StartTLS, and ldaps://, on loopback.

    s = Slapd().start()
    s.url, s.tls_url, s.ca              # "ldap://127.0.0.1:...", "ldaps://127.0.0.1:...", the authority's file
    s.modify("dn: uid=alice,...\nchangetype: modify\nreplace: ...")

Its data: people under ou=people,dc=test, groups under ou=groups,dc=test; the attribute memberOf is kept by slapd's overlay.
The schema of plugins/auth-ldap is loaded.
"""
import base64
import glob
import hashlib
import os
import shutil

from . import pki
from .broker import SRC
from .server import Server, free_port

SLAPD = shutil.which("slapd") or shutil.which("slapd", path="/usr/sbin:/usr/libexec:/usr/local/libexec")
SLAPADD = shutil.which("slapadd") or shutil.which("slapadd", path="/usr/sbin:/usr/local/sbin")
LDAPMODIFY = shutil.which("ldapmodify")
SCHEMA = next((d for d in ("/etc/ldap/schema", "/etc/openldap/schema") if os.path.isdir(d)), None)
MODULES = next((os.path.dirname(x) for d in ("/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap")
                for x in glob.glob(d + "/memberof*")), None)
MISSING = next((name for name, found in (
    ("slapd", SLAPD), ("slapadd", SLAPADD), ("ldapmodify", LDAPMODIFY), ("openssl", pki.OPENSSL),
    ("slapd's schema", SCHEMA), ("slapd's modules", MODULES)) if not found), None)

PEOPLE, GROUPS = "ou=people,dc=test", "ou=groups,dc=test"
SERVICE = "cn=grapnel,dc=test"
SERVICE_PASSWORD = "service secret"
ADMIN, ADMIN_PASSWORD = "cn=admin,dc=test", "admin secret"

CONFIG = """\
dn: cn=config
objectClass: olcGlobal
cn: config
olcPidFile: {dir}/slapd.pid
olcArgsFile: {dir}/slapd.args
olcTLSCACertificateFile: {dir}/ca.pem
olcTLSCertificateFile: {dir}/cert.pem
olcTLSCertificateKeyFile: {dir}/key.pem
olcTLSVerifyClient: {verify_client}

dn: cn=module,cn=config
objectClass: olcModuleList
cn: module
olcModulePath: {modules}
olcModuleLoad: back_mdb
olcModuleLoad: memberof

dn: cn=schema,cn=config
objectClass: olcSchemaConfig
cn: schema

include: file://{schema}/core.ldif

include: file://{schema}/cosine.ldif

include: file://{schema}/inetorgperson.ldif

include: file://{dir}/schema.ldif

dn: olcDatabase={{-1}}frontend,cn=config
objectClass: olcDatabaseConfig
objectClass: olcFrontendConfig
olcDatabase: {{-1}}frontend

dn: olcDatabase={{1}}mdb,cn=config
objectClass: olcDatabaseConfig
objectClass: olcMdbConfig
olcDatabase: {{1}}mdb
olcSuffix: dc=test
olcRootDN: {admin}
olcRootPW: {admin_password}
olcDbDirectory: {dir}/data
olcDbMaxSize: 67108864
olcDbNoSync: TRUE
olcDbIndex: objectClass,uid,member eq
olcAccess: to attrs=userPassword by anonymous auth by * none
olcAccess: to dn.subtree="ou=hidden,dc=test" by dn.exact="{service}" read by anonymous auth by * none
olcAccess: to dn.subtree="{people}" by dn.exact="{service}" read by self read by anonymous auth by * none
olcAccess: to dn.subtree="{groups}" by dn.exact="{service}" read by users read by * none
olcAccess: to dn.subtree="ou=away,dc=test" by * read
olcAccess: to * by dn.exact="{service}" read by * none

dn: olcOverlay=memberof,olcDatabase={{1}}mdb,cn=config
objectClass: olcOverlayConfig
objectClass: olcMemberOf
olcOverlay: memberof
olcMemberOfRefInt: TRUE
"""

BASE = """\
dn: dc=test
objectClass: domain
dc: test

dn: ou=people,dc=test
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=test
objectClass: organizationalUnit
ou: groups

"""


def hashed(password):
    salt = b"01234567"
    return "{SSHA}" + base64.b64encode(hashlib.sha1(password.encode() + salt).digest() + salt).decode()


def entry(dn, *classes, **attributes):
    """LDIF. A value may be a list; text that is not plain goes as base64."""
    out = ["dn:: " + base64.b64encode(dn.encode()).decode()]
    out += ["objectClass: " + c for c in classes]
    for name, values in attributes.items():
        for value in values if isinstance(values, (list, tuple)) else [values]:
            out.append("%s:: %s" % (name, base64.b64encode(value.encode()).decode()))
    return "\n".join(out) + "\n\n"


def person(uid, password, base=PEOPLE, dn=None, **attributes):
    if password is not None:
        attributes["userPassword"] = hashed(password)
    return entry(dn or "uid=%s,%s" % (uid, base), "inetOrgPerson", "mqttClient", uid=uid, cn=uid, sn=uid, **attributes)


def group(name, *members):
    return entry("cn=%s,%s" % (name, GROUPS), "groupOfNames", cn=name, member=list(members))


class Slapd(Server):
    user = "nobody"
    people = ""       # LDIF, as of person(), loaded before the first start
    groups = ""       # LDIF, as of group(), added after it, so that the overlay sees it
    verify_client = "never"

    def __init__(self):
        super().__init__()
        self.tls_port = free_port()
        self.filled = False

    # ---- how it is reached ----------------------------------------------------------------------

    @property
    def url(self):
        return "ldap://127.0.0.1:%d" % self.port

    @property
    def tls_url(self):
        return "ldaps://127.0.0.1:%d" % self.tls_port

    @property
    def ca(self):
        return pki.get().root.cert

    # ---- what it is -----------------------------------------------------------------------------

    def certificate(self):
        return pki.get().root.issue("slapd", cn="localhost", san="DNS:localhost,IP:127.0.0.1", usage="serverAuth")

    def prepare(self):
        c = self.certificate()
        for name, path in (("ca.pem", self.ca), ("cert.pem", c.cert), ("key.pem", c.key),
                           ("schema.ldif", os.path.join(SRC, "plugins/auth-ldap/schema.ldif"))):
            shutil.copy(path, self.path(name))
        for name in ("data", "slapd.d"):
            os.mkdir(self.path(name))
        self.write("config.ldif", CONFIG.format(
            dir=self.dir, modules=MODULES, schema=SCHEMA, admin=ADMIN, admin_password=ADMIN_PASSWORD, service=SERVICE,
            people=PEOPLE, groups=GROUPS, verify_client=self.verify_client))
        self.write("data.ldif", BASE + entry(SERVICE, "organizationalRole", "simpleSecurityObject", cn="grapnel",
                                             userPassword=hashed(SERVICE_PASSWORD)) + self.people)
        self.run([SLAPADD, "-F", self.path("slapd.d"), "-n", "0", "-l", self.path("config.ldif")])
        self.run([SLAPADD, "-q", "-F", self.path("slapd.d"), "-n", "1", "-l", self.path("data.ldif")])

    def command(self):
        return [SLAPD, "-d", "0", "-F", self.path("slapd.d"), "-h", "%s %s" % (self.url, self.tls_url)]

    def start(self):
        super().start()
        if not self.filled:
            self.filled = True
            if self.groups:
                self.modify(self.groups, "-a")
        return self

    def modify(self, ldif, *options):
        """As the administrator, while it runs."""
        self.run([LDAPMODIFY, "-x", "-H", self.url, "-D", ADMIN, "-w", ADMIN_PASSWORD, *options], input=ldif)
