# SPDX-License-Identifier: Apache-2.0
"""grapnelctl import-mosquitto: every directive has its place, what is written starts, and decides as Mosquitto does."""
import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile

from lib import mosquitto, pki
from lib.broker import GRAPNELCTL, PLUGINS, Broker, run_grapneld
from lib.case import each, skip_if
from lib.mqtt import *  # noqa: F401,F403
from lib.mqtt import Client, Closed
from lib.server import free_port

HERE = os.path.dirname(os.path.abspath(__file__))
MANUAL = "/usr/share/man/man5/mosquitto.conf.5.gz"


def import_mosquitto(*args, code=0, cwd=None):
    r = subprocess.run([GRAPNELCTL, "import-mosquitto"] + list(args), text=True, capture_output=True, check=False,
                       cwd=cwd)
    assert r.returncode == code, "%s: %d\n%s%s" % (args, r.returncode, r.stdout, r.stderr)
    return r


class Folder:
    """A temporary folder with a mosquitto.conf, and what becomes of it in out/."""

    def __init__(self, text="", **files):
        self.dir = tempfile.mkdtemp(prefix="grapnel-import-")
        os.chmod(self.dir, 0o755)
        for name, content in files.items():
            self.write(name.replace("__", "."), content)
        self.write("mosquitto.conf", text)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.dir, ignore_errors=True)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("{dir}", self.dir))
        return path

    def convert(self, *args):
        """@return what is said."""
        return import_mosquitto("--output", self.path("out"), *args, self.path("mosquitto.conf"), cwd=self.dir).stdout

    def read(self):
        """All files of the configuration, one after the other."""
        out = []
        for root, _, names in sorted(os.walk(self.path("out"))):
            for name in sorted(names):
                if name.endswith(".conf"):
                    with open(os.path.join(root, name), encoding="utf-8") as f:
                        out.append(f.read())
        return "\n".join(out)

    def here(self):
        """What a test's broker needs besides: the plugins of the build, and folders of its own."""
        self.write("out/conf.d/99-test.conf", 'plugin_directory = "%s"\nworkers = 2\nadmin { socket = "{dir}/admin.sock" }\n'
                   'store { directory = "{dir}/store" }\nguard { enabled = no }\n' % PLUGINS)

    def check(self):
        self.here()
        r = run_grapneld("-t", "-c", self.path("out/grapnel.conf"))
        assert r.returncode == 0, "%s\n%s" % (r.stderr, self.read())
        return r.stderr


class Converted(Broker):
    """A broker with the configuration of a Folder as it is."""

    def __init__(self, folder):
        super().__init__()
        shutil.rmtree(self.dir)
        self.dir, self.conf, self.socket = folder.dir, folder.path("out/grapnel.conf"), folder.path("admin.sock")

    def configure(self, **changed):
        return self


def settings(text):
    """Lines without their comments and blanks."""
    out = []
    for line in text.splitlines():
        line = re.sub(r"\s+# .*$", "", line).strip()
        if line and not line.startswith("#"):
            out.append(line)
    return out


# ---- every directive ----------------------------------------------------------------------------

