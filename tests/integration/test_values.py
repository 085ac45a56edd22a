# SPDX-License-Identifier: Apache-2.0
"""What plugins keep under keys: by the instance's name, within limits, across reloads."""
from lib.case import broker
from lib.mqtt import *  # noqa: F401,F403

ALLOW = {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}


def keepers(**sections):
    return dict({name: dict({"module": "keeper", "order": 50}, **options) for name, options in sections.items()}, allow=ALLOW)


class Keeper:
    def __init__(self, b, name="one"):
        self.b, self.name, self.c = b, name, b.connect(V5)

    def __call__(self, operation, key, payload=b""):
        packet_id = self.c.send_publish("%s/%s/%s" % (self.name, operation, key), payload, qos=1)
        return self.c.expect(PUBACK, packet_id=packet_id).prop(REASON_STRING)

    def figures(self):
        return self.b.ctl_json("plugin", "show", self.name)["values"]


@broker(own=True, plugins=keepers(one={"max_values": 3, "max_values_bytes": "64"}, two={}))
def test_values_are_the_instances_own_and_limited(b):
    one, two = Keeper(b, "one"), Keeper(b, "two")
    assert one("get", "k") == "-5"
    assert one("set", "k", b"first") == "ok" and two("set", "k", b"other") == "ok"
    assert one("set", "k", b"second") == "ok"
    assert one("get", "k") == "second" and two("get", "k") == "other"
    assert one("set", "a/b", b"x") == "ok" and one("set", "a/c", b"y") == "ok"
    assert one("each", "a/") == "a/b=x a/c=y ok"
    assert one("set", "more", b"") == "-3", "max_values"
    assert one("delete", "a/c") == "ok" and one("delete", "a/c") == "-5"
    assert one("set", "more", b"x" * 50) == "-3", "max_values_bytes"
    assert one("each", "a") == "a/b=x ok"
    assert one.figures() == {"count": 2, "bytes": 11, "refused": 2, "max_values": 3, "max_values_bytes": 64}, one.figures()
    assert b.metric('grapnel_plugin_values{plugin="one"}') == 2 and b.metric('grapnel_plugin_values_bytes{plugin="one"}') == 11
    assert b.metric('grapnel_plugin_values_refused_total{plugin="one"}') == 2
    assert b.metric('grapnel_plugin_values{plugin="two"}') == 1


@broker(own=True, plugins=keepers(one={}))
def test_a_new_instance_has_the_values_of_the_old_one(b):
    one = Keeper(b)
    b.wait_log(r'plugin "one": found 0 values')
    assert one("fill", "n", b"500") == "500"
    b.configure(plugins=keepers(one={"note": "another"})).reload()
    b.wait_log(r'plugin "one": found 500 values')
    assert one("get", "n499") == "filled"
    assert one.figures()["count"] == 500
    b.configure(plugins=keepers(one={"note": "another", "max_values": 2})).reload()
    assert one("set", "n7", b"fille") == "ok", "what is there stays"
    assert one("set", "m", b"") == "-3" and one.figures()["count"] == 500
    b.configure(plugins=keepers(two={})).reload()  # it is away for a while
    b.configure(plugins=keepers(one={}, two={})).reload()
    assert one("get", "n7") == "fille" and Keeper(b, "two")("get", "n7") == "-5"
