"""Time that passes in the host: `time.sleep`, the clocks of the process, the asyncio event loop."""

import asyncio
import asyncio.base_events
import asyncio.events
import asyncio.runners
import asyncio.tasks
import os
import posix
import time
import weakref

from wit_world.imports import operations

from . import streams

_NANOSECONDS = 1_000_000_000


def sleep(seconds, /):
    """Pause the program for a number of seconds."""
    left = _nanoseconds(seconds)
    streams.flush()
    end = time.monotonic_ns() + left
    while True:
        # A signal ends the wait early.
        operations.wait([], left)
        left = end - time.monotonic_ns()
        if left <= 0:
            break


def _nanoseconds(seconds) -> int:
    if not isinstance(seconds, (int, float)):
        if hasattr(seconds, "__index__"):
            seconds = seconds.__index__()
        elif hasattr(seconds, "__float__"):
            seconds = seconds.__float__()
        else:
            raise TypeError(f"'{type(seconds).__name__}' object cannot be interpreted as an integer")
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    if seconds > 9_223_372_036:
        raise OverflowError("timestamp too large to convert to C PyTime_t")
    return int(seconds * _NANOSECONDS)


# When the session's first turn began.
_began = 0


def begin() -> None:
    """Start the clocks of the process, if they do not run yet."""
    global _began
    _began = _began or time.monotonic_ns()


def process_time_ns():
    """Process time for profiling as nanoseconds: here the time since the session's first turn began."""
    return time.monotonic_ns() - _began


def process_time():
    """Process time for profiling: here the time since the session's first turn began."""
    return process_time_ns() / _NANOSECONDS


def thread_time_ns():
    """Thread time for profiling as nanoseconds: as the process, which has one thread."""
    return process_time_ns()


def thread_time():
    """Thread time for profiling: as the process, which has one thread."""
    return process_time()


_times = os.times


def times():
    """Return a collection containing process timing information."""
    return posix.times_result((process_time(), 0.0, 0.0, 0.0, _times().elapsed))


# Loops that may still have something to wait for.
loops: "weakref.WeakSet[EventLoop]" = weakref.WeakSet()


class EventLoop(asyncio.base_events.BaseEventLoop):
    """An event loop that waits with `operations.wait`: no selector, no self-pipe, no threads."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self
        self._pending: dict = {}
        loops.add(self)

    def wait_for_operation(self, operation):
        """A future of the operation's bytes. Cancelling it cancels the operation."""
        future = self.create_future()
        self._pending[future] = operation
        future.add_done_callback(self._forget)
        return future

    def _forget(self, future) -> None:
        operation = self._pending.pop(future, None)
        if operation is not None:
            operation.__exit__(None, None, None)

    def select(self, timeout):
        streams.flush()
        nanoseconds = None if timeout is None else max(0, int(timeout * _NANOSECONDS))
        if not self._pending:
            if nanoseconds is None:
                # Nothing can ever wake this loop. The time limit ends it.
                nanoseconds = 86_400 * _NANOSECONDS
            if nanoseconds:
                operations.wait([], nanoseconds)
            return ()
        futures = list(self._pending)
        for index in operations.wait(list(self._pending.values()), nanoseconds):
            future = futures[index]
            operation = self._pending.pop(future)
            try:
                result = operation.take()
            except Exception as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)
            finally:
                operation.__exit__(None, None, None)
        return ()

    def _process_events(self, event_list) -> None:
        pass

    def _write_to_self(self) -> None:
        # There is one thread: whoever calls this is not waiting.
        pass

    def run_in_executor(self, executor, func, *args):
        """Call `func` now: there are no threads to call it on."""
        future = self.create_future()
        try:
            result = func(*args)
        except StopIteration as error:
            future.set_exception(RuntimeError(f"{func!r} raised StopIteration"))
            del error
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        return future

    def close(self) -> None:
        for future in list(self._pending):
            self._forget(future)
        super().close()


class _Policy(asyncio.events._BaseDefaultEventLoopPolicy):
    _loop_factory = EventLoop


# The task of a turn with a top-level await.
main_task = None
_asyncio_run = asyncio.run


def run(main, *, debug=None, loop_factory=None):
    """Execute the coroutine and return the result.

    This also works in a program with a top-level await, whose event loop stands still meanwhile.
    """
    outer = asyncio.events._get_running_loop()
    if outer is None or asyncio.current_task() is not main_task:
        return _asyncio_run(main, debug=debug, loop_factory=loop_factory)
    asyncio.tasks._swap_current_task(outer, None)
    asyncio.events._set_running_loop(None)
    try:
        return _asyncio_run(main, debug=debug, loop_factory=loop_factory)
    finally:
        asyncio.events._set_running_loop(outer)
        asyncio.tasks._swap_current_task(outer, main_task)
        asyncio.set_event_loop(outer)


def install() -> None:
    """Make our sleep, our clocks and our loop the ones that programs get."""
    for function in sleep, process_time, process_time_ns, thread_time, thread_time_ns:
        function.__module__ = "time"
        setattr(time, function.__name__, function)
    times.__module__ = "posix"
    os.times = posix.times = times
    asyncio.events._set_event_loop_policy(_Policy())
    asyncio.EventLoop = asyncio.SelectorEventLoop = EventLoop
    asyncio.events.EventLoop = EventLoop
    asyncio.run = asyncio.runners.run = run
    run.__module__ = "asyncio.runners"
