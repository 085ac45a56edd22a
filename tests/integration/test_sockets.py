# SPDX-License-Identifier: Apache-2.0
"""Sockets that listen: their options, those that systemd has opened, and who is behind a Unix socket."""
import array
import ctypes
import os
import pwd
import re
import socket
import subprocess
import sys

from lib.broker import Broker
from lib.case import Skip, broker, each, skip_if
from lib.mqtt import *  # noqa: F401,F403
from lib.mqtt import Client

PIDFD_GETFD = 438


def inodes(port, local):
    """Of TCP sockets of the loopback whose local or remote port this is, and that do not only listen."""
    found = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with open(name, encoding="ascii") as f:
            for line in list(f)[1:]:
                fields = line.split()
                listens = fields[3] == "0A"
                if int(fields[1 if local else 2].split(":")[1], 16) == port and listens == local:
                    found.add(fields[9])
    return found


def sockets_of(b, wanted):
    """Duplicates of the broker's own sockets with these inodes."""
    out = []
    for fd in os.listdir("/proc/%d/fd" % b.process.pid):
        try:
            target = os.readlink("/proc/%d/fd/%s" % (b.process.pid, fd))
        except FileNotFoundError:
            continue
        if target.startswith("socket:[") and target[8:-1] in wanted:
            pidfd = os.pidfd_open(b.process.pid)
            got = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, int(fd), 0)
            os.close(pidfd)
            if got < 0:
                raise Skip("pidfd_getfd: %s" % os.strerror(ctypes.get_errno()))
            out.append(socket.socket(fileno=got))
    return out


def accepted(b, c):
    """The broker's end of a client's connection."""
    (s,) = sockets_of(b, inodes(c.sock.getsockname()[1], local=False))
    return s


def options(s):
    return {"keep_alive": s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            "idle": s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
            "interval": s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
            "probes": s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
            "user_timeout": s.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            "no_delay": s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)}


# ---- options -----------------------------------------------------------------------------------

TUNED = {"anonymous": True, "tcp_keep_alive": "61", "tcp_user_timeout": "12s"}


@each(bind=("127.0.0.1:0", "*:0"))
@broker(own=True, listeners=lambda bind: {"mqtt": dict(TUNED, bind=bind)})
def test_accepted_sockets_have_the_options_of_their_listener(b, bind):
    b.addresses["mqtt"] = ("127.0.0.1", b.port)
    tuned = {"keep_alive": 1, "idle": 61, "interval": 20, "probes": 3, "user_timeout": 12000, "no_delay": 1}
    for _ in range(6):  # on both workers
        with accepted(b, b.connect(V5)) as s:
            assert options(s) == tuned, options(s)
    old = b.connect(V5)
    b.configure(listeners={"mqtt": dict(TUNED, bind=bind, tcp_keep_alive="2", tcp_user_timeout="0")})
    b.reload()
    for _ in range(6):
        with accepted(b, b.connect(V5)) as s:
            assert options(s) == dict(tuned, idle=2, interval=1, user_timeout=0), options(s)
    b.configure(listeners={"mqtt": {"anonymous": True, "bind": bind}})
    b.reload()
    for _ in range(6):
        with accepted(b, b.connect(V5)) as s:
            got = options(s)
            assert got["keep_alive"] == 0 and got["user_timeout"] == 0 and got["no_delay"] == 1, got
    with accepted(b, old) as s:  # new connections only
        assert options(s) == tuned


@broker(own=True, listeners={"mqtt": {"anonymous": True, "backlog": 7}})
def test_the_backlog_is_reloaded(b):
    def backlogs():
        r = subprocess.run(["ss", "-Hltn", "sport = :%d" % b.port], text=True, capture_output=True, check=True)
        return {int(line.split()[2]) for line in r.stdout.splitlines()}
    try:
        assert backlogs() == {7}
    except FileNotFoundError:
        raise Skip("ss is not installed") from None
    b.configure(listeners={"mqtt": {"anonymous": True, "backlog": 9}})
    b.reload()
    assert backlogs() == {9}
    b.connect(V5).ping()


