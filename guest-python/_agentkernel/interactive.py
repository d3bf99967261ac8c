"""What an interactive prompt asks beside turns."""

import ast
import codeop
import rlcompleter

from . import failures, turn

_compiler = codeop.CommandCompiler()
_compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


def incomplete(code: str) -> bool:
    """Whether `code` is the beginning of a statement that needs more lines."""
    # "single" waits for the empty line that ends a block; "exec" takes several statements at once.
    for mode in ("single", "exec"):
        try:
            return _compiler(code, "<stdin>", mode) is None
        except BaseException:
            # Wrong, or too deep: running it says so.
            pass
    return False


def complete(text: str) -> list[str]:
    """Completions of the last name in `text`."""
    start = len(text)
    while start and (text[start - 1].isalnum() or text[start - 1] in "_."):
        start -= 1
    name = text[start:]
    if not name:
        return []
    completer = rlcompleter.Completer(turn.main.__dict__)
    found: list[str] = []
    try:
        while len(found) < 500 and (match := completer.complete(name, len(found))) is not None:
            found.append(failures.clean(match))
    except BaseException:
        # Attributes are the program's code.
        pass
    return sorted(set(found))
