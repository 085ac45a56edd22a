# SPDX-License-Identifier: Apache-2.0
"""grapnel-plugin new: whatever is chosen, the project builds without warnings and passes its own test, under ASan too.

There are 1023 choices of hooks, each with and without --async: too many to build in CI. A template's line depends on a hook,
on one of a few hooks, or on their number, so that pairs show what goes wrong between two. Here every hook alone, every pair,
all but one and all of them are compiled by both compilers; alone, the neighbours and all of them are built and run, with gcc
under ASan, with clang without. GRAPNEL_NEW_ALL=1 does it with all 2046, and under ASan with both.
"""
import concurrent.futures
import functools
import itertools
import os
import re
import shutil
import stat

from lib import sdk
from lib.broker import Broker
from lib.case import each, skip_if
from lib.mqtt import PUBLISH, V5
from lib.sdk import Sdk

HOOKS = ("client_authenticate", "client_auth_exchange", "client_revalidate", "acl_check", "message_publish",
         "client_subscribe", "client_unsubscribe", "message_deliver", "message_acknowledge", "tls_psk_key")
SHORT = ("authenticate", "auth_exchange", "revalidate", "acl_check", "publish", "subscribe", "unsubscribe", "deliver",
         "acknowledge", "psk_key")
EVENTS = ("client_connected", "message_published", "broker_stopping")
ALL = os.environ.get("GRAPNEL_NEW_ALL") == "1"
WARNINGS = ("-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes -Wmissing-prototypes "
            "-Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wunused-macros -Werror")
# How long a call holds its worker is the harness's own matter: a machine that is busy has other things to find here.
HOLD = "--hold 1000ms"
PATIENT = "RUN_OPTIONS=" + HOLD
COMPILERS = [cc for cc in ("gcc", "clang") if shutil.which(cc)]
WHY = sdk.skip_reason()
if not WHY and not os.path.exists(os.path.join(sdk.BUILD, "grapnel-plugin")):
    WHY = "grapnel-plugin is not built: there is no libelf"
once = skip_if(WHY, WHY)


class Choice:
    def __init__(self, hooks, later=False, events=()):
        self.hooks, self.later, self.events = hooks, later, events

    def __str__(self):
        return "+".join(self.hooks + self.events) + (" async" if self.later else "")

    def arguments(self):
        out = ["--hooks", ",".join(self.hooks)] if self.hooks else []
        out += ["--events", ",".join(self.events)] if self.events else []
        return out + (["--async"] if self.later else [])


def choices(sizes):
    """All sets of hooks of these sizes, both ways; every third one has events besides."""
    out = [Choice((), events=EVENTS)]
    for size in sizes:
        for hooks in itertools.combinations(HOOKS, size):
            events = EVENTS[:len(out) % 4] if len(out) % 3 == 0 else ()
            out += [Choice(hooks, later, events) for later in (False, True)]
    return out


def new(s, name, *arguments, code=0, cwd=None, env=None):
    return s.run(["grapnel-plugin", "new", name] + list(arguments), cwd or s.dir, env, code)


def in_parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(function, items):
            pass


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as f:
        return f.read()


def write(text, *path):
    with open(os.path.join(*path), "w", encoding="utf-8") as f:
        f.write(text)


def all_files(folder):
    return sorted(os.path.relpath(os.path.join(d, n), folder) for d, _, names in os.walk(folder) for n in names)


# ---- what is written ---------------------------------------------------------------------------

def check_text(folder, what):
    """Nothing is left of the templates, and it looks as if somebody had written it."""
    for name in all_files(folder):
        text = read(folder, name)
        where = "%s: %s" % (what, name)
        assert text.strip() and text.endswith("\n") and not text.endswith("\n\n"), where
        assert not re.search(r"^%(if|for|else|end|#)", text, re.M), where
        assert not re.search(r"@[A-Za-z_]+@", re.sub(r"<.*?@.*?>", "", text)), where
        assert not re.search(r"[ \t]$", text, re.M), where
        assert "\n\n\n" not in text, where
        if name.endswith(".c"):
            assert max(len(line.expandtabs(8)) for line in text.splitlines()) <= 100, where
            # A heading has something below it, a block does not begin or end with an empty line.
            assert not re.search(r"/\* -{20,}.* \*/\n\n/\* -{20,}", text), where
            assert not re.search(r"\{\n\n|\n\n\}", text), where


def compile_only(s, choice, number, compilers=COMPILERS):
    name = "t%d" % number
    folder = os.path.join(s.dir, name)
    new(s, name, *choice.arguments())
    try:
        check_text(folder, choice)
        for cc in compilers:
            s.run([cc, "-std=gnu11", "-fsyntax-only", "-I" + s.prefix + "/include"] + WARNINGS.split() +
                  [os.path.join(folder, name + ".c")])
        if shutil.which("mandoc"):
            out = s.run(["mandoc", "-Tlint", "-Wwarning", os.path.join(folder, "man", "grapnel-%s.5" % name)])
            assert out == "", "%s: %s" % (choice, out)
    finally:
        shutil.rmtree(folder)


