# SPDX-License-Identifier: Apache-2.0
"""webhook and its outbox: restarts, kill -9 of everybody, reloads, limits, disks that are slow, full or lie, and acknowledgements that
wait for it."""
import contextlib
import os
import random
import re
import sqlite3
import threading
import time

from lib.broker import FACTOR, TIMEOUT
from lib.case import each
from lib.disk import Disk
from lib.hooks import eventually
from lib.mqtt import *  # noqa: F401,F403
from lib.proc import MIB, memory, slack
from lib.receiver import Receiver, in_order
from lib.webhook import Hooked, dead_letters, endpoint, hooked, publish, section

FOREVER = 3600


def down():
    """A receiver that is not there yet."""
    return Receiver(tls=False)


def numbers(r, **fields):
    return [e.number for e in r.events(**fields)]


def waits(b, count, name="main"):
    eventually(lambda: b.status(name)["waiting"] == count, "%d events wait" % count)


def stored(b, count, name="main"):
    eventually(lambda: b.status(name)["in_outbox"] == count, "%d events are in the outbox" % count)


# ---- ends and beginnings ---------------------------------------------------------------------------------


@each(killed=(False, True))
def test_what_waits_outlives_the_broker(killed):
    with down() as r, hooked(r) as b:
        for i in range(4):
            publish(b, "c%d" % i, 300)
        stored(b, 1200)
        b.close_clients()
        b.kill9() if killed else b.stop()
        b.start()
        waits(b, 1200)
        publish(b, "late", 10)
        r.start()
        r.wait_events(1210)
        assert in_order(r.events(), lambda e: e.client) == dict({"c%d" % i: 300 for i in range(4)}, late=10)
        stored(b, 0)
        assert len(r.events()) == 1210
        b.close_clients()
        b.stop()
        b.start()
        waits(b, 0)
        assert len(r.deliveries()) == len(r.deliveries(taken=True))


def test_more_than_fits_into_memory_is_read_back_in_order():
    with down() as r, hooked(r, memory="64k", when_full="stop_publishers", requests=3) as b:
        before = memory(b)
        for i in range(6):
            publish(b, "c%d" % i, 700, pad=300)
        waits(b, 4200)
        assert memory(b) < before + 16 * MIB + slack(b)
        r.start()
        c = publish(b, "c0", 100, first=701, client=b.clients[0])  # while the rest is sent
        r.wait_events(4300)
        publish(b, "c0", 10, first=801, client=c)
        r.wait_events(4310)
        assert in_order(r.events(), lambda e: e.client) == dict({"c%d" % i: 700 for i in range(1, 6)}, c0=810)
        assert len(r.events()) == 4310, "each once"
        stored(b, 0)


@each(outbox=("disk", "memory"))
def test_a_receiver_that_is_killed_and_paused_again_and_again(outbox):
    with Receiver(tls=outbox == "disk").start() as r, hooked(r, requests=3, batch_events=10, section_options={"outbox": outbox},
                                                             request_timeout="%dms" % (500 * FACTOR)) as b:
        rng = random.Random(7)
        for turn in range(4):
            for name in ("one", "two", "three"):
                publish(b, name, 150, 1 + 150 * turn, client=next((c for c in b.clients if c.client_id == name), None))
                if rng.random() < 0.6:
                    r.kill9()
                    r.start()
                else:
                    r.pause()
                    publish(b, "four", 1, 1 + len(numbers(r, client="four")))
                    r.resume()
        r.wait(lambda r: all(len(set(numbers(r, client=n))) == 600 for n in ("one", "two", "three")), "all")
        events = [e for e in r.events() if e.client != "four"]
        assert in_order(events, lambda e: e.client) == {"one": 600, "two": 600, "three": 600}


def test_an_outbox_in_memory_is_lost_with_the_broker_and_says_so():
    with down() as r, hooked(r, section_options={"outbox": "memory"}) as b:
        publish(b, "c", 50)
        waits(b, 50)
        assert not os.listdir(b.path("outbox"))
        b.close_clients()
        b.stop()
        assert b.log_lines("50 events were not sent before the end, and are lost")
        b.start()
        waits(b, 0)


