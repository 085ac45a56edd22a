# SPDX-License-Identifier: Apache-2.0
"""What the broker does for every plugin: kept answers, one question for equal ones, stale answers, the breaker, groups,
shadows, explain."""
import os
import threading

from lib.broker import FACTOR, Broker
from lib.case import broker, each
from lib.hooks import Gate, eventually, gate, settle
from lib.mqtt import *  # noqa: F401,F403

AUTH = ["client_authenticate", "client_revalidate"]
BY_PASSWORD = ["username", "password"]
LONG = 60 * FACTOR


def keeps(**options):
    """The gate as a backend whose answers can be kept."""
    return {"plugins": {"gate": gate(**dict({"hooks": AUTH, "depends": BY_PASSWORD, "cache_jitter": 0}, **options))},
            "listeners": {"mqtt": {}}}


def code(b, user="alice", password="pw", client_id=None):
    c = b.client(V5)
    c.send_connect(client_id or b.unique("c"), username=user, password=password)
    reason = c.expect(CONNACK).reason
    c.close()
    return reason


def now(b):
    """A place in the log behind all that has happened."""
    settle(b)
    return b.mark()


def asked(b, since=0):
    """How often the gate was asked. What is behind it in the log has been read, too."""
    settle(b)
    return len(b.log_lines(r'plugin "gate": asked ', since))


def numbers(b, name="gate"):
    return b.ctl_json("plugin", "show", name)


def switch(b, what, on=True):
    """The gate answers this from here on."""
    path = b.path("hold." + what)
    if on:
        with open(path, "w", encoding="ascii"):
            pass
    else:
        os.unlink(path)


# ---- kept answers -------------------------------------------------------------------------------


@broker(own=True, **keeps())
def test_an_equal_question_is_answered_by_what_is_kept(b):
    for _ in range(5):
        assert code(b) == 0
    assert asked(b) == 1
    cache = numbers(b)["cache"]
    assert (cache["entries"], cache["hits"], cache["misses"]) == (1, 4, 1), cache
    assert b.metric('grapnel_plugin_cache_hits_total{plugin="gate"}') == 4
    assert code(b, password="other") == 0 and code(b, user="bob") == 0
    assert asked(b) == 3


@broker(own=True, **keeps(verdict="deny"))
def test_a_refusal_is_kept_for_that_password_alone(b):
    assert code(b) == 0x87 and code(b) == 0x87
    assert asked(b) == 1
    assert code(b, password="right") == 0x87
    assert asked(b) == 2


@broker(own=True, **keeps())
def test_unavailable_is_never_kept(b):
    switch(b, "unavailable")
    assert code(b) == 0x88 and code(b) == 0x88
    switch(b, "unavailable", False)
    assert code(b) == 0
    assert asked(b) == 3


PAIRS = ((("XX", "X"), ("X", "XX")), (("a\0b", "c"), ("a", "b\0c")), (("", "ab"), ("ab", "")), (("u", None), ("u", "")),
         (("ab", "c" * 255), ("a", "bc" + "c" * 254)))


@each(pair=range(len(PAIRS)))
@broker(**keeps())
def test_two_principals_never_share_an_answer(b, pair):
    first, second = PAIRS[pair]
    since = now(b)
    for user, password in (first, second, first, second):
        c = b.client(V5)
        c.send_connect(b.unique("c"), username=user.replace("\0", "\1"), password=password)
        c.expect(CONNACK, reason=0)
        c.close()
    assert asked(b, since) == 2


@broker(own=True, **keeps(depends=["username", "password", "client_id"]))
def test_what_an_answer_depends_on_is_the_plugins_to_say(b):
    assert code(b, client_id="one") == 0 and code(b, client_id="two") == 0 and code(b, client_id="one") == 0
    assert asked(b) == 2


@broker(own=True, **keeps(cache=False))
def test_it_can_be_switched_off(b):
    assert code(b) == 0 and code(b) == 0
    assert asked(b) == 2
    assert numbers(b)["cache"]["entries"] == 0


