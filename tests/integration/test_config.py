# SPDX-License-Identifier: Apache-2.0
"""grapneld -t, start-up, reload, and the commands of grapnelctl."""
import os
import re
import signal
import socket
import stat
import subprocess

from lib.broker import GRAPNELCTL, Broker, run_grapneld
from lib.case import broker, each
from lib.mqtt import *  # noqa: F401,F403
from lib.wire import Will

OPEN = {"mqtt": {"anonymous": True}}
DURABLE = [(SESSION_EXPIRY, 300)]


class Folder:
    """A configuration that is only checked."""

    def __init__(self, text="", files=None):
        self.b = Broker()
        self.b.configure()
        os.mkdir(self.b.path("conf.d"))
        for name, content in dict(files or {}, **({"grapnel.conf": text} if text else {})).items():
            self.b.write(name, content)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.b.remove()

    def check(self, code):
        r = run_grapneld("-t", "-c", self.b.conf)
        assert r.returncode == code, r
        return r.stdout, r.stderr.replace(self.b.dir + "/", "").splitlines()


# ---- grapneld -t --------------------------------------------------------------------------------


def test_a_good_configuration_is_called_good_and_nothing_is_opened():
    with Folder() as f:
        out, errors = f.check(0)
        assert out == "configuration OK\n" and not [e for e in errors if "error" in e], (out, errors)
        assert not os.path.exists(f.b.socket)


def test_all_errors_are_said_with_file_and_line():
    text = """workers = 0
admin { socket = "{dir}/admin.sock" }
limits {
    max_qos = 3
    max_packet_size = 5x
    receive_maximum = many
    no_such_limit = 1
}
listener "a" { bind = "127.0.0.1:99999" }
listener "b" { }
listener "a" { bind = "127.0.0.1:1" }
log { level = loud }
no_such_block { x = 1 }
"""
    more = 'plugin "auth-file" {\n    pasword_file = "x"\n    order = -1\n}\nlog { format = xml }\n'
    with Folder(text, {"conf.d/20-more.conf": more, "conf.d/ignored.txt": "( nonsense"}) as f:
        out, errors = f.check(1)
        assert out == "", out
        for where in ("grapnel.conf:1: ", "grapnel.conf:4: ", "grapnel.conf:5: ", "grapnel.conf:6: ", "grapnel.conf:7: ",
                      "grapnel.conf:9: ", "grapnel.conf:10: ", "grapnel.conf:12: ", "grapnel.conf:13: ",
                      "conf.d/20-more.conf:3: ", "conf.d/20-more.conf:5: "):
            assert any(e.startswith(where) for e in errors), (where, errors)
        assert any("a" in e and "grapnel.conf:11" in e for e in errors), errors
        assert not any("ignored" in e for e in errors)


def test_an_unknown_option_of_a_plugin_is_told_with_the_closest_name_and_its_help():
    pw = "alice:$6$c2FsdA==$" + "A" * 86 + "==\n"
    lines = ["# users", "", 'plugin "auth-file" {', "    enabled = yes", "    order = 20", "    # the file",
             '    pasword_file = "{dir}/pw"', "}"]
    with Folder(files={"conf.d/20-auth-file.conf": "\n".join(lines) + "\n", "pw": pw}) as f:
        unused, errors = f.check(1)
        wanted = 'conf.d/20-auth-file.conf:7: plugin "auth-file": unknown option "pasword_file"; ' \
                 'did you mean "password_file"? ('
        assert any(e.startswith(wanted) and "assword file" in e for e in errors), errors


SYNTAX = {
    "an open block": "listener \"mqtt\" {", "no =": "workers 2", "no value": "workers = ", "an open string": "workers = \"2",
    "an open list": "a { b = [1, }", "an unset variable": "workers = ${NO_SUCH_VARIABLE}",
    "a missing file": "node_name = ${file:/no/such/file}", "a setting twice": "workers = 2\nworkers = 3",
    "a brace too many": "}", "NUL": "\0",
}


@each(what=tuple(SYNTAX))
def test_a_syntax_error_has_file_and_line(what):
    with Folder(text="log { level = info }\n" + SYNTAX[what] + "\n") as f:
        unused, errors = f.check(1)
        assert any(re.match(r"grapnel\.conf:[23]\b", e) for e in errors), errors


