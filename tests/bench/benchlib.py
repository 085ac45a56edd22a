# SPDX-License-Identifier: Apache-2.0
"""What the programs of this folder share: the machine, brokers and how they are started, mqttload,
a small MQTT 3.1.1 client, and medians.

Paths: BUILD is the build folder (environment GRAPNEL_BUILD, else the current folder); GRAPNELD and
MQTTLOAD name other programs than those in it.
"""
import base64
import fcntl
import fnmatch
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.path.abspath(os.environ.get("GRAPNEL_BUILD", "."))
START_S = 15.0
STOP_S = 10.0
SETTLE_S = 0.3  # between the first CONNACK and the first look at the memory
USER, PASSWORD = "bench", "bench"


def fail(text):
    sys.exit("%s: %s" % (os.path.basename(sys.argv[0]), text))


def program(variable, path):
    """A program of the build, or what the environment names instead."""
    path = os.environ.get(variable) or os.path.join(BUILD, path)
    if not os.access(path, os.X_OK):
        fail("no program %s: run this in the build folder after `make bench`, or set %s"
             % (path, variable))
    return path


# ---- the machine -------------------------------------------------------------------------------

def machine():
    """One line: CPU model, cores, memory, kernel."""
    model = "CPU"
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith(("model name", "Model")):
                model = " ".join(line.split(":", 1)[1].split())
                break
    with open("/proc/meminfo", encoding="utf-8") as f:
        gib = int(f.readline().split()[1]) / 1048576
    return "%s, %d cores, %.0f GiB, %s %s" % (model, os.cpu_count(), gib, os.uname().sysname, os.uname().release)


def descriptors():
    """Take all descriptors there are; @return how many."""
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Turn:
    """A lock that measuring programs of one machine hold while they measure; path None: no lock."""

    def __init__(self, path):
        self.path, self.f = path, None

    def __enter__(self):
        if self.path:
            self.f = open(self.path, "a", encoding="utf-8")
            fcntl.flock(self.f, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_):
        if self.f:
            self.f.close()
            self.f = None


# ---- numbers -----------------------------------------------------------------------------------

def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def significant(v, digits=3):
    """12345.6 -> 12,300; 0.12345 -> 0.123"""
    if v is None:
        return "–"
    if v == 0:
        return "0"
    import math
    places = digits - 1 - math.floor(math.log10(abs(v)))
    return "{:,.{}f}".format(round(v, places), max(places, 0))


# ---- brokers -----------------------------------------------------------------------------------

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port, user=None, password=None):
    """Does a broker accept a CONNECT there?"""
    try:
        c = Client(port, "probe", user=user, password=password, timeout=2)
        c.close()
        return True
    except (OSError, ValueError):
        return False


def rss(pid):
    """Resident bytes: all, and without what is mapped from files."""
    found = {}
    with open("/proc/%d/status" % pid, encoding="utf-8") as f:
        for line in f:
            if line.startswith(("VmRSS:", "RssAnon:")):
                name, value = line.split(":")
                found[name] = int(value.split()[0]) * 1024
    return found.get("VmRSS", 0), found.get("RssAnon", 0)


def cpu(pid):
    """Seconds of processor time, of all threads; in nanoseconds where the kernel says them so."""
    total = 0
    try:
        for thread in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/schedstat" % (pid, thread), encoding="utf-8") as f:
                total += int(f.read().split()[0])
        return total / 1e9
    except OSError:
        with open("/proc/%d/stat" % pid, encoding="utf-8") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written(pid):
    """Bytes that a process has given to disks; what is on a tmpfs does not count."""
    with open("/proc/%d/io" % pid, encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("write_bytes:"))


def threads(pid):
    """{name of a thread: seconds of processor time}"""
    found = {}
    for thread in os.listdir("/proc/%d/task" % pid):
        try:
            with open("/proc/%d/task/%s/comm" % (pid, thread), encoding="utf-8") as f:
                name = f.read().strip()
            with open("/proc/%d/task/%s/schedstat" % (pid, thread), encoding="utf-8") as f:
                found[name] = found.get(name, 0) + int(f.read().split()[0]) / 1e9
        except OSError:
            continue
    return found


