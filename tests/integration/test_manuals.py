# SPDX-License-Identifier: Apache-2.0
"""The manuals against what there is: commands, paths of the admin socket, metrics, other manuals."""
import glob
import os
import re
import subprocess

from lib.broker import GRAPNELCTL, SRC

PAGES = {os.path.basename(p): open(p, encoding="utf-8").read() for p in sorted(glob.glob(os.path.join(SRC, "man/*.[1-9]")))}
CTL = PAGES["grapnelctl.1"]


def source(pattern):
    return "".join(open(p, encoding="utf-8").read() for p in sorted(glob.glob(os.path.join(SRC, pattern))))


def test_every_path_of_the_admin_socket_is_in_the_manual_and_no_other():
    there = set()
    for method, path in re.findall(r"\{ API_(\w+), \{ ([^}]*) \}", source("broker/admin/api.c")):
        there.add("%s /%s" % (method, "/".join(re.findall(r'"([^"]*)"', path))))
    told = set()
    for line in re.findall(r"^\.It Li ((?:GET|POST|DELETE) /.*)", CTL, re.M):
        words = [w for w in re.sub(r"(Oo Li|Op Li) \?.*", "", line).split() if w not in ("Ns", "Li")]
        path = "".join("*" if words[i - 1] == "Ar" else w for i, w in enumerate(words[1:], 1) if w != "Ar")
        told.add("%s %s" % (words[0], path))
    assert len(there) > 10 and there == told, (there - told, told - there)


def test_every_command_of_grapnelctl_is_in_its_manual():
    text = subprocess.run([GRAPNELCTL, "help"], text=True, capture_output=True, check=True).stdout
    rows = [line[2:] for line in text.splitlines() if re.match("  [a-z]", line)]
    names = [r[:14].rstrip() if r[14] == " " else r.split()[0] for r in rows]  # a name that is longer than its column
    assert len(names) > 15, text
    for name in names:
        word, _, second = name.partition(" ")
        assert re.search(r"^\.It Cm %s\b.*%s" % (word, re.escape(second.strip("[]").lower())), CTL, re.M), name


def test_the_metrics_of_a_plugin_are_in_its_manual_and_its_readme():
    looked_at = 0
    for page, text in PAGES.items():
        name = page[len("grapnel-"):-2]
        readme = os.path.join(SRC, "plugins", name, "README.md")
        if not os.path.exists(readme):
            continue
        code = source("plugins/%s/*.c" % name)
        for metric in re.findall(r'GRAPNEL_(?:COUNTER|GAUGE),\s*"(\w+)"', code):
            short = re.sub(r"^(logins|tokens)_", "", metric)
            for where, said in ((page, text), (readme, open(readme, encoding="utf-8").read())):
                assert re.search(r"(\b|_)%s\b" % short, said), "%s does not have the metric %s" % (where, metric)
            looked_at += 1
    assert looked_at > 50, looked_at


def test_manuals_name_manuals_that_are_there():
    for page, text in PAGES.items():
        for name, section in re.findall(r"^\.Xr (\S+) (\d)", text, re.M):
            there = not name.startswith("grapnel") or section == "3" or "%s.%s" % (name, section) in PAGES
            assert there and name == name.lower(), "%s: %s(%s)" % (page, name, section)