def test_what_waits_is_still_sent_while_the_broker_stops():
    with Receiver(tls=False).start() as r, hooked(r, batch_time="60s", section_options={"outbox": "memory", "stop_timeout": "2s"}) as b:
        publish(b, "c", 20)
        r.does("slow", delay=0.1)
        waits(b, 20)
        b.configure(plugins=section({"main": endpoint(r.url("/events", host="127.0.0.1"), batch_events=4)}, outbox="memory", stop_timeout="2s"))
        b.close_clients()
        b.reload()
        r.wait(lambda r: len(numbers(r)) > 0, "the first of them")  # names are looked up while the broker runs
        b.stop()
        assert numbers(r) == list(range(1, 21))


# ---- kill -9 -------------------------------------------------------------------------------------------------


class Publisher(threading.Thread):
    """Publishes "NAME 1" ... with QoS 1 or 2 from a session that is kept, whatever happens to the broker; what was not acknowledged is
    sent again after a reconnect. acknowledged: how far."""

    def __init__(self, b, name, qos):
        super().__init__(daemon=True)
        self.b, self.name_, self.qos, self.acknowledged, self.ending, self.fault = b, name, qos, 0, False, None

    def run(self):
        while not self.ending:
            try:
                self.session()
            except (AssertionError, OSError):
                time.sleep(0.01)

    def session(self):
        with contextlib.closing(Client(self.b.address(), V5)) as c:
            c.connect(self.name_, clean=False, props=[(P.SESSION_EXPIRY, 10000)])
            while not self.ending:
                number = self.acknowledged + 1
                packet_id = number % 60000 + 1
                c.send_publish("t", "%s %d" % (self.name_, number), qos=self.qos, packet_id=packet_id, dup=True)
                p = c.recv()
                assert p.type == (PUBACK if self.qos == 1 else PUBREC) and p.packet_id == packet_id, p
                if p.reason >= 0x80:
                    continue
                if self.qos == 2:
                    c.pubrel(packet_id)
                    c.expect(PUBCOMP, packet_id=packet_id)
                self.acknowledged = number


@each(durability=("off", "strict"))
def test_every_event_of_an_acknowledged_message_arrives_whoever_is_killed(durability):
    with Receiver(tls=False).start() as r, hooked(r, requests=3, batch_events=20, section_options={"acknowledge": "after_outbox"}) as b:
        b.options["top"] = {"store": {"durability": durability}}
        b.options["listeners"] = {"mqtt": {"bind": "127.0.0.1:%d" % b.port, "anonymous": True}}
        b.stop()
        b.start()
        publishers = [Publisher(b, "p%d" % i, 1 + i % 2) for i in range(4)]
        for p in publishers:
            p.start()
        for turn in range(4):
            goal = [p.acknowledged + 25 for p in publishers]
            eventually(lambda: all(p.acknowledged >= g for p, g in zip(publishers, goal)), "it goes on", 2 * TIMEOUT)
            b.kill9()
            if turn % 2:
                r.kill9()
            b.start()
            if turn % 2:
                r.start()
            r.does("status", status=500, times=3)
        eventually(lambda: all(p.acknowledged >= g + 25 for p, g in zip(publishers, goal)), "it goes on", 2 * TIMEOUT)
        for p in publishers:
            p.ending = True
        for p in publishers:
            p.join(TIMEOUT)
        waits(b, 0)
        by_id = {}
        for p in publishers:
            seen = 0
            for e in r.events(client=p.name_):
                assert by_id.setdefault(e.id, e.payload) == e.payload, "an id that is not its own"
                assert e.number <= seen + 1, "%s: %d after %d" % (p.name_, e.number, seen)
                seen = max(seen, e.number)
            assert seen >= p.acknowledged > 100, (p.name_, seen, p.acknowledged)


# ---- reloads -----------------------------------------------------------------------------------------------------


