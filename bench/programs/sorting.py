"""Sorting: numbers, strings, and records by a key."""

import random


def work():
    generator = random.Random(1)
    numbers = [generator.random() for _ in range(80_000)]
    names = [f"{int(number * 1e6):06}" for number in numbers[:30_000]]
    records = list(zip(names, numbers))
    numbers.sort()
    names.sort()
    records.sort(key=lambda record: (record[0][-2:], record[1]))
    return f"{numbers[40_000]:.6f} {names[100]} {records[100][0]}"
