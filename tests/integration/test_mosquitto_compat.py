# SPDX-License-Identifier: Apache-2.0
"""mosquitto-compat: plugins that were made for Mosquitto, one of them Mosquitto's own; tests/mosquitto has the others."""
import glob
import os
import re
import shutil
import signal
import subprocess
import threading
import time

from lib.broker import PLUGINS, TIMEOUT, Broker, run_grapneld
from lib.case import Skip, broker, default_broker, each, versions
from lib.mqtt import AUTH, CONNACK, PUBACK, V5, V311, P
from lib.s_client import SClient, psk

PLAIN = os.path.join(PLUGINS, "mosq-plain.so")
CONTROL = "$CONTROL/plain/v1"
CONTINUE, REAUTH = 0x18, 0x19
PSK_KEY = "00112233445566778899aabbccddeeff"
# As in test_psk.py: OpenSSL switches stacks.
ASAN = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=1") + ":detect_stack_use_after_return=0"}


def section(name="plain", opts=None, **options):
    """A plugin section for tests/mosquitto's plugin of that name."""
    out = {"module": "mosquitto-compat", "path": os.path.join(PLUGINS, "mosq-%s.so" % name)}
    for key, value in dict({"hang": "{dir}/hang"} if name == "plain" else {}, **(opts or {})).items():
        out['option "%s"' % key] = {"value": value}
    out.update(options)
    return out


def plain(**options):
    return {"mosq": section(**options)}


BROKER = default_broker(plugins=plain(), listeners={"mqtt": {}}, workers=3)


def said(b, text, since=0):
    return b.wait_log(r'plugin "mosq": ' + text, since=since)


def times_said(b, text, since=0):
    """How often, up to now: what the log has is read by a thread of its own, so one more line is waited for."""
    name = b.unique("last")
    c = b.client(V5)
    c.send_connect(name, username="wrong", password=b"wrong")
    c.wait_closed()
    b.wait_log('client "%s"' % name)
    return len(b.log_lines(r'plugin "mosq": (%s)' % text, since))


def never_said(b, text, since=0):
    assert times_said(b, text, since) == 0, b.log_lines(r'plugin "mosq": (%s)' % text, since)


def metric(b, name):
    return b.metric('plugin_%s{plugin="mosq"}' % name)


def wait_metric(b, name, wanted):
    b.wait_metric('plugin_%s{plugin="mosq"}' % name, wanted)


def login(b, version=V5, username="somebody", password=b"secret", **options):
    return b.connect(version, username=username, password=password, **options)


def passes(c, topic, payload="", **options):
    """PUBACK 0, or 0x10: nobody is subscribed."""
    assert c.publish(topic, payload, qos=1, **options) in (0, 0x10), topic


def command(c, text, reason=0):
    got = c.publish(CONTROL, text, qos=1)
    assert got == reason, (text, got)


# ---- logins --------------------------------------------------------------------------------------

@versions()
def test_a_login_is_asked_about_with_all_that_there_is(b, v):
    name, mark = b.unique("me"), b.mark()
    login(b, v, client_id=name, username="alice", keep_alive=17).ping()
    line = said(b, "basic_auth id=%s " % name, mark)
    assert line.endswith("user=alice client_user=alice password=given address=127.0.0.1 keepalive=17 version=%d clean=1 "
                         "protocol=0" % v), line


@versions()
@each(case=(("wrong", b"wrong", 0x87, 5), ("defer", b"secret", 0x87, 5), ("broken", b"secret", 0x88, 3),
            ("certificate", b"secret", 0, 0)))
def test_what_it_says_of_a_login(b, v, case):
    username, password, reason5, reason3 = case
    c = b.client(v)
    c.connect(b.unique("c"), reason=reason5 if v == 5 else reason3, username=username, password=password)


@broker(own=True, plugins=plain(listeners=["mqtt"]), listeners={"mqtt": {}, "other": {"anonymous": True}})
def test_it_may_be_for_some_listeners(b):
    login(b).ping()
    mark = b.mark()
    b.client(V5, listener="other").connect("elsewhere", reason=0x87, username="somebody", password=b"secret")
    c = b.connect(V5, client_id="nobody", listener="other")
    assert c.publish("open/x", qos=1) == 0x87  # nobody has said yes
    c.disconnect()
    never_said(b, ".* id=(elsewhere|nobody) ", mark)


def test_a_password_with_a_nul_is_not_cut(b):
    name, mark = b.unique("nul"), b.mark()
    b.client(V5).connect(name, reason=0x87, username="alice", password=b"secret\0more")
    never_said(b, "basic_auth id=%s " % name, mark)


def test_a_name_that_it_gives_counts(b):
    mark = b.mark()
    c = login(b, username="renamed")
    assert b.ctl_json("clients", "show", c.client_id)["username"] == "somebody-else"
    c.publish("who/am/i", "x", qos=1)
    said(b, "acl_check access=2 topic=who/am/i .* id=%s user=somebody-else" % c.client_id, mark)
    command(c, "rename")
    said(b, r"renamed rc=10 subscriptions=0", mark)
    for what in ("mosquitto_set_username outside of a login", "mosquitto_client_sub_count"):
        b.wait_log("the Mosquitto plugin calls %s, which has no counterpart" % what)


