# SPDX-License-Identifier: Apache-2.0
"""auth-jwt with tokens that the standard library and the openssl command have made."""
import json
import os
import time

from lib.broker import Broker, run_grapneld
from lib.case import broker, default_broker, each, skip_if
from lib.jwt import Ec, Ed, Jwks, Rsa, Secret, as_json, b64, now
from lib.mqtt import AUTH, CONNACK, V5, V311, P
from lib import pki
from lib.server import MuteDns

DENIED = {V5: 0x87, V311: 5}
SIGNATURE, MISFIT, NO_SUCH_ALG = "the signature", "does not go with the key", "algorithm"
HS = Secret(b"a secret of thirty-two bytes ....", kid="hs")
RSA, OTHER = Rsa(kid="rsa"), Rsa(kid="rsa")
EC = {curve: Ec(curve, kid=curve) for curve in ("P-256", "P-384", "P-521")}
FILES = dict({"keys/rsa.pem": RSA.pem, "keys/hs.secret": HS.secret.decode() + "\n"},
             **{"keys/%s.pub" % c: k.pem for c, k in EC.items()})
RULES = ["allow all %u/#", "allow subscribe shared/%{tenant}/#"]


def with_keys(files=None, **options):
    """Of a broker with a folder of keys."""
    return {"plugins": {"auth-jwt": dict({"order": 20, "audience": "mqtt"}, **options)}, "listeners": {"mqtt": {}},
            "files": dict(FILES, **(files or {}))}


BROKER = default_broker(**with_keys(
    key_directory="{dir}/keys", claims=["client_id=%c"], username_claim="sub", superuser_claim="admin",
    mountpoint_claim="/place/mount", attributes=["tenant", "role=/realm/roles/0"], acl_claim="acl", limits_claim="limits",
    issuer="https://issuer.example"))


def claims(client, **more):
    return dict({"iss": "https://issuer.example", "aud": "mqtt", "sub": "alice", "client_id": client, "acl": RULES}, **more)


def connack(b, token, v=V5, client_id="c", username="alice"):
    c = b.client(v)
    c.send_connect(client_id, username=username, password=token)
    p = c.expect(CONNACK)
    c.close()
    return p


def code(b, token, v=V5, **options):
    return connack(b, token, v, **options).reason


def refused(b, token, v=V5, why="", ours=True, **options):
    """why: part of the Reason String, where another reason would show another thing. ours: by auth-jwt, not as nobody's client."""
    p = connack(b, token, v, **options)
    assert p.reason == DENIED[v], "%s: %s" % (token[:200], p)
    if v == V5:
        assert why in p.prop(P.REASON_STRING), "%s: %s" % (token[:200], p)
        assert (p.prop(P.REASON_STRING) != "not authorised") == ours, "%s: %s" % (token[:200], p)


def allowed(b, token, v=V5, **options):
    got = code(b, token, v, **options)
    assert got == 0, "%s: %#x" % (token[:200], got)


def login(b, key=HS, v=V5, client_id=None, **more):
    client_id = client_id or b.unique("c")
    return b.connect(v, client_id, username="alice", password=key.token(claims(client_id, **more)))


# ---- signatures ------------------------------------------------------------------------------------


@each(v=(V311, V5))
def test_every_algorithm_lets_in_with_its_key_and_with_no_other(b, v):
    for key, algs in ((HS, ("HS256", "HS384", "HS512")), (RSA, ("RS256", "RS384", "RS512")),
                      (EC["P-256"], ("ES256",)), (EC["P-384"], ("ES384",)), (EC["P-521"], ("ES512",))):
        for alg in algs if v == V5 else algs[:1]:
            token = key.token(claims("c"), alg=alg)
            allowed(b, token, v)
            head, body, signature = token.split(".")
            refused(b, ".".join((head, body, signature[:-4] + ("AAAA" if signature[-4:] != "AAAA" else "BBBB"))), v, why=SIGNATURE)
            refused(b, ".".join((head, b64(as_json(claims("c", sub="root", exp=now(60)))), signature)), v, why=SIGNATURE)
    refused(b, OTHER.token(claims("c")), v, why=SIGNATURE)
    refused(b, Secret(b"another secret of thirty-two byte", kid="hs").token(claims("c")), v, why=SIGNATURE)


def test_the_public_key_is_nobodys_secret(b):
    """CVE-2015-9235 and its family: HS256 with the text of the RSA public key, which libjwt 1.10 would let in."""
    for secret in (RSA.pem, RSA.pem.strip(), RSA.pem + "\0", RSA.der.decode("latin-1")):
        refused(b, Secret(secret.encode("latin-1"), kid="rsa").token(claims("c")), why=MISFIT)
        refused(b, Secret(secret.encode("latin-1")).token(claims("c")), why=SIGNATURE)
    for curve, key in EC.items():
        refused(b, Secret(key.pem.encode(), kid=curve).token(claims("c")), why=MISFIT)
    allowed(b, RSA.token(claims("c")))


