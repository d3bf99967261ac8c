"""Resources of tools that are made anew where their instance is gone.

A resource keeps the call that made it, in the memory of the program: so that is in forks and images as well. The host
takes a call only for the instance that the program means, and names the one there is otherwise.
"""

import functools as _functools
import weakref as _weakref

from tools._runtime import ToolClosed, _Failure, _failed, _failure, _handle, _modules, _operation

# What is kept of a resource at most, with those that it was made of: calls, and bytes of arguments.
_CALLS = 32
_BYTES = 1 << 20

# An instance that is met may be gone again by the next call; a tool that always fails is not asked for ever.
_TIMES = 4


class _Elsewhere(Exception):
    """The host made no call, as the instance there is not the one that was meant."""


def callers(mark):
    """Functions that call the instance whose mark is in `mark`, at once and as a coroutine."""

    def error(failure):
        if failure.kind != "instance":
            return _failed(failure)
        mark[0] = bytes.fromhex(failure.message)
        return _Elsewhere()

    def call(function, head, tail, _call=_modules.call):
        try:
            return _call(function, mark[0] + head, tail)
        except _Failure as raised:
            failure = _failure(raised)
        raise error(failure)

    async def start(function, head, tail):
        try:
            return await _operation(function, mark[0] + head, tail)
        except _Failure as raised:
            failure = _failure(raised)
        raise error(failure)

    return call, start


def again(function):
    """A function that meets the instance there is, and passes it resources that it has."""

    @_functools.wraps(function)
    def called(*arguments, **named):
        for _ in range(_TIMES):
            try:
                return function(*arguments, **named)
            except _Elsewhere:
                pass
        raise _lost()

    return called


def again_async(function):
    """The same of a coroutine function."""

    @_functools.wraps(function)
    async def called(*arguments, **named):
        for _ in range(_TIMES):
            try:
                return await function(*arguments, **named)
            except _Elsewhere:
                pass
        raise _lost()

    return called


def _lost():
    return ToolClosed("the instance of the tool failed each time while its resources were made anew")


class _Recipe:
    """A call that gives a resource; `given` are the recipes of the resources that come first in its arguments."""

    __slots__ = ("cls", "function", "read", "head", "tail", "given", "calls", "bytes")

    def __init__(self, cls, function, read, head, tail, given):
        self.cls = cls
        self.function = function
        self.read = read
        self.head = head[4 * len(given):]
        self.tail = tail
        self.given = given
        self.calls = 1 + sum(recipe.calls for recipe in given)
        self.bytes = len(self.head) + len(tail) + sum(recipe.bytes for recipe in given)

    def make(self):
        """A new resource; those that it is made of are closed again."""
        given = [recipe.make() for recipe in self.given]
        head = b"".join([resource._number.to_bytes(4, "little") for resource in given])
        made = object.__new__(self.cls)
        made._open(self.read(self.cls._call(self.function, head + self.head, self.tail)))
        return made


class resource(_handle):
    """A resource of a tool, made anew where its instance is gone. It is closed by `close()`, by the end of a `with` block, or when nothing
    uses it."""

    # Or why there is none.
    _recipe = "the call that gave it gave other things too, or took more than text, numbers and the like"

    def _open(self, number):
        self._number = number
        self._born = self._generation[0]
        self._finalizer = _weakref.finalize(self, _close, self._drop, number, self._generation, self._born)

    @classmethod
    def _made(cls, *call):
        self = object.__new__(cls)
        self._make(*call)
        return self

    def _make(self, answer, function, read, head, tail, *given):
        """Becomes what the call has given; `given` are the resources that come first in `head`."""
        self._open(read(answer))
        recipes = [resource._recipe for resource in given]
        for recipe in recipes:
            if type(recipe) is not _Recipe:
                self._recipe = recipe
                return
        recipe = _Recipe(type(self), function, read, head, tail, recipes)
        if recipe.calls > _CALLS:
            self._recipe = f"it took more than {_CALLS} calls to make it"
        elif recipe.bytes > _BYTES:
            self._recipe = f"it was made of more than {_BYTES} bytes"
        else:
            self._recipe = recipe

    def _renew(self, cls):
        if type(self._recipe) is not _Recipe:
            raise ToolClosed(
                f"this {cls.__name__} went with the instance of its tool, and cannot be made anew: {self._recipe}"
            )
        made = self._recipe.make()
        made._finalizer.detach()
        self._finalizer.detach()
        self._open(made._number)


def _close(function, number, mark, born):
    if mark[0] == born:
        try:
            _modules.call(function, born + number.to_bytes(4, "little"), b"")
        except _Failure:
            # The next call meets the instance that there is then.
            pass
