"""Comprehensions and sets: primes, pairs and letters."""


def work():
    n = 180_000
    composite = {multiple for i in range(2, 425) for multiple in range(i * i, n, i)}
    primes = [i for i in range(2, n) if i not in composite]
    squares = {p: p * p for p in primes}
    twins = set(primes) & {p + 2 for p in primes}
    table = [[row * column for column in range(400)] for row in range(400)]
    return sum(squares.values()) + len(twins) + sum(map(sum, zip(*table)))
