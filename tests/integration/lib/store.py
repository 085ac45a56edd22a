# SPDX-License-Identifier: Apache-2.0
"""Stores and what is in them: grapnelctl store, and a broker (or Mosquitto) that is filled with everything there is."""
import base64
import json
import os
import shutil
import subprocess
import tempfile

from .broker import GRAPNELCTL, TIMEOUT
from .mqtt import *  # noqa: F401,F403

HEADER = {"type": "grapnel-store", "format": 1, "schema": 1, "program": "grapnel 0", "time_ms": 1, "alive_ms": 1}


class Store:
    """A folder for one; `with Store() as s:`."""

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="grapnel-store-")
        self.store = os.path.join(self.dir, "store")
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.dir)

    def path(self, name):
        return os.path.join(self.dir, name)

    def ctl(self, command, *args, code=0, stdin=None):
        r = subprocess.run([GRAPNELCTL, "store", command, "--directory", self.store] + list(args), input=stdin,
                           capture_output=True, timeout=TIMEOUT, check=False)
        assert r.returncode == code, "store %s: exit code %d, not %d\n%s" % (
            command, r.returncode, code, r.stderr.decode(errors="replace"))
        return r

    def load(self, *lines, args=(), code=0):
        return self.ctl("import", *args, "-", code=code, stdin=export_of(*lines))

    def lines(self):
        """What an export has, without header and end."""
        out = [json.loads(x) for x in self.ctl("export").stdout.splitlines()]
        assert out[0]["type"] == "grapnel-store" and out[-1] == {"type": "end", "lines": len(out) - 1}, out
        return out[1:-1]

    def stats(self):
        return json.loads(self.ctl("stats", "--json").stdout)

    def of(self, kind):
        return [x for x in self.lines() if x["type"] == kind]


def export_of(*lines):
    rows = [HEADER] + list(lines)
    rows.append({"type": "end", "lines": len(rows)})
    return b"".join(json.dumps(x).encode() + b"\n" for x in rows)


def b64(data):
    return base64.b64encode(data).decode()


def named(lines):
    """With names instead of the numbers of sessions and messages, which an import gives anew."""
    sessions, messages = {}, {}
    out = []
    for x in json.loads(json.dumps(lines)):
        if x["type"] == "session":
            sessions[x["id"]] = x["id"] = [x.get("mountpoint"), x["client_id"], x.get("group")]
        if x["type"] == "message":
            messages[x["id"]] = x["id"] = "message %d" % len(messages)
        if "session" in x:
            x["session"] = sessions[x["session"]]
        for r in x.get("receivers", []):
            r["session"] = sessions[r["session"]]
        out.append(x)
    for x in out:
        for sent in x.get("sent", []):
            if "message" in sent:
                sent["message"] = messages[sent["message"]]
    return out


def fill(m, passwords=None):
    """Sessions of every kind, messages in every state."""
    def login(name):
        return {"username": name, "password": passwords[name]} if passwords else {"username": name}

    watcher = m.connect(V5, "watcher", clean=False, props=[(P.SESSION_EXPIRY, 100000)])
    watcher.subscribe([Sub("q1/#", 1), Sub("q2/+", 2, no_local=True, rap=True)], props=[(P.SUBSCRIPTION_ID, 7)])
    watcher.disconnect()
    old = m.connect(V311, "old", clean=False, **login("ann"))
    old.subscribe([Sub("q0/#", 0), Sub("/+/x", 1), Sub("q1/1", 1)])
    old.disconnect()
    gone = m.connect(V5, "clean", clean=True)
    gone.subscribe("q1/#", qos=1)
    gone.disconnect()
    share = m.connect(V5, "share", clean=False, props=[(P.SESSION_EXPIRY, 100000)])
    share.subscribe("$share/g/s/#", qos=1)
    share.disconnect()
    flight = m.connect(V5, "flight", clean=False, props=[(P.SESSION_EXPIRY, 100000)])
    flight.subscribe(Sub("f/#", 2))
    p = m.connect(V5, "publisher", **login("bob"))
    p.publish("retained/bytes", bytes(range(256)), qos=1, retain=True)
    p.publish("retained/gone", "x", qos=1, retain=True)
    p.publish("retained/gone", "", qos=1, retain=True)
    p.publish("retained/props", "with properties", qos=2, retain=True, props=[
        (P.MESSAGE_EXPIRY, 100000), (P.CONTENT_TYPE, "text/plain"), (P.USER_PROPERTY, ("k", "1")),
        (P.USER_PROPERTY, ("k", "2"))])
    for i in range(3):
        p.publish("q1/%d" % i, "queued %d" % i, qos=1)
    p.publish("q2/1", "twice", qos=2, retain=True)
    p.publish("q0/1", "lost", qos=0)
    p.publish("/a/x", "slash", qos=1)
    p.publish("s/1", "shared", qos=1)
    for topic, qos in (("f/released", 2), ("f/qos1", 1), ("f/qos2", 2), ("f/qos2/b", 2)):
        p.publish(topic, topic, qos=qos)
    packets = [flight.expect(PUBLISH) for _ in range(4)]
    flight.pubrec(packets[0].packet_id)
    flight.wait_for(PUBREL, packet_id=packets[0].packet_id)
    giver = m.connect(V5, "giver", clean=False, props=[(P.SESSION_EXPIRY, 100000)])
    giver.subscribe(Sub("q2/+", 2, no_local=True))
    given = giver.send_publish("q2/given", "not released", qos=2, retain=True)
    giver.wait_for(PUBREC, packet_id=given)
    return {"flight": packets, "given": given}
