# SPDX-License-Identifier: Apache-2.0
"""The examples of the SDK (sdk/examples) in a broker: what their README.md says, under reload and with hostile input."""
import json
import os
import re
import shutil
import subprocess
import tempfile
import time

from lib.broker import PLUGINS, SRC, TIMEOUT, Broker
from lib.case import Skip, broker, each, skip_if
from lib.hooks import Events, eventually
from lib.http_server import Scripted
from lib.mqtt import CONNACK, PUBACK, PUBLISH, V5, V311, P
from lib.s_client import Authority, SClient
from lib.sdk import Sdk, exported, skip_reason
from lib.server import Mute

EXAMPLES = os.path.join(SRC, "sdk", "examples")
TOOL = os.path.join(os.environ.get("GRAPNEL_BUILD", ""), "grapnel-plugin")
MODULES = {"cpp-plugin": "maintenance-window", "rust-plugin": "client-id-guard"}
FOLDERS = ("audit-log", "cpp-plugin", "http-decision", "offloaded-decision", "payload-validator", "rate-limiter", "rust-plugin",
           "tenant-mountpoints", "topic-rewriter")
ALLOW = {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}
OK = (0, 0x10)  # 0x10: nobody has subscribed


def with_allow(name, **options):
    return {name: dict({"order": 10}, **options), "allow": ALLOW}


def built(name):
    return os.path.exists(os.path.join(PLUGINS, name + ".so"))


def metric(b, plugin, name):
    return b.metric('plugin_%s{plugin="%s"}' % (name, plugin))


def refusal(c, topic, payload):
    """Reason code and text of the PUBACK."""
    p = c.wait_for(PUBACK, packet_id=c.send_publish(topic, payload, qos=1))
    return p.reason, p.prop(P.REASON_STRING)


def refused_reload(b, text):
    """Nothing changes, and the log says why."""
    mark = b.mark()
    b.reload(good=False)
    assert b.log_lines(text, since=mark), b.log_lines(since=mark)


# ---- rate-limiter ------------------------------------------------------------------------------


def until_limited(c, topic, tries=100000):
    """How many messages passed before one was refused."""
    for n in range(tries):
        code = c.publish(topic, b"x", qos=1)
        if code not in OK:
            assert code == 0x97, "%#x" % code
            return n
    raise AssertionError("nothing was ever refused")


@broker(own=True, plugins=with_allow("rate-limiter", message_rate=1, message_burst=5, exempt=["gateway"]))
def test_a_client_has_as_many_messages_as_its_bucket(b):
    topic = b.unique("t")
    one, two, gateway = b.connect(V5), b.connect(V5), b.connect(V5, username="gateway")
    assert until_limited(one, topic) >= 5
    assert until_limited(two, topic) >= 5, "another client's bucket"
    for _ in range(20):
        assert gateway.publish(topic, b"x", qos=1) in OK
    assert metric(b, "rate-limiter", "limited_total") >= 2
    assert metric(b, "rate-limiter", "buckets") == 2
    assert len(b.log_lines("publishes more than it may")) == 2, "one line a client"
    # It fills again.
    eventually(lambda: one.publish(topic, b"x", qos=1) in OK, "a token")
    # MQTT 3 has no such answer.
    old = b.connect(V311)
    for _ in range(20):
        old.publish(topic, b"x", qos=1)
    one.disconnect()
    b.wait_metric('plugin_buckets{plugin="rate-limiter"}', 2)
    # New instance, new buckets; the old ones are given back.
    b.configure(plugins=with_allow("rate-limiter", message_rate=2, message_burst=50))
    b.reload()
    assert until_limited(two, topic) >= 50
    assert metric(b, "rate-limiter", "buckets") == 1


@broker(plugins=with_allow("rate-limiter", message_rate=1000000, byte_rate=1000, byte_burst=2000))
def test_bytes_are_limited_too_and_a_large_message_goes_into_debt(b):
    topic, c = b.unique("t"), b.connect(V5)
    assert c.publish(topic, b"x" * 50000, qos=1) in OK
    assert c.publish(topic, b"x", qos=1) == 0x97


@each(over=("drop", "disconnect"))
@broker(plugins=lambda over, **_: with_allow("rate-limiter", message_rate=1, over=over))
def test_what_is_over_the_limit_is_dropped_or_ends_the_connection(b, over):
    topic, c, reader = b.unique("t"), b.connect(V5), b.connect(V5)
    reader.subscribe(topic)
    if over == "disconnect":
        for _ in range(50):
            c.send_publish(topic, b"x", qos=0)
        c.expect_close(0x97)
        return
    for i in range(50):
        assert c.publish(topic, b"%d" % i, qos=1) == 0
    dropped = metric(b, "rate-limiter", "limited_total")
    assert dropped > 0
    for _ in range(50 - int(dropped)):  # one, or more where a second has passed
        reader.expect_message(topic)
    reader.expect_nothing()


# ---- topic-rewriter ----------------------------------------------------------------------------

REWRITER = dict(with_allow("topic-rewriter", **{'mapping "devices"': {"client": "devices", "broker": "site/v2"},
                                                'mapping "x"': {"client": "a/b", "broker": "c"}}),
                scribe={"file": "{dir}/events"})


