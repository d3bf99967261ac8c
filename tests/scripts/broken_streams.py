# A program may do to its streams what it likes; the turns after it have theirs.
import sys

sys.stdout.close()
print("after close")
old = sys.stdout
sys.stdout = None
print("nowhere")
sys.stdout = old
old.buffer.write(b"bytes\n")
sys.stderr = open("elsewhere", "w")
print("hidden", file=sys.stderr)
print("end")
