# SPDX-License-Identifier: Apache-2.0
"""doc/tutorial.md, run as it stands: its blocks in order, in one shell, and what they print compared with what it shows.

What stands in an info string behind the language says what a block is:

    ```sh               commands for the shell
    ```sh as root       the same with the shims below, and /etc/grapnel moved into a folder
    ```diff             is given to patch -p0
    ```X file=PATH      is written to that file
    ```text             what the sh block before it prints; "..." is anything within a line, a line of "..." any lines

A sh block without such a text has to end with 0; one with it may end as it likes. The port 18830 becomes a free one.

In place of a machine with Debian packages there are shims: `sudo` runs its command here, `apt-get install` of a .deb unpacks
it, `systemctl reload` reloads a second broker, which has the unpacked files, and dpkg-buildpackage is not told that
grapnel-dev is missing as a package.
"""
import os
import re
import select
import shutil
import signal
import subprocess

from lib import sdk
from lib.broker import FACTOR, GRAPNELCTL, GRAPNELD, PLUGINS
from lib.case import skip_if
from lib.server import free_port

WHY = sdk.skip_reason() or next(("there is no " + p for p in ("mosquitto_sub", "dpkg-buildpackage", "dh", "patch", "cc")
                                 if shutil.which(p) is None), None)
PLUGIN_DIR = "usr/lib/grapnel/plugins"

SHIMS = {
    "sudo": 'case $1 in\n'
            'grapneld) shift; exec grapneld -c "$ROOT/etc/grapnel/grapnel.conf" "$@" ;;\n'
            'grapnelctl) shift; exec grapnelctl -S "$ROOT/admin.sock" "$@" ;;\n'
            'esac\nexec "$@"\n',
    "apt-get": 'for file; do case $file in\n'
               '*.deb) dpkg-deb -x "$file" "$ROOT" && sed -i "s|\\"/etc/|\\"$ROOT/etc/|" "$ROOT"/etc/grapnel/conf.d/*.conf || exit 1 ;;\n'
               'esac; done\n',
    "systemctl": '[ "$*" = "reload grapnel" ] && exec grapnelctl -S "$ROOT/admin.sock" reload\nexit 1\n',
    "dpkg-buildpackage": 'exec /usr/bin/dpkg-buildpackage -d "$@"\n',
}


class Block:
    def __init__(self, language, rest, text, line):
        self.language, self.rest, self.text, self.line = language, rest, text, line
        self.shown = None

    def __str__(self):
        return "doc/tutorial.md:%d" % self.line


def blocks(text):
    """Blocks in their order; a text is part of the sh block before it."""
    out = []
    for m in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, re.S | re.M):
        b = Block(m.group(1), m.group(2).strip(), m.group(3), text.count("\n", 0, m.start()) + 1)
        if b.language == "text":
            assert out and out[-1].language == "sh" and out[-1].shown is None, "%s: output of what?" % b
            out[-1].shown = b.text
        else:
            out.append(b)
    return out


def pattern(shown):
    """A regular expression for what is shown."""
    return "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line.rstrip()).replace(re.escape("..."), ".*?") + r"[ \t]*\n"
                   for line in shown.splitlines())


