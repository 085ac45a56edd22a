# SPDX-License-Identifier: Apache-2.0
"""What must hold for every back end of authentication, whatever it is.

A test file describes its back end:

    class Case(Backend):
        instance = "auth-redis"
        def options(self): return {"servers": ["127.0.0.1:%d" % self.server.port], ...}

with users that logins(), rights() and outages() below expect in it (see USERS), and runs

    CASE = Case(Redis)
    def test_logins(): CASE.logins()
    def test_it_is_killed_under_load(): CASE.killed_under_load()

Nothing here asserts how long something takes: a client that was connected must answer while others wait.
"""
import contextlib
import threading
import time

from .broker import FACTOR, TIMEOUT, Broker
from .mqtt import CONNACK, V5, V311
from .server import Mute

# Who must be in the back end: password, and what the rules say. "%u" is the user's name.
#   alice  "wonder"   publish and read alice/#, subscribe alice/# and shared/%{tenant}/#, attribute tenant = acme
#   bob    "builder"  publish bob/#; nothing to read
#   root   "toor"     superuser
USERS = {"alice": "wonder", "bob": "builder", "root": "toor"}
UNAVAILABLE = {V5: 0x88, V311: 3}
NOT_AUTHORIZED = {V5: (0x86, 0x87), V311: (4, 5)}
NASTY = ("'", '"', "alice' OR '1'='1", "alice\"; DROP TABLE users; --", "*", "*)(uid=*", "alice)(|(uid=*", "alice\r\nSET x y",
         "a&is_superuser=true", "%00", "%u", "${x}", "..", "../alice", "alice/", "+", "#", "alice:acl", "[a-z]*", "\\", "ALICE",
         "alice ", " alice", "älice", "x" * 60000)


