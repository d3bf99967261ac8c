import gc
import json
from array import array
from timeit import Timer

from tools.echo import values

point = values.Point(1, -2)
people = [values.Person("Ada", 36, ["first", "second"], point)]
blob = bytes(range(256)) * 4096
floats = array("d", range(1_000_000))
text = "0123456789abcdef" * 65536


def measure(call, expected, batch, rounds):
    assert eval(call) == eval(expected), call
    # The first argument of `repeat` says how often; a batch is timed as one, as a clock takes a while to read.
    times = Timer(call, gc.enable, globals=globals()).repeat(rounds, batch)
    return [seconds / batch for seconds in times]


print(json.dumps([measure(call, expected, batch, ROUNDS) for call, expected, batch in CASES]))