@broker(plugins=REWRITER)
def test_clients_see_their_names_and_the_broker_its_own(b):
    e, name = Events(b), b.unique("n")
    theirs, ours = "devices/%s/state" % name, "site/v2/%s/state" % name
    reader, writer, all_of_it = b.connect(V5), b.connect(V5), b.connect(V311)
    reader.subscribe(["devices/%s/#" % name, "a/b/+"], qos=1)
    all_of_it.subscribe("#", qos=1)
    assert writer.publish(theirs, b"1", qos=1, retain=True) == 0
    reader.expect_message(theirs, b"1")
    all_of_it.expect_message(theirs, b"1")
    e.wait("message_published", topic=ours)
    e.wait("subscribed", filter="site/v2/%s/#" % name)
    assert writer.publish("a/b/" + name, b"2", qos=1) == 0
    reader.expect_message("a/b/" + name, b"2")
    # Retained under the broker's name, found by the client's.
    late = b.connect(V5)
    late.subscribe("$share/g/devices/+/nothing", qos=1)
    late.subscribe("devices/%s/+" % name, qos=1)
    late.expect_message(theirs, b"1", retain=True)
    # What was subscribed can be unsubscribed: 0x11 would be "no such subscription".
    reader.unsubscribe("devices/%s/#" % name, codes=[0])
    late.unsubscribe("$share/g/devices/+/nothing", codes=[0])
    writer.publish(theirs, b"3", qos=1)
    writer.publish("a/b/" + name, b"4", qos=1)
    reader.expect_message("a/b/" + name, b"4")
    writer.publish(theirs, b"", qos=1, retain=True)
    late.expect_message(theirs, b"3")
    late.expect_message(theirs, b"")
    # Other topics are nobody's business.
    late.subscribe("other/" + name)
    writer.publish("other/" + name, b"5")
    late.expect_message("other/" + name, b"5")


@broker(plugins=REWRITER)
def test_names_of_the_broker_are_not_for_clients(b):
    c = b.connect(V5)
    assert refusal(c, "site/v2/x", b"") == (0x90, "a topic of that name is not for clients")
    assert c.publish("c", b"", qos=1) == 0x90
    assert c.publish("site/v2x", b"", qos=1) in OK, "levels count, not characters"
    assert c.publish("devicesx", b"", qos=1) in OK
    for bad in ("site/#", "+/x", "site/v2/x", "+/v2", "+/#", "a/#", "a/+", "a/+/x", "c/#", "+", "$share/g/site/#"):
        c.subscribe(bad, codes=[0x8F])
        c.unsubscribe(bad, codes=[0x8F])
    for good in ("#", "devices", "devices/#", "site", "site/x/#", "other/+", "a", "a/b/#"):
        c.subscribe(good, codes=[0])
        c.unsubscribe(good, codes=[0])
    long = "devices/" + "x" * 65526
    assert c.publish(long, b"", qos=1) in OK  # becomes 65533 bytes
    assert c.publish(long + "y", b"", qos=1) in OK + (0x90,)


@broker(plugins=REWRITER)
def test_response_topics_are_rewritten_too_and_the_rest_of_the_properties_stays(b):
    reader, writer, name = b.connect(V5), b.connect(V5), b.unique("n")
    topic = "devices/%s/ask" % name
    reader.subscribe(topic, qos=1)
    writer.subscribe("devices/%s/answer" % name, qos=1)
    props = [(P.MESSAGE_EXPIRY, 1000), (P.TOPIC_ALIAS, 1), (P.RESPONSE_TOPIC, "devices/%s/answer" % name), (P.CORRELATION_DATA, b"c"),
             (P.USER_PROPERTY, ("k", "1")), (P.USER_PROPERTY, ("k", "2"))]
    assert writer.publish(topic, b"?", qos=1, props=props) == 0
    p = reader.expect_message(topic, b"?")
    assert p.prop(P.RESPONSE_TOPIC) == "devices/%s/answer" % name, p
    assert p.prop(P.CORRELATION_DATA) == b"c" and 0 < p.prop(P.MESSAGE_EXPIRY) <= 1000, p
    assert [v for k, v in p.props if k == P.USER_PROPERTY] == [("k", "1"), ("k", "2")], p
    assert reader.publish(p.prop(P.RESPONSE_TOPIC), b"!", qos=1) == 0
    writer.expect_message("devices/%s/answer" % name, b"!")
    assert writer.publish(topic, b"?", qos=1, props=[(P.RESPONSE_TOPIC, "site/v2/x")]) == 0x90