class Backend:
    instance = "auth-x"
    module = None           # when instance is not the module's name
    timeout = "%ds" % (3 * FACTOR)  # of the plugin's decisions: what a client waits at most
    knows_unknown = True    # an unknown user is NEXT (a bind-only directory cannot tell)

    def __init__(self, server_class):
        self.server_class = server_class
        self.server = None

    def options(self):
        """Of the plugin's section, for self.server."""
        raise NotImplementedError

    # ---- brokers --------------------------------------------------------------------------------

    def up(self):
        """The server, started if it does not run. @return it."""
        if self.server is None:
            self.server = self.server_class()
        if not self.server.running():
            self.server.start()
        return self.server

    def plugin(self, **changed):
        """Asked each time, and soon again after trouble: what the host keeps is not what is tested here."""
        options = dict({"module": self.module or self.instance, "order": 20, "timeout": self.timeout,
                        "cache": False, "breaker_wait": "100ms", "breaker_max_wait": "200ms"},
                       **self.options())
        options.update(changed)
        return {k: v for k, v in options.items() if v is not None}

    @contextlib.contextmanager
    def broker(self, others=None, workers=2, files=None, top=None, users=None, listeners=None, **changed):
        """A broker with this back end; changed: options of the plugin. users: of auth-file, asked before it."""
        if users:
            changed.setdefault("order", 30)
        plugins = {self.instance: self.plugin(**changed)}
        plugins.update(others or {})
        with Broker(listeners=listeners or {"mqtt": {}}, plugins=plugins, workers=workers, files=files, top=top,
                    users=users) as b:
            yield b

    # ---- small steps ----------------------------------------------------------------------------

    @staticmethod
    def code(b, user, password, v=V5, client_id=None):
        """The code of the CONNACK to this login."""
        c = b.client(v)
        c.send_connect(client_id or b.unique("c"), username=user, password=password)
        code = c.expect(CONNACK).reason
        c.close()
        return code

    def allowed(self, b, user="alice", v=V5):
        code = self.code(b, user, USERS[user], v)
        assert code == 0, "%s: %#x" % (user, code)

    def denied(self, b, user, password, v=V5):
        code = self.code(b, user, password, v)
        assert code in NOT_AUTHORIZED[v], "%.40r %.40r: %#x" % (user, password, code)

    def unavailable(self, b, user="alice", v=V5):
        code = self.code(b, user, USERS[user], v)
        assert code == UNAVAILABLE[v], "%s: %#x" % (user, code)

    def recovers(self, b, user="alice", timeout=60 * FACTOR):
        """By itself, after a while."""
        deadline = time.monotonic() + timeout
        while True:
            code = self.code(b, user, USERS[user])
            if code == 0:
                return
            assert code == 0x88, "while the back end comes back: %#x" % code
            assert time.monotonic() < deadline, "it does not recover"
            time.sleep(0.1)

    # ---- scenarios ------------------------------------------------------------------------------

    def logins(self):
        self.up()
        with self.broker() as b:
            for v in (V311, V5):
                for user in USERS:
                    self.allowed(b, user, v)
                for wrong in ("wonde", "wonder ", "Wonder", "", "wonder\0", "\0wonder", "x" * 60000):
                    self.denied(b, "alice", wrong, v)
                self.denied(b, "alice", None, v)
                self.denied(b, "nobody", "wonder", v)
                self.denied(b, "", "wonder", v)

    def nasty_names(self):
        """None of these is anybody, none breaks anything, and the log stays one line per event."""
        self.up()
        with self.broker() as b:
            for name in NASTY:
                self.denied(b, name, "wonder")
                c = b.client(V5)
                c.send_connect(name, username="alice", password="wonder")
                assert c.expect(CONNACK).reason in (0, 0x85), name
                c.close()
            self.allowed(b)

    def rights(self):
        self.up()
        with self.broker() as b:
            alice = b.connect(V5, username="alice", password="wonder")
            bob = b.connect(V5, username="bob", password="builder")
            root = b.connect(V5, username="root", password="toor")
            alice.subscribe("alice/#", qos=1)
            alice.subscribe("shared/acme/x", qos=1)
            for filter_ in ("bob/#", "shared/other/x", "shared/+/x", "#"):
                alice.subscribe(filter_, qos=1, codes=[0x87])
            assert bob.publish("bob/x", "1", qos=1) in (0, 0x10)
            assert bob.publish("alice/x", "1", qos=1) == 0x87
            assert alice.publish("bob/x", "1", qos=1) == 0x87
            assert alice.publish("alice/x", "mine", qos=1) == 0
            alice.expect_message(topic="alice/x", payload="mine")
            assert root.publish("alice/y", "root", qos=1) == 0
            alice.expect_message(topic="alice/y", payload="root")
            assert root.publish("shared/acme/x", "team", qos=1) in (0, 0x10)
            # It may subscribe to that, but nothing says that it may read it.
            assert root.publish("alice/z", "end", qos=1) == 0
            alice.expect_message(topic="alice/z", payload="end")
            root.subscribe("#", qos=1)
            for topic in ("alice/" + "x" * 3000, "alice'/x", 'alice"/x', "bob/../alice"):
                alice.publish(topic, "x", qos=1)  # one answer, whichever, and the broker lives
            self.allowed(b)

    def stopped_before_start(self):
        """The broker starts without its back end, says so, and finds it when it comes."""
        self.up().stop()
        with self.broker() as b:
            self.unavailable(b)
            self.unavailable(b, v=V311)
            self.server.start()
            self.recovers(b)
            self.settled(b)  # every worker has found it
            self.allowed(b)

    def killed_under_load(self):
        self.outage(lambda: self.server.kill9(), lambda: self.server.start())

    def hung(self):
        self.outage(lambda: self.server.pause(), lambda: self.server.resume())

    def outage(self, begin, end):
        """Who is connected never notices; who comes is told "unavailable", never "wrong password"; then all is well."""
        self.up()
        with self.broker() as b:
            pair = b.connect(V5, "connected", username="alice", password="wonder", keep_alive=0)
            pair.subscribe("alice/#", qos=1)
            ending, codes = threading.Event(), []

            def load(n):
                while not ending.is_set():
                    codes.append(self.code(b, "alice", "wonder", client_id="load-%d" % n))

            threads = [threading.Thread(target=load, args=(i,), daemon=True) for i in range(4)]
            for t in threads:
                t.start()
            wait = time.monotonic() + TIMEOUT
            while codes.count(0) < 4:
                assert time.monotonic() < wait, codes
                time.sleep(0.01)
            begin()
            try:
                wait = time.monotonic() + 10 * TIMEOUT
                while codes.count(0x88) < 4:
                    assert time.monotonic() < wait, "no 0x88: %s" % codes
                    self.round_trip(pair)
            finally:
                end()
            ending.set()
            for t in threads:
                t.join(10 * TIMEOUT)
                assert not t.is_alive(), "a CONNECT was never answered"
            assert set(codes) <= {0, 0x88}, codes
            self.round_trip(pair)
            self.recovers(b)
            self.settled(b)

    def mute(self, **changed):
        """In its place somebody who listens and says nothing (changed: options that lead there)."""
        with Mute() as server:
            options = {k: (v(server.port) if callable(v) else v) for k, v in changed.items()}
            with self.broker(users={"fred": "fred"}, timeout="1s", **options) as b:
                fred = b.connect(V5, "fred", username="fred", password="fred", keep_alive=0)
                fred.subscribe("t", qos=1)
                waiting = b.client(V5)
                waiting.send_connect("waiting", username="alice", password="wonder")
                for _ in range(20):
                    fred.publish("t", "x", qos=1)
                    fred.expect_message(topic="t", payload="x")
                assert waiting.expect(CONNACK).reason == 0x88
                # The broker names what holds a worker for 50 ms, which a busy machine does as well; waiting takes longer.
                b.held_nobody()

    @staticmethod
    def round_trip(c):
        c.publish("alice/rtt", "x", qos=1)
        c.expect_message(topic="alice/rtt", payload="x")

    def settled(self, b):
        """Hook for a test file: the pool is as it was before (metrics)."""
