"""The menu: its sections and their entries, and who sees them. The rule of an entry is that of its page."""

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
    """A page in the menu. ``name`` is translated where it is shown. ``of_sellers``: only sellers see it.

    ``document`` says how to use the page: its address below `/ui/help/`.
    """

    path: str
    name: str
    rule: AccessRule
    of_sellers: bool = False
    document: str = "how-to/use-the-console.md"

    def leads_to(self, address: str) -> bool:
        """Return whether a page belongs to this entry: it is its page, or one below it."""
        return address == self.path or address.startswith(f"{self.path}/")


@dataclass(frozen=True, slots=True)
class Section:
    """A word of the bar. Its entries stand below the bar while one of them is looked at.

    ``of_staff``: only staff see it, or only the others.
    """

    name: str
    entries: tuple[Entry, ...]
    of_staff: bool | None = None

    def leads_to(self, address: str) -> bool:
        """Return whether a page belongs to one of the entries."""
        return any(each.leads_to(address) for each in self.entries)


SECTIONS = (
    Section(_("Start"), (Entry("/ui/start", _("Start"), STAFF_READ),)),
    Section(
        _("Subscribers"),
        (
            Entry("/ui/subscribers", _("Subscribers"), STAFF_READ, document="how-to/subscribers.md"),
            Entry("/ui/groups", _("Groups"), STAFF_READ, document="how-to/subscribers.md"),
        ),
    ),
    Section(
        _("Calls"),
        (
            Entry("/ui/calls", _("Calls"), STAFF_READ, document="how-to/explain-prices.md"),
            Entry("/ui/live", _("Live"), STAFF_READ, document="how-to/live-calls.md"),
            Entry("/ui/messages", _("Messages"), STAFF_READ, document="how-to/text-messages.md"),
            Entry("/ui/broadcasts", _("Broadcasts"), STAFF_READ, document="how-to/text-messages.md"),
            Entry("/ui/data-sessions", _("Data sessions"), STAFF_READ, document="how-to/data-by-radius.md"),
            Entry("/ui/cdr-differences", _("Differences (CDR)"), STAFF_READ, document="how-to/reconcile-with-cdr.md"),
        ),
    ),
    Section(
        _("Prices"),
        (
            Entry("/ui/tariffs", _("Tariffs"), STAFF_READ, document="how-to/price-by-destination.md"),
            Entry("/ui/offers", _("Offers"), STAFF_READ, document="how-to/sell-bundles.md"),
            Entry("/ui/bundles", _("Bundles"), STAFF_READ, document="how-to/sell-bundles.md"),
            Entry("/ui/trunks", _("Trunks"), STAFF_READ, document="how-to/trunks.md"),
            Entry("/ui/routes", _("Routes"), STAFF_READ, document="how-to/trunks.md"),
            Entry("/ui/prices", _("What a call costs"), OWN_READ, document="how-to/explain-prices.md"),
        ),
        of_staff=True,
    ),
    Section(
        _("Credit"),
        (
            Entry("/ui/sellers", _("Sellers"), STAFF_READ, document="how-to/sell-credit.md"),
            Entry("/ui/vouchers", _("Vouchers"), STAFF_READ, document="how-to/vouchers.md"),
            Entry("/ui/payments", _("Payments"), STAFF_READ, document="how-to/payments.md"),
            Entry("/ui/schedules", _("Schedules"), STAFF_READ, document="how-to/scheduled-credits.md"),
            Entry("/ui/fees", _("Fees"), STAFF_READ, document="how-to/fees-and-subscriptions.md"),
        ),
    ),
    Section(
        _("Reports"),
        (
            Entry("/ui/reports/days", _("By day"), STAFF_READ),
            Entry("/ui/reports/sellers", _("By seller"), STAFF_READ),
            Entry("/ui/reports/destinations", _("By destination"), STAFF_READ),
            Entry("/ui/reports/trunks", _("By trunk"), STAFF_READ),
        ),
    ),
    Section(
        _("System"),
        (
            Entry("/ui/networks", _("Networks"), STAFF_READ, document="how-to/openbts-and-osmocom.md"),
            Entry("/ui/staff", _("Staff"), STAFF_READ),
            Entry("/ui/tokens", _("Tokens"), ADMINISTRATORS, document="how-to/use-the-api.md"),
            Entry("/ui/sessions", _("Sessions"), OWN_READ),
            Entry("/ui/settings", _("Settings"), ADMINISTRATORS, document="reference/configuration.md"),
            Entry("/ui/trail", _("Trail"), ADMINISTRATORS),
            Entry("/ui/audit", _("Audit"), ADMINISTRATORS, document="explanation/ledger-and-audit.md"),
            Entry("/ui/doctor", _("Doctor"), ADMINISTRATORS, document="how-to/monitoring.md"),
        ),
        of_staff=True,
    ),
    Section(
        _("Sell"),
        (Entry("/ui/sell", _("Sell"), OWN_READ, of_sellers=True, document="how-to/sell-credit.md"),),
    ),
    Section(_("My account"), (Entry("/ui/me", _("My account"), OWN_READ),)),
    Section(_("Prices"), (Entry("/ui/prices", _("Prices"), OWN_READ),), of_staff=False),
)


def menu_of(who: Principal) -> list[Section]:
    """Return what stands in somebody's menu: the sections in which they see something."""
    sections = (each for each in SECTIONS if each.of_staff in (None, who.is_staff))
    shown = (Section(each.name, tuple(_visible(each.entries, who))) for each in sections)
    return [each for each in shown if each.entries]


def find_document(address: str) -> str:
    """Return the document that explains a page."""
    entries = (each for section in SECTIONS for each in section.entries)
    return next((each.document for each in entries if each.leads_to(address)), "index.md")


def _visible(entries: tuple[Entry, ...], who: Principal) -> list[Entry]:
    return [each for each in entries if who.level in each.rule.levels and (who.sells or not each.of_sellers)]
