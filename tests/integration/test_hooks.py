# SPDX-License-Identifier: Apache-2.0
"""What plugins can answer, and what becomes of it."""
import re
import time

from lib.case import broker, default_broker, each, versions
from lib.hooks import Gate, eventually, gate
from lib.mqtt import PINGRESP, PUBACK, PUBCOMP, PUBREC, UNSUBACK, V31, V311, V5, P
from lib.wire import Will

ALLOW = {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}


def verdict(**options):
    """One that decides something, in front of one that allows everything."""
    return {"decides": dict({"module": "verdict", "order": 10}, **options), "allow": ALLOW}


def rewrite(**options):
    return {"rewrite": dict({"order": 10}, **options), "allow": ALLOW}


BROKER = default_broker(plugins={"allow": ALLOW})


# ---- CONNECT ---------------------------------------------------------------------------------------


@each(code=(0x9C, 0x9D))
@broker(plugins=lambda code, **_: verdict(client_authenticate="deny", reason_code=code, server_reference="other.example:1884",
                                          reason_string="moved"))
def test_a_redirect_carries_the_server_reference(b, code):
    c = b.client(V5)
    p = c.connect(b.unique("c"), reason=code)
    assert (p.prop(P.SERVER_REFERENCE), p.prop(P.REASON_STRING)) == ("other.example:1884", "moved"), p
    c.expect_close()
    for v in (V31, V311):
        b.client(v).connect(b.unique("c"), reason=3)


@broker(plugins=verdict(client_authenticate="deny", reason_string="x" * 254 + "äöü€" * 100))
def test_a_long_reason_is_cut_between_two_characters(b):
    p = b.client(V5).connect(b.unique("c"), reason=0x87)  # the decoder of the tests is strict about UTF-8
    assert p.prop(P.REASON_STRING).startswith("x" * 254), p


@broker(plugins=verdict(client_authenticate="deny", reason_string="not today"))
def test_a_reason_string_is_left_out_when_problem_information_is_not_wanted(b):
    c = b.client(V5)
    p = c.connect(b.unique("c"), reason=0x87, props=[(P.REQUEST_PROBLEM_INFO, 0)])
    assert p.prop(P.REASON_STRING) is None or p.prop(P.REASON_STRING) == "not today"  # allowed in CONNACK [MQTT-3.1.2-29]
    p = b.client(V5).connect(b.unique("c"), reason=0x87)
    assert p.prop(P.REASON_STRING) == "not today"


@each(code=(0x8E, 0x8D, 0xA2, 0xFF, 0x94))
@broker(plugins=lambda code, **_: verdict(client_authenticate="deny", reason_code=code))
def test_a_code_that_connack_does_not_have_becomes_0x87(b, code):
    b.client(V5).connect(b.unique("c"), reason=0x87)


@broker(plugins={"decides": {
    "module": "verdict", "client_authenticate": "allow", "username": "named", "attribute": "tenant=blue", "mountpoint": "mp/",
    "response_information": "answers/", "limit_qos": 1, "limit_packet_size": 2000, "limit_session_expiry": "60s", "limit_inflight": 1,
    "rules": "allow publish %{tenant}/%u/#\nallow subscribe %{tenant}/#\nallow read #"}})
def test_what_an_allow_can_carry(b):
    c = b.client(V5)
    p = c.connect(b.unique("c"), username="given", props=[(P.REQUEST_RESPONSE_INFO, 1), (P.SESSION_EXPIRY, 1000)])
    assert p.prop(P.RESPONSE_INFO) == "answers/", p
    assert (p.prop(P.MAXIMUM_QOS), p.prop(P.MAXIMUM_PACKET_SIZE), p.prop(P.SESSION_EXPIRY)) == (1, 2000, 60), p
    info = b.ctl_json("clients", "show", c.client_id)
    assert (info["username"], info["mountpoint"]) == ("named", "mp/"), info
    # rules: %u is the name the plugin gave, %{tenant} its attribute
    assert c.publish("blue/named/x", b"1", qos=1) == 0x10
    assert c.publish("blue/given/x", b"1", qos=1) == 0x87
    c.subscribe(["blue/#", "red/#"], qos=1, codes=[1, 0x87])
    # limits
    c.send_publish("blue/named/x", b"y" * 3000, qos=1)
    c.expect_close(0x95)
    # mountpoint: another client with the same rules sees it without the prefix
    c = b.connect(V5, b.unique("c"))
    c.subscribe("blue/#", qos=1)
    d = b.connect(V5, b.unique("d"))
    for i in b"12":
        d.publish("blue/named/x", bytes([i]), qos=1)
    p = c.expect(3, topic="blue/named/x", payload=b"1")
    assert c.poll(0.05) is None, "one message in flight"
    c.puback(p.packet_id)
    c.expect_message("blue/named/x", b"2")
    # QoS 2 is above its Maximum QoS
    d.send_publish("blue/named/x", b"", qos=2)
    d.expect_close(0x9B)
    # without asking there is no Response Information
    assert b.connect(V5).connack.prop(P.RESPONSE_INFO) is None