def test_an_algorithm_of_another_key_or_none_is_refused(b):
    for alg in ("none", "None", "NONE", "nOnE", "", "rs256", "RS256 ", "HS256\n", "RSA", "ES256K", "PS255", "A128GCM"):
        for signature in ("", ".", b64("x"), b64(RSA.sign("RS256", b"x"))):
            text = b64(as_json({"alg": alg, "typ": "JWT", "kid": "rsa"})) + "." + b64(as_json(claims("c", exp=now(60))))
            refused(b, text + "." + signature)
            refused(b, text + signature)
        refused(b, text + ".AAAA", why="is not known here")
    refused(b, RSA.token(claims("c"), kid="P-256"), why=MISFIT)
    refused(b, EC["P-256"].token(claims("c"), kid="rsa"), why=MISFIT)
    refused(b, EC["P-256"].token(claims("c"), kid="P-384"), why=MISFIT)
    refused(b, HS.token(claims("c"), kid="rsa"), why=MISFIT)
    for header in ({"typ": "JWT", "kid": "hs"}, {"alg": None, "kid": "hs"}, {"alg": ["HS256"], "kid": "hs"},
                   {"alg": 1, "kid": "hs"}, {}):
        refused(b, HS.token(claims("c"), header=header), why="names no algorithm")


def test_what_the_header_brings_along_names_no_key(b):
    mine = Rsa(kid="mine")
    with Jwks() as server:
        server.keys(mine.jwk(kid="mine"), mine.jwk(kid="rsa"))
        for more in ({"jwk": mine.jwk()}, {"jku": server.url}, {"x5u": server.url}, {"x5c": [b64("x")]}):
            refused(b, mine.token(claims("c"), **more))
            refused(b, mine.token(claims("c"), kid="rsa", **more))
            refused(b, mine.token(claims("c"), kid=server.url, **more))
            allowed(b, RSA.token(claims("c"), **more))  # not looked at
        assert server.asked == 0


def test_a_kid_is_a_name_and_never_a_path(b):
    empty = Secret(b"", kid="x")
    for kid in ("/dev/null", "../keys/hs", "keys/hs.secret", "hs.secret", "./hs", "hs/", "HS", "hs ", "", "' OR 1=1", "%s",
                "x" * 256, 7, True, ["hs"], {"hs": 1}):
        for key in (empty, HS):
            refused(b, key.token(claims("c"), kid=kid), why="key of the token is not known" if isinstance(kid, str) else "kid")
    refused(b, HS.token(claims("c"), kid="hs\0"), why="header")
    refused(b, HS.token(claims("c"), kid="x" * 257), why="too long")
    allowed(b, HS.token(claims("c"), kid=None))  # there is only one key that it can be


def test_extensions_and_other_types_are_refused(b):
    for more in ({"crit": ["exp"], "exp": now(60)}, {"crit": []}, {"b64": False}, {"b64": False, "crit": ["b64"]},
                 {"typ": "dpop+jwt"}, {"typ": "logout+jwt"}, {"typ": 1}):
        refused(b, HS.token(claims("c"), **more), why="another type" if "typ" in more else "extensions")
    for typ in ("JWT", "jwt", "at+jwt", "application/at+jwt", None):
        allowed(b, HS.token(claims("c"), typ=typ))


# ---- what is no token ------------------------------------------------------------------------------


@each(v=(V311, V5))
def test_what_cannot_be_decoded_is_refused(b, v):
    good = HS.token(claims("c"))
    head, body, signature = good.split(".")
    for bad in ("", "x", "secret", ".", "..", "...", good + ".", good + ".x", "." + good, good + "=", good + "\n", " " + good,
                head + ".." + signature, "." + body + "." + signature, head + "." + body, head + "." + body + ".",
                head + "=." + body + "." + signature, good.replace("_", "/").replace("-", "+") + "+", good + "\0",
                "e30." + body + "." + signature, b64("[]") + "." + body + "." + signature,
                b64("{") + "." + body + "." + signature, good[:-1] + "\xe9", "A" * 60000, "A.A.A", "AA.AA.AA"):
        refused(b, bad, v)
    assert code(b, None, v) == DENIED[v]
    allowed(b, good, v)


def test_a_signature_has_one_form_only(b):
    """32 bytes leave two bits of the last character over: other values of them are not another way to write it."""
    good = HS.token(claims("c"))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = alphabet.index(good[-1])
    for other in range(at & ~3, (at & ~3) + 4):
        if other != at:
            refused(b, good[:-1] + alphabet[other])


