"""Programs that run in the background, each in a session of its own, with what this program is granted.

    from agentkernel import task

    def count(path):
        return sum(1 for line in open(path))

    work = task.dispatch(count, "log.txt", name="count", timeout=30)
    work.result()

`task.input` is what a task was given, `task.progress(0.5, "half of it")` says how far it is.
"""

import builtins as _builtins
import json as _json

from agentkernel import _calls

_DISPATCH = 0xFF000400
_STATUS = 0xFF000401
_WAIT = 0xFF000402
_LIST = 0xFF000403
_LOG = 0xFF000404
_CANCEL = 0xFF000405
_PROGRESS = 0xFF000406
_ITSELF = 0xFF000407

__all__ = ["dispatch", "get", "list", "progress", "Task", "TaskError", "TaskFailed"]


class TaskError(Exception):
    """Something cannot be done with a task."""


class TaskFailed(TaskError):
    """A task did not succeed. `kind` says how ("raised", "timed-out", "cancelled", "dependency-failed", …),
    `exception` is the class of its exception, `traceback` its traceback, `task` the task."""

    def __init__(self, message, task=None, kind=None, exception=None, traceback=None):
        super().__init__(message)
        self.task = task
        self.kind = kind
        self.exception = exception
        self.traceback = traceback


class Status:
    """What is known of a task: `id`, `name`, `state` ("waiting", "ready", "running", "succeeded", "failed",
    "cancelled"), `stopping`, `priority`, `attempts`, `progress` (0 to 1 or None) and its `message`, `result`
    (the value, or its `repr` where it has no JSON form), `failure` (a dict or None), `after`, and the times
    `created`, `started`, `ended` and `due` in seconds since 1970."""

    def __init__(self, told):
        repr_ = told.pop("repr")
        if repr_ is not None:
            told["result"] = repr_
        self.__dict__.update(told)

    @property
    def is_ended(self):
        return self.state in ("succeeded", "failed", "cancelled")

    def __repr__(self):
        progress = "" if self.progress is None else f", progress={self.progress:g}"
        return f"Status(id={self.id!r}, name={self.name!r}, state={self.state!r}{progress})"


class Task:
    """A task that this program dispatched. `await task` gives its result."""

    __slots__ = ("id", "_ended")

    def __init__(self, id):
        self.id = id
        self._ended = None

    def status(self):
        """What is known of it, a `Status`."""
        return self._ended or self._known(_call(_STATUS, {"id": self.id}))

    def wait(self, timeout=None):
        """Wait until it has ended, and give its `Status`; TimeoutError after `timeout` seconds."""
        if self._ended:
            return self._ended
        return self._waited(_call(_WAIT, {"id": self.id, "timeout": timeout}), timeout)

    async def wait_async(self, timeout=None):
        """As `wait`; other coroutines run meanwhile."""
        if self._ended:
            return self._ended
        return self._waited(await _start(_WAIT, {"id": self.id, "timeout": timeout}), timeout)

    def result(self, timeout=None):
        """Wait for it and give its result; TaskFailed, if it did not succeed."""
        return self._result(self.wait(timeout))

    def __await__(self):
        return self._result((yield from self.wait_async().__await__()))

    def cancel(self):
        """Cancel it, and give its state: "cancelled", "running" if it is about to be stopped, or how it ended."""
        return _call(_CANCEL, {"id": self.id})

    def logs(self):
        """What it has written so far."""
        position, text = 0, []
        while True:
            page = _call(_LOG, {"id": self.id, "position": position})
            text.append(page["text"])
            if page["next"] == position:
                return "".join(text)
            position = page["next"]

    def _known(self, told):
        status = Status(told)
        if status.is_ended:
            self._ended = status
        return status

    def _waited(self, told, timeout):
        status = self._known(told)
        if not status.is_ended:
            raise TimeoutError(f"the task {self.id} has not ended after {timeout} s")
        return status

    def _result(self, status):
        if status.state == "succeeded":
            return status.result
        failure = status.failure
        if status.state == "cancelled" or failure is None:
            raise TaskFailed(f"the task {self.id} was cancelled", self, "cancelled")
        exception = failure.get("exception")
        message = f"{exception}: {failure['message']}" if exception else failure["message"]
        raise TaskFailed(
            f"the task {self.id} failed: {message}", self, failure["kind"], exception, failure.get("traceback")
        )

    def __eq__(self, other):
        return isinstance(other, Task) and other.id == self.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"Task({self.id!r})"


for _class in (TaskError, TaskFailed, Status, Task):
    _class.__module__ = "agentkernel.task"


