# The last value is anything: its repr may fail, lie or be huge.
class Hostile:
    def __repr__(self):
        raise KeyError("no repr")


try:
    repr(Hostile())
except KeyError as error:
    print("raised", error)
print("\ud800".encode("utf-8", "backslashreplace"))
float("nan")
