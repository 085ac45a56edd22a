# SPDX-License-Identifier: Apache-2.0
"""Clients whose broker is killed: they keep their session state across connections, as the standard wants it.

All of them are driven by one thread, crash.py's; what they see they tell the oracle.
"""
import socket

from . import wire
from .crash_oracle import NEVER

EXPIRY = 3600


class Device:
    """durable: its session outlives the connection."""

    def __init__(self, world, name, version, durable):
        self.world, self.name, self.version, self.durable = world, name, version, durable
        self.oracle, self.rng = world.oracle, world.rng
        self.sock, self.ready = None, False
        self.input, self.output = bytearray(), bytearray()
        self.clean = not durable  # of the next CONNECT
        self.has_session = False  # does the broker keep one? None: it may
        self.busy = {}  # packet identifier -> what it is used for
        world.devices.append(self)

    # ---- the connection ------------------------------------------------------------------------

    def connect(self):
        if self.sock is not None:
            return
        self.input.clear()
        self.output.clear()
        try:
            self.sock = socket.create_connection(self.world.address, 10)
        except OSError:
            self.sock = None
            return
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.world.watch(self)
        self.connecting()
        props = [(wire.SESSION_EXPIRY, EXPIRY)] if self.version == wire.V5 and self.durable else []
        self.send(wire.connect(self.version, self.name, self.clean, 0, props=props))

    def connecting(self):
        pass

    def send(self, data):
        self.world.sends(self, data)
        self.output += data

    def flush(self):
        if self.sock is None or not self.output:
            return
        try:
            sent = self.sock.send(self.output)
            del self.output[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.output.clear()  # what was received before is read until the end

    def close(self, goodbye=False):
        if self.sock is None:
            return
        if goodbye and self.ready:
            self.send(wire.disconnect(self.version))
        self.flush()
        self.lost()

    def lost(self):
        self.world.unwatch(self)
        self.sock.close()
        if not self.ready and self.durable and not self.has_session:
            self.has_session = None
        self.sock, self.ready = None, False

    def readable(self):
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.lost()
            return
        self.input += data
        at = 0
        while self.sock is not None:
            size, head = 0, 0
            for i in range(1, 5):
                if at + i >= len(self.input):
                    break
                size |= (self.input[at + i] & 0x7F) << 7 * (i - 1)
                if not self.input[at + i] & 0x80:
                    head = i + 1
                    break
            if not head or at + head + size > len(self.input):
                break
            p = wire.decode(self.version, self.input[at], bytes(self.input[at + head:at + head + size]))
            at += head + size
            self.world.saw(self, p)
            self.packet(p)
        del self.input[:at]

    # ---- packets -------------------------------------------------------------------------------

    def packet(self, p):
        if p.type == wire.CONNACK:
            self.connack(p)
        elif p.type == wire.DISCONNECT and self.world.mode == "net" and p.reason == 0x8E:
            self.lost()  # a connection of before, which was lost before the broker had looked at it, has taken over
        elif p.type == wire.DISCONNECT and not (self.world.gentle and p.reason == 0x8B):  # it is shutting down
            self.oracle.wrong("%s was disconnected: %r" % (self.name, p))
        elif p.type not in (wire.PINGRESP, wire.DISCONNECT):
            handler = getattr(self, wire.NAMES[p.type].lower(), None)
            if handler is None:
                self.oracle.wrong("%s got %r" % (self.name, p))
            else:
                handler(p)

    def connack(self, p):
        if p.reason != 0:
            self.oracle.wrong("%s was refused: %r" % (self.name, p))
            return
        if self.clean and p.session_present:
            self.oracle.wrong("%s asked for a clean start and got a session" % self.name)
        if not self.clean and self.has_session is not None and p.session_present != self.has_session:
            self.oracle.wrong("%s: session present is %s" % (self.name, p.session_present))
        new = not p.session_present
        self.has_session = self.durable and (self.version == wire.V5 or not self.clean)
        self.ready = True
        self.connected(new)

    def connected(self, new):
        """new: the broker has no session of before."""

    def free_id(self):
        """The lowest, so that they are used again soon."""
        i = 1
        while i in self.busy:
            i += 1
        return i


class Publisher(Device):
    def __init__(self, world, name, version, durable, streams, window=10, retain=False):
        """streams: [(topic, qos)]"""
        super().__init__(world, name, version, durable)
        self.streams, self.window, self.retain = streams, window, retain

    def connected(self, new):
        if new:
            self.busy.clear()  # whether those got there nobody knows
        for packet_id, (m, released) in self.busy.items():
            if released:
                self.send(wire.ack(self.version, wire.PUBREL, packet_id))
            else:
                self.publish_out(packet_id, m, True)

    def publish_out(self, packet_id, m, dup=False):
        self.send(wire.publish(self.version, m.topic, m.payload() if m.size else b"", m.qos, m.retain, dup, packet_id))

    def publish_some(self, n):
        """@return how many were sent."""
        for i in range(n):
            if not self.ready or len(self.busy) >= self.window:
                return i
            topic, qos = self.rng.choice(self.streams)
            size = 0 if self.retain and self.rng.random() < 0.1 else self.world.size()
            m = self.oracle.message(topic, qos, size, self.retain)
            packet_id = self.free_id()
            self.busy[packet_id] = (m, False)
            self.publish_out(packet_id, m)
        return n

    def answered(self, p, qos, released):
        m, was = self.busy.get(p.packet_id, (None, None))
        if m is None or m.qos != qos or was != released:
            self.oracle.wrong("%s: unexpected answer %r to %r" % (self.name, p, m))
            return None
        if p.reason >= 0x80 and p.type != wire.PUBCOMP:  # 0x92: PUBREL came for the second time
            self.oracle.wrong("%s: %r was refused: %r" % (self.name, m, p))
        return m

    def puback(self, p):
        m = self.answered(p, 1, False)
        if m is not None:
            m.acked = m.complete = self.oracle.tick()
            del self.busy[p.packet_id]

    def pubrec(self, p):
        m = self.answered(p, 2, False)
        if m is not None:
            m.acked = self.oracle.tick()
            self.busy[p.packet_id] = (m, True)
            self.send(wire.ack(self.version, wire.PUBREL, p.packet_id))

    def pubcomp(self, p):
        m = self.answered(p, 2, True)
        if m is not None:
            m.complete = self.oracle.tick()
            del self.busy[p.packet_id]


class Subscriber(Device):
    """
    filters: {topic filter: QoS}. receiver: a shared group's, else it has its own. habit: when it is online,
    "always", "sometimes" (or offline for a whole round), "restless" (comes and goes).
    """

    def __init__(self, world, name, version, filters, habit, receiver=None, prefix=""):
        super().__init__(world, name, version, True)
        self.filters, self.habit, self.prefix = filters, habit, prefix
        self.receiver = receiver or world.receiver(name)
        self.received = {}  # packet identifier -> the QoS 2 message that PUBREL is awaited of
        self.asked = {}  # packet identifier of SUBSCRIBE or UNSUBSCRIBE -> [Epoch]
        self.granted = set()  # filters
        self.late = []  # answers that it takes its time for

    def connecting(self):
        self.asked.clear()
        self.late.clear()

    def connected(self, new):
        if new:
            self.received.clear()
            self.granted.clear()
        unsure = [f for f in self.filters if f not in self.granted]
        if unsure:
            self.subscribe(unsure)

    def subscribe(self, filters):
        epochs = [self.receiver.subscribing(f, self.filters[f]) for f in filters]
        packet_id = self.subscribe_id()
        self.asked[packet_id] = epochs
        self.send(wire.subscribe(self.version, packet_id,
                                 [wire.Sub(self.prefix + f, self.filters[f]) for f in filters]))

    def subscribe_id(self):
        return max(self.asked, default=0) + 1

    def suback(self, p):
        epochs = self.asked.pop(p.packet_id)
        if p.codes != [e.qos for e in epochs]:
            self.oracle.wrong("%s: %r" % (self.name, p))
        for e in epochs:
            self.granted.add(e.filter)
            if e.granted == NEVER:
                e.granted = self.oracle.tick()

    # ---- messages ------------------------------------------------------------------------------

    def publish(self, p):
        if p.qos == 2:
            before = self.received.get(p.packet_id)
            if before is not None:
                if before != (p.topic, p.payload) or not p.dup:
                    self.oracle.wrong("%s: packet identifier %d is of %s %r; now came, dup=%s, %s %r" % (
                        self.name, p.packet_id, before[0], before[1][:20], p.dup, p.topic, p.payload[:20]))
            else:
                self.received[p.packet_id] = (p.topic, p.payload)
        if p.payload and not (p.qos == 2 and before is not None):
            self.receiver.delivered(p.topic, p.qos, p.payload)
        if p.qos:
            self.answer(wire.ack(self.version, wire.PUBACK if p.qos == 1 else wire.PUBREC, p.packet_id))

    def pubrel(self, p):
        self.received.pop(p.packet_id, None)
        self.answer(wire.ack(self.version, wire.PUBCOMP, p.packet_id))

    def answer(self, data):
        """In order, and some of them late."""
        if self.late or (not self.world.calm and self.rng.random() < 0.02):
            self.late.append(data)
        else:
            self.send(data)

    def turn(self):
        """Now and then."""
        if self.late and (self.world.calm or self.rng.random() < 0.1):
            self.send(b"".join(self.late))
            self.late.clear()
        if self.habit == "restless" and not self.world.calm and self.rng.random() < 0.02:
            if self.sock is None:
                self.connect()
            else:
                self.close(self.rng.random() < 0.5)

    def begin_round(self):
        if self.habit == "always" or self.world.ending or self.rng.random() < 0.5:
            self.connect()


class Fickle(Subscriber):
    """Subscribes and unsubscribes all the time."""

    def turn(self):
        super().turn()
        if not self.ready or self.asked or self.world.calm or self.rng.random() > 0.15:
            return
        f = self.rng.choice(sorted(self.filters))
        there = [e for e in self.receiver.epochs if e.filter == f and e.left == NEVER]
        if there and (there[0].leaving < NEVER or self.rng.random() < 0.7):
            there[0].leaving = min(there[0].leaving, self.oracle.tick())
            packet_id = self.subscribe_id()
            self.asked[packet_id] = there
            self.send(wire.unsubscribe(self.version, packet_id, [self.prefix + f]))
        elif not there:
            self.subscribe([f])

    def connected(self, new):
        """What it asked for before and was not answered it asks again; it has no subscriptions that must be there."""
        if new:
            self.received.clear()
        for e in self.receiver.epochs:
            if e.granted == NEVER and e.left == NEVER and e.leaving == NEVER:
                self.subscribe([e.filter])
                break

    def unsuback(self, p):
        for e in self.asked.pop(p.packet_id):
            e.left = self.oracle.tick()


class Ending(Subscriber):
    """Ends its session now and then, and begins another."""

    def connecting(self):
        super().connecting()
        self.clean = not self.world.ending and self.rng.random() < 0.4
        if self.clean:
            self.end(None)

    def end(self, has_session):
        """The session that was may have ended (None), or has."""
        self.receiver.may_end()
        self.granted.clear()
        self.received.clear()
        if self.has_session:
            self.has_session = has_session

    def connected(self, new):
        if new:
            self.receiver.ended()
        super().connected(new)

    def lost(self):
        was_ready = self.ready
        super().lost()
        if was_ready and self.clean and self.version != wire.V5:
            self.end(False)
