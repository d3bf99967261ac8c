import json
from time import perf_counter

start = perf_counter()
from tools.echo import values
imported = perf_counter()
result = values.add(1, 2)
first = perf_counter()
values.add(1, 2)
second = perf_counter()
assert result == 3
print(json.dumps([imported - start, first - imported, second - first]))
