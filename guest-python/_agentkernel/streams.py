"""Standard streams over the host's console."""

import builtins
import io
import sys

from wit_world.imports import console

_BUFFER_BYTES = 1 << 16


class _Output(io.RawIOBase):
    """Writes to one of the host's output streams."""

    def __init__(self, number: int, target: "console.Output", before=None) -> None:
        self._number = number
        self._target = target
        self._before = before

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def write(self, data) -> int:
        if self._before is not None:
            self._before()
        # The caller comes again with the rest. Larger pieces would be copied several times at once.
        data = data[:_BUFFER_BYTES]
        try:
            console.write(self._target, str(data, "utf-8"))
        except UnicodeDecodeError:
            console.write_bytes(self._target, str(data, "latin-1"))
        return len(data)


class _Input(io.RawIOBase):
    """Reads the host's standard input."""

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def readinto(self, buffer) -> int:
        flush()
        data = console.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Stream(io.TextIOWrapper):
    """A text stream that a program cannot close for the turns after it."""

    mode = ""

    def close(self) -> None:
        if not self.closed and not sys.is_finalizing():
            self.flush()


# While one of these runs, a stream above it is locked.
WRITING = (_Output.write.__code__, _Input.readinto.__code__)

_line_buffered = False
_streams: list[_Stream] = []


def _text(buffer, name: str, errors: str, line_buffering: bool) -> _Stream:
    stream = _Stream(buffer, "utf-8", errors, "\n" if name != "<stdin>" else None, line_buffering)
    stream.mode = "r" if name == "<stdin>" else "w"
    return stream


def install(line_buffered: bool) -> None:
    """Make new standard streams; `line_buffered` is whether each line is passed on at once."""
    global _line_buffered
    _line_buffered = line_buffered
    stdout = _text(
        io.BufferedWriter(_Output(1, console.Output.STDOUT), _BUFFER_BYTES),
        "<stdout>", "strict", line_buffered,
    )
    stderr = _text(
        io.BufferedWriter(_Output(2, console.Output.STDERR, flush), _BUFFER_BYTES),
        "<stderr>", "backslashreplace", True,
    )
    stdin = _text(io.BufferedReader(_Input(), _BUFFER_BYTES), "<stdin>", "strict", False)
    _streams[:] = stdin, stdout, stderr
    restore()


def restore() -> None:
    """Put the standard streams back in place, anew where a program has broken them."""
    stdin, stdout, stderr = _streams
    if stdin.closed or stdout.closed or stderr.closed or _detached(stdout) or _detached(stderr) or _detached(stdin):
        install(_line_buffered)
        return
    sys.stdin = sys.__stdin__ = stdin
    sys.stdout = sys.__stdout__ = stdout
    sys.stderr = sys.__stderr__ = stderr


def _detached(stream: _Stream) -> bool:
    try:
        return stream.buffer is None or stream.buffer.closed
    except ValueError:
        return True


def flush() -> None:
    """Pass pending standard output on, so that what comes next comes after it."""
    try:
        _streams[1].flush()
    except (ValueError, RuntimeError):
        # Closed by the program; or a signal came while it is being flushed.
        pass


def flush_all() -> None:
    """Pass everything on at the end of a turn, a stream of the program's own included."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream not in _streams:
                stream.flush()
        except BaseException:
            pass
    try:
        _streams[1].flush()
        _streams[2].flush()
    except BaseException:
        pass
