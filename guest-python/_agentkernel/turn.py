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
import tempfile
import types
from collections import OrderedDict

from wit_world.exports import guest

from . import ending, failures, files, provided, signals, streams, waiting

_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_COROUTINE = inspect.CO_COROUTINE
_default_hook = sys.excepthook
# Longer forms of a value are cut (its repr) or left out (its JSON).
_MAX_REPR = 1 << 20
_MAX_JSON = 4 << 20
_MAX_NODES = 200_000
_MAX_DEPTH = 100

for _number in range(8):
    # Combinations are made when first asked for: not in a turn.
    guest.Options(_number)

main = types.ModuleType("__main__")
main.__builtins__ = builtins
_loop: "waiting.EventLoop | None" = None
_turns = 0
# Sources of turns without a file that tracebacks can still show.
_MAX_SOURCES = 256


# What the last settings added.
_environment: dict[str, str] = {}
_import_paths: list[str] = []


def _configure(settings) -> None:
    """What a session fixes before its first turn, or before the first one in another instance."""
    waiting.begin()
    environment = dict(settings.environment)
    if environment != _environment:
        for name, value in _environment.items():
            if os.environ.get(name) == value:
                del os.environ[name]
        _environment.clear()
        _environment.update(environment)
        os.environ.update(environment)
    if settings.line_buffered != streams._line_buffered:
        streams.flush_all()
        streams.install(settings.line_buffered)
    if settings.import_paths != _import_paths:
        for path in _import_paths:
            if path in sys.path:
                sys.path.remove(path)
        _import_paths[:] = settings.import_paths
        sys.path[:0] = _import_paths
    provided.names.clear()
    provided.names.update(settings.modules)
    random.seed(int.from_bytes(os.urandom(32)))
    # It draws from a generator of its own.
    tempfile._name_sequence = None


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


async def _all(parts, namespace):
    """Where one part awaits, all of them run on the loop, as they would in one piece."""
    value = None
    for part in parts:
        value = eval(part, namespace)
        if part.co_flags & _COROUTINE:
            value = await value
    return value


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


class _Plain:
    """Copies values into objects of which JSON says all there is to say, and which run no code of the program."""

    def __init__(self) -> None:
        # What is shared is counted each time, as it would be written each time.
        self._nodes = _MAX_NODES
        self._characters = _MAX_JSON

    def copy(self, value, depth: int):
        """The copy; ValueError when there is none."""
        self._nodes -= 1
        if self._nodes < 0 or depth == 0:
            raise ValueError
        cls = type(value)
        if value is None or cls is bool:
            return value
        # Of a subclass the exact value counts, whatever it says of itself.
        if issubclass(cls, str):
            return self._copy_text(value)
        if issubclass(cls, int):
            number = int.__index__(value)
            if -(2**63) <= number < 2**64:
                return number
        elif issubclass(cls, float):
            number = float.__float__(value)
            if number - number == 0:
                return number
        elif issubclass(cls, list):
            return [self.copy(item, depth - 1) for item in list.__iter__(value)]
        elif issubclass(cls, tuple):
            return [self.copy(item, depth - 1) for item in tuple.__iter__(value)]
        elif issubclass(cls, dict):
            items = (OrderedDict if issubclass(cls, OrderedDict) else dict).items(value)
            made = {self._copy_key(key): self.copy(item, depth - 1) for key, item in items}
            if len(made) == len(items):
                return made
        raise ValueError

    def _copy_key(self, key) -> str:
        if not issubclass(type(key), str):
            raise ValueError
        return self._copy_text(key)

    def _copy_text(self, text) -> str:
        text = str.__str__(text)
        self._characters -= len(text)
        if self._characters < 0:
            raise ValueError
        return text


def _json(value) -> str | None:
    if value is None:
        return "null"
    if type(value) is int and -(2**53) < value < 2**53:
        return repr(value)
    try:
        form = json.dumps(_Plain().copy(value, _MAX_DEPTH), ensure_ascii=False)
        # Lone surrogates have no place in JSON.
        return form if len(form) <= _MAX_JSON and len(form.encode()) <= _MAX_JSON else None
    except (ValueError, TypeError, RecursionError, MemoryError, RuntimeError):
        return None


