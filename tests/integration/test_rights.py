# SPDX-License-Identifier: Apache-2.0
"""Who may do what: at every step where a right is used, and again when it was taken away."""
from lib import wire
from lib.broker import FACTOR, Broker
from lib.case import broker, each, versions
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import wait_until
from lib.wire import Sub, Will

DURABLE = [(SESSION_EXPIRY, 300)]
SOON = 1 + int(FACTOR)  # seconds in which a slow machine has changed what counts
USERS = {"alice": "a", "bob": "b", "+": "p", "a/b": "s", "admin": "x"}
# A password file cannot have a user "#"; other backends can.
LET_HASH_IN = {"verdict": {"order": 10, "client_authenticate": "allow", "only_user": "#"}}

ACL = """
user alice
topic readwrite home/alice/#
topic read shared/#
topic write shared/alice
topic deny shared/secret
user bob
topic readwrite home/bob/#
topic readwrite shared/#
user admin
topic readwrite #
pattern readwrite own/%u/#
pattern readwrite dev/%c/#
"""

RULES = """
user alice
deny all shared/secret
allow all home/alice/#
allow subscribe shared/#
allow publish shared/alice qos<=1 retain=no
user bob
allow all home/bob/#
allow all shared/#
user admin
allow all #
everyone
allow all own/%u/#
allow all dev/%c/#
anonymous
allow all public/#
"""


def login(b, user, v=V5, **options):
    return b.connect(v, username=user, password=USERS.get(user, "-"), **options)


def denied(c, topic, **options):
    assert c.publish(topic, "x", qos=1, **options) == (0x87 if c.version == V5 else 0), topic


def allowed(c, topic, **options):
    assert c.publish(topic, "x", qos=1, **options) in (0, 0x10), topic


BOTH = each(source=("acl", "rules"))


def with_source(**options):
    """A broker with USERS and the ACL of the row, in Mosquitto's words or in Grapnel's."""
    return broker(users=USERS, acl=lambda source, **unused: ACL if source == "acl" else None,
                  rules=lambda source, **unused: RULES if source == "rules" else None, **options)


# ---- publish and subscribe ----------------------------------------------------------------------


@BOTH
@with_source()
def test_only_what_a_rule_allows_is_published(b, source):
    admin = login(b, "admin")
    admin.subscribe("#", retain_handling=2)
    alice = login(b, "alice")
    for topic in ("home/alice/x", "shared/alice", "own/alice/x"):
        allowed(alice, topic)
        admin.expect_message(topic=topic)
    for topic in ("home/bob/x", "shared/bob", "shared/secret", "own/bob/x", "x", "$foo", "home", "Home/alice/x"):
        denied(alice, topic)
        alice.publish(topic, "x", qos=0)
        assert alice.publish(topic, "x", qos=2) == 0x87
    admin.expect_nothing()
    for v in (V31, V311):  # acknowledged, forgotten
        old = login(b, "alice", v)
        for qos in (0, 1, 2):
            old.publish("home/bob/x", "x", qos=qos)
        old.ping()
    admin.expect_nothing()


@broker(users=USERS, rules=RULES)
def test_conditions_of_a_rule_are_conditions(b):
    alice = login(b, "alice")
    allowed(alice, "shared/alice")
    assert alice.publish("shared/alice", "x", qos=2) == 0x87
    denied(alice, "shared/alice", retain=True)


@broker(users=USERS, rules=RULES)
def test_every_filter_of_a_subscribe_is_checked(b):
    alice = login(b, "alice")
    alice.subscribe(["home/alice/#", "#", "home/#", "shared/alice", "+/+/x", "home/alice/+", "$SYS/#",
                     "$share/g/home/bob/x", "$share/g/home/alice/x", "own/alice/x", "own/+/x"],
                    codes=[0, 0x87, 0x87, 0, 0x87, 0, 0x87, 0x87, 0, 0, 0x87])
    old = login(b, "alice", V311)
    old.subscribe(["home/alice/#", "home/bob/#", "#"], codes=[0, 0x80, 0x80])
    bob = login(b, "bob")
    bob.publish("home/bob/x", "x", qos=1)
    alice.expect_nothing()
    old.expect_nothing()


