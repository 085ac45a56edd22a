# SPDX-License-Identifier: Apache-2.0
"""Reads a header of the SDK: comments, and the declarations they stand before; and says what is missing."""
import os
import re

TAGS = ("param", "return", "owner", "threads", "since", "spec")
QUESTION = re.compile(r"const struct (grapnel_\w+) \*q\b")


class Fault(Exception):
    """Something in a header that has to be put right."""


class Comment:
    """Text and tags of a comment."""

    def __init__(self, raw, line, where, tags=True):
        self.line = line
        self.where = where
        self.used = False   # it stands before a declaration; a blank line ends it then
        self.tags = {}
        self.params = []
        text = re.sub(r"^/\*\*?|\*/$", "", raw)
        lines = [re.sub(r"^\s*\* ?", "", x) if i else x.strip() for i, x in enumerate(text.split("\n"))]
        lines = [x.rstrip() for x in lines]
        self.paragraphs = []
        if tags:
            self.read(lines)
        else:
            self.paragraphs = paragraphs_of(lines)

    def fault(self, text):
        raise Fault("%s:%d: %s" % (self.where, self.line, text))

    def read(self, lines):
        body, tag, value = [], None, []

        def end_tag():
            if tag is None:
                return
            text = " ".join(" ".join(value).split())
            if tag == "param":
                m = re.match(r"([\w.]+(?:, [\w.]+)*)\s+(.*)", text)
                if m is None:
                    self.fault("@param without a name and a text")
                self.params.append((m.group(1), m.group(2)))
            elif tag in self.tags:
                self.fault("@%s twice" % tag)
            else:
                self.tags[tag] = text

        for line in lines:
            # A tag may stand behind another one, or behind the text, in the same line.
            parts = re.split(r"(?:^|\s+)@(?=[a-z])", line)
            if parts[0].strip() or len(parts) == 1:
                (body if tag is None else value).append(parts[0] if tag is None else parts[0].strip())
            for part in parts[1:]:
                end_tag()
                word = re.match(r"\w+", part).group(0)
                if word not in TAGS:
                    self.fault("unknown tag @%s; there are %s" % (word, " ".join("@" + t for t in TAGS)))
                tag, value = word, [part[len(word):].strip()]
            if tag is not None and not line.strip():
                end_tag()
                tag, value = None, []
        end_tag()
        self.paragraphs = paragraphs_of(body)


def paragraphs_of(lines):
    """[("text", ...) or ("code", [lines])]: what is indented by a tab is code."""
    out, text, code = [], [], []

    def flush():
        if text:
            out.append(("text", " ".join(" ".join(text).split())))
            text.clear()
        while code and not code[-1]:
            code.pop()
        if code:
            out.append(("code", list(code)))
            code.clear()

    for line in lines:
        if line.startswith("\t"):
            if text:
                flush()
            code.append(line[1:].expandtabs(8))
        elif line.startswith("  - ") or line.startswith("- "):
            flush()
            text.append(line.strip())
        elif not line.strip():
            if code:
                code.append("")
            else:
                flush()
        else:
            if code:
                flush()
            text.append(line)
    flush()
    return out


class Item:
    """Something that is documented: kind is function, hook, callback, struct, enum or define."""

    def __init__(self, kind, name, comment, where, line):
        self.kind, self.name, self.comment, self.where, self.line = kind, name, comment, where, line
        self.declaration = ""   # as in the header, in one piece
        self.returns = ""
        self.parameters = []    # [(type and name, name)]
        self.members = []       # struct, enum: [(declaration, comment)]
        self.question = None    # hook: name of the struct it is asked with
        self.group = []         # names that share its page
        self.member_of = None   # struct that has it as a member

    @property
    def page(self):
        return self.name if self.name.startswith("grapnel") else "grapnel_" + self.name

    def fault(self, text):
        return "%s:%d: %s %s: %s" % (self.where, self.line, self.kind, self.name, text)


