"""The accounts that paid for callers lately: a batch reads and locks them in its first statement, not in a second.

What is remembered is only a guess of what to read. The batch finds out who pays from the rows themselves, and reads
what the guess lacks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celcombiller.core.model.accounts import Kind

PAYERS_MAX = 20_000
"""Callers that are remembered, a few hundred bytes each."""

PayerKey = tuple[str, str, "Kind"]
"""Account code, caller number, and the kind of the account that pays."""


@dataclass(slots=True)
class Guess:
    """The accounts and holds that a batch will probably need, and the subscribers whose bundles may pay."""

    accounts: set[int] = field(default_factory=set)
    holds: set[str] = field(default_factory=set)
    bundled: set[int] = field(default_factory=set)


@dataclass(slots=True)
class PayerMemory:
    """Who paid lately, and from which accounts, by what a request names."""

    _known: dict[PayerKey, tuple[tuple[int, ...], int | None]] = field(default_factory=dict)

    def recall(self, keys: Iterable[PayerKey], guess: Guess) -> bool:
        """Add what pays for these; return whether all of them are known."""
        for key in keys:
            known = self._known.get(key)
            if known is None:
                return False
            accounts, bundled = known
            guess.accounts.update(accounts)
            if bundled is not None:
                guess.bundled.add(bundled)
        return True

    def remember(self, key: PayerKey, accounts: tuple[int, ...], bundled: int | None) -> None:
        """Remember the accounts that may pay, the subscriber's own first; ``bundled``: they have bundles."""
        if self._known.get(key) == (accounts, bundled):
            return
        self._known[key] = (accounts, bundled)
        if len(self._known) > PAYERS_MAX:
            del self._known[next(iter(self._known))]
