# exit: 1
import sys


def hook(kind, error, trace):
    print("hook:", kind.__name__, error, trace.tb_frame.f_code.co_filename, trace.tb_lineno, file=sys.stderr)


sys.excepthook = hook
raise ValueError("not caught")
