# SPDX-License-Identifier: Apache-2.0
"""The ABI keeps its word: plugins compiled with frozen headers (tests/abi) run in this broker, and changes that break them
are refused."""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

from lib.broker import PLUGINS, SRC, Broker
from lib.case import Skip, each
from lib.hooks import eventually
from lib.mqtt import AUTH, CONNACK, V5, P
from lib.s_client import SClient, psk
from lib.sdk import skip_reason

sys.path.insert(0, os.path.join(SRC, "tests", "abi"))
import abi  # noqa: E402

KEY = "30313233343536373839616263646566"
# What the plugins of the tests are used in, that takes seconds and not minutes.
FILES = ("test_hooks.py", "test_auth_exchange.py", "test_values.py", "test_reload_plugins.py")
SHAPE = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_leaks=1") + ":detect_stack_use_after_return=0"}


def once(tools=()):
    """What compiles is done in one build."""
    if skip_reason():
        raise Skip(skip_reason())
    for tool in tools:
        if shutil.which(tool) is None:
            raise Skip("%s is not installed" % tool)


class Scratch:
    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="grapnel-abi-")
        return self.dir

    def __exit__(self, *unused):
        shutil.rmtree(self.dir, ignore_errors=True)


# ---- what is frozen -----------------------------------------------------------------------------


def test_the_headers_are_those_that_are_frozen_and_later_ones_take_nothing_back():
    once(abi.TOOLS)
    current = abi.version(abi.CURRENT)
    frozen = dict(abi.frozen())
    assert current in frozen, "tests/abi/%d.%d is missing: run tests/abi/freeze" % current
    with open(os.path.join(abi.HERE, "Makefile.inc"), encoding="utf-8") as f:
        distributed = f.read()
    for version, folder in frozen.items():
        assert "tests/abi/%d.%d" % version in distributed, "tests/abi/Makefile.inc: EXTRA_DIST lacks %s" % folder
        assert abi.version(folder) == version, folder
        assert version <= current, "the headers are older than tests/abi/%d.%d" % version
        if version[0] != current[0]:
            continue
        with Scratch() as scratch:
            # A minor that is not released grows, and its folder with it; one that is has its ABI for good.
            why = abi.compare(folder, abi.CURRENT, scratch, same=version == current)
            assert why == "", "%d.%d differs from sdk/include: %s\n%s" % (
                *version, "raise GRAPNEL_ABI_MINOR" if abi.released(folder) else "run tests/abi/freeze", why)
            assert abi.check_layout(os.path.join(folder, "layout.h"), abi.CURRENT, scratch) == ""


def test_what_is_released_is_as_it_was():
    for _, folder in abi.frozen():
        if not abi.released(folder):
            continue
        with open(os.path.join(folder, "released"), encoding="utf-8") as f:
            lines = f.read().splitlines()[1:]
        assert len(lines) == len(abi.HEADERS)
        for line in lines:
            digest, name = line.split()
            with open(os.path.join(folder, name), "rb") as f:
                assert hashlib.sha256(f.read()).hexdigest() == digest, name


def test_the_history_of_the_abi_has_every_minor():
    with open(os.path.join(abi.CURRENT, "grapnel", "plugin.h"), encoding="utf-8") as f:
        history = re.search(r"^ \* ABI history\n((?: \*\t.*\n)+)", f.read(), re.M).group(1)
    minors = re.findall(r"^ \*\t(\d+)\.(\d+)\t\S", history, re.M)
    major, minor = abi.version(abi.CURRENT)
    assert [(int(a), int(b)) for a, b in minors] == [(major, n) for n in range(minor + 1)], history