@broker(plugins={"root": {"module": "verdict", "order": 10, "client_authenticate": "allow", "superuser": True, "only_user": "root"},
                 "nothing": {"module": "verdict", "client_authenticate": "allow", "acl_check": "deny"}})
def test_a_superuser_is_not_asked_about_rights(b):
    topic = b.unique("t")
    c = b.connect(V5, username="root")
    c.subscribe(topic)
    c.publish(topic, b"x")
    c.expect_message(topic, b"x")
    assert c.publish("$SYS/x", b"x", qos=1) == 0x87, "$SYS is the broker's own"
    b.connect(V5, username="user").subscribe(topic, codes=[0x87])


@broker(plugins=verdict(client_authenticate="allow", valid_for="1s"))
def test_a_login_ends_at_its_time(b):
    c = b.connect(V5)
    c.ping()
    c.expect_close(0xA0)
    old = b.connect(V311)
    old.expect_close()


@broker(plugins=verdict(client_authenticate="allow", limit_rate=5))
def test_a_message_rate_of_the_verdict_slows_down_and_loses_nothing(b):
    topic = b.unique("t")
    c = b.connect(V5)
    c.subscribe(topic)
    begin = time.monotonic()
    for i in range(10):
        c.send_publish(topic, b"%d" % i)
    for i in range(10):
        c.expect_message(topic, b"%d" % i)
    assert time.monotonic() - begin > 0.7, "10 messages, 5 at once and then 5 a second"


@broker(plugins=verdict(acl_check="deny", only_action="will", only_topic="no/*"))
def test_the_right_to_a_will_is_asked_at_connect(b):
    for v, code in ((V31, 5), (V311, 5), (V5, 0x87)):
        b.client(v).connect(b.unique("c"), reason=code, will=Will("no/where", b"x"))
        b.connect(v, b.unique("c"), will=Will("some/where", b"x"))


# ---- rights ----------------------------------------------------------------------------------------


@broker(plugins=verdict(acl_check="deny", only_topic="no/*", reason_string="keep out of here, this is not yours"))
def test_a_denial_and_its_reason_reach_the_client(b):
    c = b.connect(V5)
    for qos, kind in ((1, PUBACK), (2, PUBREC)):
        packet_id = c.send_publish("no/1", b"x", qos=qos)
        p = c.expect(kind, packet_id=packet_id, reason=0x87)
        assert p.prop(P.REASON_STRING) == "keep out of here, this is not yours", p
    p = c.subscribe(["yes/1", "no/#"], codes=[0, 0x87])
    assert p.prop(P.REASON_STRING) == "keep out of here, this is not yours", p
    b.wait_log(r'user "[^"]*" from \S+: publish to "no/1" denied by verdict:1')
    b.wait_log(r'subscribe to "no/#" denied by verdict:1')
    quiet = b.connect(V5, props=[(P.REQUEST_PROBLEM_INFO, 0)])
    packet_id = quiet.send_publish("no/1", b"x", qos=1)
    assert quiet.expect(PUBACK, reason=0x87).prop(P.REASON_STRING) is None
    assert quiet.subscribe("no/1", codes=[0x87]).prop(P.REASON_STRING) is None
    small = b.connect(V5, props=[(P.MAXIMUM_PACKET_SIZE, 40)])
    small.send_publish("no/1", b"x", qos=1)
    assert small.expect(PUBACK, reason=0x87).prop(P.REASON_STRING) is None
    for v in (V31, V311):
        c = b.connect(v)
        assert c.publish("no/1", b"x", qos=1) == 0
        c.subscribe(["yes/1", "no/#"], codes=[0, 0x80])


@each(code=(0x8E, 0x95, 0xFF))
@broker(plugins=lambda code, **_: verdict(acl_check="deny", only_topic="no/*", reason_code=code))
def test_a_code_that_the_packet_does_not_have_becomes_0x83(b, code):
    c = b.connect(V5)
    assert c.publish("no/1", b"x", qos=1) == 0x83
    assert c.publish("no/1", b"x", qos=2) == 0x83
    c.subscribe("no/1", codes=[0x83])


