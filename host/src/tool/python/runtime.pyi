from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")

class ToolError(Exception):
    """A call of a tool did not give a result; `payload` is what the tool says."""

    payload: Any
    def __init__(self, payload: Any = None) -> None: ...

class ToolDenied(ToolError, PermissionError): ...
class ToolTimeout(ToolError, TimeoutError): ...
class ToolMemoryError(ToolError): ...
class ToolTrapped(ToolError): ...
class ToolClosed(ToolError, ValueError): ...

class Some(Generic[T]):
    """`some` of an option within an option."""

    __match_args__ = ("value",)
    value: T
    def __init__(self, value: T) -> None: ...

class Ok(Generic[T]):
    """`ok` of a result that is an argument or part of a value."""

    __match_args__ = ("value",)
    value: T
    def __init__(self, value: T) -> None: ...

class Err(Generic[T]):
    """`err` of a result that is an argument or part of a value."""

    __match_args__ = ("value",)
    value: T
    def __init__(self, value: T) -> None: ...

class _handle:
    def close(self) -> None:
        """Let the tool free it. Once is enough."""
    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
