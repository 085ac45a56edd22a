# SPDX-License-Identifier: Apache-2.0
"""TLS clients that do what no library would: bytes one by one, no close_notify, KeyUpdates.

    t = Tap(b.address("tls"), context)      # records in memory: the test moves them
    t.handshake(step=1)                     # byte by byte
    t.write(data, flush=False); t.flush()   # several records in one segment
    k = Libssl(b.address("tls"))            # OpenSSL itself
    k.write(data); k.key_update(request=True)
"""
import ctypes
import socket
import ssl
import struct

from .broker import TIMEOUT


class Tap:
    def __init__(self, address, context, server_name=None, session=None):
        self.sock = socket.create_connection(address, TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_name, session=session)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.sock.close()

    def hello(self):
        """The bytes of the ClientHello."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            self.hello_bytes = self.outgoing.read()
            return self.hello_bytes
        raise AssertionError("a handshake without the other side")

    def flush(self, step=None):
        data = self.outgoing.read()
        step = step or max(len(data), 1)
        for i in range(0, len(data), step):
            self.sock.sendall(data[i:i + step])

    def fill(self):
        data = self.sock.recv(1 << 16)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def handshake(self, step=None, last=True):
        """last: False keeps the client's last flight in self.outgoing."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush(step)
                self.fill()
        if last:
            self.flush(step)
        return self

    def write(self, data, flush=True, record=16384):
        for i in range(0, len(data), record):
            self.tls.write(data[i:i + record])
        if flush:
            self.flush()

    def read(self, size=1 << 16):
        """What comes next; b"": the end, with close_notify or without (then self.notified is False)."""
        while True:
            try:
                data = self.tls.read(size)
                self.notified = data == b""
                return data
            except ssl.SSLWantReadError:
                self.flush()
                self.fill()
            except ssl.SSLEOFError:
                self.notified = False
                return b""
            except ssl.SSLZeroReturnError:
                self.notified = True
                return b""

    def read_exactly(self, size):
        data = bytearray()
        while len(data) < size:
            got = self.read(min(size - len(data), 1 << 16))
            assert got, "the end after %d of %d bytes" % (len(data), size)
            data += got
        return bytes(data)

    def shutdown(self):
        """close_notify; reading goes on."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        self.flush()


class Libssl:
    """As much of OpenSSL as it takes to send a KeyUpdate. Raises OSError where there is no libssl.so.3."""
    WANT_READ, WANT_WRITE, ZERO_RETURN = 2, 3, 6

    def __init__(self, address):
        self.lib = lib = ctypes.CDLL("libssl.so.3")
        for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
            getattr(lib, name).restype = ctypes.c_void_p
        for name, kinds in (("SSL_CTX_new", "p"), ("SSL_new", "p"), ("SSL_CTX_free", "p"), ("SSL_free", "p"),
                            ("SSL_set_fd", "pi"), ("SSL_connect", "p"), ("SSL_read", "ppi"),
                            ("SSL_write", "ppi"), ("SSL_key_update", "pi"), ("SSL_get_error", "pi"),
                            ("SSL_do_handshake", "p")):
            getattr(lib, name).argtypes = [ctypes.c_void_p if k == "p" else ctypes.c_int for k in kinds]
        self.sock = socket.create_connection(address, TIMEOUT)
        self.sock.settimeout(None)  # blocking calls of OpenSSL
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(TIMEOUT), 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(TIMEOUT), 0))
        self.ctx = lib.SSL_CTX_new(lib.TLS_client_method())
        self.ssl = lib.SSL_new(self.ctx)
        lib.SSL_set_fd(self.ssl, self.sock.fileno())
        self._good(lib.SSL_connect(self.ssl), "SSL_connect")

    def _good(self, r, what):
        if r <= 0:
            error = self.lib.SSL_get_error(self.ssl, r)
            text = ctypes.create_string_buffer(256)
            crypto = ctypes.CDLL("libcrypto.so.3")
            crypto.ERR_error_string_n(crypto.ERR_get_error(), text, len(text))
            raise AssertionError("%s: error %d: %s" % (what, error, text.value.decode()))
        return r

    def write(self, data):
        self._good(self.lib.SSL_write(self.ssl, data, len(data)), "SSL_write")

    def read(self, size=1 << 16):
        """b"": the end."""
        buffer = ctypes.create_string_buffer(size)
        n = self.lib.SSL_read(self.ssl, buffer, size)
        if n <= 0 and self.lib.SSL_get_error(self.ssl, n) == self.ZERO_RETURN:
            return b""
        return buffer.raw[:self._good(n, "SSL_read")]

    def read_exactly(self, size):
        data = bytearray()
        while len(data) < size:
            got = self.read(min(size - len(data), 1 << 16))
            assert got, "the end after %d of %d bytes" % (len(data), size)
            data += got
        return bytes(data)

    def key_update(self, request=False):
        self._good(self.lib.SSL_key_update(self.ssl, 1 if request else 0), "SSL_key_update")
        self._good(self.lib.SSL_do_handshake(self.ssl), "SSL_do_handshake")

    def close(self):
        if self.ssl:
            self.lib.SSL_free(self.ssl)
            self.lib.SSL_CTX_free(self.ctx)
            self.sock.close()
            self.ssl = None
