# SPDX-License-Identifier: Apache-2.0
"""The recipes of README.md: each passes `grapneld -t` as it stands there, and works with a real server in place of the example's."""
import os
import re
import ssl
import subprocess

from lib import pki, postgres, slapd
from lib.broker import GRAPNELCTL, PLUGINS, SRC, Broker, run_grapneld
from lib.case import Skip, each
from lib.jwt import Jwks, Rsa, now
from lib.mqtt import CONNACK, V5, Client
from lib.receiver import Receiver
from lib.sdk import skip_reason

README = os.path.join(SRC, "README.md")
NAMES = ("A home: users in a file", "PostgreSQL", "JSON Web Tokens, with the keys of your login server", "LDAP", "Webhooks")


def recipes():
    """{title: {kind of block: text}} of the section "Recipes"."""
    with open(README, encoding="utf-8") as f:
        text = f.read()
    part = re.search(r"^## Recipes\n(.*?)^## ", text, re.M | re.S).group(1)
    out = {}
    for title, body in re.findall(r"^### ([^\n]*)\n(.*?)(?=^### |\Z)", part, re.M | re.S):
        out[title] = dict(re.findall(r"^```(\w+)\n(.*?)^```$", body, re.M | re.S))
    return out


RECIPES = recipes()
HOME = NAMES[0]


def files(rules):
    """What a recipe's paths lead to."""
    c = pki.get().root.issue("readme", san="DNS:localhost")
    out = {"etc/passwd": "", "etc/rules": rules or "everyone\n  allow all #\n", "etc/db-password": postgres.Postgres.password + "\n",
           "etc/ldap-password": slapd.SERVICE_PASSWORD + "\n",
           "etc/webhook.secret": "a secret of thirty-two characters\n"}
    for name, path in (("fullchain.pem", c.cert), ("privkey.pem", c.key)):
        with open(path, encoding="utf-8") as f:
            out["etc/tls/" + name] = f.read()
    return out


class Recipe(Broker):
    """A broker with the recipe as its configuration; what is in `changes` stands for what is an example."""

    def __init__(self, title, **changes):
        recipe = RECIPES[title]
        text = recipe["conf"]
        for plugin in re.findall(r'^plugin "(.*)" {', text, re.M):
            if not os.path.exists(os.path.join(PLUGINS, plugin + ".so")):
                raise Skip("%s is not built" % plugin)
        if title == "Webhooks":  # "beside one of the above"
            text += re.search(r'^plugin "auth-file" {.*?^}\n', RECIPES[HOME]["conf"], re.M | re.S).group(0)
        for old, new in changes.get("replace", {}).items():
            assert old in text, (old, text)
            text = text.replace(old, new)
        text = text.replace("/etc/grapnel/", "{dir}/etc/")
        text = text.replace('plugin "webhook" {', 'plugin "webhook" {\n    path = "{dir}/webhook.outbox"')  # else in /var/lib
        super().__init__(listeners={} if 'listener "' in text else {"mqtt": {}}, files=files(recipe.get("rules")), extra=text)


def once():
    if skip_reason():
        raise Skip(skip_reason())


def test_there_are_five_recipes():
    assert tuple(RECIPES) == NAMES, tuple(RECIPES)
    assert all("conf" in r for r in RECIPES.values())


@each(title=NAMES)
def test_a_recipe_passes_the_check(title):
    b = Recipe(title)
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 0, r.stderr
    finally:
        b.remove()


def test_a_recipe_with_a_mistake_does_not_pass():
    b = Recipe("LDAP", replace={"search_base": "serch_base"})
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 1 and 'did you mean "search_base"?' in r.stderr, r
    finally:
        b.remove()


def test_the_plugin_compiles():
    once()
    with open(README, encoding="utf-8") as f:
        code = re.search(r"^```c\n(.*?)^```$", f.read(), re.M | re.S).group(1)
    left = "/* night_create, night_destroy: allocate and free a struct night */\n"
    assert left in code
    code = "#include <stdlib.h>\n" + code.replace(left, """
static int
night_create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	struct night *n = malloc(sizeof(*n));

	(void)self;
	if (n == NULL)
		return GRAPNEL_ENOMEM;
	n->host = host;
	*instance = n;
	return GRAPNEL_OK;
}

static void
night_destroy(void *instance)
{
	free(instance);
}
""")
    b = Broker(listeners={"mqtt": {"anonymous": True}}, plugins={"night": {"module": "{dir}/night.so"}})
    try:
        r = subprocess.run(["cc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", os.path.join(SRC, "sdk/include"), "-o",
                            b.path("night.so"), "-x", "c", "-"], input=code, text=True, capture_output=True, check=False)
        assert r.returncode == 0, r.stderr
        b.configure()
        assert run_grapneld("-t", "-c", b.conf).returncode == 0
    finally:
        b.remove()


# ---- with servers -------------------------------------------------------------------------------


