"""What a month in a village should come to, in plain Python: numbers in dictionaries, no database, no ledger."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta


@dataclass
class Village:
    """Balances and stocks by person, and what each kind of movement has moved in all.

    ``owed``: the due dates of the fees that each person owes. ``counted_from``: the day of the last top-up, from which
    the validity of their credit counts.
    """

    fee: int
    suspend_days: int
    valid_days: int
    transfer_fee: int
    bonus_percent: int
    balance: Counter[str] = field(default_factory=Counter)
    stock: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    receipts: Counter[str] = field(default_factory=Counter)
    owed: dict[str, list[date]] = field(default_factory=dict)
    counted_from: dict[str, date] = field(default_factory=dict)
    suspended: set[str] = field(default_factory=set)
    before_sale: date | None = None
    """From when the credit of the last buyer counted before they bought."""

    def refill(self, seller: str, amount: int) -> None:
        """The operator gives a seller stock."""
        self.stock[seller] += amount
        self.moved["refill"] += amount
        self.receipts["office"] += 1

    def sell(self, seller: str, buyer: str, amount: int, today: date) -> bool:
        """Return whether the seller has so much, and then sell it, with the bonus."""
        if self.stock[seller] < amount:
            return False
        bonus = amount * self.bonus_percent // 100
        self.stock[seller] += bonus - amount
        self.balance[buyer] += amount
        self.moved["sale"] += amount
        self.moved["commission"] += bonus
        self.receipts[seller] += 1
        self.before_sale = self.counted_from.get(buyer)
        self.counted_from[buyer] = today
        return True

    def undo(self, seller: str, buyer: str, amount: int) -> bool:
        """Return whether the credit is still there, and then give it back, with the bonus."""
        if self.balance[buyer] < amount:
            return False
        bonus = amount * self.bonus_percent // 100
        self.balance[buyer] -= amount
        self.stock[seller] += amount - bonus
        self.moved["undo"] += amount + bonus
        if self.before_sale is not None:
            self.counted_from[buyer] = self.before_sale
        return True

    def redeem(self, buyer: str, value: int, today: date) -> None:
        """A card gives its value."""
        self.balance[buyer] += value
        self.moved["voucher"] += value
        self.counted_from[buyer] = today

    def give(self, payer: str, recipient: str, amount: int, today: date) -> bool:
        """Return whether the payer has the amount and the fee, and then give it."""
        if self.balance[payer] < amount + self.transfer_fee:
            return False
        self.balance[payer] -= amount + self.transfer_fee
        self.balance[recipient] += amount
        self.moved["credit_transfer"] += amount
        self.moved["transfer_fee"] += self.transfer_fee
        self.counted_from.setdefault(recipient, today)  # no top-up, but credit that has no other end
        return True

    def call(self, caller: str, seconds: int) -> bool:
        """Return whether the caller may call, and then charge the talk, as far as the balance goes."""
        if caller in self.suspended or self.balance[caller] <= 0:
            return False
        cost = min(seconds, self.balance[caller])
        self.balance[caller] -= cost
        self.moved["call"] += cost
        return True

    def begin_period(self, members: list[str], today: date) -> None:
        """A fee is due."""
        for each in members:
            self.owed.setdefault(each, []).append(today)
        self.collect(today)

    def collect(self, today: date) -> None:
        """Take what is owed of those who have a whole fee, the oldest first."""
        for person, due in self.owed.items():
            while due and self.balance[person] >= self.fee:
                due.pop(0)
                self.balance[person] -= self.fee
                self.moved["fee"] += self.fee
            if not self._is_unpaid_too_long(due, today):
                self.suspended.discard(person)

    def suspend(self, today: date) -> None:
        """Switch off who owes for too many days."""
        self.suspended |= {person for person, due in self.owed.items() if self._is_unpaid_too_long(due, today)}

    def _is_unpaid_too_long(self, due: list[date], today: date) -> bool:
        return bool(due) and due[0] + timedelta(days=self.suspend_days) <= today

    def expire(self, today: date) -> None:
        """Take all credit of which the last top-up is longer ago than it is valid."""
        for person, counted_from in list(self.counted_from.items()):
            if counted_from + timedelta(days=self.valid_days) < today:
                self.moved["expiry"] += self.balance[person]
                self.balance[person] = 0
                del self.counted_from[person]
