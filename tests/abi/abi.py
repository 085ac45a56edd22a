# SPDX-License-Identifier: Apache-2.0
"""Headers of the plugin ABI as shared objects with debug information, and what two of them have in common.

    abi.compare(old, new, folder)         # "" when plugins of the old headers run in a broker with the new ones; else why not
    abi.compare(old, new, folder, same=True)                            # "" when nothing at all has changed
    abi.layout(headers, folder)           # C that compiles only where offsets, sizes and values are those of the headers

abidiff sees what became of types; the layout says the same with sizeof and offsetof, for every compiler.
"""
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.abspath(__file__))
CURRENT = os.path.join(HERE, "..", "..", "sdk", "include")
HEADERS = ("events.h", "hooks.h", "host.h", "plugin.h", "types.h")
TOOLS = ("abidiff", "abidw", "cc")

# What abidiff may say of a change that plugins do not notice: a struct has grown at its end. Everything else is refused.
HARMLESS = (r"Leaf changes summary:", r"Changed leaf types summary:", r"Removed/Changed/Added \w+ summary: 0 Removed, 0 Changed",
            r"  \d+ data member insertions?:$")


def missing():
    """A tool that is not installed, or None."""
    return next((t for t in TOOLS if shutil.which(t) is None), None)


def run(command):
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def text_of(headers):
    out = ""
    for name in HEADERS:
        with open(os.path.join(headers, "grapnel", name), encoding="utf-8") as f:
            out += f.read()
    return out


def version(headers):
    text = text_of(headers)
    return tuple(int(re.search(r"#define GRAPNEL_ABI_%s (\d+)" % n, text).group(1)) for n in ("MAJOR", "MINOR"))


def frozen():
    """[(major, minor), folder], the oldest first."""
    out = []
    for name in os.listdir(HERE):
        m = re.fullmatch(r"(\d+)\.(\d+)", name)
        if m:
            out.append(((int(m.group(1)), int(m.group(2))), os.path.join(HERE, name)))
    return sorted(out)


def released(folder):
    return os.path.exists(os.path.join(folder, "released"))


def types(headers):
    """(kind, name) of each struct, enum and function type that the headers define."""
    text = text_of(headers)
    out = sorted(set(re.findall(r"^(struct|enum) (grapnel_\w+) \{", text, re.M)))
    return out + [("", n) for n in sorted(set(re.findall(r"^typedef [^;(]*\(\*(grapnel_\w+)\)\(", text, re.M)))]


def build(headers, out):
    """A shared object that has all types of the headers. A compiler's error is an AssertionError."""
    source = out + ".c"
    with open(source, "w", encoding="utf-8") as f:
        f.write("#include <grapnel/plugin.h>\n")
        for kind, name in types(headers):
            f.write("extern %s %s *abi_%s; %s %s *abi_%s;\n" % (kind, name, name, kind, name, name))
    r = run(["cc", "-std=gnu11", "-g", "-O0", "-fPIC", "-shared", "-I", headers, "-o", out, source])
    assert r.returncode == 0, r.stdout
    return out


def grows(headers):
    """Names of the structs that begin with their size, or hold it: whoever reads them looks at that first."""
    return set(re.findall(r"^struct (grapnel_\w+) \{(?:(?!^\};)[\s\S])*?\n\tsize_t size;", text_of(headers), re.M))


def objection(report, may_grow):
    """The first line of abidiff's report (leaf changes only) that plugins would notice, or "". """
    struct = size = None
    for line in report.splitlines():
        m = re.fullmatch(r"'struct (\w+)' changed:", line)
        grown = re.fullmatch(r"  type size changed from (\d+) to \d+ \(in bits\)", line)
        added = re.fullmatch(r"    '.*', at offset (\d+) \(in bits\)", line)
        if m:
            struct, size = m.group(1), None
        elif grown and struct in may_grow:
            size = int(grown.group(1))
        elif added and size is not None and int(added.group(1)) >= size:
            continue
        elif line and not any(re.match(h, line) for h in HARMLESS):
            return "%s: %s" % (struct, line.strip()) if struct else line.strip()
    return ""


def compare(old, new, folder, same=False):
    a, b = build(old, os.path.join(folder, "old.so")), build(new, os.path.join(folder, "new.so"))
    command = ["abidiff", "--no-show-locs"] + (["--harmless"] if same else ["--leaf-changes-only", "--no-added-syms"])
    r = run(command + [a, b])
    assert r.returncode & 3 == 0, "abidiff itself failed (%d): %s" % (r.returncode, r.stdout)
    if same or r.returncode == 0:
        return r.stdout if r.returncode else ""
    return objection(r.stdout, grows(old))


