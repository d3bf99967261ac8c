"""Exceptions: raised, caught, and passed through `finally` and `with`."""

from contextlib import contextmanager


@contextmanager
def counted(counts):
    try:
        yield
    finally:
        counts[0] += 1


def parse(text):
    try:
        return int(text)
    except ValueError as error:
        raise LookupError(text) from error


def work():
    counts = [0]
    missing = 0
    for i in range(24_000):
        try:
            with counted(counts):
                parse("?" if i % 2 else str(i))
        except LookupError:
            missing += 1
    return counts[0] + missing