@broker(users=USERS, acl=ACL)
def test_with_an_acl_file_subscribe_is_granted_and_only_what_is_readable_is_delivered(b):
    alice = login(b, "alice")
    alice.subscribe("#", qos=1)
    shared = login(b, "alice", client_id="shared")
    shared.subscribe("$share/g/#", qos=1)
    admin = login(b, "admin")
    for topic in ("home/bob/x", "x", "shared/secret", "own/bob/x", "home/alice/x", "shared/ok"):
        admin.publish(topic, topic, qos=1)
    for c in (alice, shared):
        c.expect_message(topic="home/alice/x")
        c.expect_message(topic="shared/ok")
        c.expect_nothing()


@broker(users=USERS, rules=RULES)
def test_a_deny_that_overlaps_a_granted_filter_takes_those_messages_out(b):
    alice = login(b, "alice")
    alice.subscribe("shared/#", qos=1)
    alice.subscribe("shared/secret", codes=[0x87])
    bob = login(b, "bob")
    before = b.metric("messages_dropped_denied_total")
    for topic in ("shared/secret", "shared/1", "shared/secret", "shared/2"):
        bob.publish(topic, "x", qos=1)
    alice.expect_message(topic="shared/1")
    alice.expect_message(topic="shared/2")
    alice.expect_nothing()
    assert b.metric("messages_dropped_denied_total") == before + 2


# ---- values of patterns -------------------------------------------------------------------------


@each(source=("acl", "rules"), name=("#", "+", "a/b"))
@with_source(plugins=LET_HASH_IN)
def test_a_user_name_that_looks_like_a_filter_gives_no_rights(b, source, name):
    evil = login(b, name, client_id=b.unique("id"))
    other = login(b, "alice")
    for topic in ("own/alice/x", "own/x", "own/bob/x", "own/a/x", "own//x"):
        denied(evil, topic)
    for f in ("own/alice/#", "own/+/#", "own/#"):
        evil.subscribe(f, codes=[0 if source == "acl" else 0x87])
    other.publish("own/alice/x", "x", qos=1)
    evil.expect_nothing()
    if name == "a/b":  # its own name, literally, is its own
        allowed(evil, "own/a/b/x")
    elif source == "rules":
        evil.subscribe("own/%s/x" % name, codes=[0x87] if name == "+" else [0x8F])


@each(source=("acl", "rules"), name=("#", "+"))
@with_source()
def test_a_client_id_that_looks_like_a_filter_gives_no_rights(b, source, name):
    evil = login(b, "bob", client_id=name)
    other = login(b, "alice", client_id=b.unique("victim"))
    for topic in ("dev/%s/x" % other.client_id, "dev/x", "dev/a/b/x"):
        denied(evil, topic)
    evil.subscribe("dev/+/#", codes=[0 if source == "acl" else 0x87])
    other.publish("dev/%s/x" % other.client_id, "x", qos=1)
    evil.expect_nothing()


@BOTH
@with_source()
def test_values_of_patterns_are_literal_text(b, source):
    c = login(b, "bob", client_id="a.b*[c]$(d)%u")
    allowed(c, "dev/a.b*[c]$(d)%u/x")
    for topic in ("dev/axb/x", "dev/a.b/x", "dev/a.b*[c]$(d)bob/x", "dev/c/x"):
        denied(c, topic)


# ---- wills --------------------------------------------------------------------------------------


@each(source=("acl", "rules"), v=(3, 4, 5))
@with_source()
def test_a_will_without_the_right_is_refused_at_connect(b, source, v):
    for topic in ("home/bob/x", "$SYS/broker", "$CONTROL/x", "shared/secret"):
        c = b.client(v)
        c.connect(b.unique("will"), reason=0x87 if v == V5 else 5, username="alice", password="a",
                  will=Will(topic, "x", 1))
    admin = login(b, "admin")
    admin.subscribe("home/#")
    login(b, "alice", v, will=Will("home/alice/gone", "x")).close()
    admin.expect_message(topic="home/alice/gone")
    # $SYS is the broker's own, whatever the rules say.
    c = b.client(V5)
    c.connect("sys", reason=0x87, username="admin", password="x", will=Will("$SYS/x", "x"))