@once
def test_every_choice_compiles_without_warnings():
    with Sdk() as s:
        some = choices(range(1, 11) if ALL else (1, 2, 9, 10))
        in_parallel(lambda i: compile_only(s, some[i], i), range(len(some)))


def build_and_run(s, choice, number, cc, *more):
    name = "r%d" % number
    folder = os.path.join(s.dir, name)
    new(s, name, *choice.arguments())
    try:
        s.run(["make", "-s", "CC=" + cc, "WARNINGS=" + WARNINGS, "check", PATIENT, *more], folder)
    finally:
        shutil.rmtree(folder)


@once
@each(cc=COMPILERS)
def test_the_test_of_a_new_plugin_passes(cc):
    more = ["SANITIZE=address"] if ALL or cc == COMPILERS[0] else []
    with Sdk() as s:
        some = choices(range(1, 11) if ALL else (1, 10))
        if not ALL:
            some += [Choice(pair, later) for pair in zip(HOOKS, HOOKS[1:]) for later in (False, True)]
        in_parallel(lambda i: build_and_run(s, some[i], i, cc, *more), range(len(some)))


@once
def test_its_test_can_fail():
    """What is wrong with the plugin is found by make check: a wrong answer, a leak, an overrun."""
    with Sdk() as s:
        for later in ([], ["--async"]):
            folder = os.path.join(s.dir, "faulty")
            new(s, "faulty", "--hooks", "acl_check,authenticate", *later)
            good = read(folder, "faulty.c")
            assert good.count("return GRAPNEL_DENY;") == 2 and good.count("\tfree(p);\n") == 1
            for bad in (good.replace("return GRAPNEL_DENY;", "return GRAPNEL_ALLOW;"),
                        good.replace("\tfree(p);\n", "\t(void)p;\n")):
                write(bad, folder, "faulty.c")
                s.run(["make", "-s", "check", "SANITIZE=address"], folder, code=2)
            # What only a sanitizer sees.
            write(good.replace("\tp->host = host;\n", "\tp->host = host;\n\t((volatile char *)p)[sizeof(*p)] = 0;\n"),
                  folder, "faulty.c")
            out = s.run(["make", "-s", "check", "SANITIZE=address"], folder, code=2)
            assert "heap-buffer-overflow" in out, out
            shutil.rmtree(folder)


@once
def test_a_decision_that_never_began_gives_its_request_back():
    """One job waits behind another until its client has left: it does not run, and its request is resolved all the same."""
    with Sdk() as s:
        folder = os.path.join(s.dir, "waits")
        new(s, "waits", "--hooks", ",".join(HOOKS), "--async")
        slow = read(folder, "waits.c").replace("#include <stdlib.h>\n", "#include <stdlib.h>\n#include <unistd.h>\n")
        slow, n = re.subn(r"(\ndecide_\w+\(const struct waits \*p,\n.*\)\n\{\n)", r"\1\tusleep(200000);\n", slow)
        assert n == len(HOOKS)
        write(slow, folder, "waits.c")
        s.run(["make", "-s", "WARNINGS=-D_GNU_SOURCE"], folder)
        steps = read(folder, "tests/waits.steps")
        section = steps[steps.index("section"):steps.index("END\n", steps.index("<<END") + 5)] + "offload_threads = 1\nEND\n"
        late = steps[steps.index("client gone\n"):steps.index("\n\n", steps.index("client gone\n"))]
        assert late.count(" -> pending\n") == len(HOOKS) and late.endswith("\nwait")
        write(section + "start\n" + late + "\nexpect late_key -> unavailable\n", folder, "tests/late.steps")
        s.run(["grapnel-plugin", "run", "--hold", "1000ms", "waits.so", "--script", "tests/late.steps"], folder)


