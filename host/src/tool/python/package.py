"""Tools of this session, each a module: `from tools.NAME import …`.

`tools.describe()` lists them, `tools.search("words")` finds functions, `tools.describe("NAME.FUNCTION")` says all.
"""

from tools import _runtime
from tools._runtime import (
    Err, Ok, Some, ToolClosed, ToolDenied, ToolError, ToolMemoryError, ToolTimeout, ToolTrapped,
)

__all__ = [
    "Err", "Ok", "Some", "ToolClosed", "ToolDenied", "ToolError", "ToolMemoryError", "ToolTimeout", "ToolTrapped",
]


def search(words, limit=10, detail="summary"):
    """Find functions by what they do; `detail` is "name", "summary" or "full"."""
    from tools import _discovery

    return _discovery.search(words, limit, detail)


def describe(name=None, detail=None):
    """Describe a tool, a function or a class as "name", "summary" or "full"; without a name, all tools."""
    from tools import _discovery

    return _discovery.describe(name, detail)


def __dir__():
    return sorted([*__all__, "describe", "search", *_TOOLS])


def __getattr__(name):
    if name in _TOOLS:
        import importlib

        return importlib.import_module(f"tools.{name}")
    raise AttributeError(f"no tool {name!r}; there are {', '.join(sorted(_TOOLS)) or 'none'}")