def test_reloads_in_the_middle_of_it_lose_nothing():
    with Receiver(tls=False).start() as r, hooked(r, requests=3, batch_events=10) as b:
        r.does("slow", delay=0.002)
        c = {n: b.connect(V5, n) for n in ("one", "two")}
        for turn in range(6):
            for name, client in c.items():
                publish(b, name, 200, 1 + 200 * turn, client=client)
            if turn % 3 == 0:  # it stays as it is
                b.configure(limits={"max_inflight": 20 + turn})
            else:
                b.configure(plugins=section({"main": endpoint(r, requests=1 + turn, batch_events=5 * turn)}))
            b.reload()
        r.wait_events(2400)
        assert in_order(r.events(), lambda e: e.client) == {"one": 1200, "two": 1200}
        stored(b, 0)


@each(outbox=("disk", "memory"))
def test_a_backlog_goes_over_to_the_instance_of_a_reload(outbox):
    with down() as r, hooked(r, section_options={"outbox": outbox}) as b:
        publish(b, "c", 500)
        waits(b, 500)
        for requests in (1, 2, 3):
            b.configure(plugins=section({"main": endpoint(r, requests=requests)}, outbox=outbox))
            b.reload()
            waits(b, 500)
        r.start()
        r.wait_events(500)
        assert numbers(r) == list(range(1, 501))


def test_a_reload_that_fails_leaves_the_outbox_where_it_was():
    with Receiver(tls=False).start() as r, hooked(r) as b:
        b.configure(plugins=dict(section({"main": endpoint(r, batch_events=2)}), bad={"module": "refuse-worker-start"}))
        b.reload(good=False)  # the new instance had started
        publish(b, "c", 20)
        r.wait(lambda r: set(numbers(r)) == set(range(1, 21)), "all")
        b.configure(plugins=section({"main": endpoint(r, batch_events=2)})).reload()
        publish(b, "d", 20)
        r.wait(lambda r: set(numbers(r, client="d")) == set(range(1, 21)), "all of the next one")


def test_an_endpoint_that_leaves_and_comes_back_finds_what_waited_for_it():
    with down() as r, Receiver(tls=False).start() as other, hooked(r) as b:
        publish(b, "c", 30)
        stored(b, 30)
        mark = b.mark()
        b.configure(plugins=section({"other": endpoint(other)}))
        b.reload()
        b.wait_log('30 events and 0 dead letters of an endpoint "main"', since=mark)
        publish(b, "d", 10)
        other.wait_events(10)
        assert {e.client for e in other.events()} == {"d"}
        b.configure(plugins=section({"main": endpoint(r), "other": endpoint(other)}))
        b.reload()
        r.start()
        assert [e.number for e in r.wait_events(30)] == list(range(1, 31))


def test_a_section_that_leaves_and_comes_back():
    with down() as r, hooked(r) as b:
        publish(b, "c", 30)
        waits(b, 30)
        b.configure(plugins={})
        b.reload()
        publish(b, "nobody", 10)
        b.configure(plugins=section({"main": endpoint(r)}))
        b.reload()
        r.start()
        assert [e.number for e in r.wait_events(30)] == list(range(1, 31))
        assert not r.events(client="nobody")


def test_dead_letters_outlive_the_broker():
    with Receiver(tls=False).start() as r, hooked(r) as b:
        r.does("status", status=400, body="never")
        publish(b, "c", 3)
        eventually(lambda: b.status()["dead_letters"] == 3, "three were refused")
        before = dead_letters(b)
        b.close_clients()
        b.kill9()
        b.start()
        eventually(lambda: b.status()["dead_letters"] == 3, "they are still there")
        assert dead_letters(b) == before
        r.does()
        b.run("replay", "main")
        r.wait_events(3)
        assert {e.id for e in r.events()} == {x["event"]["id"] for x in before}


