# SPDX-License-Identifier: Apache-2.0
"""The reference as one page of HTML."""
import html
import re

from .pages import broken, call_name, hook_paragraphs, layout

CSS = """
:root { color-scheme: light dark; --fg: #1c2024; --bg: #fff; --dim: #5b6670; --line: #d7dde3; --code: #f3f5f7; --link: #0b57a4 }
@media (prefers-color-scheme: dark) {
  :root { --fg: #dfe4e8; --bg: #14181b; --dim: #98a4ae; --line: #333c44; --code: #1d2328; --link: #7ab7f5 } }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--fg); background: var(--bg) }
a { color: var(--link); text-decoration: none } a:hover { text-decoration: underline }
h1 { font-size: 1.6rem } h2 { margin-top: 3rem; border-bottom: 1px solid var(--line) } h3 { margin: 2.2rem 0 .4rem; font-size: 1.05rem }
code, pre { font: 13.5px/1.45 ui-monospace, monospace } pre { background: var(--code); padding: .7rem .9rem; overflow-x: auto; border-radius: 4px }
dl { display: grid; grid-template-columns: 6.5rem 1fr; gap: .25rem 1rem; margin: .6rem 0 } dt { color: var(--dim) } dd { margin: 0 }
nav ul { columns: 16rem; padding-left: 1.2rem } nav li { break-inside: avoid } .from { color: var(--dim); font-weight: normal; float: right; font-size: .85rem }
"""


class Html:
    def __init__(self, pages, headers):
        self.anchors = {}
        for page in pages:
            for item in page.items + page.structs:
                self.anchors.setdefault(item.page, page.name)
        self.values = {m[0].split(" ")[0]: i.page for h in headers for i in h.items if i.kind == "enum" for m in i.members if m[0]}

    def linked(self, text):
        """Escaped, with links at the names that are known."""
        def link(m):
            word = m.group(0)
            target = word if word in self.anchors else self.values.get(word)
            if target is None and "_" in word and "grapnel_" + word in self.anchors:
                target = "grapnel_" + word
            if target is None:
                return word
            return '<a href="#%s">%s</a>' % (self.anchors[target], word)
        return re.sub(r"\b[A-Za-z_]\w+\b", link, html.escape(text, quote=False))

    def text(self, text):
        parts = text.split("`")
        if len(parts) % 2 == 0:
            return self.linked(text)
        return "".join("<code>%s</code>" % html.escape(p) if i % 2 else self.linked(p) for i, p in enumerate(parts))

    def paragraphs(self, paragraphs):
        out, listing = [], False
        for kind, value in paragraphs:
            bullet = kind == "text" and value.startswith("- ")
            if listing != bullet:
                out.append("<ul>" if bullet else "</ul>")
                listing = bullet
            if bullet:
                out.append("<li>%s</li>" % self.text(value[2:]))
            elif kind == "code":
                out.append("<pre>%s</pre>" % self.linked("\n".join(value)))
            else:
                out.append("<p>%s</p>" % self.text(value))
        return out + (["</ul>"] if listing else [])

    def page(self, page):
        c = page.items[0].comment
        out = ['<h3 id="%s"><span class="from">%s</span>%s</h3>' %
               (page.name, page.header.name, ", ".join(html.escape(call_name(i)) for i in page.items))]
        if page.kind in ("struct", "enum"):
            out += ["<pre>%s</pre>" % self.linked("\n".join(layout(page.items[0])))]
            return out + self.paragraphs(c.paragraphs)
        out.append("<pre>%s</pre>" % "\n".join(self.linked("\n".join(broken(i.declaration + ";"))) for i in page.items))
        out += self.paragraphs(hook_paragraphs(page.question) if page.kind == "hook" else c.paragraphs)
        if page.structs:
            out.append("<pre>%s</pre>" % "\n\n".join(self.linked("\n".join(layout(s))) for s in page.structs))
        rows = [("<code>%s</code>" % html.escape(n), t) for n, t in c.params]
        rows += [(name, c.tags[tag]) for tag, name in (("return", "Returns"), ("threads", "Threads"), ("owner", "Memory"),
                                                       ("since", "Since"), ("spec", "Standard")) if tag in c.tags]
        out.append("<dl>%s</dl>" % "".join("<dt>%s</dt><dd>%s</dd>" % (n, self.text(t)) for n, t in rows))
        return out


SECTIONS = (("hook", "Hooks"), ("callback", "Callbacks"), ("function", "Functions"), ("struct", "Structs"), ("enum", "Enums"))


def write_html(path, pages, headers, version):
    h = Html(pages, headers)
    out = ["<!DOCTYPE html>", '<html lang="en"><head><meta charset="utf-8">',
           '<meta name="viewport" content="width=device-width, initial-scale=1">',
           "<title>Grapnel SDK reference</title>", "<style>%s</style></head><body>" % CSS,
           "<h1>Grapnel SDK%s: reference</h1>" % (" " + html.escape(version) if version else ""),
           "<p>Made of the comments in the headers. grapnel-sdk(7) is the overview, and each name has a manual of section 3.</p>"]
    shown = [(title, [p for p in pages if p.kind == kind]) for kind, title in SECTIONS]
    out.append("<nav>")
    for title, some in shown:
        names = [(i.page, call_name(i), p.name) for p in some for i in p.items]
        out.append("<h4>%s</h4><ul>" % title)
        out += ['<li><a href="#%s">%s</a></li>' % (anchor, html.escape(name)) for _, name, anchor in sorted(names)]
        out.append("</ul>")
    out.append("</nav>")
    out.append("<h2>What each header says first</h2>")
    for header in headers:
        out.append('<h3 id="%s">%s</h3>' % (header.name, header.name))
        out += h.paragraphs(header.intro.paragraphs)
    for title, some in shown:
        out.append("<h2>%s</h2>" % title)
        for page in some:
            out += h.page(page)
    out.append("</body></html>")
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(out) + "\n")