def test_mappings_that_contradict_each_other_are_refused_with_their_places():
    b = Broker(plugins=REWRITER)
    bad = {"1": ("a/b/c", "y"), "2": ("y", "site"), "3": ("p/", "q"), "4": ("p/+", "q"), "5": ("p", "p/q"), "6": ("", "$SYS/x")}
    try:
        b.start()
        options = {'mapping "%s"' % k: {"client": v[0], "broker": v[1]} for k, v in bad.items()}
        b.configure(plugins=with_allow("topic-rewriter", **dict({'mapping "x"': {"client": "a/b", "broker": "site/v2"}}, **options)))
        mark = b.mark()
        b.reload(good=False)
        for text in ("lies below one of another mapping", "one of its prefixes lies below the other", "no wildcards",
                     "without a slash at the end", "the broker's"):
            assert b.log_lines(r"grapnel\.conf:\d+.*" + text, since=mark), (text, b.log_lines(since=mark))
        b.stop()
    finally:
        b.remove()


# ---- payload-validator -------------------------------------------------------------------------

VALIDATOR = with_allow("payload-validator", report_to="reports", max_depth=8, max_bytes=4096,
                       **{'schema "telemetry/+/values"': {"file": os.path.join(EXAMPLES, "payload-validator", "telemetry.schema.json")}})


@broker(plugins=VALIDATOR)
def test_payloads_that_do_not_match_are_refused_with_a_reason(b):
    c, reports = b.connect(V5), b.connect(V5)
    reports.subscribe("reports")
    topic = "telemetry/%s/values" % b.unique("s")
    for good in ('{"sensor":"a","values":[1]}', '{"sensor":"ä€","values":[-50,120,0.5],"unit":"C"}', ' {"values":[1],"sensor":"x"} '):
        assert c.publish(topic, good.encode(), qos=1) in OK, good
    for payload, reason in (
            ('{"sensor":"a","values":[1,2,140]}', "/values/2: 140 is more than 120"),
            ('{"sensor":"a","values":[-51]}', "/values/0: -51 is less than -50"),
            ('{"sensor":"a","values":["1"]}', "/values/0: it is of the wrong type"),
            ('{"sensor":"a","values":[]}', "/values: 0 items is less than 1"),
            ('{"sensor":"a"}', "/values: it is missing"),
            ('{"sensor":"","values":[1]}', "/sensor: 0 characters is less than 1"),
            ('{"sensor":"%s","values":[1]}' % ("ä" * 33), "/sensor: 33 characters is more than 32"),
            ('{"sensor":"a","values":[1],"unit":"K"}', "/unit: it is none of the values that are allowed"),
            ('{"sensor":"a","values":[1],"<script>":1}', "the payload: it has a member that the schema does not name"),
            ("[1]", "the payload: it is of the wrong type"),
            ("[[[[[[[[[1]]]]]]]]]", "the payload is nested too deeply"),
            ('"' + "[" * 2000 + '"', "the payload: it is of the wrong type"),
            ("[" * 4097, "the payload is too large"),
            ('{"sensor":"a","sensor":"b","values":[1]}', "the payload is no JSON, from byte 22 on"),
            ('{"sensor":"a","values":[1e400]}', None), ('{"sensor":"a","values":[99999999999999999999]}', None),
            ("", None), ("{", None), ("{}x", None), ('{"sensor":"\\u0000","values":[1]}', None)):
        code, text = refusal(c, topic, payload.encode())
        assert code == 0x99, (payload[:60], code)
        assert reason is None or text == reason, (payload[:60], text)
        report = json.loads(reports.expect_message("reports").payload)
        assert report == {"client": c.client_id, "topic": topic, "reason": text}, report
    assert refusal(c, topic, b"\xff")[0] == 0x99 and refusal(c, topic, b"\x00")[0] == 0x99
    # Takes away what was retained.
    assert c.publish(topic, b"", qos=1, retain=True) in OK
    assert c.publish("telemetry/values", b"{", qos=1) in OK and c.publish(topic + "/x", b"{", qos=1) in OK
    # MQTT 3: forgotten.
    c.subscribe(topic)
    old = b.connect(V311)
    old.publish(topic, b"{", qos=1)
    old.publish(topic, b'{"sensor":"a","values":[2]}', qos=1)
    c.expect_message(topic, b'{"sensor":"a","values":[2]}')


@broker(own=True, plugins=with_allow("payload-validator", **{'schema "t"': {"file": "{dir}/s.json"}}), files={"s.json": '{"type": "integer"}'})
def test_schemas_are_read_again_at_a_reload_and_wrong_ones_are_refused(b):
    c = b.connect(V5)
    assert c.publish("t", b"1", qos=1) in OK and c.publish("t", b'"x"', qos=1) == 0x99
    for text, reason in (('{"type": "text"}', "/type: that is no type"), ('{"pattern": "x"}', "/pattern: this keyword is not known here"),
                         ('{"properties": {"a": {"minimum": "1"}}}', "/properties/a/minimum: it has to be a number"),
                         ("{", r"s\.json:1: "), ('{"items": ' * 30 + "{}" + "}" * 30, "schemas are nested too deeply"), ("[]", "a schema is an object")):
        b.configure(files={"s.json": text})
        refused_reload(b, reason)
    assert c.publish("t", b"1", qos=1) in OK, "the one before is still in force"
    b.configure(files={"s.json": '{"type": "string", "const": "x"}'})
    b.reload()
    assert c.publish("t", b"1", qos=1) == 0x99 and c.publish("t", b'"x"', qos=1) in OK
    # A short payload that would take a large schema long.
    members = ", ".join('"m%d": {}' % i for i in range(2000))
    b.configure(files={"s.json": '{"items": {"properties": {%s}}}' % members})
    b.reload()
    assert c.publish("t", b"[{},{},{}]", qos=1) in OK
    code, text = refusal(c, "t", b"[" + b",".join([b"{}"] * 10000) + b"]")
    assert code == 0x99 and text.endswith("it takes too long to check from here on"), text