@broker(users=USERS, rules=RULES, own=True)
def test_a_will_is_asked_about_again_when_it_fires(b):
    admin = login(b, "admin")
    admin.subscribe("home/#", qos=1)
    plain = login(b, "alice", will=Will("home/alice/plain", "x"))
    delayed = login(b, "alice", props=DURABLE, will=Will("home/alice/delayed", "x", props=[(WILL_DELAY, SOON)]))
    bobs = login(b, "bob", props=DURABLE, will=Will("home/bob/delayed", "x", props=[(WILL_DELAY, SOON)]))
    delayed.close()
    bobs.close()
    b.write("rules", RULES.replace("allow all home/alice/#", "deny all home/alice/#"))
    b.reload()
    plain.close()
    admin.expect_message(topic="home/bob/delayed")
    b.wait_metric("wills_refused_total", 2)
    b.wait_log('will_refused: .*user "alice".*home/alice/delayed.*/rules:4')
    admin.expect_nothing()


@broker(users=USERS, rules=RULES, own=True)
def test_the_will_of_a_user_who_was_deleted_is_not_published(b):
    admin = login(b, "admin")
    admin.subscribe("home/#", qos=1)
    login(b, "alice", props=DURABLE, will=Will("home/alice/x", "x", props=[(WILL_DELAY, SOON)])).close()
    b.wait_metric("sessions_online", 1)
    b.ctl("passwd", "delete", b.path("passwd"), "alice")
    b.reload()
    b.wait_metric("wills_refused_total", 1)
    admin.expect_nothing()


# ---- rights that are taken away -----------------------------------------------------------------

LESS = RULES.replace("allow all shared/#", "").replace("allow subscribe shared/#", "")


@each(source=("acl", "rules"))
@with_source(own=True)
def test_after_a_reload_a_standing_subscription_gets_nothing_more_without_its_right(b, source):
    alice = login(b, "alice", client_id="standing", props=DURABLE)
    alice.subscribe("shared/#", qos=1)
    group = login(b, "alice")
    group.subscribe("$share/g/shared/#", qos=1)
    admin = login(b, "admin")
    admin.publish("shared/1", "before", qos=1)
    alice.expect_message(topic="shared/1")
    group.expect_message(topic="shared/1")
    if source == "acl":
        b.write("acl", ACL.replace("topic read shared/#\n", ""))
    else:
        b.write("rules", LESS)
    b.reload()
    admin.publish("shared/2", "after", qos=1)
    admin.publish("home/alice/x", "still", qos=1)
    alice.expect_nothing()
    group.expect_nothing()
    alice.subscribe("home/alice/#")
    admin.publish("home/alice/x", "still", qos=1)
    alice.expect_message(topic="home/alice/x")


@broker(users=USERS, rules=RULES, own=True)
def test_after_a_reload_a_right_to_publish_is_gone_or_there_at_once(b):
    alice = login(b, "alice")
    allowed(alice, "home/alice/x")  # and is remembered
    allowed(alice, "home/alice/x")
    denied(alice, "home/bob/x")
    b.write("rules", RULES.replace("allow all home/alice/#", "allow all home/bob/#"))
    b.reload()
    denied(alice, "home/alice/x")
    allowed(alice, "home/bob/x")


@broker(users=USERS, rules=RULES, own=True)
def test_retained_messages_of_an_author_who_lost_the_right_are_not_served(b):
    bob, admin = login(b, "bob"), login(b, "admin")
    bob.publish("shared/bobs", "x", qos=1, retain=True)
    admin.publish("shared/admins", "x", qos=1, retain=True)
    alice = login(b, "alice")
    alice.subscribe("shared/#")
    assert {alice.expect_message().topic for _ in range(2)} == {"shared/bobs", "shared/admins"}
    b.write("rules", RULES.replace("allow all shared/#", "allow subscribe shared/#"))
    b.reload()
    for _ in range(2):
        again = login(b, "alice")
        again.subscribe("shared/#")
        again.expect_message(topic="shared/admins")
        again.expect_nothing()
    b.write("rules", RULES)
    b.reload()
    again = login(b, "alice")
    again.subscribe("shared/#")
    assert {again.expect_message().topic for _ in range(2)} == {"shared/bobs", "shared/admins"}