def test_an_abstract_admin_socket_is_refused():
    with Folder() as f:
        with open(f.b.conf, encoding="utf-8") as conf:
            text = conf.read()
        f.b.write("grapnel.conf", text.replace(f.b.socket, "@grapnel-test-admin"))
        unused, errors = f.check(1)
        assert any('admin: "socket" must be an absolute path' in e and "abstract" in e for e in errors), errors


def test_a_plugin_that_is_not_there_or_disabled():
    with Folder(files={"conf.d/10.conf": 'plugin "no-such" { }\n'}) as f:
        unused, errors = f.check(1)
        assert any("no-such" in e and "conf.d/10.conf:1" in e for e in errors), errors
        f.b.write("conf.d/10.conf", 'plugin "no-such" { enabled = no  anything = goes }\n')
        f.check(0)


def test_conf_d_is_read_in_name_order_and_a_setting_twice_is_an_error():
    with Folder(files={"conf.d/10-a.conf": "sys_interval = 5s\n", "conf.d/20-b.conf": "sys_interval = 6s\n"}) as f:
        unused, errors = f.check(1)
        assert any("conf.d/20-b.conf:1" in e and "10-a.conf:1" in e for e in errors), errors


def test_a_missing_configuration_is_said():
    r = run_grapneld("-c", "/no/such/grapnel.conf")
    assert r.returncode == 1 and "/no/such/grapnel.conf" in r.stderr, r
    r = run_grapneld("--no-such-option")
    assert r.returncode in (1, 2) and r.stderr, r


def test_versions_are_printed():
    r = run_grapneld("-V")
    assert r.returncode == 0
    for pattern in (r"^grapneld \d+\.\d+", r"^plugin ABI 1\.\d", "^libevent 2", "^OpenSSL 3", "^liburcu ", "^jansson 2"):
        assert re.search(pattern, r.stdout, re.M), (pattern, r.stdout)
    assert "usage: grapneld" in run_grapneld("-h").stdout


# ---- starting -----------------------------------------------------------------------------------


@broker(listeners=OPEN)
def test_a_port_in_use_is_said_and_nothing_starts(b):
    other = Broker(listeners={"mqtt": {"anonymous": True, "bind": "127.0.0.1:%d" % b.port}})
    try:
        other.start(wait=False)
        assert other.wait_exit() == 1
        text = "\n".join(other.log_lines())
        assert "127.0.0.1:%d" % b.port in text and "in use" in text, text
        other.check_sanitizers()
    finally:
        other.remove()
    b.connect(V5).ping()


def test_without_authentication_and_without_anonymous_it_does_not_start():
    b = Broker(listeners={"mqtt": {"anonymous": False}})
    try:
        b.configure()
        for args in (["-t"], []):
            r = run_grapneld("-c", b.conf, *args)
            assert r.returncode == 1, r
            assert "nobody could connect" in r.stderr and "anonymous = yes" in r.stderr and "auth-file" in r.stderr, r
        b.configure(listeners={})
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 1 and "no listener" in r.stderr, r
    finally:
        b.remove()


@broker(own=True, listeners={"local": {"anonymous": True, "bind": "unix:{dir}/mqtt.sock", "unix_mode": "0600"},
                             "abstract": {"anonymous": True, "bind": "unix:@grapnel-test-abstract"},
                             "six": {"anonymous": True, "bind": "[::1]:0"}, "mqtt": {"anonymous": True}})
def test_all_kinds_of_listeners_serve(b):
    for name in ("local", "abstract", "six", "mqtt"):
        b.connect(V5, listener=name).ping()
    assert stat.S_IMODE(os.stat(b.path("mqtt.sock")).st_mode) == 0o600
    b.close_clients()
    b.stop()
    assert not os.path.exists(b.path("mqtt.sock")) and not os.path.exists(b.socket)


@broker(own=True, listeners={"local": {"anonymous": True, "bind": "unix:{dir}/mqtt.sock"}})
def test_a_unix_socket_that_a_crash_left_is_replaced(b):
    b.kill9()
    assert os.path.exists(b.path("mqtt.sock"))
    b.start()
    b.connect(V5, listener="local").ping()
    b.ctl("status")


