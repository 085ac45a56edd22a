# SPDX-License-Identifier: Apache-2.0
"""A broker of its own for a test: configuration in a temporary folder, ports the system chooses.

    b = Broker(limits={"max_qos": 1}, listeners={"mqtt": {"anonymous": True}})
    b.start()
    c = b.connect(V5, "id")
    b.stop()                      # exit code 0 in time, no sanitizer has complained

A configuration is made of dicts: {"name": value} is `name = value`, a dict as value is a block;
True and False are yes and no, lists are lists. In every string "{dir}" is the temporary folder.
"""
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from . import mqtt
from .hashes import quick_hash

FACTOR = float(os.environ.get("GRAPNEL_TIME_FACTOR", "1"))
TIMEOUT = 10.0 * FACTOR
STOP_TIMEOUT = 5.0 * FACTOR
START_TIMEOUT = 20.0 * FACTOR

SANITIZER = re.compile(r"(ERROR|WARNING|SUMMARY): \w*Sanitizer|runtime error: |LeakSanitizer")
GRAPNELD = os.environ.get("GRAPNELD", "grapneld")
GRAPNELCTL = os.environ.get("GRAPNELCTL", "grapnelctl")
PLUGINS = os.environ.get("GRAPNEL_PLUGINS", "")
SRC = os.environ.get("GRAPNEL_SRC", os.path.join(os.path.dirname(__file__), "../../.."))


