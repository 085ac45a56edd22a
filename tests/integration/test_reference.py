# SPDX-License-Identifier: Apache-2.0
"""The reference made of the SDK's headers: everything is in it, and a comment that leaves something out is refused."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

from lib.case import Skip

TOP = os.environ.get("GRAPNEL_SRC", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
HEADERS = sorted(glob.glob(os.path.join(TOP, "sdk", "include", "grapnel", "*.h")))


def reference(*arguments):
    return subprocess.run([sys.executable, os.path.join(TOP, "tools", "reference"), *arguments], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


def changed(name, was, now):
    """What is said about the headers when one of them is changed like this. @return (exit code, text)."""
    folder = tempfile.mkdtemp(prefix="grapnel-reference-")
    try:
        copies = []
        for path in HEADERS:
            copies.append(os.path.join(folder, os.path.basename(path)))
            with open(path, encoding="utf-8") as f:
                text = f.read()
            if os.path.basename(path) == name:
                assert text.count(was) >= 1, "%s has no %r" % (name, was)
                text = text.replace(was, now, 1)
            with open(copies[-1], "w", encoding="utf-8") as f:
                f.write(text)
        r = reference("--man", os.path.join(folder, "man3"), *copies)
        assert (r.returncode == 0) == os.path.exists(os.path.join(folder, "man3")), "pages are written of good headers alone"
        return r.returncode, r.stderr
    finally:
        shutil.rmtree(folder)


def test_each_function_and_hook_has_a_manual_and_a_place_in_the_page():
    folder = tempfile.mkdtemp(prefix="grapnel-reference-")
    try:
        html = os.path.join(folder, "sdk.html")
        r = reference("--man", folder, "--html", html, *HEADERS)
        assert r.returncode == 0, r.stderr
        pages = {f[:-2] for f in os.listdir(folder) if f.endswith(".3")}
        with open(html, encoding="utf-8") as f:
            page = f.read()
        callable_ = 0
        for path in HEADERS:
            with open(path, encoding="utf-8") as f:
                text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
            for holder in re.findall(r"^struct (?:grapnel_host|grapnel_plugin) \{.*?^\};", text, re.S | re.M):
                for name in re.findall(r"\(\*(\w+)\)\(", holder):
                    if name == "fn" or name == "reply":
                        continue    # parameters
                    callable_ += 1
                    assert "grapnel_" + name in pages, "no grapnel_%s(3)" % name
                    assert re.search(r"\b%s\b" % name, page), "%s is not in the page" % name
            for name in re.findall(r"^(?:struct|enum) (grapnel_\w+) \{", text, re.M):
                assert name in pages, "no %s(3)" % name
        assert callable_ > 90, "only %d functions and hooks" % callable_
        with open(os.path.join(folder, "grapnel_auth_resolve.3"), encoding="utf-8") as f:
            text = f.read()
        for wanted in ("\n.Sh THREADS\nAny.", "\n.Sh RETURN VALUES\n", "\n.Sh MEMORY\n", "\n.Sh HISTORY\nThere since ABI 1.0."):
            assert wanted in text, "grapnel_auth_resolve(3) lacks %r" % wanted
    finally:
        shutil.rmtree(folder)


def test_what_a_comment_leaves_out_is_an_error_with_its_place():
    with open(os.path.join(TOP, "sdk", "include", "grapnel", "host.h"), encoding="utf-8") as f:
        line = f.read().split("int (*value_delete)")[0].count("\n") + 1
    was = "	 * @owner key is borrowed for the call.  @threads Any.  @since ABI 1.0\n	 */\n	int (*value_delete)"
    good = ("@owner key is borrowed for the call.", "@threads Any.", "@since ABI 1.0")
    for tag in range(3):
        now = "	 * " + "  ".join(g for i, g in enumerate(good) if i != tag) + "\n	 */\n	int (*value_delete)"
        code, said = changed("host.h", was, now)
        assert code == 1 and said.endswith("host.h:%d: function value_delete: no %s\n" % (line, good[tag].split()[0])), said


def test_other_faults_of_comments():
    for name, was, now, wanted in (
            ("host.h", "	 * @return Milliseconds since some time in the past.\n", "", "function now_ms: no @return"),
            ("host.h", "@param timeout_ms  0: ten seconds.", "@param timeout  0: ten seconds.",
             "function dns_lookup: @param timeout, but it has only self, name, timeout_ms, fn, arg"),
            ("host.h", "	 * The time of day; it may jump.\n", "", "function wall_us: nothing says what it does"),
            ("host.h", "@threads Any.  @since ABI 1.0", "@thread Any.  @since ABI 1.0", "unknown tag @thread; there are"),
            ("plugin.h", "	 * @threads The home worker of the client. Must not block.  @since ABI 1.0\n", "",
             "hook client_authenticate: no @threads"),
            ("hooks.h", "/** Details of a verdict about a right. Strings are copied. */\n", "",
             "struct grapnel_acl_answer: no comment"),
            ("hooks.h", "Answer: ack_answer / ack_resolve.", "", "struct grapnel_message_acknowledge: its comment does not end"),
    ):
        code, said = changed(name, was, now)
        assert code == 1 and wanted in said, "%s\ninstead of: %s" % (said, wanted)


def test_all_pages_are_clean_mdoc():
    if shutil.which("mandoc") is None:
        raise Skip("there is no mandoc")
    folder = tempfile.mkdtemp(prefix="grapnel-reference-")
    try:
        assert reference("--man", folder, *HEADERS).returncode == 0
        pages = []
        for path in sorted(glob.glob(os.path.join(folder, "*.3"))):
            with open(path, encoding="utf-8") as f:
                first = f.readline()
            if first.startswith(".so "):
                target = os.path.join(folder, first.split("/")[1].strip())
                assert os.path.exists(target), "%s is no page" % first
            else:
                pages.append(path)
        r = subprocess.run(["mandoc", "-Tlint", "-W", "warning", *pages], stdout=subprocess.PIPE, text=True, check=False)
        assert r.returncode == 0, r.stdout
    finally:
        shutil.rmtree(folder)


def test_the_overview_names_every_hook_and_service():
    with open(os.path.join(TOP, "man", "grapnel-sdk.7"), encoding="utf-8") as f:
        overview = f.read()
    for path in HEADERS:
        with open(path, encoding="utf-8") as f:
            text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
        for holder in re.findall(r"^struct (?:grapnel_host|grapnel_plugin) \{.*?^\};", text, re.S | re.M):
            for name in re.findall(r"\(\*(\w+)\)\(", holder):
                # Answers are named with their questions; slots and sockets with the functions they belong to.
                if name in ("fn", "reply", "client_slot_free") or re.search(r"_(answer|resolve)$|^listener_", name):
                    continue
                assert "Xr grapnel_%s 3" % name in overview, "grapnel-sdk(7) does not name grapnel_%s(3)" % name


def test_links_between_pages_lead_somewhere():
    folder = tempfile.mkdtemp(prefix="grapnel-reference-")
    try:
        assert reference("--man", folder, *HEADERS).returncode == 0
        pages = glob.glob(os.path.join(TOP, "man", "*.[1-9]")) + glob.glob(os.path.join(folder, "*.3"))
        there = {os.path.basename(p) for p in pages}
        links = 0
        for path in pages:
            with open(path, encoding="utf-8") as f:
                text = f.read()
            for name, section in re.findall(r"\bXr (grapnel[\w.-]*) (\d)", text):
                links += 1
                assert name + "." + section in there, "%s: there is no %s(%s)" % (os.path.basename(path), name, section)
        assert links > 400
    finally:
        shutil.rmtree(folder)
