"""The tool `html`: Markdown, selectors, text, links; broken and hostile pages."""

import time

from tools.html import Error, links, markdown, select, text


def fails(call, *words):
    try:
        result = call()
    except Error as error:
        for word in words:
            assert word in str(error), (word, str(error))
        return
    raise AssertionError(f"no error, but {str(result)[:200]}")


def quickly(call, seconds=10):
    start = time.monotonic()
    result = call()
    took = time.monotonic() - start
    assert took < seconds, took
    return result


page = """<!doctype html><html><head><title>x</title><style>p{}</style><base href="https://e.org/docs/"></head><body>
<nav><a href="/">Home</a> <a href="javascript:alert(1)">evil</a></nav>
<main id=m><h1>The <em>title</em> <a href="#t">#</a></h1>
<p class="intro first">Some <b> bold </b>text, <i>it<b>al</b>ic</i> snake_case *star* &amp; <code>a|b `x`</code>.<br>Next
   <a href="a b.html" title="T">link</a>.
<ul><li>one<li>two<ul><li>inner</ul><li>three</ul>
<ol start=3><li>A<pre><code class="language-py">def f():
    return 1 &lt; 2
</code></pre><li>B</ol>
<blockquote><p>quote<p>more</blockquote>
<table><caption>Cap</caption><thead><tr><th>A<th>B</tr></thead><tr><td>1|2<td>x<br>y<tr><td colspan=2>wide</table>
<img src=i.png alt="pic"><img src="data:image/png;base64,xx" alt="inline"><hr>
<a href="u"><h3>Card</h3><p>body</p></a>
<script>var a = "<p>no</p>";</script><p hidden>hid</p><p style="display: none">hid</p>
</main>"""

assert markdown(page, selector="main") == """# The *title* [#](https://e.org/docs/#t)

Some **bold** text, *it**al**ic* snake_case \\*star\\* & `` a|b `x` ``.  
Next [link](https://e.org/docs/a%20b.html "T").

- one
- two
  - inner
- three

3. A

   ```py
   def f():
       return 1 < 2
   ```

4. B

> quote
>
> more

Cap

| A | B |
| --- | --- |
| 1\\|2 | x y |
| wide |  |

![pic](https://e.org/docs/i.png)inline

---

### [Card](https://e.org/docs/u)

[body](https://e.org/docs/u)""", markdown(page, selector="main")
assert markdown(page).startswith("[Home](https://e.org/) evil\n\n# The")
assert markdown("<p>a <a href='x/../y?q#f'>b</a>", base="http://h/d/e") == "a [b](http://h/d/y?q#f)"
assert markdown("1. not a list<p># no title<p>- no item<p>&lt;b&gt;") == "1\\. not a list\n\n\\# no title\n\n\\- no item\n\n\\<b>"
assert markdown("<table><tr><td>only</table>") == "only" and markdown("") == "" and text("<br>") == ""

assert text("<p>a\n b<p>c<ul><li>d<li>e</ul><table><tr><td>1<td>2<tr><td>3<td>4</table>") == "a b\n\nc\n\n- d\n- e\n\n1\t2\n3\t4"
assert text("caf&eacute; &#x1F600; &notanentity; &lt;b&gt;") == "café 😀 ¬anentity; <b>"

element = select(page, "p.intro")[0]
assert element.tag == "p" and dict(element.attributes) == {"class": "intro first"} and "snake_case *star* &" in element.text
assert [e.text for e in select(page, "#m > ul > li:nth-child(odd)")] == ["one", "three"]
assert [dict(e.attributes)["href"] for e in select(page, "a[href^='a' i], a[href=u]")] == ["a b.html", "u"]
assert len(select(page, "li")) == 6 and len(select(page, "li", limit=2)) == 2
assert select(page, "li:has(ul)")[0].inner == "two<ul><li>inner</li></ul>"
assert select("<p a='&quot;<' >x &amp; y", "p")[0].outer == '<p a="&quot;<">x &amp; y</p>'
assert [l.url for l in links(page)] == ["https://e.org/", "https://e.org/docs/#t", "https://e.org/docs/a b.html", "https://e.org/docs/u"]
assert links("<a href=x><img alt=pic></a>")[0].text == "pic" and links("<a href=x>t</a>")[0].url == "x"
assert links("<a href='//c/d'>t</a>", base="https://a/b")[0].url == "https://c/d"

for selector, word in {"a >": "missing", "a:hover": ":hover", "[x": "`]` is missing", "": "missing", ":nth-child(q)": "2n+1"}.items():
    fails(lambda: select(page, selector), "wrong selector", word)
fails(lambda: links(page, base="docs/"), "absolute address")

# Broken pages still give what they hold.
assert text("<p>a<div>b</p>c") == "a\n\nb\n\nc" or "b" in text("<p>a<div>b</p>c")
assert text("<b><i>x</b>y</i>z<") == "xyz<" and text("<a href='x>never closed") == ""
assert text("</div></p></table>x<td>y") .replace("\n", " ") == "x y"
assert text("<!-- a --><![CDATA[ x ]]>b<?php echo ?>c<!doctype>") == "bc"
assert text("a\0b\ufffe<p\0>c") != ""
assert markdown("<ul><ul><li>a</ul>b") .split() == ["-", "a", "b"]
assert [e.text for e in select("<table><tr><td>1<td>2<tr><td>3", "td")] == ["1", "2", "3"]

# Hostile pages.
deep = 100_000
assert text(quickly(lambda: "<div>" * deep + "x" + "</div>" * deep)) == "x"
assert quickly(lambda: markdown("<div>" * deep + "x")) == "x"
assert quickly(lambda: select("<div>" * deep + "<p>x", "div div div > p"))[0].text == "x"
for tag in ["ul><li", "blockquote", "b", "table><tr><td", "a href=x", "pre", "h1", "svg", "select><option", "p"]:
    quickly(lambda: markdown(f"<{tag}>" * deep + "x"))
    quickly(lambda: text(f"<{tag}>x" * deep))
quickly(lambda: text("<table>" * 300 + "<tr><td>x" * 300))
quickly(lambda: markdown("<table><tr><td>" * 300 + "x"))
quickly(lambda: markdown("".join(f"<b id={i}><p>" for i in range(30_000))))
quickly(lambda: text("<p " + " ".join(f"a{i}=1" for i in range(100_000)) + ">x"))
quickly(lambda: text("</p>" * 300_000))
quickly(lambda: text("<" * 500_000))
quickly(lambda: text("&" * 500_000 + "&#99999999999999;" * 10_000))
quickly(lambda: text("<!--" * 100_000))
quickly(lambda: select("<i>" * 20_000, " ".join(["i"] * 60), limit=1))
quickly(lambda: select("<div>" * 250 + "<p></p>" * 2000, "x " + "div " * 60 + "p", limit=1))
quickly(lambda: select("<ul>" + "<li>a" * 50_000, "li:nth-last-of-type(3n+1):not(:has(b)) ~ li", limit=3))
quickly(lambda: markdown(f"<base href='http://h/{'x' * 100_000}'>" + "<a href=y>z</a>" * 20_000))
quickly(lambda: markdown("<table>" + "<tr>" + "<td colspan=1000>x" * 300 + "<tr><td>y" * 20_000))
fails(lambda: select("<div>" * 250 + "x" * 200_000, "*"), "32 MiB", "limit")
fails(lambda: select(page, "a " * 100), "more than 64 parts")
fails(lambda: select(page, ":not(" * 1000), "parentheses")