# ---- audit-log ---------------------------------------------------------------------------------


def lines(b, name="audit"):
    if not os.path.exists(b.path(name)):
        return []
    with open(b.path(name), encoding="ascii") as f:
        return [json.loads(line) for line in f]


def wait_line(b, name="audit", **fields):
    return eventually(lambda: [x for x in lines(b, name) if all(x.get(k) == v for k, v in fields.items())], "a line %r" % fields)[0]


@broker(own=True, plugins=dict(with_allow("audit-log", file="{dir}/audit"),
                               no={"module": "verdict", "order": 1, "client_authenticate": "deny", "reason_string": "not you", "only_user": "bad"}))
def test_the_audit_log_says_who_came_and_is_opened_anew_by_a_reload(b):
    name = b.unique("c")
    c = b.connect(V5, name, username='a"lice\\\nä')
    c.subscribe("t/x" + "ä" * 500)
    b.client(V5).connect("refused", reason=0x87, username="bad")
    x = wait_line(b, event="client_connected", client=name)
    assert (x["user"], x["listener"], x["code"]) == ('a"lice\\\nä', "mqtt", 0), x
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", x["time"]), x
    assert wait_line(b, event="subscribed", client=name)["filter"] == "t/x" + "ä" * 126
    x = wait_line(b, event="client_refused", client="refused")
    assert (x["user"], x["code"], x["reason"]) == ("bad", 0x87, "not you"), x
    assert os.stat(b.path("audit")).st_mode & 0o777 == 0o640
    os.rename(b.path("audit"), b.path("audit.1"))
    b.reload()
    c.disconnect()
    assert wait_line(b, event="client_disconnected", client=name)["code"] == 0
    # In order for each client; the refused one may have been on another worker.
    assert [x["event"] for x in lines(b, "audit.1") if x["client"] == name] == ["client_connected", "subscribed"]
    assert len(lines(b, "audit.1")) == 3
    ids = [x["id"] for x in lines(b) + lines(b, "audit.1")]
    assert len(ids) == len(set(ids))
    for path, why in ((b.dir, "Is a directory"), (b.path("no/audit"), "No such file"), ("/dev/null", "it is no regular file")):
        b.configure(plugins=with_allow("audit-log", file=path))
        refused_reload(b, r"grapnel\.conf:\d+.*" + why)
    os.mkfifo(b.path("fifo"))  # opening it must not wait for a reader
    b.configure(plugins=with_allow("audit-log", file="{dir}/fifo"))
    refused_reload(b, "fifo: ")
    b.configure(plugins=with_allow("audit-log", file="{dir}/audit", events=["client_conected"]))
    refused_reload(b, 'there is no event "client_conected"')


@broker(own=True, workers=2, plugins=with_allow("audit-log", file="{dir}/audit", events=["message_published"], event_queue=2, buffer="64k"))
def test_what_the_audit_log_misses_is_a_line_in_it(b):
    c, sent = b.connect(V5), 0
    deadline = time.monotonic() + TIMEOUT
    while not any(x["event"] == "gap" for x in lines(b)):
        assert time.monotonic() < deadline, "no gap"
        c.send_raw(b"".join([b"\x30\x05\x00\x01t\x00x"] * 500))
        sent += 500
        c.ping()
    c.disconnect()
    eventually(lambda: sum(x.get("lost", 1) for x in lines(b)) == sent, "all are there, or counted")
    b.wait_metric('plugin_lost_total{plugin="audit-log"}', sum(x.get("lost", 0) for x in lines(b)))
    b.wait_metric('plugin_lines_total{plugin="audit-log"}', len(lines(b)))


# ---- tenant-mountpoints ------------------------------------------------------------------------

TOKEN = {"acme": "acme-token-0123456789", "blue": "blue-token-0123456789"}


def tenants(**more):
    blocks = {'tenant "acme"': {"token": TOKEN["acme"], "rules": ["deny publish %{tenant}/secret", "allow all #"], "max_qos": 1},
              'tenant "blue"': {"token": TOKEN["blue"], "mountpoint": "b/lue/", "certificate_suffix": ".blue.example"}}
    return with_allow("tenant-mountpoints", **dict(blocks, **more))