@broker(own=True, plugins={"mosq": section(order=10), "other": {"module": "verdict", "order": 20, "client_authenticate": "allow", "username": "alice"}})
def test_a_name_that_another_plugin_gives_counts_from_the_first_packet_on(b):
    for version in (V5, V311):
        c, mark = b.client(version), b.mark()
        c.send_connect(b.unique("c"), username="defer-admin", password=b"x")
        c.send_publish("who/am/i", "x", qos=1, packet_id=3)
        c.expect(CONNACK)
        c.expect(PUBACK)
        said(b, "acl_check access=2 topic=who/am/i .* user=alice", mark)
        c.disconnect()
        said(b, "disconnect id=%s user=alice" % c.client_id, mark)


def test_a_name_is_given_on_its_thread_only(b):
    mark, c = b.mark(), login(b, username="threaded")
    said(b, "named on a thread of its own, rc=10", mark)
    assert b.ctl_json("clients", "show", c.client_id)["username"] == "threaded"


@broker(own=True, plugins=plain(max_pending=1))
def test_an_answer_that_the_broker_does_not_take_is_no_answer(b):
    c = login(b)
    for _ in range(2):
        assert c.publish("change/junk", "x", qos=1) == 0x83
        b.client(V5).connect(b.unique("c"), reason=0x88, username="junk", password=b"secret")
    passes(c, "open/x")  # and the plugin has nothing under way any more
    assert not b.log_lines("was not answered within")
    assert metric(b, "failed_total") == 4


def ext_auth(b, method="two-steps", answer=b"second", between=None, **options):
    c = b.client(V5)
    c.send_connect(b.unique("ext"), props=[(P.AUTH_METHOD, method), (P.AUTH_DATA, b"first")], **options)
    if method not in ("two-steps", "name-first"):
        return c
    p = c.expect(AUTH, reason=CONTINUE)
    assert p.prop(P.AUTH_DATA) == b"and then?", p
    if between is not None:
        between(c)
    c.send_raw(P.auth(CONTINUE, [(P.AUTH_METHOD, method), (P.AUTH_DATA, answer)]))
    return c


def test_enhanced_authentication(b):
    mark = b.mark()
    c = ext_auth(b)
    p = c.expect(CONNACK, reason=0)
    assert p.prop(P.AUTH_DATA) == b"welcome", p
    assert b.ctl_json("clients", "show", c.client_id)["username"] == "proved"
    said(b, "ext_auth start method=two-steps data=first known=0", mark)
    said(b, "ext_auth continue method=two-steps data=second known=1", mark)


def test_a_name_given_before_the_last_step_counts(b):
    c = ext_auth(b, method="name-first", username="admin")
    c.expect(CONNACK, reason=0)
    assert b.ctl_json("clients", "show", c.client_id)["username"] == "proved"
    for answer, reason in ((b"second", 0), (b"wrong", 0x87)):  # also in a login anew
        c.send_raw(P.auth(REAUTH, [(P.AUTH_METHOD, "name-first"), (P.AUTH_DATA, b"again")]))
        c.expect(AUTH, reason=CONTINUE)
        c.send_raw(P.auth(CONTINUE, [(P.AUTH_METHOD, "name-first"), (P.AUTH_DATA, answer)]))
        if reason == 0:
            c.expect(AUTH, reason=0)
    c.expect_close(0x87)


def test_rights_can_be_proved_anew(b):
    c = ext_auth(b)
    c.expect(CONNACK, reason=0)
    for answer, reason in ((b"second", 0), (b"wrong", 0x87)):
        c.send_raw(P.auth(REAUTH, [(P.AUTH_METHOD, "two-steps"), (P.AUTH_DATA, b"again")]))
        assert c.expect(AUTH, reason=CONTINUE).prop(P.AUTH_DATA) == b"and then?"
        c.send_raw(P.auth(CONTINUE, [(P.AUTH_METHOD, "two-steps"), (P.AUTH_DATA, answer)]))
        if reason == 0:
            assert c.expect(AUTH, reason=0).prop(P.AUTH_DATA) == b"welcome"
    c.expect_close(0x87)


def test_enhanced_authentication_that_fails(b):
    ext_auth(b, answer=b"wrong").expect(CONNACK, reason=0x87)
    ext_auth(b, method="unheard-of").expect(CONNACK, reason=0x8C)


@broker(own=True, plugins=plain(), env=ASAN, listeners={"mqtt": {}, "psk": {"tls": True, "psk": True}})
def test_keys_of_tls(b):
    def client(identity, key):
        c = SClient(b.address("psk"), psk(identity, key), "-tls1_2")
        b.clients.append(c)
        return c
    c = client("psk-one", PSK_KEY)
    c.connect("k1", username="psk-one", password=b"secret")
    said(b, "psk_key identity=psk-one hint= address=127.0.0.1")
    client("other", PSK_KEY).failed()
    client("short", "0011").failed()
    b.wait_log("gave a TLS key that is not 16 to 64 bytes")


