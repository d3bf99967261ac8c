"""Calls of the host's functions."""

import asyncio as _asyncio
from collections import deque as _deque

from componentize_py_types import Err as Failure
from wit_world.imports import modules as _modules

call = _modules.call

# Calls that are in flight, and those that wait for one of them to end.
_in_flight = 0
_queue = _deque()


async def start(function, head, tail):
    """The result of a call that may overlap with others. It waits where as many are in flight as may be."""
    global _in_flight
    loop = _asyncio.get_running_loop()
    while True:
        try:
            operation = _modules.start(function, head, tail)
            break
        except Failure as error:
            if error.value.kind != "limit" or not _in_flight:
                raise
        turn = loop.create_future()
        _queue.append(turn)
        try:
            await turn
        except _asyncio.CancelledError:
            # It was its turn: let another have it.
            if turn.done() and not turn.cancelled():
                _wake(loop)
            raise
    _in_flight += 1
    try:
        return await loop.wait_for_operation(operation)
    finally:
        # Its place is free only when the host knows.
        del operation
        _in_flight -= 1
        _wake(loop)


def _wake(loop):
    """Let one go on that waits in the loop."""
    while _queue:
        turn = _queue.popleft()
        if not turn.done() and turn.get_loop() is loop:
            turn.set_result(None)
            break