@broker(users=USERS, rules=RULES, own=True)
def test_queued_and_unacknowledged_messages_are_asked_about_again_at_resume(b):
    alice = login(b, "alice", client_id="resumes", clean=False, props=DURABLE)
    alice.subscribe(["shared/#", "home/alice/#"], qos=2)
    admin = login(b, "admin")
    admin.publish("shared/1", "sent, QoS 1", qos=1)
    admin.publish("shared/2", "sent, QoS 2", qos=2)
    admin.publish("home/alice/1", "sent, still readable", qos=1)
    for _ in range(3):
        alice.expect(PUBLISH)
    alice.close()
    b.wait_metric("sessions_online", 1)
    admin.publish("shared/3", "queued", qos=1)
    admin.publish("home/alice/2", "queued, still readable", qos=2)
    b.write("rules", LESS)
    b.reload()
    alice = login(b, "alice", client_id="resumes", clean=False, props=DURABLE, session_present=True)
    alice.expect_message(topic="home/alice/1", dup=True)
    alice.expect_message(topic="home/alice/2")
    alice.expect_nothing()
    b.wait_metric("queued_messages", 0)
    b.wait_metric("inflight_messages", 0)


@broker(users=USERS, rules=RULES, own=True)
def test_a_user_who_was_deleted_is_disconnected_at_reload(b):
    alice, old, bob = login(b, "alice"), login(b, "alice", V311), login(b, "bob")
    b.ctl("passwd", "delete", b.path("passwd"), "alice")
    alice.ping()  # until the reload
    b.reload()
    alice.expect_close(0x87)
    old.expect_close()
    bob.ping()
    b.wait_log('login_revoked: .*user "alice"')
    b.client(V5).connect("again", reason=0x87, username="alice", password="a")


# ---- hooks that rewrite -------------------------------------------------------------------------


@broker(users=USERS, rules=RULES, plugins={"rewrite": {"publish_prefix": "home/bob/", "only": "shared/*"}})
def test_a_topic_that_a_hook_rewrote_is_asked_about_again(b):
    admin = login(b, "admin")
    admin.subscribe("home/#", qos=1)
    alice = login(b, "alice")
    denied(alice, "shared/alice")  # allowed as sent, not as rewritten
    login(b, "bob").publish("shared/x", "x", qos=1)
    admin.expect_message(topic="home/bob/shared/x")
    admin.expect_nothing()


@broker(users=USERS, rules=RULES, plugins={"rewrite": {"publish_prefix": "home/bob/", "only": "home/alice/*"}})
def test_a_will_that_a_hook_rewrote_is_asked_about_again(b):
    admin = login(b, "admin")
    admin.subscribe("home/#", qos=1)
    before = b.metric("wills_refused_total")
    login(b, "alice", will=Will("home/alice/gone", "x")).close()
    b.wait_metric("wills_refused_total", before + 1)
    admin.expect_nothing()


@broker(users=USERS, rules=RULES, plugins={"rewrite": {"publish_prefix": "$SYS/", "only": "home/*"}})
def test_no_hook_rewrites_into_sys(b):
    denied(login(b, "admin"), "home/x")


@broker(users=USERS, rules=RULES, plugins={"rewrite": {"subscribe_prefix": "home/", "only": "*"}})
def test_a_filter_that_a_hook_rewrote_is_asked_about_again(b):
    alice = login(b, "alice")
    alice.subscribe(["alice/#", "bob/#", "#", "shared/#"], codes=[0, 0x87, 0x87, 0x87])
    admin = login(b, "admin")
    for topic in ("home/bob/x", "shared/x", "home/alice/x"):
        admin.publish(topic, "x", qos=1)
    alice.expect_message(topic="home/alice/x")
    alice.expect_nothing()


@broker(users=USERS, rules=RULES, plugins={"rewrite": {"deliver_prefix": "home/bob/", "only": "home/alice/*"}})
def test_a_delivery_that_a_hook_rewrote_is_asked_about_again(b):
    alice = login(b, "alice")
    alice.subscribe("home/alice/#", qos=1)  # granted as a whole: READ need not be asked before the hook
    admin = login(b, "admin")
    admin.subscribe("home/alice/#", qos=1)
    admin.publish("home/alice/x", "x", qos=1)
    admin.expect_message(topic="home/bob/home/alice/x")
    alice.expect_nothing()
    b.wait_metric("messages_dropped_denied_total", lambda n: n > 0)


