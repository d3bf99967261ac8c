"""What the modules of tools share."""

import weakref as _weakref
from array import array as _Array
from struct import error as _struct_error

from agentkernel._calls import Failure as _Failure, start as _operation
from wit_world.imports import modules as _modules


class ToolError(Exception):
    """A call of a tool did not give a result; `payload` is what the tool says, if it is the tool's own error."""

    def __init__(self, payload=None):
        super().__init__(payload)
        self.payload = payload

    def __str__(self):
        return "the tool gave no reason" if self.payload is None else str(self.payload)


class ToolDenied(ToolError, PermissionError):
    """The tool, or this program, was refused something that was not granted."""


class ToolTimeout(ToolError, TimeoutError):
    """The tool ran into its time limit. Its next call finds a fresh instance."""


class ToolMemoryError(ToolError):
    """The tool ran into its memory limit. Its next call finds a fresh instance."""


class ToolTrapped(ToolError):
    """The tool failed in itself. Its next call finds a fresh instance."""


class ToolClosed(ToolError, ValueError):
    """A resource was used that is closed, or that went with the instance of its tool."""


# Programs know them by this name.
for _class in (ToolError, ToolDenied, ToolTimeout, ToolMemoryError, ToolTrapped, ToolClosed):
    _class.__module__ = "tools"

_KINDS = {
    "denied": ToolDenied,
    "refused": ToolDenied,
    "timeout": ToolTimeout,
    "memory": ToolMemoryError,
    "trap": ToolTrapped,
    "closed": ToolClosed,
    "arguments": TypeError,
    "unknown": LookupError,
}

_BY_NAME = 0xFFFFFFFF


def call_json(name, arguments):
    """Call the function `name` below `tools` with JSON, an array or an object; gives what it returns as JSON."""
    import importlib
    import json

    module, _, function = name.rpartition(".")
    from tools import _index

    if name.partition(".")[0] in _index.PACKAGES:
        found = getattr(importlib.import_module(f"tools.{module}"), function)
        given = json.loads(arguments)
        result = found(**given) if isinstance(given, dict) else found(*given)
        return json.dumps(result)
    request = json.dumps({"function": name, "arguments": json.loads(arguments)})
    try:
        answer = json.loads(_modules.call(_BY_NAME, request.encode(), b""))
    except _Failure as raised:
        raise _failed(_failure(raised)) from None
    if "err" in answer:
        raise ToolError(answer["err"])
    return json.dumps(answer["ok"])


class _Case:
    """A case of a variant, or of `option` and `result` where Python has no form for them."""

    __slots__ = ("value",)
    __match_args__ = ("value",)

    def __init__(self, value=None):
        self.value = value

    def __eq__(self, other):
        return type(other) is type(self) and other.value == self.value

    def __hash__(self):
        return hash((type(self), self.value))

    def __repr__(self):
        return f"{type(self).__qualname__}({self.value!r})"

    def __class_getitem__(cls, item):
        return cls


class Some(_Case):
    """`some` of an option within an option."""


class Ok(_Case):
    """`ok` of a result that is an argument or part of a value."""


class Err(_Case):
    """`err` of a result that is an argument or part of a value."""


def _failure(raised):
    # It holds itself by the frame that raised it, and so would hold the arguments until garbage is collected.
    raised.with_traceback(None)
    return raised.value


def _failed(failure):
    kind = _KINDS.get(failure.kind)
    if kind is None:
        return ToolError(failure.message) if failure.kind != "limit" else RuntimeError(failure.message)
    return kind(failure.message)


# After these the instance of the tool is gone, and all of its resources with it.
_LOST = ("timeout", "memory", "trap", "denied")


def _caller(generation, _call=_modules.call):
    def call(function, head, tail):
        try:
            return _call(function, head, tail)
        except _Failure as raised:
            failure = _failure(raised)
        if failure.kind in _LOST:
            generation[0] += 1
        raise _failed(failure)

    return call


def _shared(module):
    """What the coroutines of a tool use of its module: all but other modules of the tool."""
    kept = {}
    for name, value in vars(module).items():
        if name[:2] != "__" and (name[0] == "_" or type(value) is not type(_weakref)):
            kept[name] = value
    return kept


def _starter(generation):
    async def start(function, head, tail):
        try:
            return await _operation(function, head, tail)
        except _Failure as raised:
            failure = _failure(raised)
        if failure.kind in _LOST:
            generation[0] += 1
        raise _failed(failure)

    return start


def _told(answer, error):
    """The error that a call ended in, with what the host refused the tool meanwhile."""
    if answer[0] == 1:
        return error
    cls = type(error)
    if "_refused" not in cls.__dict__:
        names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
        cls._refused = type(cls.__name__, (cls, ToolDenied), names)
    refused = cls._refused(error.payload)
    length = int.from_bytes(answer[-4:], "little")
    refused.add_note(answer[-4 - length:-4].decode())
    return refused


# What encoding raises when an argument is not a value of its type.
_WRONG = (TypeError, ValueError, OverflowError, AttributeError, KeyError, _struct_error)


