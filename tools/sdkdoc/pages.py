# SPDX-License-Identifier: Apache-2.0
"""What belongs to one page, and how declarations are laid out there."""
import re

from .header import Fault, first_sentence


class Page:
    """One manual: the first item names it, the others have a link to it."""

    def __init__(self, header, items):
        self.header, self.items = header, items
        self.question = None
        self.structs = []   # shown with it: question and answers of a hook, what functions of the same name take

    @property
    def name(self):
        return self.items[0].page

    @property
    def kind(self):
        return self.items[0].kind

    def since(self):
        c = self.items[0].comment
        return (c.tags.get("since") if c else None) or "ABI 1.0"


def make_pages(headers):
    structs = {i.name: i for h in headers for i in h.items if i.kind == "struct"}
    pages, taken = [], set()
    for h in headers:
        last = None
        for item in h.items:
            if item.kind == "hook":
                page = Page(h, [item])
                page.question = structs[item.question]
                taken.add(item.question)
                pages.append(page)
                last = None
                continue
            if item.kind in ("function", "callback") and last is not None and last.items[0].comment is item.comment:
                last.items.append(item)
                continue
            last = Page(h, [item])
            pages.append(last)
    functions = {i.page: p for p in pages if p.kind == "function" for i in p.items}
    for p in pages:
        if p.kind == "hook":
            p.structs = [p.question] + [structs[n] for n in answer_structs(p, headers, structs)]
        elif p.kind == "struct" and p.name in functions:    # struct grapnel_auth_answer and host->auth_answer
            functions[p.name].structs.append(p.items[0])
            taken.add(p.name)
    # The question of a hook stands in the page of the hook, and so on.
    return [p for p in pages if not (p.kind == "struct" and p.items[0].name in taken)]


def answers_of(question, headers):
    """The functions that answer this question: what its comment names behind "Answer:"."""
    text = " ".join(v for k, v in question.comment.paragraphs if k == "text")
    m = re.search(r"Answer: (\w+) / (\w+)\.", text)
    known = {i.name for h in headers for i in h.items if i.kind == "function"}
    if m is None or not set(m.groups()) <= known:
        raise Fault("%s:%d: struct %s: its comment does not end with \"Answer: X_answer / X_resolve.\"" %
                    (question.where, question.line, question.name))
    return list(m.groups())


def cut(text, width):
    at = text.rfind(" ", 0, width + 1)
    if at <= 0:
        at = text.find(" ")
        if at < 0:
            return text, ""
    return text[:at], text[at + 1:]


def layout(item):
    """A struct or enum as text, comments in the style of the header, lines of at most 100 columns."""
    lines, indent = ["%s %s {" % (item.kind, item.name)], 1
    for text, note in item.members:
        if text is None:
            lines += wrapped_comment(note, "    " * indent)
            continue
        if text.startswith("}"):
            indent -= 1
        end = "," if item.kind == "enum" else "" if text.endswith("{") else ";"
        line = "    " * indent + text + end
        if note is None:
            lines += broken(line)
        elif len(line) + len(note) + 7 <= 100:
            lines.append("%s /* %s */" % (line, note))
        else:
            lines += wrapped_comment(note, "    " * indent) + broken(line)
        if text.endswith("{"):
            indent += 1
    return lines + ["};"]


def wrapped_comment(note, lead):
    out, rest = [], note
    while rest:
        line, rest = (rest, "") if len(lead) + len(rest) <= 94 else cut(rest, 94 - len(lead))
        out.append(line)
    if len(out) == 1:
        return ["%s/* %s */" % (lead, out[0])]
    return [lead + "/*"] + [lead + " * " + x for x in out] + [lead + " */"]


def broken(line):
    """A long declaration in several lines."""
    lead = re.match(r" *", line).group(0)
    out = []
    while len(line) > 100:
        at = line.rfind(", ", 0, 99)
        if at < 0:
            break
        out.append(line[:at + 1])
        line = lead + "    " + line[at + 2:]
    return out + [line]


def call_name(item):
    """How it is written where it is called or set."""
    if item.member_of == "grapnel_host":
        return "host->" + item.name
    return item.name


def brief(item):
    s = first_sentence(item.comment) or item.name
    s = s.split(": ")[0].split("; ")[0].rstrip(".:").replace("`", "")
    return s[0].lower() + s[1:] if len(s) > 1 and s[1].islower() else s


def hook_brief(question):
    text = question.comment.paragraphs[0][1]
    text = text.split(": ", 1)[1] if ": " in text else text
    return re.split(r"[.:?](?:\s|$)", text)[0]


def hook_paragraphs(question):
    """The text of a question's comment, without the names of the hooks in front."""
    out = list(question.comment.paragraphs)
    kind, text = out[0]
    text = re.sub(r"^[\w, ]+?: ", "", text)
    out[0] = (kind, text[0].upper() + text[1:])
    return out


def answer_structs(page, headers, structs):
    """The struct that the answering functions of a hook take."""
    names = []
    functions = {i.name: i for h in headers for i in h.items if i.kind == "function"}
    for name in answers_of(page.question, headers):
        m = re.search(r"const struct (grapnel_\w+) \*answer", functions[name].declaration)
        if m and m.group(1) not in names and m.group(1) in structs:
            names.append(m.group(1))
    return names


def see_also(page, headers):
    """What its text and declarations name."""
    text = " ".join(x.declaration for x in page.items)
    for item in page.items + ([page.question] if page.question else []):
        if item.comment is not None:
            text += " " + " ".join(v if k == "text" else " ".join(v) for k, v in item.comment.paragraphs)
            text += " " + " ".join(item.comment.tags.values()) + " ".join(t for _, t in item.comment.params)
    for item in page.structs + page.items:
        text += " " + " ".join((m[0] or "") + " " + (m[1] or "") for m in item.members)
    found = set()
    own = {i.page for i in page.items} | ({page.question.name} if page.question else set())
    for h in headers:
        for item in h.items:
            # Short words such as "log" and "create" are also just words.
            pattern = r"\bhost->%s\b" % item.name if "_" not in item.name else r"\b%s\b" % item.name
            if item.page not in own and item.name not in ("grapnel_host", "grapnel_plugin") and re.search(pattern, text):
                found.add(item.page)
    if page.question:
        found |= {"grapnel_" + a for a in answers_of(page.question, headers)}
    return sorted(found - own)
