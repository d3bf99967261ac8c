"""Texts of any size that the host reads for the program."""

import operator as _operator
import re as _re
from itertools import islice as _islice
from struct import pack as _pack, unpack as _unpack, unpack_from as _unpack_from
from types import MappingProxyType as _MappingProxy

from agentkernel._calls import Failure as _Failure, call as _call

_FIRST = 0xFF00_0200
_CONTEXTS, _FILES, _LENGTH, _READ, _SLICE, _SEARCH, _COUNT, _FIND, _CHUNKS, _AROUND = range(_FIRST, _FIRST + 10)

# No number that a context has.
_NONE = 2**64 - 1
# Bytes of the longest text that is made into a str.
_TEXT_BYTES = 16 << 20
# Bytes that are asked for at once, by what reads all of a text and by what reads it line by line.
_PIECE_BYTES = 1 << 20
_LINES_BYTES = 256 << 10
# Characters after which a line without an end is given in pieces.
_LINE_CHARS = 4 << 20

_BY = ("line", "paragraph", "char", "byte")
_FLAGS = {_re.IGNORECASE: 1, _re.VERBOSE: 2}
_ERRORS = {"value": ValueError, "io": OSError, "denied": PermissionError}


def _ask(function, view, *numbers, text=""):
    head = _pack(f"<{3 + len(numbers)}Q", view._id, view._start, view._end, *numbers)
    try:
        return _call(function, head, text.encode())
    except _Failure as error:
        raise _ERRORS.get(error.value.kind, RuntimeError)(error.value.message) from None


def _json(data):
    import json

    return json.loads(data)


class Position(int):
    """A number of characters; called, as `re.Match.start` is, it gives itself."""

    __slots__ = ()

    def __call__(self):
        return self


class Match:
    """A match: `context[match.start:match.end] == match.text` in the context that was searched."""

    __slots__ = ("file", "line", "start", "end", "text", "_groups", "_line_text", "_line_at", "_search")

    def __init__(self, search, file, line, start, end, text, line_at, line_text, groups):
        self.file = file
        self.line = line
        self.start = Position(start)
        self.end = Position(end)
        self.text = text
        self._search = search
        self._line_at = line_at
        self._line_text = line_text
        self._groups = groups

    def _around(self, before, after):
        return _json(_ask(_AROUND, self._search._view, self._line_at, before, after))

    @property
    def line_text(self):
        """The whole line, without its end."""
        if self._line_text is None:
            self._line_text = self._around(0, 0)[1]
        return self._line_text

    @property
    def before(self):
        """The lines before it, as many as the search was asked for."""
        return self._around(self._search._before, 0)[0] if self._search._before else []

    @property
    def after(self):
        """The lines after it, as many as the search was asked for."""
        return self._around(0, self._search._after)[2] if self._search._after else []

    def span(self):
        """Its start and end."""
        return int(self.start), int(self.end)

    def group(self, *numbers):
        """The text of a group of the expression, or of several."""
        texts = [self.text, *self._groups]
        found = tuple(texts[number] for number in numbers or (0,))
        return found if len(found) > 1 else found[0]

    __getitem__ = group

    def groups(self, default=None):
        """The texts of all groups of the expression."""
        return tuple(default if group is None else group for group in self._groups)

    def __repr__(self):
        text = self.text if len(self.text) <= 80 else self.text[:77] + "..."
        return f"Match(file={self.file!r}, line={self.line}, start={self.start}, end={self.end}, text={text!r})"


# Matches that a search gives first.
_SOON = 32


