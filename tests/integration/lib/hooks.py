# SPDX-License-Identifier: Apache-2.0
"""Helpers for tests of plugins: the gate (tests/plugins/gate.c), and events as scribe writes them."""
import json
import os
import re
import socket
import time

from .broker import TIMEOUT


def settle(b):
    """Until the log has been read up to now: what is logged from here on comes behind b.mark()."""
    with socket.create_connection(b.address()) as s:
        b.wait_log(r"connection from 127\.0\.0\.1:%d " % s.getsockname()[1])


class Gate:
    """Requests to the plugin "gate" stay pending between close() and open()."""

    def __init__(self, b, name="hold"):
        self.b, self.path = b, b.path(name)
        settle(b)
        self.since = b.mark()

    def close(self, number=None):
        """All requests, or the one with that number."""
        with open(self.path if number is None else "%s.%d" % (self.path, number), "w", encoding="ascii"):
            pass
        return self

    def open(self, number=None):
        os.unlink(self.path if number is None else "%s.%d" % (self.path, number))

    def _wait(self, text, client=None):
        regex = r'plugin "gate[^"]*": ' + text
        if client is not None:
            regex += " " + re.escape(client) + "$"
        line = self.b.wait_log(regex, since=self.since)
        return line

    def asked(self, hook, client=None):
        """Wait until that hook was asked. @return the number of the request."""
        line = self._wait(r"asked \d+ %s" % hook, client)
        return int(re.search(r"asked (\d+) ", line).group(1))

    def cancelled(self, number):
        return self._wait(r"cancelled %d\b" % number)

    def resolved(self, number, how="ok"):
        return self._wait(r"resolved %d: %s$" % (number, how))


def gate(**options):
    return dict({"order": 50, "hold": "{dir}/hold", "module": "gate"}, **options)


class Events:
    """What scribe has written; reading goes on where it stopped."""

    def __init__(self, b, name="events"):
        self.path, self.seen, self.at = b.path(name), [], 0

    def read(self):
        if not os.path.exists(self.path):
            return self.seen
        with open(self.path, "rb") as f:
            f.seek(self.at)
            data = f.read()
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            self.seen.append(json.loads(line))
        self.at += whole
        return self.seen

    def of(self, kind=None, **fields):
        self.read()
        return [e for e in self.seen if (kind is None or e["type"] == kind)
                and all(e.get(k) == v for k, v in fields.items())]

    def wait(self, kind, count=1, timeout=TIMEOUT, **fields):
        """The first event like that, once there are `count` of them."""
        deadline = time.monotonic() + timeout
        while True:
            found = self.of(kind, **fields)
            if len(found) >= count:
                return found[0]
            if time.monotonic() > deadline:
                raise AssertionError("%d events %s %r, not %d; last: %s" % (
                    len(found), kind, fields, count, self.seen[-5:]))
            time.sleep(0.01)


def eventually(check, what, timeout=TIMEOUT):
    """Until check() is true. @return what it returned."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("not within %g s: %s" % (timeout, what))
        time.sleep(0.01)
