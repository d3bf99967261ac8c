"""Signals that the host sends by marking them as pending in the interpreter's memory."""

import signal

from . import streams


def _flush(number, frame) -> None:
    # Not while the streams are at it: a flush inside of a flush loses what the outer one holds.
    for _ in range(_DEPTH):
        if frame is None:
            break
        if frame.f_code in streams.WRITING:
            return
        frame = frame.f_back
    streams.flush()


# Whether an interrupt came when no program ran that it could be raised in: before one has begun.
early = False
# The code of the function that catches whatever a program raises.
_guard = None


def _interrupt(number, frame) -> None:
    # Where nothing catches it, an exception would end the interpreter.
    while frame is not None:
        if frame.f_code is _guard:
            raise KeyboardInterrupt
        frame = frame.f_back
    global early
    early = True


# Frames above one of ours at most, when it calls the host.
_DEPTH = 8


# SIGSYS, which no program handles. (The signal module of this build has no name for it.)
_FLUSH = 31


def install(guard) -> None:
    """SIGINT stops what `guard` runs, SIGSYS passes pending output on."""
    global _guard
    _guard = guard.__code__
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(_FLUSH, _flush)
