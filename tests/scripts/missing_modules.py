import os
import subprocess
import threading

for name in ("ssl", "ctypes", "bz2", "lzma", "mmap", "multiprocessing", "compression.zstd", "concurrent.interpreters", "readline", "numpy", "requests", "no_such_module"):
    try:
        __import__(name)
        print(name, "is there")
    except ImportError as error:
        print(f"{type(error).__name__}: {error}")
try:
    threading.Thread(target=print).start()
except RuntimeError as error:
    print(error)
import multiprocessing

for act in (lambda: subprocess.run(["ls"]), lambda: os.system("ls"), multiprocessing.Pool):
    try:
        act()
    except OSError as error:
        print(error)
# What programs probe for must still be absent quietly.
import importlib.util

print(importlib.util.find_spec("numpy"))
try:
    import yaml
except ImportError:
    yaml = None
print(yaml)