def test_freeze_touches_nothing_that_is_released():
    once(abi.TOOLS)
    with Scratch() as scratch:
        for folder in ("tests/abi", "sdk/include"):
            shutil.copytree(os.path.join(SRC, folder), os.path.join(scratch, folder))
        os.chmod(scratch, 0o755)
        freeze, env = os.path.join(scratch, "tests/abi/freeze"), dict(os.environ, PYTHONDONTWRITEBYTECODE="1")

        def run(*args):
            return subprocess.run([sys.executable, freeze] + list(args), text=True, capture_output=True, env=env, check=False)

        name = "%d.%d" % abi.version(abi.CURRENT)
        folder = os.path.join(scratch, "tests/abi", name)
        if not abi.released(folder):
            assert run("--release", "0.0.1").returncode == 0
        with open(os.path.join(folder, "released"), encoding="utf-8") as f:
            before = f.read()
        r = run()
        assert r.returncode == 1 and name + " is released" in r.stderr, r
        # A minor of its own is a folder of its own.
        path = os.path.join(scratch, "sdk/include/grapnel/plugin.h")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        minor = abi.version(abi.CURRENT)[1] + 1
        with open(path, "w", encoding="utf-8") as f:
            f.write(re.sub(r"(#define GRAPNEL_ABI_MINOR) \d+", r"\1 %d" % minor, text))
        r = run()
        assert r.returncode == 0 and os.path.isdir(os.path.join(scratch, "tests/abi", "1.%d" % minor)), r
        with open(os.path.join(scratch, "tests/abi/layouts.h"), encoding="utf-8") as f:
            assert '"1.%d/layout.h"' % minor in f.read()
        with open(os.path.join(folder, "released"), encoding="utf-8") as f:
            assert f.read() == before


# ---- what is refused ----------------------------------------------------------------------------

# file, what stands there, what stands there afterwards; whether abidiff and the layout see it
BROKEN = {
    "a member is taken away": ("hooks.h", "\tbool clean_start;\n", "", True, True),
    "a member is put in between": ("hooks.h", "\tbool clean_start;\n", "\tbool clean_start;\n\tuint64_t more;\n", True, True),
    "two members change places": ("hooks.h", "\tstruct grapnel_str topic; /* SUBSCRIBE: a Topic Filter without $share/…/; else a Topic Name */\n"
                                  "\tstruct grapnel_str share; /*", "\tstruct grapnel_str share;\n\tstruct grapnel_str topic; /*", True, True),
    "a member gets wider": ("hooks.h", "\tuint16_t keep_alive;\t", "\tuint32_t keep_alive;\t", True, True),
    "a member becomes signed": ("hooks.h", "\tuint16_t keep_alive;\t", "\tint16_t keep_alive;\t", True, False),
    "a pointer to something else": ("hooks.h", "\tconst struct grapnel_client_limits *limits;", "\tconst struct grapnel_pair *limits;", True, False),
    "a function between others": ("host.h", "\tint (*acl_answer)(", "\tint (*other)(void);\n\tint (*acl_answer)(", True, True),
    "a function is taken away": ("host.h", "\tint64_t (*wall_us)(void);\n", "", True, True),
    "a function has one argument more": ("host.h", "\tint64_t (*wall_us)(void);\n", "\tint64_t (*wall_us)(int clock);\n", True, False),
    "a function returns something else": ("host.h", "\tbool (*job_ran)(", "\tint (*job_ran)(", True, False),
    "a callback has other arguments": ("host.h", "(*grapnel_watch_fn)(void *arg, int fd, unsigned events)", "(*grapnel_watch_fn)(void *arg, int fd)", True, False),
    "a hook between others": ("plugin.h", "\tbool reload_always;\n", "\tbool reload_always;\n\tvoid (*more)(void);\n", True, True),
    "the guard moves": ("plugin.h", "\tuint16_t abi_major;\n\tuint16_t abi_minor;", "\tuint16_t abi_minor;\n\tuint16_t abi_major;", True, True),
    "a struct without a size grows": ("plugin.h", "\tvoid *reserved[2];\n", "\tvoid *reserved[2];\n\tvoid *more;\n", True, True),
    "a member has another name": ("hooks.h", "\tuint16_t keep_alive;\t", "\tuint16_t keepalive;\t", False, True),
    "a value changes": ("types.h", "GRAPNEL_NEXT = 3,", "GRAPNEL_NEXT = 7,", True, True),
    "a value is taken away": ("hooks.h", "\tGRAPNEL_DEPENDS_LISTENER = 1u << 4,\n", "", True, True),
    "a struct is taken away": ("host.h", "struct grapnel_publication {", "struct grapnel_publikation {", True, True),
    "a constant changes": ("hooks.h", "#define GRAPNEL_PSK_KEY_MAX 64u", "#define GRAPNEL_PSK_KEY_MAX 32u", False, True),
}
ADDED = {
    "a function at the end": ("host.h", "\tuint32_t (*events_waiting)(const struct grapnel_instance *self);\n",
                              "\tuint32_t (*events_waiting)(const struct grapnel_instance *self);\n\tint (*newer)(void);\n"),
    "a hook at the end": ("plugin.h", "\tvoid (*listener_close)(void *instance, const struct grapnel_listener *l);\n",
                          "\tvoid (*listener_close)(void *instance, const struct grapnel_listener *l);\n\tint (*newer)(void *instance);\n"),
    "a member at the end": ("hooks.h", "\tint64_t valid_until;\t       /* seconds since 1970; 0: no end */\n",
                            "\tint64_t valid_until;\t       /* seconds since 1970; 0: no end */\n\tstruct grapnel_str newer;\n"),
    "a value": ("types.h", "GRAPNEL_EFAULT = -10,", "GRAPNEL_EFAULT = -10,\n\tGRAPNEL_ENEWER = -11,"),
    "a struct": ("hooks.h", "struct grapnel_revalidate {", "struct grapnel_newer {\n\tsize_t size;\n};\nstruct grapnel_revalidate {"),
    "a comment": ("plugin.h", "\tbool reload_always;\n", "\tbool reload_always; /* a comment */\n"),
}


