"""The prices of a rate in words, and times and talk as a person reads them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.windows import format_window
from celcombiller.core.tariffs.price_format import format_steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, tzinfo

    from celcombiller.core.model.tariffs import Prices, Rate, Step, Window
    from celcombiller.core.reports.explanation.tariff_choice import TariffChoice


class PricesText(NamedTuple):
    """The prices of a rate at some times, in numbers and in words."""

    window: str
    connect_fee: int
    minimum_charge: int
    grace: int
    text: str


def view_prices(rate: Rate, tariff: TariffChoice, service: Service = Service.VOICE) -> Iterator[PricesText]:
    """Yield the prices of a rate: those of its windows, then those of all other times."""
    for window, prices in (*rate.windows, (None, rate.prices)):
        yield _view(window, prices, tariff, service)


def _view(window: Window | None, prices: Prices, tariff: TariffChoice, service: Service) -> PricesText:
    parts = [_describe_step(step, tariff, service) for step in prices.steps]
    if prices.connect_fee:
        parts.append(f"{tariff.credits(prices.connect_fee)} at the start")
    if prices.minimum_charge:
        parts.append(f"at least {tariff.credits(prices.minimum_charge)}")
    if prices.grace:
        parts.append(f"free up to {prices.grace} {_UNITS[service]}")
    name = "" if window is None else format_window(window)
    return PricesText(name, prices.connect_fee, prices.minimum_charge, prices.grace, "; ".join(parts))


def _describe_step(step: Step, tariff: TariffChoice, service: Service) -> str:
    """Return the price of a step, such as ``from 60 s on 6 credits per min in steps of 6 s``."""
    start = f"from {step.start} {_UNITS[service]} on " if step.start else ""
    if step.price == 0:
        return f"{start}free"
    amount, unit = format_steps(service, [step], tariff.currency, tariff.credits_per_unit).split(", ")[0].split(" per ")
    if not tariff.currency:
        amount += " credit" if amount == "1" else " credits"
    whole = f" in steps of {step.increment} {_UNITS[service]}" if step.increment > 1 else ""
    return f"{start}{amount} per {unit}{whole}"


_UNITS = {Service.VOICE: "s", Service.SMS: "messages", Service.DATA: "octets"}


def format_moment(at: datetime, zone: tzinfo) -> str:
    """Return a time as ``2026-11-27 18:30:05-03:00``, in this zone."""
    return at.astimezone(zone).isoformat(" ", "seconds")


def format_talk(milliseconds: int) -> str:
    """Return a length of talk as ``2 min 10.4 s``, exactly."""
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:.3f}".rstrip("0").rstrip(".")
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