def _repr(value, interactive: bool) -> str:
    try:
        text = repr(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if interactive:
            raise
        text = f"<{failures.name(type(value))} object; its repr raised {failures.name(type(error))}>"
    return failures.clean(text, _MAX_REPR)


def _exit_code(error: SystemExit) -> int:
    code = error.code
    if code is None:
        return 0
    if issubclass(type(code), int):
        return max(-(2**31), min(int.__index__(code), 2**31 - 1))
    try:
        print(code, file=sys.stderr)
    except Exception:
        pass
    return 1


def _run(code: str, file: str, options):
    namespace = main.__dict__
    _remember(code, file)
    if guest.Options.VALUE not in options and guest.Options.INTERACTIVE not in options:
        _evaluate(compile(code, file, "exec", _AWAIT, True), namespace)
        return guest.Outcome_Completed(None)
    if "\n" not in code:
        # Most one-line turns are expressions; those need no tree.
        try:
            expression = compile(code, file, "eval", _AWAIT, True)
        except SyntaxError:
            pass
        else:
            return _completed(_evaluate(expression, namespace), options)
    tree = compile(code, file, "exec", ast.PyCF_ONLY_AST | _AWAIT, True)
    last = None
    if tree.body and type(tree.body[-1]) is ast.Expr:
        last = ast.Expression(tree.body.pop().value)
    parts = [compile(tree, file, "exec", _AWAIT, True)] if tree.body else []
    if last is not None:
        parts.append(compile(last, file, "eval", _AWAIT, True))
    if any(part.co_flags & _COROUTINE for part in parts):
        value = _run_to_end(_all(parts, namespace))
    else:
        value = None
        for part in parts:
            value = eval(part, namespace)
    return guest.Outcome_Completed(None) if last is None else _completed(value, options)


def _completed(value, options):
    interactive = guest.Options.INTERACTIVE in options
    said = None
    if guest.Options.VALUE in options:
        said = guest.Value(_repr(value, interactive), _json(value))
    if interactive and value is not None:
        builtins._ = value
    return guest.Outcome_Completed(said)


def _raised(error: BaseException, options):
    """The outcome of an uncaught exception, which the program's own hook may print in its way."""
    exception = failures.describe(error)
    hook = getattr(sys, "excepthook", _default_hook)
    if hook is _default_hook or guest.Options.INTERACTIVE in options or isinstance(error, KeyboardInterrupt):
        return guest.Outcome_Raised(exception)
    try:
        hook(type(error), error, error.__traceback__)
    except SystemExit as exit:
        return guest.Outcome_Exited(_exit_code(exit))
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        second.__context__ = None
        text = failures.describe(second).traceback
        print(f"Error in sys.excepthook:\n{text}\nOriginal exception was:", file=sys.stderr)
    else:
        exception.traceback = ""
    return guest.Outcome_Raised(exception)


def run(turn) -> object:
    """Run one turn and say how it ended."""
    try:
        return guarded(turn)
    except BaseException as error:
        # An interrupt that came before the program began or after it had ended.
        return guest.Outcome_Raised(failures.describe(error))
    finally:
        # It was for this turn, not for the next one.
        signals.early = False


def guarded(turn) -> object:
    """Run one turn; nothing a program does gets out of here but an interrupt."""
    sys.modules["__main__"] = main
    namespace = main.__dict__
    namespace["__builtins__"] = builtins
    namespace["__name__"] = "__main__"
    file = turn.file
    options = turn.options
    try:
        if turn.settings is not None:
            _configure(turn.settings)
        streams.restore()
        if signals.early:
            raise KeyboardInterrupt
        if turn.argv:
            sys.argv = list(turn.argv)
        if file.startswith("<"):
            file = _name(file)
        else:
            namespace["__file__"] = file
        return _run(turn.code, file, options)
    except SystemExit as error:
        return guest.Outcome_Exited(_exit_code(error))
    except BaseException as error:
        return _raised(error, options)
    finally:
        try:
            if guest.Options.LAST in options:
                ending.end(namespace)
        finally:
            if files.opened:
                # What was printed comes before what a file over descriptor 1 still holds.
                streams.flush_all()
                files.flush()
            streams.flush_all()