# Those of mosquitto.conf(5), 2.0 and 2.1, with a value each.
GENERAL = """
acl_file {dir}/acl
allow_anonymous true
allow_duplicate_messages true
allow_zero_length_clientid true
auto_id_prefix auto-
autosave_interval 1800
autosave_on_changes false
check_retain_source true
clientid_prefixes secure-
connection_messages true
enable_control_api true
global_max_clients 1000
global_max_connections 500
include_dir {dir}/inc
log_dest syslog
log_facility 5
log_timestamp true
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type warning
max_inflight_bytes 100
max_inflight_messages 20
max_keepalive 600
max_packet_size 70000
max_queued_bytes 100000
max_queued_messages 1000
memory_limit 100000000
message_size_limit 1000
packet_buffer_size 4096
password_file {dir}/passwd
per_listener_settings false
persistence true
persistence_file mosquitto.db
persistence_location /var/lib/mosquitto/
persistent_client_expiration 2m
pid_file /run/mosquitto.pid
psk_file {dir}/psk
queue_qos0_messages true
retain_available true
retain_expiry_interval 10
set_tcp_nodelay true
sys_interval 20
upgrade_outgoing_qos false
user mosquitto
websockets_headers_size 1024
websockets_log_level 0
"""
LISTENER = """
listener 18831 127.0.0.1
accept_protocol_versions 4, 5
bind_interface lo
cafile {cert}
capath {dir}
certfile {cert}
ciphers ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384
ciphers_tls1.3 TLS_AES_256_GCM_SHA384
crlfile {crl}
dhparamfile {dir}/dh
disable_client_cert_date_checks false
http_dir /var/www
keyfile {key}
listener_allow_anonymous false
listener_auto_id_prefix x-
max_connections 10
max_qos 1
max_topic_alias 5
max_topic_alias_broker 5
mount_point m/
protocol websockets
require_certificate true
socket_domain ipv4
tls_engine x
tls_engine_kpass_sha1 00
tls_keyform pem
tls_version tlsv1.3
use_identity_as_username true
use_subject_as_username false
use_username_as_clientid true
websockets_origin http://example.org
plugin_use x
listener 18832 127.0.0.1
psk_hint hint
listener 18833 127.0.0.1
enable_proxy_protocol 2
proxy_protocol_v2_require_tls true
"""
STANDARD = """
port 18834
bind_address 127.0.0.1
"""
PLUGIN = """
auth_plugin /nowhere/a.so
auth_opt_a 1
auth_plugin_deny_special_chars true
plugin /nowhere/b.so
plugin_opt_b 2
global_plugin /nowhere/c.so
plugin_load x /nowhere/d.so
"""
BRIDGE = """
connection b
address example.org:1883
addresses example.org
bridge_alpn mqtt
bridge_attempt_unsubscribe true
bridge_bind_address 127.0.0.1
bridge_cafile /x
bridge_capath /x
bridge_certfile /x
bridge_ciphers x
bridge_ciphers_tls1.3 x
bridge_identity x
bridge_insecure false
bridge_keyfile /x
bridge_max_packet_size 0
bridge_max_topic_alias 5
bridge_outgoing_retain true
bridge_protocol_version mqttv311
bridge_psk 00
bridge_receive_maximum 5
bridge_reload_type lazy
bridge_require_ocsp false
bridge_session_expiry_interval 5
bridge_tcp_keepalive 1 2 3
bridge_tcp_user_timeout 5
bridge_tls_use_os_certs true
bridge_tls_version tlsv1.2
cleansession true
clientid x
idle_timeout 60
keepalive_interval 60
local_cleansession true
local_clientid x
local_password hidden-one
local_username x
notification_topic x
notifications true
notifications_local_only true
password hidden-two
remote_clientid x
remote_password hidden-three
remote_username x
restart_timeout 5 30
round_robin false
start_type automatic
threshold 10
topic # both
try_private true
username x
"""
OLD = """
maximum_qos 1
retained_persistence true
retry_interval 20
store_clean_interval 10
"""
ALL = LISTENER + STANDARD + GENERAL + PLUGIN + BRIDGE + OLD
FIRST = {line.split()[0] for line in ALL.splitlines() if line}


def all_of_them():
    return ALL.format(dir="{dir}", cert=pki.get().root.issue("import").cert, key=pki.get().root.issue("import").key,
                      crl=pki.get().root.crl())


def test_every_directive_is_known_and_every_line_has_a_place():
    with Folder(all_of_them(), acl="topic #\n", passwd="", psk="id:00112233445566778899aabbccddeeff\n",
                inc__d="") as f:
        os.mkdir(f.path("inc"))
        f.write("inc/a.conf", "no_such_thing 1\nlog_type error\n")
        said = f.convert()
        unknown = re.findall(r"^  (\S+): (\S+).*\n\s+no directive of Mosquitto that is known", said, re.M)
        assert unknown == [(f.path("inc/a.conf") + ":1", "no_such_thing")], said
        places = set(re.findall(r"mosquitto\.conf:(\d+): ", f.read() + said))
        bridge = re.search(r"mosquitto\.conf:(\d+): connection b, with what belongs to it up to line (\d+) \(\d+ settings\)", said)
        places |= {str(n) for n in range(int(bridge.group(1)), int(bridge.group(2)) + 1)}
        with open(f.path("mosquitto.conf"), encoding="utf-8") as text:
            lines = {str(n): line.strip() for n, line in enumerate(text, 1) if line.strip()}
        # Switches that are off say nothing, and neither does what is only read.
        silent = ("per_listener_settings false", "persistence_", "use_subject_as_username false", "include_dir ",
                  "password_file", "port ", "bind_address ")
        left = {n: line for n, line in lines.items() if n not in places and not line.startswith(silent)}
        assert not left, left
        assert "hidden" not in said, said


@skip_if(not os.path.exists(MANUAL), "the manual of Mosquitto is not installed")
def test_the_table_has_all_that_the_manual_has():
    with gzip.open(MANUAL, "rt", encoding="utf-8") as m:
        text = m.read()
    names = set(re.findall(r"^\\fB([a-z_0-9.*]+)\\fR", text, re.M))
    names = {n for n in names if ("_" in n and not n.startswith("mosquitto_")) or n in ("user", "port", "topic", "listener", "protocol", "ciphers", "connection")}
    assert len(names) > 90, sorted(names)
    known = FIRST | {"auth_opt_*", "plugin_opt_*"}
    assert not names - known, sorted(names - known)


