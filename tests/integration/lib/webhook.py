# SPDX-License-Identifier: Apache-2.0
"""A broker whose events go to a Receiver (lib/receiver.py).

    with Receiver().start() as r, hooked(r, order_by="topic") as b:     # one endpoint, "main", with these options
        publish(b, "c1", 100)
        r.wait_events(100)
    hooked([r1, r2], url_policy="spread", section={"outbox": "memory"})     # several URLs; options of the section
    section({"one": endpoint(r1), "two": endpoint(r2)})                 # several endpoints: for Broker(plugins=...)
"""
import os

from . import pki, wire
from .broker import FACTOR, Broker
from .mqtt import PUBACK, V5

QUICK = {"retry_min": "20ms", "retry_max": "200ms", "events": ["message_published"]}


def endpoint(receivers, **options):
    if not isinstance(receivers, (list, tuple)):
        receivers = [receivers]
    urls = [r if isinstance(r, str) else r.url("/events") for r in receivers]
    out = dict(QUICK, urls=urls, request_timeout="%ds" % (10 * FACTOR), **{} if all(u.startswith("http:") for u in urls) else {
        "tls_ca": pki.get().root.cert})
    out.update(options)
    return {k: v for k, v in out.items() if v is not None}


def section(endpoints, **options):
    out = {"path": "{dir}/outbox/outbox", "stop_timeout": "50ms"}
    out.update(options)
    if out.get("outbox") == "memory":
        del out["path"]
    for name, block in endpoints.items():
        out['endpoint "%s"' % name] = block
    return {"webhook": out}


class Hooked(Broker):
    def __init__(self, **options):
        super().__init__(**options)
        os.mkdir(self.path("outbox"))

    def status(self, name="main"):
        one, = self.ctl_json("webhook", "status", name)["answer"]["endpoints"]
        return one

    def run(self, *words, code=0):
        """A command. @return its answer, or with code 1 what grapnelctl says."""
        if code:
            return self.ctl("webhook", *words, code=code).stderr
        return self.ctl_json("webhook", *words)["answer"]

    def again(self, plugins=None):
        """Another section, from the next reload or start on."""
        self.options["plugins"].update(plugins or {})


def hooked(receivers, section_options=None, plugins=None, **options):
    more = dict(section({"main": endpoint(receivers, **options)}, **(section_options or {})), **(plugins or {}))
    return Hooked(plugins=more)


def publish(b, name, count, first=1, topic=None, qos=1, window=100, client=None, pad=0):
    """Payloads "NAME 1", "NAME 2" ... from a client of that name; with QoS 1 until all are acknowledged. @return the client."""
    c = client or b.connect(V5, name)
    waiting = 0
    for at in range(first, first + count, window):
        numbers = range(at, min(at + window, first + count))
        c.send_raw(b"".join(wire.publish(c.version, topic or "t/" + name, b"%s %d%s" % (
            name.encode(), n, b"." * pad), qos, packet_id=c.next_id() if qos else 0) for n in numbers))
        waiting += len(numbers) if qos else 0
        while waiting > window:
            acknowledged(c)
            waiting -= 1
    for _ in range(waiting):
        acknowledged(c)
    return c


def acknowledged(c):
    p = c.recv()
    assert p.type == PUBACK and p.reason < 0x80, p


def dead_letters(b, name="main"):
    return b.run("dead-letters", name)["dead_letters"]


def control_bytes(text):
    """Of a header: what must never be there."""
    return [c for c in text if ord(c) < 0x20 or ord(c) >= 0x7f]