@broker(users=USERS, rules=RULES, plugins={"verdict": {
    "order": 10, "acl_check": "allow", "flags": ["covered"], "only_topic": "home/*", "only_action": "subscribe"}})
def test_covered_by_one_plugin_is_not_covered_by_all(b):
    # verdict grants the SUBSCRIBE with "covered"; READ is auth-file's all the same.
    alice = login(b, "alice")
    alice.subscribe("home/#", qos=1)
    admin = login(b, "admin")
    admin.publish("home/bob/x", "x", qos=1)
    admin.publish("home/alice/x", "x", qos=1)
    alice.expect_message(topic="home/alice/x")
    alice.expect_nothing()


# ---- listeners ----------------------------------------------------------------------------------

LISTENERS = {"mqtt": {"anonymous": False}, "open": {"anonymous": True}, "unix": {"bind": "unix:{dir}/mqtt.sock"}}


@broker(users=USERS, rules=RULES, listeners=LISTENERS)
def test_the_acl_counts_on_every_listener(b):
    for listener in LISTENERS:
        c = login(b, "alice", listener=listener)
        denied(c, "home/bob/x")
        allowed(c, "home/alice/x")
        c.subscribe("#", codes=[0x87])


@versions()
@broker(users=USERS, rules=RULES, listeners=LISTENERS)
def test_anonymous_never_catches_a_connect_that_brought_credentials(b, v):
    code = 0x87 if v == V5 else 5
    bad = [{"username": "alice", "password": "wrong"}, {"username": "alice"}, {"username": "nobody", "password": "x"},
           {"username": "nobody"}, {"username": ""}, {"username": "", "password": ""}]
    if v == V5:
        bad.append({"password": "a"})
    for options in bad:
        for listener in LISTENERS:
            b.client(v, listener=listener).connect(b.unique("c"), reason=code, **options)
    b.client(v, listener="mqtt").connect("none", reason=code)
    b.client(v, listener="unix").connect("none", reason=code)
    b.connect(v, listener="open").ping()
    if v == V5:
        c = b.client(v, listener="open")
        c.connect("method", reason=0x8C, props=[(AUTH_METHOD, "SCRAM-SHA-256")])


@broker(users=USERS, rules=RULES, listeners=LISTENERS)
def test_an_anonymous_client_has_the_rights_of_nobody_where_there_is_an_acl(b):
    c = b.connect(V5, listener="open")
    allowed(c, "public/x")
    for topic in ("home/alice/x", "x", "own//x", "own/x"):
        denied(c, topic)
    c.subscribe(["public/#", "#", "own/#"], codes=[0, 0x87, 0x87])


@broker(listeners={"mqtt": {"anonymous": True}})
def test_without_any_acl_everything_but_dollar_topics_is_open(b):
    c = b.connect(V5)
    c.subscribe(["#", "$SYS/#", "$foo", "$share/g/x", "$share/g/$SYS/#"], codes=[0, 0x87, 0x87, 0, 0x87])
    denied(c, "$foo")
    assert b.log_lines("warning .*anonymous = yes and no plugin decides about rights")


@each(text=("", "\n\n", "# only a comment\n", "user alice\n"), source=("acl", "rules"))
@broker(users=USERS, acl=lambda text, source: text if source == "acl" else None,
        rules=lambda text, source: text if source == "rules" else None)
def test_an_empty_acl_file_denies(b, text, source):
    c = login(b, "alice")
    denied(c, "x")
    denied(c, "home/alice/x")
    c.subscribe("x", codes=[0x87 if source == "rules" else 0])
    login(b, "bob").publish("x", "x", qos=1)
    c.expect_nothing()


# ---- mountpoints --------------------------------------------------------------------------------

TENANTS = {"mqtt": {"anonymous": True}, "one": {"anonymous": True, "mountpoint": "one/"},
           "two": {"anonymous": True, "mountpoint": "two/"}}


