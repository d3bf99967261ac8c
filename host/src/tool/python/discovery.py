"""Finding tools in steps: names first, then a line about each, then all that is needed to call one."""

import math as _math
import re as _re


class Item:
    """Something that a tool offers; it shows itself as one line."""

    __slots__ = ("name", "signature", "docs", "stub", "uses")

    def __init__(self, name, signature, docs, stub, uses):
        self.name = name
        self.signature = signature
        self.docs = docs
        self.stub = stub
        self.uses = uses

    @property
    def summary(self):
        """The first line of what is said about it."""
        return self.docs.partition("\n")[0]

    def show(self, detail):
        """Itself as `detail` has it: "name", "summary" or "full"."""
        if detail == "name":
            return self.name
        if detail == "summary":
            return f"{self.signature}: {self.summary}" if self.summary else self.signature
        return self.stub.rstrip() or (f"{self.name}: {self.docs}" if self.docs else self.name)

    def __repr__(self):
        return self.show("summary")


class Found(list):
    """Items, shown one a line."""

    detail = "summary"

    def __repr__(self):
        separator = "\n\n" if self.detail == "full" else "\n"
        return separator.join(item.show(self.detail) for item in self) or "nothing was found"


class Text(str):
    """Text that shows as it is."""

    __slots__ = ()

    def __repr__(self):
        return str(self)


DETAILS = ("name", "summary", "full")

# Words that say nothing about what a tool does.
_COMMON = frozenset("a an and as at by for from how i in into is it its of on or that the this to what with".split())


def _words(text):
    return [word for word in _re.findall(r"[a-z]+|\d+", _re.sub(r"([a-z])([A-Z])", r"\1 \2", text).lower())]


def _stem(word):
    for ending in ("ing", "ies", "es", "ed", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def _bags():
    bags = []
    for item in items():
        # What a server's functions take and give is found by them: its names say little, and there are many.
        if item.signature.startswith("class ") and item.name.partition(".")[0] in _of_servers:
            continue
        bag = {}
        for text, weight in ((item.docs, 1), (item.signature, 1), (item.summary, 2), (item.name, 5)):
            for word in {_stem(word) for word in _words(text)}:
                bag[word] = bag.get(word, 0) + weight
        bags.append((item, bag))
    return bags


def search(words, limit=10, detail="summary"):
    """Find what does something: the best `limit` matches of `words`, the best first."""
    _check(detail)
    _ask_servers(None)
    wanted = {_stem(word) for word in _words(words)} - _COMMON
    bags = _bags()
    rarity = {}
    for word in wanted:
        holding = sum(any(_alike(word, known) for known in bag) for _, bag in bags)
        rarity[word] = _math.log(1 + len(bags) / (1 + holding))
    scored = []
    for item, bag in bags:
        score = 0.0
        for word in wanted:
            best = max((weight * (1 if known == word else 0.6) for known, weight in bag.items() if _alike(word, known)),
                       default=0)
            score += best / (best + 2) * rarity[word]
        if score:
            scored.append((score, item))
    scored.sort(key=lambda pair: -pair[0])
    found = Found(item for _, item in scored[:limit])
    found.detail = detail
    return found


def _alike(word, known):
    return word == known or len(word) >= 4 and known.startswith(word) or len(known) >= 4 and word.startswith(known)


def describe(name=None, detail=None):
    """What a tool or a part of it is: without a name all tools, each with a line."""
    if name is None:
        _check(detail := detail or "summary")
        return _joined([item for item in items() if "." not in item.name], detail)
    name = name.removeprefix("tools.")
    _ask_servers(name.partition(".")[0])
    everything = items()
    exact = [item for item in everything if item.name == name]
    inside = [item for item in everything if item.name.startswith(name + ".")]
    if not exact:
        # Of a class that is found by another name than where it is, or of a method.
        owner, _, method = name.rpartition(".")
        exact = [item for item in everything if item.name == owner and f"def {method}(" in item.stub]
    if not exact and not inside:
        close = search(name, limit=3, detail="name")
        hint = f"; did you mean {', '.join(item.name for item in close)}?" if close else ""
        raise LookupError(f"there is no {name!r} in tools{hint}")
    if exact and exact[0].stub:
        _check(detail := detail or "full")
        if detail != "full":
            return _joined(exact, detail)
        used = {use for item in exact for use in item.uses}
        return _joined(exact + [item for item in everything if item.name in used and item not in exact], detail)
    _check(detail := detail or "summary")
    return _joined(exact + inside, detail)


def _joined(shown, detail):
    separator = "\n\n" if detail == "full" else "\n"
    return Text(separator.join(item.show(detail) for item in shown))


def _check(detail):
    if detail not in DETAILS:
        raise ValueError(f"detail must be one of {', '.join(map(repr, DETAILS))}, not {detail!r}")


def items():
    """All items of all tools."""
    global _items
    if _items is None:
        from tools import _index

        _items = [*_index.ITEMS]
        for name, place in _index.PACKAGES.items():
            _items += _of_package(name, place)
    return [*_items, *(item for found in _of_servers.values() for item in found)]


_items = None

# What MCP servers offer, by their names, of those that were asked; and what is said of each of them before.
_of_servers = {}
_summaries = {}


def _ask_servers(name):
    """Ask the MCP server `name` what it offers, or all of them. One that cannot say so is asked again the next time."""
    from tools import _index

    asked = [(server, first) for server, first in _index.SERVERS.items() if name in (None, server)]
    if not asked:
        return
    from tools import _mcp

    for server, found in _mcp.items(asked).items():
        own = next(item for item in items() if item.name == server)
        summary = _summaries.setdefault(server, own.docs)
        if isinstance(found, str):
            own.docs = f"{summary} ({found})"
            _of_servers.pop(server, None)
        else:
            own.docs = f"{summary}\n\n{found['about']}"
            _of_servers[server] = [Item(*parts) for parts in found["items"]]


def _of_package(name, place):
    """What a Python package offers, read without running it."""
    import ast

    found = []
    for module, source in _sources(name, place):
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            continue
        if module != name:
            found.append(Item(module, module, ast.get_docstring(tree) or "", "", ()))
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name[0] != "_":
                found.append(_of_node(ast, node, module))
    return found


def _sources(name, place):
    """The public modules of a Python package, by their names below `tools`, and their sources."""
    import os

    if not isinstance(place, str):
        # In a composed program the modules themselves are there, and no directory.
        yield from place
        return
    for directory, folders, files in os.walk(place):
        folders[:] = sorted(folder for folder in folders if not folder.startswith((".", "_")))
        for file in sorted(files):
            if not file.endswith(".py") or file.startswith("_") and file != "__init__.py":
                continue
            parts = [name, *os.path.relpath(os.path.join(directory, file), place)[:-3].split(os.sep)]
            module = ".".join(part for part in parts if part != "__init__")
            try:
                with open(os.path.join(directory, file), encoding="utf-8") as source:
                    text = source.read()
            except (OSError, ValueError):
                continue
            yield module, text


def _of_node(ast, node, module):
    docs = ast.get_docstring(node) or ""
    if isinstance(node, ast.ClassDef):
        signature = f"class {module}.{node.name}"
    else:
        returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
        signature = f"{module}.{node.name}({ast.unparse(node.args)}){returns}"
    # Bodies are not what a caller needs.
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef)):
            documented = ast.get_docstring(inner) is not None
            inner.body = [*inner.body[:documented], ast.Expr(ast.Constant(...))]
    return Item(f"{module}.{node.name}", signature, docs, ast.unparse(node), ())