@broker(own=True, plugins=tenants())
def test_each_tenant_has_all_topics_for_itself(b):
    def come(user, version=V5, **options):
        return b.connect(version, b.unique("c"), username=user, password=TOKEN.get(user.rpartition("@")[2], "x"), **options)
    acme, more, blue, nobody = come("a@acme"), come("b@x@acme", V311), come("a@blue"), come("plain")
    for c in (acme, more, blue, nobody):
        c.subscribe("t/#", qos=1)
    assert acme.publish("t/1", b"acme", qos=1) == 0 and blue.publish("t/1", b"blue", qos=1) == 0
    acme.expect_message("t/1", b"acme")
    more.expect_message("t/1", b"acme")
    blue.expect_message("t/1", b"blue")
    assert nobody.publish("t/1", b"nobody", qos=1) == 0
    nobody.expect_message("t/1", b"nobody")
    assert b.ctl_json("clients", "show", acme.client_id)["mountpoint"] == "acme/"
    assert acme.connack.prop(P.MAXIMUM_QOS) == 1 and blue.connack.prop(P.MAXIMUM_QOS) is None
    assert acme.publish("acme/secret", b"", qos=1) == 0x87, "its own rules, with its own attribute"
    for user, password in (("a@acme", TOKEN["blue"]), ("a@acme", TOKEN["acme"] + "x"), ("a@acme", ""), ("@acme", "x" * 60000)):
        b.client(V5).connect(b.unique("c"), reason=0x86, username=user, password=password)
    for user in ("a@nobody", "acme", "a@", "@", "a@acme@", "a@ACME"):
        come(user)  # not ours: the next one lets it in
    # New rules for those who are online; a tenant that is gone takes them along.
    b.configure(plugins=tenants(**{'tenant "acme"': {"token": TOKEN["acme"], "rules": ["allow all t/#", "deny all #"]}, 'tenant "blue"': None}))
    b.reload()
    blue.expect_close(0x87)
    eventually(lambda: acme.publish("other", b"", qos=1) == 0x87, "the new rules")
    assert acme.publish("t/2", b"still", qos=1) == 0
    acme.expect_message("t/2", b"still")


def test_certificates_name_the_tenant_too():
    b = Broker(listeners={"mqtt": {}, "mtls": {"tls": True, "certificate": "{dir}/server.pem", "private_key": "{dir}/server.key",
                                               "client_ca": "{dir}/ca.pem", "client_certificate": "required", "identity": "cn"}},
               plugins=tenants(**{'tenant "acme"': {"certificate_suffix": ".acme.example"}}))
    authority = Authority(b.dir)
    authority.issue("server")

    def come(cn, *names):
        certificate, key = authority.issue(cn, san=",".join("DNS:" + n for n in names))
        c = SClient(b.address("mtls"), "-cert", certificate, "-key", key)
        b.clients.append(c)
        return c
    try:
        b.start()
        c = come("dev1", "dev1.blue.example")
        c.connect("one")
        assert b.ctl_json("clients", "show", "one")["mountpoint"] == "b/lue/"
        come("dev2", "dev2.nobody.example", "dev2.acme.example").connect("two")
        assert b.ctl_json("clients", "show", "two").get("mountpoint", "") == "", "the first name counts"
        b.connect(V5, "three", username="x@acme", password="anything")  # acme has no token: the next one's business
        assert b.ctl_json("clients", "show", "three").get("mountpoint", "") == ""
        b.close_clients()
        b.stop()
    finally:
        b.remove()


def test_wrong_tenants_are_refused_with_their_places():
    b = Broker(plugins=tenants())
    try:
        b.start()
        for changed, why in (({"token": "short"}, "16 bytes at least"), ({}, "else nobody belongs to it"), ({"token": TOKEN["acme"], "mountpoint": "x"}, "ends with a slash"),
                             ({"token": TOKEN["acme"], "mountpoint": "+/"}, "no wildcards"), ({"token": TOKEN["acme"], "rules": ["allow all #", "alow all #"]}, "acme:2: ")):
            b.configure(plugins=tenants(**{'tenant "acme"': changed}))
            refused_reload(b, r"grapnel\.conf:\d+.*" + why)
        assert not b.log_lines(TOKEN["acme"]) and not b.log_lines(TOKEN["blue"]), "a secret is in the log"
        b.stop()
    finally:
        b.remove()


# ---- http-decision -----------------------------------------------------------------------------


def http(url, **options):
    return {"http-decision": dict({"url": url, "cache": False, "breaker_failures": 0}, **options), "allow": dict(ALLOW, client_authenticate="next")}


def code_of(b, user="u", password="p", v=V5):
    c = b.client(v)
    c.send_connect(b.unique("c"), username=user, password=password)
    code = c.expect(CONNACK).reason
    c.close()
    return code


