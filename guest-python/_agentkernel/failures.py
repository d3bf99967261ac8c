"""Uncaught exceptions as the contract has them: without a frame of ours."""

import sys
import traceback

from wit_world.exports import guest

_MAX_FRAMES = 200
_MAX_TEXT = 1 << 20
_OURS = ("/_agentkernel/", "/wit_world/")
_MACHINERY = ("<frozen importlib", "<frozen runpy")


def is_ours(filename: str) -> bool:
    """Whether a frame is of the host's Python side or the import machinery."""
    return any(ours in filename for ours in _OURS) or filename.startswith(_MACHINERY)


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


def _kind(error: BaseException) -> str:
    cls = type(error)
    module = cls.__module__
    name = cls.__qualname__
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "<exception str() failed>"


def _frames(head) -> list:
    frames = traceback.StackSummary.extract(
        ((frame, line) for frame, line in traceback.walk_tb(head)), lookup_lines=False
    )
    chosen = list(frames)
    if len(chosen) > _MAX_FRAMES:
        half = _MAX_FRAMES // 2
        chosen = chosen[:half] + chosen[-half:]
    return [guest.Frame(f.filename, f.lineno or 0, f.name, f.line or None) for f in chosen]


def _clip(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}[… {len(text) - _MAX_TEXT} more characters]\n"
    return text


def describe(error: BaseException):
    """An uncaught exception for the host. Never raises, whatever the program has made."""
    try:
        kind = _clip(_kind(error))
        message = _clip(_message(error))
    except BaseException:
        kind, message = "BaseException", ""
    try:
        _strip(error, set())
        text = "".join(traceback.format_exception(error))
        return guest.Exception(kind, message, _clip(text), _frames(error.__traceback__))
    except BaseException:
        return guest.Exception(kind, message, f"{kind}: {message}\n" if message else f"{kind}\n", [])
