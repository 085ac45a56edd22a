# SPDX-License-Identifier: Apache-2.0
"""End points of webhooks that fail in every way while the broker is killed: lib/webhook_crash.py.

The seed is printed; GRAPNEL_SEED sets it. tests/faults/webhook runs the same for longer.
"""
import json
import os
import random
import time
import types

from lib import standard_webhooks
from lib.broker import FACTOR
from lib.webhook_crash import SECRET, World
from lib.webhook_oracle import Oracle
from lib.webhook_publishers import Epoch, Log, Person
from lib.wire import V5

ALONE = True
SEED = int(os.environ.get("GRAPNEL_SEED", "0")) or random.randrange(1, 1 << 30)


def test_every_event_of_an_acknowledged_message_arrives_in_order():
    with World(SEED, int(12000 / FACTOR), 4, ("power", "torn")[SEED % 2]) as w:
        w.run()


# ---- of the test itself -----------------------------------------------------------------------------------


class Told:
    """An oracle, and a client of five messages: four were sent on its first connection, three on its second; 1, 2 were acknowledged
    on the first. Number 5 is QoS 2."""

    def __init__(self, clean=True):
        self.person, log = Person("p", V5, clean, True, 10), Log()
        self.person.quota = log.acknowledged = 5
        for sent, acknowledged in (((1, 2, 3, 4), 2), ((3, 4, 5), 3)):
            log.epochs.append(Epoch())
            log.epochs[-1].sent.extend(sent)
            log.epochs[-1].acknowledged = acknowledged
        self.oracle = Oracle([self.person], {"p": log}, SECRET)

    def event(self, number, epoch, boot=None, sequence=None, **changes):
        message = {"topic": self.person.topic(number), "qos": self.person.qos(number), "payload": self.person.payload(number, epoch)}
        return {"id": "node-%d-%d" % (epoch if boot is None else boot, sequence or number), "type": "grapnel.message_published",
                "data": {"client": {"client_id": "p"}, "message": dict(message, **changes)}}

    def get(self, *events, sender=1, secret=SECRET, webhook_id=None):
        """events: (number, epoch), or what event() returned. A request of them."""
        events = [self.event(*e) if isinstance(e, tuple) else e for e in events]
        name = webhook_id or events[0]["id"] + ("-%d" % len(events) if len(events) > 1 else "")
        body, now = json.dumps(events, separators=(",", ":")).encode(), int(time.time())
        self.oracle.delivery(types.SimpleNamespace(body=body, time=now, status=200, taken=True, target="/events", headers={
            "webhook-id": name, "webhook-timestamp": str(now), "x-sender": str(sender),
            "webhook-signature": "v1," + standard_webhooks.sign(secret, name, now, body)}))
        return self


def test_the_oracle_knows_right_from_wrong():
    first, second, rest = [(1, 0), (2, 0)], [(3, 1), (4, 1), (5, 1)], [(4, 1), (5, 1)]

    def all_but(*requests, **options):
        t = Told(**options)
        for r in requests:
            t.get(*r)
        return t

    for right in (all_but(first, second), all_but(first, first, second, second[1:], first), all_but(first, [(3, 0)], second),
                  all_but(first + [(3, 0), (4, 0)], second, clean=False), all_but(first, [(3, 0)], rest, clean=False),
                  Told().get(*first).get(*second, sender=2).get((3, 0), sender=1)):  # read late, of a process that was killed
        assert right.oracle.end() == [], right.oracle.end()
    t = Told()
    for wrong, text in (
            (all_but(first, second[:2]), "number 5 never arrived"),
            (all_but([(2, 0), (1, 0)], second), "number 2 (connection 0) arrived before 1"),
            (all_but([(2, 0), (1, 0)], second), "of connection 0 number 2 arrived, not 1"),
            (all_but(first, [(3, 0)], rest), "of connection 1 number 4 arrived, not 3"),
            (all_but(first[:1], second), "arrived before 2"),
            (all_but(first, second, [(3, 0)]), "number 3 of connection 0 came after some of connection 1"),
            (all_but(first, second, [t.event(5, 1, 1, 9)], clean=False), "number 5, QoS 2, is two events"),
            (all_but(first, second, [t.event(3, 1, 1, 3, payload="p 3 1 !")]), "another event with an id"),
            (all_but(first, [t.event(3, 1, payload="p 3 1 !")], rest), "nobody sent"),
            (all_but(first, [t.event(3, 1, qos=2)], rest), "nobody sent"),
            (all_but(first, [(3, 1), t.event(4, 1, 1, 2), (5, 1)]), "do not ascend"),
            (all_but(first, [(3, 1), t.event(4, 1, 2, 4), (5, 1)]), "do not ascend"),
            (all_but(first, [(3, 0), (4, 0), (5, 0)], clean=False), "was not sent anew on connection 0"),
            (Told().get(*first).get(*second, secret="whsec_" + "A" * 32), "no signature fits"),
            (Told().get(*first).get(*second, webhook_id="node-1-3"), "webhook-id is node-1-3")):
        assert any(text in w for w in wrong.oracle.end()), (text, wrong.oracle.end())