def test_a_listener_can_be_bound_to_an_interface():
    b = Broker(listeners={"mqtt": {"anonymous": True, "interface": "lo"}})
    try:
        b.start(wait=False)
        try:
            b.wait_log(" ready: ")
        except AssertionError:
            if b.log_lines("CAP_NET_RAW"):
                raise Skip("not allowed here") from None
            raise
        b.start_mark = 0
        c = b.connect(V5)
        c.ping()
        with accepted(b, c) as s:
            assert s.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"
        b.stop()
    finally:
        b.remove()


def test_an_interface_that_is_not_there_is_named():
    b = Broker(listeners={"mqtt": {"anonymous": True, "interface": "nosuch0"}})
    try:
        b.start(wait=False)
        assert b.wait_exit() == 1
        b.wait_log(r'listener "mqtt": cannot listen on 127.0.0.1:0: .*; no network interface of this machine is called "nosuch0"')
        b.process = None
    finally:
        b.remove()


# ---- systemd -----------------------------------------------------------------------------------

# Opens sockets and becomes the broker, as systemd does: argv is the names, then "--", then the command.
LAUNCHER = r"""
import os, socket, sys
at = sys.argv.index("--")
names, fds, keep = [], [], []
for what in sys.argv[1:at]:
    name, kind, where = what.split("=", 2)
    if kind == "tcp":
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        s.bind(("127.0.0.1", int(where)))
        s.listen(64)
    elif kind == "unbound":
        s = socket.socket()
    elif kind == "udp":
        s = socket.socket(type=socket.SOCK_DGRAM)
        s.bind(("127.0.0.1", 0))
    elif kind == "unix":
        s = socket.socket(socket.AF_UNIX)
        s.bind("\0" + where[1:] if where.startswith("@") else where)
        s.listen(64)
    elif kind == "file":
        s = open("/dev/null")
    keep.append(s)
    names.append(name)
    fds.append(s.fileno())
high = [os.dup2(fd, 100 + i, inheritable=False) for i, fd in enumerate(fds)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, inheritable=True)
os.environ["LISTEN_PID"] = os.environ.get("TEST_LISTEN_PID") or str(os.getpid())
os.environ["LISTEN_FDS"] = os.environ.get("TEST_LISTEN_FDS") or str(len(fds))
if "TEST_NO_NAMES" not in os.environ:
    os.environ["LISTEN_FDNAMES"] = ":".join(names)
os.execvp(sys.argv[at + 1], sys.argv[at + 1:])
"""


class Activated(Broker):
    def __init__(self, passed, **options):
        super().__init__(**options)
        launcher = self.write("launcher.py", LAUNCHER.replace("{dir}", "{" + "dir}"))
        self.wrapper = [sys.executable, launcher] + [p.replace("{dir}", self.dir) for p in passed] + ["--"]

    def run(self, test):
        try:
            self.start()
            test(self)
            self.stop()
        finally:
            self.remove()

    def fails_with(self, regex):
        try:
            self.start(wait=False)
            assert self.wait_exit() == 1
            self.process = None
            return self.wait_log(regex)
        finally:
            self.remove()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_sockets_of_systemd_serve_and_survive_a_reload():
    listeners = {"tcp": {"anonymous": True, "bind": "systemd:mqtt.socket", "tcp_keep_alive": 33},
                 "unix": {"anonymous": True, "bind": "systemd:local"}, "own": {"anonymous": True}}

    def test(b):
        path = b.path("s.sock")
        assert b.address("unix") == path, b.address("unix")
        for name in ("tcp", "unix", "own"):
            b.connect(V5, listener=name).ping()
        with accepted(b, b.connect(V5, listener="tcp")) as s:
            got = options(s)
            assert got["keep_alive"] == 1 and got["idle"] == 33 and got["no_delay"] == 1, got
        kept = b.connect(V5, listener="tcp")
        b.configure(listeners=dict(listeners, tcp=dict(listeners["tcp"], tcp_keep_alive=44, max_qos=1)))
        b.reload()
        c = b.connect(V5, listener="tcp")
        assert c.connack.prop(MAXIMUM_QOS) == 1
        with accepted(b, c) as s:
            assert options(s)["idle"] == 44
        kept.ping()
        b.configure(listeners=dict(listeners, tcp=dict(listeners["tcp"], bind="systemd:other")))
        assert "refused" in b.reload(good=False)
        with open("/proc/%d/environ" % b.process.pid, "rb") as f:
            assert b"LISTEN_FDS=2" in f.read()  # what it began with; it is the children that must not see it
        b.stop()
        assert os.path.exists(path)  # systemd's own

    Activated(["mqtt.socket=tcp=0", "local=unix={dir}/s.sock"], listeners=listeners).run(test)


