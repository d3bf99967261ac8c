# Files that are left open are flushed when a turn ends; the wrapper behaves as `open` does.
import builtins
import copy
import csv
import gzip
import inspect
import io
import pathlib
import sys
import tempfile
import traceback
import unittest.mock
import zipfile

guest = sys.modules["wit_world.exports.guest"]


def turn(code):
    """Run a turn within this one: the only way to see from inside what is left behind."""
    nothing = guest.Options(0)
    return sys.modules["_agentkernel.turn"].run(guest.Turn(code, "inner.py", [], nothing, None))


print(turn("a = open('a', 'w'); a.write('text'); b = open('b', 'wb'); b.write(b'bytes'); r = open('a')"))
print(open("a").read(), open("b").read())
turn("c = pathlib.Path('c').open('a'); csv.writer(c).writerow([1, 2]); d = io.open('a', 'r+'); d.write('TE')")
print(repr(open("c", newline="").read()), open("a").read())
turn("a.close(); b.detach(); t = tempfile.NamedTemporaryFile(); t.write(b'tmp'); n = t.name")
print(open(n).read())
turn("w = open('w', 'w', encoding='ascii')\ntry: w.write('ü')\nexcept UnicodeError: pass\nw.write('ok')")
print(open("w").read())
turn("one = open(1, 'w', closefd=False); one.write('to descriptor 1\\n'); print('printed')")
one.close()
with gzip.open("g.gz", "wt") as file:
    file.write("zipped")
with zipfile.ZipFile("z.zip", "w") as archive, archive.open("member", "w") as member:
    member.write(b"member")
print(gzip.open("g.gz", "rt").read(), zipfile.ZipFile("z.zip").read("member"))
print(builtins.open is io.open is open, inspect.signature(open), open.__module__, open.__doc__[:40])


class Holder:
    method = open


print(Holder().method("a").read())
with unittest.mock.patch("builtins.open", unittest.mock.mock_open(read_data="mocked")):
    print(open("anything").read())
for wrong in (("a", "q"), ("missing",), ("a", "rb", 0, "utf-8")):
    try:
        open(*wrong)
    except (ValueError, OSError):
        traceback.print_exc(file=sys.stdout)
tracked = sys.modules["_agentkernel.files"].opened
del a, b, c, d, t, w, one, file, archive, member
print(len(tracked))
