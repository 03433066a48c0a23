"""What a month in a village should come to, in plain Python: numbers in dictionaries, no database, no ledger."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta


@dataclass
class Village:
    """Balances and stocks by person, and what each kind of movement has moved in all.

    ``owed``: the due dates of the fees that each person owes. ``counted_from``: the day of the last top-up, from which
    the validity of their credit counts. ``calls``: who pays for each open call, and the credit that it holds.
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
    calls: dict[str, tuple[str, int]] = field(default_factory=dict)
    before_sale: date | None = None
    """From when the credit of the last buyer counted before they bought."""

    def held(self, person: str) -> int:
        """Return the credit that the open calls of a person hold."""
        return sum(held for payer, held in self.calls.values() if payer == person)

    def available(self, person: str) -> int:
        """Return the credit of a person that nothing holds."""
        return self.balance[person] - self.held(person)

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
        if self.available(buyer) < amount:
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
        if self.available(payer) < amount + self.transfer_fee:
            return False
        self.balance[payer] -= amount + self.transfer_fee
        self.balance[recipient] += amount
        self.moved["credit_transfer"] += amount
        self.moved["transfer_fee"] += self.transfer_fee
        self.counted_from.setdefault(recipient, today)  # no top-up, but credit that has no other end
        return True

    def may_call(self, caller: str) -> bool:
        """Return whether the caller may call."""
        return caller not in self.suspended and self.available(caller) > 0

    def hold(self, call: str, caller: str, seconds: int) -> None:
        """A call may go on for so many seconds in all."""
        self.calls[call] = caller, seconds

    def hang_up(self, call: str, seconds: int) -> None:
        """Charge the talk."""
        caller, _ = self.calls.pop(call)
        self.balance[caller] -= seconds
        self.moved["call"] += seconds

    def reverse(self, origin: str, payer: str | None, recipient: str | None, amount: int, today: date) -> bool:
        """Return whether the recipient still has what the payer gave, and then give it back; None: the operator."""
        if recipient is not None:
            if self.available(recipient) < amount:
                return False
            self.balance[recipient] -= amount
        if payer is not None:
            self.balance[payer] += amount
            if origin == "expiry":
                self.counted_from[payer] = today  # it has its full time again
            self.counted_from.setdefault(payer, today)
        self.moved["reversal"] += amount
        return True

    def begin_period(self, members: list[str], today: date) -> None:
        """A fee is due."""
        for each in members:
            self.owed.setdefault(each, []).append(today)
        self.collect(today)

    def collect(self, today: date) -> None:
        """Take what is owed of those who have a whole fee, the oldest first."""
        for person, due in self.owed.items():
            while due and self.available(person) >= self.fee:
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
        """Take all credit of which the last top-up is longer ago than it is valid; what is held, on a later day."""
        for person, counted_from in list(self.counted_from.items()):
            if counted_from + timedelta(days=self.valid_days) < today:
                self.moved["expiry"] += self.available(person)
                self.balance[person] = self.held(person)
                if not self.balance[person]:
                    del self.counted_from[person]