def test_hostile_json_in_a_token_with_a_right_signature_is_refused(b):
    exp = '"exp":%d,"iss":"https://issuer.example","aud":"mqtt","client_id":"c"' % now(600)
    allowed(b, HS.token('{"sub":"alice",%s}' % exp))
    for text in ('{"sub":"alice","sub":"root",%s}' % exp, '{"sub":"al\\u0000ice",%s}' % exp, '{"s\\u0000":1,"sub":"alice",%s}' % exp,
                 '{"sub":"alice","x":%s%s,%s}' % ("[" * 5000, "]" * 5000, exp), '{"sub":"alice","x":%s,%s}' % ("[" * 9000, exp),
                 '{"sub":"alice","x":18446744073709551616,%s}' % exp, '{"sub":"alice","x":1e999,%s}' % exp,
                 '{"sub":"alice","x":NaN,%s}' % exp, '{"sub":"alice",%s} ' % exp + "x", "[]", '"alice"', "null", "1", "", "{",
                 b'{"sub":"al\xffice",' + exp.encode() + b"}", b'{"sub":"al\xed\xa0\x80",' + exp.encode() + b"}",
                 b'\x00{"sub":"alice",' + exp.encode() + b"}", b'\xef\xbb\xbf{"sub":"alice",' + exp.encode() + b"}"):
        refused(b, HS.token(text), why="claims of the token cannot be read" if text else "no token")
    header = '{"alg":"HS256","kid":"hs"%s}'
    allowed(b, HS.token(claims("c"), header=header % ""))
    for more in (',"kid":"rsa"', ',"alg":"none"', ',"x":%s' % ("[" * 5000), ',"x":1e999', ',"\\u0000":1'):
        refused(b, HS.token(claims("c"), header=header % more), why="header of the token cannot be read")