# ---- what becomes of what -----------------------------------------------------------------------

CONVERSIONS = [
    # mosquitto.conf, settings that must be there, words that must be said
    ("", ['listener "mqtt" {', 'bind = "127.0.0.1:1883"', "anonymous = yes", "durability = off", "takeover = any",
          "max_packet_size = 268435460", "max_session_expiry = 4294967295s"], ["without password_file Mosquitto lets in any user name"]),
    ("allow_anonymous false\npassword_file {dir}/passwd", ["anonymous = no", 'password_file = "{dir}/passwd"'], []),
    ("certfile x\nmax_qos 1", ['bind = "127.0.0.1:1883"'], ["certfile x\n.*does not heed it either"]),
    ("port 1884", ['listener "mqtt-1884" {', 'bind = "*:1884"', "anonymous = no", 'password_file = "{dir}/out/passwd"'], []),
    ("port 1884\nbind_address 127.0.0.2\nmax_qos 1", ['bind = "127.0.0.2:1884"', "max_qos = 1"], []),
    ("bind_address localhost", ['bind = "127.0.0.1:1883"'], []),
    ("max_connections 7\nlistener 1884", ['bind = "*:1883"', "max_connections = 7", 'bind = "*:1884"'], []),
    ("listener 1884 ::1", ['bind = "[::1]:1884"'], []),
    ("listener 1884\nsocket_domain ipv6", ['bind = "[::]:1884"'], []),
    ("listener 1884\nsocket_domain ipv4", ['bind = "0.0.0.0:1884"'], []),
    ("listener 0 /run/x.sock", ['bind = "unix:/run/x.sock"'], []),
    ("listener 0", [], ["listener 0\n.*its path must"]),
    ("listener 99999", [], ["listener 99999\n.*range"]),
    ("listener x", [], ["listener x\n.*must be a number"]),
    ("listener 1884 no-such-host.invalid", [], ["no-such-host.invalid\n.*no address here"]),
    ("listener 1884\nlistener 1884 127.0.0.2", ['listener "mqtt-1884" {', 'listener "mqtt-1884-2" {'], []),
    ("listener 1884\nallow_anonymous true", ["anonymous = yes", 'rules = "{dir}/out/rules"'], ["lets in any user name"]),
    ("listener 1884\nallow_anonymous perhaps", ["anonymous = no"], ["allow_anonymous perhaps\n.*true or false"]),
    ("listener 1884\naccept_protocol_versions 3, 5", ["protocol_versions = [3.1, 5.0]"], []),
    ("listener 1884\nmount_point $x", [], ["mount_point .x\n.*does not begin with", "1884\n.*left out, see mount_point"]),
    ("listener 1884\nprotocol http_api", [], ["listener 1884\n.*left out"]),
    ("listener 1884\nlog_type none", ["level = error"], ["errors are always logged"]),
    ("listener 1884\nlog_type all", ["level = debug"], []),
    ("listener 1884\nlog_dest topic", [], ["log_dest topic\n.*event-log"]),
    ("listener 1884\nlog_dest stdout\nlog_dest file /x.log", ['to = "/x.log"'], ["log_dest stdout\n.*one place", "SIGUSR1"]),
    ("listener 1884\nmessage_size_limit 1000", ["max_packet_size = 66600"], ["disconnected"]),
    ("listener 1884\nmax_packet_size 20", ["max_packet_size = 128"], ["range 128"]),
    ("listener 1884\nmax_queued_messages 0\nmax_inflight_messages 0", ["max_queued_messages = 1000000000", "max_inflight = 65535"], []),
    ("listener 1884\npersistent_client_expiration 1y", ["max_session_expiry = 31536000s"], []),
    ("listener 1884\npersistent_client_expiration soon", ["max_session_expiry = 4294967295s"], ["soon\n.*one of s"]),
    ("listener 1884\nmax_connections 010", ["max_connections = 10"], []),
    ("listener 1884\nmax_qos 1\nmax_qos 2", ["max_qos = 2"], [":2: max_qos 1\n.*mosquitto.conf:3 has it again"]),
    ("listener 1884\nupgrade_outgoing_qos true", [], ["upgrade_outgoing_qos true\n.*never gets a higher QoS"]),
    ("listener 1884\nuse_username_as_clientid true", ["takeover = owner"], ["the client id stays"]),
    ("listener 1884\nuser root", [], ["user root\n.*stays root"]),
    ('listener 1884\nlog_dest file /tmp/a "b" ${HOME} c', ['to = "/tmp/a \\"b\\" \\${HOME} c"'], []),
    ("listener 1884\nenable_proxy_protocol 2\nuse_identity_as_username true", ["proxy_protocol = yes", "identity = cn",
                                                                               "sources = [proxy]"], ["everybody who connects is believed"]),
    ("persistence true\npersistence_location /var/lib/mosquitto/", ["durability = strict"],
     [r"store import -c \S+ --mosquitto /var/lib/mosquitto/mosquitto.db"]),
]


