# SPDX-License-Identifier: Apache-2.0
"""WebSocket as raw as lib.mqtt: frames are sent as a test wants them, and nothing is answered by itself.

    w = WebSocket(b.address("ws"))              # connected, upgraded with the sub-protocol mqtt
    w.send(BINARY, data, fin=False)             # a frame; mask=None: unmasked
    w.send(PING, b"x")
    assert w.frame() == (PONG, b"x")
    w.expect_close(1002)

    c = Client(b.address("ws"), V5)             # lib.mqtt.Client, each send_raw a frame
    c.cut = 3                                   # ... or frames of at most 3 bytes
"""
import base64
import hashlib
import os
import select
import socket
import struct
import time

from . import mqtt
from .mqtt import TIMEOUT

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def request(path="/mqtt", host="localhost", protocol="mqtt", key="dGhlIHNhbXBsZSBub25jZQ==", version="13", more=(),
            without=()):
    """The upgrade request as bytes. more: fields as text; without: names of fields to leave out."""
    fields = ["Host: " + host, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: " + version,
              "Sec-WebSocket-Key: " + key]
    if protocol is not None:
        fields.append("Sec-WebSocket-Protocol: " + protocol)
    fields = [f for f in fields if f.split(":")[0] not in without] + list(more)
    return ("GET %s HTTP/1.1\r\n%s\r\n\r\n" % (path, "\r\n".join(fields))).encode("latin-1")


def encode(opcode, payload=b"", fin=True, rsv=0, mask=b"\x37\xfa\x21\x3d", announced=None):
    """A frame. mask None: none; announced: another length than the payload's."""
    n = len(payload) if announced is None else announced
    bit = 0 if mask is None else 0x80
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if n < 126:
        head += bytes([bit | n])
    elif n < 65536:
        head += bytes([bit | 126]) + struct.pack(">H", n)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", n)
    if mask is None:
        return head + payload
    if mask != b"\0\0\0\0":
        key = int.from_bytes((mask * (len(payload) // 4 + 1))[:len(payload)], "big")
        payload = (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")
    return head + mask + payload


class WebSocket:
    def __init__(self, address, tls=None, upgrade=True, timeout=TIMEOUT, receive_buffer=None, source=None,
                 **options):
        """tls: an SSLContext; source: an address of ours. options: of request()."""
        self.timeout = timeout
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family)
        if receive_buffer is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            self.sock.bind((source, 0))
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self.buffer, self.eof, self.status, self.fields = bytearray(), False, None, {}
        if upgrade:
            self.send_raw(request(**options))
            self.expect_upgrade(options.get("key", "dGhlIHNhbXBsZSBub25jZQ=="))

    def close(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None

    def send_raw(self, data):
        self.sock.sendall(data)

    def send(self, opcode, payload=b"", **options):
        self.send_raw(encode(opcode, payload, **options))

    def fill(self, timeout):
        """@return False: nothing came."""
        if not (getattr(self.sock, "pending", lambda: 0)() or select.select([self.sock], [], [], max(timeout, 0))[0]):
            return False
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        self.eof = not data
        self.buffer += data
        return True

    # ---- the answer ----------------------------------------------------------------------------

    def answer(self):
        """The head of an HTTP answer: status and fields, lower case; what follows stays in the buffer."""
        deadline = time.monotonic() + self.timeout
        while b"\r\n\r\n" not in self.buffer:
            if self.eof:
                raise mqtt.Closed("closed without an answer: %r" % bytes(self.buffer))
            if not self.fill(deadline - time.monotonic()):
                raise AssertionError("no answer to the upgrade request")
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        return self.status

    def expect_upgrade(self, key):
        assert self.answer() == 101, (self.status, self.fields, bytes(self.buffer))
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert self.fields["sec-websocket-accept"] == accept, self.fields
        assert self.fields["upgrade"] == "websocket" and self.fields["connection"] == "Upgrade", self.fields

    def expect_refusal(self, status):
        """An HTTP error, with a body as long as it says, and the end. @return the body."""
        assert self.answer() == status, (self.status, self.fields, bytes(self.buffer))
        assert self.fields["connection"] == "close", self.fields
        self.wait_eof()
        assert len(self.buffer) == int(self.fields["content-length"]), (self.fields, self.buffer)
        return self.buffer.decode()

    # ---- frames --------------------------------------------------------------------------------

    def take(self):
        """The first whole frame of the buffer, or None."""
        b = self.buffer
        if len(b) < 2:
            return None
        if not b[0] & 0x80 or b[0] & 0x70 or b[1] & 0x80:
            raise AssertionError("a fragment, a reserved bit or a mask from the broker: %r" % bytes(b[:16]))
        n, head = b[1], 2
        if n >= 126:
            head = 4 if n == 126 else 10
            if len(b) < head:
                return None
            n = int.from_bytes(b[2:head], "big")
            if n < (126 if head == 4 else 65536):
                raise AssertionError("a length that is not in its shortest form")
        if len(b) < head + n:
            return None
        got = b[0] & 15, bytes(b[head:head + n])
        del b[:head + n]
        return got

    def frame(self, timeout=None):
        """The next frame: (opcode, payload); None at the end."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            got = self.take()
            if got is not None:
                return got
            if self.eof:
                assert not self.buffer, "half a frame at the end: %r" % bytes(self.buffer)
                return None
            if not self.fill(deadline - time.monotonic()):
                raise AssertionError("no frame came")

    def data(self, size):
        """So many bytes of binary frames, whatever their number."""
        out = bytearray()
        while len(out) < size:
            got = self.frame()
            assert got is not None and got[0] == BINARY, got
            out += got[1]
        assert len(out) == size, (len(out), size)
        return bytes(out)

    def expect_close(self, code, binary=False):
        """Close with this code (None: without one), then the end. binary: data may come first."""
        got = self.frame()
        while binary and got is not None and got[0] == BINARY:
            got = self.frame()
        wanted = b"" if code is None else struct.pack(">H", code)
        assert got == (CLOSE, wanted), "expected Close %s, got %r" % (code, got)
        self.wait_eof()
        assert not self.buffer, "something behind Close: %r" % bytes(self.buffer)

    def wait_eof(self):
        deadline = time.monotonic() + self.timeout
        while not self.eof:
            if not self.fill(deadline - time.monotonic()):
                raise AssertionError("the broker did not close the connection")


class Client(mqtt.Client):
    """MQTT in it. Pings of the broker are not answered; a Close ends it as the end of TCP would."""

    def __init__(self, address, version=mqtt.V5, cut=None, timeout=TIMEOUT, **options):
        self.cut, self.options = cut, options
        super().__init__(address, version, timeout=timeout)

    def _open(self, address, source):
        self.ws = WebSocket(address, timeout=self.timeout, **self.options)
        return self.ws.sock

    def send_raw(self, data):
        if self.cut is None:
            self.ws.send(BINARY, data)
            return
        parts = [data[i:i + self.cut] for i in range(0, len(data), self.cut)]
        self.ws.send_raw(b"".join(encode(BINARY, p, mask=os.urandom(4)) for p in parts))

    def _fill(self, deadline):
        got = self.ws.take()
        while got is None:
            if self.ws.eof:
                self.eof = True
                return True
            if not self.ws.fill(deadline - time.monotonic()):
                return False
            got = self.ws.take()
        if got[0] == BINARY:
            self.buffer += got[1]
        elif got[0] == CLOSE:
            self.ws.wait_eof()
            self.eof = True
        return True

    def close(self):
        self.ws.close()
        self.sock = None