# ---- rights --------------------------------------------------------------------------------------

def test_rights(b):
    c, mark = login(b, client_id=b.unique("rights")), b.mark()
    passes(c, "open/x", "text", retain=True)
    said(b, "acl_check access=2 topic=open/x payload=text qos=1 retain=1 id=%s user=somebody" % c.client_id, mark)
    assert c.publish("deny/x", qos=1) == 0x87
    assert c.publish("broken/x", qos=1) == 0x83
    assert c.publish("defer/x", qos=1) == 0x87
    c.subscribe(["open/+", "deny/+", "broken/+", "defer/+"], codes=[0, 0x87, 0x80, 0x87])
    said(b, r"acl_check access=4 topic=open/\+ ", mark)
    c.expect_message("open/x", "text")
    said(b, "acl_check access=1 topic=open/x payload=text ", mark)
    c.publish("open/x", retain=True, qos=1)
    b.wait_log(r"the Mosquitto plugin returned \d+ \(.*\) to MOSQ_EVT_")  # not each time


def test_what_may_be_subscribed_may_not_be_read(b):
    c = login(b)
    c.subscribe(["unread/+", "read/+"])
    c.publish("unread/x", "1", qos=1)
    c.publish("read/x", "2", qos=1)
    c.expect_message("read/x", "2")


def test_unsubscribe_is_asked_about(b):
    c = login(b)
    c.subscribe(["stay/x", "go/x", "$share/g/stay/y"])
    c.unsubscribe(["stay/x", "go/x", "stay/y"], codes=[0x87, 0, 0x87])
    c.publish("stay/x", "still", qos=1)
    c.expect_message("stay/x", "still")


def test_rights_that_hang_on_properties(b):
    c = login(b)
    passes(c, "typed/x", props=[(P.CONTENT_TYPE, "text/plain")])
    assert c.publish("typed/x", qos=1, props=[(P.CONTENT_TYPE, "text/html")]) == 0x87
    assert c.publish("typed/x", qos=1) == 0x87


def test_a_will_is_written(b):
    mark, name = b.mark(), b.unique("will")
    b.client(V5).connect(b.unique("c"), reason=0x87, username="u", password=b"secret", will=P.Will("deny/will", b"x"))
    watcher = login(b)
    watcher.subscribe("will/" + name)
    c = login(b, client_id=name, will=P.Will("will/" + name, b"gone"))
    said(b, "acl_check access=2 topic=will/%s payload=gone " % name, mark)
    c.reset()
    watcher.expect_message("will/" + name, "gone")


@broker(own=True, plugins=plain(opts={"only": "basic_auth"}))
def test_without_a_callback_for_rights_it_takes_none(b):
    c = login(b)
    c.subscribe("deny/#")
    passes(c, "deny/x")
    c.expect_message("deny/x")
    c.unsubscribe("deny/#")


@broker(own=True, plugins=plain(acl_depends=["username"], login_depends=["username", "password"], cache_ttl="1h"))
def test_answers_are_kept_where_the_operator_says_so(b):
    c = login(b, username="one")
    for _ in range(3):
        passes(c, "kept/x")
        assert c.publish("deny/x", qos=1) == 0x87
    login(b, username="one").close()
    assert times_said(b, "acl_check access=2 topic=kept/x ") == 1
    assert times_said(b, "acl_check access=2 topic=deny/x ") == 1
    assert times_said(b, "basic_auth .*client_user=one ") == 1
    mark = b.mark()
    command(c, "functions")  # a command may have changed anything: what was kept is forgotten
    said(b, "functions: callbacks are well", mark)
    passes(c, "kept/x")
    said(b, "acl_check access=2 topic=kept/x ", mark)


# ---- messages ------------------------------------------------------------------------------------

def test_messages_are_changed(b):
    c = login(b, props=[(P.REQUEST_PROBLEM_INFO, 1)])
    c.subscribe("change/#", rap=True)
    props = [(P.CONTENT_TYPE, "text/plain"), (P.USER_PROPERTY, ("a", "b")), (P.CORRELATION_DATA, b"\0\1")]

    def through(topic, payload="banana", retain=False):
        assert c.publish(topic, payload, qos=1, retain=retain, props=props) == 0
        return c.expect_message()
    p = through("change/nothing")
    assert (p.topic, p.payload, sorted(p.props)) == ("change/nothing", b"banana", sorted(props)), p
    assert through("change/topic").topic == "change/other"
    assert through("change/in-place").payload == b"bAnAnA"
    assert through("change/payload").payload == b"another payload"
    assert through("change/payload", payload="").payload == b"another payload"
    assert through("change/nothing-left").payload == b""
    assert not through("change/retain", retain=True).retain
    assert sorted(through("change/add").props) == sorted(props + [(P.USER_PROPERTY, ("added", "here"))])
    assert through("change/replace").props == [(P.CONTENT_TYPE, "replaced")]
    assert sorted(through("change/free").props) == sorted(props + [(P.PAYLOAD_FORMAT, 1)])