@broker(own=True, listeners=OPEN, top={"pid_file": "{dir}/pid"})
def test_the_pid_file_is_there_as_long_as_the_broker_runs(b):
    with open(b.path("pid"), encoding="ascii") as f:
        assert int(f.read()) == b.process.pid
    b.stop()
    assert not os.path.exists(b.path("pid"))


# ---- reload -------------------------------------------------------------------------------------


@broker(own=True, listeners=OPEN, limits={"max_qos": 2})
def test_limits_are_reloaded_while_clients_stay(b):
    old = b.connect(V5)
    old.subscribe("t", qos=2)
    b.configure(limits={"max_qos": 1, "max_packet_size": 1000, "retained_max_messages": 0})
    line = b.reload()
    assert "max_qos" in line and "max_packet_size" in line, line
    new = b.connect(V5)
    assert new.connack.prop(MAXIMUM_QOS) == 1 and new.connack.prop(MAXIMUM_PACKET_SIZE) == 1000
    new.publish("t", "x", qos=1)
    old.expect_message(payload="x")
    assert new.publish("t", "x", qos=1, retain=True) == 0x97
    assert "unchanged" not in b.reload()


@broker(own=True, listeners=OPEN)
def test_the_log_is_reloaded(b):
    b.configure(log_level="info", top={"log": {"to": "{dir}/log"}})
    b.signal(signal.SIGHUP)
    deadline = b.path("log")
    for _ in range(1000):
        if os.path.exists(deadline) and "reloaded: " in open(deadline, encoding="utf-8").read():
            break
        b.ctl("status")
    else:
        raise AssertionError("nothing in the new log")
    b.connect(V5)
    os.rename(b.path("log"), b.path("log.1"))
    b.signal(signal.SIGUSR1)
    for _ in range(1000):
        if os.path.exists(b.path("log")) and "opened again" in open(b.path("log"), encoding="utf-8").read():
            return
        b.ctl("status")
    raise AssertionError("the log was not opened again")


CHANGES = {
    "workers": {"workers": 3}, "a listener more": {"listeners": {"mqtt": {"anonymous": True}, "more": {}}},
    "another address": {"listeners": {"mqtt": {"anonymous": True, "bind": "127.0.0.2:0"}}},
    "no listener": {"listeners": {"other": {"anonymous": True}}},
    "the admin socket": {"top": {"admin": {"socket": "{dir}/other.sock"}}},
    "durability": {"top": {"store": {"durability": "strict"}}}, "syntax": {"extra": "limits {"},
    "a value": {"limits": {"max_qos": 7}}, "nobody could connect": {"listeners": {"mqtt": {"anonymous": False}}},
    "a plugin that does not load": {"plugins": {"no-such": {}}},
    "a plugin's option": {"plugins": {"verdict": {"acl_check": "perhaps"}}},
    "the log": {"top": {"log": {"to": "/no/such/folder/log"}}},
}


@each(change=tuple(CHANGES))
@broker(own=True, listeners=OPEN, limits={"max_inflight": 7})
def test_a_reload_with_an_error_changes_nothing(b, change):
    c = b.connect(V5)
    c.subscribe("t", qos=1)
    before = b.ctl("config").stdout
    b.configure(**dict({"limits": {"max_inflight": 9}}, **CHANGES[change]))
    mark = b.mark()
    b.reload(good=False)
    errors = b.log_lines(" error ", since=mark)
    assert len(errors) >= 2, errors
    r = b.ctl("reload", code=1)
    assert r.stderr + r.stdout, r
    assert b.ctl("config").stdout == before
    c.publish("t", "x", qos=1)
    c.expect_message(payload="x")
    b.connect(V5).ping()
    b.connect(V311).ping()


@broker(own=True, listeners=OPEN)
def test_plugins_come_go_and_change_at_a_reload(b):
    c = b.connect(V5)
    assert c.publish("t", "x", qos=1) == 0x10
    b.configure(plugins={"verdict": {"acl_check": "deny", "reason_code": 0x87}})
    b.reload()
    assert c.publish("t", "x", qos=1) == 0x87
    b.configure(plugins={"verdict": {"acl_check": "allow"}, "rewrite": {"publish_payload": "changed"}})
    b.reload()
    c.subscribe("t")
    c.publish("t", "x")
    c.expect_message(payload="changed")
    b.configure(plugins={})
    b.reload()
    c.publish("t", "x")
    c.expect_message(payload="x")


