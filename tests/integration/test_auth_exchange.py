# SPDX-License-Identifier: Apache-2.0
"""Enhanced authentication, MQTT 5.0 section 4.12, with the plugin "exchange": name -> "challenge" -> secret -> in."""
from lib.case import broker, default_broker, each
from lib.hooks import Gate, gate
from lib.mqtt import AUTH, CONNACK, PINGRESP, PUBACK, V311, V5, P

CONTINUE, REAUTH = 0x18, 0x19
EXCHANGE = {"order": 10, "broken": "fail"}

BROKER = default_broker(plugins={"exchange": EXCHANGE}, listeners={"mqtt": {}})


def method(name="demo", data=None):
    return [(P.AUTH_METHOD, name)] + ([(P.AUTH_DATA, data)] if data is not None else [])


def start(b, name=b"me", auth_method="demo", client_id=None):
    c = b.client(V5)
    c.send_connect(client_id or b.unique("c"), props=method(auth_method, name))
    return c


def challenged(b, **options):
    c = start(b, **options)
    p = c.expect(AUTH, reason=CONTINUE)
    assert (p.prop(P.AUTH_METHOD), p.prop(P.AUTH_DATA)) == ("demo", b"challenge"), p
    return c


def send_auth(c, reason, data=None, name="demo"):
    c.send_raw(P.auth(reason, method(name, data)))


def let_in(b, **options):
    c = challenged(b, **options)
    send_auth(c, CONTINUE, b"open")
    p = c.expect(CONNACK, reason=0)
    assert (p.prop(P.AUTH_METHOD), p.prop(P.AUTH_DATA)) == ("demo", b"welcome"), p
    return c


def test_connect_auth_auth_connack(b):
    c = let_in(b)
    c.ping()
    info = b.ctl_json("clients", "show", c.client_id)
    assert info["username"] == "me", info  # the plugin named the user, not the client


def test_a_wrong_response_is_refused_with_the_plugins_reason(b):
    c = challenged(b)
    send_auth(c, CONTINUE, b"sesame")
    p = c.expect(CONNACK, reason=0x87)
    assert p.prop(P.REASON_STRING) == "wrong response", p
    c.expect_close()


def test_a_method_that_nobody_knows_is_0x8c(b):
    c = start(b, auth_method="kerberos")
    c.expect(CONNACK, reason=0x8C)
    c.expect_close()


@broker()
def test_a_method_without_any_plugin_is_0x8c(b):
    c = start(b)
    c.expect(CONNACK, reason=0x8C)
    c.expect_close()


def test_a_backend_in_trouble_is_server_unavailable(b):
    c = start(b, name=b"fail")
    c.expect(CONNACK, reason=0x88)
    c.expect_close()


@each(version=(V311, V5))
def test_a_connect_without_method_is_not_the_exchanges_matter(b, version):
    b.client(version).connect(b.unique("c"), reason=0x87 if version == V5 else 5, username="me", password="open")


@each(reason=(0x00, REAUTH))
def test_an_auth_that_does_not_continue_is_a_protocol_error(b, reason):
    c = challenged(b)
    send_auth(c, reason, b"open")
    c.expect(CONNACK, reason=0x82)
    c.expect_close()


def test_an_auth_with_another_method_is_a_protocol_error(b):
    c = challenged(b)
    send_auth(c, CONTINUE, b"open", name="other")
    c.expect(CONNACK, reason=0x82)
    c.expect_close()


def test_an_auth_without_method_is_a_protocol_error(b):
    c = challenged(b)
    c.send_raw(P.auth(CONTINUE, [(P.AUTH_DATA, b"open")]))
    p = c.expect(CONNACK)
    assert p.reason in (0x81, 0x82), p
    c.expect_close()


@each(what=("publish", "subscribe", "ping", "connect"))
def test_nothing_but_auth_and_disconnect_may_come_before_connack(b, what):
    c = challenged(b)
    c.send_raw({"publish": P.publish(V5, "t", b"x"), "subscribe": P.subscribe(V5, 1, [P.Sub("t")]), "ping": b"\xc0\x00",
                "connect": P.connect(V5, "again")}[what])
    c.expect(CONNACK, reason=0x82)
    c.expect_close()


def test_a_disconnect_ends_the_exchange(b):
    c = challenged(b)
    c.send_raw(P.disconnect(V5))
    c.expect_close()
    c = challenged(b, client_id=c.client_id)
    c.close()
    again = let_in(b, client_id=c.client_id)
    again.ping()


