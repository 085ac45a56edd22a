# SPDX-License-Identifier: Apache-2.0
"""What the system knows about a broker's process: memory, processor time, sockets."""
import contextlib
import os
import time

PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20

STATES = {"01": "ESTABLISHED", "02": "SYN_SENT", "03": "SYN_RECV", "04": "FIN_WAIT1",
          "05": "FIN_WAIT2", "06": "TIME_WAIT", "07": "CLOSE", "08": "CLOSE_WAIT",
          "09": "LAST_ACK", "0A": "LISTEN", "0B": "CLOSING"}


def memory(b):
    """Resident bytes of the broker."""
    with open("/proc/%d/statm" % b.process.pid, encoding="ascii") as f:
        return int(f.read().split()[1]) * PAGE


def sanitized(b):
    """AddressSanitizer and ThreadSanitizer reserve terabytes for their shadow."""
    with open("/proc/%d/statm" % b.process.pid, encoding="ascii") as f:
        return int(f.read().split()[0]) * PAGE > 1 << 40


def slack(b):
    """Bytes that a sanitizer holds back for itself (freed memory in quarantine)."""
    return 600 * MIB if sanitized(b) else 0


def cpu_seconds(b):
    with open("/proc/%d/stat" % b.process.pid, encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def threads(b, name):
    """What the kernel says of the broker's threads of that name. @return [{field: text}]"""
    found = []
    for task in os.listdir("/proc/%d/task" % b.process.pid):
        # One that ends meanwhile is not there, or no process any more.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open("/proc/%d/task/%s/status" % (b.process.pid, task), encoding="ascii") as f:
                found.append(dict(line.rstrip("\n").split(":\t", 1) for line in f))
    return [fields for fields in found if fields["Name"] == name]


def waits(b, name):
    """How often the broker's threads of that name have gone to sleep."""
    return sum(int(fields["voluntary_ctxt_switches"]) for fields in threads(b, name))


def descriptors(b):
    return len(os.listdir("/proc/%d/fd" % b.process.pid))


def sockets(port):
    """States of the broker's side of all TCP connections to a port of the loopback: [str]."""
    out = []
    with open("/proc/net/tcp", encoding="ascii") as f:
        next(f)
        for line in f:
            fields = line.split()
            if int(fields[1].split(":")[1], 16) == port:
                state = STATES.get(fields[3], fields[3])
                if state != "LISTEN":
                    out.append(state)
    return out


def wait_until(condition, what, timeout):
    """Until condition() is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("still not: " + what)
        time.sleep(0.02)
