"""The standard library, kept in memory: no directory of it needs to be mounted."""

import importlib.machinery
import importlib.util
import io
import marshal
import os
import sys
import zlib
import zoneinfo
import zoneinfo._common
from importlib import resources

# Where componentize-py shows the library while it builds, and where tracebacks say that it is.
_ROOT = "/python"
_LEFT_OUT = {
    "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle", "ensurepip", "venv", "lib2to3", "__pycache__",
    "__phello__", "site-packages",
}

# Module name -> (is a package, compressed code, compressed source).
_modules: dict[str, tuple[bool, bytes, bytes]] = {}


class _Loader:
    """Loads a module of the standard library from memory."""

    def create_module(self, spec):
        return None

    def exec_module(self, module) -> None:
        exec(self.get_code(module.__spec__.name), module.__dict__)

    def is_package(self, name: str) -> bool:
        return _modules[name][0]

    def get_code(self, name: str):
        return marshal.loads(zlib.decompress(_modules[name][1]))

    def get_source(self, name: str) -> str:
        try:
            return zlib.decompress(_modules[name][2]).decode()
        except KeyError:
            raise ImportError(f"no source of {name}", name=name) from None


_loader = _Loader()

# Key of a time zone -> its TZif data, in memory because no /usr/share/zoneinfo is mounted.
_zones: dict[str, bytes] = {}


def _load_zone(key: str) -> io.BytesIO:
    try:
        return io.BytesIO(_zones[key])
    except KeyError:
        raise zoneinfo.ZoneInfoNotFoundError(f"No time zone found with key {key}") from None


class Finder:
    """Finds modules of the standard library in memory."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        entry = _modules.get(name)
        if entry is None:
            return None
        origin = _origin(name, entry[0])
        spec = importlib.machinery.ModuleSpec(name, _loader, origin=origin, is_package=entry[0])
        spec.has_location = True
        if entry[0]:
            spec.submodule_search_locations = [os.path.dirname(origin)]
        return spec


def _origin(name: str, is_package: bool) -> str:
    return f"{_ROOT}/{name.replace('.', '/')}{'/__init__' if is_package else ''}.py"


def collect() -> None:
    """Read the whole library. It is visible only while the component is built."""
    same: dict[bytes, bytes] = {}
    for name in resources.files("tzdata").joinpath("zones").read_text().split():
        zone = resources.files("tzdata").joinpath("zoneinfo", name).read_bytes()
        _zones[name] = same.setdefault(zone, zone)
    for directory, folders, files in os.walk(_ROOT):
        folders[:] = sorted(folder for folder in folders if folder not in _LEFT_OUT and folder.isidentifier())
        package = os.path.relpath(directory, _ROOT).replace(os.sep, ".").removeprefix(".")
        if package and "__init__.py" not in files and not any(file.endswith(".py") for file in files):
            continue
        for file in sorted(files):
            stem = file.removesuffix(".py")
            if stem == file or stem in _LEFT_OUT or not stem.isidentifier():
                continue
            is_package = stem == "__init__"
            name = package if is_package else f"{package}.{stem}".removeprefix(".")
            if not name:
                continue
            with open(os.path.join(directory, file), "rb") as source_file:
                source = source_file.read()
            try:
                code = compile(source, _origin(name, is_package), "exec", dont_inherit=True, optimize=0)
            except SyntaxError:
                continue
            _modules[name] = (is_package, zlib.compress(marshal.dumps(code), 9), zlib.compress(source, 9))


def install() -> None:
    """Put the finder before those that look at directories."""
    zoneinfo._common.load_tzdata = _load_zone
    zoneinfo.available_timezones = lambda: set(_zones)
    index = next(i for i, finder in enumerate(sys.meta_path) if finder is importlib.machinery.PathFinder)
    sys.meta_path.insert(index, Finder)
    for name, (is_package, _, _) in _modules.items():
        module = sys.modules.get(name)
        if module is not None and getattr(module, "__file__", None):
            # Loaded from the build machine's directory: say where it is found from now on.
            spec = Finder.find_spec(name)
            module.__file__, module.__spec__, module.__loader__ = spec.origin, spec, _loader
            module.__cached__ = None
            if is_package:
                module.__path__ = spec.submodule_search_locations
