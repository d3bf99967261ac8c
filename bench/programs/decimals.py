"""Decimal numbers: interest, and a square root to many places."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext


def work():
    cent = Decimal("0.01")
    balance = Decimal("1000.00")
    for _ in range(120_000):
        balance += (balance * Decimal("0.00013")).quantize(cent, ROUND_HALF_EVEN)
        if balance > 100_000:
            balance /= 100
    with localcontext() as context:
        context.prec = 3_000
        root = Decimal(2)
        for _ in range(12):
            root = (root + 2 / root) / 2
    return f"{balance:.2f} {str(root)[-5:]}"
