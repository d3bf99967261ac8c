# A last value whose repr fails does not fail the script.
class Hostile:
    def __repr__(self):
        raise SystemExit(3)


print("ran")
Hostile()
