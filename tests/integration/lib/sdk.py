# SPDX-License-Identifier: Apache-2.0
"""The SDK as installed, in a temporary folder, for tests that build plugins with it.

    with Sdk() as sdk:
        sdk.run(["make", "CC=gcc"], folder)      # fails with the command's output

Building takes long and says nothing about the broker, so it is done once: sdk.skip_reason() names the builds (sanitizers,
other compilers) that leave it out.
"""
import os
import re
import shutil
import subprocess
import tempfile

from .broker import FACTOR, SRC

BUILD = os.environ.get("GRAPNEL_BUILD", "")


def make_variable(name):
    """A variable of the build's Makefile."""
    with open(os.path.join(BUILD, "Makefile"), encoding="utf-8") as f:
        m = re.search(r"^%s = *(.*)$" % name, f.read(), re.M)
    return m.group(1).strip() if m else ""


def skip_reason():
    """None: this build is the one that builds plugins."""
    if not BUILD:
        return "GRAPNEL_BUILD does not name a build"
    if make_variable("SAN_FLAGS"):
        return "done once, in the build without sanitizers"
    if "clang" in make_variable("CC"):
        return "done once, in the build with gcc"
    return None


class Sdk:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="grapnel-sdk-")
        self.prefix = None
        self.env = {}

    def __enter__(self):
        try:
            self.install()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *unused):
        self.remove()

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    def install(self):
        """make install-sdk; then its files are told where they are, since configure named another place."""
        configured = make_variable("prefix")
        root = os.path.join(self.dir, "root")
        self.run(["make", "-s", "-C", BUILD, "install-sdk", "DESTDIR=" + root])
        self.prefix = root + configured
        for folder, _, names in os.walk(self.prefix):
            for name in names:
                if name.endswith((".pc", ".cmake")):
                    self.relocate(os.path.join(folder, name), configured)
        self.env = {
            "PATH": os.path.join(self.prefix, "bin") + ":" + os.environ["PATH"],
            "LD_LIBRARY_PATH": os.path.join(self.prefix, "lib"),
            "PKG_CONFIG_PATH": os.path.join(self.prefix, "lib", "pkgconfig"),
            "CMAKE_PREFIX_PATH": self.prefix,
            "ACLOCAL_PATH": os.path.join(self.prefix, "share", "aclocal"),
            "GRAPNEL_TEMPLATE_DIR": os.path.join(self.prefix, "share", "grapnel", "template"),
        }

    def relocate(self, path, configured):
        with open(path, encoding="utf-8") as f:
            text = f.read()
        text = re.sub(r'^(prefix=|\tset\(prefix ")%s' % re.escape(configured),
                      lambda m: m.group(1) + self.prefix, text, flags=re.M)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def variable(self, name):
        """Of grapnel.pc."""
        return self.run(["pkg-config", "--variable=" + name, "grapnel"]).strip()

    def run(self, command, cwd=None, env=None, code=0, timeout=120):
        """@return What it prints, errors included; a failure of the test when it ends otherwise than with `code`."""
        # This make's own variables (jobs, targets) are nothing to those that are started here.
        base = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
        r = subprocess.run(command, cwd=cwd, env=dict(base, **self.env, **(env or {})), text=True, check=False,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=timeout * FACTOR)
        assert r.returncode == code, "%s ended with %d:\n%s" % (" ".join(command), r.returncode, r.stdout)
        return r.stdout

    def folder(self, name, **files):
        """A folder with these files; "__" in a name stands for a dot. @return its path."""
        path = os.path.join(self.dir, name)
        os.makedirs(path)
        for file, text in files.items():
            with open(os.path.join(path, file.replace("__", ".")), "w", encoding="utf-8") as f:
                f.write(text)
        return path


def source(name):
    """The path of a file of the source tree."""
    return os.path.join(SRC, name)


def exported(module):
    """The symbols that a shared object offers."""
    out = subprocess.run(["nm", "-D", "--defined-only", module], text=True, capture_output=True, check=True).stdout
    return [line.split()[-1] for line in out.splitlines()]