@broker(own=True, **keeps(cache_ttl="50ms", cache_negative_ttl="0"))
def test_an_answer_ends(b):
    assert code(b) == 0
    eventually(lambda: code(b) == 0 and asked(b) >= 2, "it is asked again", LONG)


@broker(own=True, **keeps(valid_for="1s", cache_ttl="1h"))
def test_no_answer_outlives_the_login(b):
    assert code(b) == 0
    eventually(lambda: code(b) in (0, 0x87) and asked(b) >= 2, "it is asked again", LONG)


@broker(own=True, plugins={"verdict": {"client_authenticate": "allow", "valid_for": "1ms"}}, listeners={"mqtt": {}})
def test_a_login_that_is_over_is_refused(b):
    assert code(b) == 0x87


@broker(own=True, **keeps(breaker_failures=2))
def test_trouble_with_one_question_alone_does_not_open_the_breaker(b):
    switch(b, "unusable")
    for _ in range(5):
        assert code(b) == 0x88
    assert asked(b) == 5 and not b.log_lines("breaker_opened")


@broker(own=True, **keeps(cache_size=10))
def test_the_number_of_kept_answers_is_bounded(b):
    for i in range(30):
        assert code(b, user="u%d" % i) == 0
    cache = numbers(b)["cache"]
    assert cache["entries"] == 10 and cache["evicted"] == 20, cache
    since = now(b)
    assert code(b, user="u29") == 0 and code(b, user="u0") == 0
    assert asked(b, since) == 1


RIGHTS = {"plugins": {"gate": gate(hooks=["acl_check"], depends=["username"], cache_jitter=0)},
          "listeners": {"mqtt": {"anonymous": True}}}


@broker(own=True, **RIGHTS)
def test_rights_are_kept_by_user_and_topic(b):
    one, two = (b.connect(V5, b.unique("c")) for _ in range(2))
    for c in (one, two):
        for topic in ("a", "b"):
            assert c.publish(topic, "x", qos=1) in (0, 0x10)
    assert asked(b) == 2
    one.publish("a", "x", qos=0)
    one.ping()
    assert asked(b) == 3  # another QoS is another question


# ---- one question for equal ones ------------------------------------------------------------------


@broker(own=True, **keeps())
def test_a_thousand_equal_logins_at_once_are_one_question(b):
    g = Gate(b).close()
    clients = []
    for i in range(1000):
        c = b.client(V5)
        c.send_connect("storm-%d" % i, username="alice", password="pw")
        clients.append(c)
    eventually(lambda: numbers(b)["cache"]["waiting"] == 999, "all but one wait", LONG)
    g.open()
    for c in clients:
        c.expect(CONNACK, reason=0)
    assert asked(b) == 1


@broker(own=True, **keeps())
def test_when_the_one_that_asks_leaves_another_one_asks(b):
    g = Gate(b).close()
    first = b.client(V5)
    first.send_connect("first", username="alice", password="pw")
    g.asked("client_authenticate", "first")
    others = []
    for i in range(5):
        c = b.client(V5)
        c.send_connect("other-%d" % i, username="alice", password="pw")
        others.append(c)
    eventually(lambda: numbers(b)["cache"]["waiting"] == 5, "they wait", LONG)
    leaver = others.pop()
    leaver.close()
    eventually(lambda: numbers(b)["cache"]["waiting"] == 4, "one has left", LONG)
    first.close()
    eventually(lambda: asked(b) == 2, "another one asks", LONG)
    g.open()
    for c in others:
        c.expect(CONNACK, reason=0)
    assert asked(b) == 2


@broker(own=True, **keeps(timeout="300ms"))
def test_who_waits_has_a_deadline_of_his_own(b):
    g = Gate(b).close()
    clients = []
    for i in range(4):
        c = b.client(V5)
        c.send_connect("c-%d" % i, username="alice", password="pw")
        clients.append(c)
    for c in clients:
        c.expect(CONNACK, reason=0x88)
    g.open()
    assert code(b) == 0


