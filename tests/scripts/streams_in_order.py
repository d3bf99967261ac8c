import logging
import os
import sys
import warnings

print("one")
print("two", file=sys.stderr)
print("three", end="")
print()
os.write(1, b"four\n")
warnings.warn("careful")
logging.warning("logged")
sys.stdout.write("né ✓\n")
sys.stdout.buffer.write(b"raw\n")
print(sys.stdout.encoding, sys.stdin.read(), sys.stdout.isatty(), sys.stdout.fileno())