@each(workers=(1, 2, 3))
def test_several_sockets_of_one_name_all_serve(workers):
    port = free_port()

    def test(b):
        line = b.wait_log('listening: listener "all" on ')
        assert ("on 127.0.0.1:%d, unix:@grapnel-test-%d, 127.0.0.1:" % (port, os.getpid())) in line, line
        addresses = re.findall(r"127\.0\.0\.1:(\d+)", line)
        assert len(addresses) == 2, line
        where = [("127.0.0.1", int(p)) for p in addresses] + ["@grapnel-test-%d" % os.getpid()]
        for address in where * 8:  # both of the shared port, by their hash
            c = Client(address, V5)
            b.clients.append(c)
            c.connect(b.unique("c"))
            c.ping()

    Activated(["all=tcp=%d" % port, "all=tcp=%d" % port, "all=unix=@grapnel-test-%d" % os.getpid(), "all=tcp=0"], workers=workers,
              listeners={"all": {"anonymous": True, "bind": "systemd:all"}}).run(test)


def test_sockets_that_nobody_takes_are_closed_and_named():
    def test(b):
        b.wait_log('warning .*systemd has passed a socket called "more".*bind = "systemd:more"')
        b.connect(V5).ping()
        assert not sockets_of(b, inodes(more, local=True))
        assert sockets_of(b, inodes(b.port, local=True))
    more = free_port()
    Activated(["mqtt=tcp=0", "more=tcp=%d" % more], listeners={"mqtt": {"anonymous": True, "bind": "systemd:mqtt"}}).run(test)


def test_without_names_all_are_unknown():
    Activated(["x=tcp=0"], listeners={"mqtt": {"anonymous": True, "bind": "systemd:unknown"}}, env={"TEST_NO_NAMES": "1"}).run(
        lambda b: b.connect(V5).ping())


@each(why=(
    ("a=tcp=0", {"TEST_LISTEN_PID": "1"}, "systemd has not passed any sockets; start the service by its socket unit"),
    ("a=tcp=0", {"TEST_LISTEN_PID": "1x"}, "systemd has not passed any sockets"),
    ("a=tcp=0", {"TEST_LISTEN_FDS": "0"}, "LISTEN_FDS is not from 1 to 1024"),
    ("a=tcp=0", {"TEST_LISTEN_FDS": "-1"}, "LISTEN_FDS is not from 1 to 1024"),
    ("a=tcp=0", {"TEST_LISTEN_FDS": "99999"}, "LISTEN_FDS is not from 1 to 1024"),
    ("b=tcp=0", {}, "of the 1 socket that systemd has passed none has that name; see FileDescriptorName="),
    ("a=udp=0", {}, "descriptor 3: it is not a stream socket; its socket unit needs ListenStream="),
    ("a=unbound=0", {}, "descriptor 3: it is a socket that does not listen; its socket unit needs Accept=no"),
    ("a=file=0", {}, "descriptor 3: it is not a socket"),
))
def test_what_is_wrong_with_sockets_of_systemd_is_said(why):
    passed, env, message = why
    b = Activated([passed], listeners={"mqtt": {"anonymous": True, "bind": "systemd:a"}}, env=env)
    line = b.fails_with(re.escape(message))
    assert 'listener "mqtt": cannot listen on systemd:a: ' in line, line


def test_identity_peer_needs_unix_sockets_of_systemd():
    b = Activated(["a=tcp=0"], listeners={"mqtt": {"bind": "systemd:a", "identity": "peer"}}, users={"root": "p"})
    b.fails_with("identity = peer is only for Unix sockets")


def test_not_started_by_systemd():
    b = Broker(listeners={"mqtt": {"anonymous": True, "bind": "systemd:a"}})
    try:
        b.start(wait=False)
        assert b.wait_exit() == 1
        b.process = None
        b.wait_log("systemd has not passed any sockets")
    finally:
        b.remove()


# ---- identity = peer ---------------------------------------------------------------------------

