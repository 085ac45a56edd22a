# SPDX-License-Identifier: Apache-2.0
"""What plugins keep under keys: by the instance's name, within limits, across reloads."""
import re

from lib.case import broker
from lib.hooks import eventually
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


@broker(own=True, plugins=keepers(one={}))
def test_what_a_plugin_that_is_gone_has_kept_is_shown_and_can_be_forgotten(b):
    one = Keeper(b)
    assert one("set", "k", b"value") == "ok" and one("keep", "l", b"") == "ok"
    b.ctl("plugin", "forget", "one", code=1)
    assert b.ctl_json("plugin", "list")["values_of_others"] == []
    b.configure(plugins=keepers(one={"enabled": False})).reload()
    eventually(lambda: b.ctl_json("plugin", "list")["values_of_others"] == [{"name": "one", "count": 2, "bytes": 7}], "it is gone")
    assert re.search(r"^one +2 +7$", b.ctl("plugin", "list").stdout, re.M)
    eventually(lambda: b.ctl("plugin", "forget", "one", code=None).stdout == "2 values are forgotten\n", "and has ended")
    b.ctl("plugin", "forget", "one", code=1)
    b.wait_log(r'values_forgotten: admin \(.*\) forgets what plugin "one" has kept: 2 values')
    assert b.ctl_json("plugin", "list")["values_of_others"] == []
    b.configure(plugins=keepers(one={})).reload()
    assert one("get", "k") == "-5"


STRICT = {"store": {"durability": "strict"}}


@broker(own=True, plugins=keepers(one={}, two={}), top=STRICT)
def test_values_survive_a_kill_and_a_stop(b):
    one, two = Keeper(b, "one"), Keeper(b, "two")
    assert one("fill", "n", b"300") == "300"
    assert one("delete", "n7") == "ok" and one("set", "n8", b"changed") == "ok" and one("set", "empty", b"") == "ok"
    assert two("set", "n8", b"other") == "ok"
    for i in range(20):
        assert one("set", "n9", b"%d" % i) == "ok", "the last one counts"
    assert two("keep", "last", b"x") == "ok", "it is on the disk, and so is what came before"
    for again in (b.kill9, b.stop):
        again()
        mark = b.mark()
        b.start()
        b.wait_log(r'plugin "one": found 300 values', since=mark)
        one, two = Keeper(b, "one"), Keeper(b, "two")
        assert one("get", "n7") == "-5" and one("get", "n8") == "changed" and one("get", "n299") == "filled"
        assert one("each", "e") == "empty= ok" and one("get", "n9") == "19"
        assert two("each", "") == "last=x n8=other ok"
    # What is deleted stays so, also when the plugin is not there at the next start.
    assert one("delete", "n8") == "ok" and one("keep", "n9", b"20") == "ok"
    b.kill9()
    b.configure(plugins=keepers(two={})).start()
    assert [x["count"] for x in b.ctl_json("plugin", "list")["values_of_others"]] == [299]
    b.configure(plugins=keepers(one={}, two={})).reload()
    b.wait_log(r'plugin "one": found 299 values')
    assert Keeper(b, "one")("get", "n8") == "-5" and Keeper(b, "one")("get", "n9") == "20"


@broker(own=True, plugins=keepers(one={}), top=STRICT)
def test_forgotten_values_do_not_come_back(b):
    assert Keeper(b)("keep", "k", b"v") == "ok"
    b.configure(plugins=keepers(one={"enabled": False})).reload()
    eventually(lambda: b.ctl("plugin", "forget", "one", code=None).returncode == 0, "it has ended")
    b.stop()
    mark = b.mark()
    b.configure(plugins=keepers(one={})).start()
    b.wait_log(r'plugin "one": found 0 values', since=mark)


@broker(own=True, plugins=keepers(one={}))
def test_without_durability_they_end_with_the_process(b):
    assert Keeper(b)("keep", "k", b"v") == "ok", "it is as durable as it will be"
    b.stop()
    b.start()
    assert Keeper(b)("get", "k") == "-5"