@versions()
@broker(plugins=verdict(acl_check="allow", flags=["drop"], only_topic="drop/*", only_action="publish"))
def test_accept_but_drop(b, v):
    c = b.connect(v)
    c.subscribe("drop/#")
    assert c.publish("drop/a", b"x", qos=1) == 0
    assert c.publish("drop/a", b"x", qos=2) == 0
    c.publish("drop/a", b"x", retain=True)
    c.expect_nothing()
    b.connect(v).subscribe("drop/#")


@broker(plugins=verdict(acl_check="allow", flags=["no-retain"], only_topic="gone/*", only_action="publish"))
def test_accept_without_retaining(b):
    topic = "gone/" + b.unique("t")
    c = b.connect(V5)
    c.subscribe("gone/#", rap=True)
    assert c.publish(topic, b"x", qos=1, retain=True) == 0
    c.expect_message(topic, b"x", retain=False)
    d = b.connect(V5)
    d.subscribe("gone/#")
    d.expect_nothing()


@broker(plugins=verdict(acl_check="allow", flags=["no-send-retained"], only_topic="kept/*", only_action="subscribe"))
def test_accept_without_sending_what_is_retained(b):
    topic = "kept/" + b.unique("t")
    c = b.connect(V5)
    c.publish(topic, b"x", qos=1, retain=True)
    c.subscribe(topic)
    c.expect_nothing()
    c.publish(topic, b"y", qos=1)
    c.expect_message(topic, b"y")
    c.publish(topic, b"", qos=1, retain=True)


@each(hook=("acl_check", "client_subscribe"))
@broker(plugins=lambda hook, **_: verdict(**{hook: "allow", "max_qos": 1, "only_topic": "low/*"}))
def test_a_granted_qos_may_be_lower_than_asked(b, hook):
    c = b.connect(V5)
    c.subscribe(["low/1", "high/1"], qos=2, codes=[1, 2])
    c.publish("low/1", b"x", qos=2)
    c.expect_message("low/1", b"x", qos=1)


# ---- message_publish -------------------------------------------------------------------------------


@broker(plugins=rewrite(only="in/*", publish_prefix="new/", publish_payload="changed"))
def test_message_publish_changes_topic_and_payload(b):
    c = b.connect(V5)
    c.subscribe(["in/#", "new/#"])
    assert c.publish("in/a", b"x", qos=1) == 0
    c.expect_message("new/in/a", b"changed")
    c.expect_nothing()


@broker(plugins=rewrite(only="in/*", publish_user_property="v"))
def test_message_publish_replaces_the_properties(b):
    c = b.connect(V5)
    c.subscribe("in/#", qos=1)
    c.publish("in/a", b"x", qos=1, props=[(P.CONTENT_TYPE, "text"), (P.USER_PROPERTY, ("a", "b")), (P.MESSAGE_EXPIRY, 7),
                                          (P.PAYLOAD_FORMAT, 1), (P.CORRELATION_DATA, b"c"), (P.RESPONSE_TOPIC, "r")])
    p = c.expect_message("in/a", b"x")
    assert sorted(p.props) == sorted([(P.USER_PROPERTY, ("rewrite", "v")), (P.PAYLOAD_FORMAT, 1), (P.MESSAGE_EXPIRY, 1000)]), p
    c.publish("in/b", b"x", qos=1)
    assert len(c.expect_message("in/b").props) == 3


@broker(plugins=rewrite(only="in/*", publish_no_retain=True))
def test_message_publish_takes_retain_off(b):
    c = b.connect(V5)
    c.publish("in/" + b.unique("t"), b"x", qos=1, retain=True)
    c.subscribe("in/#")
    c.expect_nothing()


@broker(plugins=rewrite(only="in/*", publish_retain=True, publish_qos=2))
def test_message_publish_puts_retain_on_and_raises_the_qos(b):
    topic = "in/" + b.unique("t")
    c = b.connect(V5)
    c.subscribe("in/#", qos=2)
    assert c.publish(topic, b"x", qos=1) == 0
    c.expect_message(topic, b"x", qos=2, retain=False)
    d = b.connect(V5)
    d.subscribe(topic, qos=2)
    d.expect_message(topic, b"x", qos=2, retain=True)
    c.publish(topic, b"", qos=0)