def changed(scratch, file, old, new):
    """A copy of the headers in which something is different. Struct sizes are asked for by name, so that both ways compile."""
    folder = os.path.join(scratch, "changed")
    shutil.copytree(abi.CURRENT, folder)
    path = os.path.join(folder, "grapnel", file)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert text.count(old) == 1, "%s has it %d times: %s" % (file, text.count(old), old)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    if "publikation" in new:
        path = os.path.join(folder, "grapnel", "host.h")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace("struct grapnel_publication", "struct grapnel_publikation"))
    return folder


def layout_of(scratch):
    with open(os.path.join(scratch, "layout.h"), "w", encoding="utf-8") as f:
        f.write(abi.layout(abi.CURRENT, scratch))
    return os.path.join(scratch, "layout.h")


@each(change=tuple(BROKEN))
def test_a_change_that_breaks_plugins_is_refused(change):
    once(abi.TOOLS)
    file, old, new, by_abidiff, by_layout = BROKEN[change]
    with Scratch() as scratch:
        folder = changed(scratch, file, old, new)
        assert (abi.compare(abi.CURRENT, folder, scratch) != "") == by_abidiff
        assert (abi.check_layout(layout_of(scratch), folder, scratch) != "") == by_layout


@each(change=tuple(ADDED))
def test_what_is_added_at_the_end_is_accepted(change):
    once(abi.TOOLS)
    with Scratch() as scratch:
        folder = changed(scratch, *ADDED[change])
        assert abi.compare(abi.CURRENT, folder, scratch) == ""
        assert abi.check_layout(layout_of(scratch), folder, scratch) == ""
        # But it is a difference, which a minor that is frozen as the current one must not have.
        assert (abi.compare(abi.CURRENT, folder, scratch, same=True) == "") == (change == "a comment")


# ---- plugins of frozen headers ------------------------------------------------------------------


