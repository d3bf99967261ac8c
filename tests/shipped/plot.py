"""The tool `plot`: charts of every kind, as files and bytes; what it refuses; numbers that break axes."""

import math
import os
import random
import struct
import time
import zlib
from xml.etree import ElementTree

import tools
from tools.plot import Chart, Error

nan, inf = math.nan, math.inf


def fails(call, *words):
    try:
        result = call()
    except Error as error:
        for word in words:
            assert word in str(error), (word, str(error))
        return
    raise AssertionError(f"no error, but {str(result)[:200]}")


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and png[-8:-4] == b"IEND"
    return struct.unpack(">II", png[16:24])


def texts(chart):
    return [node.text for node in ElementTree.fromstring(chart.svg()).iter("{http://www.w3.org/2000/svg}text")]


# A line chart has its words, and both forms.
chart = Chart("Growth & <decay>", "x axis", "y axis", 640, 400)
chart.line([0, 1, 2, 3], [1.5, nan, 3, 2], name="one", markers=True)
chart.line(range(4), [2, 2.5, 2, 1], name="two", color="#c0f", dashed=True, fill=True)
chart.scatter([0.5, 2.5], [2, 3], name="points", size=12)
words = texts(chart)
assert {"Growth & <decay>", "x axis", "y axis", "one", "two", "points"} <= set(words), words
assert size(chart.png()) == (1280, 800) and size(chart.png(1)) == (640, 400) and size(chart.png(scale=0.5)) == (320, 200)
assert "#cc00ff" in chart.svg()
chart.save("chart.png")
chart.save("/workspace/chart.SVG", scale=1)
assert size(open("chart.png", "rb").read()) == (1280, 800)
assert open("chart.SVG").read() == chart.svg()
assert not [name for name in os.listdir(".") if "part" in name]

# Bars, beside and upon each other, with negative values and lines.
chart = Chart("Bars")
chart.bar(["a", "b", "c"], [1, -2, nan], name="2023")
chart.bar(["a", "b", "c"], [3, 4, 5], name="2024")
chart.bar(["a", "b", "c"], [1, 1, 1], name="more", stacked=True)
chart.line([0, 1, 2], [1, 2, 3], name="trend")
assert {"a", "b", "c", "trend"} <= set(texts(chart)) and size(chart.png())
fails(lambda: chart.bar(["a", "b"], [1, 2]), "other labels")
fails(lambda: chart.bar(["a"], [1, 2]), "1 labels and 2 values")
fails(lambda: chart.pie(["a"], [1]), "combined with nothing")

chart = Chart("Histogram")
random.seed(1)
chart.histogram([random.gauss(0, 1) for _ in range(5000)] + [nan, inf])
chart.histogram([1.0] * 10, bins=20)
assert size(chart.png())
fails(lambda: chart.histogram([nan]), "no finite number")
fails(lambda: chart.histogram([1], bins=0), "from 1 to 500")
one = Chart()
one.histogram([3, 3, 3])
assert size(one.png())

pie = Chart("Pie")
pie.pie(["x", "y", "zero"], [1, 3, 0])
assert {"25.0 %", "75.0 %", "0.0 %"} <= set(texts(pie)) and size(pie.png())
fails(lambda: pie.line([1], [1]), "pie chart already")
fails(lambda: Chart().pie(["a"], [-1]), "negative")
fails(lambda: Chart().pie(["a"], [0]), "above zero")
fails(lambda: Chart().pie(["a"] * 31, [1] * 31), "takes 30")
whole = Chart()
whole.pie(["all"], [1e300])
assert "100.0 %" in texts(whole) and size(whole.png())

# Axes.
chart = Chart()
chart.line([1, 10, 100, 1000], [1e-3, 1, nan, 1e6])
chart.axes(x_log=True, y_log=True)
assert {"10", "100", "1,000"} <= set(texts(chart)), texts(chart)
chart.axes(x_min=0, x_max=50)
assert "50" in texts(chart) and "1,000" not in texts(chart)
fails(lambda: chart.axes(x_min=2, x_max=1), "has to be smaller")
fails(lambda: chart.axes(y_min=0, y_log=True), "above zero")
fails(lambda: chart.axes(x_min=nan), "finite")
fails(lambda: chart.axes(x_log=True, x_time=True), "exclude")
chart = Chart()
chart.line([1704067200 + 86400 * day for day in range(366)], range(366))
chart.axes(x_time=True)
assert "2024" in texts(chart) and "Mar" in texts(chart), texts(chart)
late = Chart()
late.line([1704067200000], [1])
late.axes(x_time=True)
fails(late.svg, "divide milliseconds by 1000")
minus = Chart()
minus.line([1, 2], [-1, -2])
minus.axes(y_log=True)
fails(minus.png, "above zero")

