# A last value that is small in memory and without end when written out.
import sys
from collections import Counter, OrderedDict, defaultdict
from enum import IntEnum, StrEnum

json = sys.modules["_agentkernel.turn"]._json


class Lying(int):
    def __lt__(self, other):
        return True

    __gt__ = __le__ = __ge__ = __eq__ = __lt__
    __hash__ = int.__hash__

    def __repr__(self):
        return "lie"


class Text(str):
    def __str__(self):
        return "lie"

    encode = __len__ = __iter__ = None


class Mapping(dict):
    def items(self):
        raise KeyError("items")


class Claims:
    @property
    def __class__(self):
        raise KeyError("class")


class Colour(IntEnum):
    RED = 1


class Word(StrEnum):
    GO = "go"


ordered = OrderedDict(a=1, b=2)
ordered.move_to_end("a")
for value in (
    None, True, 1, 2**53, 2**64, -(2**63), 1.5, float("inf"), "ü", "\ud800", Lying(2**70), Lying(7), Text("text"),
    Colour.RED, Word.GO, [Colour.RED, True, (1, None)], Mapping(a=1), {1: 2}, ordered, Counter("aab"),
    defaultdict(list, a=[1]), Claims(), [Claims()], {Text("k"): 1}, b"", {1}, ["x" * 2**20] * 5, [0] * 250_000,
):
    form = json(value)
    print(form if form is None or len(form) < 60 else len(form))
shared = []
for _ in range(60):
    shared = [shared, shared]
print(json(shared))
loop = []
loop.append(loop)
print(json(loop))