def test_dead_letters_that_have_no_room_stay_and_that_is_said():
    with Receiver(tls=False).start() as r, hooked(r, max_bytes="64k", when_full="drop_new") as b:
        r.does("status", status=400)
        publish(b, "c", 1)
        eventually(lambda: b.status()["dead_letters"] == 1, "it was refused")
        r.does("hang")
        r.kill9()
        publish(b, "d", 500, pad=1000)
        eventually(lambda: b.status()["lost"]["full"] > 0 and b.status()["waiting"] == b.status()["in_outbox"], "it is full, and written")
        if b.status()["outbox_bytes"] < 65536:
            publish(b, "e", 1, pad=60000)
            eventually(lambda: b.status()["outbox_bytes"] >= 65536, "really")
        assert "no room" in b.run("replay", "main")["error"]
        assert len(dead_letters(b)) == 1


def test_two_endpoints_do_not_wait_for_each_other():
    with Receiver(tls=False).start() as r, Receiver(tls=False).start() as stuck:
        stuck.does("hang")
        with Hooked(plugins=section({"good": endpoint(r), "stuck": endpoint(stuck)})) as b:
            publish(b, "c", 2000)
            r.wait_events(2000)
            assert b.status("stuck")["waiting"] == 2000
            assert b.status("good")["waiting"] == 0
            stuck.does()
            stuck.kill9()
            stuck.start()
            stuck.wait_events(2000)
            assert in_order(stuck.events(), lambda e: e.client) == {"c": 2000}


# ---- limits ------------------------------------------------------------------------------------------------------


MAX, BATCH = 200 << 10, 128 << 10


@each(policy=("drop_oldest", "drop_new"))
@each(outbox=("disk", "memory"))
def test_a_full_outbox_drops_what_it_says_and_tells_of_it(policy, outbox):
    with down() as r, hooked(r, max_bytes="200k", memory="64k", when_full=policy, batch_events=10, requests=1,
                             section_options={"outbox": outbox}, events=["message_published", "gap"]) as b:
        publish(b, "c", 3000, pad=100)
        eventually(lambda: b.status()["lost"]["full"] > 0 and b.status()["outbox_bytes"] <= MAX + BATCH, "it is full")
        count = 3000
        # Of the many at once perhaps more came than the disk could take. Now it has all, and what comes shows the policy.
        for before in iter(lambda: b.status()["lost"]["full"], None):
            eventually(lambda: b.status()["waiting"] == b.status()["in_outbox"], "all is written")
            count += 1
            publish(b, "c", 1, first=count, pad=20000)
            if policy == "drop_oldest" or b.status()["lost"]["full"] > before:
                break
        r.start()
        waits(b, 0)
        gaps = r.wait_events(1, "gap")
        eventually(lambda: sum(e.data["lost"] for e in {e.id: e for e in r.events("gap")}.values()) == b.status()["lost"]["full"],
                   "all that was lost is told")
        got = numbers(r, kind="message_published")
        lost = b.status()["lost"]["full"]
        assert got == sorted(got) and len(set(got)) == len(got) and len(got) + lost == count, (len(got), lost)
        assert got[0] == 1, "what is being sent stays"
        assert (got[-1] == count) == (policy == "drop_oldest"), got[-5:]
        assert gaps[0].data["reason"], gaps[0].data
        assert b.metric('grapnel_plugin_lost_total{plugin="webhook"}') == lost
        assert b.log_lines("events are lost: its outbox is full") and b.log_lines("goes on; %d events were lost" % lost)


@each(how=("restart", "reload"))
def test_what_was_lost_is_told_by_whoever_comes_next(how):
    more = dict(max_bytes="200k", memory="64k", when_full="drop_new", events=["message_published", "gap"])
    with down() as r, hooked(r, **more) as b:
        publish(b, "c", 3000, pad=100)
        eventually(lambda: b.status()["lost"]["full"] > 0 and b.status()["waiting"] == b.status()["in_outbox"], "it is full, and written")
        lost = b.status()["lost"]["full"]
        b.close_clients()
        if how == "restart":
            b.stop()
            b.start()
        else:
            b.configure(plugins=section({"main": endpoint(r, requests=2, **more)}))
            b.reload()
        r.start()
        # Not status: a new instance does not know yet what waits.
        eventually(lambda: len({e.id for e in r.events("message_published")}) >= 3000 - lost, "all that was kept arrives")
        eventually(lambda: sum({e.id: e.data["lost"] for e in r.events("gap")}.values()) >= lost, "all that was lost is told")
        waits(b, 0)
        assert sum({e.id: e.data["lost"] for e in r.events("gap")}.values()) == lost, (r.events("gap"), lost)
        assert len({e.id for e in r.events("message_published")}) == 3000 - lost