def test_two_exchanges_for_one_client_id_do_not_disturb_each_other(b):
    name = b.unique("c")
    one = challenged(b, client_id=name, name=b"me")
    two = challenged(b, client_id=name, name=b"me")
    send_auth(one, CONTINUE, b"open")
    one.expect(CONNACK, reason=0)
    send_auth(two, CONTINUE, b"open")
    two.expect(CONNACK, reason=0)
    one.expect_close(0x8E)
    two.ping()


@broker(plugins={"exchange": EXCHANGE}, listeners={"mqtt": {}}, limits={"connect_timeout": "150ms", "auth_timeout": "150ms"})
def test_a_client_that_owes_an_auth_has_not_for_ever(b):
    c = challenged(b)
    c.expect(CONNACK, reason=0x87)
    c.expect_close()


# ---- re-authentication -----------------------------------------------------------------------------


def test_re_authentication_while_packets_flow(b):
    c = let_in(b)
    c.subscribe("t/#", qos=1)
    send_auth(c, REAUTH, b"me")
    p = c.expect(AUTH, reason=CONTINUE)
    assert p.prop(P.AUTH_DATA) == b"challenge"
    c.ping()  # the old login counts meanwhile [MQTT 5.0 section 4.12.1]
    send_auth(c, CONTINUE, b"open")
    p = c.expect(AUTH, reason=0)
    assert (p.prop(P.AUTH_METHOD), p.prop(P.AUTH_DATA)) == ("demo", b"welcome"), p
    send_auth(c, REAUTH, b"me")  # and again
    c.expect(AUTH, reason=CONTINUE)
    send_auth(c, CONTINUE, b"open")
    c.expect(AUTH, reason=0)


def again(c, name=b"me"):
    send_auth(c, REAUTH, name)
    c.expect(AUTH, reason=CONTINUE)
    send_auth(c, CONTINUE, b"open")


@broker(plugins={"exchange": dict(EXCHANGE, rules="allow all %{login}/#")}, listeners={"mqtt": {}})
def test_rules_and_attributes_of_a_re_authentication_replace_those_of_connect(b):
    c, d = let_in(b), let_in(b)
    c.subscribe("1/#", qos=1)
    c.subscribe("2/#", qos=1, codes=[0x87])
    assert c.publish("1/a", b"before", qos=1) == 0
    c.expect_message("1/a", "before")
    assert c.publish("2/a", b"x", qos=1) == 0x87
    again(c)
    c.expect(AUTH, reason=0)
    assert c.publish("1/a", b"x", qos=1) == 0x87, "an answer of the old login is not kept"
    assert d.publish("1/a", b"after", qos=1) in (0, 0x10)
    c.subscribe("2/#", qos=1)
    assert c.publish("2/a", b"y", qos=1) == 0
    c.expect_message("2/a", "y")  # and nothing before it: what 1/# brings may not be read any more


@broker(plugins={"exchange": dict(EXCHANGE, rules="allow all %{login}/#")}, listeners={"mqtt": {}})
def test_what_was_published_before_a_re_authentication_in_the_same_bytes_is_under_the_old_rules(b):
    c = let_in(b)
    send_auth(c, REAUTH, b"me")
    c.expect(AUTH, reason=CONTINUE)
    c.send_raw(P.publish(V5, "1/a", b"x", 1, packet_id=7) + P.auth(CONTINUE, method("demo", b"open")) +
               P.publish(V5, "1/a", b"x", 1, packet_id=8) + P.publish(V5, "2/a", b"x", 1, packet_id=9))
    got = {}
    for _ in range(4):
        p = c.recv()
        got[p.packet_id if p.type == PUBACK else AUTH] = p.reason
    assert got[7] in (0, 0x10) and got[AUTH] == 0 and got[8] == 0x87 and got[9] in (0, 0x10), got


@broker(plugins={"exchange": dict(EXCHANGE, rate=20)}, listeners={"mqtt": {}})
def test_limits_of_a_re_authentication_count(b):
    c = let_in(b)
    for i in range(60):
        c.send_publish("t", "x", qos=0)
    c.ping()
    assert b.metric("rate_limited_total") == 0
    again(c)
    c.expect(AUTH, reason=0)
    for i in range(60):
        c.send_publish("t", "x", qos=0)
    b.wait_metric("rate_limited_total", lambda n: n > 0)
    c.ping()


@broker(plugins={"exchange": dict(EXCHANGE, valid=2)}, listeners={"mqtt": {}})
def test_a_re_authentication_may_be_valid_for_a_while_only(b):
    c = let_in(b)
    again(c)
    c.expect(AUTH, reason=0)
    c.ping()
    c.expect_close(0xA0)


def test_a_re_authentication_as_another_user_is_refused(b):
    c = let_in(b)
    again(c, b"you")
    p = c.expect_close(0x87)
    assert "another user" in p.prop(P.REASON_STRING), p