class Shell:
    """One bash for all blocks, so that folders, jobs and variables stay."""

    def __init__(self, folder, env):
        self.out = os.path.join(folder, "output")
        self.script = os.path.join(folder, "block")
        self.process = subprocess.Popen(["bash", "--noprofile", "--norc"], cwd=os.path.join(folder, "work"), env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                        start_new_session=True)

    def run(self, text):
        """@return (exit code of the last command, output)."""
        with open(self.script, "w", encoding="utf-8") as f:
            f.write(text)
        self.process.stdin.write('. "%s" > "%s" 2>&1 < /dev/null; echo "ended $?"\n' % (self.script, self.out))
        self.process.stdin.flush()
        ready = select.select([self.process.stdout], [], [], 120 * FACTOR)[0]
        line = self.process.stdout.readline() if ready else ""
        with open(self.out, encoding="utf-8", errors="replace") as f:
            output = f.read()
        assert line.startswith("ended "), "this does not end, or ends the shell:\n%s\n%s" % (text, output)
        return int(line.split()[1]), output

    def end(self):
        """With all that it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def machine(folder):
    """Folders, shims, and what stands for the configuration of an installed broker. @return variables of the environment."""
    root, bin_ = os.path.join(folder, "root"), os.path.join(folder, "bin")
    for path in ("work", "bin", "root/" + PLUGIN_DIR, "root/etc/grapnel/conf.d"):
        os.makedirs(os.path.join(folder, path))
    os.symlink(os.path.abspath(GRAPNELD), os.path.join(bin_, "grapneld"))
    os.symlink(os.path.abspath(GRAPNELCTL), os.path.join(bin_, "grapnelctl"))
    for name, text in SHIMS.items():
        path = os.path.join(bin_, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write("#!/bin/sh\n" + text)
        os.chmod(path, 0o755)
    with open(os.path.join(root, "etc/grapnel/grapnel.conf"), "w", encoding="utf-8") as f:
        f.write('plugin_directory = "%s"\nadmin { socket = "%s/admin.sock" }\nlog { to = "%s/log" }\nstore { durability = off }\n'
                'listener "mqtt" { bind = "unix:%s/mqtt.sock" anonymous = yes }\n' %
                (os.path.join(root, PLUGIN_DIR), root, root, root))
    return {"ROOT": root, "LC_ALL": "C.UTF-8", "plugindir": "/" + PLUGIN_DIR, "confdir": "/etc/grapnel/conf.d",
            "mandir": "/usr/share/man", "DEB_BUILD_OPTIONS": "parallel=2", "bin": bin_}


def run_block(shell, b, text, project):
    if b.language == "diff":
        b.text = "patch -p0 <<'END_OF_DIFF'\n%sEND_OF_DIFF\n" % text
        code, output = shell.run(b.text)
        assert code == 0, "%s: patch:\n%s" % (b, output)
        return
    file = re.fullmatch(r"file=(\S+)", b.rest)
    if file:
        if file.group(1) == "try/grapnel.conf":     # a broker that is not installed does not know where plugins are
            text += 'plugin_directory = "%s"\n' % PLUGINS
        with open(os.path.join(project, file.group(1)), "w", encoding="utf-8") as f:
            f.write(text)
        return
    assert b.language == "sh" and b.rest in ("", "as root"), "%s: what is \"%s %s\"?" % (b, b.language, b.rest)
    if b.rest == "as root":
        text = text.replace("/etc/grapnel", '"$ROOT"/etc/grapnel')
    code, output = shell.run(text)
    if b.shown is None:
        assert code == 0, "%s: ended with %d:\n%s\n%s" % (b, code, text, output)
    elif re.fullmatch(pattern(b.shown), output if output.endswith("\n") or not output else output + "\n") is None:
        raise AssertionError("%s prints\n%s\ninstead of\n%s" % (b, output, b.shown))


@skip_if(WHY, WHY)
def test_the_tutorial_does_what_it_says():
    with open(sdk.source("doc/tutorial.md"), encoding="utf-8") as f:
        todo = blocks(f.read())
    assert len(todo) > 20 and sum(b.shown is not None for b in todo) > 8
    port = str(free_port())
    with sdk.Sdk() as s:
        folder = os.path.join(s.dir, "tutorial")
        os.makedirs(folder)
        more = machine(folder)
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        env.update(s.env, **more)
        env["PATH"] = more["bin"] + ":" + s.env["PATH"]
        shell, production = Shell(folder, env), None
        try:
            production = subprocess.Popen([GRAPNELD, "-c", more["ROOT"] + "/etc/grapnel/grapnel.conf"],
                                          stderr=subprocess.DEVNULL)
            code, _ = shell.run('until sudo grapnelctl status > /dev/null 2>&1; do sleep 0.2; done\n')
            assert code == 0
            for b in todo:
                b.shown = b.shown.replace("18830", port) if b.shown is not None else None
                run_block(shell, b, b.text.replace("18830", port), os.path.join(folder, "work", "badges"))
            # The broker of the machine has the plugin now, and heeds it.
            code, output = shell.run('mosquitto_pub --unix "$ROOT/mqtt.sock" -V 5 -q 1 -t doors/lab -m open')
            assert "no badge for this door" in output, output
            production.terminate()
            assert production.wait(30 * FACTOR) == 0
        finally:
            shell.end()
            if production is not None:
                production.kill()
                production.wait()


def test_anything_is_three_dots_and_nothing_else():
    for shown, printed, same in (
            ("a\n", "a\n", True), ("a\n", "b\n", False), ("a\n", "a\nb\n", False), ("a ...\n", "a 12 s\n", True),
            ("a ... c\n", "a b\nc\n", False), ("a\n...\nc\n", "a\nb\nb\nc\n", True), ("a\n...\nc\n", "a\nc\n", True),
            ("a\n...\nc\n", "a\nb\n", False), ("a.c\n", "abc\n", False), ("...\n", "", True), ("a\n", "", False)):
        assert (re.fullmatch(pattern(shown), printed) is not None) == same, (shown, printed)
