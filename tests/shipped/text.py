"""The tool `text`: searching, replacing, files, diffs, tokens; what it refuses; hostile patterns and texts."""

import os
import random
import re
import time

from tools.text import Error, diff, estimate_tokens, patch, replace, search, search_files, split


def fails(call, *words):
    try:
        result = call()
    except Error as error:
        for word in words:
            assert word in str(error), (word, str(error))
        return str(error)
    raise AssertionError(f"no error, but {str(result)[:200]}")


def quickly(call, seconds=5):
    start = time.monotonic()
    result = call()
    took = time.monotonic() - start
    assert took < seconds, took
    return result


# Matches are where Python says they are.
text = "größe = 12\nÜber x=7; y = -3\n"
found = search(r"(?P<name>\w+) ?= ?(-?\d+)", text)
assert [(m.text, m.line, m.column) for m in found] == [("größe = 12", 1, 1), ("x=7", 2, 6), ("y = -3", 2, 11)]
for match in found:
    assert text[match.start : match.end] == match.text
assert found[1].groups == ["x", "7"] and dict(found[1].named) == {"name": "x"}
assert search("ÜBER", text, ignore_case=True)[0].line == 2
assert len(search("=", text, limit=2)) == 2 and search("q", text) == []
assert search("(a)|(b)", "b")[0].groups == [None, "b"]
assert [m.column for m in search("(?m)^", "a\nb")] == [1, 1]
assert [m.text for m in search(r"\p{Greek}+", "ab αβγ")] == ["αβγ"]

# The same as `re`, for random patterns of what both have.
random.seed(7)
for _ in range(300):
    pattern = "".join(random.choice(["a", "b", ".", "[ab]", "(a|b)", "é", r"\w", "a*", "b+", "c?"]) for _ in range(random.randrange(1, 5)))
    subject = "".join(random.choice("abcé\n") for _ in range(random.randrange(20)))
    expected = [(m.start(), m.end(), list(m.groups())) for m in re.finditer(pattern, subject)]
    actual = [(m.start, m.end, m.groups) for m in search(pattern, subject)]
    # Python matches an empty string right after a match, this engine does not.
    expected = [e for i, e in enumerate(expected) if not (e[0] == e[1] and i and expected[i - 1][1] == e[0])]
    assert actual == expected, (pattern, subject, actual, expected)

# Replacements are those of `re.sub`.
assert replace(r"(\w+)@(\w+)", r"\2 at \g<1>", "me@home, you@work") == "home at me, work at you"
assert replace("(?P<x>a)", r"<\g<x>>\n$1\\", "ba") == "b<a>\n$1\\"
assert replace("a", "b", "aaa", limit=2) == "bba" and replace("A", "", "banana", ignore_case=True) == "bnn"
assert replace(r"\bü", "Ü", "übel ü bü") == "Übel Ü bü"
assert split(r"[,;] ?", "a, b;c,d") == ["a", "b", "c", "d"] and split(",", "a,b,c", limit=1) == ["a", "b,c"]
fails(lambda: replace("(a)", r"\2", "a"), "group 2", "has 1")
fails(lambda: replace("a", r"\g<no>", "a"), "`no`")
fails(lambda: replace("a", r"\d", "a"), "unknown escape")

# Patterns that are wrong, or not linear.
fails(lambda: search("(", ""), "wrong pattern", "unclosed group")
fails(lambda: search("(?<=a)b", ""), "look-around", "into a group")
fails(lambda: search(r"(a)\1", ""), "backreferences", "compare")
fails(lambda: search(r"a\Z", ""), r"`\z`")
fails(lambda: search("(" * 5000, ""), "wrong pattern")
fails(lambda: search("((a{100}){100}){100}", ""), "smaller repetitions")

# What takes other engines longer than the age of the universe.
long = "a" * 100_000
assert quickly(lambda: search("(a+)+$", long + "!")) == []
assert quickly(lambda: search("(a|aa)+b", long)) == []
assert quickly(lambda: search("(.*)(.*)(.*)(.*)=x", long)) == []
assert len(quickly(lambda: search("a?" * 30 + "a" * 30, "a" * 30))) == 1
assert len(quickly(lambda: search("", "é" * 50_000))) == 50_001
assert quickly(lambda: replace("a", "ab", long)) == "ab" * 100_000