def test_packets_sent_together_with_an_auth_are_handled(b):
    c = let_in(b)
    c.send_raw(P.auth(REAUTH, method("demo", b"me")) + b"\xc0\x00" + P.publish(V5, "t", b"x", 1, packet_id=9))
    c.expect(AUTH, reason=CONTINUE)
    c.expect(PINGRESP)
    c.expect(PUBACK, packet_id=9)
    c.send_raw(P.auth(CONTINUE, method("demo", b"open")) + b"\xc0\x00")
    c.expect(AUTH, reason=0)
    c.expect(PINGRESP)


def test_a_failed_re_authentication_disconnects_with_the_plugins_reason(b):
    c = let_in(b)
    send_auth(c, REAUTH, b"me")
    c.expect(AUTH, reason=CONTINUE)
    send_auth(c, CONTINUE, b"sesame")
    p = c.expect_close(0x87)
    assert p.prop(P.REASON_STRING) == "wrong response", p


def test_re_authentication_with_a_backend_in_trouble(b):
    c = let_in(b)
    send_auth(c, REAUTH, b"fail")
    c.expect_close(0x89)  # DISCONNECT has no 0x88


def test_re_authentication_with_another_method_is_a_protocol_error(b):
    c = let_in(b)
    send_auth(c, REAUTH, b"me", name="other")
    c.expect_close(0x82)


@each(reason=(CONTINUE, 0))
def test_an_auth_out_of_turn_is_a_protocol_error(b, reason):
    c = let_in(b)
    send_auth(c, reason, b"open")
    c.expect_close(0x82)


def test_a_second_re_authentication_before_the_first_is_over_is_a_protocol_error(b):
    c = let_in(b)
    send_auth(c, REAUTH, b"me")
    c.expect(AUTH, reason=CONTINUE)
    send_auth(c, REAUTH, b"me")
    c.expect_close(0x82)


@broker(plugins={"allow": {"module": "verdict", "client_authenticate": "allow"}})
def test_re_authentication_needs_a_method_in_connect(b):
    c = b.connect(V5, b.unique("c"))
    send_auth(c, REAUTH, b"me")
    c.expect_close(0x82)


@broker(plugins={"allow": {"module": "verdict", "client_authenticate": "allow"}})
def test_auth_is_no_packet_of_3_1_1(b):
    c = b.connect(V311, b.unique("c"))
    c.send_raw(b"\xf0\x00")
    c.expect_close()


@broker(plugins={"gate": gate(hooks=["client_auth_exchange"], verdict="next", order=5), "exchange": EXCHANGE}, listeners={"mqtt": {}})
def test_packets_wait_while_a_re_authentication_is_decided(b):
    c = let_in(b)
    g = Gate(b).close()
    send_auth(c, REAUTH, b"me")
    c.send_raw(b"\xc0\x00")
    # Only the instance that let the client in is asked: the gate in front of it is not.
    c.expect(AUTH, reason=CONTINUE)
    c.expect(PINGRESP)
    g.open()


@broker(plugins={"gate": gate(hooks=["client_auth_exchange"]), }, listeners={"mqtt": {}})
def test_a_re_authentication_may_be_decided_late(b):
    c = start(b)
    c.expect(CONNACK, reason=0)
    g = Gate(b).close()
    send_auth(c, REAUTH, b"me")
    c.send_raw(b"\xc0\x00")
    n = g.asked("client_auth_exchange", c.client_id)
    assert c.poll(0.05) is None
    g.open()
    c.expect(AUTH, reason=0)
    c.expect(PINGRESP)
    g.resolved(n)
    g = Gate(b).close()
    send_auth(c, REAUTH, b"me")
    n = g.asked("client_auth_exchange", c.client_id)
    b.ctl("clients", "kick", c.client_id)
    g.cancelled(n)
    g.open()


@broker(own=True, plugins={"exchange": EXCHANGE}, listeners={"mqtt": {}})
def test_an_exchange_survives_a_reload_that_leaves_its_plugin_alone(b):
    c = challenged(b)
    b.configure(limits={"max_qos": 1}).reload()
    send_auth(c, CONTINUE, b"open")
    c.expect(CONNACK, reason=0)


@broker(own=True, plugins={"exchange": EXCHANGE}, listeners={"mqtt": {"anonymous": True}})
def test_an_exchange_whose_plugin_is_removed_ends_with_0x8c(b):
    c = challenged(b)
    b.configure(plugins={}).reload()
    send_auth(c, CONTINUE, b"open")
    c.expect(CONNACK, reason=0x8C)
    c.expect_close()