@broker(own=True, listeners=OPEN, users={"u": "p"})
def test_reloads_under_load_drop_nobody_and_lose_nothing(b):
    sub = b.connect(V5)
    sub.subscribe("t", qos=1)
    pub = b.connect(V5, username="u", password="p")
    n = 0
    for i in range(10):
        b.configure(limits={"max_inflight": 100 + i})
        mark = b.mark()
        b.signal(signal.SIGHUP)
        for _ in range(50):
            pub.publish("t", "%d" % n, qos=1)
            sub.expect_message(payload="%d" % n)
            n += 1
        b.wait_log(" reloaded: ", since=mark)
    sub.expect_nothing()


# ---- grapnelctl ---------------------------------------------------------------------------------


@broker(own=True, listeners=OPEN, users={"alice": "a"}, top={"sys_interval": 0})  # $SYS topics are retained too
def test_status_shows_what_runs(b):
    c = b.connect(V5, username="alice", password="a")
    c.subscribe(["a", "b"])
    c.publish("r", "x", qos=1, retain=True)
    s = b.ctl_json("status")
    for name, value in (("connections", 1), ("sessions", 1), ("subscriptions", 2), ("retained_messages", 1), ("workers", 2)):
        assert s[name] == value, (name, s)
    assert s["listeners"][0]["name"] == "mqtt" and str(b.port) in s["listeners"][0]["address"]
    text = b.ctl("status").stdout
    assert "Grapnel " in text and "mqtt" in text and "warning: " in text, text


@broker(own=True, listeners=OPEN, users={"alice": "a"})
def test_clients_are_listed_shown_and_kicked(b):
    c = b.connect(V5, client_id="x/ü y", username="alice", password="a", keep_alive=33, props=DURABLE,
                  will=Will("w", "x"))
    c.subscribe(["a/#", "$share/g/b"], qos=1)
    b.connect(V311, client_id="anon")
    b.connect(V5, client_id="off", props=DURABLE).close()
    b.wait_metric("sessions_online", 2)
    listed = {x["client_id"]: x for x in b.ctl_json("clients", "list")["clients"]}
    assert set(listed) == {"x/ü y", "anon", "off"}
    assert listed["x/ü y"]["username"] == "alice" and listed["x/ü y"]["connected"] and not listed["off"]["connected"]
    assert [x["client_id"] for x in b.ctl_json("clients", "list", "--offline")["clients"]] == ["off"]
    assert [x["client_id"] for x in b.ctl_json("clients", "list", "--username", "alice")["clients"]] == ["x/ü y"]
    assert len(b.ctl_json("clients", "list", "--limit", "2")["clients"]) == 2
    assert "anon" in b.ctl("clients", "list").stdout
    shown = b.ctl("clients", "show", "x/ü y").stdout
    for part in ("alice", "a/#", "$share/g/b", "33"):
        assert part in shown, (part, shown)
    b.ctl("clients", "kick", "x/ü y")
    c.expect_close(0x98)
    c = b.connect(V5, client_id="x/ü y", clean=False, username="alice", password="a", props=DURABLE, session_present=True)
    c.disconnect()
    for command in ("show", "kick"):
        r = b.ctl("clients", command, "nobody", code=1)
        assert "no client" in r.stderr and '"nobody"' in r.stderr, r
    r = b.ctl("plugin", "show", "no-such", code=1)
    assert '"no-such"' in r.stderr, r


@broker(own=True, listeners=OPEN, users={"alice": "a"}, plugins={
    "second": {"module": "verdict", "order": 5, "only_user": "bob", "acl_check": "allow"}})
def test_plugins_are_listed_in_the_order_they_are_asked(b):
    b.connect(V5, username="alice", password="a")
    text = b.ctl("plugin", "list").stdout
    assert 0 < text.index("second") < text.index("auth-file"), text
    shown = b.ctl("plugin", "show", "auth-file").stdout
    for part in ("client_authenticate", "password_file", "allow"):
        assert part in shown, (part, shown)
    assert "acl_check" in b.ctl("plugin", "show", "second").stdout
    r = b.ctl("plugin", "show", "nobody", code=1)
    assert "plugin" in r.stderr, r


