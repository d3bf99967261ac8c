# exit: 1
import sys

sys.excepthook = lambda *args: 1 / 0
raise ValueError("not caught")