@once
def test_a_project_has_what_a_plugin_needs():
    with Sdk() as s:
        env = {"SOURCE_DATE_EPOCH": "1000000000", "DEBFULLNAME": "Some One", "DEBEMAIL": "one@example.org"}
        new(s, "night-Watch", "--hooks", ",".join(SHORT), "--events=" + ",".join(EVENTS), env=env)
        folder = os.path.join(s.dir, "night-Watch")
        assert all_files(folder) == sorted([
            ".gitignore", "LICENSE", "Makefile", "README.md", "meson.build", "night-Watch.c",
            "conf.d/50-night-Watch.conf", "debian/changelog", "debian/control", "debian/copyright", "debian/rules",
            "debian/source/format", "man/grapnel-night-Watch.5", "tests/night-Watch.steps"])
        assert os.stat(folder + "/debian/rules").st_mode & stat.S_IXUSR
        source = read(folder, "night-Watch.c")
        for hook in HOOKS:
            assert "\t.%s = %s,\n" % (hook, hook) in source, hook
        assert "Copyright 2001 Some One" in read(folder, "LICENSE")
        assert ".Dd September 9, 2001" in read(folder, "man/grapnel-night-Watch.5")
        assert " -- Some One <one@example.org>  Sun, 09 Sep 2001 01:46:40 +0000" in read(folder, "debian/changelog")
        assert "Package: grapnel-night-watch" in read(folder, "debian/control")
        # Long and short names, another folder: the same, byte by byte.
        new(s, "night-Watch", "--hooks", ",".join(HOOKS), "--events", ",".join(EVENTS), "--directory", s.dir + "/again", env=env)
        for name in all_files(folder):
            assert read(folder, name) == read(s.dir, "again", name), name
        # A licence with a text of its own.
        write("Do as you are told.\n\nOr not.\n", s.dir, "own")
        new(s, "own-license", "--hooks", "acl_check", "--license", "LicenseRef-own", "--license-file", "own",
            "--author", "A. B. <ab@example.org>")
        assert read(s.dir, "own-license", "LICENSE") == "Do as you are told.\n\nOr not.\n"
        assert " Do as you are told.\n .\n Or not.\n" in read(s.dir, "own-license", "debian/copyright")
        assert '.license = "LicenseRef-own"' in read(s.dir, "own-license", "own-license.c")


@once
def test_what_cannot_be_made_is_refused():
    cases = [
        ("", [], "cannot be the name"), ("../x", [], "cannot be the name"), ("a/b", [], "cannot be the name"),
        ("1st", [], "cannot be the name"), ("a_b", [], "cannot be the name"), ("-", [], "cannot be the name"),
        ("x" * 41, [], "at most 40"), ("int", [], "word of C"), ("true", [], "word of C"),
        ("linux", [], "word of C"), ("unix", [], "word of C"), ("grapnel-plugin", [], "are the SDK's"),
        ("here", [], "here exists"), ("link", [], "link exists"), ("x", ["--directory", "no/such"], "cannot be made"),
        ("x", ["--hooks", "acl_chek"], 'no hook "acl_chek"'), ("x", ["--events", "gap"], 'no event "gap"'),
        ("x", ["--license", "../conf"], "no SPDX identifier"), ("x", ["--license", "GPL-9"], "--license-file"),
        ("x", ["--license", "X", "--license-file", "no-such"], "No such file"),
        ("x", ["--license-file", "conf"], "needs --license"), ("x", ["--author", "me"], "NAME <MAIL>"),
        ("x", ["--author", "me <a>\nmore: <b>"], "NAME <MAIL>"), ("x", ["--template", "no-such"], "grapnel-dev"),
        ("x", ["--sideways"], "usage:"), ("x", ["y"], "one NAME"),
    ]
    with Sdk() as s:
        os.mkdir(s.dir + "/here")
        os.symlink("nowhere", s.dir + "/link")
        before = all_files(s.dir)
        for name, arguments, message in cases:
            code = 1 if "cannot be made" in message or "No such" in message else 2
            out = new(s, "--hooks", "acl_check", *arguments, "--", name, code=code)
            assert message in out, (name, arguments, out)
        assert "--hooks" in new(s, "x", code=2)
        assert "--async" in new(s, "x", "--events", "subscribed", "--async", code=2)
        # A fault in a template is said with its line, and nothing is written.
        shutil.copytree(s.env["GRAPNEL_TEMPLATE_DIR"], s.dir + "/own")
        good = read(s.dir, "own", "conf.in")
        for bad, message in ((good + "%if hooks\n", "has no %end"), ("%end\n" + good, "without %if"),
                             ("\n@nobody@\n" + good, 'conf.in:2: there is no value "nobody"'),
                             ("%if nothing\n%end\n", 'no value "nothing"'), ("%for x\n%end\n", 'no list "x"')):
            write(bad, s.dir, "own", "conf.in")
            assert message in new(s, "x", "--hooks", "acl_check", "--template", "own", code=1), message
        shutil.rmtree(s.dir + "/own")
        assert all_files(s.dir) == before and not os.path.exists(s.dir + "/x")


# ---- what becomes of it ------------------------------------------------------------------------

def made(s, name="watch"):
    new(s, name, "--hooks", ",".join(HOOKS), "--async", "--events", ",".join(EVENTS))
    return os.path.join(s.dir, name)