def may(b, user, password, topic, listener="mqtt", **tls):
    """0: it may publish there; else the code of what refused it."""
    c = Client(b.address(listener), V5, **tls)
    b.clients.append(c)
    c.send_connect(b.unique("c"), username=user, password=password)
    p = c.expect(CONNACK)
    return p.reason if p.reason else c.publish(topic, b"x", qos=1) & ~0x10


def passwd(b, user, password):
    subprocess.run([GRAPNELCTL, "passwd", "set", b.path("etc/passwd"), user], input=password + "\n", text=True, check=True,
                   stdout=subprocess.DEVNULL)


HERE = {"*:1883": "127.0.0.1:0", "*:8883": "127.0.0.1:0"}


def test_the_home():
    once()
    b = Recipe(HOME, replace=HERE)
    b.configure()
    for user in ("homeassistant", "lamp"):
        passwd(b, user, "secret")
    del b.options["files"]["etc/passwd"]
    with b:
        assert may(b, "homeassistant", "secret", "anything/at/all") == 0
        assert may(b, "lamp", "secret", "devices/lamp/state") == 0
        assert may(b, "lamp", "secret", "devices/door/state") == 0x87
        assert may(b, "lamp", "wrong", "devices/lamp/state") == 0x87
        tls = ssl.create_default_context(cafile=pki.get().root.cert)
        assert may(b, "lamp", "secret", "devices/lamp/state", listener="mqtts", tls=tls, server_name="localhost") == 0


def test_postgresql():
    once()
    if not postgres.AVAILABLE:
        raise Skip("PostgreSQL is not installed")
    s = postgres.Postgres()
    b = Recipe("PostgreSQL", replace={"db.example.org\"": "127.0.0.1\"\n    port = \"%d\"" % s.port, "verify-full": "prefer",
                                      '    sslrootcert = "/etc/ssl/certs/ca-certificates.crt"\n': ""})
    try:
        s.start()
        with open(os.path.join(SRC, "plugins/auth-postgres/schema.sql"), encoding="utf-8") as f:
            s.execute(f.read())
        hashed = subprocess.run([GRAPNELCTL, "passwd", "hash"], input="secret\n", text=True, capture_output=True, check=True).stdout.strip()
        s.execute("INSERT INTO mqtt_user (username, password) VALUES ('lamp', '%s'); "
                  "INSERT INTO mqtt_acl (username, topic) VALUES (NULL, 'devices/%%u/#'); "
                  "GRANT SELECT ON mqtt_user, mqtt_attribute, mqtt_acl TO grapnel;" % hashed)
        with b:
            assert may(b, "lamp", "secret", "devices/lamp/state") == 0
            assert may(b, "lamp", "secret", "devices/door/state") == 0x87
            assert may(b, "lamp", "wrong", "devices/lamp/state") == 0x87
    finally:
        s.stop()


def test_json_web_tokens():
    once()
    rsa = Rsa(kid="of the login server")
    s = Jwks().keys(rsa.jwk()).start()
    try:
        b = Recipe(NAMES[2], replace={'"https://login.example.org/.well-known/jwks.json"': '"%s"\n    jwks_plain_http = yes' % s.url})
        with b:
            claims = {"iss": "https://login.example.org", "aud": "mqtt", "sub": "lamp", "tenant": "t1", "exp": now() + 600}
            assert may(b, "x", rsa.token(claims), "tenants/t1/lamp") == 0
            assert may(b, "x", rsa.token(claims), "tenants/t2/lamp") == 0x87
            assert may(b, "x", rsa.token(dict(claims, aud="other")), "tenants/t1/lamp") == 0x87
    finally:
        s.stop()


def test_ldap():
    once()
    if slapd.MISSING:
        raise Skip(slapd.MISSING)
    s = slapd.Slapd()
    s.people = slapd.person("ann", "secret") + slapd.person("bob", "secret")
    s.groups = slapd.group("operators", "uid=ann," + slapd.PEOPLE)
    b = Recipe("LDAP", replace={'"ldaps://ldap1.example.org", "ldaps://ldap2.example.org"': '"%s"' % s.url,
                                "cn=grapnel,ou=services,dc=example,dc=org": slapd.SERVICE, "dc=example,dc=org": "dc=test"})
    try:
        s.start()
        with b:
            assert may(b, "ann", "secret", "plants/7") == 0
            assert may(b, "bob", "secret", "plants/7") == 0x87
            assert may(b, "bob", "secret", "users/bob/x") == 0
            assert may(b, "bob", "wrong", "users/bob/x") == 0x87
    finally:
        s.stop()


def test_webhooks():
    once()
    r = Receiver(tls=False)
    try:
        b = Recipe("Webhooks", replace={"https://shop.example.org/mqtt-events": "http://127.0.0.1:%d/mqtt-events" % r.start().port})
        b.configure()
        passwd(b, "shop", "secret")
        del b.options["files"]["etc/passwd"]
        with b:
            assert may(b, "shop", "secret", "orders/17") == 0
            assert may(b, "shop", "secret", "other/17") == 0
            events = r.wait_events(3)
            assert "orders/17" in str([e for e in events]) and "other/17" not in str([e for e in events]), events
            assert b.ctl("webhook", "status").stdout
    finally:
        r.stop()