def test_messages_are_refused(b):
    c = login(b)
    c.send_publish("refuse/denied", "x", qos=1, packet_id=7)
    p = c.expect(PUBACK, packet_id=7, reason=0x87)
    assert p.prop(P.REASON_STRING) == "nobody needs this", p
    assert c.publish("refuse/quota", "x", qos=1) == 0x97
    assert c.publish("refuse/broken", "x", qos=2) == 0x83
    passes(c, "refuse/nothing", "x")


# ---- what it can do ------------------------------------------------------------------------------

def test_commands_go_no_further(b):
    c, other = login(b), login(b)
    other.subscribe("$CONTROL/#")
    command(c, "functions")
    c.send_publish(CONTROL, "fly", qos=1, packet_id=9)
    p = c.expect(PUBACK, packet_id=9, reason=0x83)
    assert p.prop(P.REASON_STRING) == "no such command", p
    command(c, "defer")  # nor when it is not answered
    other.expect_nothing()
    assert c.publish("$CONTROL/nobodys/v1", "x", qos=1) == 0  # not its matter
    other.expect_message("$CONTROL/nobodys/v1", "x")


def test_the_functions_that_it_imports(b):
    mark = b.mark()
    command(login(b), "functions")
    for what in ("topics are", "properties are", "the rest is", "callbacks are"):
        said(b, "functions: %s well" % what, mark)
    said(b, r"the Mosquitto plugin wants event 99 ", mark)


def test_a_thread_of_its_own_can_log_and_publish(b):
    c, mark = login(b), b.mark()
    c.subscribe("own/thread")
    command(c, "thread")
    c.expect_message("own/thread", "hi")
    said(b, "a thread of its own, rc=3", mark)


@broker(own=True, plugins={"second": section("old-4", order=200), "mosq": section(order=100)})
def test_two_of_them_are_told_apart(b):
    c, mark = login(b), b.mark()
    b.wait_log('plugin "second": old init')
    command(c, "thread")
    said(b, "a thread of its own, rc=3", mark)
    assert c.publish("defer/x", qos=1) in (0, 0x10)  # the second one has it
    b.wait_log('plugin "second": old acl_check access=2 topic=defer/x ', since=mark)


def test_it_publishes(b):
    c = login(b)
    c.subscribe("from/it", qos=1)
    command(c, "publish from/it hello")
    p = c.expect_message("from/it", "hello", qos=1)
    assert p.props == [(P.CONTENT_TYPE, "sent")], p
    there = login(b)
    there.subscribe("kept/by-it")
    command(c, "publish kept/by-it retained")
    there.expect_message("kept/by-it", "retained", retain=False)  # a worker has had it, which may be another than c's
    c.subscribe("kept/by-it", qos=1)
    c.expect_message("kept/by-it", "retained", retain=True)


def test_a_message_to_one_client_is_for_no_other(b):
    one, two = login(b), login(b)
    three = login(b, V311)
    for c in (one, two, three):
        c.subscribe("to/one", qos=1)
    command(one, "direct to/one psst")
    p = one.expect_message("to/one", "psst")
    assert p.props == [(P.CONTENT_TYPE, "sent")], p  # nor is to be seen how that is done
    command(three, "direct to/one pst")
    three.expect_message("to/one", "pst")
    for c in (one, two, three):
        c.expect_nothing()


@broker(own=True, plugins=plain(), listeners={"mqtt": {}, "mounted": {"mountpoint": "m/"}})
def test_messages_to_one_client_behind_a_mountpoint(b):
    c = login(b, listener="mounted")
    c.subscribe("answer", qos=1)
    command(c, "direct answer here")
    c.expect_message("answer", "here")
    mark = b.mark()
    command(login(b), "kick %s" % c.client_id)
    c.expect_close(0x98)
    said(b, "kicked rc=0", mark)


@broker(own=True, plugins=plain(), listeners={"one": {"mountpoint": "one/"}, "two": {"mountpoint": "two/"}, "mqtt": {}})
def test_a_message_to_one_client_is_for_the_one_that_asks(b):
    """Behind two mountpoints two clients have one Client Identifier."""
    both = [login(b, client_id="same", listener=x) for x in ("one", "two")]
    for c in both:
        c.subscribe("answer", qos=1)
    for i, c in enumerate(both):
        command(c, "direct answer to-%d" % i)
        c.expect_message("answer", "to-%d" % i)
    mark = b.mark()
    command(login(b), "send same answer x")
    said(b, "published rc=10", mark)
    b.wait_log("mosquitto_broker_publish for a Client Identifier that several mountpoints have, which has no counterpart")
    for c in both:
        c.expect_nothing()


@broker(own=True, plugins=plain(), top={"store": {"durability": "strict"}})
def test_a_message_to_one_client_is_for_no_other_after_a_restart(b):
    kept = [(P.SESSION_EXPIRY, 3600)]
    two, other = login(b, client_id="two", props=kept), login(b, client_id="other", props=kept)
    for c in (two, other):
        c.subscribe(["to/one", "to/all"], qos=1)
        c.disconnect()
    one = login(b, client_id="one", props=kept)
    one.subscribe("to/one", qos=1)
    command(one, "direct to/one psst")
    one.expect_message("to/one", "psst")
    passes(one, "to/all", "all")
    b.close_clients()
    b.stop()
    b.start()
    for name in ("two", "other"):
        c = login(b, client_id=name, clean=False, props=kept)
        c.expect_message("to/all", "all")
        c.expect_nothing()