def _bool(value):
    if value is True or value is False:
        return value
    raise TypeError


def _char(value):
    if type(value) is str:
        return ord(value)
    raise TypeError


def _some(value):
    if type(value) is Some:
        return value.value
    raise TypeError


def _result(value):
    if type(value) is Ok:
        return False, value.value
    if type(value) is Err:
        return True, value.value
    raise TypeError


def _exactly(value, length):
    if len(value) != length:
        raise ValueError
    return value


def _items(value):
    # Both would do, as something else than they are.
    if isinstance(value, (str, dict)):
        raise TypeError
    return value


def _give(value, cls, given):
    """The number of a resource that the tool is to own once the call is made."""
    number = _handle._lend(value, cls)
    for other in given:
        if other is value:
            raise ToolClosed(f"this {cls.__name__} is given twice")
    given.append(value)
    return number


def _dumps(value):
    import json

    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _loads(text):
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise ToolTrapped(f"the tool gave what is not JSON: {error}") from None


def _flags(value, cls):
    if type(value) is not cls:
        raise TypeError
    return value.value


_SIZES = {"b": 1, "B": 1, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8, "f": 4, "d": 8}
# Formats of buffers whose items are the same: those of this machine, little-endian.
_SAME = {"l": "i", "L": "I", "c": "B", "<b": "b", "<B": "B", "<h": "h", "<H": "H", "<i": "i", "<I": "I", "<q": "q",
         "<Q": "Q", "<f": "f", "<d": "d", "@d": "d", "@f": "f"}


def _numbers(value, code):
    """The bytes of a list of numbers: of a buffer as they are, of other sequences one by one."""
    if type(value) is bytes and code == "B":
        return value
    if isinstance(value, str):
        raise TypeError
    try:
        view = memoryview(value)
    except TypeError:
        return _Array(code, value).tobytes()
    if _SAME.get(view.format, view.format) == code:
        return view.tobytes()
    if isinstance(value, (bytes, bytearray)) and code in "bB":
        return bytes(value)
    return _Array(code, view.tolist()).tobytes()


def _array(code, data, start, end):
    numbers = _Array(code)
    numbers.frombytes(memoryview(data)[start:end])
    return numbers


def _submodules(package, names):
    """What a module does for an attribute that it does not have: it imports it, if it is a submodule."""

    def get(name):
        if name in names:
            import importlib

            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)

    return get


class _EmptyCase:
    """A case of a variant that carries nothing."""

    __slots__ = ()

    def __eq__(self, other):
        return type(other) is type(self)

    def __hash__(self):
        return hash(type(self))

    def __repr__(self):
        return f"{type(self).__qualname__}()"


def _variant(cls, *cases):
    """Give a variant its cases, as classes of their own; returns their positions."""
    positions = {}
    for name, carries, docs in cases:
        body = {
            "__slots__": (),
            "__doc__": docs,
            "__module__": cls.__module__,
            "__qualname__": f"{cls.__qualname__}.{name}",
        }
        case = type(name, (cls, _Case if carries else _EmptyCase), body)
        setattr(cls, name, case)
        positions[case] = len(positions)
    cls._cases = positions
    return positions


class _handle:
    """A resource of a tool. It is closed by `close()`, by the end of a `with` block, or when nothing uses it."""

    _drop = None
    _number = None
    _generation = [0]

    def _open(self, number):
        self._number = number
        self._born = self._generation[0]
        self._finalizer = _weakref.finalize(self, _close, self._drop, number, self._generation, self._born)

    @classmethod
    def _of(cls, number):
        self = cls.__new__(cls)
        self._open(number)
        return self

    def _lend(self, cls):
        if not isinstance(self, cls):
            raise TypeError
        if self._number is None:
            raise ToolClosed(f"this {cls.__name__} is closed")
        if self._born != self._generation[0]:
            self._renew(cls)
        return self._number

    def _renew(self, cls):
        raise ToolClosed(f"this {cls.__name__} went with the instance of its tool, which failed since")

    def _given(self):
        """The tool owns it now."""
        self._finalizer.detach()
        self._number = None

    def close(self):
        """Let the tool free it. Once is enough."""
        if self._number is not None:
            self._number = None
            self._finalizer()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        _handle.close(self)

    def __repr__(self):
        state = "closed" if self._number is None else f"number {self._number}"
        return f"<{type(self).__qualname__}, {state}>"

    def __reduce__(self):
        raise TypeError(f"a {type(self).__name__} is a resource of a tool and cannot be pickled")


def _close(function, number, generation, born):
    if generation[0] != born:
        # It went with its instance, and another resource may have its number.
        return
    try:
        _modules.call(function, number.to_bytes(4, "little"), b"")
    except _Failure as raised:
        if _failure(raised).kind in _LOST:
            generation[0] += 1


def _explain(error, described, arguments):
    """An exception that names the argument which is not a value of its type."""
    if isinstance(error, ToolClosed):
        return error
    from tools._arguments import explain

    found = explain(described, arguments)
    # Nothing is wrong that can be named: a value that changes while it is looked at.
    return error if found is None else found