@versions()
@broker(listeners=TENANTS)
def test_mountpoints_are_worlds_of_their_own(b, v):
    topic = b.unique("t")
    one, other = b.connect(v, listener="one"), b.connect(v, listener="one")
    two, top = b.connect(v, listener="two"), b.connect(v)
    for c in (one, two):
        c.subscribe(["#", "+/x", "/#"], qos=1)
        while c.poll(BRIEF) is not None:  # retained messages of others
            pass
    two.subscribe(["one/#", "../one/#"], qos=1)
    top.subscribe("+/" + topic, qos=1)
    other.publish(topic, "x", qos=1)
    one.expect_message(topic=topic)
    top.expect_message(topic="one/" + topic)
    two.expect_nothing()
    # Wills and retained messages stay inside, too.
    b.connect(v, listener="one", will=Will(topic, "will", 1, True)).close()
    one.expect_message(topic=topic, payload="will")
    top.expect_message(topic="one/" + topic)
    two.expect_nothing()
    late, late2 = b.connect(v, listener="one"), b.connect(v, listener="two")
    late.subscribe(topic)
    late.expect_message(topic=topic, payload="will", retain=True)
    late2.subscribe([topic, "one/" + topic])
    late2.expect_nothing()
    one.publish(topic, "", retain=True)
    one.expect_message(payload="")


@broker(listeners=TENANTS)
def test_shared_groups_of_two_mountpoints_are_two(b):
    members = [b.connect(V5, listener=n) for n in ("one", "two")]
    for c in members:
        c.subscribe("$share/g/job", qos=1)
    for n, c in zip(("one", "two"), members):
        pub = b.connect(V5, listener=n)
        for i in range(10):
            pub.publish("job", "%s-%d" % (n, i), qos=1)
        for i in range(10):
            c.expect_message(topic="job", payload="%s-%d" % (n, i))
    for c in members:
        c.expect_nothing()


@broker(listeners=TENANTS)
def test_dollar_topics_behind_a_mountpoint_are_dollar_topics(b):
    one = b.connect(V5, listener="one")
    one.subscribe(["#", "+/x"], retain_handling=2)
    for topic in ("$foo", "$SYS/x", "$x"):
        denied(one, topic)
    one.subscribe("$SYS/#", codes=[0x87])
    top = b.connect(V5)
    top.publish("one/$foo", "x", qos=1)  # a topic like others, from there
    top.publish("one/$x/x", "x", qos=1)
    one.expect_nothing()


@broker(listeners=TENANTS)
def test_the_same_client_id_in_two_mountpoints_is_two_clients(b):
    one, two = b.connect(V5, client_id="same", listener="one"), b.connect(V5, client_id="same", listener="two")
    one.ping()
    two.ping()
    b.connect(V5, client_id="same", listener="two")
    two.expect_close(0x8E)
    one.ping()
    b.ctl("clients", "kick", "--mountpoint", "one/", "same")
    one.expect_close(0x98)


@broker(users=USERS, rules=RULES, listeners={"mqtt": {"mountpoint": "m/"}, "top": {}})
def test_rules_see_topics_without_the_mountpoint(b):
    alice = login(b, "alice")
    allowed(alice, "home/alice/x")
    denied(alice, "m/home/alice/x")
    alice.subscribe(["home/alice/#", "m/#", "home/#"], codes=[0, 0x87, 0x87])
    b.client(V5).connect("w", reason=0x87, username="alice", password="a", will=Will("m/home/alice/x", "x"))
    watch = login(b, "admin", listener="top")
    watch.subscribe("m/#", qos=1)
    login(b, "alice", will=Will("home/alice/gone", "x")).close()
    watch.expect_message(topic="m/home/alice/gone")
    alice.expect_message(topic="home/alice/gone")
    # A deny that overlaps is asked at delivery, without the mountpoint as well.
    alice.subscribe("shared/#", qos=1)
    bob = login(b, "bob")
    bob.publish("shared/secret", "x", qos=1)
    bob.publish("shared/x", "x", qos=1)
    alice.expect_message(topic="shared/x")


# ---- owners -------------------------------------------------------------------------------------