@broker(plugins=rewrite(only="in/*", publish_qos=0))
def test_message_publish_lowers_the_qos_and_the_client_is_acknowledged_all_the_same(b):
    c = b.connect(V5)
    c.subscribe("in/#", qos=2)
    assert c.publish("in/a", b"x", qos=2) == 0
    c.expect_message("in/a", b"x", qos=0)


@versions()
@broker(plugins=rewrite(publish_drop="in/drop*"))
def test_message_publish_drops(b, v):
    c = b.connect(v)
    c.subscribe("in/#")
    assert c.publish("in/drop/a", b"x", qos=1) == 0
    assert c.publish("in/drop/a", b"x", qos=2) == 0
    c.publish("in/keep", b"x")
    c.expect_message("in/keep")


@broker(plugins=dict(rewrite(only="in/*", publish_prefix="secret/"),
                     no={"module": "verdict", "order": 20, "acl_check": "deny", "only_topic": "secret/*"}))
def test_rights_are_asked_again_for_a_rewritten_topic(b):
    c = b.connect(V5)
    assert c.publish("in/a", b"x", qos=1) == 0x87
    assert c.publish("other/a", b"x", qos=1) in (0, 0x10)


@broker(plugins=dict(rewrite(only="in/*", publish_retain=True), **{"auth-file": {"order": 5, "rules": ["{dir}/rules"]}}),
        files={"rules": "allow publish in/# retain=no\nallow publish other/#\nallow subscribe #\nallow read #\n"})
def test_rights_are_asked_again_for_retain_that_a_plugin_put_on(b):
    c = b.connect(V5)
    assert c.publish("in/a", b"x", qos=1) == 0x87
    assert c.publish("other/a", b"x", qos=1, retain=True) in (0, 0x10)


@broker(plugins=rewrite(only="in/*", publish_prefix="bad/#/"))
def test_a_rewrite_to_something_invalid_is_refused(b):
    c = b.connect(V5)
    assert c.publish("in/a", b"x", qos=1) == 0x83
    b.wait_log(r'plugin "rewrite": publish_answer: topic_name is not a valid Topic Name')
    old = b.connect(V311)
    old.send_publish("in/a", b"x", qos=1)
    old.expect_close()


@broker(plugins=rewrite(only="in/*", publish_prefix="a/" * 70, ))
def test_a_rewrite_beyond_max_topic_levels_is_refused(b):
    c = b.connect(V5)
    assert c.publish("in/" + "b/" * 60, b"x", qos=1) == 0x90
    assert c.publish("in/a", b"x", qos=1) == 0x10


@broker(plugins=verdict(message_publish="deny", only_topic="no/*", reason_code=0x97, reason_string="too much"))
def test_message_publish_refuses(b):
    c = b.connect(V5)
    c.subscribe("no/#")
    packet_id = c.send_publish("no/a", b"x", qos=1)
    assert c.expect(PUBACK, packet_id=packet_id, reason=0x97).prop(P.REASON_STRING) == "too much"
    packet_id = c.send_publish("no/a", b"x", qos=2)
    assert c.expect(PUBREC, packet_id=packet_id, reason=0x97).prop(P.REASON_STRING) == "too much"
    c.publish("no/a", b"x")
    c.expect_nothing()
    # A refused QoS 2 identifier is free again.
    packet_id = c.send_publish("yes/a", b"x", qos=2, packet_id=packet_id)
    c.expect(PUBREC, packet_id=packet_id, reason=0x10)


@broker(plugins=dict(rewrite(only="in/*", publish_prefix="new/", publish_user_property="will")))
def test_a_will_goes_through_message_publish(b):
    watcher = b.connect(V5)
    watcher.subscribe("#")
    name = b.unique("c")
    c = b.connect(V5, name, will=Will("in/will", b"bye", props=[(P.CONTENT_TYPE, "x")]))
    c.close()
    p = watcher.expect_message("new/in/will", b"bye")
    assert (P.USER_PROPERTY, ("rewrite", "will")) in p.props and (P.MESSAGE_EXPIRY, 1000) in p.props, p
    assert p.prop(P.CONTENT_TYPE) is None


@broker(plugins=dict(rewrite(only="in/*", publish_prefix="secret/"),
                     no={"module": "verdict", "order": 20, "acl_check": "deny", "only_topic": "secret/*"}))
def test_rights_are_asked_again_for_a_rewritten_will(b):
    watcher = b.connect(V5)
    watcher.subscribe("in/#")
    c = b.connect(V5, b.unique("c"), will=Will("in/will", b"bye"))
    mark = b.mark()
    c.close()
    b.wait_log(r'will_refused|Will Message to "in/will" not published: no right', since=mark)
    watcher.expect_nothing()