@broker(own=True, plugins=plain(direct_messages=False))
def test_messages_to_one_client_can_be_switched_off(b):
    c = login(b)
    c.subscribe("to/one", qos=1)
    command(c, "direct to/one psst")
    said(b, "published rc=10")
    b.wait_log("calls mosquitto_broker_publish for one client, which has no counterpart here; direct_messages = no")
    c.expect_nothing()


def test_it_disconnects(b):
    admin, mark = login(b, username="admin"), b.mark()
    c = login(b)
    command(admin, "kick %s" % c.client_id)
    c.expect_close(0x98)
    command(admin, "kick nobody-at-all")
    some = [login(b, username="crowd"), login(b, username="crowd", version=V311)]
    command(admin, "kick-user crowd")
    some[0].expect_close(0x98)
    some[1].expect_close()
    admin.ping()
    assert times_said(b, "kicked rc=0", mark) == 2  # of those that are not there, the broker finds out later


def test_it_disconnects_who_is_about_to_be_let_in(b):
    admin = login(b, username="admin")
    for text in ("kick-user crowd", "kick {0.client_id}"):
        c = ext_auth(b, username="crowd", between=lambda c, text=text: command(admin, text.format(c)))
        c.expect(CONNACK, reason=0)
        c.expect_close(0x98)
    ext_auth(b, username="crowd").expect(CONNACK, reason=0)  # was not there
    admin.ping()


# ---- what it hears -------------------------------------------------------------------------------

def test_the_end_of_a_client_is_told_with_the_same_pointer(b):
    mark, names = b.mark(), [b.unique("end") for _ in range(4)]
    login(b, client_id=names[0]).disconnect()
    said(b, "disconnect id=%s user=somebody reason=0 known=1" % names[0], mark)
    login(b, client_id=names[1], username="renamed").reset()
    said(b, "disconnect id=%s user=somebody-else reason=0 known=1" % names[1], mark)
    b.client(V5).connect(names[2], reason=0x87, username="wrong", password=b"wrong")
    said(b, "disconnect id=%s user=wrong reason=11 known=1" % names[2], mark)
    b.client(V5).connect("", reason=0x87, username="nameless", password=b"wrong")  # the broker gives it one
    said(b, "disconnect id=auto[a-z0-9]+ user=nameless reason=11 known=1", mark)
    first = login(b, client_id=names[3])
    second = login(b, client_id=names[3])  # takes over: two logins, two clients, two ends
    first.expect_close(0x8E)
    said(b, "disconnect id=%s user=somebody reason=0 known=1" % names[3], mark)
    middle = b.mark()
    second.reset()
    said(b, "disconnect id=%s user=somebody reason=0 known=1" % names[3], middle)
    never_said(b, "called at once")


@broker(own=True, plugins=plain(opts={"only": "tick"}, tick_interval="10ms"))
def test_ticks_come(b):
    said(b, "tick 3 now=1")


@broker(own=True, plugins=plain(opts={"only": "tick", "slow_tick": "yes"}, tick_interval="10ms"))
def test_ticks_that_take_longer_than_their_interval_do_not_keep_it_from_ending(b):
    said(b, "tick 3 now=1")
    mark = b.mark()
    b.configure(plugins={}, listeners={"mqtt": {"anonymous": True}})
    b.reload()
    said(b, "cleanup ", mark)
    assert not b.log_lines("the Mosquitto plugin hangs")


def test_all_callbacks_hear_of_an_end(b):
    c, mark = login(b), b.mark()
    c.disconnect()
    said(b, "second to hear of the end of %s" % c.client_id, mark)


def test_several_workers_and_one_thread(b):
    mark, errors = b.mark(), []

    def work(i):
        try:
            c = b.connect(V5, "w%d" % i, username="w%d" % i, password=b"secret")
            c.subscribe("work/%d" % i, qos=1)
            for n in range(20):
                assert c.publish("work/%d" % i, str(n), qos=1) == 0
            for n in range(20):
                c.expect_message("work/%d" % i, str(n))
        except BaseException as e:  # pylint: disable=broad-except
            errors.append(e)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors
    never_said(b, "called at once", mark)
    assert metric(b, "queue") == 0 and metric(b, "loaded") == 1
    assert metric(b, "calls_total") >= 12 * 41


# ---- a plugin that hangs -------------------------------------------------------------------------

def hang(b, on=True):
    if on:
        b.write("hang", "")
    else:
        os.unlink(b.path("hang"))