def installed(s, name="watch"):
    return sorted([s.variable("plugindir")[1:] + "/%s.so" % name, s.variable("confdir")[1:] + "/50-%s.conf" % name,
                   s.variable("mandir")[1:] + "/man5/grapnel-%s.5" % name])


@once
def test_make_install_honours_destdir_and_keeps_a_configuration():
    with Sdk() as s:
        folder = made(s)
        root = folder + "/root"
        s.run(["make", "-s", "install", "DESTDIR=" + root], folder)
        assert all_files(root) == installed(s), all_files(root)
        conf = os.path.join(root + s.variable("confdir"), "50-watch.conf")
        write("# mine\n", conf)
        s.run(["make", "-s", "install", "DESTDIR=" + root], folder)
        assert read(conf) == "# mine\n"
        s.run(["make", "-s", "uninstall", "DESTDIR=" + root], folder)
        assert all_files(root) == [s.variable("confdir")[1:] + "/50-watch.conf"]
        shutil.rmtree(root)
        s.run(["make", "-s", "clean"], folder)
        assert not [n for n in all_files(folder) if n.endswith(".so")]
        assert "address or undefined" in s.run(["make", "check", "SANITIZE=thread"], folder, code=2)
        s.run(["make", "-s", "check", "SANITIZE=undefined", PATIENT], folder)


@once
@skip_if(not shutil.which("meson"), "meson is not here")
def test_meson_builds_tests_and_installs_it():
    with Sdk() as s:
        folder = made(s)
        s.run(["meson", "setup", "build", "--werror", "--prefix=/usr"], folder)
        s.run(["meson", "test", "-C", "build"], folder)
        s.run(["meson", "install", "-C", "build"], folder, env={"DESTDIR": folder + "/root"})
        # The manual goes where Meson's own prefix says.
        want = installed(s)[:]
        assert [n for n in all_files(folder + "/root") if not n.endswith(".5")] == [n for n in want if not n.endswith(".5")]


@once
@skip_if(not shutil.which("dpkg-buildpackage") or not shutil.which("dh"), "dpkg-dev or debhelper is not here")
def test_it_becomes_a_package():
    with Sdk() as s:
        folder = made(s)
        # -d: grapnel-dev is here, but not as a package.
        s.run(["dpkg-buildpackage", "-b", "-d", "-us", "-uc"], folder, env={"RUN_OPTIONS": HOLD}, timeout=300)
        (package,) = [n for n in os.listdir(s.dir) if n.endswith(".deb") and "dbgsym" not in n]
        s.run(["dpkg-deb", "-x", package, "unpacked"], s.dir)
        files = [n for n in all_files(s.dir + "/unpacked") if "/share/doc/" not in n]
        assert [n.replace(".5.gz", ".5") for n in files] == installed(s), files
        control = s.run(["dpkg-deb", "-f", package], s.dir)
        assert "Package: grapnel-watch\n" in control and "Depends: grapnel-plugin-abi-1, libc6" in control, control
        s.run(["make", "-f", "debian/rules", "clean"], folder)
        assert sorted(os.listdir(folder + "/debian")) == ["changelog", "control", "copyright", "rules", "source"]


@once
def test_the_broker_takes_it_with_its_configuration():
    with Sdk() as s:
        folder = made(s)
        s.run(["make", "-s"], folder)
        conf = read(folder, "conf.d/50-watch.conf").replace("enabled = no ", "module = \"%s/watch.so\" " % folder)
        for kind, text in (("password", "secret"), ("token", "open"), ("key", "00" * 32)):
            write(text, s.dir, kind)
            conf, n = re.subn(r"\$\{file:[^}]*\.%s\}" % kind, lambda m, k=kind: "${file:%s/%s}" % (s.dir, k), conf)
            assert n == 1, kind
        # What the file shows as defaults can be switched on as it is.
        conf = re.sub(r"^( *)#(\w+ = )", r"\1\2", conf, flags=re.M)
        b = Broker(listeners={"mqtt": {"anonymous": False}}, plugins={"auth-file": {"order": 200}},
                   rules="allow all #\n", extra=conf)
        try:
            b.start()
            b.connect(V5, username="alice", password="wrong", reason=0x86)
            c = b.connect(V5, username="alice", password="secret")
            c.subscribe(["a/#", "internal/x", "alerts/#"], 2, codes=[1, 1, 1])
            assert c.publish("status/x", "1", qos=1) == 0x87
            assert c.publish("full/x", "1", qos=1) == 0x97
            assert c.publish("a/long", "x" * 65537, qos=1) == 0x97
            assert c.publish("internal/x", "1", qos=1) == 0
            c.unsubscribe("alerts/#", codes=[0x87])
            c.send_publish("a/b", "1", qos=0)
            c.expect(PUBLISH, topic="a/b", payload=b"1")
            b.close_clients()
            b.stop()
        finally:
            b.remove()
