"""The tool `archive`: every format both ways, what others made, and what hostile archives try."""

import io
import os
import random
import shutil
import struct
import tarfile
import time
import zipfile

from tools.archive import Codec, Error, Kind, compress, create, decompress, entries, extract, read


def fails(call, *words):
    try:
        result = call()
    except Error as error:
        for word in words:
            assert word in str(error), (word, str(error))
        return str(error)
    raise AssertionError(f"no error, but {str(result)[:200]}")


def tree(top):
    found = {}
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found


def leftovers():
    return [os.path.join(d, n) for d, ds, fs in os.walk(".") for n in ds + fs if ".part" in n]


# What other programs made: GNU tar, zip, gzip, bzip2, xz, zstd.
expected = {
    "sample/hello.txt": b"hello\n",
    "sample/deep/über.txt": "größe\n".encode(),
    "sample/deep/long.txt": b"x" * 20000 + b"\n",
    "sample/" + "directory-with-a-long-name/" * 5 + "leaf.txt": b"leaf",
}
for name in ["gnu.tar", "pax.tar", "ustar.tar", "sample.tar.gz", "sample.tar.bz2", "sample.tar.xz", "sample.tar.zst", "sample.zip"]:
    path = "archives/" + name
    listed = {entry.name: entry for entry in entries(path)}
    assert expected.keys() <= listed.keys(), (name, listed.keys())
    for file, content in expected.items():
        assert listed[file].size == len(content) and listed[file].kind == Kind.FILE
        assert read(path, file) == content
        assert listed[file].modified > 1_600_000_000
    done = extract(path, into="out/" + name)
    assert tree("out/" + name) == expected, name
    assert sorted(done.files) == sorted(f"out/{name}/{file}" for file in expected) and done.bytes == sum(map(len, expected.values()))
    if "sample/link" in listed:
        assert listed["sample/link"].kind == Kind.LINK and done.skipped == ["sample/link"]
        fails(lambda: read(path, "sample/link"), "there is no file")
    assert not os.path.lexists(f"out/{name}/sample/link")
    some = extract(path, into="some", names=["sample/deep", "sample/hello.txt"])
    assert set(tree("some")) == {"sample/hello.txt", "sample/deep/über.txt", "sample/deep/long.txt"}
    shutil.rmtree("some")
    fails(lambda: extract(path, into="some", names=["sample/nope"]), "there is no `sample/nope`")
    assert not os.path.exists("some")
    fails(lambda: entries(path, max_entries=3), "more than 3 entries", "max_entries")

# What is made comes back, and others can read it.
random.seed(3)
os.makedirs("in/sub/empty")
files = {"a.txt": b"text " * 1000, "sub/ü.bin": random.randbytes(100_000), "sub/empty.txt": b"", "n" * 120: b"long name"}
for name, content in files.items():
    with open("in/" + name, "wb") as file:
        file.write(content)
