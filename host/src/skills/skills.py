"""Programs that are kept from session to session."""

import json as _json
import sys as _sys

from agentkernel import _calls

_LIST, _SEARCH, _SHOW, _SAVE, _DELETE = range(0xFF000600, 0xFF000605)


class SkillError(Exception):
    """A skill is not there, or cannot be kept."""


SkillError.__module__ = "agentkernel"

_ERRORS = {"value": ValueError, "denied": PermissionError}


def _ask(function, head=b"", tail=b""):
    try:
        return _calls.call(function, head, tail)
    except _calls.Failure as error:
        failure = error.value
    raise _ERRORS.get(failure.kind, SkillError)(failure.message)


def _text(value, what):
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a str, not {type(value).__name__}")
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} must have a UTF-8 form") from None


class Skill:
    """What is known of a skill: its `name`, `description` and `version`."""

    __slots__ = ("name", "description", "version")

    def __init__(self, about):
        self.name = about["name"]
        self.description = about["description"]
        self.version = about["version"]

    def __repr__(self):
        return f"{self.name} (version {self.version}): {self.description}"


Skill.__module__ = "agentkernel"


class _Skills:
    """Programs that are kept: `skills.save(name, code, description)`, and later `from skills import name`."""

    __slots__ = ()

    def save(self, name, code, description):
        """Keep code as a module that later sessions import from `skills`. It must compile; what it defines is
        what they get. A name that is kept already gets a new version."""
        head = _json.dumps({"name": str(name), "description": str(description)}, ensure_ascii=False)
        source = _text(code, "code")
        head = _text(head, "a name or description")
        if name in _sys.stdlib_module_names:
            raise SkillError(f"`{name}` is a module of Python, so it cannot name a skill")
        compile(code, f"skills/{name}.py", "exec", dont_inherit=True)
        skill = Skill(_json.loads(_ask(_SAVE, head, source)))
        _forget(skill.name)
        return skill

    def list(self):
        """All skills, by name."""
        return [Skill(about) for about in _json.loads(_ask(_LIST))]

    def search(self, words, limit=10):
        """The skills that have words in their name, description or code, the best first."""
        return [Skill(about) for about in _json.loads(_ask(_SEARCH, _text(words, "words")))[:limit]]

    def show(self, name):
        """The code of a skill."""
        return _json.loads(_ask(_SHOW, _text(name, "a name")))[1]

    def delete(self, name):
        """Delete a skill."""
        _ask(_DELETE, _text(name, "a name"))
        _forget(name)

    def __repr__(self):
        return f"<agentkernel.skills: {', '.join(_names()) or 'none'}>"


def _forget(name):
    """Let the next import have what is kept now."""
    _sys.modules.pop(f"skills.{name}", None)
    package = _sys.modules.get("skills")
    if package is not None:
        package.__dict__.pop(name, None)


def _names():
    return [about["name"] for about in _json.loads(_ask(_LIST))]


def _load(name, names):
    """Run a skill's code as the module that `names` are of."""
    import linecache

    try:
        code = skills.show(name)
    except SkillError as error:
        # Not ModuleNotFoundError, whose message `from skills import` would drop.
        raise ImportError(str(error), name=f"skills.{name}") from None
    file = f"skills/{name}.py"
    # Tracebacks show its lines.
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    names["__file__"] = file
    exec(compile(code, file, "exec", dont_inherit=True), names)


skills = _Skills()