@each(row=CONVERSIONS)
def test_a_configuration_becomes(row):
    text, wanted, words = row
    with Folder(text + "\n", passwd="", acl="") as f:
        said = f.convert()
        got = settings(f.read())
        for line in wanted:
            assert line.replace("{dir}", f.dir) in got, (line, got, said)
        for word in words:
            assert re.search(word, said), (word, said)
        # A listener without which nobody could come in is not invented: then grapneld says that there is none.
        if any(line.startswith("bind = ") for line in got):
            f.check()


def test_all_at_once_passes_the_check():
    """But for plugins, which are not there, and what root alone may do."""
    text = "\n".join(line for line in all_of_them().splitlines() if not line.startswith(("user ", "capath", "bind_interface")))
    text = text.replace(PLUGIN, "\n")
    assert "auth_opt_a" not in text
    with Folder(text, acl="topic #\n", passwd="", psk="id:00112233445566778899aabbccddeeff\n") as f:
        os.mkdir(f.path("inc"))
        f.convert()
        f.check()


def test_a_certificate_that_nobody_can_have_opens_no_listener():
    c = pki.get().root.issue("import")
    with Folder("listener 18831\ncertfile %s\nkeyfile %s\nrequire_certificate true\nlistener 18832\n" % (c.cert, c.key)) as f:
        said = f.convert()
        assert 'bind = "*:18831"' not in f.read() and 'bind = "*:18832"' in f.read()
        assert re.search(r"listener 18831\n.*left out", said), said


@each(which=("use_identity_as_username", "use_subject_as_username"))
def test_a_name_that_nobody_can_have_opens_no_listener(which):
    """Mosquitto asks for no certificate then, and refuses all who come without one."""
    c = pki.get().root.issue("import")
    tls = "certfile %s\nkeyfile %s\n%s true\nallow_anonymous true\n" % (c.cert, c.key, which)
    with Folder("listener 18831\n%slistener 18832\n" % tls) as f:
        said = f.convert()
        assert 'bind = "*:18831"' not in f.read() and 'bind = "*:18832"' in f.read()
        assert re.search(r"listener 18831\n.*left out, see %s" % which, said), said


@each(row=(
    # The plugin that would decide is not there.
    (b"listener 18831\nplugin /lib/\xff.so\n", []),
    (b"per_listener_settings true\nlistener 18831\nplugin /lib/\xff.so\nlistener 18832\nallow_anonymous true\n", ['bind = "*:18832"']),
    (b"plugin /lib/\xff.so\nacl_file /x\n", []),
    (b"plugin /lib/\xff_persist_sqlite.so\n", ['bind = "127.0.0.1:1883"']),
))
def test_without_a_plugin_that_decides_no_listener_is_opened(row):
    text, binds = row
    with Folder() as f:
        with open(f.path("mosquitto.conf"), "wb") as out:
            out.write(text)
        said = f.convert()
        got = [line for line in settings(f.read()) if line.startswith("bind") and "[::1]" not in line]
        assert got == binds and (not binds or re.search(r"left out, see plugin|store is Grapnel's own", said)), (got, said)
        if not binds:
            assert "left out, see plugin" in said and not os.path.exists(f.path("out", "rules")), said


@each(row=(
    # What comes besides psk_file; is a key enough?
    ("allow_anonymous true\n", True), ("allow_anonymous false\n", False),
    ("allow_anonymous true\npassword_file {dir}/passwd\n", False), ("allow_anonymous true\nplugin /lib/x.so\n", False),
    ("allow_anonymous true\npassword_file {dir}/passwd\nuse_identity_as_username true\n", True),
))
def test_a_key_does_not_stand_for_a_password(row):
    """Mosquitto has such a client without a name, or with the one whose password it knows; here it has that of its key."""
    more, enough = row
    with Folder("listener 18831\npsk_hint h\npsk_file {dir}/psk\n" + more, psk="admin:00112233445566778899aabbccddeeff\n", passwd="") as f:
        said = f.convert()
        assert ("sources = [psk]" in f.read()) == enough and ("need a password for their identity" in said) != enough, (f.read(), said)


def test_origins_that_cannot_be_written_open_no_listener():
    with Folder() as f:
        with open(f.path("mosquitto.conf"), "wb") as out:
            out.write(b"listener 18831\nprotocol websockets\nwebsockets_origin \xff\nlistener 18832\n")
        said = f.convert()
        assert 'bind = "*:18831"' not in f.read() and 'bind = "*:18832"' in f.read(), f.read()
        assert "left out, see websockets_origin" in said, said


