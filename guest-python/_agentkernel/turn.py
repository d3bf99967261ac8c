"""Runs turns in the one namespace of the session."""

import ast
import asyncio
import builtins
import inspect
import json
import linecache
import os
import random
import sys
import types

from wit_world.exports import guest

from . import failures, streams, waiting

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_COROUTINE = inspect.CO_COROUTINE
_PLAIN = (str, int, float, bool, type(None))

main = types.ModuleType("__main__")
main.__builtins__ = builtins
_loop: "waiting.EventLoop | None" = None
_turns = 0
# Sources of turns without a file that tracebacks can still show.
_MAX_SOURCES = 256


def _configure(settings) -> None:
    """What a session fixes before its first turn."""
    if settings.environment:
        os.environ.update(settings.environment)
    if settings.line_buffered != streams._line_buffered:
        streams.install(settings.line_buffered)
    sys.path[:0] = settings.import_paths
    random.seed(int.from_bytes(os.urandom(32)))


def _remember(code: str, file: str) -> None:
    """Let tracebacks and inspect find the source."""
    linecache.cache[file] = (len(code), None, code.splitlines(True), file)


def _name(file: str) -> str:
    """A name of its own for each turn that has no file, so that a traceback shows the right source."""
    global _turns
    _turns += 1
    if _turns > _MAX_SOURCES:
        linecache.cache.pop(_numbered(file, _turns - _MAX_SOURCES), None)
    return _numbered(file, _turns)


def _numbered(file: str, number: int) -> str:
    return file if number == 1 else f"{file[:-1]}-{number}>"


def _evaluate(code, namespace):
    result = eval(code, namespace)
    if code.co_flags & _COROUTINE:
        return _run_to_end(result)
    return result


def _run_to_end(coroutine):
    """Drive a top-level await on the session's loop, which outlives the turn."""
    global _loop
    if _loop is None or _loop.is_closed():
        _loop = waiting.EventLoop()
    asyncio.set_event_loop(_loop)
    result, error = _loop.run_until_complete(_captured(coroutine))
    if error is not None:
        raise error
    return result


async def _captured(coroutine):
    """The coroutine's result or its error, so that the event loop does not show in a traceback."""
    waiting.main_task = asyncio.current_task()
    try:
        return await coroutine, None
    except Exception as error:
        return None, error


def _plain(value, depth: int) -> bool:
    """Whether JSON says all there is to say about a value."""
    if isinstance(value, _PLAIN):
        return not isinstance(value, float) or value - value == 0
    if depth == 0:
        return False
    if isinstance(value, (list, tuple)):
        return all(_plain(item, depth - 1) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item, depth - 1) for key, item in value.items())
    return False


def _json(value) -> str | None:
    if value is None:
        return "null"
    if type(value) is int and -(2**53) < value < 2**53:
        return repr(value)
    try:
        if not _plain(value, 100):
            return None
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "strict").decode()
    except (ValueError, TypeError, RecursionError, MemoryError, UnicodeError):
        return None


def _text(text: str) -> str:
    """Text that can cross to the host: no lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _exit_code(error: SystemExit) -> int:
    code = error.code
    if code is None:
        return 0
    if isinstance(code, int):
        return max(-(2**31), min(int(code), 2**31 - 1))
    print(code, file=sys.stderr)
    return 1


def _run(code: str, file: str, repl: bool):
    namespace = main.__dict__
    _remember(code, file)
    if "\n" not in code:
        # Most one-line turns are expressions; those need no tree.
        try:
            expression = compile(code, file, "eval", _AWAIT, True)
        except SyntaxError:
            pass
        else:
            return _completed(_evaluate(expression, namespace), repl)
    tree = compile(code, file, "exec", ast.PyCF_ONLY_AST | _AWAIT, True)
    last = None
    if tree.body and type(tree.body[-1]) is ast.Expr:
        last = ast.Expression(tree.body.pop().value)
    if tree.body:
        _evaluate(compile(tree, file, "exec", _AWAIT, True), namespace)
    if last is None:
        return guest.Outcome_Completed(None)
    return _completed(_evaluate(compile(last, file, "eval", _AWAIT, True), namespace), repl)


def _completed(value, repl: bool):
    if repl and value is not None:
        builtins._ = value
    return guest.Outcome_Completed(guest.Value(_text(repr(value)), _json(value)))


def run(turn) -> object:
    """Run one turn and say how it ended."""
    sys.modules["__main__"] = main
    namespace = main.__dict__
    namespace["__builtins__"] = builtins
    namespace["__name__"] = "__main__"
    file = turn.file
    try:
        if turn.settings is not None:
            _configure(turn.settings)
        else:
            streams.restore()
        if turn.argv:
            sys.argv = list(turn.argv)
        repl = turn.mode is guest.Mode.REPL
        if file.startswith("<"):
            file = _name(file)
        else:
            namespace["__file__"] = file
        try:
            return _run(turn.code, file, repl)
        except SystemExit as error:
            return guest.Outcome_Exited(_exit_code(error))
    except BaseException as error:
        return guest.Outcome_Raised(failures.describe(error))
    finally:
        streams.flush_all()
