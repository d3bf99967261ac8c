"""Integers in loops: how long the Collatz sequences are."""


def work():
    longest = 0
    for start in range(1, 12_000):
        n, steps = start, 0
        while n != 1:
            n = n >> 1 if n & 1 == 0 else 3 * n + 1
            steps += 1
        if steps > longest:
            longest = steps
    return longest