# ---- backends in trouble ---------------------------------------------------------------------------


@broker(own=True, **keeps(cache_ttl="50ms", stale_for="1h"))
def test_a_grant_may_be_used_beyond_its_time_while_the_backend_is_down(b):
    assert code(b) == 0
    switch(b, "unavailable")
    eventually(lambda: code(b) == 0 and numbers(b)["cache"]["stale"] > 0, "a stale answer is used", LONG)
    assert code(b) == 0
    assert code(b, password="never seen") == 0x88
    assert b.metric('grapnel_plugin_cache_stale_total{plugin="gate"}') > 0
    switch(b, "unavailable", False)
    switch(b, "deny")  # it is back, and says no: that counts
    eventually(lambda: code(b) == 0x87, "the refusal counts", LONG)


@broker(own=True, **keeps(breaker_failures=3, breaker_wait="100ms", breaker_max_wait="200ms"))
def test_a_backend_in_trouble_is_left_alone_for_a_while(b):
    switch(b, "unavailable")
    for _ in range(3):
        assert code(b) == 0x88
    b.wait_log(r'breaker_opened: plugin "gate": 3 questions in a row')
    eventually(lambda: code(b) == 0x88 and numbers(b)["breaker"]["refused"] > 0, "it is not asked", LONG)
    assert b.metric('grapnel_plugin_breaker_open{plugin="gate"}') == 1
    since = now(b)
    eventually(lambda: code(b) == 0x88 and asked(b, since) > 0, "one is asked now and then", LONG)
    switch(b, "unavailable", False)
    eventually(lambda: code(b) == 0, "it is asked again", LONG)
    b.wait_log(r'breaker_closed: plugin "gate": answers again')
    assert b.metric('grapnel_plugin_breaker_open{plugin="gate"}') == 0


@broker(own=True, listeners={"mqtt": {}}, users={"alice": "wonder"},
        plugins={"auth-file": {"order": 20, "offload_threads": 1, "offload_queue": 1, "breaker_failures": 2}})
def test_a_crowd_is_no_backend_in_trouble(b):
    b.passwd_file({"alice": "wonder"}, scheme="sha512")  # which takes its time
    b.reload()
    clients = []
    for i in range(60):
        c = b.client(V5)
        c.send_connect("crowd-%d" % i, username="alice", password="wonder")
        clients.append(c)
    codes = [c.expect(CONNACK).reason for c in clients]
    assert codes.count(0x88) > 10 and set(codes) == {0, 0x88}, codes
    assert not b.log_lines("breaker_opened")


# ---- purge: live sessions follow --------------------------------------------------------------------


def rules(b, text):
    b.write("hold.rules", text)


@broker(own=True, **keeps())
def test_after_a_purge_live_sessions_have_the_rights_of_now(b):
    rules(b, "allow all a/#\nallow all b/#\n")
    alice = b.connect(V5, "alice", username="alice", password="pw")
    bob = b.connect(V5, "bob", username="bob", password="pw")
    alice.subscribe("b/#", qos=1)
    bob.publish("b/1", "before", qos=1)
    alice.expect_message(topic="b/1", payload="before")
    rules(b, "allow all a/#\nallow publish b/#\n")
    b.ctl("cache", "purge", "user=alice")
    eventually(lambda: b.log_lines(r'asked \d+ client_revalidate alice'), "the login is asked about", LONG)
    assert not b.log_lines(r"asked \d+ client_revalidate bob")
    for i in range(100):  # until the new rules have arrived
        bob.publish("b/2", "%d" % i, qos=1)
        p = alice.poll(0.05)
        if p is None:
            break
        alice.acknowledge(p)
    else:
        raise AssertionError("what alice may not read any more still comes")
    alice.ping()
    alice.subscribe("b/+", qos=1, codes=[0x87])
    assert alice.publish("b/3", "x", qos=1) in (0, 0x10)