def test_a_long_token_is_refused_unread(b):
    room = 16384 - len(HS.token(claims("c", x="")))
    allowed(b, HS.token(claims("c", x="x" * (room * 3 // 4 - 4))))
    refused(b, HS.token(claims("c", x="x" * (room * 3 // 4 + 4))), why="too long")


# ---- claims ---------------------------------------------------------------------------------------


def test_time_is_heeded(b):
    for more in ({"exp": now(-3600)}, {"exp": now(-12)}, {"exp": 0}, {"exp": -1}, {"exp": None}, {"exp": str(now(600))}, {"exp": True},
                 {"exp": [now(600)]}, {"exp": now(-3600) + 0.5}, {"exp": -1e300}, {"exp": -2**63},
                 {"nbf": now(600)}, {"nbf": "0"}, {"nbf": 1e300}, {"nbf": 2**63 - 1}, {"iat": now(600)}, {"iat": "0"}):
        refused(b, HS.token(claims("c", **more)), why=next(iter(more)) if not isinstance(next(iter(more.values())), (int, float)) or
                more == {"exp": True} else "the token ")
    for more in ({"exp": now(600) + 0.25}, {"exp": 1e300}, {"exp": 2**63 - 1}, {"exp": now(-1)}, {"nbf": now(1)}, {"iat": now(1)},
                 {"nbf": 0, "iat": 0}, {"nbf": 1.5, "iat": -3}):
        allowed(b, HS.token(claims("c", **more)))


def test_issuer_and_audience_are_heeded(b):
    for more in ({"iss": None}, {"iss": "https://issuer.example/"}, {"iss": ["https://issuer.example"]}, {"iss": "HTTPS://ISSUER.EXAMPLE"},
                 {"aud": None}, {"aud": "web"}, {"aud": []}, {"aud": ["web", 1, None]}, {"aud": {"mqtt": 1}}, {"aud": "mqtt "}, {"aud": ""}):
        refused(b, HS.token(claims("c", **more)), why="issuer" if "iss" in more else "audience")
    allowed(b, HS.token(claims("c", aud=["web", "mqtt"])))


def test_a_token_of_another_client_is_refused(b):
    token = HS.token(claims("mine"))
    allowed(b, token, client_id="mine")
    for other in ("yours", "min", "mine2", "MINE", "%c", "+", "#", "mine'", "m\u0131ne"):
        refused(b, token, client_id=other, why="this client")
    refused(b, HS.token(claims("%c")), client_id="c", why="this client")
    refused(b, HS.token(claims("c", client_id=None)), why="this client")
    allowed(b, HS.token(claims("c", client_id=["a", "c"])))


@broker(**with_keys(key_directory="{dir}/keys", claims=["sub=%u", "/realm/name=device-%c"]))
def test_a_token_of_another_user_is_refused(b):
    token = HS.token({"aud": "mqtt", "sub": "alice", "realm": {"name": "device-c"}})
    allowed(b, token)
    for user in ("bob", "ALICE", "alice ", None, "", "%u", "alic", "alice/", "alice'", "alice\r\nx", "*)(uid=*", "alice" * 12000):
        refused(b, token, username=user, why="this client")
    refused(b, token, client_id="d", why="this client")
    for realm in (None, [], "device-c", {"name": None}, {"nam": "device-c"}, {"name": {"x": "device-c"}}):
        refused(b, HS.token({"aud": "mqtt", "sub": "alice", "realm": realm}))
    for sub in (1, True, {"alice": 1}):
        refused(b, HS.token({"aud": "mqtt", "sub": sub, "realm": {"name": "device-c"}}))


# ---- what a token says of its client ----------------------------------------------------------------


def info(b, c):
    return b.ctl_json("clients", "show", c.client_id)


def test_claims_become_user_name_attributes_and_mountpoint(b):
    c = login(b, tenant="acme", realm={"roles": ["boss", "x"]}, place={"mount": "here/"}, sub="älice")
    told = info(b, c)
    assert told["username"] == "älice" and told["mountpoint"] == "here/", told
    attributes = told["attributes"]
    assert attributes["tenant"] == "acme" and attributes["role"] == "boss", told
    number = login(b, sub=17, tenant=True)
    assert info(b, number)["username"] == "17" and info(b, number)["attributes"]["tenant"] == "true"


def test_claims_that_cannot_be_used_let_nobody_in(b):
    mark = b.mark()
    for more in ({"sub": None}, {"sub": ""}, {"sub": "a\nb"}, {"sub": ["alice"]}, {"sub": 1.5}, {"tenant": ["x"]}, {"tenant": {}},
                 {"place": {"mount": "a/#"}}, {"admin": ["true"]}, {"acl": ["allow nonsense"]}, {"acl": [1]}, {"acl": 1},
                 {"acl": ["allow all x\nallow all #"]}, {"acl": [{"topic": "x", "ipaddr": "10.0.0.0/8"}]},
                 {"acl": [{"topic": 1}]}, {"acl": [{"topic": "x", "permission": "perhaps"}]}, {"acl": [{"topic": "x", "qos": 3}]},
                 {"acl": [{"topic": "x", "qos": []}]}, {"acl": [{"topic": "x", "retain": "no"}]}, {"acl": {"pub": "x"}},
                 {"acl": {"publish": ["x"]}}, {"acl": [{"permission": "deny", "topic": "eq #"}]},
                 {"acl": [{"action": "publish", "topic": "eq x/#"}]}, {"limits": {"max_qos": 3}}, {"limits": {"tenant": "x"}},
                 {"limits": 1}, {"limits": {"max_qos": -1}}):
        refused(b, HS.token(claims("c", **more)), why="cannot be used")
    b.wait_log("tokens with a right signature are refused", since=mark)
    assert len(b.log_lines("tokens with a right signature are refused", since=mark)) == 1, "not once"
    allowed(b, HS.token(claims("c")))


ACLS = {
    "text": "\n".join(RULES),
    "list": RULES,
    "objects": [{"permission": "allow", "action": "all", "topic": "%u/#"},
                {"permission": "allow", "action": "subscribe", "topic": "shared/%{tenant}/#", "qos": [0, 1], "retain": True}],
    "emqx": [{"permission": "deny", "action": "publish", "topic": "${username}/no"},
             {"permission": "allow", "action": "publish", "topic": "${username}/#", "qos": [1]},
             {"permission": "allow", "action": "subscribe", "topic": "eq ${username}/#"},
             {"permission": "allow", "action": "subscribe", "topic": "shared/acme/#"}],
    "emqx-old": {"pub": ["${username}/#"], "sub": ["%u/#", "shared/acme/#"], "all": ["x/${clientid}"]},
}


@each(shape=tuple(ACLS))
def test_rights_come_from_a_claim(b, shape):
    c = login(b, acl=ACLS[shape], tenant="acme")
    root = login(b, admin=True, sub="root")
    c.subscribe("alice/#", qos=1)
    c.subscribe("shared/acme/x", qos=1)
    for filter_ in ("bob/#", "shared/other/x", "#", "+/x"):
        c.subscribe(filter_, qos=1, codes=[0x87])
    assert c.publish("bob/x", "1", qos=1) == 0x87
    assert c.publish("shared/acme/x", "1", qos=1) == 0x87
    assert c.publish("alice/x", "mine", qos=1) == 0
    c.expect_message(topic="alice/x", payload="mine")
    if shape == "emqx":
        assert c.publish("alice/no", "1", qos=1) == 0x87
    if shape == "emqx-old":
        assert c.publish("x/" + c.client_id, "1", qos=1) in (0, 0x10) and c.publish("x/other", "1", qos=1) == 0x87
    assert root.publish("shared/acme/x", "read", qos=1) == 0
    c.expect_message(topic="shared/acme/x", payload="read")


def test_without_the_claim_nothing_is_allowed_and_a_superuser_may_all(b):
    c = login(b, acl=None)
    assert c.publish("alice/x", "1", qos=1) == 0x87
    c.subscribe("alice/#", qos=1, codes=[0x87])
    for admin, may in ((True, True), ("true", True), (1, True), (False, False), ("no", False), (None, False), (2, False)):
        root = login(b, acl=None, admin=admin)
        assert (root.publish("any/thing", "1", qos=1) in (0, 0x10)) == may, admin


def test_limits_come_from_a_claim(b):
    c = b.client(V5)
    c.send_connect("limited", password=HS.token(claims("limited", limits={"max_qos": 0, "max_packet_size": "2000"})))
    p = c.expect(CONNACK, reason=0)
    assert p.prop(P.MAXIMUM_QOS) == 0 and p.prop(P.MAXIMUM_PACKET_SIZE) == 2000, p


def test_a_session_ends_with_its_token(b):
    c = login(b, exp=now(-7))  # and the leeway is ten seconds
    c.expect_close(0xA0)


# ---- where the token is ------------------------------------------------------------------------------


def send_auth(c, reason, token):
    c.send_raw(P.auth(reason, [(P.AUTH_METHOD, "JWT")] + ([(P.AUTH_DATA, token.encode())] if token is not None else [])))


def by_auth(b, token, client_id, method="JWT"):
    c = b.client(V5)
    c.send_connect(client_id, props=[(P.AUTH_METHOD, method)] + ([(P.AUTH_DATA, token.encode())] if token is not None else []))
    return c


def test_a_token_in_auth_data_logs_in_and_a_new_one_goes_on(b):
    name = b.unique("auth")
    ends = now(-7)  # and the leeway is ten seconds
    first, second = RSA.token(claims(name, exp=ends)), EC["P-256"].token(claims(name, acl=["allow all x/#"]))
    c = by_auth(b, first, name)
    c.expect(CONNACK, reason=0)
    assert c.publish("x/y", "1", qos=1) == 0x87
    send_auth(c, 0x19, second)
    c.expect(AUTH, reason=0)
    assert c.publish("x/y", "1", qos=1) in (0, 0x10)
    time.sleep(max(0, ends + 10.5 - time.time()))
    c.ping()
    send_auth(c, 0x19, HS.token(claims(name, exp=now(-600))))
    c.expect_close(0x87)


def test_auth_data_that_is_no_token_is_refused(b):
    for token in (None, "", "x", HS.token(claims("another")), HS.token(claims("auth"))[:-2], "A" * 20000):
        c = by_auth(b, token, "auth")
        c.expect(CONNACK, reason=0x87)
        c.expect_close()
    by_auth(b, HS.token(claims("auth")), "auth", "jwt").expect(CONNACK, reason=0x8C)
    name = b.unique("auth")
    c = by_auth(b, HS.token(claims(name)), name)
    c.expect(CONNACK, reason=0)
    send_auth(c, 0x19, HS.token(claims(name, sub="root")))  # nobody becomes somebody else
    c.expect_close(0x87)


@broker(**with_keys(key_directory="{dir}/keys", token="username", username_claim="sub", claims=["client_id=%c"], method=""))
def test_the_token_may_be_the_user_name(b):
    token = HS.token({"aud": "mqtt", "sub": "alice", "client_id": "c"})
    c = b.connect(V311, "c", username=token, password="x")
    assert info(b, c)["username"] == "alice"
    for bad in (token[:-3], "alice", "", None):
        refused(b, "x", username=bad, ours=bad is not None)
    by_auth(b, token, "c").expect(CONNACK, reason=0x8C)


@broker(users={"fred": "pass.word.x"}, **with_keys(key_directory="{dir}/keys", pass_on=True, pass_on_issuer=True, issuer="me",
                                                   order=10))
def test_what_is_not_ours_is_passed_on_if_the_operator_says_so(b):
    allowed(b, "pass.word.x", username="fred")  # a point too many, an odd length: no token
    refused(b, "pass.word", username="fred", ours=False)
    refused(b, HS.token({"aud": "mqtt", "iss": "me"})[:-3], username="fred")  # a token, and a wrong one
    refused(b, "AAAA.AAAA.AAAA", username="fred")
    refused(b, HS.token({"aud": "mqtt", "iss": "you"}), username="fred", ours=False)
    metrics = b.metrics()
    assert metrics['grapnel_plugin_tokens_passed_on_total{plugin="auth-jwt"}'] == 3, metrics
    assert metrics['grapnel_plugin_tokens_refused_total{plugin="auth-jwt"}'] == 2, metrics


@broker(listeners={"mqtt": {"anonymous": True}}, **{k: v for k, v in with_keys(key_directory="{dir}/keys").items()
                                                    if k != "listeners"})
def test_a_bad_token_never_becomes_anonymous(b):
    for v in (V311, V5):
        for bad in ("x", "a.b.c", HS.token({"aud": "mqtt", "exp": now(-99)}), "A" * 20000):
            refused(b, bad, v)
            if v == V5:
                refused(b, bad, v, username=None)
    b.connect(V5, "nobody").ping()


# ---- keys ---------------------------------------------------------------------------------------------


def check(options, files=None):
    """grapneld -t with these options. @return what it says."""
    b = Broker(**with_keys(files=files, **options))
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        return r.returncode, r.stdout + r.stderr
    finally:
        b.remove()


def test_what_is_wrong_with_keys_and_options_is_said_at_the_start():
    short = Rsa(bits=1024)
    for options, files, said in (
            ({}, {}, "there are no keys"),
            ({"key": "{dir}/no.pem"}, {}, "No such file"),
            ({"key": "{dir}/k"}, {"k": "x"}, "neither a public key"),
            ({"key": "{dir}/k"}, {"k": RSA.private}, "this is a private key"),
            ({"key": "{dir}/k"}, {"k": short.pem}, "min_rsa_bits"),
            ({"key": "{dir}/k"}, {"k": Ec("secp256k1").pem}, "curve"),
            ({"secret": "{dir}/k"}, {"k": RSA.pem}, "this is PEM, not a secret"),
            ({"secret": "{dir}/k"}, {"k": "secret"}, "min_secret_bytes"),
            ({"secret": "{dir}/k", "secret_base64": True}, {"k": "*" * 60}, "not base64"),
            ({"jwks_file": "{dir}/k"}, {"k": "{}"}, "no JWK Set"),
            ({"jwks_file": "{dir}/k"}, {"k": '{"keys":[]}'}, "no key in it can be used"),
            ({"jwks_file": "{dir}/k"}, {"k": json.dumps({"keys": [short.jwk()]})}, "min_rsa_bits"),
            ({"jwks_file": "{dir}/k", "max_keys": 1}, {"k": json.dumps({"keys": [RSA.jwk(), OTHER.jwk()]})}, "max_keys"),
            ({"jwks_url": "http://127.0.0.1/"}, {}, "plain HTTP"),
            ({"jwks_url": "ftp://127.0.0.1/"}, {}, "https://"),
            ({"jwks_url": "file:///etc/passwd", "jwks_plain_http": True}, {}, "http"),
            ({"key_directory": "{dir}/none"}, {}, "No such file"),
            ({"key_directory": "{dir}/keys", "algorithms": ["RS256", "none"]}, {}, "none is no algorithm"),
            ({"key_directory": "{dir}/keys", "claims": ["sub"]}, {}, "write claim=value"),
            ({"key_directory": "{dir}/keys", "claims": ["sub=%p"]}, {}, "sub=%p"),
            ({"key_directory": "{dir}/keys", "attributes": ["acl"]}, {}, "cannot have this name"),
            ({"key_directory": "{dir}/keys", "attributes": ["Role=x"]}, {}, "attribute=claim"),
            ({"key_directory": "{dir}/keys", "token": "username"}, {}, "needs username_claim"),
            ({"key_directory": "{dir}/keys", "pass_on_issuer": True}, {}, "needs issuer"),
    ):
        status, text = check(options, files)
        assert status != 0 and said in text, "%s: %d\n%s" % (options, status, text)
        assert "BEGIN" not in text or "(-----BEGIN" in text, text
    assert check({"key_directory": "{dir}/keys"})[0] == 0


@broker(**with_keys(files={"k1": OTHER.pem, "k2": RSA.certificate(), "s": "YSBzZWNyZXQgb2YgdGhpcnR5LXR3byBieXRlcyAuLi4u",
                           "set": json.dumps({"keys": [
                               EC["P-256"].jwk(kid="e", alg="ES256", use="sig", key_ops=["verify"]),
                               EC["P-384"].jwk(kid="enc", use="enc"), EC["P-521"].jwk(kid="sign", key_ops=["sign"]),
                               Secret(b"x" * 40).jwk(kid="o", alg="HS512"), {"kty": "x", "kid": "x"}, 7, None,
                               RSA.jwk(kid="r", alg="ES256"), dict(EC["P-256"].jwk(kid="off"), y=EC["P-256"].jwk()["x"])]})},
                    key=["{dir}/k1", "{dir}/k2"], secret="{dir}/s", secret_base64=True, jwks_file="{dir}/set",
                    algorithms=["RS256", "RS512", "ES256", "HS256", "HS512"]))
def test_keys_without_a_name_go_with_any_kid_and_a_list_of_algorithms_is_heeded(b):
    mine = {"aud": "mqtt"}
    for kid in ("rsa", "any", None):
        allowed(b, RSA.token(mine, kid=kid))
        allowed(b, OTHER.token(mine, kid=kid))
        allowed(b, HS.token(mine, kid=kid))
    refused(b, RSA.token(mine, kid="e"))  # that name is taken
    refused(b, RSA.token(mine, alg="RS384"))
    refused(b, HS.token(mine, alg="HS384"))
    allowed(b, EC["P-256"].token(mine, kid="e"))
    for key, kid in ((EC["P-384"], "enc"), (EC["P-521"], "sign"), (RSA, "r"), (EC["P-256"], "off"), (EC["P-256"], "x")):
        if key is not RSA:
            refused(b, key.token(mine, kid=kid))
    allowed(b, Secret(b"x" * 40, kid="o").token(mine, alg="HS512"))
    refused(b, Secret(b"x" * 40, kid="o").token(mine, alg="HS256"))  # its JWK says HS512


@each(alg=("PS256", "PS384", "PS512", "EdDSA"))
def test_algorithms_that_only_newer_libraries_have_are_let_in_or_not_known(alg):
    key = Ed() if alg == "EdDSA" else RSA
    known = check({"key_directory": "{dir}/keys", "algorithms": alg})[0] == 0
    with Broker(**with_keys(files={"k": key.pem}, key="{dir}/k", algorithms=alg if known else None)) as b:
        token = key.token({"aud": "mqtt"}, alg=alg, kid=None)
        if known:
            allowed(b, token)
            refused(b, token[:-8] + "AAAAAAAA", why=SIGNATURE)
            refused(b, RSA.token({"aud": "mqtt"}), why="not allowed")
        else:
            refused(b, token, why="is not known here")


@broker(own=True, **with_keys(key_directory="{dir}/keys", username_claim="sub"))
def test_who_came_with_a_key_that_a_reload_has_taken_away_is_sent_away(b):
    token = {"aud": "mqtt", "sub": "alice"}
    stays, goes = b.connect(V5, "stays", password=HS.token(token)), b.connect(V5, "goes", password=RSA.token(token))
    b.reload()
    stays.ping()
    goes.ping()
    b.write("keys/rsa.pem", OTHER.pem)  # the same name, another key
    b.reload()
    goes.expect_close(0x87)
    stays.ping()
    refused(b, RSA.token(token))
    allowed(b, OTHER.token(token))


# ---- keys from a URL ----------------------------------------------------------------------------------


def by_url(server, **more):
    """Without waiting for anything: the tests say when."""
    return dict({"jwks_url": server.url, "jwks_plain_http": server.tls is None, "jwks_refresh": "1h", "jwks_cooldown": "100ms",
                 "jwks_timeout": "2s", "timeout": "3s", "username_claim": "sub", "breaker_failures": 0}, **more)


def until(b, token, wanted, **options):
    deadline = time.monotonic() + 60
    while True:
        got = code(b, token, **options)
        if got == wanted:
            return
        assert time.monotonic() < deadline, "%#x, not %#x" % (got, wanted)
        time.sleep(0.05)


ROTATED = {"aud": "mqtt", "sub": "alice"}


def test_a_set_is_read_again_when_a_key_is_not_known_and_keys_that_are_gone_end_sessions():
    one, two, secret = Rsa(kid="one"), Ec("P-256", kid="two"), Secret(b"s" * 32, kid="s")
    with Jwks() as server:
        server.keys(one.jwk(kid="one"), secret.jwk(kid="s"))
        with Broker(**with_keys(**by_url(server))) as b:
            c = b.connect(V5, "one", password=one.token(ROTATED))
            asked = server.asked
            refused(b, secret.token(ROTATED))  # whoever reads the URL could make such tokens
            server.keys(one.jwk(kid="one"), two.jwk(kid="two"))
            until(b, two.token(ROTATED), 0)
            assert server.asked > asked
            c.ping()
            server.keys(two.jwk(kid="two"))
            until(b, two.token(ROTATED, kid="three"), 0x87)
            asked, wait = server.asked, time.monotonic() + 60
            while server.asked == asked:  # the cooldown passes, and the set is read without the first key
                refused(b, two.token(ROTATED, kid="three"))
                assert time.monotonic() < wait
            c.expect_close(0x87)
            refused(b, one.token(ROTATED))
            allowed(b, two.token(ROTATED))


def test_unknown_keys_do_not_make_a_flood_of_requests():
    key = Ec(kid="k")
    with Jwks() as server:
        server.keys(key.jwk(kid="k"))
        with Broker(**with_keys(**by_url(server, jwks_cooldown="1h"))) as b:
            allowed(b, key.token(ROTATED))
            for i in range(30):
                refused(b, key.token(ROTATED, kid="k%d" % i))
            assert server.asked == 1, server.asked


def test_the_last_good_set_stays_when_the_url_fails():
    key, new = Ec(kid="k"), Ec(kid="new")
    with Jwks() as server:
        server.keys(key.jwk(kid="k"))
        with Broker(**with_keys(**by_url(server))) as b:
            c = b.connect(V5, "c1", password=key.token(ROTATED))
            for status, body in ((500, server.body), (404, "{}"), (200, "{}"), (200, "x" * 3000), (200, '{"keys":[]}'), (200, ""),
                                 (200, "x" * 300000), (301, ""), (200, '{"keys":%s' % ("[" * 5000)), (200, b"\xff\xfe")):
                server.status, server.body = status, body
                server.headers = {"Location": "file:///etc/passwd"} if status == 301 else {}
                asked, wait = server.asked, time.monotonic() + 60
                while server.asked == asked:  # a key that nobody knows, as long as nobody can say
                    assert code(b, new.token(ROTATED)) in (0x88, 0x87)
                    assert time.monotonic() < wait
                assert code(b, new.token(ROTATED)) == 0x88
                allowed(b, key.token(ROTATED))
            server.stop()
            assert code(b, new.token(ROTATED)) == 0x88
            assert code(b, new.token(ROTATED), V311) == 3
            allowed(b, key.token(ROTATED))
            c.ping()
            b.wait_log("the keys stay as they were")
            assert len(b.log_lines("the keys stay as they were")) == 1
            server.status, server.headers = 200, {}
            server.keys(key.jwk(kid="k"), new.jwk(kid="new")).start()
            until(b, new.token(ROTATED), 0)
            c.ping()
            metrics = b.metrics()
            assert metrics['grapnel_plugin_keys{plugin="auth-jwt"}'] == 2, metrics
            assert metrics['grapnel_plugin_tokens_waiting{plugin="auth-jwt"}'] == 0, metrics


@skip_if(os.geteuid() != 0, "only root can have a resolv.conf of his own")
def test_a_mute_dns_holds_nobody():
    with MuteDns() as dns:
        b = Broker(users={"fred": "fred"}, **with_keys(jwks_url="https://keys.example.org/jwks", timeout="1s", order=30))
        b.wrapper = dns.wrapper(b)
        with b:
            fred = b.connect(V5, "fred", username="fred", password="fred")
            waiting = b.client(V5)
            waiting.send_connect("waiting", password=Ec(kid="k").token(ROTATED))
            for _ in range(20):
                fred.ping()
            assert waiting.expect(CONNACK).reason == 0x88
            assert dns.asked > 0
            b.held_nobody()


def test_a_server_that_is_mute_or_comes_later_holds_nobody_up():
    key = Ec(kid="k")
    with Jwks() as server:
        server.keys(key.jwk(kid="k")).hold()
        options = with_keys(**by_url(server, timeout="1s", jwks_timeout="1m", order=30))
        with Broker(users={"fred": "fred"}, **options) as b:
            fred = b.connect(V5, "fred", username="fred", password="fred")
            waiting = b.client(V5)
            waiting.send_connect("waiting", password=key.token(ROTATED))
            gone = b.client(V5)
            gone.send_connect("gone", password=key.token(ROTATED))
            b.wait_metric('grapnel_plugin_tokens_waiting{plugin="auth-jwt"}', 2)
            gone.close()
            for _ in range(10):
                fred.ping()
            assert waiting.expect(CONNACK).reason == 0x88
            b.wait_metric('grapnel_plugin_tokens_waiting{plugin="auth-jwt"}', 0)
            b.held_nobody()
            server.release()
            until(b, key.token(ROTATED), 0)
    with Jwks() as server:
        server.stop()
        with Broker(**with_keys(**by_url(server))) as b:
            assert code(b, key.token(ROTATED)) == 0x88
            server.keys(key.jwk(kid="k")).start()
            until(b, key.token(ROTATED), 0)
            c = b.connect(V5, "c1", password=key.token(ROTATED))
            server.stop()
            b.reload()  # nothing is known now, and nobody sent away for that
            assert code(b, key.token(ROTATED)) == 0x88
            c.ping()
            server.keys(Ec().jwk(kid="other")).start()
            c.expect_close(0x87)


@each(good=(True, False))
def test_the_certificate_of_the_url_is_verified(good):
    root, key = pki.get(), Ec(kid="k")
    cert = root.root.issue("jwks", cn="127.0.0.1", san="IP:127.0.0.1")
    with Jwks(tls=cert) as server:
        server.keys(key.jwk(kid="k"))
        ca = (root.root if good else root.other).cert
        with Broker(**with_keys(**by_url(server, jwks_ca=ca))) as b:
            assert code(b, key.token(ROTATED)) == (0 if good else 0x88)
            if good:
                assert not b.log_lines("no keys yet")
            else:
                b.wait_log("no keys yet")


def test_a_name_that_no_server_answers_for_holds_nobody_up():
    with Broker(**with_keys(**by_url(Jwks(), jwks_url="https://jwks.invalid/set", key_directory="{dir}/keys", timeout="1s"))) as b:
        allowed(b, HS.token(ROTATED))
        assert code(b, HS.token(ROTATED, kid="of-the-url")) == 0x88
        b.held_nobody()


# ---- the log ---------------------------------------------------------------------------------------------


def test_no_token_is_in_the_log(b):
    token = HS.token(claims("c", sub=["secret-sub"], tenant="x"))
    refused(b, token)
    refused(b, token[:-2])
    for part in token.split(".")[1:]:
        assert not b.log_lines(part[:20]), b.log_lines(part[:20])
    assert not b.log_lines("secret-sub")
