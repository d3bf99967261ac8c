"""Answers that follow a JSON schema: the schema of a dataclass, and checking values against one."""

import dataclasses as _dataclasses
import enum as _enum
import json as _json
import re as _re
import types as _types
import typing as _typing

_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_TYPES = {
    "string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None),
    "array": list, "object": dict,
}


def read(schema):
    """The JSON schema, and a function that gives the value of an answer or raises ValueError."""
    if isinstance(schema, dict):
        made = None
    else:
        made, schema = schema, _of(schema)

    def check(text):
        value = _loads(text)
        problem = _problem(schema, value, "the answer", schema)
        if problem:
            raise ValueError(problem)
        return value if made is None else _make(made, value)

    return schema, check


def _loads(text):
    """The JSON in an answer, which may stand in a fenced block or after some words."""
    text = text.strip()
    fenced = _re.search(r"```(?:json)?\s*\n(.*?)```", text, _re.DOTALL)
    for candidate in (text, fenced and fenced[1]):
        if candidate:
            try:
                return _json.loads(candidate)
            except ValueError as error:
                problem = error
    start = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=-1)
    if start >= 0:
        try:
            return _json.JSONDecoder().raw_decode(text[start:])[0]
        except ValueError as error:
            problem = error
    raise ValueError(f"it is not JSON: {problem}")


def _of(kind):
    """The schema of a type."""
    if kind in _PLAIN:
        return {"type": _PLAIN[kind]}
    if kind is _typing.Any:
        return {}
    if kind in (list, dict):
        return {"type": "array" if kind is list else "object"}
    if _dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _typing.get_type_hints(kind)
        fields = [field for field in _dataclasses.fields(kind) if field.init]
        schema = {"type": "object", "properties": {field.name: _of(hints[field.name]) for field in fields}}
        schema["required"] = [field.name for field in fields if _is_required(field)]
        schema["additionalProperties"] = False
        if kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}("):
            schema["description"] = kind.__doc__
        return schema
    if isinstance(kind, type) and issubclass(kind, _enum.Enum):
        return {"enum": [member.value for member in kind]}
    origin, arguments = _typing.get_origin(kind), _typing.get_args(kind)
    if origin in (list, set, frozenset) or origin is tuple and arguments[1:] == (...,):
        return {"type": "array", "items": _of(arguments[0])}
    if origin is tuple:
        items = [_of(argument) for argument in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1])}
    if origin is _typing.Literal:
        return {"enum": list(arguments)}
    if origin in (_typing.Union, _types.UnionType):
        return {"anyOf": [_of(argument) for argument in arguments]}
    if origin is _typing.Annotated:
        return _of(arguments[0])
    raise TypeError(f"`schema` must be a JSON schema or a type that has one, and {kind!r} has none")


def _is_required(field):
    return field.default is _dataclasses.MISSING and field.default_factory is _dataclasses.MISSING


def _make(kind, value):
    """The value of a type that a checked JSON value stands for."""
    if _dataclasses.is_dataclass(kind):
        hints = _typing.get_type_hints(kind)
        return kind(**{name: _make(hints[name], part) for name, part in value.items()})
    if isinstance(kind, type) and issubclass(kind, _enum.Enum):
        return kind(value)
    if kind is float:
        return float(value)
    origin, arguments = _typing.get_origin(kind), _typing.get_args(kind)
    if origin in (list, set, frozenset):
        return origin(_make(arguments[0], item) for item in value)
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(_make(part, item) for part, item in zip(kinds, value))
    if origin is dict:
        return {name: _make(arguments[1], item) for name, item in value.items()}
    if origin is _typing.Annotated:
        return _make(arguments[0], value)
    if origin in (_typing.Union, _types.UnionType):
        for argument in arguments:
            schema = _of(argument)
            if not _problem(schema, value, "", schema):
                return _make(argument, value)
    return value