@broker(own=True, **keeps())
def test_a_purge_disconnects_whose_login_does_not_hold_any_more(b):
    alice = b.connect(V5, "alice", username="alice", password="pw")
    bob = b.connect(V5, "bob", username="bob", password="pw")
    switch(b, "deny")
    out = b.ctl("cache", "purge", "client=alice").stdout
    assert "1 kept answers are forgotten" in out or "2 kept answers" in out, out
    alice.expect(DISCONNECT, reason=0x87)
    bob.ping()
    b.ctl("cache", "purge")
    bob.expect(DISCONNECT, reason=0x87)


@broker(own=True, **keeps())
def test_a_purge_while_the_backend_is_down_keeps_who_is_there(b):
    alice = b.connect(V5, "alice", username="alice", password="pw")
    switch(b, "unavailable")
    b.ctl("cache", "purge")
    eventually(lambda: b.log_lines(r"asked \d+ client_revalidate alice"), "it is asked", LONG)
    alice.ping()
    assert "no plugin" in b.ctl("cache", "purge", "plugin=nobody", code=1).stderr
    b.ctl("cache", "purge", "x=1", code=2)


@broker(own=True, **keeps())
def test_what_is_under_way_when_purged_is_not_kept(b):
    g = Gate(b).close()
    c = b.client(V5)
    c.send_connect("c", username="alice", password="pw")
    g.asked("client_authenticate", "c")
    b.ctl("cache", "purge")
    g.open()
    c.expect(CONNACK, reason=0)
    assert code(b) == 0
    assert asked(b) >= 2


# ---- groups -----------------------------------------------------------------------------------------


def pair(kind, first, second, **more):
    """A broker with two plugins that decide as one."""
    options = {"first": dict({"module": "verdict", "order": 10}, **first),
               "second": dict({"module": "verdict", "order": 20}, **second)}
    options.update(more)
    return Broker(plugins=options, listeners={"mqtt": {}}, extra='require "%s" { plugins = [first, second] }' % kind)


def says(answer, **more):
    if answer == "next":  # with nothing else to say it would not be asked at all
        answer, more = "allow", dict(more, only_user="somebody else")
    return dict({"client_authenticate": answer}, **more)


GROUPS = {  # kind, first, second, with a third plugin behind that allows: the CONNACK
    ("all", "allow", "allow"): 0, ("all", "allow", "deny"): 0x87, ("all", "deny", "allow"): 0x87,
    ("all", "allow", "next"): 0x87, ("all", "next", "allow"): 0, ("all", "allow", "unavailable"): 0x88,
    ("all", "unavailable", "deny"): 0x88, ("any", "allow", "deny"): 0, ("any", "deny", "allow"): 0,
    ("any", "deny", "deny"): 0x87, ("any", "next", "next"): 0, ("any", "unavailable", "deny"): 0x88,
    ("any", "deny", "next"): 0x87, ("any", "unavailable", "allow"): 0,
}


@each(which=range(len(GROUPS)))
def test_a_group_decides_as_one(which):
    (kind, first, second), wanted = list(GROUPS.items())[which]
    third = {"third": dict({"module": "verdict", "order": 30}, **says("allow"))}
    with pair(kind, says(first), says(second), **third) as b:
        assert code(b) == wanted


def test_what_all_say_is_put_together():
    with pair("all", says("allow", attribute="tenant=blue", rules="allow all first/#", limit_packet_size=2000, mountpoint="m/"),
              says("allow", attribute="role=pump", rules="allow all %{tenant}/%{role}/#", limit_packet_size=1000)) as b:
        c = b.connect(V5, "c", username="alice", password="pw")
        for topic, granted in (("first/x", True), ("blue/pump/x", True), ("red/pump/x", False)):
            c.subscribe(topic, qos=1, codes=None if granted else [0x87])
        assert c.connack.prop(MAXIMUM_PACKET_SIZE) == 1000
        shown = b.ctl_json("clients", "show", "c")
        assert shown["mountpoint"] == "m/", shown
        assert shown["attributes"] == {"tenant": "blue", "role": "pump"}, shown