class Header:
    def __init__(self, path):
        self.path = path
        self.name = "/".join(path.split(os.sep)[-2:])
        with open(path, encoding="utf-8") as f:
            self.text = f.read()
        self.items = []
        self.intro = None
        self.defaults = {}
        self.parse()

    # ---- reading: one pass over comments and declarations ----------------------------------------

    def tokens(self):
        """(kind, text, line): comment, blank, or code up to its ; or { or }."""
        text, at, line = self.text, 0, 1
        # Preprocessor lines, and what they hide from C++.
        text = re.sub(r"^#[^\n]*(?:\\\n[^\n]*)*", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.M)
        text = re.sub(r'extern "C" \{|__attribute__\(\(.*?\)\)\)', "", text)
        for m in re.finditer(r"(/\*.*?\*/)|(\n[ \t]*\n)|([^;{}/]+(?:/(?!\*)[^;{}/]*)*[;{}]?|[;{}])", text, re.S):
            line += text.count("\n", at, m.start())
            at = m.start()
            if m.group(1):
                yield "comment", m.group(1), line
            elif m.group(2):
                yield "blank", "", line
            else:
                piece = m.group(3)
                lead = piece[:len(piece) - len(piece.lstrip())]
                if re.search(r"\n[ \t]*\n", lead):
                    yield "blank", "", line
                if piece.strip():
                    yield "code", " ".join(piece.split()), line + lead.count("\n")

    def parse(self):
        comment = None      # the last /** */, about what follows
        holder = None       # the struct or enum whose members these are
        depth = 0
        pieces = list(self.tokens())
        i = 0
        while i < len(pieces):
            kind, text, line = pieces[i]
            i += 1
            if kind == "comment":
                comment, i = self.on_comment(text, line, holder, comment, pieces, i)
            elif kind == "blank":
                if comment is not None and comment.used:
                    comment = None
            elif text.endswith("{"):
                depth += 1
                m = re.match(r"(?:typedef )?(struct|enum) (\w+) \{$", text)
                if m and depth == 1:
                    holder = Item(m.group(1), m.group(2), comment, self.name, line)
                    self.items.append(holder)
                    comment = None
                elif holder is not None:
                    holder.members.append([text, None])
            elif text.endswith("}") or text == "}":
                self.enum_values(holder, text[:-1])
                depth -= 1
                if holder is not None and depth >= 1:
                    holder.members.append(["}", None])
                if depth <= 0:
                    holder, depth, comment = None, 0, None
            elif holder is not None and holder.kind == "enum":
                self.enum_values(holder, text)
            elif holder is not None and text.startswith(":"):
                continue
            else:
                self.on_declaration(text.rstrip(";").strip(), line, holder, comment)
                if comment is not None:
                    comment.used = True

    def on_comment(self, text, line, holder, comment, pieces, i):
        if self.intro is None and "SPDX" not in text:
            self.intro = Comment(text, line, self.name, tags=False)
            for title, tag in (("Threads:", "threads"), ("Ownership:", "owner")):
                for kind, value in self.intro.paragraphs:
                    if kind == "text" and title in value:
                        self.defaults[tag] = re.split(r"\b(?:Threads|Ownership|Signals|Bounded):", value.split(title, 1)[1])[0].strip()
            return comment, i
        if text.startswith("/**"):
            return Comment(text, line, self.name), i
        if holder is not None and holder.members and pieces[i - 2][0] == "code" and self.same_line(pieces[i - 2], line):
            holder.members[-1][1] = plain(text)     # behind a member
        elif holder is not None and not re.match(r"/\* -{4}", text):
            holder.members.append([None, plain(text)])      # before some
            return None, i
        return (None if comment is not None and comment.used else comment), i

    def same_line(self, piece, line):
        return piece[2] + piece[1].count("\n") == line or self.text.split("\n")[line - 1].strip().find("/*") > 0

    @staticmethod
    def enum_values(holder, text):
        if holder is None or holder.kind != "enum":
            return
        for value in text.split(","):
            if value.strip():
                holder.members.append([value.strip(), None])

    def on_declaration(self, text, line, holder, comment):
        if not text or text in ("}",) or re.match(r"(struct|enum) \w+$", text):
            return      # an opaque handle
        if holder is None:
            m = re.match(r"typedef (.*?)\(\*(\w+)\)\((.*)\)$", text)
            if m:
                self.function("callback", m, text, line, comment, None)
            else:
                m = re.match(r"(?!typedef|extern|static)(.*?)\b(grapnel_\w+)\((.*)\)$", text)
                if m:
                    self.function("function", m, text, line, comment, None)
            return
        m = re.match(r"(.*?)\(\*(\w+)\)\((.*)\)$", text)
        if m and holder.name in ("grapnel_host", "grapnel_plugin"):
            kind = "function"
            if holder.name == "grapnel_plugin":
                kind = "hook" if QUESTION.search(text) else "callback"
            self.function(kind, m, text, line, comment, holder.name)
        note = None if comment is None or comment.used else first_sentence(comment)
        holder.members.append([text, note.rstrip(":.") if note else None])

    def function(self, kind, match, text, line, comment, member_of):
        item = Item(kind, match.group(2), comment, self.name, line)
        item.declaration, item.member_of = text, member_of
        item.returns = match.group(1).strip()
        item.parameters = split_parameters(match.group(3))
        q = QUESTION.search(text)
        if kind == "hook" and q:
            item.question = q.group(1)
        self.items.append(item)


