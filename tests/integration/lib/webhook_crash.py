# SPDX-License-Identifier: Apache-2.0
"""A webhook whose end fails in every way while the broker is killed again and again: nothing acknowledged may be lost.

    with World(seed=1, events=100000, kills=10) as w:
        w.run()

crash: how the broker ends: "kill" (SIGKILL), "power" (what was not synced of the outbox is lost, too), "torn" (and some sectors of it
are not). Publishers (lib/webhook_publishers.py) send as fast as they can; each step lets the end point (lib/receiver.py) do something wrong, or asks
something of the broker, for a moment; kills come at random moments of steps, spread over the run. At the end everything is well, what waits
is delivered, and lib/webhook_oracle.py looks at every request that came.
"""
import os
import random
import time

from . import pki
from .broker import FACTOR, TIMEOUT, Broker
from .disk import Disk
from .receiver import Receiver
from .webhook_oracle import Oracle
from .webhook_publishers import Publishers

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
REQUEST_TIMEOUT = 0.4 * FACTOR
STEP_EVENTS = 20000  # at most so many new ones in a step
STUCK = 60 * FACTOR
GENTLE = 0.1  # of the kills are SIGTERM
WHILE_IT_STARTS = 0.1
PLUGIN = "plugin_webhook_"

# What the end point does (lib/receiver.py); where it says 2xx it has taken the events.
ANSWERS = {
    "500": lambda r: {"do": "status", "status": r.choice((500, 502, 503, 504, 507))},
    "408 or 425": lambda r: {"do": "status", "status": r.choice((408, 425))},
    "429": lambda r: {"do": "status", "status": 429, "headers": {"Retry-After": r.choice("01")}},
    "413": lambda r: {"do": "status", "status": 413, "over": r.choice((1500, 5000, 20000))},
    "slow": lambda r: {"do": "slow", "delay": r.uniform(0.01, REQUEST_TIMEOUT / 2)},
    "too slow": lambda r: {"do": "slow", "delay": REQUEST_TIMEOUT * r.uniform(0.95, 1.5)},
    "hang": lambda r: {"do": "hang"},
    "closed without an answer": lambda r: {"do": "forget"},
    "closed mid-response": lambda r: {"do": "part"},
    "reset": lambda r: {"do": "reset"},
    "no HTTP": lambda r: {"do": "garbage"},
    "drip": lambda r: {"do": "drip", "delay": r.uniform(0.001, 0.02)},
    "endless headers": lambda r: {"do": "endless_headers", "status": 500},
    "endless body": lambda r: {"do": "endless_body", "status": 500},
    "huge body": lambda r: {"do": "huge_body", "status": 500},
}
REDIRECTS = {
    "redirected": (307, 308, "https://localhost:%d/moved"),
    "redirected to another host": (307, 308, "https://127.0.0.1:%d/elsewhere"),
    "redirected in a circle": (307, 308, "https://localhost:%d/events"),
    "moved": (301, 302, "https://localhost:%d/elsewhere"),
}
# They are no failures, or not always: on a connection that was used before libcurl sends a request again by itself.
NO_FAILURES = ("413", "slow", "too slow", "drip", "redirected", "reset", "closed without an answer")


