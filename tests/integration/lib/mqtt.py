# SPDX-License-Identifier: Apache-2.0
"""A raw MQTT client that does nothing by itself: no acknowledgement, no ping, no reconnect.

    c = b.connect(V5, "id", props=[(P.SESSION_EXPIRY, 60)])
    c.subscribe("a/#", qos=1)
    c.publish("a/b", "hello", qos=1)            # with its acknowledgements; returns the reason code
    p = c.expect(PUBLISH, topic="a/b", qos=1)   # the next packet, exactly
    c.puback(p.packet_id)

What the broker may not do is checked on the way: packet identifiers reused while they are in
flight, more in flight than Receive Maximum, packets above Maximum Packet Size, unknown aliases.
"""
import os
import select
import socket
import ssl
import struct
import time

from . import wire
from .wire import *  # noqa: F401,F403 - the constants are meant to be seen through here
from . import wire as P  # noqa: F401 - P.SESSION_EXPIRY ...

TIMEOUT = 10.0 * float(os.environ.get("GRAPNEL_TIME_FACTOR", "1"))
BRIEF = 0.15 * float(os.environ.get("GRAPNEL_TIME_FACTOR", "1"))


class Closed(AssertionError):
    """The broker closed the connection."""


class Client:
    def __init__(self, address, version=wire.V5, source=None, timeout=TIMEOUT, tls=None, server_name=None,
                 session=None):
        """
        address: (host, port), the path of a Unix socket ("@name": abstract), or a socket.
        tls: an ssl.SSLContext; server_name: the host that is asked for, and session one to resume.
        """
        self.version, self.timeout = version, timeout
        self.sock = self._open(address, source)
        if tls is not None:
            try:
                self.sock = tls.wrap_socket(self.sock, server_hostname=server_name, session=session)
            except BaseException:
                self.sock.close()
                raise
        self.buffer = bytearray()
        self.put_aside = []  # PUBLISH packets that came while something else was waited for
        self.eof = False
        self.last_id = 0
        self.connack = None
        self.client_id = None
        self.receive_maximum = 65535
        self.maximum_packet_size = None
        self.topic_alias_maximum = 0
        self.aliases = {}
        self.in_flight = {}  # packet id -> "puback", "pubrec" or "pubcomp": what we owe

    def _open(self, address, source):
        if isinstance(address, socket.socket):
            address.settimeout(self.timeout)
            return address
        if isinstance(address, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(self.timeout)
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
        else:
            sock = socket.create_connection(
                address, self.timeout, (source, 0) if source is not None else None)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    # ---- bytes ---------------------------------------------------------------------------------

    def send_raw(self, data):
        self.sock.sendall(data)

    def close(self):
        """Gone without DISCONNECT."""
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def reset(self):
        """Gone with a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _fill(self, deadline):
        """@return False: nothing came until the deadline."""
        left = max(deadline - time.monotonic(), 0)
        decrypted = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0
        if not decrypted and not select.select([self.sock], [], [], left)[0]:
            return False
        try:
            if isinstance(self.sock, ssl.SSLSocket):  # what came may be half a record, or none of ours
                self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        except (socket.timeout, ssl.SSLWantReadError):
            return False
        finally:
            self.sock.settimeout(self.timeout)
        if not data:
            self.eof = True
        self.buffer += data
        return True

    def _frame(self):
        """The first whole packet of the buffer, or None."""
        size = 0
        for i in range(1, 5):
            if len(self.buffer) <= i:
                return None
            size |= (self.buffer[i] & 0x7F) << 7 * (i - 1)
            if not self.buffer[i] & 0x80:
                break
        else:
            raise wire.ProtocolError("a fixed header with a fifth length byte")
        if i > 1 and self.buffer[i] == 0:
            raise wire.ProtocolError("a Remaining Length that is not minimal")
        if len(self.buffer) < i + 1 + size:
            return None
        frame = bytes(self.buffer[:i + 1 + size])
        del self.buffer[:i + 1 + size]
        return frame, i + 1

    def poll(self, timeout):
        """The next packet, or None when none came (or the broker closed: see .eof)."""
        if self.put_aside:
            return self.put_aside.pop(0)
        return self._next(timeout)

    def _next(self, timeout):
        deadline = time.monotonic() + timeout
        while True:
            got = self._frame()
            if got is not None:
                frame, head = got
                p = wire.decode(self.version, frame[0], frame[head:])
                p.size = len(frame)
                self._check(p)
                return p
            if self.eof:
                if self.buffer:
                    raise wire.ProtocolError("half a packet at the end: %r" % bytes(self.buffer))
                return None
            if not self._fill(deadline):
                return None

    def recv(self, timeout=None):
        """The next packet."""
        p = self.poll(self.timeout if timeout is None else timeout)
        if p is None:
            if self.eof:
                raise Closed("the broker closed the connection")
            raise AssertionError("no packet came")
        return p

    def _check(self, p):
        """What the broker must know without being asked."""
        if self.maximum_packet_size and p.size > self.maximum_packet_size:
            raise wire.ProtocolError("%r has %d bytes; Maximum Packet Size is %d" % (
                p, p.size, self.maximum_packet_size))
        if p.type == wire.PUBLISH:
            self._check_alias(p)
            if p.qos:
                owed = self.in_flight.get(p.packet_id)
                if owed is not None and not (p.dup and owed != "pubcomp"):
                    raise wire.ProtocolError("packet identifier %d reused, %s not sent: %r" % (
                        p.packet_id, owed, p))
                self.in_flight[p.packet_id] = "puback" if p.qos == 1 else "pubrec"
                if self.version == wire.V5 and len(self.in_flight) > self.receive_maximum:
                    raise wire.ProtocolError("%d messages in flight; Receive Maximum is %d" % (
                        len(self.in_flight), self.receive_maximum))

    def _check_alias(self, p):
        alias = p.prop(wire.TOPIC_ALIAS)
        if alias is None:
            return
        if alias > self.topic_alias_maximum:
            raise wire.ProtocolError("alias %d; Topic Alias Maximum is %d" % (
                alias, self.topic_alias_maximum))
        p.alias_only = p.topic == ""
        if p.alias_only:
            if alias not in self.aliases:
                raise wire.ProtocolError("alias %d was never set" % alias)
            p.topic = self.aliases[alias]
        self.aliases[alias] = p.topic

    # ---- expectations --------------------------------------------------------------------------

    @staticmethod
    def _compare(p, kind, fields):
        if p.type != kind:
            raise AssertionError("expected %s %r, got %r" % (wire.NAMES[kind], fields, p))
        for name, value in fields.items():
            if isinstance(value, str) and name == "payload":
                value = value.encode()
            if getattr(p, name, None) != value:
                raise AssertionError("expected %s=%r in %r" % (name, value, p))
        return p

    def expect(self, kind, timeout=None, **fields):
        """The next packet must be of this type and have these fields."""
        return self._compare(self.recv(timeout), kind, fields)

    def wait_for(self, kind, **fields):
        """Like expect, but PUBLISH packets (and PUBREL) that come first are put aside for later."""
        aside = []
        deadline = time.monotonic() + self.timeout
        while True:
            p = self._next(deadline - time.monotonic())
            if p is None:
                raise (Closed("closed while waiting for %s" % wire.NAMES[kind]) if self.eof
                       else AssertionError("no %s came" % wire.NAMES[kind]))
            if p.type != kind and p.type in (wire.PUBLISH, wire.PUBREL):
                aside.append(p)
                continue
            self.put_aside += aside
            return self._compare(p, kind, fields)

    def expect_nothing(self, brief=BRIEF):
        """Nothing comes for a moment, nor before the answer of a PINGREQ."""
        p = self.poll(brief)
        if p is not None:
            raise AssertionError("expected nothing, got %r" % p)
        if self.eof:
            raise Closed("expected nothing, but the broker closed the connection")
        self.send_raw(b"\xc0\x00")
        self.expect(wire.PINGRESP)

    def expect_close(self, reason=None, timeout=None):
        """The broker closes; in 5.0 with a DISCONNECT of this reason. @return that, or None."""
        last = None
        if self.version == wire.V5 and reason is not None:
            last = self.expect(wire.DISCONNECT, timeout=timeout, reason=reason)
        p = self.poll(self.timeout if timeout is None else timeout)
        if p is not None:
            raise AssertionError("expected the end, got %r" % p)
        if not self.eof:
            raise AssertionError("the broker did not close the connection")
        return last

    # ---- packets -------------------------------------------------------------------------------

    def send_connect(self, client_id, clean=True, keep_alive=60, will=None, username=None,
                     password=None, props=()):
        for p, v in props:
            if p == wire.RECEIVE_MAXIMUM:
                self.receive_maximum = v
            elif p == wire.MAXIMUM_PACKET_SIZE:
                self.maximum_packet_size = v
            elif p == wire.TOPIC_ALIAS_MAXIMUM:
                self.topic_alias_maximum = v
        self.client_id = client_id
        self.send_raw(wire.connect(self.version, client_id, clean, keep_alive, will, username,
                                   password, props))

    def connect(self, client_id, reason=0, session_present=None, **options):
        """CONNECT and its CONNACK, which must have this reason code."""
        self.send_connect(client_id, **options)
        self.connack = self.expect(wire.CONNACK, reason=reason)
        if session_present is not None and self.version != wire.V31:
            self._compare(self.connack, wire.CONNACK, {"session_present": session_present})
        self.client_id = self.connack.prop(wire.ASSIGNED_CLIENT_ID, client_id)
        return self.connack

    def next_id(self):
        self.last_id = self.last_id % 65535 + 1
        return self.last_id

    def send_publish(self, topic, payload=b"", qos=0, retain=False, dup=False, packet_id=None,
                     props=()):
        """Only the PUBLISH. @return its packet identifier."""
        if packet_id is None:
            packet_id = self.next_id() if qos else 0
        self.send_raw(wire.publish(self.version, topic, payload, qos, retain, dup, packet_id,
                                   props))
        return packet_id

    def publish(self, topic, payload=b"", qos=0, retain=False, props=(), packet_id=None):
        """PUBLISH with everything that belongs to it. @return the reason code."""
        packet_id = self.send_publish(topic, payload, qos, retain, packet_id=packet_id,
                                      props=props)
        if qos == 0:
            return 0
        if qos == 1:
            return self.wait_for(wire.PUBACK, packet_id=packet_id).reason
        reason = self.wait_for(wire.PUBREC, packet_id=packet_id).reason
        if reason < 0x80:
            self.pubrel(packet_id)
            self.wait_for(wire.PUBCOMP, packet_id=packet_id, reason=0)
        return reason

    def puback(self, packet_id, reason=0, props=()):
        self.in_flight.pop(packet_id, None)
        self.send_raw(wire.ack(self.version, wire.PUBACK, packet_id, reason, props))

    def pubrec(self, packet_id, reason=0, props=()):
        if reason >= 0x80:
            self.in_flight.pop(packet_id, None)
        else:
            self.in_flight[packet_id] = "pubcomp"
        self.send_raw(wire.ack(self.version, wire.PUBREC, packet_id, reason, props))

    def pubrel(self, packet_id, reason=0, props=()):
        self.send_raw(wire.ack(self.version, wire.PUBREL, packet_id, reason, props))

    def pubcomp(self, packet_id, reason=0, props=()):
        self.in_flight.pop(packet_id, None)
        self.send_raw(wire.ack(self.version, wire.PUBCOMP, packet_id, reason, props))

    def expect_message(self, topic=None, payload=None, timeout=None, **fields):
        """The next packet must be this PUBLISH; it is acknowledged. @return it."""
        if topic is not None:
            fields["topic"] = topic
        if payload is not None:
            fields["payload"] = payload
        p = self.expect(wire.PUBLISH, timeout=timeout, **fields)
        self.acknowledge(p)
        return p

    def acknowledge(self, p):
        if p.qos == 1:
            self.puback(p.packet_id)
        elif p.qos == 2:
            self.pubrec(p.packet_id)
            self.wait_for(wire.PUBREL, packet_id=p.packet_id, reason=0)
            self.pubcomp(p.packet_id)

    def send_subscribe(self, subs, qos=0, props=(), **options):
        """subs: a filter, a Sub, or a list of them. @return the packet identifier."""
        if not isinstance(subs, (list, tuple)):
            subs = [subs]
        subs = [s if isinstance(s, wire.Sub) else wire.Sub(s, qos, **options) for s in subs]
        packet_id = self.next_id()
        self.send_raw(wire.subscribe(self.version, packet_id, subs, props))
        return packet_id

    def subscribe(self, subs, qos=0, props=(), codes=None, **options):
        """SUBSCRIBE and its SUBACK: every filter granted with what was asked, or as `codes`."""
        n = len(subs) if isinstance(subs, (list, tuple)) else 1
        packet_id = self.send_subscribe(subs, qos, props, **options)
        p = self.wait_for(wire.SUBACK, packet_id=packet_id)
        asked = [s.qos if isinstance(s, wire.Sub) else qos
                 for s in (subs if isinstance(subs, (list, tuple)) else [subs])]
        if codes is None:
            codes = asked
        if len(p.codes) != n or p.codes != list(codes):
            raise AssertionError("expected SUBACK %r, got %r" % (codes, p))
        return p

    def unsubscribe(self, filters, codes=None, props=()):
        if isinstance(filters, (str, bytes)):
            filters = [filters]
        packet_id = self.next_id()
        self.send_raw(wire.unsubscribe(self.version, packet_id, filters, props))
        p = self.wait_for(wire.UNSUBACK, packet_id=packet_id)
        if self.version == wire.V5:
            self._compare(p, wire.UNSUBACK, {"codes": list(codes or [0] * len(filters))})
        return p

    def ping(self):
        self.send_raw(b"\xc0\x00")
        self.wait_for(wire.PINGRESP)

    def disconnect(self, reason=0, props=()):
        """DISCONNECT, and the broker closes."""
        self.send_raw(wire.disconnect(self.version, reason, props))
        self.wait_closed()
        self.close()

    def wait_closed(self):
        """Read to the end, whatever comes."""
        deadline = time.monotonic() + self.timeout
        while not self.eof:
            if not self._fill(deadline):
                raise AssertionError("the broker did not close the connection")
        self.buffer.clear()