def test_the_login_of_a_group_holds_while_all_its_members_say_so():
    g = gate(hooks=AUTH, order=20)
    with Broker(plugins={"first": dict({"module": "verdict", "order": 10}, **says("allow")), "gate": g},
                listeners={"mqtt": {}}, extra='require "all" { plugins = [first, gate] }') as b:
        c = b.connect(V5, "c", username="alice", password="pw")
        b.ctl("cache", "purge")
        eventually(lambda: b.log_lines(r"asked \d+ client_revalidate c"), "it is asked", LONG)
        c.ping()
        switch(b, "deny")
        b.ctl("cache", "purge")
        c.expect(DISCONNECT, reason=0x87)


WRONG = {'require "all" { plugins = [first, nobody] }': 'no plugin "nobody" is enabled',
         'require "both" { plugins = [first] }': 'the title must be "all" or "any"',
         'require "all" { }': 'required option "plugins" is missing',
         'require "all" { plugins = [first]  hooks = [message_publish] }': "must be client_authenticate or acl_check",
         'require "all" { plugins = [first, first] }': "is in this or another group already",
         'require "all" { plugins = [file] }': "does not answer client_authenticate",
         'require "all" { plugins = [shadow] }': "shadow = yes"}


@each(which=range(len(WRONG)))
@broker(own=True, plugins={"first": dict({"module": "verdict"}, **says("allow"))}, listeners={"mqtt": {}})
def test_a_group_that_cannot_be_is_refused_and_said(b, which):
    text, message = list(WRONG.items())[which]
    b.configure(extra=text, files={"rules": "allow all #\n"}, plugins=dict(
        b.options["plugins"], file={"module": "auth-file", "rules": ["{dir}/rules"]},
        shadow=dict({"module": "verdict", "shadow": True}, **says("allow"))))
    mark = b.mark()
    b.reload(good=False)
    assert b.log_lines(message.replace("(", r"\("), mark), b.log_lines(since=mark)
    assert code(b) == 0


# ---- plugins for the clients of some listeners --------------------------------------------------

BOTH = {"mqtt": {}, "mqtt-2": {"anonymous": True}}


def verdict(order, **more):
    return dict({"module": "verdict", "order": order}, **more)


def code_at(b, listener, **who):
    c = b.client(V5, listener=listener)
    c.send_connect(b.unique("c"), **who)
    reason = c.expect(CONNACK).reason
    c.close()
    return reason


@broker(own=True, listeners=BOTH, plugins={
    "a": verdict(10, client_authenticate="deny", listeners="mqtt"),
    "b": verdict(20, client_authenticate="allow", acl_check="allow", only_topic="b/*"),
    "c": verdict(30, message_publish="deny", acl_check="allow", listeners=["mqtt"])})
def test_a_plugin_is_for_the_clients_of_its_listeners(b):
    assert [code_at(b, x, username="u", password="p") for x in BOTH] == [0x87, 0]
    mark = now(b)
    c = b.connect(V5, "mqtt-2", listener="mqtt-2", username="u", password="p")
    assert c.publish("b/x", "1", qos=1) in (0, 0x10)
    assert c.publish("c/x", "1", qos=1) == 0x87  # nobody else says what c would
    assert not b.log_lines(r"decision: .*[( ]c: (allow|deny)", mark)
    x = b.ctl_json("explain", "--client", "x", "--username", "u", "--listener", "mqtt-2", "--publish", "c/x")
    assert (x["right"]["verdict"], [s["how"] for s in x["right"]["steps"] if s["plugin"] == "c"]) == ("deny", ["other listener"]), x
    assert "other listener" in b.ctl("explain", "--client", "x", "--username", "u", "--listener", "mqtt-2", "--publish", "c/x").stdout
    x = b.ctl_json("explain", "--client", "x", "--username", "u", "--listener", "mqtt", "--publish", "c/x")
    assert x["right"]["verdict"] == "allow" and x["right"]["plugin"] == "c", x
    # A reload changes it, without new instances, also for who is connected.
    plugins = b.options["plugins"]
    b.configure(plugins=dict(plugins, a=dict(plugins["a"], listeners="mqtt-2"), c=dict(plugins["c"], listeners="all")))
    b.reload()
    assert not b.log_lines(r'plugin "[ac]": instance \d+ has left', mark)
    assert [code_at(b, x, username="u", password="p") for x in BOTH] == [0, 0x87]
    assert c.publish("b/x", "1", qos=1) == 0x83


