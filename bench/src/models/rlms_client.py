"""Answers a question with the RLM authors' package: base URL, root model, file, question."""

import json
import sys
import time
from importlib.metadata import version

from rlm import RLM

base_url, model, file, question = sys.argv[1:]
common = {"base_url": base_url, "api_key": "no-key-at-all"}
run = RLM(
    backend="openai",
    backend_kwargs={"model_name": model, **common},
    other_backends=["openai"],
    other_backend_kwargs=[{"model_name": "reader", **common}],
    max_depth=1,
    max_concurrent_subcalls=16,
)
start = time.perf_counter()
with open(file) as opened:
    answer = run.completion(opened.read(), question).response
print(json.dumps({"version": version("rlms"), "answer": answer, "seconds": time.perf_counter() - start}))
