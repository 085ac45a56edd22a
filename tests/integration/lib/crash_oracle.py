# SPDX-License-Identifier: Apache-2.0
"""What a broker that loses nothing must deliver, told from what clients saw.

One thread drives all clients, so that there is one order of all they sent and saw: `now` counts it. A message was sent at
a moment, acknowledged (PUBACK, PUBREC) at another, complete (PUBACK, PUBCOMP) at a third. A subscription may have begun when
its SUBSCRIBE was sent and has when SUBACK came; its end likewise. A message that was sent after a SUBACK and complete
before the UNSUBSCRIBE must come; one that was complete before the SUBSCRIBE, or sent after the UNSUBACK, must not; the rest may.
`kept`: where PUBACK waits for the store, it waits for all workers, too; else a message that is on its way to another worker may
meet the end of the subscription there, as the standard allows.
"""
import bisect

NEVER = float("inf")


class Message:
    __slots__ = ("topic", "qos", "seq", "size", "retain", "sent", "acked", "complete")

    def __init__(self, topic, qos, seq, size, retain, now):
        self.topic, self.qos, self.seq, self.size, self.retain = topic, qos, seq, size, retain
        self.sent, self.acked, self.complete = now, NEVER, NEVER

    def payload(self):
        text = b"%d %d " % (self.qos, self.seq)
        return text + b"abcdefghij"[self.seq % 10:self.seq % 10 + 1] * (self.size - len(text))

    def __repr__(self):
        return "%s QoS %d #%d" % (self.topic, self.qos, self.seq)

    def moments(self):
        return "sent %s, acknowledged %s, complete %s" % (self.sent, self.acked, self.complete)


class Epoch:
    """One subscription, from SUBSCRIBE to UNSUBACK."""

    def __init__(self, topic_filter, qos, now):
        self.filter, self.qos = topic_filter, qos
        self.asked, self.granted, self.leaving, self.left = now, NEVER, NEVER, NEVER

    def __repr__(self):
        return "%s: SUBSCRIBE %s, SUBACK %s, UNSUBSCRIBE %s, UNSUBACK %s" % (
            self.filter, self.asked, self.granted, self.leaving, self.left)

    def must(self, m, kept):
        return m.sent > self.granted and m.acked < NEVER and (
            self.leaving == NEVER or (kept and m.complete < self.leaving))

    def may(self, m):
        return m.complete > self.asked and m.sent < self.left


def matches(topic_filter, topic):
    levels, parts = topic_filter.split("/"), topic.split("/")
    for i, level in enumerate(levels):
        if level == "#":
            return True
        if i >= len(parts) or level not in ("+", parts[i]):
            return False
    return len(levels) == len(parts)


class Receiver:
    """A session, or a shared group, that messages are for."""

    def __init__(self, oracle, name, ordered=True):
        self.oracle, self.name, self.ordered = oracle, name, ordered
        self.epochs = []
        self.born = 0
        self.got = {}  # message -> how often
        self.last = {}  # (topic, qos) -> highest number seen
        oracle.receivers.append(self)

    def subscribing(self, topic_filter, qos):
        """@return its Epoch: the one that is there, or a new one."""
        for e in self.epochs:
            if e.filter == topic_filter and e.left == NEVER:
                return e
        e = Epoch(topic_filter, qos, self.oracle.tick())
        self.epochs.append(e)
        return e

    def may_end(self):
        """Its session may have been ended: nothing must come any more, and the client has forgotten what did."""
        for e in self.epochs:
            e.granted = NEVER
        self.got, self.last = {}, {}

    def ended(self):
        """Its session has ended: nothing of before may come any more."""
        self.epochs, self.got, self.last = [], {}, {}

    def delivered(self, topic, qos, payload):
        """@return the message, None: there is no such one."""
        oracle = self.oracle
        m = oracle.find(topic, payload)
        if m is None:
            oracle.wrong("%s got what nobody sent: %s %r" % (self.name, topic, payload[:60]))
            return None
        fit = [e for e in self.epochs if matches(e.filter, topic) and e.may(m)]
        if not fit:
            oracle.wrong("%s got what it has no subscription for: %r" % (self.name, m))
            return m
        if qos not in [min(m.qos, e.qos) for e in fit]:
            oracle.wrong("%s got %r with QoS %d" % (self.name, m, qos))
        times = self.got[m] = self.got.get(m, 0) + 1
        if times > 1:
            if qos == 2:
                oracle.wrong("%s got %r %d times" % (self.name, m, times))
            return m
        stream = (topic, m.qos)
        # One that was sent before the subscription may come when its publisher sends it once more, after later ones.
        if self.ordered and m.sent > fit[-1].granted and m.seq < self.last.get(stream, -1):
            oracle.wrong("%s got %r for the first time after #%d" % (self.name, m, self.last[stream]))
        self.last[stream] = max(m.seq, self.last.get(stream, -1))
        return m

    def missing(self):
        """What must have come and did not: [(name, message, epoch)]."""
        out = []
        for e in self.epochs:
            if e.granted == NEVER:
                continue
            for (topic, _), stream in self.oracle.streams.items():
                if not matches(e.filter, topic):
                    continue
                first = bisect.bisect_right(stream, e.granted, key=lambda m: m.sent)
                out += [(self.name, m, e) for m in stream[first:] if m not in self.got and e.must(m, self.oracle.kept)]
        return out


class Oracle:
    def __init__(self, kept=True):
        self.now, self.kept = 0, kept
        self.streams = {}  # (topic, qos) -> its messages, by number
        self.receivers = []
        self.retained = {}  # topic -> its messages in the order they were sent; size 0: it was cleared
        self.wrongs = []
        self.context = ""  # what happens now, for what is found wrong

    def tick(self):
        self.now += 1
        return self.now

    def wrong(self, text):
        self.wrongs.append("%s: %s" % (self.context, text))

    def message(self, topic, qos, size, retain=False):
        """A new one, about to be sent."""
        stream = self.streams.setdefault((topic, qos), [])
        m = Message(topic, qos, len(stream), size, retain, self.tick())
        if size:
            stream.append(m)
        if retain:
            self.retained.setdefault(topic, []).append(m)
        return m

    def find(self, topic, payload):
        try:
            qos, seq = (int(x) for x in payload.split(b" ", 2)[:2])
            m = self.streams[(topic, qos)][seq]
        except (ValueError, KeyError, IndexError):
            return None
        return m if m.payload() == payload else None

    def retained_now(self, seen):
        """seen: {topic: payload} of all retained messages there are."""
        for topic in seen:
            if topic not in self.retained:
                self.wrong("a retained message that nobody sent: %s" % topic)
        for topic, sent in self.retained.items():
            acked = [i for i, m in enumerate(sent) if m.acked < NEVER]
            possible = [m.payload() if m.size else None for m in sent[acked[-1] if acked else 0:]] + (
                [] if acked else [None])
            if seen.get(topic) not in possible:
                self.wrong("retained in %s is %r; acknowledged was %r, sent up to #%d" % (
                    topic, seen.get(topic, b"nothing")[:20], possible[0] and possible[0][:20], len(sent) - 1))

    def missing(self):
        return [x for r in self.receivers for x in r.missing()]
