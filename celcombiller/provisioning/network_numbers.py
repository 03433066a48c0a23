"""The forms in which a network may write the number of an entry, and what number that is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from celcombiller.core.provisioning.network import is_msisdn
from celcombiller.core.subscribers.number_forms import forms_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celcombiller.core.provisioning.entries import ProvisioningEntry


def number_on_network(text: str) -> str:
    """Return the digits of a number that a network has (``+2001``, ``tel:+2001``, ``20-01``); empty if it is none."""
    number = next(iter(forms_of(text.strip()).numbers), "")
    return number if is_msisdn(number) else ""


def in_wanted_form(found: Iterable[ProvisioningEntry], wanted: Iterable[ProvisioningEntry]) -> list[ProvisioningEntry]:
    """Return the entries of a network, each with the number that its IMSI should have if it is only written otherwise.

    ``002001`` is ``2001``, unless someone has just these digits as their number.
    """
    numbers = {each.imsi: each.msisdn for each in wanted}
    exact = set(numbers.values())
    result = []
    for each in found:
        forms = forms_of(each.msisdn.strip()).numbers
        is_wanted = numbers.get(each.imsi) in forms and exact.isdisjoint(set(forms) - {numbers[each.imsi]})
        result.append(replace(each, msisdn=numbers[each.imsi] if is_wanted else number_on_network(each.msisdn)))
    return result