def test_what_another_format_cannot_say_is_not_sent():
    with down() as r, hooked(r, events=["message_published", "subscribed"]) as b:
        c = b.connect(V5, "c")
        c.subscribe("x")
        publish(b, "c", 3, client=c)
        c.subscribe("y")
        stored(b, 5)
        b.configure(plugins=section({"main": endpoint(r, format="nanomq", requests=1)}))
        b.reload()
        r.start()
        waits(b, 0)
        stored(b, 0)
        assert [d.json().get("action") for d in r.deliveries()] == ["message_publish"] * 3, r.deliveries()


@each(qos=(0, 1))
def test_publishers_wait_for_room_if_asked_for(qos):
    with down() as r, hooked(r, max_bytes="64k", when_full="stop_publishers") as b:
        b.again({"webhook": dict(b.options["plugins"]["webhook"], event_queue=100)})
        b.configure()
        b.reload()
        done = []

        def pour():
            publish(b, "c", 3000, qos=qos, pad=200)
            done.append(True)
        thread = threading.Thread(target=pour, daemon=True)
        thread.start()
        b.wait_log("its event queue on worker . is full; publishers wait")
        assert not done or qos == 0
        b.connect(V5, "other").ping()
        r.start()
        r.wait_events(3000)
        thread.join(TIMEOUT)
        assert done and in_order(r.events(), lambda e: e.client) == {"c": 3000}
        assert b.status()["lost"] == {"full": 0, "too_old": 0, "damaged": 0, "no_memory": 0}, b.status()


def test_what_is_too_old_is_thrown_away_and_told():
    with down() as r, hooked(r, max_age="700ms", events=["message_published", "gap"]) as b:
        c = publish(b, "c", 500, pad=200)
        eventually(lambda: b.status()["lost"]["too_old"] == 500 and b.status()["waiting"] == 0, "they were too old")
        r.start()
        publish(b, "c", 1, first=501, client=c)
        gap, = r.wait_events(1, "gap")
        assert gap.data["lost"] == 500 and numbers(r, kind="message_published") == [501], r.events()


# ---- acknowledgements -----------------------------------------------------------------------------------------------


AFTER = {"acknowledge": "after_outbox"}


@contextlib.contextmanager
def on_disk(r, section_options=None, **options):
    """With a disk that does what it is told (lib/disk.py)."""
    b = hooked(r, section_options, **options)
    disk = Disk(b.path("outbox"), platter=True)
    b.env.update(disk.env)
    b.disk = disk
    with b:
        try:
            yield b
        finally:
            disk.works()
            disk.slow(0)


@each(v=(V311, V5))
def test_acknowledgements_wait_for_the_outbox(v):
    with down() as r, on_disk(r, dict(AFTER, timeout="60s"), topics=["t/#"]) as b:
        c, d = b.connect(v, "c"), b.connect(v, "d")
        assert c.publish("t/1", "c 1", qos=1) < 0x80
        b.disk.slow(FOREVER)
        ids = [(qos, c.send_publish("t/x", "c %d" % (i + 2), qos=qos)) for i, qos in enumerate((1, 2, 1))]
        assert d.publish("other", "x", qos=1) < 0x80, "nobody wants that one"
        assert d.publish("other", "x", qos=2) < 0x80
        d.publish("t/y", "d 1", qos=0)
        b.wait_metric('grapnel_plugin_acknowledgements_held{plugin="webhook"}', 3)
        c.expect_nothing()
        b.disk.slow(0)
        for qos, packet_id in ids:
            c.expect(PUBACK if qos == 1 else PUBREC, packet_id=packet_id)
        c.pubrel(ids[1][1])
        c.expect(PUBCOMP, packet_id=ids[1][1])
        b.wait_metric('grapnel_plugin_acknowledgements_held{plugin="webhook"}', 0)
        b.close_clients()
        b.kill9()
        b.disk.cut()
        b.start()
        r.start()
        r.wait(lambda r: len(set(numbers(r, client="c"))) == 4, "what was acknowledged survives a loss of power")