# ---- client_subscribe, client_unsubscribe ----------------------------------------------------------


@versions()
@broker(plugins=rewrite(only="in/*", subscribe_prefix="new/"))
def test_filters_are_rewritten_both_ways(b, v):
    c = b.connect(v)
    c.subscribe(["in/#", "other"])
    p = b.connect(V5)
    p.publish("in/a", b"1", qos=1)
    p.publish("new/in/a", b"2", qos=1)
    c.expect_message("new/in/a", b"2")
    c.unsubscribe("in/#")
    p.publish("new/in/a", b"3", qos=1)
    p.publish("other", b"4", qos=1)
    c.expect_message("other", b"4")


@broker(plugins=rewrite(only="$share/*", subscribe_prefix="x"))
def test_a_filter_that_is_rewritten_to_something_else_is_what_counts(b):
    c = b.connect(V5)
    c.subscribe("$share/g/t")  # becomes x$share/g/t: an ordinary filter
    b.connect(V5).publish("x$share/g/t", b"1", qos=1)
    c.expect_message("x$share/g/t", b"1")


@broker(plugins=rewrite(only="in/*", subscribe_prefix="a#/"))
def test_a_filter_rewritten_to_something_invalid_is_refused(b):
    c = b.connect(V5)
    c.subscribe(["in/a", "ok"], codes=[0x80, 0])
    b.wait_log(r'plugin "rewrite": subscribe_answer: ')


@broker(plugins=dict(rewrite(only="in/*", subscribe_prefix="secret/"),
                     no={"module": "verdict", "order": 20, "acl_check": "deny", "only_topic": "secret/*"}))
def test_rights_are_asked_for_the_rewritten_filter(b):
    b.connect(V5).subscribe(["in/a", "b"], codes=[0x87, 0])


@broker(plugins=verdict(client_subscribe="deny", client_unsubscribe="deny", only_topic="no/*", reason_code=0x97,
                        reason_string="full"))
def test_subscribing_and_unsubscribing_can_be_refused(b):
    c = b.connect(V5)
    p = c.subscribe(["no/a", "yes"], codes=[0x97, 0])
    assert p.prop(P.REASON_STRING) == "full"
    packet_id = c.next_id()
    c.send_raw(P.unsubscribe(V5, packet_id, ["no/a", "yes"]))
    p = c.expect(UNSUBACK, codes=[0x83, 0])  # UNSUBACK has no 0x97
    assert p.prop(P.REASON_STRING) == "full"


# ---- message_deliver -------------------------------------------------------------------------------


@versions()
@broker(plugins=rewrite(only="out/*", deliver_prefix="seen/", deliver_payload="changed"))
def test_message_deliver_changes_what_one_receiver_gets(b, v):
    c = b.connect(v)
    c.subscribe("out/#", qos=2)
    p = b.connect(V5)
    for qos in (0, 1, 2):
        p.publish("out/a", b"x", qos=qos)
        c.expect_message("seen/out/a", b"changed", qos=qos)


@broker(plugins=rewrite(only="out/*", deliver_user_property="v"))
def test_message_deliver_replaces_the_properties(b):
    c = b.connect(V5)
    c.subscribe("out/#", qos=1)
    b.connect(V5).publish("out/a", b"x", qos=1, props=[(P.CONTENT_TYPE, "text"), (P.MESSAGE_EXPIRY, 7), (P.PAYLOAD_FORMAT, 1)])
    p = c.expect_message("out/a", b"x")
    assert sorted(p.props) == sorted([(P.USER_PROPERTY, ("rewrite", "v")), (P.PAYLOAD_FORMAT, 1), (P.MESSAGE_EXPIRY, 1000)]), p


@broker(plugins=rewrite(deliver_drop="out/drop*", only="*"))
def test_message_deliver_drops(b):
    c = b.connect(V5)
    c.subscribe("out/#", qos=2)
    p = b.connect(V5)
    for qos in (0, 1, 2):
        assert p.publish("out/drop", b"x", qos=qos) == 0
    p.publish("out/keep", b"x", qos=1)
    c.expect_message("out/keep", b"x")


