"""What a program holds of the host that cannot be laid into another instance."""

import asyncio

from . import failures, files, waiting

# More are only counted.
_MAX = 20
_MAX_TEXT = 200


def held() -> list[str]:
    """Open files with where they were opened, and tasks that wait for host calls."""
    try:
        return _held()
    except BaseException:
        # A program can put things of its own wherever this looks.
        return ["something that cannot be told"]


def _held() -> list[str]:
    found = []
    for reference, (file, line) in list(files.places.items()):
        stream = reference()
        if stream is not None and not _closed(stream):
            found.append(f"the file {_text(getattr(stream, 'name', '?'))}, opened at {_text(file)}:{line}")
    for loop in list(waiting.loops):
        if loop._pending:
            found += _tasks(loop)
    return found[:_MAX] + ([f"{len(found) - _MAX} more"] if len(found) > _MAX else [])


def _closed(stream) -> bool:
    try:
        return stream.closed
    except ValueError:
        # What lies below was taken away, and is not this stream's any more.
        return True


def _tasks(loop) -> list[str]:
    waits = [task for task in asyncio.all_tasks(loop) if not task.done()]
    names = [f"the task {_text(task.get_name())} ({_text(_coroutine(task))})" for task in waits]
    return names or ["a host call that nothing waits for"]


def _coroutine(task) -> str:
    return getattr(task.get_coro(), "__qualname__", "?")


def _text(value) -> str:
    try:
        text = str(value)
    except Exception:
        text = "?"
    return failures.clean(text, _MAX_TEXT)