def conf_value(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(conf_value(v) for v in value) + "]"
    if re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def conf_block(options, indent=""):
    out = []
    for name, value in options.items():
        if isinstance(value, dict):
            out += [indent + name + " {", conf_block(value, indent + "\t"), indent + "}"]
        elif value is not None:
            out.append("%s%s = %s" % (indent, name, conf_value(value)))
    return "\n".join(out)


class Held(AssertionError):
    """Broker.held_nobody()"""


class Broker:
    """
    listeners  {title: {option: value}}; default: one, "mqtt", anonymous, on a port of the system
    limits     options of limits { }
    plugins    {title: {option: value}}
    users      {name: password}: auth-file with a password file of them
    acl, rules text of an acl_file (Mosquitto's format) or of a rules file: auth-file with it
    top        options of the top level, blocks included ({"log": {"format": "json"}})
    files      {name: text}: files to write into the folder
    extra      text at the end of grapnel.conf
    env        more environment; program: another grapneld
    """

    def __init__(self, listeners=None, limits=None, plugins=None, users=None, acl=None, rules=None,
                 top=None, files=None, extra="", workers=2, log_level="debug", env=None, program=None):
        self.dir = tempfile.mkdtemp(prefix="grapnel-test-")
        self.conf = os.path.join(self.dir, "grapnel.conf")
        self.socket = os.path.join(self.dir, "admin.sock")
        self.process = None
        self.wrapper = []  # a command that execs what follows it: ["prlimit", "--nofile=64"]
        self.env = dict(os.environ, **{k: v.replace("{dir}", self.dir) for k, v in (env or {}).items()})
        self.program = program or GRAPNELD
        self.lines, self.changed = [], threading.Condition()
        self.reader = None
        self.clients = []
        self.addresses = {}
        self.number = 0
        self.ended = None  # exit code of a process that was seen to end
        self.options = {
            "listeners": listeners if listeners is not None else {"mqtt": {"anonymous": not users}},
            "limits": limits or {}, "plugins": dict(plugins or {}), "top": top or {},
            "files": dict(files or {}), "extra": extra, "workers": workers,
            "log_level": log_level,
        }
        self._auth_file(users, acl, rules)

    def _auth_file(self, users, acl, rules):
        if users is None and acl is None and rules is None:
            return
        plugin = self.options["plugins"].setdefault("auth-file", {"order": 20})
        if users is not None:
            plugin["password_file"] = self.passwd_file(users)
        if acl is not None:
            self.options["files"]["acl"] = acl
            plugin["acl_file"] = "{dir}/acl"
        if rules is not None:
            self.options["files"]["rules"] = rules
            plugin["rules"] = ["{dir}/rules"]

    # ---- files ---------------------------------------------------------------------------------

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        """A file of the temporary folder, replaced as a whole. @return its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w", encoding="utf-8") as f:
            f.write(text.replace("{dir}", self.dir))
        os.rename(path + ".new", path)
        return path

    def passwd_file(self, users, name="passwd", scheme=None):
        """scheme: made by grapnelctl, and what a login costs then; None: next to nothing."""
        path = self.path(name)
        if os.path.exists(path):
            os.unlink(path)
        if scheme is None:
            self.write(name, "".join("%s:%s\n" % (user, quick_hash(password)) for user, password in users.items()))
            os.chmod(path, 0o600)
        else:
            subprocess.run([GRAPNELCTL, "passwd", "batch", "--create", "--scheme", scheme, path],
                           input="".join("%s:%s\n" % u for u in users.items()), text=True, check=True,
                           stdout=subprocess.DEVNULL)
        return path

    def configure(self, **changed):
        """Change options (same names as of the constructor; a dict replaces the one it had), and
        write the file. start() or reload() then uses it."""
        self.options.update(changed)
        o = self.options
        top = {"workers": o["workers"], "plugin_directory": PLUGINS or None}
        blocks = {"admin": {"socket": self.socket}, "log": {"level": o["log_level"]},
                  "store": {"directory": self.dir, "durability": os.environ.get("GRAPNEL_TEST_DURABILITY", "off")}}
        for name, value in o["top"].items():
            if isinstance(value, dict):
                blocks[name] = dict(blocks.get(name, {}), **value)
            else:
                top[name] = value
        text = [conf_block(top)]
        text += ["%s {\n%s\n}" % (n, conf_block(v, "\t")) for n, v in blocks.items()]
        text.append("limits {\n%s\n}" % conf_block(o["limits"], "\t"))
        for title, listener in o["listeners"].items():
            listener = dict({"bind": "127.0.0.1:0"}, **listener)
            text.append('listener "%s" {\n%s\n}' % (title, conf_block(listener, "\t")))
        for title, plugin in o["plugins"].items():
            text.append('plugin "%s" {\n%s\n}' % (title, conf_block(plugin, "\t")))
        for name, content in o["files"].items():
            self.write(name, content)
        self.write("grapnel.conf", "\n".join(text) + "\n" + o["extra"] + "\n")
        return self

    # ---- the process ---------------------------------------------------------------------------

    def start(self, wait=True):
        """@return self, when the broker says that it is ready."""
        self.configure()
        self.start_mark = self.mark()
        self.ended = None
        self.addresses = {}
        # Sanitizers' reports come with the log: one stream, one order.
        self.process = subprocess.Popen(self.wrapper + [self.program, "-c", self.conf], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        env=self.env, cwd=self.dir)
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()
        if wait:
            try:
                self.wait_log(r" notice ready: ", START_TIMEOUT, since=self.start_mark)
            except AssertionError as e:
                raise AssertionError("the broker did not start: %s" % e) from None
        return self

    def _read(self, process):
        for raw in process.stderr:
            with self.changed:
                self.lines.append(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
                self.changed.notify_all()
        process.stderr.close()
        with self.changed:
            self.ended = process.wait()
            self.changed.notify_all()

    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self, timeout=STOP_TIMEOUT):
        """@return the exit code (negative: the signal that killed it)."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the broker did not end within %g s" % timeout) from None
        finally:
            self.reader.join(TIMEOUT)
        return code

    def stop(self, code=0):
        """SIGTERM: it must end in time and without a word of a sanitizer. Again and again is fine."""
        if self.process is None:
            return
        if self.running():
            self.signal(signal.SIGTERM)
        process, got = self.process, self.wait_exit()
        self.process = None
        self.check_sanitizers()
        if got != code:
            raise AssertionError("the broker (pid %d) ended with %d, not %d" % (
                process.pid, got, code))

    def kill9(self):
        if self.running():
            self.process.kill()
        self.process.wait()
        self.reader.join(TIMEOUT)
        self.process = None

    def remove(self):
        """After the last use: close all clients, kill what still runs, remove the folder."""
        self.close_clients()
        if self.process is not None:
            self.kill9()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *unused):
        try:
            self.close_clients()
            if kind is None:
                self.stop()
            else:
                print("\n".join("    | " + line for line in self.log_lines()[-25:]))
        finally:
            self.remove()

    def check_sanitizers(self):
        for i, line in enumerate(self.log_lines()):
            if SANITIZER.search(line):
                raise AssertionError("a sanitizer complained:\n" + "\n".join(self.lines[i:i + 60]))

    def reload(self, good=True):
        """SIGHUP, and wait until the broker says what became of it. @return that line."""
        mark = self.mark()
        self.signal(signal.SIGHUP)
        line = self.wait_log(r" (reloaded|reload_refused): |SIGHUP: not now", since=mark)
        if good != (" reloaded: " in line):
            raise AssertionError("reload: %s" % line)
        return line

    # ---- the log -------------------------------------------------------------------------------

    def mark(self):
        """A place in the log, for since=."""
        with self.changed:
            return len(self.lines)

    def log_lines(self, regex="", since=0):
        with self.changed:
            return [line for line in self.lines[since:] if re.search(regex, line)]

    def held_nobody(self):
        """The log says of no plugin that it held a worker for half a second or more. A busy machine may pause that long, too:
        the test is then run once more."""
        lines = self.log_lines(r" held worker \d+ for (\d{4,}|[5-9]\d\d) ms")
        if lines:
            raise Held(lines)

    def wait_log(self, regex, timeout=TIMEOUT, since=0):
        """Wait for a line of the log that was written since a mark(). @return it."""
        deadline = time.monotonic() + timeout
        with self.changed:
            at = since
            while True:
                for at in range(at, len(self.lines)):
                    if re.search(regex, self.lines[at]):
                        return self.lines[at]
                at = max(at, len(self.lines))
                if self.ended is not None:
                    raise AssertionError("the broker ended (%d) before it logged /%s/" % (
                        self.ended, regex))
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError("no line like /%s/ in the log" % regex)
                self.changed.wait(left)

    # ---- looking inside ------------------------------------------------------------------------

    def ctl(self, *args, code=0, stdin=None):
        """Run grapnelctl on this broker. code=None: any exit code. @return CompletedProcess."""
        r = subprocess.run([GRAPNELCTL, "-S", self.socket] + list(args), input=stdin, text=True,
                           capture_output=True, timeout=TIMEOUT, env=self.env, check=False)
        if code is not None and r.returncode != code:
            raise AssertionError("grapnelctl %s: exit code %d, not %d\n%s%s" % (
                " ".join(args), r.returncode, code, r.stdout, r.stderr))
        return r

    def ctl_json(self, *args):
        return json.loads(self.ctl("--json", *args).stdout)

    def metrics(self):
        """{"grapnel_connections": 3.0, 'name{label="value"}': ...} as grapnelctl metrics prints."""
        out = {}
        for line in self.ctl("metrics").stdout.splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name] = float(value)
        return out

    def metric(self, name):
        """One of metrics(), without the prefix."""
        m = self.metrics()
        return m["grapnel_" + name] if "grapnel_" + name in m else m[name]

    def wait_metric(self, name, wanted, timeout=TIMEOUT):
        """Until the metric has a value: a number, or a function of it that says so."""
        good = wanted if callable(wanted) else lambda v: v == wanted
        deadline = time.monotonic() + timeout
        while True:
            value = self.metric(name)
            if good(value):
                return value
            if time.monotonic() > deadline:
                raise AssertionError("metric %s is %g" % (name, value))
            time.sleep(0.02)

    # ---- clients -------------------------------------------------------------------------------

    def address(self, listener="mqtt"):
        """(host, port) or the path of the Unix socket, as the log said."""
        if listener not in self.addresses:
            line = self.wait_log(r'listening: listener "%s" on ' % re.escape(listener),
                                 since=self.start_mark)
            text = line.split('"%s" on ' % listener, 1)[1].strip()
            if text.startswith("unix:"):
                self.addresses[listener] = text[5:]
            else:
                host, port = text.removeprefix("udp:").rsplit(":", 1)
                self.addresses[listener] = (host.strip("[]"), int(port))
        return self.addresses[listener]

    @property
    def port(self):
        return self.address()[1]

    def unique(self, name="x"):
        """A name that no other test of this broker uses."""
        self.number += 1
        return "%s-%d" % (name, self.number)

    def client(self, version=mqtt.V5, listener="mqtt", source=None, **tls):
        """A connection, without CONNECT. It is closed when the test ends. tls: as of mqtt.Client."""
        c = mqtt.Client(self.address(listener), version, source, **tls)
        self.clients.append(c)
        return c

    def connect(self, version=mqtt.V5, client_id=None, listener="mqtt", source=None, tls=None,
                server_name=None, session=None, **options):
        """A connected client; options as of Client.connect."""
        c = self.client(version, listener, source, tls=tls, server_name=server_name, session=session)
        c.connect(self.unique("client") if client_id is None else client_id, **options)
        return c

    def close_clients(self):
        for c in self.clients:
            c.close()
        self.clients.clear()


def run_grapneld(*args, timeout=TIMEOUT, env=None):
    """grapneld with other arguments, to its end. @return CompletedProcess."""
    return subprocess.run([GRAPNELD] + list(args), text=True, capture_output=True, timeout=timeout,
                          env=dict(os.environ, **(env or {})), check=False)
