"""Modules that the host provides."""

import importlib.machinery
import sys

from wit_world.imports import modules

# Names without their submodules; a session has them from its first turn on.
names: set[str] = set()


class _Loader:
    """Loads a module from the source that the host gives."""

    def create_module(self, spec):
        return None

    def exec_module(self, module) -> None:
        name = module.__spec__.name
        code = compile(self.get_source(name), module.__spec__.origin, "exec", dont_inherit=True)
        exec(code, module.__dict__)

    def is_package(self, name: str) -> bool:
        return _find(name).is_package

    def get_source(self, name: str) -> str:
        return _find(name).source


def _find(name: str):
    found = _ask(name)
    if found is None:
        raise ImportError(f"the host has no module {name!r}", name=name)
    return found


def _ask(name: str):
    name = str.__str__(name)
    try:
        name.encode()
    except UnicodeEncodeError:
        # A lone surrogate cannot cross to the host.
        return None
    return modules.find(name)


_loader = _Loader()


class Finder:
    """Finds modules of the host."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] not in names:
            return None
        found = _ask(name)
        if found is None:
            return None
        # Tracebacks leave frames of such files out.
        origin = f"/_agentkernel/provided/{name.replace('.', '/')}.py"
        spec = importlib.machinery.ModuleSpec(name, _loader, origin=origin, is_package=found.is_package)
        spec.has_location = True
        return spec


def install() -> None:
    """Put the finder before those that look at directories, where a program's own modules are."""
    index = next(i for i, finder in enumerate(sys.meta_path) if finder is importlib.machinery.PathFinder)
    sys.meta_path.insert(index, Finder)
