import inspect
import pickle
import sys
from dataclasses import dataclass


@dataclass
class Point:
    x: int


def documented():
    """Documented."""


print(__name__, __file__, sys.argv)
print(sys.modules["__main__"].Point is Point)
print(pickle.loads(pickle.dumps(Point(1))))
print(inspect.getsource(documented))
help(documented)
print(exec("1"), eval("__name__"), globals() is vars(sys.modules["__main__"]))
if __name__ == "__main__":
    print("run as a program")