# Numbers that break axes.
for ys in [
    [nan, 1, inf, -inf], [0, 0], [5], [1e300, -1e300], [1e-300, 2e-300], [1e15, 1e15 + 1], [1e16, 1e16 + 2],
    [5e-324, 1], [0.1 + 0.2, 0.3], [-0.0, 0.0], [1, 1 + 1e-12],
]:
    for log in (False, True):
        for kind in ("line", "scatter", "bar", "histogram"):
            chart = Chart("t", "x", "y", 300, 200)
            if kind == "bar":
                chart.bar([str(i) for i in range(len(ys))], ys)
            elif kind == "histogram":
                chart.histogram(ys)
            else:
                getattr(chart, kind)(range(len(ys)), ys)
                getattr(chart, kind)(ys, range(len(ys)))
            chart.axes(y_log=log, x_log=log and kind in ("line", "scatter"))
            try:
                assert len(texts(chart)) < 100
                assert size(chart.png(1)) == (300, 200)
            except Error as error:
                assert "nothing to draw" in str(error) or "set both" in str(error), (ys, kind, log, str(error))
fails(lambda: Chart().line([1e301], [1]), "up to 1e300")
fails(lambda: Chart().line([1, 2], [1]), "`x` has 2 numbers and `y` has 1")
fails(lambda: Chart().line([], []), "empty")
empty = Chart()
fails(empty.png, "nothing to draw", "`bar`")
empty.line([nan], [nan])
fails(empty.svg, "nothing to draw")

# Odd requests.
chart = Chart("t" * 10_000, "\0\n\x1b[31m\ufffe", "𝄞 日本 " * 50, 10**6, 1)
chart.bar(["\u202e label that is far too long " * 20] * 300, range(300), name="n" * 1000)
assert ElementTree.fromstring(chart.svg()).get("width") == "4000" and size(chart.png(1)) == (4000, 200)
fails(lambda: Chart().line([1], [1], color="blurple"), "`blurple` is no colour")
fails(lambda: chart.png(9), "from 0.5 to 4")
fails(lambda: chart.png(nan), "from 0.5 to 4")
large = Chart(width=4000, height=4000)
large.line([1, 2], [1, 2])
fails(lambda: large.png(2), "16 million")
assert size(large.png(1)) == (4000, 4000)
fails(lambda: Chart().scatter([1], [1], size=0), "from 1 to 50")
many = Chart()
for index in range(200):
    many.line([0, 1], [index, -index], name=f"series {index}")
fails(lambda: many.line([1], [1]), "200 series")
assert size(many.png())
fails(lambda: Chart().bar(["x"] * 2001, [1] * 2001), "takes 2000")
try:
    Chart().line("ab", [1])
    raise AssertionError("no error")
except TypeError as error:
    assert "x" in str(error)

# Paths.
chart = Chart()
chart.line([1, 2], [1, 2])
fails(lambda: chart.save("chart.jpg"), ".png or .svg")
fails(lambda: chart.save("/etc/chart.png"), "lies outside", "/workspace")
fails(lambda: chart.save("missing/chart.png"), "no such file or directory")
os.mkdir("dir.png")
fails(lambda: chart.save("dir.png"), "it is a directory")

# Many points: quickly, and not as many shapes.
start = time.monotonic()
xs = [index / 1000 for index in range(300_000)]
chart = Chart()
chart.line(xs, [math.sin(x) + random.random() / 5 for x in xs])
chart.scatter(xs, [math.cos(x) for x in xs])
assert size(chart.png()) and len(chart.svg()) < 3_000_000
assert time.monotonic() - start < 15
fails(lambda: Chart().line([0.0] * 2_500_000, [0.0] * 2_500_000), "takes 4000000 numbers")

# A chart is closed like any resource.
with Chart() as chart:
    chart.line([1, 2], [1, 2])
try:
    chart.png()
    raise AssertionError("no error")
except tools.ToolClosed:
    pass