LISTENED = {  # kind, is first for this listener, is second; first and second would say: the CONNACK. Behind it one that denies.
    ("all", True, True, "allow", "allow"): 0, ("all", False, True, "deny", "allow"): 0, ("all", True, False, "allow", "deny"): 0,
    ("all", False, True, "allow", "deny"): 0x87, ("all", False, False, "allow", "allow"): 0x87,
    ("all", True, False, "unavailable", "allow"): 0x88, ("all", True, False, "next", "allow"): 0x87,
    ("any", False, True, "allow", "allow"): 0, ("any", True, False, "deny", "allow"): 0x87, ("any", False, False, "allow", "allow"): 0x87,
    ("any", True, False, "unavailable", "allow"): 0x88,
}


@each(which=range(len(LISTENED)))
def test_a_group_does_without_who_is_for_other_listeners(which):
    (kind, one, two, first, second), wanted = list(LISTENED.items())[which]
    name = {True: ["mqtt-2", "mqtt"], False: "mqtt-2"}
    options = {"first": verdict(10, listeners=name[one], **says(first)), "second": verdict(20, listeners=name[two], **says(second)),
               "third": verdict(30, **says("deny"))}
    with Broker(plugins=options, listeners=BOTH, extra='require "%s" { plugins = [first, second] }' % kind) as b:
        assert code_at(b, "mqtt", username="u", password="p") == wanted


@broker(own=True, listeners={"mqtt": {"anonymous": True}, "mqtt-2": {"anonymous": True}}, plugins={
    "event-log": {"file": "{dir}/events", "listeners": "mqtt"}, "let": verdict(10, acl_check="allow"),
    "rewrite": verdict(20, message_deliver="allow", drop=True, only_topic="dropped", listeners="mqtt")})
def test_events_are_told_of_and_deliveries_of_all_are_looked_at(b):
    for x in BOTH:
        c = b.connect(V5, "at-" + x, listener=x)
        c.subscribe("#", qos=1)
        c.publish("dropped", "x", qos=1)
        c.publish("kept", "x", qos=1)
        assert c.expect(PUBLISH).topic == "kept"
        c.close()
        b.wait_log('client_disconnected: client "at-%s"' % x)  # it gets nothing of the next one's, which it would have events of
    b.connect(V5, "last", listener="mqtt").close()

    def events():
        with open(b.path("events"), encoding="utf-8") as f:
            return f.read()

    eventually(lambda: '"last"' in events(), "all before has been written", LONG)
    assert '"at-mqtt"' in events() and "at-mqtt-2" not in events()


@broker(own=True, listeners=BOTH, plugins={"a": verdict(10, message_publish="deny", only_topic="will/*", listeners="mqtt-2"),
                                           "b": verdict(20, client_authenticate="allow", acl_check="allow")})
def test_a_session_counts_with_the_listener_that_its_client_had(b):
    c = b.connect(V5, "r", listener="mqtt", username="u", password="p")
    c.subscribe("will/#", qos=1)
    for x in reversed(BOTH):
        w = b.connect(V5, "w", listener=x, username="u", password="p", props=[(SESSION_EXPIRY, 60)],
                      will=Will("will/" + x, "gone", 1, props=[(WILL_DELAY, 1)]))
        w.reset()
        eventually(lambda: len(b.log_lines("client_disconnected: client \"w\"")) == 1 + (x == "mqtt"), "it has gone")
        eventually(lambda: b.log_lines("will.*will/" + x), "it is time", LONG)
    c.expect_message("will/mqtt", "gone", qos=1)
    c.expect_nothing(0.01)


