# What a turn with the option `last` does, as a process does at its end.
import sys

guest = sys.modules["wit_world.exports.guest"]
run = sys.modules["_agentkernel.turn"].run


def last(code):
    outcome = run(guest.Turn(code, "inner.py", [], guest.Options.LAST, None))
    return type(outcome).__name__, getattr(outcome, "value", None) and type(outcome.value).__name__


setup = """
import atexit, sys, weakref
log, prefix = [], "thing "
class Thing:
    def __init__(self, name):
        self.name = name
    def __del__(self):
        log.append(self.name)
        print("gone", helper(self.name), log)
def helper(name):
    return prefix + name
class Failing:
    def __del__(self):
        raise ValueError("in __del__")
one, many, failing = Thing("one"), [Thing("listed")], Failing()
cycle = Thing("cycle"); cycle.self = cycle
left = open("left", "w"); left.write("left open")
def generate():
    try:
        yield
    finally:
        print("generator closed")
generator = generate(); next(generator)
atexit.register(print, "registered first")
atexit.register(lambda: sys.exit(9))
atexit.register(lambda: 1 / 0)
atexit.register(print, "registered last")
finalizer = weakref.finalize(one, print, "finalized")
"""


import types

# The namespace is emptied each time: what goes on here keeps its names in another one.
own = {"guest": guest, "run": run, "setup": setup}
own["last"] = types.FunctionType(last.__code__, own)


def check():
    for end in ("print('end')", "raise KeyError('end')", "sys.exit(3)", "await __import__('asyncio').sleep(0)"):
        print("----", end)
        print(last(setup + end), open("left").read())


sys.unraisablehook = types.FunctionType((lambda ignored: print("ignored", repr(ignored.exc_value))).__code__, {})
types.FunctionType(check.__code__, own)()