@broker(own=True, plugins=plain(opts={"only": "basic_auth disconnect reload"}, timeout="1s", slow_after="200ms", queue=2))
def test_one_that_hangs_costs_only_those_who_ask_it(b):
    busy, seen = login(b), login(b)
    seen.subscribe("busy")
    hang(b)
    stuck = b.client(V5)
    stuck.send_connect("stuck", username="hang", password=b"secret")
    said(b, "hangs: hang")
    b.wait_log("the Mosquitto plugin has been in MOSQ_EVT_BASIC_AUTH for [0-9]+ ms; ")
    assert metric(b, "hangs") == 1
    late = [b.client(V5), b.client(V311)]
    for i, c in enumerate(late):
        c.send_connect("late-%d" % i, username="late", password=b"secret")
    wait_metric(b, "queue", 2)
    b.client(V5).connect("refused", reason=0x88, username="u", password=b"secret")  # the queue is full
    assert metric(b, "refused_total") == 1
    busy.publish("busy", "on", qos=1)  # everybody else goes on
    seen.expect_message("busy", "on")
    stuck.expect(CONNACK, reason=0x88)
    late[0].expect(CONNACK, reason=0x88)
    late[1].expect(CONNACK, reason=3)
    wait_metric(b, "queue", 0)
    hang(b, False)
    b.wait_log("the Mosquitto plugin answers again")
    login(b, username="after").ping()
    never_said(b, "basic_auth id=late")  # their turn never came
    assert metric(b, "hangs") == 0 and metric(b, "slow_total") == 1 and metric(b, "cancelled_total") == 3
    b.held_nobody()


@broker(own=True, plugins=plain(opts={"only": "basic_auth reload"}, timeout="1s"))
def test_reloads_while_it_hangs(b):
    c = login(b)
    hang(b)
    stuck = b.client(V5)
    stuck.send_connect("stuck", username="hang", password=b"secret")
    said(b, "hangs: hang")
    b.reload()
    b.reload()
    stuck.expect(CONNACK, reason=0x88)
    never_said(b, "reload options")
    hang(b, False)
    said(b, "reload options=2")
    login(b).ping()
    c.ping()


@broker(own=True, plugins=plain(opts={"only": "basic_auth"}, timeout="30s"))
def test_the_broker_ends_while_it_hangs(b):
    hang(b)
    b.client(V5).send_connect("stuck", username="hang", password=b"secret")
    said(b, "hangs: hang")
    b.stop()
    assert b.log_lines("the Mosquitto plugin hangs in MOSQ_EVT_BASIC_AUTH; its thread is left")


@broker(own=True, plugins={}, listeners={"mqtt": {"anonymous": True}})
def test_one_that_was_left_hanging_is_not_taken_again(b):
    """Another section keeps mosquitto-compat itself loaded meanwhile."""
    shutil.copy(PLAIN, b.path("copy.so"))
    other = {"other": section(path=b.path("copy.so"), opts={"only": "reload"})}
    b.configure(plugins=other)
    b.reload()
    hang(b)
    b.configure(plugins=dict(plain(opts={"greeting": "hang"}, start_timeout="200ms"), **other))
    b.reload(good=False)
    b.wait_log("has not returned from mosquitto_plugin_init within start_timeout")
    b.wait_log("its thread is left as it is")
    b.configure(plugins=dict(plain(opts={"greeting": "hello"}), **other))
    b.reload(good=False)
    b.wait_log("it was loaded before, and still hangs in a call; try again when that has ended")
    hang(b, False)
    deadline = time.monotonic() + TIMEOUT
    while True:
        mark = b.mark()
        b.signal(signal.SIGHUP)
        if " reloaded: " in b.wait_log(" (reloaded|reload_refused): ", since=mark):
            break
        assert time.monotonic() < deadline
    login(b).ping()
    b.client(V5).connect("none", reason=0x87, username="wrong", password=b"wrong")


# ---- reloads -------------------------------------------------------------------------------------

def test_a_reload_is_an_event(b):
    c, mark = login(b), b.mark()
    b.reload()
    said(b, r"reload options=1 greeting=\(none\)", mark)
    never_said(b, "init|cleanup", mark)
    passes(c, "open/x")
    c.disconnect()
    said(b, "disconnect id=%s user=somebody reason=0 known=1" % c.client_id, mark)


@broker(own=True, plugins=plain(opts={"greeting": "hello"}))
def test_changed_options_begin_anew_and_clients_stay(b):
    c = login(b)
    said(b, "init options=2 greeting=hello")
    for greeting in ("bonjour", "salve"):
        mark = b.mark()
        b.configure(plugins=plain(opts={"greeting": greeting}))
        b.reload()
        said(b, "init options=2 greeting=%s" % greeting, mark)
        assert times_said(b, "cleanup options=2 userdata=1", mark) == 1
        passes(c, "open/x")
        login(b).close()
    mark = b.mark()
    b.configure(plugins=plain(opts={"greeting": "no", "init": "13"}))
    b.reload()
    b.wait_log(r"it does not start: its initialisation returned 13 .*until a reload finds it well", since=mark)
    assert c.publish("open/x", qos=1) == 0x83
    b.client(V5).connect("none", reason=0x88, username="u", password=b"secret")
    assert metric(b, "loaded") == 0
    b.configure(plugins=plain(opts={"greeting": "again"}))
    b.reload()
    wait_metric(b, "loaded", 1)
    passes(c, "open/x")


