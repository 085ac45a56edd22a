# SPDX-License-Identifier: Apache-2.0
"""Manuals of section 3."""
import os
import re

from .pages import brief, call_name, cut, hook_brief, hook_paragraphs, layout, see_also

TITLES = {"return": "RETURN VALUES", "owner": "MEMORY", "threads": "THREADS"}


def mdoc_escape(text):
    text = text.replace("\\", "\\e").replace("…", "...")
    return text


def mdoc_arg(text):
    text = mdoc_escape(text).replace('"', '""')
    if text == "" or re.search(r"[ \t\"]", text) or len(text) <= 3:
        return '"%s%s"' % ("\\&" if len(text) == 1 else "", text)
    return text


def mdoc_text(text, out):
    """Running text: a line for each sentence, `code` in quotes."""
    for part in re.split(r"(?<=[A-Za-z0-9)%\"`][.?!])\s+(?=[A-Z\"(`])", text):
        while part:
            line, part = (part, "") if len(part) <= 78 else cut(part, 78)
            line = re.sub(r"`([^`]+)`", r"\\(oq\1\\(cq", mdoc_escape(line).replace("`", "`"))
            out.append(("\\&" if line[:1] in ".'" else "") + line)


def mdoc_paragraphs(paragraphs, out, first=True):
    listing = False
    for kind, value in paragraphs:
        bullet = kind == "text" and value.startswith("- ")
        if listing and not bullet:
            out.append(".El")
            listing = False
        if bullet:
            if not listing:
                out.append(".Bl -bullet")
                listing = True
            out.append(".It")
            mdoc_text(value[2:], out)
        elif kind == "code":
            out.append(".Bd -literal -offset indent")
            out.extend(("\\&" if x[:1] in ".'" and x else "") + mdoc_escape(x) for x in value)
            out.append(".Ed")
        else:
            if not first:
                out.append(".Pp")
            mdoc_text(value, out)
        first = False
    if listing:
        out.append(".El")


def mdoc_members(item, out):
    """A struct or an enum as in the header."""
    out.append(".Bd -literal")
    out.extend(mdoc_escape(x) for x in layout(item))
    out.append(".Ed")


def mdoc_head(page, date):
    first = page.items[0]
    out = ['.\\" SPDX-License-Identifier: MIT-0', '.\\" Made by tools/reference of %s.' % page.header.name, ".Dd %s" % date,
           ".Dt %s 3" % page.name.upper(), ".Os", ".Sh NAME"]
    for i, item in enumerate(page.items):
        out.append(".Nm %s%s" % (item.page, " ," if i + 1 < len(page.items) else ""))
    out.append(".Nd %s" % mdoc_escape("hook: " + hook_brief(page.question) if page.kind == "hook" else brief(first)))
    out += [".Sh SYNOPSIS", ".In %s" % page.header.name]
    return out


def mdoc_synopsis(item, out):
    out.append(".Ft %s" % mdoc_arg(item.returns))
    name = item.name if item.member_of is None and item.kind == "function" else "(*%s)" % call_name(item)
    out.append(".Fo %s" % mdoc_arg(name))
    for text, _ in item.parameters:
        out.append(".Fa %s" % mdoc_arg(text))
    out.append(".Fc")


def man_page(page, headers, date):
    first, c = page.items[0], page.items[0].comment
    out = mdoc_head(page, date)
    if page.kind in ("struct", "enum"):
        mdoc_members(first, out)
        out.append(".Sh DESCRIPTION")
        mdoc_paragraphs(c.paragraphs, out)
    else:
        for item in page.items:
            mdoc_synopsis(item, out)
        for item in page.structs:
            mdoc_members(item, out)
        out.append(".Sh DESCRIPTION")
        mdoc_paragraphs(hook_paragraphs(page.question) if page.kind == "hook" else c.paragraphs, out)
        if c.params:
            out.append(".Bl -tag -width Ds")
            for name, text in c.params:
                out.append(".It Fa " + " , ".join(mdoc_arg(n) for n in name.split(", ")))
                mdoc_text(text, out)
            out.append(".El")
        for tag in ("threads", "owner", "return"):
            if tag in c.tags:
                out.append(".Sh %s" % TITLES[tag])
                mdoc_text(c.tags[tag], out)
    out.append(".Sh SEE ALSO")
    links = see_also(page, headers)
    out += [".Xr %s 3 ," % x for x in links] + [".Xr grapnel-sdk 7"]
    out += [".Sh HISTORY", "There since %s." % page.since()]
    if "spec" in (c.tags if c else {}):
        out += [".Sh STANDARDS", mdoc_escape(c.tags["spec"])]
    return order_sections(out)


def order_sections(lines):
    """mdoc has a place for each section; those of our own come behind RETURN VALUES."""
    sections, current = {}, None
    head = []
    for line in lines:
        if line.startswith(".Sh "):
            current = line[4:]
            sections[current] = []
        elif current is None:
            head.append(line)
        else:
            sections[current].append(line)
    ranked = ["NAME", "SYNOPSIS", "DESCRIPTION", "RETURN VALUES", "THREADS", "MEMORY", "SEE ALSO", "STANDARDS", "HISTORY"]
    out = head
    for title in ranked:
        if title in sections:
            out += [".Sh " + title] + sections[title]
    return "\n".join(out) + "\n"


def write_man(folder, pages, headers, date):
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        if old.endswith(".3"):
            os.unlink(os.path.join(folder, old))
    written = {}
    for page in pages:
        written[page.name] = man_page(page, headers, date)
    for page in pages:
        for item in page.items[1:]:
            written.setdefault(item.page, ".so man3/%s.3\n" % page.name)
        for item in page.structs:
            written.setdefault(item.name, ".so man3/%s.3\n" % page.name)
    for name, text in written.items():
        with open(os.path.join(folder, name + ".3"), "w", encoding="utf-8") as f:
            f.write(text)
    return sorted(written)
