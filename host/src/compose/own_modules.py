import importlib.abc
import importlib.machinery
import sys


class Loader(importlib.abc.InspectLoader):
    """Loads modules that were composed with the program."""

    def get_source(self, name):
        return MODULES[name][0]

    def is_package(self, name):
        return MODULES[name][1]

    def get_code(self, name):
        return self.source_to_code(MODULES[name][0], path(name))


class Finder:
    """Finds them, before those that look at directories."""

    @staticmethod
    def find_spec(name, path_=None, target=None):
        if name not in MODULES:
            return None
        package = MODULES[name][1]
        spec = importlib.machinery.ModuleSpec(name, _loader, origin=path(name), is_package=package)
        spec.has_location = True
        return spec


def public(tool):
    """The modules of a tool that is a Python package, for discovery."""
    prefix = f"tools.{tool}"
    names = [name for name in MODULES if name == prefix or name.startswith(prefix + ".")]
    return [(name.removeprefix("tools."), MODULES[name][0]) for name in names if "._" not in name.removeprefix(prefix)]


def path(name):
    return name.replace(".", "/") + ("/__init__.py" if MODULES[name][1] else ".py")


_loader = Loader()
sys.meta_path.insert(next(i for i, f in enumerate(sys.meta_path) if f is importlib.machinery.PathFinder), Finder)
