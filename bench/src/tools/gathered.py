import asyncio
import json
from time import perf_counter

from tools.echo.aio import faults, values

from tools.echo import values as plain


async def gather(call, arguments, expected):
    start = perf_counter()
    results = await asyncio.gather(*(call(*each) for each in arguments))
    seconds = perf_counter() - start
    assert results == expected
    return seconds


async def measure():
    numbers = range(ADDITIONS)
    start = perf_counter()
    for number in numbers:
        plain.add(number, 1)
    in_turn = perf_counter() - start
    adds = [await gather(values.add, [(n, 1) for n in numbers], [n + 1 for n in numbers]) for _ in range(2)]
    pauses = [await gather(faults.pause, [(MILLISECONDS,)] * PAUSES, [None] * PAUSES) for _ in range(2)]
    return [in_turn, *adds, *pauses]


print(json.dumps(asyncio.run(measure())))