def dispatch(
    code, *args, name=None, input=None, timeout=None, retries=0, backoff=None, priority=0, after=(), memory=None,
    workspace=None, mounts=None,
):
    """Run code, or a function with arguments, in the background, and give its `Task` at once.

    A function is sent as its source: a plain one, defined at the top of a module, that uses nothing from
    outside of itself (it imports what it needs), with arguments that have a JSON form. Its result, or
    the value of the code's last expression, is the task's. `input` is what the task reads as `task.input`.

    It runs after the tasks in `after` have succeeded; of tasks that are ready the one with the highest `priority`
    (-100 to 100) goes first. When it fails it is tried again `retries` times, after `backoff` seconds and
    then twice as many. It is granted what this program is, or less: `timeout` seconds, `memory` bytes, no
    directory with `workspace=False`, of the further directories only `mounts`.
    """
    file = None
    if callable(code):
        name = getattr(code, "__name__", None) if name is None else name
        code, file = _source(code, args)
    elif not isinstance(code, str):
        raise TypeError(f"code or a function can be dispatched, and this is a {type(code).__name__}")
    elif args:
        raise TypeError("arguments go with a function; give code an `input`")
    if isinstance(after, (str, Task)):
        after = [after]
    source = code.encode()
    data = b"" if input is None else _as_json(input, "`input`")
    options = {
        "code": len(source), "name": name, "file": file, "timeout": timeout, "retries": retries, "backoff": backoff,
        "priority": priority, "after": [getattr(needed, "id", needed) for needed in after], "memory": memory,
        "workspace": workspace, "mounts": None if mounts is None else _builtins.list(mounts),
    }
    options = {key: value for key, value in options.items() if value is not None}
    return Task(_call(_DISPATCH, options, source + data))


def get(id):
    """The task with this id, one that this program or a task of its own dispatched."""
    task = Task(str(id))
    task.status()
    return task


def list():
    """The tasks that this program dispatched, and those that they did, the newest first."""
    return [Task(id) for id in _call(_LIST, None)]


def progress(fraction, message=""):
    """Say how far this task is, from 0 to 1, and what it does."""
    _call(_PROGRESS, {"fraction": float(fraction), "message": str(message)})


def __getattr__(name):
    if name in ("input", "id", "attempt"):
        globals().update({"input": None, "id": None, "attempt": None} | _call(_ITSELF, None))
        return globals()[name]
    raise AttributeError(f"module 'agentkernel.task' has no attribute {name!r}", name=name)


def _source(function, args):
    """A program that calls the function, and the name of its source."""
    import inspect
    import textwrap
    import types

    name = getattr(function, "__name__", repr(function))

    def refuse(why):
        return TypeError(f"{name!r} cannot be sent to a task: {why}")

    if isinstance(function, types.MethodType):
        raise refuse("it is a method; send a function at the top of a module, and give it what it needs")
    if isinstance(function, type) or not isinstance(function, types.FunctionType):
        raise refuse(f"it is a {type(function).__name__}, not a function that is written in Python")
    if name == "<lambda>":
        raise refuse("it is a lambda; define it with `def`")
    if function.__closure__:
        names = ", ".join(function.__code__.co_freevars)
        raise refuse(f"it uses variables of the function around it ({names}); make them arguments")
    if "." in function.__qualname__:
        raise refuse("it is defined inside of a class or a function; define it at the top of a module")
    if getattr(function, "__wrapped__", None) is not None:
        raise refuse("it is decorated; send the function itself")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise refuse("it is a generator; return a list")
    try:
        source = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        raise refuse("its source is not known; send code as a string") from None
    if not source.startswith(("def ", "async def ")):
        raise refuse("it is decorated or not defined by itself; send a plain function")
    await_ = "await " if inspect.iscoroutinefunction(function) else ""
    arguments = _as_json(args, "the arguments").decode()
    call = f"{await_}{name}(*__import__('json').loads({arguments!r}))"
    return f"{source.rstrip()}\n\n{call}\n", f"<task {name}>"


def _as_json(value, what):
    try:
        return _json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"{what} must have a JSON form: {error}"
    raise TypeError(message)


def _call(function, options, tail=b""):
    try:
        return _told(_calls.call(function, _head(options), tail))
    except _calls.Failure as error:
        failure = error.value
    raise _failed(failure)


async def _start(function, options):
    try:
        return _told(await _calls.start(function, _head(options), b""))
    except _calls.Failure as error:
        failure = error.value
    raise _failed(failure)


def _head(options):
    if options is None:
        return b""
    return _json.dumps({key: value for key, value in options.items() if value is not None}).encode()


def _told(answer):
    return _json.loads(answer) if answer else None


def _failed(failure):
    kinds = {"value": ValueError, "denied": PermissionError}
    return kinds.get(failure.kind, TaskError)(failure.message)
