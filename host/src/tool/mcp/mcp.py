"""What the modules of MCP servers share."""

import json as _json

from agentkernel._calls import Failure as _Failure, start as _operation
from tools._runtime import ToolError, _failed
from wit_world.imports import modules as _modules

# What a server does, by its number behind the first of its tool: call a function, give the source of its module, give that of
# its coroutines, give what discovery finds.
_CALL, _SOURCE, _ASYNC_SOURCE, _ITEMS = range(4)


def fill(module, first, is_async):
    """Run in `module` what the host makes of the functions of a server, which is started for it."""
    try:
        source = _modules.call(first + (_ASYNC_SOURCE if is_async else _SOURCE), b"", b"")
    except _Failure as error:
        failure = error.value
    else:
        exec(compile(source, module["__spec__"].origin, "exec", dont_inherit=True), module)
        return
    raise _failed(failure)


def submodules(package):
    """What a module does for an attribute that it does not have."""

    def get(name):
        if name == "aio":
            import importlib

            return importlib.import_module(f"{package}.aio")
        raise AttributeError(f"module {package!r} has no attribute {name!r}", name=name)

    return get


def items(servers):
    """What servers offer, by their names: items, or why there are none. They are started at the same time."""
    started = []
    for name, first in servers:
        try:
            started.append((name, _modules.start(first + _ITEMS, b"", b"")))
        except _Failure as error:
            started.append((name, error.value))
    found = {}
    for name, operation in started:
        try:
            if not hasattr(operation, "take"):
                raise _Failure(operation)
            found[name] = _json.loads(operation.take())
        except _Failure as error:
            found[name] = error.value.message
    return found


def _request(name, given, optional, others):
    arguments = given | {key: value for key, value in optional.items() if value is not None}
    for key, value in others.items():
        arguments.setdefault(key, value)
    text = _json.dumps([name, arguments], ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError("an argument has a surrogate, which UTF-8 has not") from None


def _block(block):
    """A part of an answer: text as it is, else a dict, in which data are bytes."""
    if isinstance(block, dict) and "base64" in block:
        import base64

        block["data"] = base64.b64decode(block.pop("base64"))
    return block


def _value(answer, error):
    answer = _json.loads(answer)
    if "value" in answer:
        value = answer["value"]
    else:
        blocks = [_block(block) for block in answer["blocks"]]
        value = blocks[0] if len(blocks) == 1 else blocks or None
    if answer["failed"]:
        raise error(value)
    return value


def caller(first, error):
    def call(name, given, optional, others={}, _call=_modules.call):
        request = _request(name, given, optional, others)
        try:
            answer = _call(first, request, b"")
        except _Failure as failed:
            failure = failed.value
        else:
            return _value(answer, error)
        raise _failed(failure)

    return call


def starter(first, error):
    async def start(name, given, optional, others={}):
        request = _request(name, given, optional, others)
        try:
            answer = await _operation(first, request, b"")
        except _Failure as failed:
            failure = failed.value
        else:
            return _value(answer, error)
        raise _failed(failure)

    return start
