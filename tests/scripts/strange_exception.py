# exit: 1
# Everything about an exception may be strange: names, sources, lines, messages.
import linecache
import sys
import types

describe = sys.modules["_agentkernel.failures"].describe


class Text(str):
    def encode(self, *args):
        raise KeyError("encode")

    __len__ = __getitem__ = __str__ = __format__ = encode

    def startswith(self, *args):
        return True


def caught(code, name, line=None, message="m"):
    try:
        eval(code, {"message": message})
    except BaseException as error:
        trace = error.__traceback__.tb_next
        if line is not None:
            trace = types.TracebackType(None, trace.tb_frame, trace.tb_lasti, line)
        return error.with_traceback(trace)


def show(error):
    described = describe(error)
    for text in (described.kind, described.message, described.traceback):
        assert type(text) is str and text.encode() is not None
    print(described.kind[:80], described.message[:40], len(described.message), len(described.traceback))
    for frame in described.frames:
        for text in (frame.file, frame.function, frame.source or ""):
            assert type(text) is str and text.encode() is not None and len(text) < 4200
        assert 0 <= frame.line < 2**32
        print("  ", frame.file[:40], frame.line, frame.function[:40], (frame.source or "none")[:40])


plain = compile("1/0", "plain", "eval")
for file in ("\ud800", "long" * 5_000_000, Text("sub"), "/x/_agentkernel/mine.py", "/workspace/wit_world/mine.py"):
    show(caught(plain.replace(co_filename=file, co_name="f"), file))
show(caught(plain.replace(co_name="\udfff", co_qualname="\udfff"), "plain"))
for line in (-1, 0, -(2**31), 2**31 - 1):
    show(caught(plain, "plain", line))
for lines in (["\ud800 = 1\n"], ["x" * 2_000_000], [Text("sub")], [3], None):
    linecache.cache["odd"] = (1, None, lines, "odd")
    show(caught(plain.replace(co_filename="odd"), "odd"))
for message in ("\ud800", "m" * 3_000_000, Text("sub"), 10**6000):
    show(ValueError(message))
odd = type("Odd", (Exception,), {"__module__": Text("mod")})
odd.__qualname__ = Text("\ud800" * 3)
show(odd())
show(type("K", (Exception,), {"__module__": 3, "__str__": lambda self: Text("said")})())
show(type("K", (Exception,), {"__str__": lambda self: sys.exit()})())
show(ExceptionGroup("g" * 100, [ValueError("\udc00")] * 20))
raise ValueError("\ud800 at the end")