@broker(plugins=rewrite(only="out/*", deliver_prefix="seen/"))
def test_what_is_sent_again_on_resume_is_what_was_sent_the_first_time(b):
    name = b.unique("c")
    c = b.connect(V5, name, props=[(P.SESSION_EXPIRY, 100)])
    c.subscribe("out/#", qos=1)
    p = b.connect(V5)
    p.publish("out/a", b"1", qos=1)
    got = c.expect(3, topic="seen/out/a", payload=b"1")
    mark = b.mark()
    c.close()
    b.wait_log(r'client_disconnected: client "%s"' % name, since=mark)
    p.publish("out/b", b"2", qos=1)
    c = b.connect(V5, name, clean=False, session_present=True)
    c.expect(3, topic="seen/out/a", payload=b"1", dup=True, packet_id=got.packet_id)
    c.puback(got.packet_id)
    c.expect_message("seen/out/b", b"2", dup=False)


@broker(plugins=rewrite(only="out/*", deliver_prefix="seen/"))
def test_what_waits_for_the_in_flight_window_is_not_changed_twice(b):
    name = b.unique("c")
    c = b.connect(V5, name, props=[(P.SESSION_EXPIRY, 100), (P.RECEIVE_MAXIMUM, 1)])
    c.subscribe("out/#", qos=1)
    p = b.connect(V5)
    for i in b"123":
        p.publish("out/a", bytes([i]), qos=1)
    c.expect(3, topic="seen/out/a", payload=b"1")
    c.close()
    c = b.connect(V5, name, clean=False, session_present=True)  # the old one is over then, seen or not
    for i in b"123":
        c.expect_message("seen/out/a", bytes([i]))


@broker(plugins=dict(rewrite(only="out/*", deliver_prefix="secret/"),
                     no={"module": "verdict", "order": 20, "acl_check": "deny", "only_topic": "secret/*", "only_action": "read"}))
def test_the_right_to_read_is_asked_again_for_what_message_deliver_made(b):
    c = b.connect(V5)
    c.subscribe(["out/#", "other"])
    p = b.connect(V5)
    p.publish("out/a", b"x", qos=1)
    p.publish("other", b"y", qos=1)
    c.expect_message("other", b"y")


# ---- message_acknowledge ---------------------------------------------------------------------------


def acker(**options):
    return {"acker": dict({"hold": "0ms"}, **options), "allow": ALLOW}


@broker(plugins=acker(hold="150ms"))
def test_acknowledgements_are_held_and_keep_their_order(b):
    c = b.connect(V5)
    begin = time.monotonic()
    ids = [c.send_publish("t", b"%d" % i, qos=1 + i % 2) for i in range(6)]
    c.send_raw(b"\xc0\x00")
    c.expect(PINGRESP)
    for i, packet_id in enumerate(ids):
        c.expect(PUBREC if i % 2 else PUBACK, packet_id=packet_id, reason=0x10)
    assert time.monotonic() - begin >= 0.15
    for packet_id in ids[1::2]:
        c.pubrel(packet_id)
    for packet_id in ids[1::2]:
        c.expect(PUBCOMP, packet_id=packet_id, reason=0)


@each(code=(0, 0x97, 0x8E))
@broker(plugins=lambda code, **_: acker(deny_topic="bad*", reason_code=code))
def test_a_refused_acknowledgement_is_a_code_in_5_0(b, code):
    topic = "bad/" + b.unique("t")
    c = b.connect(V5)
    c.subscribe("bad/#")
    for qos, kind in ((1, PUBACK), (2, PUBREC)):
        packet_id = c.send_publish(topic, b"x", qos=qos)
        got = sorted((c.recv(), c.recv()), key=lambda p: p.type)
        assert got[0].topic == topic, "it has been routed"
        p = got[1]
        assert (p.type, p.packet_id, p.reason) == (kind, packet_id, 0x97 if code == 0x97 else 0x83), p
        assert p.prop(P.REASON_STRING) == "not taken", p
    c.publish("good", b"x", qos=2)


@versions(3, 4)
@each(qos=(1, 2))
@broker(plugins=acker(deny_topic="bad*"))
def test_a_refused_acknowledgement_closes_3_x(b, v, qos):
    c = b.connect(v)
    assert c.publish("good", b"x", qos=qos) == 0
    c.send_publish("bad", b"x", qos=qos)
    c.expect_close()


@broker(plugins=acker(hold="60s"))
def test_a_client_that_leaves_while_acknowledgements_are_held(b):
    c = b.connect(V5, b.unique("c"), props=[(P.SESSION_EXPIRY, 100)])
    for i in range(10):
        c.send_publish("t", b"x", qos=1 + i % 2)
    b.wait_metric('grapnel_plugin_pending_requests{plugin="acker"}', 10)
    c.reset()
    b.wait_metric('grapnel_plugin_pending_requests{plugin="acker"}', 0)
    b.connect(V5, c.client_id, clean=False, session_present=True).ping()


