"""Says what is missing in this build of Python, and what to use instead."""

import builtins
import errno
import os
import sys

_BUILD = "is not in the WebAssembly build of Python"
_MISSING = {
    "ssl": "the program has no sockets; use a tool for network access",
    "ctypes": "native code cannot be called from the sandbox",
    "bz2": "use zlib or gzip",
    "lzma": "use zlib or gzip",
    "zstd": "use zlib or gzip",
    "interpreters": "code runs in the one interpreter of its session",
    "mmap": "read the file in pieces",
    "multiprocessing": "use asyncio.gather for calls that wait; computing runs on one processor",
    "readline": "use input()",
    "curses": "print plain text",
    "tkinter": "write a file into the workspace",
    "turtle": "write an SVG file into the workspace",
    "fcntl": "files of the workspace need no locks",
    "grp": "the sandbox has no users",
    "pwd": "the sandbox has no users",
    "resource": "the host sets the limits",
    "termios": "there is no terminal",
    "tty": "there is no terminal",
    "pty": "there is no terminal",
    "syslog": "use logging",
    "dbm": "keep data in files (json, csv)",
    "venv": "packages cannot be installed in the sandbox",
    "ensurepip": "packages cannot be installed in the sandbox",
    "idlelib": "there is no screen",
}
_PACKAGES = {
    "numpy": "use lists, array and statistics, or a tool",
    "pandas": "use csv, or a data tool",
    "scipy": "use math and statistics",
    "sklearn": "use statistics",
    "matplotlib": "write an SVG file, or use a plotting tool",
    "requests": "use a tool for network access",
    "httpx": "use a tool for network access",
    "aiohttp": "use a tool for network access",
    "urllib3": "use a tool for network access",
    "bs4": "use html.parser",
    "lxml": "use xml.etree.ElementTree",
    "yaml": "use json or tomllib",
    "PIL": "use a tool",
    "dateutil": "use datetime",
    "pytz": "use zoneinfo",
    "tqdm": "print progress",
    "pydantic": "use dataclasses",
    "openai": "ask for a model with the host's own function",
    "anthropic": "ask for a model with the host's own function",
    "torch": "use a tool",
    "tensorflow": "use a tool",
    "pip": "packages cannot be installed in the sandbox",
}


def _explanation(name: str) -> str | None:
    top = name.partition(".")[0]
    plain = top.removeprefix("_")
    if plain in _MISSING and top not in sys.modules:
        return f"No module named '{plain}': it {_BUILD}; {_MISSING[plain]}"
    if top in _PACKAGES:
        return f"No module named '{name}': packages of PyPI are not in the sandbox; {_PACKAGES[top]}"
    return None


def explain(error: ModuleNotFoundError) -> None:
    """Add to an error what to use instead."""
    if error.name and error.args == (f"No module named {error.name!r}",):
        explanation = _explanation(error.name)
        if explanation is not None:
            error.args = (explanation,)
            error.msg = explanation


class Finder:
    """The last finder: says more than that a module was not found, but only to an import statement."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        explanation = _explanation(name)
        if explanation is None:
            return None
        caller = sys._getframe(1)
        while caller is not None and caller.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
            if caller.f_code.co_name == "_find_and_load_unlocked":
                raise ModuleNotFoundError(explanation, name=name)
            caller = caller.f_back
        return None


def _no_threads(*args, **kwargs):
    raise RuntimeError(
        "threads do not run in the WebAssembly build of Python; use asyncio.gather for calls that wait, "
        "or call the functions one after the other"
    )


def _no_processes(*args, **kwargs):
    raise OSError("processes cannot be started from the sandbox; use Python itself, or a tool")


def _no_signals(pid, signal, /):
    """Kill a process with a signal."""
    raise OSError("signals cannot be sent from the sandbox, which has no other processes; use signal.raise_signal")


def _no_terminal(fd=1, /):
    """Return the size of the terminal window as (columns, lines)."""
    raise OSError(errno.ENOTTY, "there is no terminal")


def _exit(status: int, /):
    """End the turn. The process is the session's, and the host decides when that ends."""
    raise SystemExit(status)


def install() -> None:
    """Hook everything in."""
    import _thread
    import subprocess
    import threading

    sys.meta_path.append(Finder)
    _thread.start_new_thread = _thread.start_new = _thread.start_joinable_thread = _no_threads
    threading._start_joinable_thread = _no_threads
    subprocess.Popen.__init__ = _no_processes
    subprocess.Popen.__del__ = lambda self: None
    os.system = os.popen = os.fork = os.pipe = os.execv = os.execve = _no_processes
    os.kill = _no_signals
    os.get_terminal_size = _no_terminal
    os._exit = _exit
    builtins.exit = builtins.quit = sys.exit