class Matches:
    """The matches of a search, in order. Each `for` over them reads them anew; none is kept."""

    def __init__(self, view, pattern, flags, limit, before, after):
        self._view = view
        self._pattern = pattern
        self._flags = flags
        self._limit = _NONE if limit is None else _size(limit, "limit", 0)
        self._before = _size(before, "before", 0)
        self._after = _size(after, "after", 0)
        self._length = None
        # An expression that is wrong is one at once, and the first matches are there: few, so that they
        # are there soon.
        self._first = self._batch((0, 0, 0, 0), min(self._limit, _SOON))

    def _batch(self, place, limit):
        found, place = _json(_ask(_SEARCH, self._view, *place, limit, self._flags, text=self._pattern))
        return found, place

    def __iter__(self):
        names = None
        left = self._limit
        found, place = self._first
        while True:
            for file, *rest in found:
                if names is None:
                    names = self._view._names()
                yield Match(self, names[file], *rest)
            left -= len(found)
            if place is None or left <= 0:
                return
            found, place = self._batch(place, left)

    def __bool__(self):
        for _ in self:
            return True
        return False

    def __len__(self):
        if self._length is None:
            found, place = self._first
            if place is None or len(found) >= self._limit:
                self._length = len(found)
            else:
                # Plain text that is empty is counted across lines, as by str.count; an expression with a flag is not.
                flags = self._flags if self._pattern else _FLAGS[_re.VERBOSE]
                count = _unpack("<Q", _ask(_COUNT, self._view, flags, text=self._pattern))[0]
                self._length = min(count, self._limit)
        return self._length

    def __getitem__(self, key):
        if isinstance(key, slice):
            return list(_islice(self, *key.indices(len(self))))
        index = _operator.index(key)
        if index < 0:
            index += len(self)
        if index >= 0:
            for match in _islice(self, index, None):
                return match
        raise IndexError("there are not so many matches")

    def __repr__(self):
        found, place = self._first
        shown = list(_islice(self, 3))
        more = place is not None or len(found) > len(shown)
        return f"<matches of {self._pattern!r}: {', '.join(map(repr, shown)) or 'none'}{', ...' if more else ''}>"


def _size(value, name, least):
    value = _operator.index(value)
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    return min(value, _NONE - 1)


def _pattern(pattern, ignore_case=False):
    flags = 1 if ignore_case else 0
    if isinstance(pattern, _re.Pattern):
        if not isinstance(pattern.pattern, str):
            raise TypeError("a context is searched for text, not for bytes")
        for flag, bit in _FLAGS.items():
            flags |= bit if pattern.flags & flag else 0
        return pattern.pattern, flags
    if not isinstance(pattern, str):
        raise TypeError(f"the expression must be a str, not {type(pattern).__name__}")
    return pattern, flags