def compile_plugin(headers, source, out, *flags):
    r = subprocess.run(["cc", "-std=gnu11", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-D_GNU_SOURCE",
                        "-I", headers, "-I", os.path.join(SRC, "plugins"), "-o", out, source] + list(flags) + ["-lpthread"],
                       text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert r.returncode == 0 and r.stdout == "", r.stdout


def test_plugins():
    """{name: (source, flags)} of tests/plugins, as its Makefile.inc has them; those that are refused need none of this."""
    with open(os.path.join(SRC, "tests/plugins/Makefile.inc"), encoding="utf-8") as f:
        text = f.read()
    out = {}
    for name in re.findall(r"^check_LTLIBRARIES \+= tests/plugins/(\S+)\.la$", text, re.M):
        variable = "tests_plugins_%s_la_" % name.replace("-", "_")
        source = re.search(r"^%sSOURCES = (\S+)$" % variable, text, re.M).group(1)
        flags = re.search(r"^%sCPPFLAGS = \$\(PLUGIN_CPPFLAGS\)(.*)$" % variable, text, re.M).group(1).split()
        out[name] = (os.path.join(SRC, source), flags)
    return out


TEST_PLUGINS = test_plugins()
del test_plugins  # is no test


@each(version=tuple("%d.%d" % v for v, _ in abi.frozen()))
def test_the_tests_of_hooks_pass_with_plugins_of_frozen_headers(version):
    once(("cc",))
    headers = os.path.join(abi.HERE, version)
    with Scratch() as scratch:
        for name in os.listdir(PLUGINS):
            if name.endswith(".so"):
                os.symlink(os.path.join(PLUGINS, name), os.path.join(scratch, name))
        built = 0
        for name, (source, flags) in TEST_PLUGINS.items():
            if name.startswith("refuse"):
                continue
            out = os.path.join(scratch, name + ".so")
            if os.path.exists(out):
                os.unlink(out)
            compile_plugin(headers, source, out, *flags)
            built += 1
        assert built > 15, built
        r = subprocess.run([sys.executable, os.path.join(SRC, "tests/integration/run"), "-j", "2"] + list(FILES), text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
                           env=dict(os.environ, GRAPNEL_PLUGINS=scratch))
        assert r.returncode == 0, r.stdout[-5000:]


def counts(b):
    return b.ctl_json("every")["answer"]


def through_every_hook(b):
    """A client of each kind, so that the plugin `every` is asked everything there is."""
    c = b.connect(V5, "plain", username="alice", password="secret")
    c.subscribe("every/+", qos=1, codes=[1])
    assert c.publish("every/change", b"as it was", qos=1, props=[(P.USER_PROPERTY, ("n", "v"))]) == 0
    p = c.expect_message("every/change", b"changed", qos=1)
    assert p.prop(P.USER_PROPERTY) == ("by", "every"), p
    assert c.publish("every/refused", b"x", qos=1) == 0x97
    assert c.publish("other", b"x", qos=1) == 0x87
    c.unsubscribe("every/+")
    later = b.connect(V5, "later", username="later", password="secret")
    later.subscribe("every/later", codes=[0])
    assert later.publish("every/later", b"x", qos=1) == 0
    later.expect_message("every/later", b"x")
    wrong = b.client(V5)
    wrong.send_connect("wrong", username="alice", password="x")
    wrong.expect(CONNACK, reason=0x87)
    gone, asked = b.client(V5), counts(b)["client_authenticate"]
    gone.send_connect("gone", username="never", password="x")
    eventually(lambda: counts(b)["client_authenticate"] > asked, "the login is asked about")
    gone.close()
    x = b.client(V5)
    x.send_connect("exchange", props=[(P.AUTH_METHOD, "X-EVERY")])
    assert x.expect(AUTH, reason=0x18).prop(P.AUTH_DATA) == b"who?"
    x.send_raw(P.auth(0x18, [(P.AUTH_METHOD, "X-EVERY"), (P.AUTH_DATA, b"me")]))
    x.expect(CONNACK, reason=0)
    for identity in ("now", "later"):
        s = SClient(b.address("psk"), *psk(identity, KEY))
        b.clients.append(s)
        s.connect("psk-" + identity)
    b.ctl("cache", "purge")
    later.close()


@each(version=tuple("%d.%d" % v for v, _ in abi.frozen()))
def test_a_plugin_with_every_hook_of_frozen_headers_runs(version):
    once(("cc", "openssl"))
    with Scratch() as scratch:
        os.chmod(scratch, 0o755)
        compile_plugin(os.path.join(abi.HERE, version), os.path.join(abi.HERE, "every.c"), os.path.join(scratch, "every.so"))
        b = Broker(listeners={"mqtt": {}, "psk": {"tls": True, "psk": True}}, env=SHAPE, extra="""
plugin "every" {
	module = "%s"
	list = [one, two]
	part "one" {
		number = 7
	}
}
""" % os.path.join(scratch, "every.so"))
        with b:
            through_every_hook(b)
            b.ctl("every", "kick", "plain")
            b.wait_log(r"client_disconnected: .*plain")
            b.reload()  # nothing has changed: the instance stays
            try:  # events, time and what was purged take a moment
                eventually(lambda: all(counts(b).values()), "everything was used")
            except AssertionError:
                raise AssertionError("unused: %s" % [name for name, n in counts(b).items() if n == 0]) from None
            assert not b.log_lines(r"did not do what it should"), b.log_lines(r"did not do what it should")