def test_an_http_service_decides_and_its_trouble_is_not_a_wrong_password():
    with Scripted() as s, Broker(listeners={"mqtt": {}}, plugins=http(s.url("/login"), token="t0ken-secret")) as b:
        def answer(request):
            fields = dict(request.form())
            status = {"yes": 200, "created": 201, "no": 403, "who": 401, "next": 404, "broken": 500, "moved": 302}.get(fields["username"], 200)
            return status, "x" * (1000000 if fields["username"] == "long" else 10)
        s.answers["/login"] = answer
        for user, code in (("yes", 0), ("created", 0), ("no", 0x86), ("who", 0x86), ("next", 0x87), ("broken", 0x88), ("moved", 0x88), ("long", 0x88)):
            assert code_of(b, user) == code, user
        assert code_of(b, "broken", v=V311) == 3
        nasty = "a&b=c %00+ä\r\nX: y"
        assert code_of(b, nasty, "&=%\x01") == 0
        fields = dict(s.requests[-1].form())
        assert (fields["username"], fields["password"]) == (nasty, "&=%\x01"), fields
        assert s.requests[-1].headers["Authorization"] == "Bearer t0ken-secret"
        assert b.log_lines("http-decision.*it answers with status 500")
        # Each worker has its own view, and its own clients.
        eventually(lambda: code_of(b, "yes") == 0 and b.log_lines("answers again"), "it answers again")
        assert not b.log_lines("t0ken-secret")
        assert metric(b, "http-decision", "failures_total") == 4
        clients = [b.client(V5) for _ in range(50)]
        for i, c in enumerate(clients):
            c.send_connect("many-%d" % i, username="yes", password="p")
        for c in clients:
            assert c.expect(CONNACK).reason == 0
        b.configure(plugins=http(s.url("/login"), connections=2))
        b.reload()
        assert code_of(b, "yes") == 0
        b.configure(plugins=http(s.url("/login").replace("127.0.0.1", "localhost"), connections=3))
        b.reload()
        assert code_of(b, "yes") == 0, "a name is looked up"
        for url in ("ftp://x/", "http://u:p@x/", "x", "http://[::1]/"):
            b.configure(plugins=http(url))
            refused_reload(b, "it has to be http:// or https://")
    with Broker(listeners={"mqtt": {}}, plugins=http(s.url("/login"))) as b:
        assert code_of(b) == 0x88, "nobody is there any more"
    with Broker(listeners={"mqtt": {}}, plugins=http("http://no.such.host.invalid/")) as b:
        assert code_of(b) == 0x88


def test_a_service_that_says_nothing_costs_only_those_who_wait_for_it():
    with Mute() as s, Broker(listeners={"mqtt": {}}, users={"fred": "fred"}, workers=2,
                             plugins=http("http://127.0.0.1:%d/" % s.port, order=30, request_timeout="1s", calls=5)) as b:
        fred = b.connect(V5, "fred", username="fred", password="fred")
        fred.subscribe("t", qos=1)
        clients = [b.client(V5) for _ in range(30)]
        for i, c in enumerate(clients):
            c.send_connect("waits-%d" % i, username="u", password="p")
        for c in clients[:10]:
            c.close()  # leaves while it waits
        for _ in range(20):
            fred.publish("t", b"x", qos=1)
            fred.expect_message("t", b"x")
        for c in clients[10:]:
            assert c.expect(CONNACK).reason == 0x88
        b.held_nobody()
        # The old instance has a request under way when the new one comes.
        c = b.client(V5)
        c.send_connect("last", username="u", password="p")
        b.configure(plugins=dict(http("http://127.0.0.1:%d/" % s.port, order=30, request_timeout="2s"), **{"auth-file": b.options["plugins"]["auth-file"]}))
        b.reload()
        assert c.expect(CONNACK).reason == 0x88


# ---- offloaded-decision ------------------------------------------------------------------------


def test_passwords_are_checked_in_the_pool():
    plugins = dict({"offloaded-decision": {"file": "{dir}/users", "offload_threads": 1, "offload_queue": 1, "breaker_failures": 3}},
                   allow=dict(ALLOW, client_authenticate="next"))
    b = Broker(listeners={"mqtt": {}}, plugins=plugins)
    try:
        b.passwd_file({"alice": "wonder", "bob": "builder"}, "users", "yescrypt")
        with open(b.path("users"), "a", encoding="ascii") as f:
            f.write("# a comment\n\n")
        b.start()
        for v in (V311, V5):
            assert code_of(b, "alice", "wonder", v) == 0 and code_of(b, "bob", "builder", v) == 0
        for user, password in (("alice", "builder"), ("alice", ""), ("alice", "wonder\0"), ("alice", "x" * 60000), ("bob", "wonder")):
            assert code_of(b, user, password) == 0x86, (user, password[:20])
        for user in ("nobody", "alic", "alicee", "", "# a comment", "alice:"):
            assert code_of(b, user, "wonder") == 0x87, user
        # More than the pool takes: some have to come again, nobody is told that the password is wrong.
        wait = time.monotonic() + TIMEOUT
        codes = []
        while 0x88 not in codes:
            assert time.monotonic() < wait, codes
            clients = [b.client(V5) for _ in range(30)]
            for i, c in enumerate(clients):
                c.send_connect("many-%d" % i, username="alice", password="wonder")
            for c in clients[:5]:
                c.close()
            codes += [c.expect(CONNACK).reason for c in clients[5:]]
            b.close_clients()
        assert set(codes) <= {0, 0x88}, codes
        assert metric(b, "offloaded-decision", "refused_total") >= codes.count(0x88)
        eventually(lambda: code_of(b, "alice", "wonder") == 0, "the pool is free again")
        for text, why in (("alice\n", ":1: it is not name:hash"), ("# x\nalice:secret\n", ":2: the hash is none of crypt"),
                          ("a:$x\nb:$y\na:$z\n", '"a" is in it twice')):
            b.write("users", text)
            refused_reload(b, "users" + why if why[0] == ":" else why)
            assert not b.log_lines("alice:secret")
        assert code_of(b, "alice", "wonder") == 0, "the file before is still in force"
        b.passwd_file({"carol": "x"}, "users", "sha512")
        b.reload()
        assert code_of(b, "carol", "x") == 0 and code_of(b, "alice", "wonder") == 0x87
        b.stop()
    finally:
        b.remove()