@broker(own=True, plugins=plain())
def test_a_file_that_was_replaced_is_loaded(b):
    copy = b.path("copy.so")
    shutil.copy(PLAIN, copy)
    b.configure(plugins={"mosq": section(path=copy)})
    b.reload()  # another file: beside the old one, which then ends
    said(b, "cleanup ")
    c, mark = login(b), b.mark()
    shutil.copy(PLAIN, copy + ".new")
    os.rename(copy + ".new", copy)
    b.reload()
    b.wait_log("its options or its file have changed", since=mark)
    said(b, "init ", mark)
    passes(c, "open/x")
    b.configure(plugins={})
    b.options["listeners"] = {"mqtt": {"anonymous": True}}
    mark = b.mark()
    b.reload()
    said(b, "cleanup ", mark)


@broker(own=True, plugins={"mosq": section(opts={"only": "basic_auth control"}, order=10), "all": {"module": "verdict", "order": 20, "acl_check": "allow"}})
def test_a_callback_that_comes_late_is_asked_after_a_reload(b):
    c, mark = login(b), b.mark()
    passes(c, "deny/x")
    command(c, "register")
    said(b, "the Mosquitto plugin has registered a callback for MOSQ_EVT_ACL_CHECK after its start; reload", mark)
    b.reload()
    assert c.publish("deny/x", qos=1) == 0x87
    assert len(b.log_lines("has registered", mark)) == 1


@broker(own=True, plugins=plain())
def test_a_refused_reload_changes_nothing(b):
    c, mark = login(b), b.mark()
    b.configure(plugins={"mosq": section(path="/nowhere/x.so")})
    b.reload(good=False)
    b.wait_log("there is no such file, or the broker's user may not see it", since=mark)
    b.configure(plugins=dict(plain(), twice=section()))
    b.reload(good=False)
    b.wait_log('plugin "mosq" has loaded it already, and a Mosquitto plugin keeps its state in itself', since=mark)
    b.configure(plugins=dict(plain(), bad=section(opts={"init": "1"}, path=shutil.copy(PLAIN, b.path("bad.so")))))
    b.reload(good=False)
    never_said(b, "init|cleanup|reload", mark)
    passes(c, "open/x")


def test_a_new_mosquitto_compat_cannot_take_over():
    b = Broker(plugins={"mosq": section(module="{dir}/compat.so")}, listeners={"mqtt": {}})
    shutil.copy(os.path.join(PLUGINS, "mosquitto-compat.so"), b.path("compat.so"))
    with b:
        c = login(b)
        shutil.copy(b.path("compat.so"), b.path("new.so"))
        os.rename(b.path("new.so"), b.path("compat.so"))
        mark = b.mark()
        b.reload(good=False)
        b.wait_log("the file of mosquitto-compat itself was replaced, .* restart the broker", since=mark)
        passes(c, "open/x")


# ---- plugins that cannot be loaded ---------------------------------------------------------------

def checked(plugin):
    """grapneld -t with that section. @return what it says."""
    b = Broker(plugins={"mosq": plugin})
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        return r.returncode, r.stdout + r.stderr
    finally:
        b.remove()


@each(case=(
    ("missing", {}, r"undefined symbol: mosquitto_persist_everything; this function of Mosquitto has no counterpart"),
    ("newer", {}, r"it wants version 77 of Mosquitto's plugin interface; there are 5, 4 and 3 here"),
    ("plain", {"opts": {"init": "3"}}, r"its initialisation returned 3 \(Invalid argument\)"),
    ("plain", {"path": "{dir}/grapnel.conf"}, r"it cannot be loaded: .*(invalid ELF header|file too short)"),
    ("plain", {"path": "relative.so"}, r'it has to begin with "/"'),
    ("plain", {"acl_depends": ["password"]}, r'"password" is none of username, client_id, address, listener'),
    ("plain", {"login_depends": ["weather"]}, r'"weather" is none of username, .*, password'),
    ("plain", {"login_depends": ["username"]}, r'"password" has to be among them'),
))
def test_what_cannot_be_loaded_is_explained(case):
    name, options, text = case
    code, out = checked(section(name, **options))
    assert code != 0 and re.search(r"grapnel.conf:\d+: .*" + text, out), out


def test_other_objects_are_no_plugins():
    code, out = checked(section(path=os.path.join(PLUGINS, "auth-file.so")))
    assert code != 0 and "it is no plugin of Mosquitto" in out, out


def test_a_good_one_passes_the_check_and_is_cleaned_up():
    code, out = checked(section())
    assert code == 0 and "init options=1" in out and "cleanup options=1" in out, out


def test_one_that_hangs_at_its_start_is_not_waited_for():
    b = Broker(plugins={"mosq": section(opts={"greeting": "hang"}, start_timeout="200ms")})
    try:
        b.write("hang", "")
        b.configure()
        r = run_grapneld("-t", "-c", b.conf, timeout=2 * TIMEOUT)
        assert r.returncode != 0, r.stderr
        assert "has not returned from mosquitto_plugin_init within start_timeout" in r.stdout + r.stderr, r.stderr
    finally:
        b.remove()


# ---- versions 3 and 4 ----------------------------------------------------------------------------

