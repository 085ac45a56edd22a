# SPDX-License-Identifier: Apache-2.0
"""auth-file with files as mosquitto_passwd and grapnelctl passwd really write them."""
import base64
import hashlib
import os
import shutil
import stat
import subprocess
import threading

from lib import wire
from lib.broker import FACTOR, GRAPNELCTL, Broker, run_grapneld
from lib.case import broker, each, skip_if, versions
from lib.mqtt import *  # noqa: F401,F403

SCHEMES = ("argon2id", "yescrypt", "bcrypt", "sha512", "pbkdf2", "scram-sha-256", "scram-sha-512")
PREFIX = {"argon2id": "$argon2id$", "yescrypt": "$y$", "bcrypt": "$2", "sha512": "$6$", "pbkdf2": "$7$",
          "scram-sha-256": "SCRAM-SHA-256$", "scram-sha-512": "SCRAM-SHA-512$"}
MOSQUITTO = shutil.which("mosquitto_pub") and shutil.which("mosquitto_passwd")


def passwd(*args, stdin="", code=0):
    r = subprocess.run([GRAPNELCTL, "passwd"] + list(args), input=stdin, text=True, capture_output=True,
                       check=False)
    assert r.returncode == code, "passwd %s: %d\n%s%s" % (args, r.returncode, r.stdout, r.stderr)
    return r


def lines(path):
    with open(path, encoding="utf-8") as f:
        return [x for x in f.read().splitlines() if x and not x.startswith("#")]


def tries(b, user, password, v=V5):
    """@return whether this login works; a refusal must be "not authorised"."""
    c = b.client(v)
    c.send_connect(b.unique("try"), username=user, password=password)
    p = c.expect(CONNACK)
    assert p.reason in (0, 0x87 if v == V5 else 5), p
    c.close()
    return p.reason == 0


def with_password_file(text):
    b = Broker(files={"pw": text}, plugins={"auth-file": {"password_file": "{dir}/pw", "timeout": "%ds" % (10 * FACTOR)}},
               listeners={"mqtt": {}})
    return b


# ---- hashes -------------------------------------------------------------------------------------


@each(scheme=SCHEMES)
def test_a_user_set_by_grapnelctl_logs_in_with_the_right_password_only(scheme):
    with with_password_file("") as b:
        pw = b.path("pw")
        passwd("set", "--scheme", scheme, pw, "alice", stdin="s3cret pass\n")
        passwd("set", "--scheme", scheme, pw, "ünï", stdin="pässwörd\n")
        assert lines(pw)[0].startswith("alice:" + PREFIX[scheme]), lines(pw)
        b.reload()
        for v in (V31, V311, V5) if scheme == "sha512" else (V5,):  # a hash knows no versions
            assert tries(b, "alice", "s3cret pass", v)
            for wrong in ("s3cret pas", "s3cret pass ", "S3cret pass", "", "\x00s3cret pass", "s3cret pass\x00x"):
                assert not tries(b, "alice", wrong, v), wrong
            assert not tries(b, "Alice", "s3cret pass", v)
            assert not tries(b, "alice", None, v)
            assert not tries(b, "bob", "s3cret pass", v)
        assert tries(b, "ünï", "pässwörd")


QUICK = {"$6$": lambda salt, pw: hashlib.sha512(pw + salt).digest(),
         "$7$1$": lambda salt, pw: hashlib.pbkdf2_hmac("sha512", pw, salt, 1, 64),
         "PBKDF2$sha512$4$": lambda salt, pw: hashlib.pbkdf2_hmac("sha512", pw, salt, 4, 64)}


