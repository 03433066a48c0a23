"""The menu: its entries, and who sees them. The rule of an entry is that of its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celcombiller.http.authorization import ADMINISTRATORS, OWN_READ, STAFF_READ
from celcombiller.runtime.languages import mark_text as _

if TYPE_CHECKING:
    from celcombiller.core.access.principal import Principal
    from celcombiller.http.authorization import AccessRule


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the menu. ``name`` is translated where it is shown. ``of_sellers``: only sellers see it."""

    path: str
    name: str
    rule: AccessRule
    of_sellers: bool = False


OPERATORS = (
    Entry("/ui/start", _("Start"), STAFF_READ),
    Entry("/ui/subscribers", _("Subscribers"), STAFF_READ),
    Entry("/ui/sellers", _("Sellers"), STAFF_READ),
    Entry("/ui/calls", _("Calls"), STAFF_READ),
    Entry("/ui/live", _("Live"), STAFF_READ),
    Entry("/ui/trail", _("Trail"), ADMINISTRATORS),
)
SELLERS: tuple[Entry, ...] = (Entry("/ui/sell", _("Sell"), OWN_READ, of_sellers=True),)
SUBSCRIBERS: tuple[Entry, ...] = (
    Entry("/ui/me", _("My account"), OWN_READ),
    Entry("/ui/prices", _("Prices"), OWN_READ),
)


def menu_of(who: Principal) -> list[Entry]:
    """Return what stands in somebody's menu."""
    entries = (*OPERATORS, *SELLERS, *SUBSCRIBERS)
    return [each for each in entries if who.level in each.rule.levels and (who.sells or not each.of_sellers)]
