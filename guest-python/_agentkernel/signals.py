"""Signals that the host sends by marking them as pending in the interpreter's memory."""

import signal

from . import streams


def _flush(number, frame) -> None:
    streams.flush()


def install() -> None:
    """SIGINT stops the turn, SIGALRM passes pending output on."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGALRM, _flush)