@versions()
@broker(users=USERS, listeners={"mqtt": {}, "any": {"takeover": "any"}, "open": {"anonymous": True}})
def test_a_session_belongs_to_the_user_who_made_it(b, v):
    code = 0x85 if v == V5 else 2
    name = b.unique("owned")
    options = {"client_id": name, "clean": False}
    if v == V5:
        options["props"] = DURABLE
    alice = login(b, "alice", v, **options)
    alice.subscribe("x", qos=1)
    b.client(v).connect(name, reason=code, username="bob", password="b", clean=False)
    b.client(v).connect(name, reason=code, username="bob", password="b")  # clean start takes nothing away either
    b.client(v, listener="open").connect(name, reason=code)
    alice.ping()
    alice.close()
    b.client(v).connect(name, reason=code, username="bob", password="b", clean=False)
    alice = login(b, "alice", v, session_present=True, **options)
    login(b, "bob", v, listener="any", client_id=name)
    alice.expect_close(0x8E if v == V5 else None)


@broker(users=USERS)
def test_a_session_that_has_expired_belongs_to_nobody(b):
    for user in ("alice", "bob", "alice"):
        login(b, user, client_id="free", clean=False, session_present=False).disconnect()


# ---- what is logged -----------------------------------------------------------------------------


@broker(users=USERS, rules=RULES)
def test_a_denial_is_logged_with_user_topic_and_rule(b):
    mark = b.mark()
    c = login(b, "alice", client_id=b.unique("logged"), source="127.0.2.1")
    denied(c, "shared/secret")
    line = b.wait_log("acl_denied: ", since=mark)
    for part in ('user "alice"', c.client_id, 'publish to "shared/secret"', "/rules:3"):
        assert part in line, (part, line)
    mark = b.mark()
    c.subscribe("home/bob/#", codes=[0x87])
    line = b.wait_log("acl_denied: ", since=mark)
    for part in ('user "alice"', 'subscribe to "home/bob/#"', "default"):
        assert part in line, (part, line)
    mark = b.mark()
    b.client(V5, source="127.0.2.2").connect("wills", reason=0x87, username="alice", password="a",
                                             will=Will("home/bob/x", "x"))
    line = b.wait_log("acl_denied: ", since=mark)
    for part in ('client "wills" user "alice"', 'Will Message to "home/bob/x"', "default"):
        assert part in line, (part, line)


@broker(users=USERS, acl=ACL)
def test_denials_are_counted_and_their_lines_bounded(b):
    before, mark = b.metric("acl_denied_total"), b.mark()
    c = login(b, "alice", source="127.0.2.3")
    for _ in range(300):
        denied(c, "home/bob/x")
    assert b.metric("acl_denied_total") == before + 300
    assert 1 <= len(b.log_lines("acl_denied: ", since=mark)) < 200


# ---- finer answers ------------------------------------------------------------------------------


@broker(listeners={"mqtt": {"anonymous": True}}, plugins={
    "verdict": {"acl_check": "deny", "only_action": "will", "reason_code": 0x97}, "open": {
        "module": "verdict", "order": 200, "acl_check": "allow"}})
def test_the_action_will_is_told_apart_from_publish(b):
    c = b.connect(V5)
    allowed(c, "t")
    c = b.client(V5)
    c.send_connect("w", will=Will("t", "x"))
    assert c.recv().reason >= 0x80


@each(kind=("publish", "subscribe", "connect"))
@broker(listeners={"mqtt": {"anonymous": True}}, plugins=lambda kind: {
    "verdict": {"client_authenticate" if kind == "connect" else "acl_check": "unavailable"}})
def test_a_backend_that_is_down_never_reads_as_a_denial(b, kind):
    if kind == "connect":
        b.client(V5).connect("x", reason=0x88)
        b.client(V311).connect("x", reason=3)
        return
    c, old = b.connect(V5), b.connect(V311)
    if kind == "subscribe":
        c.subscribe("t", codes=[0x80])
        old.subscribe("t", codes=[0x80])
        return
    assert c.publish("t", "x", qos=1) == 0x83
    old.send_publish("t", "x", qos=1)
    old.expect_close()  # no acknowledgement, so that the client keeps its message