# ---- cpp-plugin: maintenance-window ------------------------------------------------------------


def window(**options):
    return with_allow("maintenance-window", **dict({"allow": ["operator"], "control_topic": "control", "notice_topic": "notice"}, **options))


def maintenance(b, *words):
    return b.ctl_json("maintenance", *words)["answer"]


@skip_if(not built("maintenance-window"), "configure found no C++17 compiler")
@broker(own=True, plugins=window(), top={"store": {"durability": "strict"}})
def test_in_a_maintenance_window_only_some_may_publish(b):
    c, operator = b.connect(V5), b.connect(V5, username="operator")
    c.subscribe("notice", qos=0)
    assert maintenance(b, "status") == {"maintenance": False}
    assert c.publish("t", b"", qos=1) in OK
    assert maintenance(b, "on", "600")["maintenance"] is True
    c.expect_message("notice", b"on")
    assert refusal(c, "t", b"") == (0x83, "maintenance: nothing is accepted at the moment")
    assert operator.publish("t", b"", qos=1) in OK
    for words in ((), ("on",), ("on", "0"), ("on", "-1"), ("on", "1x"), ("on", "9" * 30), ("off", "1"), ("x",), ("on", "1", "2")):
        assert "usage: maintenance" in b.ctl("maintenance", *words, code=1).stderr, words
    # A reload and a restart keep it.
    b.configure(plugins=window(max_duration="1h"))
    b.reload()
    assert c.publish("t", b"", qos=1) == 0x83
    b.close_clients()
    b.stop()
    b.start()
    c, operator = b.connect(V5), b.connect(V5, username="operator")
    assert 0 < maintenance(b, "status")["seconds_left"] <= 600
    assert c.publish("t", b"", qos=1) == 0x83
    # By message; what makes no sense changes nothing.
    for payload in (b"", b"off 1", b"on x", b"on " + b"9" * 1000, b"\xff\x00"):
        operator.publish("control", payload, qos=1)
    assert c.publish("t", b"", qos=1) == 0x83
    operator.publish("control", b"off", qos=1)
    eventually(lambda: c.publish("t", b"", qos=1) in OK, "it is over")
    assert maintenance(b, "on", "999999999")["seconds_left"] <= 3601, "max_duration"
    # Ends by itself.
    assert maintenance(b, "on", "1")["maintenance"] is True
    c.subscribe("notice")
    while c.wait_for(PUBLISH, topic="notice").payload != b"off":
        pass
    assert c.publish("t", b"", qos=1) in OK
    assert metric(b, "maintenance-window", "refused_total") >= 2


# ---- rust-plugin: client-id-guard --------------------------------------------------------------


@skip_if(not built("client-id-guard"), "configure found no rustc")
@broker(own=True, listeners={"mqtt": {}, "free": {}}, plugins=with_allow("client-id-guard", exempt_listeners=["free"], max_length=20))
def test_a_client_identifier_has_to_belong_to_its_user(b):
    for user, name in (("alice", "alice"), ("alice", "alice-1"), ("alice", "alice-" + "x" * 14)):
        b.connect(V5, name, username=user)
        b.connect(V311, name, username=user)
    for user, name, why in (("alice", "carol", "begin with the user name"), ("alice", "alicex", "begin with"), ("alice", "alice 1", "not printable"),
                            ("alice", "alice-ä", "not printable"), ("alice", "alice-" + "x" * 15, "too long"), ("bobby", "bob", "begin with")):
        p = b.client(V5).connect(name, reason=0x85, username=user)
        assert why in p.prop(P.REASON_STRING), p
        b.client(V311).connect(name, reason=2, username=user)
        b.connect(V5, name, username=user, listener="free")
    assert metric(b, "client-id-guard", "refused_total") == 12
    b.configure(plugins=with_allow("client-id-guard"))
    b.reload()
    b.client(V5).connect("bob", reason=0x85, username="alice")
    b.connect(V5, "alice-" + "x" * 50, username="alice")


# ---- all of them -------------------------------------------------------------------------------


