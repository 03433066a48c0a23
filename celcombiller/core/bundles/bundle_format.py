"""Format what is left of bundles for people, as balances are. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.languages.language import PLAIN, Language
from celcombiller.core.languages.language import Text as _
from celcombiller.core.ledger.balance_format import BalanceStyle, format_balance
from celcombiller.core.model.accounts import BundleKind, Kind
from celcombiller.core.model.bundles import BundleState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from celcombiller.core.model.bundles import Bundle

_SECONDS = BalanceStyle(as_time=True)


def format_bundles(bundles: Iterable[Bundle], style: BalanceStyle, now: datetime, language: Language = PLAIN) -> str:
    """Return the names of the bundles that pay now, and what is left of each: ``hour: 42 min; texts: 10``."""
    return "; ".join(
        f"{each.name}: {format_left(each, style, language)}"
        for each in bundles
        if each.state_at(now) is BundleState.VALID
    )


def format_left(bundle: Bundle, style: BalanceStyle, language: Language = PLAIN) -> str:
    """Return what is available of a bundle: seconds as minutes and seconds, money as a balance, others as a number."""
    if bundle.unlimited:
        return language.write(_("unlimited"))
    if bundle.kind is BundleKind.SECONDS:
        return format_balance(bundle.available, Kind.VOICE, _SECONDS, language)
    if bundle.kind is BundleKind.MONEY:
        return format_balance(bundle.available, Kind.VOICE, style, language)
    return language.format_number(bundle.available)