@each(n=(3, 4))
@broker(own=True, plugins=lambda n: {"mosq": section("old-%d" % n, opts={"greeting": "hello"})})
def test_plugins_of_older_versions(b, n):
    said(b, "old init options=1 greeting=hello")
    said(b, "old security_init reload=0 options=1")
    c = login(b)
    b.client(V311).connect("wrong", reason=5, username="u", password=b"wrong")
    passes(c, "open/x", "four")
    said(b, "old acl_check access=2 topic=open/x payloadlen=4 id=%s" % c.client_id)
    assert c.publish("deny/x", qos=1) == 0x87
    c.subscribe("open/#")
    c.unsubscribe("open/#")
    dangerous = login(b, client_id="a+b")
    assert dangerous.publish("open/x", qos=1) == 0x87  # deny_special_chars
    ext_auth(b).expect(CONNACK, reason=0)
    ext_auth(b, answer=b"wrong").expect(CONNACK, reason=0x87)
    mark = b.mark()
    b.reload()
    said(b, "old security_init reload=1 options=1", mark)
    passes(c, "open/x")
    b.close_clients()
    b.stop()
    lines = [line.split(": old ")[1] for line in b.log_lines("old (security_)?cleanup", mark)]
    assert lines == ["security_cleanup reload=1", "security_cleanup reload=0", "cleanup userdata=1"], lines


# ---- Mosquitto's own plugin ----------------------------------------------------------------------

class Dynamic:
    """Mosquitto's dynamic security, managed with mosquitto_ctrl, as its manual says."""

    def __init__(self):
        found = glob.glob("/usr/lib/*/mosquitto_dynamic_security.so")
        self.ctl = shutil.which("mosquitto_ctrl")
        if not found or self.ctl is None:
            raise Skip("Mosquitto's dynamic security plugin is not installed")
        self.b = Broker(plugins={"dynamic-security": {
            "module": "mosquitto-compat", "path": found[0],
            'option "config_file"': {"value": "{dir}/dynamic-security.json"}}}, listeners={"mqtt": {}}, workers=3)
        subprocess.run([self.ctl, "dynsec", "init", self.b.path("dynamic-security.json"), "admin", "admin-password"],
                       check=True, stdout=subprocess.DEVNULL)

    def __call__(self, *args, code=0):
        r = subprocess.run([self.ctl, "-h", "127.0.0.1", "-p", str(self.b.port), "-u", "admin", "-P", "admin-password",
                            "dynsec"] + list(args), text=True, capture_output=True, timeout=TIMEOUT, check=False)
        assert r.returncode == code, (args, r.stdout, r.stderr)
        return r.stdout


def test_mosquittos_dynamic_security_as_it_is():
    dynsec = Dynamic()
    with dynsec.b as b:
        b.client(V5).connect("none", reason=0x87, username="alice", password=b"alice-password")
        dynsec("createClient", "alice", "-p", "alice-password")
        dynsec("createRole", "sensors")
        for kind in ("publishClientSend", "publishClientReceive", "subscribePattern"):
            dynsec("addRoleACL", "sensors", kind, "sensors/#", "allow", "5")
        dynsec("addClientRole", "alice", "sensors", "7")
        assert dynsec("listClients").split() == ["admin", "alice"]
        assert "sensors (priority: 7)" in dynsec("getClient", "alice")
        b.client(V311).connect("alice", reason=5, username="alice", password=b"wrong")
        alice = b.connect(V5, "alice", username="alice", password=b"alice-password")
        alice.subscribe(["sensors/+", "other/+"], codes=[0, 0x87])
        assert alice.publish("sensors/1", "21", qos=1) == 0
        assert alice.publish("other/1", "x", qos=1) == 0x87
        alice.expect_message("sensors/1", "21")
        assert alice.publish("$CONTROL/dynamic-security/v1", "{}", qos=1) == 0x87
        b.reload()
        alice.ping()  # the plugin heard of the reload, or not: all goes on
        dynsec("removeRoleACL", "sensors", "publishClientReceive", "sensors/#")
        alice.expect_close(0x98)  # it disconnects those whose rights have changed
        dynsec("addRoleACL", "sensors", "publishClientReceive", "sensors/#", "deny", "9")
        alice = b.connect(V5, "alice", username="alice", password=b"alice-password")
        alice.subscribe("sensors/+")
        passes(alice, "sensors/1", "22")
        alice.expect_nothing()  # asked at each delivery
        dynsec("disableClient", "alice")
        alice.expect_close(0x98)
        b.client(V5).connect("alice", reason=0x87, username="alice", password=b"alice-password")
        dynsec("enableClient", "alice")
        b.connect(V5, "alice", username="alice", password=b"alice-password").ping()
        kept = b.path("dynamic-security.json")
        with open(kept, encoding="utf-8") as f:
            assert '"alice"' in f.read()


# ---- without mosquitto-dev there is no other plugin ------------------------------------------------

def not_built():
    raise Skip("mosquitto-dev was not there when this was built")


if not os.path.exists(PLAIN):
    for test in [n for n in globals() if n.startswith("test_") and "dynamic_security" not in n]:
        globals()[test] = not_built