@skip_if(not os.path.exists(TOOL), "there is no grapnel-plugin in this build")
def test_a_reason_that_is_cut_is_text_all_the_same():
    if not built("payload-validator"):
        raise Skip("payload-validator is not built")
    with tempfile.TemporaryDirectory() as place:
        for name in ("\u00e4" * 200, "x" + "\u00e4" * 200, "\u20ac" * 100, "x" + "\u20ac" * 100, "\U0001f600" * 80):
            with open(place + "/schema", "w", encoding="utf-8") as f:
                json.dump({"required": [name]}, f)
            script = """section <<END
    schema "#" {
        file = "%s/schema"
    }
END
start
client c
publish c a payload={} -> deny reason_code=0x99
""" % place
            r = subprocess.run([TOOL, "run", PLUGINS + "/payload-validator.so", "--hold", "50ms"], input=script, text=True,
                               timeout=10 * TIMEOUT, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            assert r.returncode == 0, r.stdout


@each(folder=FOLDERS)
@skip_if(not os.path.exists(TOOL), "there is no grapnel-plugin in this build")
def test_its_steps_are_as_expected_and_the_harness_finds_nothing(folder):
    module = os.path.join(PLUGINS, MODULES.get(folder, folder) + ".so")
    if not os.path.exists(module):
        raise Skip("configure found no compiler for it")
    with tempfile.TemporaryDirectory(prefix="grapnel-example-") as place:
        for name in os.listdir(os.path.join(EXAMPLES, folder)):
            shutil.copy(os.path.join(EXAMPLES, folder, name), place)
        # A machine that is busy with other tests stops everybody for longer than the 5 ms that the harness allows for.
        r = subprocess.run([TOOL, "run", module, "--hold", "50ms", "--script", "test.steps"], cwd=place, text=True, timeout=10 * TIMEOUT, check=False,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert r.returncode == 0 and r.stdout == "test.steps: ok\n", "%d:\n%s" % (r.returncode, r.stdout)


def blocks(readme):
    """The commands that a README.md shows: indented blocks that begin with a compiler."""
    with open(readme, encoding="utf-8") as f:
        return re.findall(r"^    ((?:cc|g\+\+|rustc) .*\n(?:    .*\n)*)", f.read(), re.M)


def test_each_is_built_outside_of_the_tree_by_the_line_that_its_readme_shows():
    if skip_reason():
        raise Skip(skip_reason())
    with Sdk() as sdk:
        folder = os.path.join(sdk.prefix, "share", "grapnel", "examples")
        assert tuple(sorted(os.listdir(folder))) == FOLDERS
        for name in FOLDERS:
            path = os.path.join(folder, name)
            command, *more = blocks(os.path.join(path, "README.md"))
            if not shutil.which(command.split()[0]) or (command.startswith("rustc") and not built("client-id-guard")):
                continue
            assert "-o " in command and len(more) == (1 if name == "rust-plugin" else 0), more
            out = sdk.run(["sh", "-ec", command], path)
            assert "warning" not in out, out
            module = os.path.join(path, re.search(r"-o (\S+)", command)[1])
            assert exported(module) == ["grapnel_plugin"], exported(module)
            if os.path.exists(TOOL):
                out = sdk.run(["grapnel-plugin", "check", module])
                warnings = re.findall(r"^warning .*$", out, re.M)
                assert " 0 fault(s))" in out, out
                assert not warnings or (name == "rust-plugin" and len(warnings) == 1 and "stack protector" in warnings[0]), out
            for text in more:  # layout.c: what grapnel.rs says is what the headers say; something else is found out
                sdk.run(["sh", "-ec", text], path)
                with open(os.path.join(path, "grapnel.rs"), encoding="ascii") as f:
                    good = f.read()
                for old, new in (("pub client_auth_exchange: Unused,", ""), ("pub max: i64", "pub max: i32"), ("DENY: c_int = 2", "DENY: c_int = 3")):
                    assert good.count(old) == 1, old
                    with open(os.path.join(path, "grapnel.rs"), "w", encoding="ascii") as f:
                        f.write(good.replace(old, new))
                    sdk.run(["sh", "-ec", text], path, code=1)


def test_the_files_for_conf_d_show_the_defaults_and_are_understood():
    """With every option that is commented out put into force."""
    assert tuple(d for d in sorted(os.listdir(EXAMPLES)) if os.path.isdir(os.path.join(EXAMPLES, d))) == FOLDERS
    for folder in FOLDERS:
        conf, = [f for f in os.listdir(os.path.join(EXAMPLES, folder)) if f.endswith(".conf")]
        with open(os.path.join(EXAMPLES, folder, conf), encoding="ascii") as f:
            text = f.read()
        if not built(re.search(r'^plugin "(.*)" {', text, re.M)[1]):
            continue
        for name, content in (("plain", text), ("all", re.sub(r"^( +)#(?=\w+ = )", r"\1", text, flags=re.M))):
            content = content.replace("/etc/grapnel/", "{dir}/etc/").replace("/var/log/grapnel/", "{dir}/")
            with open(os.path.join(EXAMPLES, "payload-validator", "telemetry.schema.json"), encoding="ascii") as f:
                schema = f.read()
            b = Broker(extra=content.replace("{dir}", "@DIR@"),
                       files={"etc/acme.token": "0123456789abcdef", "etc/auth.token": "t", "etc/users": "", "etc/telemetry.schema.json": schema})
            b.options["extra"] = b.options["extra"].replace("@DIR@", b.dir)
            try:
                b.start()
                b.stop()
            except AssertionError as e:
                raise AssertionError("%s, %s: %s" % (conf, name, e)) from None
            finally:
                b.remove()