@each(v=(V311, V5))
def test_an_acknowledgement_is_refused_when_its_time_is_over(v):
    with down() as r, on_disk(r, dict(AFTER, timeout="%dms" % (300 * FACTOR))) as b:
        c = b.connect(v, "c")
        b.disk.slow(FOREVER)
        c.send_publish("t", "c 1", qos=1)
        if v == V5:
            p = c.expect(PUBACK)
            assert p.reason >= 0x80, p
            b.disk.slow(0)
            assert c.publish("t", "c 2", qos=1) < 0x80
        else:
            c.expect_close()
            b.disk.slow(0)


@each(error=("EIO", "ENOSPC"))
def test_a_disk_that_fails_holds_acknowledgements_but_no_events(error):
    with Receiver(tls=False).start() as r, on_disk(r, dict(AFTER, timeout="60s")) as b:
        c = publish(b, "c", 10)
        r.wait_events(10)
        r.kill9()
        b.disk.fail(error, "write", "sync", "grow")
        packet_id = c.send_publish("t", "c 11", qos=1)
        b.wait_log("the outbox cannot be used: ")
        c.expect_nothing()
        r.start()
        c.expect(PUBACK, packet_id=packet_id)  # it was delivered
        r.wait_events(11)
        c.publish("t", "c 12", qos=1)
        r.wait_events(12)
        b.disk.works()
        b.wait_log("the outbox can be used again")
        publish(b, "c", 10, first=13, client=c)
        r.wait_events(22)
        assert in_order(r.events(), lambda e: e.client) == {"c": 22}, numbers(r)


def test_an_acknowledgement_waits_for_the_dead_letter_of_its_event():
    failures = 'grapnel_plugin_outbox_failures_total{plugin="webhook"}'
    with down() as r, on_disk(r, dict(AFTER, timeout="60s")) as b:
        c = publish(b, "c", 1)
        b.disk.fail("EIO", "write", "sync", "grow")
        packet_id = c.send_publish("t", "c 2", qos=1)
        b.wait_log("the outbox cannot be used: ")
        r.does("status", status=400)
        r.start()
        eventually(lambda: b.status()["waiting"] == 0, "it was refused")
        count = b.metric(failures)
        b.wait_metric(failures, lambda n: n >= count + 2)
        c.expect_nothing()
        b.disk.works()
        c.expect(PUBACK, packet_id=packet_id)
        eventually(lambda: b.status()["dead_letters"] == 2, "both are dead letters")


def test_a_message_whose_event_cannot_be_kept_is_refused():
    with down() as r, hooked(r, max_bytes="64k", when_full="drop_new", section_options=AFTER) as b:
        c = b.connect(V5, "c")
        codes = []
        eventually(lambda: codes.append(c.publish("t", "c %d%s" % (len(codes) + 1, "." * 2000), qos=1)) or codes[-1] >= 0x80,
                   "it is full")
        assert codes[-1] == 0x97 and set(codes[:-1]) <= {0, 0x10}, codes
        r.start()
        kept = len(codes) - 1
        r.wait_events(kept)
        assert numbers(r, client="c")[:kept] == list(range(1, kept + 1))


def test_a_disk_that_cannot_be_read_is_not_taken_for_damage():
    failures = 'grapnel_plugin_outbox_failures_total{plugin="webhook"}'
    with down() as r, on_disk(r, memory="64k", when_full="stop_publishers") as b:
        publish(b, "c", 3000, pad=3000)  # more than a database keeps in memory
        stored(b, 3000)
        b.disk.fail("EIO", "read")
        r.start()
        b.wait_metric(failures, lambda n: n >= 2)
        b.disk.works()
        r.wait_events(3000)
        assert in_order(r.events(), lambda e: e.client) == {"c": 3000}
        assert b.status()["lost"]["damaged"] == 0 and not [n for n in os.listdir(b.path("outbox")) if "damaged" in n]
        b.wait_log("the outbox can be used again")


