"""Tools of this session, each a module: `from tools.NAME import …`."""

from typing import Any

from tools._runtime import Err as Err
from tools._runtime import Ok as Ok
from tools._runtime import Some as Some
from tools._runtime import ToolClosed as ToolClosed
from tools._runtime import ToolDenied as ToolDenied
from tools._runtime import ToolError as ToolError
from tools._runtime import ToolMemoryError as ToolMemoryError
from tools._runtime import ToolTimeout as ToolTimeout
from tools._runtime import ToolTrapped as ToolTrapped

def search(words: str, limit: int = 10, detail: str = "summary") -> list[Any]:
    """Find functions by what they do; `detail` is "name", "summary" or "full"."""

def describe(name: str | None = None, detail: str | None = None) -> str:
    """Describe a tool, a function or a class as "name", "summary" or "full"; without a name, all tools."""
