# SPDX-License-Identifier: Apache-2.0
"""Plugins come, change and go by reload, while clients stay connected."""
import os
import re
import shutil
import threading

from lib.broker import PLUGINS
from lib.case import broker, each
from lib.hooks import Events, Gate, eventually, gate
from lib.mqtt import PUBACK, V311, V5, P

ALLOW = {"module": "verdict", "order": 90, "client_authenticate": "allow", "acl_check": "allow"}
DESTROYED = r'plugin "gate": destroyed: '


def plugins(**options):
    return {"gate": gate(**options), "allow": ALLOW}


def deny(topic, **options):
    return dict({"module": "verdict", "order": 10, "acl_check": "deny", "only_topic": topic}, **options)


@broker(own=True, plugins=plugins(hooks=["client_authenticate", "acl_check"]))
def test_changed_options_make_a_new_instance_and_the_old_one_ends(b):
    clients = [b.connect((V311, V5)[i % 2], "c%d" % i) for i in range(10)]
    mark = b.mark()
    b.configure(plugins=plugins(hooks=["client_authenticate", "acl_check"], verdict="next")).reload()
    line = b.wait_log(DESTROYED, since=mark)
    assert line.endswith("0 workers, slots made 10 freed 10"), line
    for c in clients:
        assert c.publish("t", b"x", qos=1) in (0, 0x10)
    b.stop()
    line = b.log_lines(DESTROYED)[-1]
    made, freed = re.search(r"made (\d+) freed (\d+)$", line).groups()
    assert made == freed and int(made) > 0, line
    assert len(b.log_lines(DESTROYED)) == 2


@broker(own=True)
def test_a_file_that_was_replaced_makes_a_new_instance_and_one_that_is_as_it_was_does_not(b):
    path = os.path.join(b.dir, "copy.so")
    shutil.copyfile(os.path.join(PLUGINS, "gate.so"), path)
    both = {"gate": gate(module=path), "allow": ALLOW}
    b.configure(plugins=both).reload()
    c = b.connect(V5)
    b.reload()
    assert not b.log_lines(DESTROYED)
    shutil.copyfile(os.path.join(PLUGINS, "gate.so"), path + ".new")
    os.rename(path + ".new", path)
    b.reload()
    b.wait_log(DESTROYED)
    os.unlink(path)     # a package that was removed keeps nobody from reloading
    b.reload()
    assert len(b.log_lines(DESTROYED)) == 1
    assert c.publish("t", b"x", qos=1) in (0, 0x10)


@broker(own=True, plugins=plugins(hooks=["acl_check"]))
def test_what_is_pending_is_finished_by_the_old_instance(b):
    c, d = b.connect(V5, "c"), b.connect(V5, "d")
    g = Gate(b).close()
    packet_id = c.send_publish("t", b"x", qos=1)
    n = g.asked("acl_check-publish", "c")
    mark = b.mark()
    b.configure(plugins=plugins(hooks=["acl_check"], hold="{dir}/other", verdict="next")).reload()
    assert d.publish("t", b"x", qos=1) == 0x10, "the new one decides already"
    assert c.poll(0.05) is None
    assert not b.log_lines(DESTROYED, since=mark), "the old one has a request yet"
    g.open()
    g.resolved(n)
    c.expect(PUBACK, packet_id=packet_id)
    b.wait_log(DESTROYED + "0 workers", since=mark)


@broker(own=True, plugins=plugins(hooks=["client_authenticate"], late=True))
def test_an_old_instance_that_never_answers_holds_up_no_reload_but_its_own_end(b):
    g = Gate(b).close()
    c = b.client(V5)
    c.send_connect("c")
    n = g.asked("client_authenticate", "c")
    for i in range(3):
        b.configure(plugins=plugins(hooks=["client_authenticate"], hold="{dir}/other%d" % i)).reload()
        b.connect(V5).ping()
    c.reset()
    g.cancelled(n)
    eventually(lambda: len(b.log_lines(DESTROYED)) == 2, "the two in between have ended")
    g.open()
    g.resolved(n, "cancelled")
    eventually(lambda: len(b.log_lines(DESTROYED + "0 workers, slots made 1 freed 1$")) == 3, "now the first one, too")


@broker(own=True, plugins={"first": deny("no/*"), "gate": gate(), "allow": ALLOW})
def test_one_create_that_fails_keeps_everything_as_it_was(b):
    c = b.connect(V5)
    assert c.publish("no/x", b"x", qos=1) == 0x87
    mark = b.mark()
    b.configure(plugins={"first": deny("yes/*"), "second": deny("x", rules="allow nonsense"), "gate": gate(verdict="deny"),
                         "third": {"module": "refuse-create", "needed": "x"}, "allow": ALLOW})
    line = b.reload(good=False)
    assert "nothing was changed: 2 errors" in line, line
    b.wait_log(r'error .*grapnel.conf:\d+: plugin "second": .*rules:1', since=mark)
    b.wait_log(r'plugin "third": it cannot start', since=mark)
    assert c.publish("no/x", b"x", qos=1) == 0x87
    assert c.publish("yes/x", b"x", qos=1) == 0x10
    # The fresh gate has been destroyed again, the old one goes on.
    b.wait_log(DESTROYED + "0 workers, slots made 0 freed 0", since=mark)
    c.ping()


