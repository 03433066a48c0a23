"""Format a balance for people: its figures, and a short text of them. Pure and exact.

Where a credit is a second, a voice balance is minutes and seconds; else it is a number with as many decimals as the
operator's unit has. Nothing is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass

from celcombiller.core.languages.language import PLAIN, Language
from celcombiller.core.model.accounts import Kind


@dataclass(frozen=True, slots=True)
class BalanceStyle:
    """What a voice credit is: a second, or the last of ``scale`` decimals of the operator's unit."""

    as_time: bool = True
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """A number as it is written and spoken: ``decimals`` are the digits after the point, without trailing zeros."""

    negative: bool
    whole: int
    decimals: str = ""

    def __str__(self) -> str:
        """Return it as ``-12.5``."""
        return f"{'-' if self.negative else ''}{self.whole}{'.' if self.decimals else ''}{self.decimals}"


def decimal_parts(balance: int, scale: int) -> Figures:
    """Return the figures of a balance whose last ``scale`` digits are decimals."""
    whole, rest = divmod(abs(balance), 10**scale)
    return Figures(balance < 0, whole, f"{rest:0{scale}}".rstrip("0") if scale else "")


def minutes_and_seconds(balance: int) -> tuple[int, int]:
    """Return the minutes and seconds of a balance whose credits are seconds, without its sign."""
    return divmod(abs(balance), 60)


def format_balance(balance: int, kind: Kind, style: BalanceStyle, language: Language = PLAIN) -> str:
    """Return a balance as text: ``2 min 5 s`` (international symbols) or a number. Data and sms are bare numbers."""
    if kind is not Kind.VOICE:
        return language.format_number(balance)
    if not style.as_time:
        return language.format_number(str(decimal_parts(balance, style.scale)))
    minutes, seconds = minutes_and_seconds(balance)
    parts = [f"{language.format_number(minutes)} min"] if minutes else []
    if seconds or not minutes:
        parts.append(f"{seconds} s")
    return ("-" if balance < 0 else "") + " ".join(parts)
