"""Uncaught exceptions as the contract has them: without a frame of ours."""

import linecache
import os
import traceback

import wit_world
from wit_world.exports import guest

_MAX_FRAMES = 200
# Characters of a message and of a traceback; of a name or a source line.
_MAX_TEXT = 1 << 20
_MAX_FIELD = 4 << 10
_MAX_LINE = 2**32 - 1
# The last one is where `provided` says that its modules are.
_OURS = (os.path.dirname(__file__) + "/", os.path.dirname(wit_world.__file__) + "/", "/_agentkernel/provided/")
_MACHINERY = ("<frozen importlib", "<frozen runpy")
_module_of = type.__dict__["__module__"].__get__
_name_of = type.__dict__["__qualname__"].__get__


def is_ours(filename: str) -> bool:
    """Whether a frame is of the host's Python side or the import machinery."""
    return str.startswith(filename, _OURS) or str.startswith(filename, _MACHINERY)


def clean(text: str, limit: int = _MAX_FIELD) -> str:
    """Text that can cross to the host: a `str` itself, no subclass, without lone surrogates, not too long."""
    text = str.__str__(text)
    length = len(text)
    if length > limit:
        text = text[:limit]
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-8", "backslashreplace").decode()[:limit]
    if length > limit:
        return f"{text}[… {length - limit} more characters]"
    return text


def name(cls: type) -> str:
    """The name of a class as tracebacks show it."""
    module = _module_of(cls)
    qualified = str.__str__(_name_of(cls))
    if not issubclass(type(module), str) or str.__str__(module) in ("builtins", "__main__"):
        return clean(qualified)
    return clean(f"{str.__str__(module)}.{qualified}")


def _strip(error: BaseException, seen: set[int]) -> None:
    """Take our frames out of a traceback and those of its causes."""
    while error is not None and id(error) not in seen and len(seen) < 100:
        seen.add(id(error))
        head = error.__traceback__
        while head is not None and is_ours(head.tb_frame.f_code.co_filename):
            head = head.tb_next
        tail = head
        while tail is not None:
            following = tail.tb_next
            while following is not None and is_ours(following.tb_frame.f_code.co_filename):
                following = following.tb_next
            if following is not tail.tb_next:
                tail.tb_next = following
            tail = following
        error.__traceback__ = head
        if isinstance(error, BaseExceptionGroup):
            for member in error.exceptions:
                _strip(member, seen)
        if error.__cause__ is not None:
            _strip(error.__cause__, seen)
        error = error.__context__


def _message(error: BaseException) -> str:
    try:
        return clean(str(error), _MAX_TEXT)
    except BaseException:
        return "<exception str() failed>"


def _frames(head) -> list:
    chosen = list(traceback.walk_tb(head))
    if len(chosen) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        chosen = chosen[:half] + chosen[-half:]
    return [
        guest.Frame(
            clean(frame.f_code.co_filename), max(0, min(line or 0, _MAX_LINE)), clean(frame.f_code.co_name),
            _source(frame, line),
        )
        for frame, line in chosen
    ]


def _source(frame, line: int) -> str | None:
    try:
        file = str.__str__(frame.f_code.co_filename)
        linecache.checkcache(file)
        return clean(linecache.getline(file, line, frame.f_globals).strip()) or None
    except BaseException:
        # Not known, or the program has put something else where sources are kept.
        return None


def describe(error: BaseException):
    """An uncaught exception for the host. Never raises, whatever the program has made."""
    kind, message = "BaseException", ""
    try:
        kind = name(type(error))
        message = _message(error)
    except BaseException:
        pass
    text = f"{kind}: {message}\n" if message else f"{kind}\n"
    frames = []
    try:
        _strip(error, set())
        frames = _frames(error.__traceback__)
    except BaseException:
        pass
    try:
        text = clean("".join(traceback.format_exception(error)), _MAX_TEXT)
    except BaseException:
        pass
    return guest.Exception(kind, message, text, frames)


def install() -> None:
    """Leave our frames out of the tracebacks that the program itself prints, too."""
    walk = traceback._walk_tb_with_full_positions

    def _walk_tb_with_full_positions(tb):
        for frame, positions in walk(tb):
            if not str.startswith(frame.f_code.co_filename, _OURS):
                yield frame, positions

    traceback._walk_tb_with_full_positions = _walk_tb_with_full_positions