def _problem(schema, value, place, root):
    """What is wrong with a value, in words, or nothing."""
    if schema is True or schema == {}:
        return None
    if schema is False:
        return f"{place} must not be there"
    if "$ref" in schema:
        return _problem(_target(root, schema["$ref"]), value, place, root)
    kinds = schema.get("type")
    if kinds is not None:
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if not any(_is(value, kind) for kind in kinds):
            return f"{place} must be {' or '.join(kinds)}, not {_shown(value)}"
    if "enum" in schema and not any(_same(value, item) for item in schema["enum"]):
        return f"{place} must be one of {_json.dumps(schema['enum'])}, not {_shown(value)}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{place} must be {_json.dumps(schema['const'])}, not {_shown(value)}"
    if isinstance(value, str):
        problem = _text_problem(schema, value, place)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        problem = _number_problem(schema, value, place)
    elif isinstance(value, list):
        problem = _list_problem(schema, value, place, root)
    elif isinstance(value, dict):
        problem = _object_problem(schema, value, place, root)
    else:
        problem = None
    return problem or _combined_problem(schema, value, place, root)


def _combined_problem(schema, value, place, root):
    for part in schema.get("allOf", ()):
        problem = _problem(part, value, place, root)
        if problem:
            return problem
    if "anyOf" in schema:
        problems = [_problem(part, value, place, root) for part in schema["anyOf"]]
        if all(problems):
            return " or ".join(problems)
    if "oneOf" in schema:
        problems = [_problem(part, value, place, root) for part in schema["oneOf"]]
        fitting = problems.count(None)
        if fitting != 1:
            return f"{place} must fit one of {len(problems)} forms, and fits {fitting}"
    if "not" in schema and not _problem(schema["not"], value, place, root):
        return f"{place} is what it must not be: {_shown(value)}"
    return None


def _text_problem(schema, value, place):
    if len(value) < schema.get("minLength", 0):
        return f"{place} must have at least {schema['minLength']} characters"
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        return f"{place} must have at most {schema['maxLength']} characters"
    if "pattern" in schema and not _re.search(schema["pattern"], value):
        return f"{place} must match {schema['pattern']!r}, not {_shown(value)}"
    return None


def _number_problem(schema, value, place):
    for name, holds, words in (
        ("minimum", lambda bound: value >= bound, "at least"),
        ("maximum", lambda bound: value <= bound, "at most"),
        ("exclusiveMinimum", lambda bound: value > bound, "more than"),
        ("exclusiveMaximum", lambda bound: value < bound, "less than"),
        ("multipleOf", lambda bound: (value / bound).is_integer(), "a multiple of"),
    ):
        if name in schema and not holds(schema[name]):
            return f"{place} must be {words} {schema[name]}, not {_shown(value)}"
    return None


def _list_problem(schema, value, place, root):
    if len(value) < schema.get("minItems", 0):
        return f"{place} must have at least {schema['minItems']} items"
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        return f"{place} must have at most {schema['maxItems']} items"
    if schema.get("uniqueItems") and len({_json.dumps(item, sort_keys=True) for item in value}) < len(value):
        return f"{place} must have no item twice"
    first = schema.get("prefixItems", ())
    for position, item in enumerate(value):
        part = first[position] if position < len(first) else schema.get("items", True)
        problem = _problem(part, item, f"{place}[{position}]", root)
        if problem:
            return problem
    return None


def _object_problem(schema, value, place, root):
    for name in schema.get("required", ()):
        if name not in value:
            return f"{place} must have {name!r}"
    properties = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for name, item in value.items():
        parts = [properties[name]] if name in properties else []
        parts += [part for pattern, part in patterns.items() if _re.search(pattern, name)]
        if not parts:
            other = schema.get("additionalProperties", True)
            if other is False:
                return f"{place} must not have {name!r}"
            parts = [other]
        for part in parts:
            problem = _problem(part, item, f"{place}.{name}", root)
            if problem:
                return problem
    return None


def _target(root, reference):
    if not reference.startswith("#"):
        raise TypeError(f"`schema` refers to {reference!r}, and only references within it (`#/...`) are followed")
    target = root
    for part in reference[1:].split("/")[1:]:
        target = target[part.replace("~1", "/").replace("~0", "~")]
    return target


def _is(value, kind):
    if kind == "integer":
        whole = isinstance(value, int) or isinstance(value, float) and value.is_integer()
        return whole and not isinstance(value, bool)
    if kind == "number" and isinstance(value, bool):
        return False
    return isinstance(value, _TYPES.get(kind, ()))


def _same(one, other):
    """Equality of JSON, where `1` is not `true`."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _shown(value):
    text = _json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