class Broker:
    """A program that listens on port until it gets SIGTERM.

    user, password: what clients bring; core: the CPU it is pinned to; fresh: a folder that is
    emptied before each start.
    """

    def __init__(self, name, port, command, user=None, password=None, tls=None, skip=(), fresh=None):
        self.name, self.port, self.command = name, port, command
        self.user, self.password, self.tls, self.fresh = user, password, tls, fresh
        self.only, self.skip = ("*",), skip  # scenarios it takes part in; * matches anything
        self.process, self.started_s, self.base_rss = None, None, (0, 0)
        self.log = None  # where its output goes
        self.prefix = []  # a program that runs it

    def start(self, core=None, start_s=START_S):
        """@return None, or why it did not start."""
        if self.fresh:
            empty(self.fresh)
        began = time.monotonic()
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        out = open(self.log, "ab") if self.log else subprocess.DEVNULL
        try:
            self.process = subprocess.Popen(self.prefix + self.command, stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, preexec_fn=pin)
        except OSError as e:
            return str(e)
        finally:
            if self.log:
                out.close()
        while not answers(self.port, self.user, self.password):
            if self.process.poll() is not None:
                return "ended with %d" % self.process.returncode
            if time.monotonic() - began > start_s:
                self.stop()
                return "no CONNACK within %g s" % start_s
            time.sleep(0.002)
        self.started_s = time.monotonic() - began
        time.sleep(SETTLE_S)
        self.base_rss = rss(self.process.pid)
        return None

    def stop(self):
        """@return its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode

    @property
    def pid(self):
        return self.process.pid


def empty(path):
    path = os.path.realpath(path)
    if not path.startswith("/tmp/"):
        fail("fresh=%s: not below /tmp" % path)
    for name in os.listdir(path) if os.path.isdir(path) else []:
        p = os.path.join(path, name)
        if os.path.isdir(p) and not os.path.islink(p):
            shutil.rmtree(p)
        else:
            os.unlink(p)


# What mqttload does, and nothing else. Wildcards where it uses numbers.
RULES = """\
user %s
allow publish   ml/pairs/+/+
allow subscribe ml/pairs/+/+
allow publish   ml/fanout/+/+
allow subscribe ml/fanout/+/+
allow publish   ml/fanin/+/+
allow subscribe ml/fanin/#
allow publish   ml/retained/+/+
allow subscribe ml/retained/#
allow publish   ml/offline/+/+
allow subscribe ml/offline/#
allow publish   site/+/dev/+/temp
allow subscribe site/+/dev/+/#
""" % USER


def cheap_hash(password):
    """Salted SHA-512, once, as mosquitto_passwd wrote it before 2.0: connecting is measured, not a
    password hash that is slow on purpose."""
    salt = b"benchmarking"
    digest = hashlib.sha512(password.encode() + salt).digest()
    return "$6$%s$%s" % (base64.b64encode(salt).decode(), base64.b64encode(digest).decode())


def certificate(folder):
    """A self-signed certificate with an RSA key of 2048 bits, as most brokers have; @return its path and the key's."""
    cert, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", cert, "-keyout", key], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return cert, key