def test_a_plugin_for_rights_that_has_no_file_opens_nothing():
    with Folder("listener 18831\nallow_anonymous true\nplugin /lib/mosquitto_acl_file.so\n") as f:
        f.convert()
        assert "rules = " not in f.read() and not os.path.exists(f.path("out", "rules")), f.read()


@each(row=(
    # Rules that are about other topics than they were, or that are not there.
    ("listener 18831\nmount_point m/\nacl_file {dir}/acl\nlistener 18832\n", "mount_point"),
    ("listener 18831\nmount_point m/\nplugin /lib/x.so\nlistener 18832\n", "mount_point"),
    ("per_listener_settings true\nlistener 18831\nacl_file\nlistener 18832\n", "acl_file"),
    ("listener 18831 %s\nlistener 18832\n" % ("x" * 400), "no address"),
    ("bind_address\nport 18831\nlistener 18832\n", "bind_address"),
))
def test_what_cannot_be_kept_apart_opens_no_listener(row):
    text, why = row
    with Folder(text, acl="topic #\n") as f:
        said = f.convert()
        assert 'bind = "*:18831"' not in f.read() and 'bind = "*:18832"' in f.read()
        assert re.search(r"left out.*%s|left out: .*%s" % (why, why), said), said


def test_what_stands_before_the_first_listener_opens_none_that_mosquitto_does_not_open():
    text = "per_listener_settings true\nallow_anonymous true\nacl_file {dir}/acl\nmax_qos 2\nrequire_certificate false\nlistener 18831 127.0.0.1\n"
    with Folder(text, acl="topic #\n") as f:
        said = f.convert()
        assert [line for line in settings(f.read()) if line.startswith("bind")] == ['bind = "127.0.0.1:18831"'], f.read()
        assert re.search("allow_anonymous true\n.*2.0 opens none for it", said), said
    with Folder(text.replace("max_qos 2", "max_qos 1"), acl="topic #\n") as f:
        f.convert()
        assert 'bind = "*:1883"' in f.read()


@each(per_listener=("false", "true"))
def test_plugins_of_mosquitto_2_1_are_for_those_that_use_them(per_listener):
    text = ("per_listener_settings %s\nplugin_load one /lib/one.so\nplugin_load two /lib/two.so\nglobal_plugin /lib/all.so\n"
            "listener 18831 127.0.0.1\nplugin_use one\nplugin_opt_a 1\nlistener 18832 127.0.0.1\nplugin_use nobody\n" % per_listener)
    with Folder(text) as f:
        said = f.convert()
        got = "\n".join(settings(f.read()))
        assert re.findall("bind = .*", got) == ['bind = "127.0.0.1:18831"', 'bind = "127.0.0.1:18832"'], got
        assert 'path = "/lib/one.so"\nlisteners = ["mqtt-18831"]\noption "a" {' in got, got
        assert 'path = "/lib/all.so"\n}' in got and "two.so" not in got, got
        assert re.search("two.so\n.*no listener that is there uses it", said), said
        assert re.search("plugin_use nobody\n.*no plugin_load", said), said


def test_a_plugin_of_one_listener_is_asked_about_its_clients():
    with Folder("per_listener_settings true\nlistener 18831\nplugin /lib/x.so\nlistener 18832\npassword_file {dir}/passwd\n", passwd="") as f:
        f.convert()
        got = "\n".join(settings(f.read()))
        assert 'order = 16\npath = "/lib/x.so"\nlisteners = ["mqtt-18831"]\n}' in got, got
        assert 'order = 20\nlisteners = ["mqtt-18832"]\npassword_file = "%s"\nrules = "%s"\n}' % (f.path("passwd"), f.path("out", "rules")) in got, got


def test_plugins_of_mosquitto_go_to_mosquitto_compat_with_their_options():
    text = ("listener 1884\nauth_plugin /lib/go-auth.so\nauth_opt_backends jwt, postgres\nauth_opt_pg_password p\"$a\\\n"
            "auth_opt_twice 1\nauth_opt_twice 2\nauth_plugin_deny_special_chars false\nplugin /lib/other.so\n")
    with Folder(text) as f:
        said = f.convert()
        got = "\n".join(settings(f.read()))
        assert 'plugin "mosquitto-compat" {\norder = 60\npath = "/lib/go-auth.so"\noption "backends" {\nvalue = "jwt, postgres"\n}' in got, got
        assert 'option "pg_password" {\nvalue = "p\\"\\$a\\\\"\n}\noption "twice" {\nvalue = "2"\n}\ndeny_special_chars = no\n}' in got, got
        assert 'plugin "mosquitto-compat-2" {\nmodule = mosquitto-compat\norder = 17\npath = "/lib/other.so"\n}' in got, got
        assert re.search(r"auth-postgres, auth-jwt of Grapnel", said), said
        assert 'p"$a' not in said