def test_a_message_of_qos_2_that_comes_again_waits_for_the_outbox_too():
    with down() as r, on_disk(r, dict(AFTER, timeout="60s"), topics=["t/#"]) as b:
        name = "kept"
        c = b.connect(V5, name, props=[(P.SESSION_EXPIRY, 100)])
        b.disk.slow(FOREVER)
        packet_id = c.send_publish("t/1", "kept 1", qos=2)
        b.wait_metric('grapnel_plugin_acknowledgements_held{plugin="webhook"}', 1)
        c.reset()
        b.wait_metric('grapnel_plugin_acknowledgements_held{plugin="webhook"}', 0)
        c = b.connect(V5, name, clean=False, session_present=True, props=[(P.SESSION_EXPIRY, 100)])
        c.send_publish("t/1", "kept 1", qos=2, packet_id=packet_id, dup=True)
        c.expect_nothing()
        b.disk.slow(0)
        c.expect(PUBREC, packet_id=packet_id)
        r.start()
        assert len(r.wait_events(1)) == 1


# ---- files ------------------------------------------------------------------------------------------------------------


@each(damage=("garbage", "torn", "another database", "rows"))
def test_a_damaged_outbox_is_set_aside(damage):
    with down() as r, hooked(r, memory="64k", when_full="stop_publishers") as b:
        publish(b, "c", 500, pad=500)
        stored(b, 500)
        b.close_clients()
        b.stop()
        path = b.path("outbox/outbox")
        if damage == "garbage":
            with open(path, "wb") as f:
                f.write(os.urandom(40000))
        elif damage == "torn":
            with open(path, "r+b") as f:
                f.truncate(os.path.getsize(path) // 2)
        elif damage == "another database":
            os.unlink(path)
            with contextlib.closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE x (y)")
                db.commit()
        else:
            with contextlib.closing(sqlite3.connect(path)) as db:
                count, = db.execute("SELECT count(*) FROM parcel").fetchone()
                assert count > 2
                ids = [i for i, in db.execute("SELECT id FROM parcel ORDER BY id")]
                db.execute("UPDATE parcel SET data = randomblob(length(data)) WHERE id = ?", (ids[0],))
                db.execute("UPDATE parcel SET events = 99999999999 WHERE id = ?", (ids[1],))
                db.commit()
        r.start()
        if damage == "another database":
            b.start()
            publish(b, "d", 5)
            r.wait_events(5, client="d")
            aside, = [n for n in os.listdir(b.path("outbox")) if re.search(r"damaged-\d+$", n)]
            with contextlib.closing(sqlite3.connect(b.path("outbox/" + aside))) as db:
                assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("x",)], "it is kept as it was"
            return
        b.start()
        publish(b, "d", 5)
        r.wait_events(5, client="d")
        if damage != "rows":
            eventually(lambda: [n for n in os.listdir(b.path("outbox")) if "damaged" in n], "it is kept aside")
            assert b.log_lines("damaged")
        else:
            waits(b, 0)
            assert b.status()["lost"]["damaged"] > 0
            got = numbers(r, client="c")
            assert got == sorted(got) and 0 < len(got) < 500


def test_the_file_is_for_its_owner_alone():
    with down() as r, hooked(r) as b:
        publish(b, "c", 5)
        stored(b, 5)
        for name in os.listdir(b.path("outbox")):
            assert os.stat(b.path("outbox/" + name)).st_mode & 0o077 == 0, name


def test_another_process_that_has_it_open_is_named():
    with down() as r, hooked(r) as b:
        publish(b, "c", 1)
        stored(b, 1)
        two = hooked(r, section_options={"path": b.path("outbox/outbox")})
        with two:
            two.wait_log("the outbox cannot be used: .*another process has it open")
            publish(two, "d", 1)
            b.close_clients()
            b.stop()
            two.wait_log("the outbox can be used again")
            r.start()
            r.wait_events(2)
