"""Generators: values that pass through a chain of them."""

from itertools import islice


def numbers():
    n = 0
    while True:
        n += 1
        yield n


def without(divisor, source):
    for n in source:
        if n % divisor:
            yield n


def tree(depth):
    if depth:
        yield from tree(depth - 1)
        yield depth
        yield from tree(depth - 1)


def work():
    source = numbers()
    for divisor in (2, 3, 5, 7, 11):
        source = without(divisor, source)
    return sum(islice(source, 45_000)) + sum(tree(15))
