"""Tools of this session, each a module: `from tools.NAME import …`. `dir(tools)` lists them."""

from tools import _runtime
from tools._runtime import (
    Err, Ok, Some, ToolClosed, ToolDenied, ToolError, ToolMemoryError, ToolTimeout, ToolTrapped,
)

__all__ = [
    "Err", "Ok", "Some", "ToolClosed", "ToolDenied", "ToolError", "ToolMemoryError", "ToolTimeout", "ToolTrapped",
]


def __dir__():
    return sorted([*__all__, *_TOOLS])


def __getattr__(name):
    if name in _TOOLS:
        import importlib

        return importlib.import_module(f"tools.{name}")
    raise AttributeError(f"no tool {name!r}; there are {', '.join(sorted(_TOOLS)) or 'none'}")

