# exit: 1
# Directories of the program that are named as ours keep their place in tracebacks.
import os
import sys

os.makedirs("_agentkernel")
with open("_agentkernel/mine.py", "w") as file:
    file.write("def fail():\n    open('missing')\n")
sys.path.insert(0, "/workspace/_agentkernel")
import mine

mine.fail()
