"""Values that are kept from session to session."""

import json as _json
from collections.abc import MutableMapping as _MutableMapping

from agentkernel import _calls

_GET, _PUT, _DELETE, _LIST, _HAS = range(0xFF000500, 0xFF000505)


class StateError(Exception):
    """What was to be kept is not, or what is kept cannot be read."""


class StateConflict(StateError):
    """Another session changed a key after the turn had read it."""


for _class in (StateError, StateConflict):
    _class.__module__ = "agentkernel"

_ERRORS = {"value": ValueError, "denied": PermissionError}


def _ask(function, head, tail=b""):
    try:
        return _calls.call(function, head, tail)
    except _calls.Failure as error:
        failure = error.value
    raise _ERRORS.get(failure.kind, StateError)(failure.message)


def _key(key):
    if not isinstance(key, str):
        raise TypeError(f"a key must be a str, not {type(key).__name__}")
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise ValueError(f"a key must have a UTF-8 form, and {key!r} has none") from None


def _check(value, depth=0):
    """Refuse what would not be read as it was put."""
    if depth > 100:
        raise ValueError("a value may have 100 levels of lists and dictionaries in each other")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"keys of dictionaries must be str to be kept, not {type(key).__name__}")
            _check(item, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, depth + 1)
    elif value is not None and not isinstance(value, (str, int, float)):
        raise TypeError(f"a value of type {type(value).__name__} has no JSON form, so it cannot be kept")


class _State(_MutableMapping):
    """What is kept from session to session: JSON values by key.

    What a turn puts is kept at its end, all of it at once; nothing of it when the turn is stopped by a limit.
    """

    __slots__ = ()

    def get(self, key, default=None):
        """The value of a key, or `default`."""
        found = _ask(_GET, _key(key))
        return _json.loads(found) if found else default

    def put(self, key, value):
        """Keep a value: None, bool, int, float, str, and lists and dictionaries of them. Tuples are kept as lists."""
        _check(value)
        _ask(_PUT, _key(key), _json.dumps(value, allow_nan=False, separators=(",", ":")).encode())

    def delete(self, key):
        """Delete a key; says whether it was there."""
        return _ask(_DELETE, _key(key)) == b"\x01"

    def list(self, prefix=""):
        """The keys that begin with `prefix`, sorted."""
        return _json.loads(_ask(_LIST, _key(prefix)))

    def __contains__(self, key):
        return isinstance(key, str) and _ask(_HAS, _key(key)) == b"\x01"

    def __getitem__(self, key):
        found = _ask(_GET, _key(key))
        if not found:
            raise KeyError(key)
        return _json.loads(found)

    def __setitem__(self, key, value):
        self.put(key, value)

    def __delitem__(self, key):
        if not self.delete(key):
            raise KeyError(key)

    def __iter__(self):
        return iter(self.list())

    def __len__(self):
        return len(self.list())

    def clear(self):
        """Delete all keys."""
        for key in self.list():
            self.delete(key)

    def __repr__(self):
        return f"<agentkernel.state: {len(self)} keys>"


state = _State()