def plain(comment):
    """The text of a short comment, in one line."""
    c = re.sub(r"^/\*+|\*+/$", "", comment)
    return " ".join(re.sub(r"\n\s*\*", " ", c).split())


def first_sentence(comment):
    if comment is None or not comment.paragraphs or comment.paragraphs[0][0] != "text":
        return None
    return re.split(r"(?<=[.:?])\s", comment.paragraphs[0][1])[0]


def split_parameters(text):
    out, depth, last = [], 0, ""
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            out.append(last.strip())
            last = ""
        else:
            last += c
    out.append(last.strip())
    named = []
    for p in out:
        if p in ("", "void"):
            continue
        m = re.search(r"\(\*(\w+)\)", p) or re.search(r"(\w+)(?:\[\w*\])?$", p)
        named.append((p, m.group(1) if m else p))
    return named


# ---- checking ----------------------------------------------------------------------------------------

def wants_owner(item):
    if "*" in item.returns or "struct grapnel_str" in item.returns:
        return True
    for text, name in item.parameters:
        if name in ("self", "instance", "arg", "ctx", "h") or "(*" in text or re.search(r"_fn \w+$", text):
            continue
        if "*" in text or text.startswith("struct grapnel_str"):
            return True
    return False


def check(headers):
    faults, names = [], {}
    for h in headers:
        for item in h.items:
            if item.kind in ("struct", "enum"):
                if item.comment is None or not item.comment.paragraphs:
                    faults.append(item.fault("no comment /** ... */ that says what it is"))
            else:
                faults += check_function(h, item)
            # A struct may be called like the function, or the hook, that takes it: they share a page.
            key = (item.page, item.kind == "struct")
            if key in names:
                faults.append(item.fault("a second one of this name"))
            names[key] = item
    return faults


def check_function(h, item):
    c = item.comment
    if c is None:
        return [item.fault("no comment /** ... */ before it")]
    faults = []
    if not c.paragraphs:
        faults.append(item.fault("nothing says what it does"))
    for tag in ("threads", "owner"):
        if tag in h.defaults:
            c.tags.setdefault(tag, h.defaults[tag])
    need = ["threads", "since"]
    if item.returns != "void":
        need.append("return")
    if wants_owner(item):
        need.append("owner")
    for tag in need:
        if not c.tags.get(tag):
            faults.append(item.fault("no @%s" % tag))
    known = [name for _, name in item.parameters]
    for names, _ in c.params:
        for name in names.split(", "):
            if name not in known:
                faults.append(item.fault("@param %s, but it has only %s" % (name, ", ".join(known) or "none")))
    return faults