# ---- sizeof, offsetof and values --------------------------------------------------------------------


def members(node):
    """[(name, offset in bytes)]; what has no name, and parts of bytes, do not occur in these headers."""
    out = []
    for m in node.findall("data-member"):
        bits, name = int(m.get("layout-offset-in-bits")), m.find("var-decl").get("name")
        assert bits % 8 == 0 and name, (node.get("name"), name)
        out.append((name, bits // 8))
    return out


def assertion(condition, what):
    return '_Static_assert(%s, "%s");\n' % (condition, what)


def struct_lines(node, may_grow):
    name = node.get("name")
    out = assertion("sizeof(struct %s) %s %d" % (name, ">=" if name in may_grow else "==", int(node.get("size-in-bits")) // 8),
                    "struct %s has another size" % name)
    for member, offset in members(node):
        out += assertion("offsetof(struct %s, %s) == %d" % (name, member, offset), "%s.%s has moved" % (name, member))
        out += assertion("sizeof(((struct %s *)0)->%s) == {%s.%s}" % (name, member, name, member),
                         "%s.%s has another size" % (name, member))
    return out


def enum_lines(node):
    return "".join(assertion("%s == %s" % (e.get("name"), e.get("value")), "%s has another value" % e.get("name"))
                   for e in node.findall("enumerator"))


def macro_lines(headers):
    """Constants that are macros: those that are numbers, but for the minor."""
    out = ""
    for name, value in re.findall(r"^#define (GRAPNEL_\w+) ([^/\n]+?)\s*(?:/\*.*)?$", text_of(headers), re.M):
        if name != "GRAPNEL_ABI_MINOR" and re.fullmatch(r"\d+u?|UINT64_C\(0x[0-9a-f]+\)|\(1u? << \d+\)", value):
            out += assertion("%s == %s" % (name, value), "%s has another value" % name)
    return out


def sizes(headers, folder, wanted):
    """{"struct.member": bytes}, by a program."""
    source, program = os.path.join(folder, "sizes.c"), os.path.join(folder, "sizes")
    with open(source, "w", encoding="utf-8") as f:
        f.write("#include <grapnel/plugin.h>\n#include <stdio.h>\nint main(void)\n{\n")
        for struct, member in wanted:
            f.write('\tprintf("%s.%s %%zu\\n", sizeof(((struct %s *)0)->%s));\n' % (struct, member, struct, member))
        f.write("}\n")
    r = run(["cc", "-std=gnu11", "-I", headers, "-o", program, source])
    assert r.returncode == 0, r.stdout
    return dict(line.split() for line in run([program]).stdout.splitlines())


def layout(headers, folder):
    xml_text = run(["abidw", "--no-show-locs", build(headers, os.path.join(folder, "layout.so"))]).stdout
    root = xml.etree.ElementTree.fromstring(xml_text)
    names = {n for kind, n in types(headers)}
    structs = {n.get("name"): n for n in root.iter("class-decl") if n.get("name") in names and n.get("is-declaration-only") != "yes"}
    enums = {n.get("name"): n for n in root.iter("enum-decl") if n.get("name") in names}
    assert set(structs) | set(enums) == {n for kind, n in types(headers) if kind}, "abidw did not see all types"
    text = "".join(struct_lines(structs[n], grows(headers)) for n in sorted(structs))
    size = sizes(headers, folder, [(n, m) for n in structs for m, _ in members(structs[n])])
    text = re.sub(r"\{(\w+\.\w+)\}", lambda m: size[m.group(1)], text)
    return ("/* SPDX-License-Identifier: Apache-2.0 */\n/* Made by tests/abi/freeze of the headers beside it: they hold for "
            "every later minor, too. */\n" + "".join(enum_lines(enums[n]) for n in sorted(enums)) + macro_lines(headers) +
            "#if UINTPTR_MAX == UINT64_MAX\n" + text + "#endif\n")


def check_layout(file, headers, folder):
    """"" or what the compiler says about headers that are not laid out so."""
    source = os.path.join(folder, "check.c")
    with open(source, "w", encoding="utf-8") as f:
        f.write('#include <grapnel/plugin.h>\n#include "%s"\n' % os.path.abspath(file))
    r = run(["cc", "-std=gnu11", "-fsyntax-only", "-I", headers, source])
    return "" if r.returncode == 0 else r.stdout