def test_secrets_are_not_shown_and_references_are_resolved():
    b = Broker(listeners=OPEN, env={"GRAPNEL_TEST_NODE": "from-the-environment"},
               extra="node_name = ${GRAPNEL_TEST_NODE}\n"
                     'plugin "refuse" { needed = "n"  password = ${file:{dir}/secret} }',
               files={"secret": "hunter2-hunter2\n"})
    source = os.path.join(os.environ.get("GRAPNEL_SRC", "."), "tests/plugins/refuse.c")
    with open(source, encoding="utf-8") as f:
        text = f.read()
    secret = re.search(r'\.name = "(\w+)"[^}]*\.secret = true', text, re.S)
    if secret is None:
        b.options["extra"] = "node_name = ${GRAPNEL_TEST_NODE}\n"
    else:
        b.options["extra"] = b.options["extra"].replace("password =", secret.group(1) + " =")
    with b:
        out = b.ctl("config").stdout
        assert "from-the-environment" in out, out
        if secret is not None:
            assert "***" in out and "hunter2" not in out, out
            assert "hunter2" not in b.ctl("plugin", "show", "refuse").stdout
        assert "hunter2" not in "\n".join(b.log_lines())


@broker(own=True, listeners=OPEN, limits={"max_inflight": 77})
def test_config_prints_what_is_in_force_and_can_be_read_again(b):
    out = b.ctl("config").stdout
    assert re.search(r"max_inflight\s*= 77\b", out) and 'listener "mqtt"' in out, out
    path = b.write("again.conf", out)
    r = run_grapneld("-t", "-c", path)
    assert r.returncode == 0, (r, out)


@broker(listeners=OPEN)
def test_metrics_are_in_the_text_format_of_prometheus(b):
    text = b.ctl("metrics").stdout
    types = dict(re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", text, re.M))
    assert len(types) > 40
    for line in text.splitlines():
        if line.startswith("#"):
            assert re.match(r"# (TYPE|HELP) [a-z_]+ ", line), line
            continue
        m = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? -?[0-9.e+-]+(Inf|NaN)?', line)
        assert m, line
        base = re.sub("_(bucket|sum|count)$", "", m.group(1))
        assert m.group(1) in types or base in types, line
    for name, kind in types.items():
        assert (kind == "counter") == name.endswith("_total"), (name, kind)


@broker(listeners=OPEN)
def test_wrong_commands_say_what_is_right(b):
    for args in (["clients"], ["clients", "frobnicate"], ["clients", "list", "--no-such"], ["clients", "show"],
                 ["clients", "list", "--limit", "x"], ["plugin", "show"], ["status", "extra"], []):
        r = b.ctl(*args, code=2)
        assert r.stderr or r.stdout, args
    r = b.ctl("frobnicate", code=None)
    assert r.returncode != 0 and "frobnicate" in r.stderr
    r = subprocess.run([GRAPNELCTL, "-S", "/no/such/socket", "status"], capture_output=True, text=True, check=False)
    assert r.returncode == 3 and "/no/such/socket" in r.stderr


@broker(listeners=OPEN)
def test_the_admin_socket_is_closed_to_others_and_takes_nonsense(b):
    assert stat.S_IMODE(os.stat(b.socket).st_mode) == 0o660
    for data in (b"\0" * 100, b"GET /../../etc/passwd HTTP/1.0\r\n\r\n", b"GET /v1/clients/%2e%2e%2f HTTP/1.0\r\n\r\n",
                 b"POST /v1/reload HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"GET " + b"x" * 100000 + b" HTTP/1.1\r\n\r\n",
                 b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /v1/status HTTP/1.1\r\n" + b"A: b\r\n" * 20000 + b"\r\n"):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(TIMEOUT)
        s.connect(b.socket)
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            got = s.recv(65536)
            assert b" 200 " not in got[:20] and b"root:" not in got, (data[:50], got)
        except (BrokenPipeError, ConnectionResetError):
            pass
        s.close()
    b.ctl("status")