def test_files_of_mosquitto_2_1_that_are_plugins_are_read_by_auth_file():
    text = ("listener 18831\nplugin /lib/mosquitto_password_file.so\nplugin_opt_password_file {dir}/passwd\n"
            "plugin /lib/mosquitto_acl_file.so\nplugin_opt_acl_file {dir}/acl\n")
    with Folder(text, passwd="", acl="topic #\n") as f:
        f.convert()
        got = settings(f.read())
        assert 'password_file = "%s"' % f.path("passwd") in got and 'acl_file = "%s"' % f.path("acl") in got, got
        f.check()


def test_include_dir_is_read_in_mosquittos_order_and_not_from_what_it_includes():
    with Folder("listener 18831\ninclude_dir {dir}/inc\n") as f:
        for i, name in enumerate(("00.conf", "A.conf", "a.conf", "B.conf", "b.conf")):
            f.write("inc/" + name, "sys_interval %d\n" % (i + 1))
        f.write("inc/B.conf", "sys_interval 4\ninclude_dir {dir}\nmax_qos 1\n")
        f.write("inc/no.txt", "sys_interval 99\n")
        said = f.convert()
        got = settings(f.read())
        assert "sys_interval = 5s" in got, got
        # A file begins outside of every listener, and Mosquitto's standard listener gets what is said there.
        assert "max_qos = 1" in got and 'bind = "*:1883"' in got, got
        assert re.search(r"B\.conf:2: include_dir .*\n.*only the main file", said), said


# ---- the folder, and input that is not what it should be ---------------------------------------------


def test_nothing_is_overwritten_and_a_dry_run_writes_nothing():
    with Folder("listener 18831\n") as f:
        said = f.convert("--dry-run")
        assert not os.path.exists(f.path("out")) and 'bind = "*:18831"' in said
        f.convert()
        before = f.read()
        r = import_mosquitto("--output", f.path("out"), f.path("mosquitto.conf"), code=1)
        assert "nothing is overwritten" in r.stderr and f.read() == before
        assert os.stat(f.path("out/passwd")).st_mode & 0o777 == 0o600
        os.mkdir(f.path("empty"))
        import_mosquitto("--output", f.path("empty"), f.path("mosquitto.conf"))
        os.symlink(f.path("nowhere"), f.path("link"))
        import_mosquitto("--output", f.path("link"), f.path("mosquitto.conf"), code=1)
        for args in ([], ["a", "b"], ["--output"], ["--nonsense", "x"], ["--output", "", "x"]):
            import_mosquitto(*args, code=2)


BAD = {
    "no file": (None, "No such file"),
    "a folder": ("dir", "regular file|directory"),
    "a long line": ("x" * 70000, r":1: a line of more than 65536 bytes"),
    "a large file": ("# comment\n" * 500000, "large|bytes"),
    "a NUL": ("user a\0b\n", r":1: there is a NUL"),
    "a folder that is not there": ("include_dir /nowhere/at/all\n", "mosquitto.conf:1: include_dir /nowhere/at/all: No such file"),
    "too many settings": ("sys_interval 1\n" * 60000, "more than 50000"),
    "too many listeners": ("listener 1\n" * 201, ":201: more than 200 listeners"),
}


@each(bad=tuple(BAD))
def test_a_file_that_cannot_be_read_is_refused(bad):
    text, words = BAD[bad]
    with Folder() as f:
        if text == "dir" or text is None:
            os.unlink(f.path("mosquitto.conf"))
        if text == "dir":
            os.mkdir(f.path("mosquitto.conf"))
        elif text is not None:
            f.write("mosquitto.conf", text)
        r = import_mosquitto("--output", f.path("out"), f.path("mosquitto.conf"), code=1)
        assert re.search(words, r.stderr), r.stderr
        assert not os.path.exists(f.path("out"))


def test_bytes_of_no_text_are_named_and_not_shown():
    with Folder() as f:
        with open(f.path("mosquitto.conf"), "wb") as out:
            out.write(b"listener 18831\nmount_point \xff\xfe\nuser a\x1b[31mb\nno\x1b[31mthing x\nlistener 18832\n")
        said = f.convert()
        assert "\x1b" not in said and "mount_point" in said and "user" in said, said
        f.check()


# ---- the same decisions as Mosquitto's ---------------------------------------------------------------

