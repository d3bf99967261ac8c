"""Classes: objects with methods, properties and inheritance."""


class Account:
    def __init__(self, owner):
        self.owner = owner
        self.amount = 0
        self.log = []

    @property
    def in_debt(self):
        return self.amount < 0

    def pay(self, amount):
        self.amount += self.fee(amount)
        self.log.append(amount)

    def fee(self, amount):
        return amount


class Costly(Account):
    __slots__ = ()

    def fee(self, amount):
        return super().fee(amount) - 1


def work():
    accounts = [Account(i) if i % 2 else Costly(i) for i in range(1_000)]
    for turn in range(160):
        for account in accounts:
            if account.in_debt:
                account.pay(10)
            else:
                account.pay(turn - account.owner % 50)
    return sum(account.amount for account in accounts)