@broker(own=True, listeners=BOTH, plugins={"a": verdict(10, client_authenticate="allow")})
@each(wrong=(('"thre"', 'no listener "thre" is configured'), ("[]", "must be all, or have at least one"), ('""', "must not be empty")))
def test_listeners_that_cannot_be_are_refused(b, wrong):
    text, message = wrong
    mark = b.mark()
    b.configure(extra='plugin "x" { module = verdict client_authenticate = allow listeners = %s }' % text)
    b.reload(good=False)
    assert b.log_lines(message, mark), b.log_lines(since=mark)
    assert code_at(b, "mqtt", username="u", password="p") == 0


def test_a_member_of_all_takes_no_part_in_enhanced_authentication():
    with Broker(plugins={"first": dict({"module": "verdict", "order": 10}, **says("deny")),
                         "gate": gate(hooks=AUTH + ["client_auth_exchange"], order=20)},
                listeners={"mqtt": {}}, extra='require "all" { plugins = [first, gate] }') as b:
        assert b.log_lines("takes no part in enhanced authentication")
        c = b.client(V5)
        c.send_connect("c", props=[(AUTH_METHOD, "X")])
        c.expect(CONNACK, reason=0x8C)


# ---- shadows ----------------------------------------------------------------------------------------


@broker(own=True, plugins={"real": dict({"module": "verdict", "order": 20}, **says("allow", acl_check="allow")),
                           "gate": gate(hooks=AUTH + ["acl_check"], order=10, shadow=True)}, listeners={"mqtt": {}})
def test_a_shadow_is_asked_and_not_heeded(b):
    c = b.connect(V5, "agreed", username="alice", password="pw")
    assert c.publish("a", "x", qos=1) == 0x10
    b.wait_metric('grapnel_plugin_shadow_agreed_total{plugin="gate"}', 2)
    switch(b, "deny")
    c = b.connect(V5, "differed", username="alice", password="pw")
    assert c.publish("some/topic", "x", qos=1) == 0x10
    b.wait_log(r'shadow_differs: plugin "gate" \(shadow\): client_authenticate of client "differed" user "alice": '
               r'deny, where "allow" was decided')
    b.wait_log(r'shadow_differs: .*acl_check of client "differed" user "alice" topic some/topic: deny')
    g = Gate(b).close()  # nobody waits for it
    late = b.connect(V5, "late", username="alice", password="pw")
    g.asked("client_authenticate", "late")
    late.close()
    settle(b)
    g.open()
    b.wait_log(r'shadow_differs: .*client_authenticate of client "late"')
    b.wait_metric('grapnel_plugin_shadow_differed_total{plugin="gate"}', 3)


@broker(own=True, plugins={"real": dict({"module": "verdict", "order": 20}, **says("allow", acl_check="allow")),
                           "gate": gate(hooks=AUTH + ["acl_check"], order=10, shadow=True, listeners="mqtt-2")}, listeners=BOTH)
def test_a_shadow_does_not_differ_about_clients_of_other_listeners(b):
    for x in BOTH:
        c = b.connect(V5, "at-" + x, listener=x, username="alice", password="pw")
        assert c.publish("a", "x", qos=1) == 0x10
    b.wait_metric('grapnel_plugin_shadow_agreed_total{plugin="gate"}', 2)
    assert not b.log_lines("shadow_differs")
    assert b.metric('grapnel_plugin_shadow_differed_total{plugin="gate"}') == 0


# ---- explain ----------------------------------------------------------------------------------------


