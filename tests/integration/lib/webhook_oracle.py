# SPDX-License-Identifier: Apache-2.0
"""What must have arrived at a webhook's end, told from what publishers sent (lib/webhook_publishers.py) and from each request.

Of what a client sent on one connection the broker took in some first part, in order, whatever happened to both; it acknowledged some
part of that. Events of one client leave in the order they happened, and what waits in the outbox before what is new. So:

  - the first time that a number arrives, all before it have: a client that sends again what was not acknowledged does so before all
    else. At the end all have.
  - of a client without a session, whose messages belong to one connection each: the events of a connection arrive, by
    the first time that their ids do, exactly as they were sent, from the first on without holes, at least as far as they were
    acknowledged; and those of a later connection do not come before, among what one process of the broker sent.
    (What one that was killed had sent before may still be read after what the next one sent.)
  - of a client with one: DUP may be a second event with QoS 1. With QoS 2 a process has one event of a message.
  - what comes again with the same id is the same, byte by byte. Each request is signed, and its id is that of its first event.
"""
import bisect
import collections
import json

from . import standard_webhooks

SENDER = "x-sender"  # a header of the configuration that is another one for each process of the broker, and each reload
SHOWN = 20
DECODE = json.JSONDecoder().raw_decode


class Client:
    def __init__(self, person, log):
        self.person, self.log = person, log
        self.highest = 0  # number up to which all have come
        self.arrived = [0] * len(log.epochs)
        self.place = [("", "")] * len(log.epochs)  # boot and sequence of the last event that came first
        self.newest = collections.defaultdict(int)  # sender -> epoch of the last event that came first
        self.exactly_once = set()  # of QoS 2: (number, epoch, boot)


class Oracle:
    def __init__(self, people, logs, secret):
        self.clients = {p.name: Client(p, logs[p.name]) for p in people}
        self.secret = secret
        self.ids = {}  # -> hash of what came first
        self.requests = self.arrivals = self.repeats = 0
        self.statuses = collections.Counter()
        self.wrongs = []
        for name, log in logs.items():
            self.wrongs += log.wrongs
            if log.acknowledged < self.clients[name].person.quota:
                self.wrong("%s: only %d of its %d messages were acknowledged" % (
                    name, log.acknowledged, self.clients[name].person.quota))

    def wrong(self, text):
        if len(self.wrongs) < 1000:
            self.wrongs.append(text)

    def delivery(self, d):
        """In the order of the receiver's record."""
        self.requests += 1
        self.statuses["%s%s" % (d.status, "" if d.taken else " (left)")] += 1
        try:
            standard_webhooks.verify(d.headers, d.body, [self.secret], now=d.time)
        except standard_webhooks.Wrong as e:
            self.wrong("%r: %s" % (d, e))
        if d.target not in ("/events", "/moved"):
            self.wrong("%r went where it must not" % d)
        events = list(split(d.body.decode()))
        wanted = events[0][0]["id"] + ("-%d" % len(events) if len(events) > 1 else "")
        if d.headers["webhook-id"] != wanted:
            self.wrong("webhook-id is %s, not %s" % (d.headers["webhook-id"], wanted))
        if not d.taken:
            return
        for e, text in events:
            self.arrivals += 1
            content = hash(text)
            before = self.ids.get(e["id"])
            if before is None:
                self.ids[e["id"]] = content
                self.first(e, d.headers[SENDER])
            elif before == content:
                self.repeats += 1
            else:
                self.wrong("another event with an id that was there before: %s" % text)

    def first(self, e, sender):
        """An event whose id has not been seen."""
        if e["type"] != "grapnel.message_published":
            self.wrong("an event %r" % e)
            return
        message = e["data"]["message"]
        name, number, epoch = message["payload"].split(" ")[:3]
        number, epoch = int(number), int(epoch)
        c = self.clients[name]
        if (e["data"]["client"]["client_id"], message["topic"], message["qos"], message["payload"]) != (
                name, c.person.topic(number), c.person.qos(number), c.person.payload(number, epoch)):
            self.wrong("nobody sent %r" % e)
        if number > c.highest + 1:
            self.wrong("%s: number %d (connection %d) arrived before %d" % (name, number, epoch, c.highest + 1))
        c.highest = max(c.highest, number)
        _, boot, sequence = e["id"].split("-")
        if c.person.clean:
            self.of_a_connection(c, number, epoch, (boot, sequence), sender)
            return
        sent = c.log.epochs[epoch].sent
        at = bisect.bisect_left(sent, number)
        if at == len(sent) or sent[at] != number:
            self.wrong("%s: number %d was not sent anew on connection %d" % (name, number, epoch))
        if message["qos"] == 2:
            if (number, epoch, boot) in c.exactly_once:
                self.wrong("%s: number %d, QoS 2, is two events of one process" % (name, number))
            c.exactly_once.add((number, epoch, boot))

    def of_a_connection(self, c, number, epoch, place, sender):
        sent, name = c.log.epochs[epoch].sent, c.person.name
        at = c.arrived[epoch]
        if at == len(sent) or sent[at] != number:
            self.wrong("%s: of connection %d number %d arrived, not %s" % (
                name, epoch, number, sent[at] if at < len(sent) else "nothing"))
            at = bisect.bisect_left(sent, number)  # say it once
        c.arrived[epoch] = at + 1
        if c.place[epoch] >= place or c.place[epoch][0] not in ("", place[0]):
            self.wrong("%s: ids of connection %d do not ascend: %s, %s" % (name, epoch, c.place[epoch], place))
        c.place[epoch] = place
        if epoch < c.newest[sender]:
            self.wrong("%s: number %d of connection %d came after some of connection %d, from the same sender" % (
                name, number, epoch, c.newest[sender]))
        c.newest[sender] = epoch

    def end(self):
        """Nothing more comes. @return what was wrong, all in all."""
        for name, c in self.clients.items():
            if c.highest < c.person.quota:
                self.wrong("%s: all were acknowledged, but number %d never arrived" % (name, c.highest + 1))
            for i, epoch in enumerate(c.log.epochs):
                if c.person.clean and c.arrived[i] < epoch.acknowledged:
                    self.wrong("%s: on connection %d %d messages were acknowledged; %d arrived" % (
                        name, i, epoch.acknowledged, c.arrived[i]))
        return self.wrongs[:SHOWN] + (["... and %d more" % (len(self.wrongs) - SHOWN)] if len(self.wrongs) > SHOWN else [])


def split(text):
    """Of a body: (event, its text)."""
    if not text.startswith("["):
        yield json.loads(text), text
        return
    at = 1
    while True:
        e, end = DECODE(text, at)
        yield e, text[at:end]
        if text[end] == "]" and end == len(text) - 1:
            return
        assert text[end] == ",", text[end:end + 20]
        at = end + 1
