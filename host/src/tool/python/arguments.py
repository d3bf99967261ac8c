"""What is wrong with the arguments of a call, looked for one by one when they could not be encoded."""

from tools._runtime import Err, Ok, Some, _dumps

_INTEGERS = {"s8": (-(1 << 7), 1 << 7), "u8": (0, 1 << 8), "s16": (-(1 << 15), 1 << 15), "u16": (0, 1 << 16),
             "s32": (-(1 << 31), 1 << 31), "u32": (0, 1 << 32), "s64": (-(1 << 63), 1 << 63), "u64": (0, 1 << 64)}


def _wit(of):
    if isinstance(of, str):
        return of
    if of is None:
        return "_"
    kind = of[0]
    if kind == "named":
        return of[1].__name__
    if kind == "array":
        return f"list<{_wit(of[1])}, {of[2]}>"
    return f"{kind}<{', '.join(_wit(part) for part in of[1:])}>"


def _shown(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def explain(described, arguments):
    """An exception that names the first argument which is not a value of its type; None where all are."""
    for (name, of), value in zip(described, arguments):
        try:
            _check(of, value, name)
        except (TypeError, ValueError, OverflowError) as found:
            return found
    return None


def _check(of, value, place):
    wrong = TypeError(f"`{place}` must be {_wit(of)}, not {type(value).__name__} {_shown(value)}")
    if of in _INTEGERS:
        if not hasattr(type(value), "__index__"):
            raise wrong
        low, high = _INTEGERS[of]
        if not low <= value.__index__() < high:
            raise OverflowError(f"`{place}` must be {of}, and {_shown(value)} is not between {low} and {high - 1}")
    elif of == "bool":
        if value is not True and value is not False:
            raise wrong
    elif of in ("f32", "f64"):
        try:
            number = float(value) if not isinstance(value, str) else None
        except (TypeError, ValueError):
            number = None
        if number is None:
            raise wrong
        if of == "f32" and number - number == 0 and abs(number) > 3.4028235677973366e38:
            raise OverflowError(f"`{place}` must be f32, and {_shown(value)} is too large")
    elif of == "char":
        if type(value) is not str or len(value) != 1:
            raise wrong
        _check("string", value, place)
    elif of == "string":
        if not isinstance(value, str):
            raise wrong
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"`{place}` must be {of}, and {_shown(value)} has a surrogate, which UTF-8 has not") from None
    elif of == "json":
        try:
            _dumps(value).encode()
        except (TypeError, ValueError) as error:
            raise type(error)(f"`{place}` must be what JSON can hold: {error}") from None
    elif of is not None:
        _check_composed(of, value, place, wrong)


def _check_composed(of, value, place, wrong):
    kind = of[0]
    if kind == "option":
        if value is not None:
            if of[1][0] == "option":
                if type(value) is not Some:
                    raise wrong
                value = value.value
            _check(of[1], value, place)
    elif kind in ("list", "array"):
        if isinstance(value, (str, dict)) or not hasattr(type(value), "__iter__") or not hasattr(type(value), "__len__"):
            raise wrong
        if kind == "array" and len(value) != of[2]:
            raise ValueError(f"`{place}` must be {_wit(of)}, and has {len(value)} items")
        for position, item in enumerate(value):
            _check(of[1], item, f"{place}[{position}]")
    elif kind == "map":
        if not isinstance(value, dict):
            raise wrong
        for key, item in value.items():
            _check(of[1], key, f"{place}: a key")
            _check(of[2], item, f"{place}[{_shown(key)}]")
    elif kind == "tuple":
        if not isinstance(value, (tuple, list)) or len(value) != len(of) - 1:
            raise wrong
        for position, (part, item) in enumerate(zip(of[1:], value)):
            _check(part, item, f"{place}[{position}]")
    elif kind == "result":
        if type(value) not in (Ok, Err):
            raise wrong
        _check(of[1] if type(value) is Ok else of[2], value.value, f"{place}.value")
    else:
        _check_named(of[1], of[2], value, place, wrong)


def _check_named(cls, inside, value, place, wrong):
    parts = inside() if inside else None
    cases = getattr(cls, "_cases", None)
    if cases is not None:
        if type(value) not in cases:
            raise wrong
        part = parts[cases[type(value)]]
        if part is not None:
            _check(part, value.value, f"{place}.value")
    elif not isinstance(value, cls):
        raise wrong
    elif parts is not None:
        for name, part in parts:
            _check(part, getattr(value, name), f"{place}.{name}")
