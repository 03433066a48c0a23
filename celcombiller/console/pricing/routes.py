"""The pages of prices, each with who may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.console.page import form, page, serving_form
from celcombiller.console.pricing import bundles, call_routes, offers, price_lists, tariffs, trunks
from celcombiller.http.authorization import ADMINISTRATORS, STAFF_READ, STAFF_WRITE
from celcombiller.http.route import ID

if TYPE_CHECKING:
    from types import ModuleType

    from celcombiller.http.route import Route

TARIFF = f"/ui/tariffs/{ID}"
VERSION = f"{TARIFF}/versions/<row:number>"
BUNDLE = f"/ui/bundles/{ID}"


def _list_pages(where: str, module: ModuleType) -> tuple[Route, ...]:
    """Return the pages of what administrators make, change and delete: they have the same names in each module."""
    one = f"{where}/{ID}"
    return (
        page(where, STAFF_READ, module.show),
        page(f"{where}/new", ADMINISTRATORS, module.show_new),
        form(f"{where}/new", ADMINISTRATORS, module.add, shown_by=module.show_new),
        page(f"{one}/change", ADMINISTRATORS, module.show_change),
        form(f"{one}/change", ADMINISTRATORS, module.change, shown_by=module.show_change),
        page(f"{one}/delete", ADMINISTRATORS, module.show_delete),
        form(f"{one}/delete", ADMINISTRATORS, module.delete, shown_by=module.show_delete),
    )


PRICING_ROUTES = (
    *_list_pages("/ui/tariffs", tariffs),
    page(TARIFF, STAFF_READ, tariffs.show_one),
    page(f"{TARIFF}/import", ADMINISTRATORS, price_lists.show),
    serving_form(f"{TARIFF}/import", ADMINISTRATORS, price_lists.preview, shown_by=price_lists.show),
    page(f"{TARIFF}/versions", STAFF_READ, tariffs.show_one),
    serving_form(f"{TARIFF}/versions", ADMINISTRATORS, price_lists.write, shown_by=price_lists.show),
    page(VERSION, STAFF_READ, tariffs.show_version),
    form(f"{VERSION}/withdrawal", ADMINISTRATORS, tariffs.withdraw, shown_by=tariffs.show_one),
    *_list_pages("/ui/offers", offers),
    page("/ui/bundles", STAFF_READ, bundles.show),
    page("/ui/bundles/new", STAFF_WRITE, bundles.show_new),
    page("/ui/bundles/plan", STAFF_READ, bundles.show_plan, shown_by=bundles.show_new),
    form("/ui/bundles", STAFF_WRITE, bundles.give, shown_by=bundles.show_new, needs_idempotency_key=True),
    page(BUNDLE, STAFF_READ, bundles.show_one),
    page(f"{BUNDLE}/end", STAFF_WRITE, bundles.show_end),
    form(f"{BUNDLE}/end", STAFF_WRITE, bundles.end, shown_by=bundles.show_end),
    *_list_pages("/ui/trunks", trunks),
    *_list_pages("/ui/routes", call_routes),
)