PASSWORDS = {"admin": "secret", "alice": "wonder", "bob": "builder"}
ACL = """topic read public/#
topic readwrite probe/#
user admin
topic readwrite #
user alice
topic readwrite home/#
topic deny home/locked/#
topic write up/only
topic read down/only
pattern readwrite own/%u/%c/#
pattern readwrite probe/#
"""
TOPICS = ["public/a", "home/x", "home/locked/x", "up/only", "down/only", "own/alice/c-alice/t", "own/bob/c-bob/t", "m/inner", "else"]


class Case:
    """A mosquitto.conf with {port}s, and who tries to come in where: (port, user, password)."""

    def __init__(self, name, conf, logins, ports=1, admin="port"):
        self.name, self.conf, self.logins, self.ports, self.admin = name, conf, logins, ports, admin

    def __str__(self):
        return self.name


EVERYBODY = [(None, None), ("alice", "wonder"), ("alice", "wrong"), ("alice", None), ("bob", "builder"), ("nobody", "x")]
CASES = [
    Case("files for all, nobody without a name", "listener {port} 127.0.0.1\npassword_file {dir}/passwd\nacl_file {dir}/acl\n",
         [("port", u, p) for u, p in EVERYBODY]),
    Case("files for all, anonymous too", "allow_anonymous true\nlistener {port} 127.0.0.1\npassword_file {dir}/passwd\nacl_file {dir}/acl\n",
         [("port", u, p) for u, p in EVERYBODY]),
    Case("passwords without rights", "listener {port} 127.0.0.1\npassword_file {dir}/passwd\n", [("port", u, p) for u, p in EVERYBODY]),
    Case("each listener its own", "per_listener_settings true\nlistener {port} 127.0.0.1\npassword_file {dir}/passwd\nacl_file {dir}/acl\n"
         "listener {port2} 127.0.0.1\npassword_file {dir}/passwd2\nlistener {port3} 127.0.0.1\nallow_anonymous true\nacl_file {dir}/acl\n"
         "password_file {dir}/passwd\n",
         [(port, u, p) for port in ("port", "port2", "port3") for u, p in EVERYBODY + [("carol", "christmas")]], 3),
    Case("a mountpoint", "allow_anonymous false\npassword_file {dir}/passwd\nlistener {port} 127.0.0.1\nlistener {port2} 127.0.0.1\nmount_point m/\n",
         [("port", "alice", "wonder"), ("port2", "bob", "builder"), ("port2", None, None)], 2),
    Case("certificates as names", "acl_file {dir}/acl\nallow_anonymous false\npassword_file {dir}/passwd\nlistener {port} 127.0.0.1\n"
         "listener {port2} 127.0.0.1\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\nuse_identity_as_username true\n"
         "listener {port3} 127.0.0.1\ncertfile {cert}\nkeyfile {key}\n",
         [("port2", "tls:alice", None), ("port2", "tls:bob", "bob:wrong"), ("port2", "tls:", None), ("port3", "tls:", None),
          ("port3", "tls:", "alice:wonder"), ("port", "alice", "wonder")], 3),
]


DYNAMIC = "/usr/lib/%s-linux-gnu/mosquitto_dynamic_security.so" % os.uname().machine
if os.path.exists(DYNAMIC) and os.path.exists(os.path.join(PLUGINS, "mosquitto-compat.so")):
    CASES += [Case(name, "listener {port} 127.0.0.1\nallow_anonymous false\nplugin %s\nplugin_opt_config_file {dir}/dynamic\n%s" % (DYNAMIC, more),
                   [("port", u, p) for u, p in (("alice", "wonder"), ("alice", "wrong"), ("bob", "builder"), ("nobody", "x"), (None, None))])
              for name, more in (("a plugin", ""), ("a plugin, asked before the files", "password_file {dir}/passwd2\nacl_file {dir}/wide\n"))]


def dynamic_security():
    """Its file: users as PASSWORDS, the admin may do everything, alice what is at home and in the probe, bob nothing but be there."""
    def user(name, role):
        salt, hashed = pbkdf2(name, PASSWORDS[name])
        return {"username": name, "password": hashed, "salt": salt, "iterations": 101, "roles": [{"rolename": role}]}

    def role(name, *topics):
        rights = [{"acltype": kind, "topic": topic, "allow": True} for topic in topics
                  for kind in ("publishClientSend", "publishClientReceive")]
        return {"rolename": name, "acls": rights + [{"acltype": "subscribePattern", "topic": "#", "allow": True}]}
    return json.dumps({"defaultACLAccess": {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True},
                       "clients": [user("admin", "all"), user("alice", "home"), user("bob", "guest")],
                       "roles": [role("all", "#"), role("home", "home/#", "probe/#"), role("guest", "probe/#")]})


