"""How a balance is told to people: the figures of it, and a line of text with them. Pure, exact, in no language.

Where a credit is a second, a voice balance is minutes and seconds; else it is a number, with as many of its digits
behind the point as the operator's unit has. Nothing is rounded: what is told is what is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from celcombiller.core.model.accounts import Kind


@dataclass(frozen=True, slots=True)
class BalanceStyle:
    """What a voice credit is: a second, or the last of ``scale`` decimals of the operator's unit."""

    as_time: bool = True
    scale: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """A number as it is written and said: ``decimals`` are the digits behind the point, without zeros at their end."""

    negative: bool
    whole: int
    decimals: str = ""

    def __str__(self) -> str:
        """Write it, as ``-12.5``."""
        return f"{'-' if self.negative else ''}{self.whole}{'.' if self.decimals else ''}{self.decimals}"


def decimal_parts(credits_told: int, scale: int) -> Figures:
    """Give the figures of a balance whose last ``scale`` digits stand behind the point."""
    whole, rest = divmod(abs(credits_told), 10**scale)
    return Figures(credits_told < 0, whole, f"{rest:0{scale}}".rstrip("0") if scale else "")


def minutes_and_seconds(credits_told: int) -> tuple[int, int]:
    """Give the minutes and the seconds of a balance whose credits are seconds, its sign left out."""
    return divmod(abs(credits_told), 60)


def format_balance(credits_told: int, kind: Kind, style: BalanceStyle) -> str:
    """Write a balance: ``2 min 5 s`` (the units' international signs), or a number. Data and sms are bare numbers."""
    if kind is not Kind.VOICE:
        return str(credits_told)
    if not style.as_time:
        return str(decimal_parts(credits_told, style.scale))
    minutes, seconds = minutes_and_seconds(credits_told)
    parts = [f"{minutes} min"] if minutes else []
    if seconds or not minutes:
        parts.append(f"{seconds} s")
    return ("-" if credits_told < 0 else "") + " ".join(parts)