PEER = {"path": {"bind": "unix:{dir}/peer.sock", "unix_mode": "0666", "identity": "peer"},
        "abstract": {"bind": "unix:@{dir}/peer", "identity": "peer"}, "mqtt": {}}
ME = pwd.getpwuid(os.getuid()).pw_name
USERS = {ME: "me", "nobody": "n", "other": "o"}
# No file of passwords can have that name, which holds its separator.
NAMELESS = {"nameless": {"module": "verdict", "order": 1, "client_authenticate": "allow", "only_user": "uid:54321"}}
needs_root = skip_if(os.getuid() != 0, "only root becomes somebody else")


def connected_as(b, uid, gid, listener):
    """A client whose socket a process of that user has connected."""
    address = b.address(listener)
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            s = socket.socket(socket.AF_UNIX)
            s.connect("\0" + address[1:] if address.startswith("@") else address)
            theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno()]))])
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    theirs.close()
    c = Client.__new__(Client)
    blank = b.client(V5, listener)  # for its fields
    c.__dict__.update(blank.__dict__)
    blank.sock.close()
    b.clients.remove(blank)
    b.clients.append(c)
    c.buffer, c.put_aside, c.aliases, c.in_flight = bytearray(), [], {}, {}
    c.sock = socket.socket(fileno=fds[0])
    c.sock.settimeout(c.timeout)
    return c


@each(listener=("path", "abstract"))
@broker(listeners=PEER, users=USERS, rules="user %s\n  allow all me/%%{unix.uid}/%%{unix.gid}\n" % ME)
def test_the_peers_login_name_is_the_user_name(b, listener):
    c = b.connect(V5, listener=listener, username="other", password=b"me")
    o = b.ctl_json("clients", "show", c.client_id)
    assert o["username"] == ME and o["attributes"] == {"unix.uid": str(os.getuid()), "unix.gid": str(os.getgid())}, o
    assert o["peer"] == "unix:uid=%d,pid=%d" % (os.getuid(), os.getpid()), o
    assert c.publish("me/%d/%d" % (os.getuid(), os.getgid()), "x", qos=1) in (0, 0x10)
    assert c.publish("me/1/1", "x", qos=1) == 0x87
    # Another's password is of no use, not even with the other's name.
    c = b.client(V5, listener)
    c.send_connect(b.unique("x"), username="other", password=b"o")
    assert c.expect(CONNACK).reason in (0x86, 0x87)
    # Elsewhere names are what clients say.
    c = b.connect(V5, username="other", password=b"o")
    o = b.ctl_json("clients", "show", c.client_id)
    assert o["username"] == "other" and o["attributes"] == {}, o


@needs_root
@each(listener=("path", "abstract"))
@broker(own=True, listeners=PEER, users=USERS, plugins=NAMELESS)
def test_other_users_are_other_users(b, listener):
    os.chmod(b.dir, 0o755)
    nobody = pwd.getpwnam("nobody")
    c = connected_as(b, nobody.pw_uid, nobody.pw_gid, listener)
    c.connect(b.unique("n"), username=ME, password=b"n")
    o = b.ctl_json("clients", "show", c.client_id)
    assert o["username"] == "nobody" and o["attributes"]["unix.uid"] == str(nobody.pw_uid), o
    c = connected_as(b, nobody.pw_uid, nobody.pw_gid, listener)
    c.send_connect(b.unique("x"), username=ME, password=b"me")
    assert c.expect(CONNACK).reason in (0x86, 0x87)
    b.wait_log('login_failed: from unix:uid=%d.* user "nobody" refused' % nobody.pw_uid)
    c = connected_as(b, 54321, 54322, listener)  # has no login name
    c.connect(b.unique("u"), username=ME)
    o = b.ctl_json("clients", "show", c.client_id)
    assert o["username"] == "uid:54321" and o["attributes"] == {"unix.uid": "54321", "unix.gid": "54322"}, o
    b.reload()
    c = connected_as(b, nobody.pw_uid, nobody.pw_gid, listener)
    c.connect(b.unique("n"), password=b"n")


@broker(own=True, listeners=dict(PEER, path=dict(PEER["path"], anonymous=True)), users=USERS)
def test_a_peer_is_not_anonymous(b):
    c = b.client(V5, "path")
    c.send_connect(b.unique("x"))
    assert c.expect(CONNACK).reason in (0x86, 0x87)