os.symlink("a.txt", "in/link")
for end in ["zip", "tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "tar.zst"]:
    made = create("made." + end, ["in"])
    assert made.entries == 7 and made.bytes == os.path.getsize("made." + end) and made.skipped == ["in/link"], made
    done = extract("made." + end)
    assert tree("made") == {"in/" + name: content for name, content in files.items()} and os.path.isdir("made/in/sub/empty")
    shutil.rmtree("made")
    if end == "zip":
        with zipfile.ZipFile("made.zip") as other:
            assert "in/sub/ü.bin" in other.namelist() and other.infolist()[0].date_time[0] > 2020
            try:
                assert other.testzip() is None
            except (RuntimeError, NotImplementedError):
                pass  # no zlib in this Python
    if end == "tar":
        with tarfile.open("made.tar") as other:
            assert {m.name: other.extractfile(m).read() for m in other if m.isfile()} == {"in/" + n: c for n, c in files.items()}
create("based.zip", ["in/sub", "in/a.txt"], base="in")
assert {e.name for e in entries("based.zip")} == {"sub/", "sub/empty/", "sub/empty.txt", "sub/ü.bin", "a.txt"}
create("all.tar.gz", ["in/."])
assert "a.txt" in {e.name for e in entries("all.tar.gz")}
create("in/self.tar", ["in"])
assert "in/self.tar" not in {e.name for e in entries("in/self.tar")}
os.remove("in/self.tar")
fails(lambda: create("x.rar", ["in"]), ".tar.zst")
fails(lambda: create("x.zip", []), "empty")
fails(lambda: create("x.zip", ["nope"]), "no such file")
fails(lambda: create("x.zip", ["/etc"]), "lies outside")
fails(lambda: create("/x.zip", ["in"]), "lies outside")
fails(lambda: create("x.zip", ["in/a.txt", "out/../in/a.txt"]), "twice")
fails(lambda: create("x.zip", ["in"], base="out"), "does not lie in `base`")
assert not os.path.exists("x.zip") and leftovers() == []

# Files that are in the way.
extract("based.zip", into="there")
message = fails(lambda: extract("based.zip", into="there"), "is there already", "overwrite=True", "nothing was extracted")
with open("there/a.txt", "w") as file:
    file.write("changed")
with open("there/own.txt", "w") as file:
    file.write("mine")
extract("based.zip", into="there", overwrite=True)
assert open("there/a.txt", "rb").read() == files["a.txt"] and open("there/own.txt").read() == "mine"
shutil.rmtree("there")
os.makedirs("there/a.txt")
fails(lambda: extract("based.zip", into="there", overwrite=True), "`there/a.txt` is there already")
assert os.listdir("there") == ["a.txt"], os.listdir("there")
with open("plain", "w") as file:
    file.write("x")
fails(lambda: extract("based.zip", into="plain"), "it is a file")
os.mkdir("real")
os.symlink("real", "linked")
with zipfile.ZipFile("through.zip", "w") as other:
    other.writestr("linked/x", "x")
fails(lambda: extract("through.zip", into="."), "is there already")
assert os.listdir("real") == []

# Paths that leave the directory, by zip and by tar.
for name in ["../evil", "a/../../evil", "/etc/evil", "/evil", "..", "a/..", "C:/evil", "C:\\evil", "..\\evil", "a\nb", "x" * 300, "a/" * 80 + "b"]:
    with zipfile.ZipFile("evil.zip", "w") as other:
        other.writestr("fine.txt", "fine")
        other.writestr(zipfile.ZipInfo(name), "evil")
    header = tarfile.TarInfo(name)
    header.size = 4
    with tarfile.open("evil.tar", "w", format=tarfile.GNU_FORMAT) as other:
        good = tarfile.TarInfo("fine.txt")
        good.size = 4
        other.addfile(good, io.BytesIO(b"fine"))
        other.addfile(header, io.BytesIO(b"evil"))
    for archive in ["evil.zip", "evil.tar"]:
        assert len(entries(archive)) == 2
        fails(lambda: extract(archive, into="evil"), "refused: the path of the entry")
        assert not os.path.exists("evil") and not os.path.exists("../evil")

# Links that lead out, and entries that follow them.
with tarfile.open("links.tar", "w") as other:
    for kind, target in [(tarfile.SYMTYPE, "/etc"), (tarfile.LNKTYPE, "/etc/passwd"), (tarfile.CHRTYPE, ""), (tarfile.FIFOTYPE, "")]:
        header = tarfile.TarInfo(f"l{kind.decode()}")
        header.type, header.linkname = kind, target
        other.addfile(header)
    header = tarfile.TarInfo("l2/passwd")
    header.size = 1
    other.addfile(header, io.BytesIO(b"x"))
done = extract("links.tar", into="links")
assert tree("links") == {"l2/passwd": b"x"} and sorted(done.skipped) == ["l1", "l2", "l3", "l6"] and not os.path.islink("links/l2")

# Twice the same, in one way or another.
for names in [["a", "a"], ["a", "./a"], ["a", "a/b"], ["a/b", "a"], ["d//x", "d/x"]]:
    with tarfile.open("twice.tar", "w") as other:
        for name in names:
            other.addfile(tarfile.TarInfo(name), io.BytesIO())
    fails(lambda: extract("twice.tar", into="twice"), "refused")
    assert not os.path.exists("twice") and leftovers() == []
buffer = io.BytesIO()
with zipfile.ZipFile(buffer, "w") as other:
    other.writestr("aa", "1")
    other.writestr("ab", "2")
with open("twice.zip", "wb") as file:
    file.write(buffer.getvalue().replace(b"ab", b"aa"))
fails(lambda: extract("twice.zip", into="twice"), "twice")

# Bombs.
fails(lambda: extract("archives/bomb.zip", into="bomb"), "200 times", "max_ratio")
fails(lambda: extract("archives/bomb.zip", into="bomb", max_ratio=10_000, max_bytes=1_000_000), "1000000 bytes", "max_bytes")
fails(lambda: read("archives/bomb.zip", "zeros", max_bytes=1000), "more than 1000 bytes")
assert extract("archives/bomb.zip", into="bomb", max_ratio=10_000).bytes == 20_000_000
shutil.rmtree("bomb")
for name in ["bomb.xz", "bomb.bz2"]:
    with open("archives/" + name, "rb") as file:
        bomb = file.read()
    fails(lambda: decompress(bomb), "more than 67108864 bytes", "max_bytes")
    fails(lambda: decompress(bomb, max_bytes=10), "more than 10 bytes")
with tarfile.open("many.tar", "w") as other:
    for index in range(10_001):
        other.addfile(tarfile.TarInfo(str(index)))
fails(lambda: entries("many.tar"), "more than 10000 entries", "max_entries")
fails(lambda: extract("many.tar", into="bomb", max_entries=100), "more than 100 entries", "max_entries")
with open("bomb.tar.gz", "wb") as file:
    header = tarfile.TarInfo("big")
    header.size = 50_000_000
    file.write(compress(header.tobuf() + bytes(50_000_000), Codec.GZIP))
fails(lambda: extract("bomb.tar.gz", into="bomb"), "200 times")
assert not os.path.exists("bomb") and leftovers() == []
# Two entries of a zip file that share their data.
with zipfile.ZipFile("overlap.zip", "w") as other:
    other.writestr("aa", "1" * 100)
    other.writestr("bb", "2" * 100)
with open("overlap.zip", "rb") as file:
    data = bytearray(file.read())
second = data.rindex(b"PK\x01\x02")
data[second + 42 : second + 46] = struct.pack("<I", 0)
with open("overlap.zip", "wb") as file:
    file.write(data)
fails(lambda: entries("overlap.zip"), "overlap")

# Damaged, cut off, changed by chance: an error, or what it holds; never a trap.
for name in ["sample.zip", "sample.tar.gz", "sample.tar.bz2", "sample.tar.xz", "sample.tar.zst", "pax.tar"]:
    with open("archives/" + name, "rb") as file:
        good = file.read()
    for length in [0, 1, 10, len(good) // 2]:
        with open("broken", "wb") as file:
            file.write(good[:length])
        fails(lambda: extract("broken", into="broke"))
    for _ in range(60):
        bad = bytearray(good)
        for _ in range(random.randrange(1, 4)):
            bad[random.randrange(len(bad))] = random.randrange(256)
        with open("broken", "wb") as file:
            file.write(bad)
        try:
            entries("broken")
            extract("broken", into="broke")
        except Error:
            pass
        shutil.rmtree("broke", ignore_errors=True)
    assert leftovers() == [], leftovers()
fails(lambda: entries("archives"), "it is a directory")
fails(lambda: entries("nope.zip"), "no such file or directory; the tool sees: /workspace")
fails(lambda: entries("/etc/passwd"), "lies outside")
fails(lambda: entries("in/a.txt"), "neither a zip nor a tar")
with open("single.gz", "wb") as file:
    file.write(compress(b"just one file", Codec.GZIP))
fails(lambda: entries("single.gz"), "use `decompress`")
fails(lambda: extract("based.zip", into="/outside"), "lies outside")
fails(lambda: read("based.zip", "nope"), "there is no file `nope`")

# Compression of bytes.
text = b"the same words again and again, " * 2000
for codec in Codec:
    for data in [b"", b"x", text, random.randbytes(70_000)]:
        packed = compress(data, codec)
        assert decompress(packed) == data and decompress(packed, codec) == data, codec
    assert len(compress(text, codec)) < len(text) / 20, (codec, len(compress(text, codec)))
    assert decompress(compress(b"one", codec) + compress(b"two", codec)) == b"onetwo", codec
    fails(lambda: decompress(compress(text, codec)[:-9]), "damaged")
    assert decompress(compress(text, codec), max_bytes=len(text)) == text
    fails(lambda: compress(b"", codec, level=0), "from 1")
assert len(compress(text, Codec.XZ, level=9)) <= len(compress(text, Codec.XZ, level=1))
fails(lambda: decompress(b"plain text"), "neither gzip")
fails(lambda: decompress(b"plain text", Codec.XZ), "no xz")
start = time.monotonic()
decompress(compress(random.randbytes(2_000_000), Codec.ZSTD))
assert time.monotonic() - start < 5