@each(v=(V311, V5), kind=tuple(QUICK))
def test_a_hash_of_microseconds_is_checked_like_any_other(v, kind):
    salt = b"a salt of some length"
    hashed = kind + "$".join(base64.b64encode(x).decode() for x in (salt, QUICK[kind](salt, b"right")))
    b = Broker(plugins={"auth-file": {"password_file": "{dir}/passwd"}}, listeners={"mqtt": {}},
               files={"passwd": "alice:%s\n" % hashed})
    with b:
        assert tries(b, "alice", "right", v)
        assert not tries(b, "alice", "wrong", v)
        assert not tries(b, "alice", "", v)
        assert not tries(b, "alice", None, v)
        assert not tries(b, "alice", "x" * 3000, v)
        assert not tries(b, "bob", "right", v)
        c = b.client(V5)  # more than one goes through in a row, and what follows CONNECT is not lost
        c.send_raw(wire.connect(V5, "pipelined", username="alice", password="right") + b"\xc0\x00")
        c.expect(CONNACK, reason=0)
        c.expect(PINGRESP)


@skip_if(not MOSQUITTO, "mosquitto_passwd is not installed")
def test_files_of_mosquitto_passwd_are_read_as_they_are():
    with with_password_file("") as b:
        pw = b.path("mosquitto")
        subprocess.run(["mosquitto_passwd", "-c", "-b", pw, "alice", "wonder"], check=True, capture_output=True)
        subprocess.run(["mosquitto_passwd", "-b", pw, "bob", "builder"], check=True, capture_output=True)
        assert ":$7$" in lines(pw)[0]
        # Older ones wrote salted SHA-512, which -H still makes in 2.0.
        old = subprocess.run(["mosquitto_passwd", "-H", "sha512", "-b", pw, "old", "times"], check=False,
                             capture_output=True)
        if old.returncode != 0:
            salt = b"0123456789ab"
            digest = hashlib.sha512(b"times" + salt).digest()
            with open(pw, "a", encoding="utf-8") as f:
                f.write("old:$6$%s$%s\n" % (base64.b64encode(salt).decode(), base64.b64encode(digest).decode()))
        assert any(x.startswith("old:$6$") for x in lines(pw)), lines(pw)
        shutil.move(pw, b.path("pw"))
        b.reload()
        for user, password in (("alice", "wonder"), ("bob", "builder"), ("old", "times")):
            assert tries(b, user, password), user
            assert not tries(b, user, password + "x"), user
            assert not tries(b, user, ""), user


@skip_if(not MOSQUITTO, "mosquitto_passwd is not installed")
def test_a_file_of_mosquitto_with_plain_text_turned_into_hashes_by_its_tool():
    with with_password_file("") as b:
        pw = b.write("plain", "alice:wonder\nbob:builder\n")
        subprocess.run(["mosquitto_passwd", "-U", pw], check=True, capture_output=True)
        shutil.move(pw, b.path("pw"))
        b.reload()
        assert tries(b, "alice", "wonder") and tries(b, "bob", "builder") and not tries(b, "bob", "wonder")


@skip_if(not MOSQUITTO, "mosquitto_passwd is not installed")
def test_what_grapnelctl_writes_as_pbkdf2_mosquitto_passwd_can_go_on_with():
    with with_password_file("") as b:
        pw = b.path("pw")
        passwd("set", "--scheme", "pbkdf2", pw, "alice", stdin="one\n")
        subprocess.run(["mosquitto_passwd", "-b", pw, "bob", "two"], check=True, capture_output=True)
        subprocess.run(["mosquitto_passwd", "-D", pw, "alice"], check=True, capture_output=True)
        b.reload()
        assert tries(b, "bob", "two") and not tries(b, "alice", "one")


