"""The end of a program, as the end of a process: exit handlers and finalizers."""

import atexit
import builtins
import gc
import types

_run_exit_handlers = atexit._run_exitfuncs
# What no metaclass has a say in.
_bases_of = type.__dict__["__mro__"].__get__
_attributes_of = type.__dict__["__dict__"].__get__


def end(namespace: dict) -> None:
    """Run what was registered for the end, and let go what the program holds.

    Python prints what fails in a handler or a finalizer, and goes on.
    """
    _run_exit_handlers()
    vars(builtins).pop("_", None)
    # First what has a finalizer of the program's, while the globals that it may use are there; then what may
    # lead to such a thing, the latest first as it may use those before it; then the rest.
    names: tuple[list, ...] = ([], [], [])
    for name in namespace:
        names[_rank(namespace[name])].append(name)
    names[1].reverse()
    for rank in names:
        for name in rank:
            if name != "__builtins__":
                namespace.pop(name, None)
        gc.collect()


def _rank(value) -> int:
    cls = type(value)
    if not gc.is_tracked(value) or issubclass(cls, (types.FunctionType, types.ModuleType, type)):
        return 2
    for base in _bases_of(cls):
        if "__del__" in (attributes := _attributes_of(base)):
            # That of files is none of the program's.
            return 0 if type(attributes["__del__"]) is types.FunctionType else 1
    return 1
