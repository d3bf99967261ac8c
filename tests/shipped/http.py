"""The tool `http`: what it refuses and, with a server, what it does.

`AGENTKERNEL_TEST_SERVER` in the environment is the address of a server on loopback (`http://127.0.0.1:PORT`), which the
tool is granted for all methods, with the workspace for writing.
"""

import json
import os
import time

import tools
from tools.http import Error, download, fetch, get_text

server = os.environ["AGENTKERNEL_TEST_SERVER"]


def fails(call, *words, kind=Error):
    try:
        result = call()
    except kind as error:
        text = str(error)
        for word in words:
            assert word in text, (word, text[:500])
        return text
    raise AssertionError(f"no error, but {str(result)[:200]}")


def echo(*arguments, **named):
    return json.loads(fetch(server + "/echo", *arguments, **named).body)


def with_server():
    # Requests as they arrive.
    seen = echo()
    assert seen["method"] == "GET" and seen["headers"]["accept"] == "*/*" and seen["headers"]["user-agent"].startswith("agentkernel")
    seen = echo("post", [("content-type", "text/plain"), ("X-Own", "a"), ("x-own", "b")], b"\0\xff" * 100_000)
    assert seen["method"] == "POST" and seen["length"] == 200_000 and seen["own"] == ["a", "b"]
    for method in ("PUT", "PATCH", "DELETE", "OPTIONS"):
        assert echo(method)["method"] == method
    assert json.loads(get_text(server + "/echo?q=a b&é=1#top"))["path"] == "/echo?q=a%20b&%C3%A9=1"

    # Responses.
    answer = fetch(server + "/status/404")
    assert answer.status == 404 and answer.url == server + "/status/404" and answer.body == b"not here"
    assert dict(answer.headers)["content-type"] == "text/plain"
    assert fetch(server + "/bytes/100000", "HEAD").body == b""
    assert fetch(server + "/bytes/99999999", "HEAD").status == 200
    assert fetch(server + "/bytes/3000000").body == b"x" * 3_000_000
    assert fetch(server + "/chunked").body == b"one two three"
    answer = fetch(server + "/gzip/100000")
    assert answer.body == b"x" * 100_000 and "content-encoding" not in dict(answer.headers)
    assert get_text(server + "/latin") == "café" and get_text(server + "/utf8") == "café"
    fails(lambda: get_text(server + "/status/500"), "status 500", "not here")

    # Redirects.
    answer = fetch(server + "/redirect/3")
    assert answer.status == 200 and answer.url == server + "/echo"
    assert fetch(server + "/to?relative").url == server + "/echo?moved"
    assert json.loads(fetch(server + "/see-other", "POST", None, b"x").body)["method"] == "GET"
    assert json.loads(fetch(server + "/keep", "POST", None, b"xyz").body)["length"] == 3
    fails(lambda: fetch(server + "/loop"), "more than 10 redirects")
    fails(lambda: fetch(server + "/redirect-to?javascript:alert(1)"), "begins with `https://`")

    # Limits.
    fails(lambda: fetch(server + "/bytes/1000", max_bytes=999), "more than 999 bytes", "max_bytes")
    fails(lambda: fetch(server + "/chunked", max_bytes=5), "more than 5 bytes")
    fails(lambda: fetch(server + "/gzip/10000000", max_bytes=1_000_000), "more than 1000000 bytes")
    fails(lambda: fetch(server + "/broken-gzip"), "gzip", "broken")
    fails(lambda: fetch(server + "/cut"), "broke off")
    start = time.monotonic()
    fails(lambda: fetch(server + "/slow", timeout_ms=300), "300 ms", "timeout_ms")
    fails(lambda: fetch(server + "/trickle", timeout_ms=300), "300 ms")
    assert time.monotonic() - start < 3

    # Files.
    before = os.listdir(".")
    assert download(server + "/bytes/3000000", "big.bin") == 3_000_000 == os.path.getsize("big.bin")
    fails(lambda: download(server + "/bytes/3000000", "big2.bin", max_bytes=10), "more than 10 bytes")
    fails(lambda: download(server + "/status/404", "no.bin"), "status 404")
    fails(lambda: download(server + "/bytes/1", "no/where.bin"), "no such file")
    fails(lambda: download(server + "/bytes/1", "../x"), "outside")
    fails(lambda: download(server + "/cut", "cut.bin"), "broke off")
    assert sorted(os.listdir(".")) == sorted([*before, "big.bin"]), os.listdir(".")
    fails(lambda: fetch(server + "/redirect-to?https://example.com/"), "does not allow", kind=tools.ToolDenied)


with_server()

# What is not granted.
fails(lambda: fetch("https://example.com/"), "does not allow", kind=tools.ToolDenied)
fails(lambda: fetch("http://127.0.0.1:1/"), "127.0.0.1:1", kind=tools.ToolError)
for url in ("", "example.com", "ftp://example.com/", "file:///etc/passwd", "http://user:pw@example.com/", "http://exämple.com/",
            "http://", "http:///x", "http://a b/"):
    fails(lambda: fetch(url), "cannot be fetched")
fails(lambda: fetch("http://a/", "GET", None, b"x"), "no body")
fails(lambda: fetch("http://a/", "GE T"), "not a method")
fails(lambda: fetch("http://a/", headers=[("a b", "c")]), "`a b`")
fails(lambda: fetch("http://a/", headers=[("a", "c\r\nd: e")]), "`a`")
fails(lambda: fetch("http://a/", headers=[("host", "example.com")]), "`host`")