class Grapneld(Broker):
    """grapneld of the build with a configuration in a temporary folder, which close() removes.

    rules: auth-file with a password file and the rules above, else anonymous clients
    tls: one more listener, with a certificate made for it
    limits, top: lines for limits { } and for the top level
    """

    def __init__(self, name="grapnel", rules=False, workers=1, limits="", top="", keep=False, tls=False):
        self.dir = tempfile.mkdtemp(prefix="grapnel-bench-")
        port = free_port()
        super().__init__(name, port, [program("GRAPNELD", "grapneld"), "-c", self.path("grapnel.conf")],
                         user=USER if rules else None, password=PASSWORD if rules else None,
                         tls=free_port() if tls else None)
        self.keep = keep
        self.log = self.path("log")
        text = [
            "workers = %d" % workers,
            'plugin_directory = "%s"' % os.path.join(BUILD, "modules"),
            top,
            "admin { socket = none }",
            "log { level = warning }",
            'store { directory = "%s"  durability = off }' % self.dir,
            # What a peer is given too: see the brokers file in README.md.
            "limits {\n\tmax_queued_messages = 1000000\n%s}" % limits,
            'listener "bench" { bind = "127.0.0.1:%d"  anonymous = %s }' % (port, "no" if rules else "yes"),
        ]
        if tls:
            text.append('listener "tls" { bind = "127.0.0.1:%d"  anonymous = %s  tls = yes  certificate = "%s"  '
                        'private_key = "%s" }' % (self.tls, "no" if rules else "yes", *certificate(self.dir)))
        if rules:
            self.write("passwd", "%s:%s\n" % (USER, cheap_hash(PASSWORD)), 0o600)
            self.write("rules", RULES)
            text.append('plugin "auth-file" {\n\tpassword_file = "%s"\n\trules = ["%s"]\n}'
                        % (self.path("passwd"), self.path("rules")))
        self.write("grapnel.conf", "\n".join(text) + "\n")

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        with os.fdopen(os.open(self.path(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as f:
            f.write(text)

    def start(self, core=None, start_s=START_S):
        why = super().start(core, start_s)
        if why:
            with open(self.log, encoding="utf-8", errors="replace") as f:
                fail("grapneld: %s\n%s" % (why, f.read()))
        return None

    def close(self):
        self.stop()
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def broker_version():
    lines = subprocess.run([program("GRAPNELD", "grapneld"), "-V"], stdout=subprocess.PIPE, text=True,
                           check=True).stdout.splitlines()
    return lines[0] if lines else "grapneld"


def brokers_from(path):
    """See README.md for the format."""
    brokers = []
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.split("#", 1)[0].strip()
            if not line:
                continue
            fields = [x.strip() for x in line.split("|")] + [""]
            if len(fields) < 4:
                fail("%s:%d: a broker is  name | port | command | options" % (path, number))
            options = dict(o.split("=", 1) for o in fields[3].split())
            if fields[2] in ("@anonymous", "@rules"):
                b = Grapneld(fields[0], rules=fields[2] == "@rules", workers=int(options.get("workers", 1)),
                             tls="tls" in options)
            else:
                b = Broker(fields[0], int(fields[1]), shlex.split(fields[2]), options.get("user"),
                           options.get("password"), int(options["tls"]) if "tls" in options else None,
                           fresh=options.get("fresh"))
            b.only = options.get("only", "*").split(",")
            b.skip = options.get("skip", "").split(",")
            if "version" in options:
                b.name += " " + options["version"]
            brokers.append(b)
    if not brokers:
        fail("%s: no broker in it" % path)
    return brokers


def mqttload(broker, arguments, core=None, timeout=180, port=None):
    """One run; @return what its JSON says, {"exit": -1} when it said nothing."""
    command = [program("MQTTLOAD", "tests/bench/mqttload"), *shlex.split(arguments), "-p",
               str(port or broker.port), "--pid", str(broker.pid), "--quiet", "--label", broker.name]
    if broker.user:
        command += ["--user", broker.user, "--pass", broker.password or ""]
    pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
    try:
        r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=timeout,
                           text=True, preexec_fn=pin, check=False)
        return json.loads(r.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError):
        return {"exit": -1}


# ---- a client ----------------------------------------------------------------------------------

def varint(n):
    out = bytearray()
    while True:
        out.append(n & 0x7f | (0x80 if n > 0x7f else 0))
        n >>= 7
        if not n:
            return bytes(out)


def text(s):
    s = s if isinstance(s, bytes) else s.encode()
    return len(s).to_bytes(2, "big") + s


def packet(head, body=b""):
    return bytes([head]) + varint(len(body)) + body


def publish(topic_name, payload=b"", qos=0, packet_id=0, retain=False):
    return packet(0x30 | qos << 1 | retain,
                  text(topic_name) + (packet_id.to_bytes(2, "big") if qos else b"") + payload)


def connect(client_id, user=None, password=None, clean=True):
    flags = (2 if clean else 0) | (0x80 if user else 0) | (0x40 if user and password else 0)
    body = text("MQTT") + bytes([4, flags, 0, 0]) + text(client_id)
    if user:
        body += text(user) + (text(password) if password else b"")
    return packet(0x10, body)


class Client:
    """MQTT 3.1.1 on a blocking socket; no thread, no keep alive."""

    def __init__(self, port, client_id, user=None, password=None, clean=True, timeout=30):
        self.s = socket.create_connection(("127.0.0.1", port), timeout)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""
        self.s.sendall(connect(client_id, user, password, clean))
        head, body = self.packet()
        if head != 0x20 or len(body) != 2 or body[1] != 0:
            self.s.close()
            raise ValueError("CONNECT refused")
        self.session_present = bool(body[0] & 1)

    def sendall(self, data):
        self.s.sendall(data)

    def packet(self):
        """The next one: its first byte and its body."""
        while True:
            n = shift = 0
            for i in range(1, min(5, len(self.buf))):
                n |= (self.buf[i] & 0x7f) << shift
                shift += 7
                if self.buf[i] < 0x80:
                    if len(self.buf) >= i + 1 + n:
                        head, body = self.buf[0], self.buf[i + 1:i + 1 + n]
                        self.buf = self.buf[i + 1 + n:]
                        return head, body
                    break
            more = self.s.recv(262144)
            if not more:
                raise ValueError("the broker closed the connection")
            self.buf += more

    def bytes(self, n):
        """Wait for n bytes that have been counted before, whatever is in them."""
        got = len(self.buf)
        parts = [self.buf]
        while got < n:
            more = self.s.recv(262144)
            if not more:
                raise ValueError("the broker closed the connection")
            parts.append(more)
            got += len(more)
        all_of_it = b"".join(parts)
        self.buf = all_of_it[n:]
        return all_of_it[:n]

    def subscribe(self, filters, qos=0):
        self.s.sendall(packet(0x82, b"\0\1" + b"".join(text(f) + bytes([qos]) for f in filters)))
        head, body = self.packet()
        if head != 0x90 or len(body) != 2 + len(filters) or any(c > 2 for c in body[2:]):
            raise ValueError("SUBSCRIBE refused")

    def ping(self):
        """Everything sent before has been handled when this returns."""
        self.s.sendall(b"\xc0\0")
        self.bytes(2)

    def close(self):
        try:
            self.s.sendall(b"\xe0\0")
        except OSError:
            pass
        self.s.close()


def messages_per_write(arguments):
    """Belongs to every rate; 64 is mqttload's default."""
    m = re.search(r"--batch (\d+)", arguments)
    return int(m.group(1)) if m else 64


def chosen(names, only, skip=()):
    """Those of the names that match one of only and none of skip; * matches anything."""
    return [n for n in names if any(fnmatch.fnmatchcase(n, w) for w in only)
            and not any(fnmatch.fnmatchcase(n, w) for w in skip)]
