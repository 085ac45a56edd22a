# SPDX-License-Identifier: Apache-2.0
"""A plugin is built and installed with autoconf, with CMake, with Meson and with pkg-config alone; the broker takes it."""
import glob
import os
import re
import shutil

from lib import sdk
from lib.broker import SRC, Broker, run_grapneld
from lib.case import skip_if
from lib.sdk import Sdk

PLUGIN = """\
#include <grapnel/plugin.h>
#include <stdlib.h>

int not_for_others(void);
int
not_for_others(void)
{
	return 1;
}

static int
create(const struct grapnel_host *host, struct grapnel_instance *self, void **instance)
{
	(void)host;
	(void)self;
	*instance = malloc((size_t)not_for_others());
	return *instance != NULL ? GRAPNEL_OK : GRAPNEL_ENOMEM;
}

GRAPNEL_PLUGIN(night, .version = "1.0", .license = "MIT-0", .create = create, .destroy = free, );
"""

WHY = sdk.skip_reason()


def without(program):
    return "%s is not here" % program if shutil.which(program) is None else None


def check(where, root):
    """The installed module exports its descriptor only, stands where the broker looks, and is loaded by it."""
    found = glob.glob(root + "/**/*", recursive=True)
    files = [f for f in found if os.path.isfile(f) and not f.endswith(".la")]
    assert files == [root + where.variable("plugindir") + "/night.so"], files
    assert sdk.exported(files[0]) == ["grapnel_plugin"], sdk.exported(files[0])
    b = Broker(plugins={"x": {"module": files[0]}})
    try:
        b.configure()
        r = run_grapneld("-t", "-c", b.conf)
        assert r.returncode == 0, r.stdout + r.stderr
    finally:
        b.remove()


@skip_if(WHY, WHY)
@skip_if(without("autoreconf"), without("autoreconf"))
def test_autoconf_builds_a_plugin_with_the_macro():
    with Sdk() as s:
        folder = s.folder(
            "autoconf", night__c=PLUGIN,
            configure__ac="AC_INIT([night],[1.0])\nAC_CONFIG_AUX_DIR([build-aux])\nAM_INIT_AUTOMAKE([foreign -Wall -Werror])\n"
            "AC_PROG_CC\nAM_PROG_AR\nLT_INIT([disable-static dlopen])\nGRAPNEL_SDK([0.1])\n"
            "AC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
            Makefile__am="plugin_LTLIBRARIES = night.la\nnight_la_SOURCES = night.c\n"
            "night_la_CPPFLAGS = $(GRAPNEL_CFLAGS)\nnight_la_LDFLAGS = -module $(GRAPNEL_LDFLAGS)\n")
        s.run(["autoreconf", "-i"], folder)
        s.run(["./configure", "-q", "CFLAGS=-Wall -Wextra -Werror"], folder)
        s.run(["make", "install", "DESTDIR=" + folder + "/root"], folder)
        check(s, folder + "/root")
        # A version that there is not is refused, and told what to install.
        late = s.folder("autoconf-late", configure__ac="AC_INIT([night],[1.0])\nAC_PROG_CC\nGRAPNEL_SDK([99])\nAC_OUTPUT\n")
        s.run(["autoreconf"], late)
        assert "grapnel-dev" in s.run(["./configure", "-q"], late, code=1)


@skip_if(WHY, WHY)
@skip_if(without("cmake"), without("cmake"))
def test_cmake_builds_a_plugin_with_the_package():
    with Sdk() as s:
        lists = ("cmake_minimum_required(VERSION 3.13)\nproject(night C)\nfind_package(grapnel %s REQUIRED)\n"
                 "grapnel_add_plugin(night night.c)\nif(NOT GRAPNEL_ABI STREQUAL \"%s\")\n"
                 "\tmessage(FATAL_ERROR \"ABI\")\nendif()\nif(DEFINED prefix OR DEFINED libdir)\n"
                 "\tmessage(FATAL_ERROR \"names of others\")\nendif()\n")
        folder = s.folder("cmake", night__c=PLUGIN, CMakeLists__txt=lists % ("0.1", s.variable("abi")))
        s.run(["cmake", "-S", ".", "-B", "out", "-DCMAKE_C_FLAGS=-Wall -Wextra -Werror"], folder)
        s.run(["cmake", "--build", "out"], folder)
        s.run(["cmake", "--install", "out"], folder, env={"DESTDIR": folder + "/root"})
        check(s, folder + "/root")
        late = s.folder("cmake-late", night__c=PLUGIN, CMakeLists__txt=lists % ("99", "1.0"))
        assert "version" in s.run(["cmake", "-S", ".", "-B", "out"], late, code=1)


@skip_if(WHY, WHY)
@skip_if(without("meson"), without("meson"))
def test_meson_builds_a_plugin_with_the_snippet():
    with Sdk() as s:
        folder = s.folder("meson", night__c=PLUGIN,
                          meson__build="project('night', 'c', default_options: ['werror=true', 'warning_level=2'])\n"
                          "subdir('grapnel')\nshared_module('night', 'night.c', kwargs: grapnel_plugin)\n")
        os.mkdir(folder + "/grapnel")
        shutil.copy(s.prefix + "/share/grapnel/build/meson.build", folder + "/grapnel/")
        s.run(["meson", "setup", "out"], folder)
        s.run(["meson", "install", "-C", "out"], folder, env={"DESTDIR": folder + "/root"})
        check(s, folder + "/root")


@skip_if(WHY, WHY)
def test_pkg_config_is_enough():
    with Sdk() as s:
        folder = s.folder("plain", night__c=PLUGIN)
        root = folder + "/root"
        os.makedirs(root + s.variable("plugindir"))
        flags = s.run(["pkg-config", "--cflags", "grapnel"]).split()
        s.run(["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-Wl,-z,defs"] + flags +
              ["-o", root + s.variable("plugindir") + "/night.so", "night.c"], folder)
        check(s, root)
        for name, end in (("plugindir", "/lib/grapnel/plugins"), ("confdir", "/etc/grapnel/conf.d"),
                          ("templatedir", "/share/grapnel/template"), ("mandir", "/share/man")):
            assert s.variable(name) == s.prefix + end, (name, s.variable(name))
        assert s.variable("abi") == "%s.%s" % (s.variable("abi_major"), s.variable("abi_minor"))


@skip_if(WHY, WHY)
def test_the_plugin_of_the_manual_is_built_as_the_manual_says():
    with open(os.path.join(SRC, "man/grapnel-sdk.7"), encoding="utf-8") as f:
        literal = [x.replace("\\e", "\\") for x in re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", f.read(), re.M | re.S)]
    source, = (x for x in literal if "GRAPNEL_PLUGIN(" in x)
    command, = (x for x in literal if "-o keep-out.so" in x)
    with Sdk() as s:
        folder = s.folder("manual", keep_out__c=source)
        os.rename(folder + "/keep_out.c", folder + "/keep-out.c")
        s.run(["sh", "-ec", command.replace("cc ", "gcc -Wall -Wextra -Werror ", 1)], folder)
        assert sdk.exported(folder + "/keep-out.so") == ["grapnel_plugin"]
        if os.path.exists(os.path.join(sdk.BUILD, "grapnel-plugin")):
            out = s.run(["grapnel-plugin", "check", "keep-out.so"], folder)
            assert "FAIL" not in out and "keep-out.so: in order" in out, out
