"""Files of the program: flushed when a turn ends, with permissions that other systems can use."""

import builtins
import functools
import gc
import io
import os
import stat as modes
import sys
import traceback
import weakref

_open, _stat, _lstat, _fstat, _entry_stat = io.open, os.stat, os.lstat, os.fstat, os.DirEntry.stat

# Weak references to the files that were opened for writing and may still be open.
opened: set[weakref.ref] = set()
# Those to all files that may still be open, and where they were opened: a file and a line.
places: dict[weakref.ref, tuple[str, int]] = {}


# Like a built-in function these do not become methods of a class that holds them, hence `staticmethod`.
@staticmethod
@functools.wraps(_open)
def open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    stream = _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    reference = weakref.ref(stream, _forget)
    frame = sys._getframe(1)
    # Of a library's function that opens a file for the program, the program's line is of use.
    while frame.f_code.co_filename.startswith(("/python/", "<frozen ")) and frame.f_back is not None:
        frame = frame.f_back
    places[reference] = frame.f_code.co_filename, frame.f_lineno
    if "r" not in mode or "+" in mode:
        opened.add(reference)
    return stream


def _forget(reference) -> None:
    places.pop(reference, None)
    opened.discard(reference)


def flush() -> None:
    """Write what the files that are open still keep in memory."""
    for reference in list(opened):
        stream = reference()
        try:
            if stream is not None:
                stream.flush()
                continue
        except ValueError:
            # Closed, or what lies below was taken away.
            pass
        except Exception as error:
            # Said once; whoever closes the file hears of it again.
            print(f"Exception ignored while flushing file {stream!r}:", file=sys.stderr)
            traceback.print_exception(error)
        opened.discard(reference)


# WASI knows no permissions. Archives and copies that leave the sandbox need some.
_PERMISSIONS = {modes.S_IFDIR: 0o755, modes.S_IFREG: 0o644, modes.S_IFLNK: 0o777}


def _with_permissions(result: os.stat_result) -> os.stat_result:
    (mode, *others), named = result.__reduce__()[1]
    return os.stat_result((mode | _PERMISSIONS.get(modes.S_IFMT(mode), 0), *others), named)


@staticmethod
@functools.wraps(_stat)
def stat(path, *, dir_fd=None, follow_symlinks=True):
    return _with_permissions(_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks))


@staticmethod
@functools.wraps(_lstat)
def lstat(path, *, dir_fd=None):
    return _with_permissions(_lstat(path, dir_fd=dir_fd))


@staticmethod
@functools.wraps(_fstat)
def fstat(fd):
    return _with_permissions(_fstat(fd))


@functools.wraps(_entry_stat)
def _stat_of_entry(self, *, follow_symlinks=True):
    return _with_permissions(_entry_stat(self, follow_symlinks=follow_symlinks))


def _replace(original, ours) -> None:
    """Put a function of ours wherever a module holds the original."""
    for module in list(sys.modules.values()):
        if module.__name__.startswith("_agentkernel."):
            continue
        for name, value in list(vars(module).items()):
            if value is original:
                setattr(module, name, ours)
            elif type(value) is set and module is os and original in value:
                # `os.supports_dir_fd` and its kin.
                value.remove(original)
                value.add(ours)


def install() -> None:
    """Make our functions the ones that programs get."""
    _replace(_open, open)
    _replace(_stat, stat)
    _replace(_lstat, lstat)
    _replace(_fstat, fstat)
    assert builtins.open is io.open is open
    # The type cannot be changed by way of its attributes; nothing has cached the method by now.
    (attributes,) = gc.get_referents(os.DirEntry.__dict__)
    attributes["stat"] = _stat_of_entry
    sys._clear_internal_caches()