class Context:
    """A text of any size, which the host reads for the program: files, one after another.

    It is read as a `str` is: `len`, slices, `in`, `find`, `startswith`. A slice of more than 16 MiB is a
    context too. The methods that a `str` has beside work where it has no more than that.
    """

    __slots__ = ("_id", "_start", "_end", "_chars", "_views")

    def __init__(self, *_):
        raise TypeError("contexts are given by the host: `from agentkernel import context`")

    @classmethod
    def _of(cls, id, start, end):
        self = object.__new__(cls)
        self._id = id
        self._start = start
        self._end = end
        self._chars = self._views = None
        return self

    @staticmethod
    def names():
        """The names of the contexts that the program has."""
        return [name for name, _ in _contexts()]

    @classmethod
    def named(cls, name):
        """The context with this name."""
        for number, (other, size) in enumerate(_contexts()):
            if other == name:
                return cls._of(number, 0, size)
        raise LookupError(f"there is no context {name!r}; there are: {', '.join(map(repr, cls.names()))}")

    def _wire(self):
        """What says to the host which text this is."""
        return _pack("<3Q", self._id, self._start, self._end)

    def _part(self, start, end):
        return Context._of(self._id, self._start + start, self._start + end)

    @property
    def size(self):
        """Its bytes. They are known without reading it."""
        return self._end - self._start

    @property
    def length(self):
        """Its characters; unlike `len` also where there are more than 2,147,483,647."""
        if self._chars is None:
            self._chars = _unpack("<Q", _ask(_LENGTH, self))[0]
        return self._chars

    def __len__(self):
        if self.length > 0x7FFF_FFFF:
            raise OverflowError(f"len() cannot be {self.length:,} in this build of Python; use context.length")
        return self.length

    def __bool__(self):
        return self.size > 0

    def _listed(self):
        if self._views is None:
            listed, files = [], {}
            while more := _json(_ask(_FILES, self, len(listed))):
                for name, start, end in more:
                    listed.append(name)
                    files[name] = self._part(start, end)
            self._views = listed, _MappingProxy(files)
        return self._views

    def _names(self):
        return self._listed()[0]

    @property
    def files(self):
        """The files that it is of by their names, in order; each is a context."""
        return self._listed()[1]

    # Reading.

    def _pieces(self, most):
        at = 0
        while at < self.size:
            data = _ask(_READ, self, at, most)
            at, ends_file = _unpack_from("<2Q", data)
            text = str(memoryview(data)[16:], "utf-8")
            if not text:
                # The host has moved the ends to where characters begin.
                return
            yield text, ends_file

    def __str__(self):
        if self.size > _TEXT_BYTES:
            raise ValueError(
                f"a context of {self.size:,} bytes is too large for one str (the limit is {_TEXT_BYTES:,}); "
                "use a slice context[a:b], lines(), chunks(size) or search(regex)"
            )
        return "".join([text for text, _ in self._pieces(_PIECE_BYTES)])

    def __format__(self, spec):
        return format(str(self), spec)

    def __repr__(self):
        whole = self._id == 0 and self._start == 0
        return f"<context of {self.size:,} bytes{'' if whole else f' from byte {self._start:,}'}>"

    def _slice(self, start, end, most):
        """The bytes between two characters, which may be None, and the text if it has `most` bytes at most."""
        start = 0 if start is None else _operator.index(start)
        if start < 0:
            start = max(0, start + self.length)
        end = _NONE if end is None else _operator.index(end)
        if end < 0:
            end = max(0, end + self.length)
        data = _ask(_SLICE, self, min(start, _NONE), min(max(start, end), _NONE), most)
        start, end, given = _unpack_from("<3Q", data)
        return start, end, str(memoryview(data)[24:], "utf-8") if given else None

    def view(self, start=None, end=None):
        """The context between two characters, which is read when it is used."""
        start, end, _ = self._slice(start, end, 0)
        return self._part(start, end)

    def __getitem__(self, key):
        if not isinstance(key, slice):
            index = _operator.index(key)
            if index < 0:
                index += self.length
            text = self._slice(index, index + 1, 4)[2] if index >= 0 else ""
            if not text:
                raise IndexError("context index out of range")
            return text
        if key.step not in (None, 1):
            return str(self)[key]
        start, end, text = self._slice(key.start, key.stop, _PIECE_BYTES)
        if text is not None:
            return text
        part = self._part(start, end)
        return str(part) if part.size <= _TEXT_BYTES else part

    def __iter__(self):
        for text, _ in self._pieces(_LINES_BYTES):
            yield from text

    def lines(self, keepends=False):
        """Its lines, one after another. They end in "\\n" or "\\r\\n", and where files end."""
        rest = ""
        for text, ends_file in self._pieces(_LINES_BYTES):
            if rest:
                text = rest + text
            lines = text.split("\n")
            rest = lines.pop()
            if keepends:
                for line in lines:
                    yield line + "\n"
            elif "\r" in text:
                for line in lines:
                    yield line.removesuffix("\r")
            else:
                yield from lines
            if rest and ends_file or len(rest) > _LINE_CHARS:
                yield rest
                rest = ""

    def chunks(self, size, overlap=0, by="line", *, lazy=False):
        """Its text in pieces of at most `size` characters (with `by="byte"` bytes), one after another.

        They are cut after a line, a paragraph or any character; where one is longer, within it. The next
        begins up to `overlap` characters before the end of the one before. With `lazy` they are contexts
        instead of `str`.
        """
        if by not in _BY:
            raise ValueError(f"by must be one of {', '.join(map(repr, _BY))}, not {by!r}")
        size = _size(size, "size", 1)
        overlap = _size(overlap, "overlap", 0)
        if overlap >= size:
            raise ValueError("the overlap must be smaller than the size")
        return self._chunks(size, overlap, _BY.index(by), lazy)

    def _chunks(self, size, overlap, by, lazy):
        at = end = 0
        while at != _NONE:
            data = _ask(_CHUNKS, self, at, by, size, overlap, end)
            at, *ends = _unpack(f"<{len(data) // 8}Q", data)
            for start, end in zip(ends[::2], ends[1::2]):
                part = self._part(start, end)
                yield part if lazy else str(part)

    # Searching.

    def search(self, regex, *, ignore_case=False, limit=None, before=0, after=0):
        """The matches of a regular expression, line by line.

        `before` and `after` are how many lines around it a match knows.
        """
        return Matches(self, *_pattern(regex, ignore_case), limit, before, after)

    def findall(self, regex, *, ignore_case=False, limit=None):
        """The texts of all matches as `re.findall` gives them: those of groups, if there are groups."""
        texts = []
        for match in self.search(regex, ignore_case=ignore_case, limit=limit):
            groups = match.groups("")
            texts.append(match.text if not groups else groups[0] if len(groups) == 1 else groups)
        return texts

    def count(self, regex, start=None, end=None, *, ignore_case=False):
        """How many matches a regular expression has. Text without special characters may have line breaks."""
        pattern, flags = _pattern(regex, ignore_case)
        view, _ = self._window(start, end)
        if view is None:
            return 0
        return _unpack("<Q", _ask(_COUNT, view, flags, text=pattern))[0]

    def _window(self, start, end):
        """The context that `str` methods look at, and where it begins; none where a `str` has nothing, not even ""."""
        if start is None and end is None:
            return self, 0
        start = 0 if start is None else _operator.index(start)
        if start < 0:
            start = max(0, start + self.length)
        if end is not None and end < 0:
            end = max(0, end + self.length)
        if end is not None and end < start or start and start > self.length:
            return None, 0
        return self.view(start, end), start

    def _find(self, text, start, end, last):
        if not isinstance(text, str):
            raise TypeError(f"must be str, not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError:
            # No text that is read has lone surrogates.
            return -1
        view, offset = self._window(start, end)
        if view is None:
            return -1
        found = _unpack("<Q", _ask(_FIND, view, last, text=text))[0]
        return -1 if found == _NONE else offset + found

    def find(self, text, start=None, end=None):
        """Where `text` is first, or -1."""
        return self._find(text, start, end, False)

    def rfind(self, text, start=None, end=None):
        """Where `text` is last, or -1."""
        return self._find(text, start, end, True)

    def index(self, text, start=None, end=None):
        """Where `text` is first."""
        return self._found(self._find(text, start, end, False))

    def rindex(self, text, start=None, end=None):
        """Where `text` is last."""
        return self._found(self._find(text, start, end, True))

    @staticmethod
    def _found(position):
        if position < 0:
            raise ValueError("substring not found")
        return position

    def __contains__(self, text):
        return self._find(text, None, None, False) >= 0

    def startswith(self, prefix, start=None, end=None):
        """Whether it begins with a text, or with one of several."""
        view, _ = self._window(start, end)
        longest = max(map(len, prefix), default=0) if isinstance(prefix, tuple) else len(prefix)
        # A character has four bytes at most.
        return view is not None and str(view._part(0, min(view.size, 4 * longest))).startswith(prefix)

    def endswith(self, suffix, start=None, end=None):
        """Whether it ends with a text, or with one of several."""
        view, _ = self._window(start, end)
        longest = max(map(len, suffix), default=0) if isinstance(suffix, tuple) else len(suffix)
        return view is not None and str(view._part(max(0, view.size - 4 * longest), view.size)).endswith(suffix)

    # As a str.

    def __eq__(self, other):
        if isinstance(other, Context):
            return self._wire() == other._wire() or self.size == other.size and str(self) == str(other)
        if isinstance(other, str):
            # Each character has four bytes at most.
            return self.size <= 4 * len(other) and str(self) == other
        return NotImplemented

    def __hash__(self):
        return hash(str(self))

    def __add__(self, other):
        return str(self) + str(other) if isinstance(other, (str, Context)) else NotImplemented

    def __radd__(self, other):
        return other + str(self) if isinstance(other, str) else NotImplemented

    def __getattr__(self, name):
        if name.startswith("__") or not hasattr(str, name):
            raise AttributeError(f"a context has no attribute {name!r}", name=name, obj=self)
        if self.size > _TEXT_BYTES:
            raise AttributeError(
                f"a context of {self.size:,} bytes is too large for {name}(); use it on a slice context[a:b], "
                "or lines(), chunks(size), search(regex)"
            )
        return getattr(str(self), name)


for _class in Context, Match:
    _class.__module__ = "agentkernel"


def _contexts():
    try:
        return _json(_call(_CONTEXTS, b"", b""))
    except _Failure as error:
        raise _ERRORS.get(error.value.kind, RuntimeError)(error.value.message) from None


def __getattr__(name):
    # Without a context the classes can be imported all the same.
    if name == "context":
        _, size = _contexts()[0]
        return Context._of(0, 0, size)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