def tls_of(name):
    root = pki.get().root
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if name:
        c = root.issue("import-" + name, cn=name)
        context.load_cert_chain(c.cert, c.key)
    return context


def enter(port, user, password, clients):
    """A client that is in, or None. user "tls:NAME": with that certificate; its password is then "user:password" or None."""
    tls, name = None, user
    if user is not None and user.startswith("tls:"):
        name, tls = user[4:], tls_of(user[4:])
        user, password = password.split(":") if password else (None, None)
    try:
        c = Client(("127.0.0.1", port), V311, tls=tls)
        clients.append(c)
        c.send_connect("c-" + (name or "none"), username=user, password=password)
        p = c.recv()
        return c if p.reason == 0 else None
    except (Closed, OSError):
        return None


def until(c, payload):
    """[(topic, payload)] of what comes before that payload."""
    out = []
    while True:
        p = c.expect_message()
        text = p.payload.decode()
        if text == payload:
            return out
        out.append((p.topic, text))


def decisions(case, ports):
    """{login: None, or what it can publish and read}"""
    out, clients = {}, []
    try:
        admin = enter(ports[case.admin], "admin", PASSWORDS["admin"], clients)
        admin.subscribe("#")
        for at, user, password in case.logins:
            c = enter(ports[at], user, password, clients)
            if c is None:
                out[at, user, password] = None
                continue
            c.subscribe("#")
            for topic in TOPICS:
                c.send_publish(topic, "up " + topic)
            c.send_publish("probe/up", "up end")
            up = until(admin, "up end")
            until(c, "up end")
            for topic in TOPICS:
                admin.send_publish(topic, "down " + topic)
            for topic in ("probe/down", "m/probe/down"):
                admin.send_publish(topic, "down end")
            down = until(c, "down end")
            until(admin, "down end")
            until(admin, "down end")
            # Mosquitto 2.0.11 leaves the mountpoint in what it delivers: the payload says which message it is.
            out[at, user, password] = (sorted(up), sorted(payload for _, payload in down))
            c.disconnect()
    finally:
        for c in clients:
            c.close()
    return out


class Mosquitto(mosquitto.Mosquitto):
    conf = ""

    def prepare(self):
        self.write("mosquitto.conf", self.conf)


def pbkdf2(name, password):
    """(salt, hash) as Mosquitto's tools make them, with few rounds."""
    salt = (name.encode() * 12)[:12]
    return (base64.b64encode(x).decode() for x in (salt, hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)))


def write_files(f):
    for name, users in (("passwd", PASSWORDS), ("passwd2", {"admin": PASSWORDS["admin"], "carol": "christmas"})):
        f.write(name, "".join("%s:$7$101$%s$%s\n" % (user, *pbkdf2(user, password)) for user, password in users.items()))
    f.write("acl", ACL)
    f.write("wide", "topic readwrite #\n")
    f.write("dynamic", dynamic_security())


@skip_if(not mosquitto.PROGRAM, "mosquitto is not installed")
@each(case=CASES)
def test_the_same_clients_come_in_and_may_do_the_same(case):
    m = Mosquitto()
    c = pki.get().root.issue("import")
    facts = {"ca": pki.get().root.cert, "cert": c.cert, "key": c.key}
    names = ["port", "port2", "port3"][:case.ports]
    theirs = dict(zip(names, [m.port] + [free_port() for _ in names[1:]]))
    ours = {name: free_port() for name in names}
    with Folder() as f:
        write_files(f)
        for name in ("passwd", "passwd2", "acl", "wide", "dynamic"):
            shutil.copy(f.path(name), m.dir)
        for name in facts:
            shutil.copy(facts[name], m.path(name))
        m.conf = case.conf.format(dir=m.dir, **theirs, **{name: m.path(name) for name in facts})
        f.write("mosquitto.conf", case.conf.format(dir=f.dir, **ours, **facts))
        f.convert()
        f.here()
        try:
            wanted = decisions(case, dict(zip(names, [m.start().port] + [theirs[n] for n in names[1:]])))
        finally:
            m.stop()
        assert any(d is not None for d in wanted.values()), wanted
        b = Converted(f)
        with b:
            got = decisions(case, ours)
        for login, want in wanted.items():
            assert got[login] == want, "%s %s:\nMosquitto %s\nGrapnel   %s\n%s" % (case, login, want, got[login], f.read())


def test_without_rights_everybody_reads_sys_as_in_mosquitto():
    with Folder("allow_anonymous true\nlistener 0 {dir}/mqtt.sock\n") as f:
        f.convert()
        f.here()
        b = Converted(f)
        with b:
            c = Client(f.path("mqtt.sock"), V5)
            c.connect("reader")
            c.subscribe("$SYS/#")
            assert c.expect_message().topic.startswith("$SYS/")
            c.close()
