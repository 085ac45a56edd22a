# SPDX-License-Identifier: Apache-2.0
"""What the loader refuses: each with its own message, once, from grapneld -t and at start alike."""
import os
import re

from lib.broker import PLUGINS, Broker, run_grapneld
from lib.case import each

ALLOW = {"module": "verdict", "client_authenticate": "allow"}


class Case:
    """A configuration, and what is said about it; `where` is the line that the message names."""

    def __init__(self, name, message, plugins=None, files=None, extra="", where=r'plugin "x": '):
        self.name, self.message, self.where = name, message, where
        self.plugins = plugins if plugins is not None else {"x": {"module": name, "needed": "something"}}
        self.files, self.extra = files or {}, extra

    def __str__(self):
        return self.name


def refuse(**options):
    return {"x": dict({"module": "refuse", "needed": "something"}, **options)}


CASES = [
    Case("not an ELF", r"it is not an ELF file", {"x": {"module": "{dir}/script.so"}},
         {"script.so": "#!/bin/sh\necho I am a script, and much longer than an ELF header would be, so that size is no reason\n"}),
    Case("empty", r"it is not an ELF file", {"x": {"module": "{dir}/empty.so"}}, {"empty.so": ""}),
    Case("no file", r"No such file or directory", {"x": {"module": "nothing-here"}}),
    Case("refuse-no-descriptor", r"it has no symbol grapnel_plugin"),
    Case("refuse-function", r"grapnel_plugin is a function"),
    Case("refuse-magic", r"wrong magic number"),
    Case("refuse-major", r"it is compiled for plugin ABI 2\.\d+, this broker has 1\.\d+"),
    Case("refuse-minor", r"it needs plugin ABI 1\.7 or newer, this broker has 1\.0"),
    Case("refuse-size", r"its descriptor is too small: 64 bytes"),
    Case("refuse-tiny", r"its descriptor is too small: \d+ bytes, not even"),
    Case("refuse-unresolved", r"it cannot be loaded: undefined symbol: nobody_has_this_function"),
    Case("refuse-no-create", r"has no create function"),
    Case("refuse-create", r"it cannot start \(error -6, no reason given\)"),
    Case("duplicate name", r"", refuse(), {}, 'plugin "x" {\n\tmodule = refuse\n\tneeded = x\n}\n', r'.*"x".*'),
    Case("unknown option", r'unknown option "neded"; did you mean "needed"\? \(something it cannot do without',
         refuse(neded="something")),
    Case("wrong type", r'count', refuse(count="many")),
    Case("out of range", r'count', refuse(count=10)),
    Case("wrong bool", r'switch', refuse(switch="perhaps")),
    Case("required missing", r'needed', {"x": {"module": "refuse"}}),
]


def errors(text):
    return [line for line in text.splitlines() if line.strip()]


@each(case=CASES, how=("-t", "start"))
def test_the_loader_refuses(case, how):
    b = Broker(plugins=dict({"allow": ALLOW}, **case.plugins), files=case.files, extra=case.extra)
    try:
        b.configure()
        r = run_grapneld(*(["-t"] if how == "-t" else []) + ["-c", b.conf])
        assert r.returncode == 1, r
        lines = [line for line in errors(r.stderr) if "warning" not in line and not re.search(r"\b(info|debug|notice)\b", line)]
        matching = [line for line in lines if re.search(case.where + ".*" + case.message, line)]
        assert len(matching) == 1, "%r once in:\n%s" % (case.message, r.stderr)
        assert re.search(r"grapnel\.conf:\d+", matching[0]), matching[0]
        line = int(re.search(r"grapnel\.conf:(\d+)", matching[0]).group(1))
        with open(b.conf, encoding="utf-8") as f:
            text = f.read().splitlines()
        assert 0 < line <= len(text) and line >= next(i for i, s in enumerate(text) if 'plugin "x"' in s), (matching[0], text)
        assert not os.path.exists(b.socket)
    finally:
        b.remove()


def test_all_errors_are_said_not_only_the_first():
    b = Broker(plugins={"a": {"module": "refuse-magic", "needed": "x"}, "b": {"module": "refuse", "count": "many", "nonsense": 1},
                        "c": {"module": "refuse-unresolved", "needed": "x"}, "allow": ALLOW})
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 1
        for what in ('plugin "a": .*magic', 'plugin "b": "count" must be a whole number', 'plugin "b": .*unknown option "nonsense"', 'plugin "b": required option "needed" is missing',
                     'plugin "c": .*undefined symbol'):
            assert len(re.findall(what, r.stderr)) == 1, "%s once in:\n%s" % (what, r.stderr)
    finally:
        b.remove()


def test_a_worker_start_that_fails_ends_the_start():
    b = Broker(plugins={"x": {"module": "refuse-worker-start"}, "allow": ALLOW})
    try:
        b.start(wait=False)
        b.wait_log(r'plugin "x": worker_start failed on worker \d \(error -6\)')
        b.wait_log(r"not starting: a plugin did not start")
        assert b.wait_exit() == 1
        b.process = None
        b.check_sanitizers()
    finally:
        b.remove()


def test_a_good_configuration_is_checked_silently():
    b = Broker(plugins=dict(refuse(), allow=ALLOW))
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 0, r
        r = run_grapneld("-t", "--connect", "-c", b.conf)
        assert r.returncode == 0, r
    finally:
        b.remove()


def test_a_module_may_be_a_path_and_be_replaced_while_it_runs():
    """Loading makes a private copy: overwriting the file under a running broker harms nothing."""
    b = Broker()
    path = b.path("mine.so")
    with open(os.path.join(PLUGINS, "verdict.so"), "rb") as f:
        module = f.read()
    with open(path, "wb") as f:
        f.write(module)
    b.options["plugins"] = {"mine": dict(ALLOW, module=path)}
    with b:
        with open(path, "wb") as f:
            f.write(b"\0" * len(module))
        b.connect(5).ping()
        mark = b.mark()
        b.configure(plugins={"mine": dict(ALLOW, module=path, reason_code=1)}).reload(good=False)
        b.wait_log(r'plugin "mine": .*it is not an ELF file', since=mark)
        b.connect(5).ping()
        with open(path, "wb") as f:
            f.write(module)
        b.reload()
        b.connect(5).ping()