@skip_if(not MOSQUITTO, "mosquitto_pub is not installed")
@each(version=("mqttv31", "mqttv311", "mqttv5"))
@broker(users={"alice": "right"}, rules="allow all t/%u\n")
def test_mosquitto_pub_is_told_not_authorised(b, version):
    def pub(password, user="alice"):
        return subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(b.port), "-V", version, "-u", user,
                               "-P", password, "-t", "t/alice", "-m", "hello", "-q", "1"], text=True,
                              capture_output=True, timeout=TIMEOUT, check=False)

    watch = b.connect(V5, username="alice", password="right")
    watch.subscribe("t/alice", qos=1)
    r = pub("right")
    assert r.returncode == 0 and r.stderr == "", r
    watch.expect_message(topic="t/alice", payload="hello")
    wrong, unknown = pub("wrong"), pub("right", "nobody")
    for r in (wrong, unknown):
        assert r.returncode != 0 and "not authori" in r.stderr.lower(), r
    assert wrong.stderr == unknown.stderr and wrong.returncode == unknown.returncode
    watch.expect_nothing()


@versions()
@broker(users={"alice": "right"})
def test_a_wrong_password_and_an_unknown_user_hear_the_same(b, v):
    answers = []
    for user, password in (("alice", "wrong"), ("nobody", "wrong"), ("alice", None), ("nobody", None)):
        c = b.client(v)
        c.send_connect("same", username=user, password=password)
        p = c.expect(CONNACK)
        answers.append((p.reason, p.props, p.size))
        c.expect_close()
    assert len(set(map(repr, answers))) == 1, answers


@broker(users={"alice": "right"})
def test_logins_are_counted_by_what_became_of_them(b):
    def counts():
        m = b.metrics()
        return [sum(v for k, v in m.items() if k.startswith("grapnel_plugin_logins_%s_total" % what))
                for what in ("accepted", "refused", "unknown")]

    before = counts()
    tries(b, "alice", "right")
    tries(b, "alice", "wrong")
    tries(b, "nobody", "wrong")
    assert counts() == [n + 1 for n in before], (before, counts())


