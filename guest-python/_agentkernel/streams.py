"""Standard streams over the host's console."""

import io
import os
import sys

from wit_world.imports import console

_BUFFER_BYTES = 1 << 16
# As `io.TextIOWrapper` has it: text that is kept before it is encoded.
_TEXT_CHUNK = 8192
_buffer = io.TextIOWrapper.buffer.__get__


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
        data = bytes(data[:_BUFFER_BYTES])
        console.write(self._target, data)
        return len(data)


class _Input(io.RawIOBase):
    """Reads the host's standard input."""

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0

    def readinto(self, buffer) -> int:
        flush()
        # Nothing at all is a signal, whose handler has had its say by now.
        while (data := console.read(len(buffer))) is None:
            pass
        buffer[: len(data)] = data
        return len(data)


class _Stream(io.TextIOWrapper):
    """A text stream that a program cannot close for the turns after it."""

    mode = ""
    # Never asked of the streams below, which would take longer than printing a line.
    closed = False

    @property
    def buffer(self):
        """The stream of bytes below, which has what was printed before it is used."""
        if self.mode == "w":
            # As much as a flush does, but for flushing what is below as well.
            self._CHUNK_SIZE = 1
            self.write("")
            self._CHUNK_SIZE = _TEXT_CHUNK
        return _buffer(self)

    def close(self) -> None:
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


_write_descriptor = os.write


def write(fd, data, /):
    """Write bytes to a file descriptor, after what was printed before."""
    if fd == 1 or fd == 2:
        flush()
    return _write_descriptor(fd, data)


def keep_order() -> None:
    """Make writing to the descriptors 1 and 2 keep the order with what is printed."""
    import posix

    write.__module__ = "posix"
    os.write = posix.write = write


def restore() -> None:
    """Put the standard streams back in place, anew where a program has broken them."""
    stdin, stdout, stderr = _streams
    if _detached(stdout) or _detached(stderr) or _detached(stdin):
        install(_line_buffered)
        return
    sys.stdin = sys.__stdin__ = stdin
    sys.stdout = sys.__stdout__ = stdout
    sys.stderr = sys.__stderr__ = stderr


def _detached(stream: _Stream) -> bool:
    """Whether what lies below a stream has been closed or taken away."""
    try:
        return _buffer(stream).closed
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