@broker(own=True, users={"alice": "wonder"}, rules="allow publish a/#\ndeny subscribe a/secret\nallow all %u/#\n",
        plugins={"gate": gate(hooks=AUTH, order=50, verdict="next", depends=BY_PASSWORD)}, listeners={"mqtt": {}})
def test_explain_says_who_decides_and_why(b):
    failed = b.metric("connects_refused_total")
    x = b.ctl_json("explain", "--client", "c", "--username", "alice", "--publish", "a/b")
    assert x["session"] is False and x["right"]["verdict"] == "allow", x
    assert x["right"]["rule"].endswith("rules:1") and x["right"]["steps"][0]["plugin"] == "auth-file", x
    r = b.ctl("--json", "explain", "--client", "c", "--username", "alice", "--connect", "--subscribe", "b/x", stdin="wonder\n")
    assert '"verdict":"allow","plugin":"auth-file"' in r.stdout and '"right":{"verdict":"deny"' in r.stdout, r.stdout
    r = b.ctl("explain", "--client", "c", "--username", "alice", "--connect", stdin="wrong\n")
    assert "connect: deny" in r.stdout and "auth-file  deny" in r.stdout and "wrong" not in r.stdout, r.stdout
    r = b.ctl("explain", "--client", "c", "--username", "nobody", "--connect", stdin="x\n")
    assert "nobody knows this user" in r.stdout and "gate" in r.stdout, r.stdout
    assert b.metric("connects_refused_total") == failed
    assert not b.log_lines("wonder")
    for args in (("--client", "c"), ("--publish", "a"), ("--client", "c", "--publish", "a", "--read", "b"),
                 ("--client", "c", "--publish", "a/#"), ("--client", "c", "--publish", "a", "--qos", "3")):
        b.ctl("explain", *args, code=2 if args[0] == "--publish" or "3" in args else 1)


@broker(own=True, **keeps())
def test_explain_asks_with_the_rights_of_the_session_and_keeps_nothing(b):
    rules(b, "allow all mine/#\n")
    b.connect(V5, "there", username="alice", password="pw")
    since = now(b)
    x = b.ctl_json("explain", "--client", "there", "--subscribe", "mine/#")
    assert x["session"] is True and x["right"]["verdict"] == "allow" and x["right"]["rule"] == "gate:1", x
    x = b.ctl_json("explain", "--client", "there", "--subscribe", "other")
    assert x["right"]["verdict"] == "deny", x
    assert asked(b, since) == 0
    entries = numbers(b)["cache"]["entries"]
    r = b.ctl("explain", "--client", "x", "--username", "alice", "--connect", "--read", "mine/1", stdin="pw\n").stdout
    assert "kept" in r and "right: allow" in r, r
    r = b.ctl("explain", "--client", "x", "--username", "alice", "--connect", stdin="another\n").stdout
    assert "connect: allow" in r, r
    assert asked(b, since) == 1 and numbers(b)["cache"]["entries"] == entries


# ---- several threads --------------------------------------------------------------------------------


@broker(own=True, workers=4, **keeps(cache_ttl="20ms", cache_negative_ttl="20ms", cache_size=5))
def test_many_at_once_on_all_workers(b):
    ending, failures = threading.Event(), []

    def load(n):
        i = 0
        while not ending.is_set():
            i += 1
            try:
                got = code(b, user="u%d" % (i % 8), client_id="load-%d" % n)
            except AssertionError as e:
                failures.append(e)
                return
            if got not in (0, 0x87, 0x88):
                failures.append(got)

    threads = [threading.Thread(target=load, args=(i,), daemon=True) for i in range(6)]
    for t in threads:
        t.start()
    for what in ("unavailable", "deny", "next"):
        for _ in range(3):
            switch(b, what)
            b.ctl("cache", "purge", "user=u1")
            switch(b, what, False)
            b.ctl("cache", "purge")
    ending.set()
    for t in threads:
        t.join(LONG)
        assert not t.is_alive()
    assert not failures, failures[:5]
    eventually(lambda: code(b) == 0, "all is well again", LONG)
