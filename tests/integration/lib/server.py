# SPDX-License-Identifier: Apache-2.0
"""A server of somebody else, started by a test: on loopback, in a temporary folder, not as root.

    class Redis(Server):
        def command(self):
            return ["redis-server", "--port", str(self.port), "--dir", self.dir]

        def ready(self):
            return self.answers(b"PING\\r\\n", b"+PONG")

    s = Redis().start()      # waits until it is ready; gone at the end of the run, whatever happens
    s.kill9(); s.start()     # the same port and folder again
    s.pause(); s.resume()    # SIGSTOP, SIGCONT to all its processes
"""
import atexit
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from .broker import FACTOR

READY_TIMEOUT = 60.0 * FACTOR
UNPRIVILEGED = "nobody"


def free_port(kind=socket.SOCK_STREAM):
    """One that nobody has now, below those that the system hands out: it stays free while its server is down, too."""
    while True:
        port = random.randrange(15000, 32000)
        with socket.socket(socket.AF_INET, kind) as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    user = None  # name of the user it runs as when the tests run as root; None: whoever runs them

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="grapnel-server-")
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        self.process = None
        self.account = pwd.getpwnam(self.user) if self.user and os.geteuid() == 0 else None
        self.prepared = False
        atexit.register(self.remove)

    # ---- what a kind of server says about itself ------------------------------------------------

    def prepare(self):
        """Once, before the first start: make its data, its configuration. The folder is its user's afterwards."""

    def command(self):
        raise NotImplementedError

    def environment(self):
        return dict(os.environ, HOME=self.dir, LC_ALL="C")

    def ready(self):
        """Is it there? Called until it says yes."""
        return self.accepts()

    # ---- life -----------------------------------------------------------------------------------

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text, mode=0o644):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(path, mode)
        self.own()
        return path

    def own(self):
        if self.account is None:
            return
        for root, dirs, files in os.walk(self.dir):
            for name in [root] + [os.path.join(root, x) for x in dirs + files]:
                os.chown(name, self.account.pw_uid, self.account.pw_gid, follow_symlinks=False)

    def run(self, command, check=True, **options):
        """A program of the server's, as its user, in its folder. @return CompletedProcess."""
        options.setdefault("env", self.environment())
        r = subprocess.run(command, cwd=self.dir, text=True, capture_output=True, check=False,
                           timeout=READY_TIMEOUT, **self.as_user(), **options)
        if check and r.returncode != 0:
            raise AssertionError("%s: exit code %d\n%s%s" % (command[0], r.returncode, r.stdout, r.stderr))
        return r

    def as_user(self):
        if self.account is None:
            return {}
        return {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}

    def start(self):
        """@return self, when it is ready."""
        if not self.prepared:
            self.own()
            self.prepare()
            self.own()
            self.prepared = True
        with open(self.path("server.log"), "ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=self.dir, env=self.environment(), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True, **self.as_user())
        deadline = time.monotonic() + READY_TIMEOUT
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("%s did not start:\n%s" % (self.command()[0], self.log()[-3000:]))
            time.sleep(0.02)
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        with open(self.path("server.log"), encoding="utf-8", errors="replace") as f:
            return f.read()

    def signal_all(self, number):
        """To it and all it has started."""
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            pass

    def pause(self):
        self.signal_all(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED)  # another processor may still run it

    def resume(self):
        self.signal_all(signal.SIGCONT)

    def stop(self, number=signal.SIGTERM):
        """The way it is meant to be ended."""
        if not self.running():
            return
        self.process.send_signal(number)
        try:
            self.process.wait(READY_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill9()
        self.signal_all(signal.SIGKILL)

    def kill9(self):
        if self.process is None:
            return
        self.signal_all(signal.SIGKILL)
        self.process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def remove(self):
        self.kill9()
        shutil.rmtree(self.dir, ignore_errors=True)

    # ---- small questions ------------------------------------------------------------------------

    def accepts(self):
        return self.answers(b"", b"")

    def answers(self, question, beginning):
        """Does it accept, and answer this with something that begins like that?"""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as s:
                s.sendall(question)
                return not beginning or s.recv(4096).startswith(beginning)
        except OSError:
            return False


class Mute:
    """Listens, accepts, takes everything and says nothing."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self.listener.getsockname()[1]
        self.accepted = 0
        self.held = []
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.held.append(s)
            self.accepted += 1

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.held:
            s.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


class MuteDns:
    """
    A name server that takes questions and answers none. Only for root: it has the port of name servers, and a broker started
    with wrapper() sees a resolv.conf that names it and nobody else.
    """

    def __init__(self):
        # Of this process alone: other files of tests may have one at the same time.
        self.address = "127.%d.%d.53" % (100 + os.getpid() % 100, os.getpid() // 100 % 250)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.address, 53))
        self.asked = 0
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        while self.socket.recv(4096):
            self.asked += 1

    def wrapper(self, broker):
        """For Broker.wrapper: a mount name space of its own."""
        conf = broker.write("resolv.conf", "nameserver %s\n" % self.address)
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', conf]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"", (self.address, 53))
        self.thread.join()
        self.socket.close()