# Files.
os.makedirs("src/deep", exist_ok=True)
os.makedirs("src/.hidden", exist_ok=True)
for name, content in {
    "src/a.py": "import os\n# TODO: größer\nx = 1  # todo\n",
    "src/deep/b.md": "no\r\nTODO later\r\n",
    "src/deep/c.txt": "y" * 3000 + " TODO here " + "z" * 3000,
    "src/.hidden/d.py": "TODO",
}.items():
    with open(name, "w", newline="") as file:
        file.write(content)
with open("src/e.bin", "wb") as file:
    file.write(b"TODO\0\xff")
with open("src/latin.txt", "wb") as file:
    file.write(b"TODO caf\xe9\n")
os.symlink("a.py", "src/link.py")
found = search_files("TODO:?", "src")
assert [(hit.path, hit.line, hit.column, hit.text) for hit in found.hits] == [
    ("src/a.py", 2, 3, "TODO:"),
    ("src/deep/b.md", 2, 1, "TODO"),
    ("src/deep/c.txt", 1, 3002, "TODO"),
    ("src/latin.txt", 1, 1, "TODO"),
], found
assert found.files == 4 and found.skipped == ["src/e.bin: binary"] and not found.truncated
assert found.hits[1].context == "TODO later" and len(found.hits[2].context) == 400 and "TODO" in found.hits[2].context
assert open(found.hits[0].path).read().splitlines()[1] == found.hits[0].context
assert {hit.path for hit in search_files("TODO", glob="*.{md,txt}").hits} == {"src/deep/b.md", "src/deep/c.txt", "src/latin.txt"}
assert {hit.path for hit in search_files("TODO", "src", glob="deep/**/*.md").hits} == {"src/deep/b.md"}
assert [hit.groups for hit in search_files(r"^(\w+) = (\d)", "src").hits] == [["x", "1"]]
assert search_files("(?i)todo", "src/a.py", limit=1).truncated and len(search_files("todo", "src/a.py", ignore_case=True).hits) == 2
assert len(search_files("TODO", "/workspace/src/.hidden/d.py").hits) == 1
fails(lambda: search_files("a", "/etc/passwd"), "/etc/passwd", "lies outside", "/workspace")
fails(lambda: search_files("a", "../../etc"), "lies outside")
fails(lambda: search_files("a", "nowhere"), "cannot search `nowhere`: no such file or directory; the tool sees: /workspace")
fails(lambda: search_files("a", glob="[a"), "wrong glob")
fails(lambda: search_files("a", "a\0b"), "is not a path")

# Diffs and patches.
old = "".join(f"line {i}\n" for i in range(40))
new = old.replace("line 5\n", "line five\n").replace("line 30\n", "").replace("line 39\n", "line 39")
change = diff(old, new, name="x.txt")
assert change.startswith("--- a/x.txt\n+++ b/x.txt\n@@ -3,7 +3,7 @@\n line 2\n") and change.count("@@") == 6 // 1, change
assert "\\ No newline at end of file" in change and diff(old, old) == ""
assert patch(old, change) == new and patch("first\n" + old, change) == "first\n" + new
assert diff("a\n", "b\n", context=0) == "--- a/text\n+++ b/text\n@@ -1 +1 @@\n-a\n+b\n"
assert patch(old, "@@\n line 7\n-line 8\n+LINE 8\n") == old.replace("line 8\n", "LINE 8\n")
message = fails(lambda: patch(new, change), "hunk 1", "expects `line 5`", "`line five`", "nothing was changed")
fails(lambda: patch(old, "rubbish"), "no unified diff")
random.seed(1)
for _ in range(200):
    one, other = ("".join(random.choice(["a\n", "b\n", "\n", "ü\r\n"]) for _ in range(random.randrange(12))) for _ in "12")
    assert patch(one, diff(one, other, context=random.randrange(4))) == other
lines = [f"{random.random()}\n" for _ in range(60_000)]
shuffled = lines[:]
random.shuffle(shuffled)
change = quickly(lambda: diff("".join(lines), "".join(shuffled)), 15)
assert patch("".join(lines), change) == "".join(shuffled)

# Tokens.
assert estimate_tokens("") == 0 and estimate_tokens("The quick brown fox jumps over the lazy dog.") == 10
assert 65 <= estimate_tokens("Größenordnungsmäßig überlegen. " * 10) <= 75
assert quickly(lambda: estimate_tokens("a" * 1_000_000), 10) > 10_000
assert quickly(lambda: estimate_tokens("\n" * 500_000 + " " * 500_000), 10) > 1000