@broker(own=True, plugins={"first": deny("no/*"), "gate": gate(), "allow": ALLOW})
def test_one_worker_start_that_fails_keeps_everything_as_it_was(b):
    c = b.connect(V5)
    mark = b.mark()
    b.configure(plugins={"first": deny("yes/*"), "gate": gate(verdict="deny"), "bad": {"module": "refuse-worker-start"},
                         "allow": ALLOW})
    b.reload(good=False)
    b.wait_log(r'plugin "bad": worker_start failed on worker \d', since=mark)
    assert c.publish("no/x", b"x", qos=1) == 0x87
    assert c.publish("yes/x", b"x", qos=1) == 0x10
    b.wait_log(DESTROYED + "0 workers, slots made 0 freed 0", since=mark)
    # And the next good one counts.
    b.configure(plugins={"first": deny("yes/*"), "gate": gate(), "allow": ALLOW}).reload()
    assert c.publish("no/x", b"x", qos=1) == 0x10
    assert c.publish("yes/x", b"x", qos=1) == 0x87


@broker(own=True, plugins={"allow": ALLOW})
def test_a_plugin_is_added_and_removed(b):
    c = b.connect(V5)
    c.subscribe("no/#")
    assert c.publish("no/x", b"1", qos=1) == 0
    c.expect_message("no/x", b"1")
    b.configure(plugins={"allow": ALLOW, "no": deny("no/*", only_action="publish"), "scribe": {"file": "{dir}/events"}}).reload()
    e = Events(b)
    assert c.publish("no/x", b"2", qos=1) == 0x87
    assert c.publish("yes/x", b"3", qos=1) == 0x10
    e.wait("message_published", topic="yes/x")
    b.configure(plugins={"allow": ALLOW, "no": dict(deny("no/*"), enabled=False)}).reload()
    seen = len(e.read())
    assert c.publish("no/x", b"4", qos=1) == 0
    c.expect_message("no/x", b"4")
    assert len(e.read()) == seen, "scribe is gone"
    assert [p["name"] for p in b.ctl_json("plugin", "list")["plugins"]] == ["allow"]


@broker(own=True, plugins={"gate": gate(hooks=["acl_check"], only_topic="x"), "allow": ALLOW, "no": deny("no/*", order=95)})
def test_order_and_policies_change_without_a_new_instance(b):
    c = b.connect(V5)
    assert c.publish("no/x", b"x", qos=1) == 0x10, "it is asked last"
    b.configure(plugins={"gate": gate(hooks=["acl_check"], only_topic="x", max_pending=7, on_error="deny", timeout="3s"),
                         "allow": ALLOW, "no": deny("no/*", order=5)}).reload()
    assert c.publish("no/x", b"x", qos=1) == 0x87
    shown = b.ctl_json("plugin", "show", "gate")
    assert (shown["max_pending"], shown["on_error"]) == (7, "deny"), shown
    assert not b.log_lines(DESTROYED)


@broker(own=True, plugins={"scribe": {"file": "{dir}/events"}, "allow": ALLOW})
def test_rights_are_asked_again_after_a_reload(b):
    c, p = b.connect(V5, "c"), b.connect(V5, "p")
    c.subscribe("t/#")
    assert p.publish("t/x", b"1", qos=1) == 0
    c.expect_message("t/x", b"1")
    b.configure(plugins={"scribe": {"file": "{dir}/events"}, "allow": ALLOW, "no": deny("t/*", only_action="read")}).reload()
    assert p.publish("t/x", b"2", qos=1) == 0
    c.expect_nothing()
    b.configure(plugins={"scribe": {"file": "{dir}/events"}, "allow": ALLOW, "no": deny("t/*", only_action="publish")}).reload()
    assert p.publish("t/x", b"3", qos=1) == 0x87


@broker(own=True, plugins={"let": {"module": "verdict", "client_authenticate": "allow", "acl_check": "allow"}})
def test_who_may_not_stay_is_disconnected_after_a_reload(b):
    c, d = b.connect(V5, "c", username="leaves"), b.connect(V5, "d", username="stays")
    b.configure(plugins={"let": {"module": "verdict", "client_authenticate": "allow", "acl_check": "allow",
                                 "client_revalidate": "deny", "only_user": "leaves"},
                         "rest": ALLOW}).reload()
    c.expect_close(0x87)
    d.ping()


@each(hook=("client_authenticate", "acl_check", "message_publish", "message_deliver", "message_acknowledge"))
@broker(own=True, plugins=lambda hook, **_: plugins(hooks=[hook], verdict="next" if hook[0] != "m" else "allow"))
def test_reloads_under_load_lose_nothing_and_keep_the_order(b, hook):
    verdict = "next" if hook[0] != "m" else "allow"
    receivers = [b.connect(V5, "r%d" % i) for i in range(2)]
    for c in receivers:
        c.subscribe("t/#", qos=1)
    senders = [b.connect(V5, "s%d" % i, props=[(P.RECEIVE_MAXIMUM, 100)]) for i in range(2)]
    n = 300
    failed = []

    def send(i):
        try:
            for k in range(n):
                if senders[i].publish("t/%d" % i, b"%d" % k, qos=1) != 0:
                    failed.append("refused")
        except AssertionError as e:
            failed.append(str(e))

    threads = [threading.Thread(target=send, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for i in range(6):
        b.configure(plugins=plugins(hooks=[hook], verdict=verdict, hold="{dir}/none%d" % i)).reload()
        b.connect(V5, "new%d" % i).ping()
    for t in threads:
        t.join()
    assert not failed, failed
    for c in receivers:
        last = {}
        for _ in range(2 * n):
            p = c.expect_message(qos=1)
            assert int(p.payload) == last.get(p.topic, -1) + 1, (p, last)
            last[p.topic] = int(p.payload)
    b.close_clients()
    b.stop()
    lines = b.log_lines(DESTROYED)
    assert len(lines) == 7, lines
    for line in lines:
        made, freed = re.search(r"0 workers, slots made (\d+) freed (\d+)$", line).groups()
        assert made == freed, line
