# SPDX-License-Identifier: Apache-2.0
"""Clients through `openssl s_client`, which can do what Python's ssl module cannot: pre-shared keys.

    c = SClient(b.address("psk"), psk("alice", KEY), "-tls1_2")
    c.connect("id")                # and all else that Client can do
    c.failed()                     # or: the handshake fails; what s_client said of it
"""
import os
import socket
import subprocess
import threading

from . import mqtt, wire


def psk(identity, key):
    return ["-psk_identity", identity, "-psk", key]


class SClient(mqtt.Client):
    """What the broker sends after the handshake is read as MQTT; close() ends the process."""

    def __init__(self, address, *args, version=wire.V5, timeout=mqtt.TIMEOUT):
        ours, theirs = socket.socketpair()
        super().__init__(ours, version, timeout=timeout)
        flat = [a for arg in args for a in ([arg] if isinstance(arg, str) else arg)]
        where = (["-unix", address] if isinstance(address, str)
                 else ["-connect", "%s:%d" % address])
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["openssl", "s_client", "-quiet", "-nocommands"] + where + flat,
            stdin=theirs, stdout=theirs, stderr=subprocess.PIPE)
        theirs.close()
        self.said = b""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        self.said = self.process.stderr.read()
        self.process.stderr.close()

    def failed(self):
        """The connection ends before a byte of MQTT has come. @return the lines of s_client."""
        self.process.wait(self.timeout)
        self.reader.join(self.timeout)
        self.wait_closed()
        if self.process.returncode == 0:
            raise AssertionError("s_client ended well")
        return self.said.decode("utf-8", "replace")

    def alert(self):
        """failed(), with the TLS alert by its number."""
        said = self.failed()
        for line in said.splitlines():
            if "SSL alert number" in line:
                return int(line.rsplit(" ", 1)[1])
        raise AssertionError("no alert came: %s" % said)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        super().close()


def openssl(folder, *args):
    subprocess.run(("openssl",) + args, cwd=folder, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


class Authority:
    """A CA of its own in a folder: Authority(b.dir).issue("alice") makes alice.pem and alice.key."""

    def __init__(self, folder, name="ca"):
        self.folder, self.name = folder, name
        self.certificate = os.path.join(folder, name + ".pem")
        openssl(folder, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "2", "-subj", "/CN=%s" % name, "-keyout", name + ".key",
                "-out", name + ".pem")

    def issue(self, cn, subject=None, san=None):
        """@return (certificate, key)"""
        openssl(self.folder, "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-subj", subject or "/CN=%s" % cn, "-keyout", cn + ".key", "-out",
                cn + ".csr")
        extra = []
        if san is not None:
            with open(os.path.join(self.folder, cn + ".ext"), "w", encoding="utf-8") as f:
                f.write("subjectAltName=%s\n" % san)
            extra = ["-extfile", cn + ".ext"]
        openssl(self.folder, "x509", "-req", "-in", cn + ".csr", "-CA", self.name + ".pem", "-CAkey",
                self.name + ".key", "-CAcreateserial", "-days", "2", "-out", cn + ".pem", *extra)
        return os.path.join(self.folder, cn + ".pem"), os.path.join(self.folder, cn + ".key")