@broker(plugins=acker(hold="60s"), limits={"receive_maximum": 5})
def test_held_acknowledgements_are_bounded_by_receive_maximum(b):
    c = b.connect(V311, b.unique("c"))
    for i in range(20):
        c.send_publish("t", b"x", qos=1)
    c.send_raw(b"\xc0\x00")
    b.wait_metric('grapnel_plugin_pending_requests{plugin="acker"}', lambda v: v >= 5)
    assert c.poll(0.1) is None, "the PINGREQ behind them is not read"
    assert b.metric('grapnel_plugin_pending_requests{plugin="acker"}') <= 6


@broker(plugins=acker(hold="60s"))
def test_a_message_of_qos_2_that_comes_again_waits_as_the_first_did(b):
    c = b.connect(V5, b.unique("c"), props=[(P.SESSION_EXPIRY, 100)])
    packet_id = c.send_publish("t", b"x", qos=2)
    b.wait_metric('grapnel_plugin_pending_requests{plugin="acker"}', 1)
    c.reset()
    b.wait_metric('grapnel_plugin_pending_requests{plugin="acker"}', 0)
    c = b.connect(V5, c.client_id, clean=False, session_present=True, props=[(P.SESSION_EXPIRY, 100)])
    c.send_publish("t", b"x", qos=2, packet_id=packet_id, dup=True)
    b.wait_metric('grapnel_plugin_pending_requests{plugin="acker"}', 1)
    c.send_raw(b"\xc0\x00")
    c.expect(PINGRESP)


# ---- chains ----------------------------------------------------------------------------------------

CHAIN = {
    "third": {"module": "verdict", "order": 30, "client_authenticate": "allow", "acl_check": "allow"},
    "first": {"module": "verdict", "order": 10, "acl_check": "deny", "only_topic": "no/*", "client_authenticate": "deny",
              "only_user": "bad*", "order_client_authenticate": 5},
    "second": {"module": "verdict", "order": 20, "order_acl_check": 8, "acl_check": "allow", "only_topic": "no/but/*",
               "client_authenticate": "unavailable", "only_user": "bad*", "on_error": "next"},
}


@broker(plugins=CHAIN)
def test_instances_are_asked_in_their_order_and_each_hook_may_have_its_own(b):
    chains = b.ctl_json("plugin", "list")["chains"]
    assert chains["client_authenticate"] == ["first", "second", "third"], chains
    assert chains["acl_check"] == ["second", "first", "third"], chains
    assert chains["message_publish"] == [], chains
    shown = b.ctl_json("plugin", "show", "second")
    assert (shown["plugin"], shown["on_error"]) == ("verdict", "next"), shown
    assert shown["hooks"]["acl_check"]["order"] == 8 and shown["hooks"]["client_authenticate"]["order"] == 20
    text = b.ctl("plugin", "list").stdout
    for name in ("first", "second", "third"):
        assert re.search(r"^%s\b" % name, text, re.M), text
    b.ctl("plugin", "show", "fourth", code=1)


@broker(own=True, plugins=CHAIN)
def test_counters_histograms_and_the_record_of_a_decision(b):
    mark = b.mark()
    b.client(V5).connect("c1", reason=0x87, username="bad")
    c = b.connect(V5, "c2", username="good")
    assert c.publish("no/x", b"x", qos=1) == 0x10  # second and first are for "bad" users only
    c.subscribe("a/b")
    b.wait_log(r'client_authenticate for client "c1" user "bad": deny \(first: deny in \d+ us\)', since=mark)
    b.wait_log(r'client_authenticate for client "c2" user "good": allow \(first: next in \d+ us, second: next in \d+ us, '
               r'third: allow in \d+ us\)', since=mark)
    b.wait_log(r'acl_check for client "c2" user "good": publish "no/x" qos 1: allow \(second: next in \d+ us, first: next in '
               r'\d+ us, third: allow by verdict:1 in \d+ us\)', since=mark)
    m = b.metrics()
    for name, hook, answer, wanted in (("first", "client_authenticate", "deny", 1), ("first", "client_authenticate", "next", 1),
                                       ("third", "client_authenticate", "allow", 1), ("second", "acl_check", "next", 2),
                                       ("third", "acl_check", "allow", 2)):
        key = 'grapnel_hook_answers_total{plugin="%s",hook="%s",answer="%s"}' % (name, hook, answer)
        assert m[key] == wanted, (key, m[key])
    for name, hook, count in (("first", "client_authenticate", 2), ("third", "acl_check", 2)):
        label = 'plugin="%s",hook="%s"' % (name, hook)
        assert m["grapnel_hook_seconds_count{%s}" % label] == count
        assert m['grapnel_hook_seconds_bucket{%s,le="+Inf"}' % label] == count
        buckets = [v for k, v in m.items() if k.startswith("grapnel_hook_seconds_bucket{%s," % label)]
        assert len(buckets) == 12 and buckets == sorted(buckets), buckets
        assert 0 <= m["grapnel_hook_seconds_sum{%s}" % label] < 1
    types = [line for line in b.ctl("metrics").stdout.splitlines() if line.startswith("# TYPE grapnel_hook_seconds ")]
    assert types == ["# TYPE grapnel_hook_seconds histogram"], types
    shown = b.ctl_json("plugin", "show", "third")["hooks"]["acl_check"]
    assert shown["answers"]["allow"] == 2 and sum(shown["latency_seconds"].values()) == 2, shown