class World:
    def __init__(self, seed, events, kills, crash="kill", outbox="disk", mode="batch", workers=None, requests=None, durability=None,
                 processes=2, clients=24, say=None):
        """workers, requests: None: others each time. durability: of the store; None: as in other tests. say(text): what happens."""
        self.seed, self.rng = seed, random.Random(seed)
        self.events, self.kills, self.crash = events, kills if outbox == "disk" else 0, crash
        self.workers, self.requests, self.outbox, self.mode = workers, requests, outbox, mode
        self.say = say or (lambda text: None)
        self.receiver = Receiver()
        self.broker = Broker(log_level="notice", top={"store": {"durability": durability}} if durability else None)
        self.disk = Disk(self.broker.path("outbox"), platter=True) if crash != "kill" else None
        os.makedirs(self.broker.path("outbox"), exist_ok=True)
        if self.disk:
            self.broker.env.update(self.disk.env)
        self.publishers = Publishers(self.broker.dir, seed, events, processes, clients)
        self.killed = self.ended = self.senders = self.steps = self.reloads = 0
        self.unseen = set(self.faults())  # by the plugin

    # ---- the broker ----------------------------------------------------------------------------

    def configure(self):
        """Each time a little different, and with another X-Sender."""
        self.senders += 1
        rng = self.rng
        self.broker.options["plugins"]["webhook"] = {
            "outbox": self.outbox, "path": "{dir}/outbox/outbox" if self.outbox == "disk" else None,
            "acknowledge": "after_outbox", "timeout": "%ds" % STUCK, 'endpoint "main"': {
                "urls": [self.receiver.url("/events")], "tls_ca": pki.get().root.cert, "events": ["message_published"],
                "mode": self.mode, "order_by": "client", "headers": ["X-Sender: %d" % self.senders],
                'key "a"': {"secret": SECRET}, "requests": self.requests or rng.choice((1, 2, 4, 8)),
                "batch_events": rng.choice((20, 100, 100, 500)) if self.mode == "batch" else None, "memory": rng.choice(("1m", "4m")), "max_bytes": "64m",
                "when_full": "stop_publishers", "retry_min": "20ms", "retry_max": "200ms",
                "connect_timeout": "%dms" % (1000 * REQUEST_TIMEOUT), "request_timeout": "%dms" % (1000 * REQUEST_TIMEOUT)}}

    def start(self):
        self.broker.options["workers"] = self.workers or self.rng.choice((1, 2, 2, 3))
        self.configure()
        if self.rng.random() < WHILE_IT_STARTS and self.kills:
            self.broker.start(False)
            time.sleep(self.rng.random() * 0.1 * FACTOR)
            self.kill9()
        self.broker.start()
        self.publishers.broker(self.broker.port)

    def kill9(self):
        self.broker.kill9()
        if self.disk:
            self.disk.cut(self.rng if self.crash == "torn" else None)

    def kill(self, planned):
        """Amid new messages."""
        if self.disk:
            self.disk.slow(self.rng.choice((0, 0.001, 0.01, 0.05)))
        self.publishers.allow(min(1, self.steps / planned))
        deadline = time.monotonic() + 0.3 * FACTOR
        enough = self.publishers.acknowledged() + self.rng.random() ** 2 * self.events / planned / 2
        while self.publishers.acknowledged() < enough and time.monotonic() < deadline:
            time.sleep(0.001)
        if not self.broker.running():
            raise AssertionError("the broker ended by itself with %s" % self.broker.ended)
        if self.rng.random() < GENTLE:
            self.publishers.farewell(True)
            self.publishers.broker(None)
            self.broker.stop()
            self.ended += 1
        else:
            self.kill9()
            self.publishers.broker(None)
            self.killed += 1
        if self.disk:
            self.disk.slow(self.rng.choice((0, 0, 0.001, 0.01)))
        time.sleep(self.rng.choice((0, 0, 0.1, 0.3)) * self.rng.random())
        self.start()
        self.publishers.farewell(False)

    def reload(self):
        self.configure()
        self.broker.configure()
        self.broker.reload()
        self.reloads += 1

    def status(self):
        one, = self.broker.ctl_json("webhook", "status", "main")["answer"]["endpoints"]
        return one

    # ---- what goes wrong -----------------------------------------------------------------------

    def faults(self):
        """{name: function that begins it and returns the one that ends it}"""
        out = {name: lambda make=make: self.answers(make(self.rng)) for name, make in ANSWERS.items()}
        for name, (a, b, where) in REDIRECTS.items():
            out[name] = lambda a=a, b=b, where=where: self.answers({
                "do": "status", "status": self.rng.choice((a, b)), "path": "/events",
                "headers": {"Location": where % self.receiver.port}})
        out.update({"wrong certificate": self.wrong_certificate, "silent TLS": self.silent_tls, "end point killed": self.end_killed,
                    "end point stopped": self.end_stopped, "pause": self.paused, "reload": self.reloaded})
        return out

    def well(self):
        self.receiver.does()

    def answers(self, rule):
        if not self.unseen and self.rng.random() < 0.5:
            rule["times"] = self.rng.randint(1, 5)
        self.receiver.obeys(rule)
        return self.well

    def new_connections(self):
        """Those that are there are broken."""
        self.receiver.does("reset", times=16)

    def wrong_certificate(self):
        p = pki.get()
        self.receiver.tls(self.rng.choice((
            p.other.issue("webhook", cn="localhost", san="DNS:localhost", usage="serverAuth"),
            p.root.issue("webhook-host", cn="example.org", san="DNS:example.org", usage="serverAuth"),
            p.root.issue("webhook-old", cn="localhost", san="DNS:localhost", usage="serverAuth", start=-9 * 86400, end=-3600))))
        self.new_connections()
        return self.right_certificate

    def silent_tls(self):
        self.receiver.tls(handshake="hang")
        self.new_connections()
        return self.right_certificate

    def right_certificate(self):
        self.receiver.tls()
        self.well()

    def end_killed(self):
        self.receiver.kill9()
        return self.receiver.start

    def end_stopped(self):
        self.receiver.pause()
        return self.receiver.resume

    def paused(self):
        self.broker.ctl("webhook", "pause", "main")
        return self.resumed

    def resumed(self):
        self.broker.ctl("webhook", "resume", "main")

    def reloaded(self):
        self.reload()
        return self.well

    # ---- steps ---------------------------------------------------------------------------------

    def counters(self):
        m = self.broker.metrics()
        return tuple(sum(v for k, v in m.items() if k.startswith("grapnel_plugin_%s_total" % name) and '"webhook"' in k)
                     for name in ("requests_repeated", "requests"))

    def seen(self, name, before):
        """Has the plugin noticed?"""
        if name in ("pause", "reload"):
            return True
        repeated, requests = self.counters()
        return repeated > before[0] or (name in NO_FAILURES and requests > before[1])

    def step(self, name, begin, planned):
        """What goes wrong here, and perhaps a kill before or after its end. Half of the new messages come with the kill."""
        self.steps += 1
        failures, end = self.counters()[0], begin()
        before = failures, self.counters()[1]
        self.publishers.allow(min(1, (self.steps - 0.5) / planned))
        deadline, seen = time.monotonic() + TIMEOUT / 2, self.steps > planned  # afterwards there may be nothing to be sent
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
            seen = self.seen(name, before)
        if seen and self.steps <= planned:
            self.unseen.discard(name)
        time.sleep(self.rng.random() ** 3 * 0.3)
        kill = self.kill_is_due(planned)
        if kill < 0:
            self.kill(planned)
        end()
        if kill > 0:
            self.kill(planned)
        self.publishers.allow(min(1, self.steps / planned))
        time.sleep(self.rng.choice((0, 0.2)) * self.rng.random())

    def kill_is_due(self, planned):
        """@return -1: before what is wrong is over; 1: after it; 0: not."""
        done, kills = min(1, self.steps / planned), self.killed + self.ended
        if kills < self.kills and (done == 1 or done >= (kills + self.rng.random()) / self.kills):
            return self.rng.choice((-1, -1, 1))
        return 0

    def moves(self, what, look):
        """Until look() is None; fails when it says the same for too long."""
        last, since = None, time.monotonic()
        while (now := look()) is not None:
            if now != last:
                last, since = now, time.monotonic()
            if time.monotonic() - since > STUCK:
                raise AssertionError("%s: nothing moves any more: %s" % (what, now))
            time.sleep(0.05)

    def waiting(self):
        s = self.status()
        return s if s["waiting"] or s["in_outbox"] else None

    def run(self):
        """Raises AssertionError with what went wrong."""
        print("webhook: seed %d, %d events, %d kills (%s), outbox = %s" % (
            self.seed, self.events, self.kills, self.crash, self.outbox), flush=True)
        self.receiver.start()
        self.start()
        self.publishers.start()
        began, faults, order = time.monotonic(), self.faults(), []
        planned = max(len(faults) + self.kills, self.events // STEP_EVENTS)
        while self.steps < planned or self.killed + self.ended < self.kills or self.publishers.running():
            if not order:
                order = sorted(faults)
                self.rng.shuffle(order)
            name = order.pop()
            self.say("%7.2f s  %8d acknowledged  %s" % (time.monotonic() - began, self.publishers.acknowledged(), name))
            self.step(name, faults[name], planned)
        published = time.monotonic() - began
        self.right_certificate()
        self.resumed()
        self.moves("the outbox", self.waiting)
        s, taken = self.status(), time.monotonic() - began
        self.broker.stop()
        self.look(s, published, taken)

    def look(self, status, published, taken):
        oracle = Oracle(self.publishers.people, self.publishers.logs(), SECRET)
        for d, _ in self.receiver.each_delivery():
            oracle.delivery(d)
        wrongs = oracle.end()
        if status["dead_letters"]:
            wrongs.append("%d dead letters" % status["dead_letters"])
        wrongs += self.broker.log_lines(r"events are lost|is a dead letter|damaged|cannot be used")
        self.broker.check_sanitizers()
        self.report(oracle, published, taken)
        if wrongs:
            raise AssertionError("\n".join(["seed %d:" % self.seed] + wrongs))
        if self.unseen:
            raise AssertionError("seed %d: the plugin did not notice: %s" % (self.seed, self.unseen))

    def report(self, oracle, published, taken):
        logs = [c.log for c in oracle.clients.values()]
        print("webhook: %d messages of %d clients on %d connections (%d closed by their clients, %d sent with DUP), "
              "%d killed, %d ended, %d reloads, %d faults" % (
                  sum(log.acknowledged for log in logs), len(logs), sum(len(log.epochs) for log in logs),
                  sum(log.closed for log in logs), sum(log.again for log in logs), self.killed, self.ended, self.reloads, self.steps))
        print("webhook: %d events, %d repeats, %d requests; published in %.1f s (%.0f/s), all arrived after %.1f s (%.0f/s); "
              "answers: %s" % (len(oracle.ids), oracle.repeats, oracle.requests, published, self.events / published, taken,
                               self.events / taken, dict(oracle.statuses)), flush=True)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.publishers.kill()
        self.receiver.remove()
        self.broker.remove()