@broker(users={"alice": "right"}, own=True)
def test_many_logins_at_once_all_get_their_answer(b):
    b.passwd_file({"alice": "right"}, scheme="sha512")  # which take their time
    b.reload()
    results, address = [], b.address()

    def login(i):
        c = Client(address, V5)
        c.send_connect("many-%d" % i, username="alice", password="right" if i % 2 else "wrong")
        results.append((i % 2, c.expect(CONNACK).reason))
        c.close()

    threads = [threading.Thread(target=login, args=(i,)) for i in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert sorted(results) == [(0, 0x87)] * 20 + [(1, 0)] * 20, results


# ---- reload -------------------------------------------------------------------------------------


@broker(users={"alice": "a", "bob": "b"}, own=True)
def test_sighup_adds_removes_and_changes_users(b):
    pw = b.path("passwd")
    alice, bob = (b.connect(V5, username=u, password=u[0]) for u in ("alice", "bob"))
    passwd("set", "--scheme", "sha512", pw, "carol", stdin="c\n")
    passwd("delete", pw, "bob")
    assert not tries(b, "carol", "c") and tries(b, "bob", "b")  # nothing before the reload
    b.reload()
    bob.expect_close(0x87)
    alice.ping()
    assert tries(b, "carol", "c") and tries(b, "alice", "a") and not tries(b, "bob", "b")
    passwd("set", "--scheme", "sha512", pw, "alice", stdin="new\n")
    b.ctl("reload")
    alice.ping()  # a new password disconnects nobody who is in
    assert tries(b, "alice", "new") and not tries(b, "alice", "a")


BAD_FILES = {
    "no colon": ("alice:{good}\nbob\n", 2), "no hash": ("alice:{good}\nbob:\n", 2),
    "unknown hash": ("bob:plain text\n", 1), "cut hash": ("# c\n\nbob:$6$rounds=\n", 3),
    "twice": ("alice:{good}\nalice:{good}\n", 2), "no user": (":{good}\n", 1),
    "costly hash": ("bob:$argon2id$v=19$m=99999999,t=3,p=4$c29tZXNhbHQ$aGFzaGhhc2hoYXNoaGFzaA\n", 1),
}


@each(what=tuple(BAD_FILES))
def test_a_malformed_password_line_is_refused_at_start_and_a_reload_keeps_the_old(what):
    text, line = BAD_FILES[what]
    good = passwd("hash", "--scheme", "sha512", stdin="a\n").stdout.strip()
    text = text.replace("{good}", good)
    with with_password_file("alice:%s\n" % good) as b:
        b.write("pw", text)
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 1 and "/pw:%d: " % line in r.stderr, r
        b.reload(good=False)
        b.wait_log("error .*/pw:%d: " % line)
        r = b.ctl("reload", code=1)
        assert "/pw:%d: " % line in r.stderr + r.stdout, r
        assert tries(b, "alice", "a")
        assert not tries(b, "bob", "") and not tries(b, "bob", None) and not tries(b, "bob", "plain text")
        assert b.connect(V5, username="alice", password="a").ping() is None
        b.write("pw", "bob:%s\n" % good)
        b.reload()
        assert tries(b, "bob", "a") and not tries(b, "alice", "a")


@each(option=("acl_file", "rules"))
def test_a_malformed_acl_is_refused_at_start_and_a_reload_keeps_the_old(option):
    good = {"acl_file": "user alice\ntopic readwrite t\n", "rules": "user alice\nallow all t\n"}[option]
    bad = {"acl_file": "user alice\n\ntopic readwrite t/#/x\n", "rules": "user alice\n\nallow everything t\n"}[option]
    b = Broker(users={"alice": "a"}, **{"acl" if option == "acl_file" else "rules": good})
    name = "acl" if option == "acl_file" else "rules"
    with b:
        alice = b.connect(V5, username="alice", password="a")
        assert alice.publish("t", "x", qos=1) in (0, 0x10)
        b.write(name, bad)
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 1 and "/%s:3: " % name in r.stderr, r
        b.reload(good=False)
        b.wait_log("error .*/%s:3: " % name)
        assert alice.publish("t", "x", qos=1) in (0, 0x10)
        assert alice.publish("u", "x", qos=1) == 0x87
        os.unlink(b.path(name))
        r = b.ctl("reload", code=1)
        assert name in r.stderr + r.stdout and "No such file" in r.stderr + r.stdout, r
        assert alice.publish("t", "x", qos=1) in (0, 0x10)


@broker(users={"alice": "a"}, own=True)
def test_a_reload_with_several_faults_says_all_of_them(b):
    with open(b.path("passwd"), "a", encoding="utf-8") as f:
        f.write("broken\n")
    b.options["plugins"]["auth-file"]["rules"] = ["{dir}/missing-1", "{dir}/missing-2"]
    b.configure()
    r = b.ctl("reload", code=1)
    for part in ("/passwd:2: ", "missing-1", "missing-2"):
        assert part in r.stderr + r.stdout, (part, r)
    assert tries(b, "alice", "a")


# ---- grapnelctl passwd --------------------------------------------------------------------------


def test_passwd_sets_deletes_and_imports():
    b = with_password_file("")
    try:
        b.configure(files={})
        pw = b.path("pw")
        passwd("set", "--create", pw, "alice", stdin="a\n")
        assert stat.S_IMODE(os.stat(pw).st_mode) == 0o600
        assert lines(pw)[0].startswith("alice:$argon2id$")
        passwd("set", "--create", pw, "alice", stdin="a\n", code=1)  # exists
        first = lines(pw)
        passwd("batch", "--scheme", "sha512", pw, stdin="bob:b:with:colons\ncarol: c \nalice:new\n")
        assert [x.split(":")[0] for x in lines(pw)] == ["alice", "bob", "carol"]
        assert lines(pw)[0] != first[0]
        # One bad line, and nothing of the batch is done.
        before = lines(pw)
        r = passwd("batch", pw, stdin="dave:d\nno colon\n", code=1)
        assert ":2: " in r.stderr and lines(pw) == before, r.stderr
        passwd("delete", pw, "bob")
        assert [x.split(":")[0] for x in lines(pw)] == ["alice", "carol"]
        passwd("delete", pw, "bob", code=1)
        for user in ("", "a:b", "a\nb", "#x"):
            passwd("set", pw, user, stdin="x\n", code=1)
        passwd("set", "--scheme", "md5", pw, "x", stdin="x\n", code=2)
        b.start()
        assert tries(b, "alice", "new") and tries(b, "carol", " c ")
        b.stop()
    finally:
        b.remove()


def test_passwd_without_a_user_is_a_usage_error_and_writes_nothing():
    b = with_password_file("")
    try:
        for arguments in (("set", "users"), ("delete", "users"), ("batch",), ("hash", "users"), ("users",), ()):
            r = subprocess.run([GRAPNELCTL, "passwd"] + list(arguments), input="secret\n", text=True, capture_output=True,
                               timeout=TIMEOUT, cwd=b.dir, check=False)
            assert r.returncode == 2 and "usage: " in r.stderr, (arguments, r)
            assert not os.path.exists(b.path("set")) and not os.path.exists(b.path("users")), arguments
        r = subprocess.run([GRAPNELCTL, "passwd", "./set", "alice"], input="secret\n", text=True, capture_output=True,
                           timeout=TIMEOUT, cwd=b.dir, check=False)
        assert r.returncode == 0 and lines(b.path("set"))[0].startswith("alice:"), r
    finally:
        b.remove()


def test_passwd_replaces_the_file_as_a_whole_and_keeps_its_owner_and_mode():
    b = with_password_file("")
    try:
        pw = b.path("pw")
        passwd("set", "--create", "--scheme", "sha512", pw, "alice", stdin="a\n")
        os.chmod(pw, 0o640)
        before = os.stat(pw)
        passwd("set", "--scheme", "sha512", pw, "bob", stdin="b\n")
        after = os.stat(pw)
        assert after.st_ino != before.st_ino and stat.S_IMODE(after.st_mode) == 0o640
        assert os.listdir(b.dir) == ["pw"], os.listdir(b.dir)
    finally:
        b.remove()


def test_passwd_hash_prints_what_a_file_takes():
    with with_password_file("") as b:
        for scheme in SCHEMES:
            h = passwd("hash", "--scheme", scheme, stdin="pw\n").stdout.strip()
            assert h.startswith(PREFIX[scheme]) and len(h.splitlines()) == 1, h
            b.write("pw", "alice:%s\n" % h)
            b.reload()
            assert tries(b, "alice", "pw") and not tries(b, "alice", "px")


@broker(users={"alice": "a"}, own=True, log_level="trace")
def test_no_password_is_in_the_log_or_the_configuration_that_is_shown(b):
    tries(b, "alice", "wrong-pass-1234567")
    c = b.connect(V5, username="alice", password="a")
    b.client(V311).connect("x", reason=5, username="alice", password="wrong-pass-1234567")
    c.disconnect()
    text = "\n".join(b.log_lines()) + b.ctl("config").stdout + b.ctl("plugin", "show", "auth-file").stdout
    assert "wrong-pass-1234567" not in text
    for line in lines(b.path("passwd")):
        assert line.split(":", 1)[1] not in text


def test_a_password_file_that_everybody_can_read_is_warned_about():
    b = with_password_file("")
    try:
        b.configure(files={})
        passwd("set", "--create", "--scheme", "sha512", b.path("pw"), "alice", stdin="a\n")
        os.chmod(b.path("pw"), 0o644)
        b.start()
        b.wait_log("warning .*can be read by every user")
        b.stop()
    finally:
        b.remove()


def test_without_anything_to_do_auth_file_does_not_start():
    b = Broker(plugins={"auth-file": {}})
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 1 and "password_file, acl_file or rules" in r.stderr, r
    finally:
        b.remove()
