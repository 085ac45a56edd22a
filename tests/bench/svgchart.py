# SPDX-License-Identifier: Apache-2.0
"""A line chart as SVG: logarithmic axes, readable on a light and on a dark page."""
import html
import math

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 76, 34, 44, 88
COLOURS = ("#3b82c4", "#d9822b", "#2f9e77", "#b0629f", "#8a7a2f")
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #333 }
.title { font-size: 15px; font-weight: 600 }
.note { font-size: 11px; fill: #777 }
.grid { stroke: #888; stroke-opacity: .25 }
.axis { stroke: #888; fill: none }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .note { fill: #999 } }
"""


def number(v):
    """1000 -> 10³ from there on, 0.25 -> 0.25"""
    if v >= 1000 and v == 10 ** round(math.log10(v)):
        return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] for d in str(round(math.log10(v))))
    return "{:,g}".format(v) if v < 1000 else "{:,.0f}".format(v)


def ticks(low, high):
    """1, 2, 5, 10, ... around what is to be seen."""
    out, decade = [], 10.0 ** math.floor(math.log10(low))
    while decade <= high * 10:
        out += [decade * m for m in (1, 2, 5)]
        decade *= 10
    first = max(i for i, t in enumerate(out) if t <= low * 1.0001)
    last = min(i for i, t in enumerate(out) if t >= high * 0.9999)
    return out[first:max(last, first + 1) + 1]


class Axis:
    """Logarithmic, but for values that do not span a decade or begin with zero: those stand evenly."""

    def __init__(self, values, start, end):
        self.start, self.end = start, end
        self.values = sorted(set(values))
        self.even = self.values[0] <= 0 or self.values[-1] / self.values[0] < 10
        self.marks = self.values if self.even else [t for t in ticks(self.values[0], self.values[-1])
                                                    if math.log10(t) % 1 < 1e-9 or math.log10(t) % 1 > 1 - 1e-9]

    def at(self, v):
        if self.even:
            part = self.values.index(v) / max(len(self.values) - 1, 1)
        else:
            low, high = math.log10(self.values[0]), math.log10(self.values[-1])
            part = (math.log10(v) - low) / (high - low)
        return self.start + part * (self.end - self.start)


def chart(title, x_label, y_label, series, note=""):
    """series: (name, [(x, y), ...]) each. @return the document."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    xs = Axis([x for _, points in series for x, _ in points], LEFT, right)
    y_values = [y for _, points in series for _, y in points]
    marks = ticks(min(y_values), max(y_values))
    low, high = math.log10(marks[0]), math.log10(marks[-1])

    def at_y(v):
        return bottom - (math.log10(v) - low) / (high - low) * (bottom - TOP)

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img">' % (WIDTH, HEIGHT),
           "<title>%s</title>" % html.escape(title), "<style>\n%s</style>" % STYLE,
           '<text class="title" x="%d" y="22">%s</text>' % (LEFT, html.escape(title))]
    for v in marks:
        y = at_y(v)
        out.append('<path class="grid" d="M%d %.1fH%d"/>' % (LEFT, y, right))
        out.append('<text x="%d" y="%.1f" text-anchor="end">%s</text>' % (LEFT - 8, y + 4, number(v)))
    for v in xs.marks:
        x = xs.at(v)
        out.append('<path class="grid" d="M%.1f %dV%d"/>' % (x, TOP, bottom))
        out.append('<text x="%.1f" y="%d" text-anchor="middle">%s</text>' % (x, bottom + 18, number(v)))
    out.append('<path class="axis" d="M%d %dV%dH%d"/>' % (LEFT, TOP, bottom, right))
    out.append('<text x="%d" y="%d" text-anchor="middle">%s</text>' % ((LEFT + right) / 2, bottom + 38, html.escape(x_label)))
    out.append('<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">%s</text>'
               % ((TOP + bottom) / 2, html.escape(y_label)))
    x = LEFT
    for i, (name, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        path = "L".join("%.1f %.1f" % (xs.at(px), at_y(py)) for px, py in points)
        out.append('<path d="M%s" fill="none" stroke="%s" stroke-width="2"/>' % (path, colour))
        out += ['<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"><title>%s: %g</title></circle>'
                % (xs.at(px), at_y(py), colour, number(px), py) for px, py in points]
        out.append('<circle cx="%d" cy="%d" r="5" fill="%s"/>' % (x + 6, HEIGHT - 28, colour))
        out.append('<text x="%d" y="%d">%s</text>' % (x + 16, HEIGHT - 24, html.escape(name)))
        x += 36 + 7 * len(name)
    out.append('<text class="note" x="%d" y="%d">%s</text>' % (LEFT, HEIGHT - 6, html.escape(note)))
    return "\n".join(out + ["</svg>", ""])