@broker(plugins={"one": {"module": "rewrite", "order": 1, "publish_prefix": "1/"}, "two": {"module": "rewrite", "order": 2,
        "publish_prefix": "2/"}, "allow": ALLOW})
def test_of_two_instances_of_one_module_the_second_sees_what_the_first_made(b):
    c = b.connect(V5)
    c.subscribe("#")
    c.publish("t", b"x")
    c.expect_message("2/1/t", b"x")


@broker(plugins={"one": {"module": "rewrite", "order": 1, "publish_drop": "t*"}, "allow": ALLOW,
                 "gate": gate(hooks=["message_publish"])})
def test_what_is_dropped_is_not_shown_to_the_next(b):
    g = Gate(b).close()
    assert b.connect(V5).publish("t", b"x", qos=1) == 0
    assert not b.log_lines(r"asked \d+ message_publish", since=g.since)
    g.open()


@broker(own=True, plugins={"gate": gate(hooks=["acl_check"], block="120ms"), "allow": ALLOW})
def test_a_plugin_that_holds_a_worker_is_named(b):
    mark = b.mark()
    c = b.connect(V5)
    assert c.publish("t", b"x", qos=1) == 0x10
    line = b.wait_log(r'warning .*plugin "gate": acl_check held worker \d for \d+ ms', since=mark)
    assert int(re.search(r"for (\d+) ms", line).group(1)) >= 120, line
    assert b.metric('grapnel_plugin_loop_holds_total{plugin="gate"}') == 1


# ---- answers from another thread --------------------------------------------------------------------


@each(delay=("0ms", "1ms"))
@broker(plugins=lambda delay, **_: {"threads": {"delay": delay}})
def test_every_hook_may_be_answered_from_a_thread_of_the_plugin(b, delay):
    topic = b.unique("t")
    b.client(V5).connect(b.unique("c"), reason=0x87, username="forbidden")
    receivers = [b.connect(V5, username="u%d" % i) for i in range(3)]
    for c in receivers:
        c.subscribe([topic + "/#", "forbidden"], qos=2, codes=[2, 0x87])
    senders = [b.connect((V31, V311, V5)[i], username="s%d" % i) for i in range(3)]
    for i in range(15):
        senders[i % 3].send_publish("%s/%d" % (topic, i % 3), b"%d" % i, qos=1)
    for c in senders:
        for _ in range(5):
            c.expect(PUBACK)
    for c in receivers:
        last = {}
        for _ in range(15):
            p = c.expect(3)
            c.acknowledge(p)
            assert last.get(p.topic, -1) < int(p.payload), "order of one publisher"
            last[p.topic] = int(p.payload)
        c.unsubscribe(topic + "/#")
    b.wait_metric('grapnel_plugin_pending_requests{plugin="threads"}', 0)


@broker(plugins={"threads": {"delay": "1ms"}})
def test_clients_that_leave_while_another_thread_decides(b):
    for round_ in range(5):
        clients = []
        for i in range(20):
            c = b.client((V311, V5)[i % 2])
            c.send_connect("racer-%d" % (i % 7), username="u")
            clients.append(c)
        for i, c in enumerate(clients):
            if i % 3 == round_ % 3:
                c.reset()
        for c in clients:
            c.close()
    c = b.connect(V5, username="u")
    c.ping()
    b.wait_metric('grapnel_plugin_pending_requests{plugin="threads"}', 0)
    c.disconnect()
    b.wait_metric("connections", lambda v: v == 0)
    assert eventually(lambda: b.metric("sessions") == 0, "sessions end with their connections")
