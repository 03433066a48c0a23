"""The explanation of a call in plain words. Pure: all of it is in the view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celcombiller.core.model.accounts import HoldState
from celcombiller.core.model.calls import CallState, Witness
from celcombiller.core.rating.pricing import LATE_CUT_MS, PieceKind
from celcombiller.core.reports.call_price import describe_piece
from celcombiller.core.reports.explanation.prices_text import format_moment, format_talk
from celcombiller.core.reports.explanation.tariff_choice import TariffReason
from celcombiller.core.tariffs.price_format import count_credits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo

    from celcombiller.core.reports.call_price import PricePieceView
    from celcombiller.core.reports.explanation.call_views import CallExplanation, WitnessView
    from celcombiller.core.reports.explanation.tariff_choice import TariffChoice

_UNITS = {"seconds": "s", "messages": "messages", "octets": "octets", "credits": "credits"}

_WITNESSES = {
    Witness.AGI: "the call's own script",
    Witness.REDUCER: "the dialplan's hang-up handler",
    Witness.AMI: "Asterisk's manager events",
    Witness.SWEEP: "no one: the biller found the call gone",
}


def describe_call(made: CallExplanation, zone: tzinfo) -> str:
    """Return why a call cost what it cost, as a paragraph that can be read to a customer."""
    place = f" ({made.destination})" if made.destination else ""
    whose = ", a number of this network" if made.on_net else ""
    sentences = [
        f"{made.name or made.username} ({made.from_number}) called {made.to_number}{place}{whose}{_as_dialled(made)}"
        f" on {format_moment(made.started_at, zone)}.",
        *_describe_outcome(made, zone),
        *_describe_later(made, zone),
        *(f"It does not add up: {each}." for each in made.differences),
    ]
    return " ".join(sentences)


def describe_tariff(tariff: TariffChoice) -> str:
    """Return which tariff it is, and why this one."""
    if tariff.version is None:
        return "the prices of the biller's settings"
    why = {
        TariffReason.SUBSCRIBER: "the subscriber's own tariff",
        TariffReason.GROUP: f"the tariff of the group {tariff.group}",
        TariffReason.DEFAULT: "the default tariff",
        TariffReason.CHANGED: "the tariff that counted for the subscriber then; that has changed since",
        TariffReason.SETTINGS: "",
    }[tariff.reason]
    return f"version {tariff.version} of the tariff {tariff.name}, {why}"


def list_remarks(made: CallExplanation) -> Iterator[str]:
    """Yield what was rounded, limited, or is not certain about a call, and why."""
    granted_ms, talk_ms = made.granted_seconds * 1000, made.talk_ms or 0
    if made.state is CallState.SETTLED:
        if made.charged_seconds is not None and made.charged_seconds * 1000 < talk_ms:
            yield (
                f"It was cut {talk_ms - granted_ms} ms after its limit of {made.granted_seconds} s; up to"
                f" {LATE_CUT_MS} ms beyond the limit are not charged."
            )
        elif made.charged_seconds is not None and made.charged_seconds * 1000 > talk_ms:
            yield f"A second that has begun counts: {format_talk(talk_ms)} of talk are {made.charged_seconds} s."
        if made.talk_ms == 0:
            yield "It was answered and ended at once, so its first increment is charged."
        yield from _remark_overrun(made)
        if any(piece.kind is PieceKind.MINIMUM for piece in made.pieces):
            yield "The price was raised to the least that a call costs by this rate."
        fractions = [piece for piece in made.pieces if "/" in piece.exact]
        if fractions:
            yield "The parts are exact fractions; their sum is rounded up to a whole credit, once, at the end."
    if made.witness is Witness.SWEEP:
        yield "Nothing reported its end, so it counts as far as it was last known to be alive."
    for each in made.witnesses:
        if each.discrepancy and each.difference_ms is not None:
            more = "more" if each.difference_ms > 0 else "less"
            yield (
                f"{_begin(_WITNESSES[each.witness])} reported {format_talk(abs(each.difference_ms))} {more} talk than"
                " was charged: the first report counts."
            )


def list_details(made: CallExplanation, zone: tzinfo) -> list[str]:
    """Return the lines below the paragraph: each hold, renewal, movement, witness, trunk and note."""
    lines = [
        f"Call {made.id}: {made.reference}, channel {made.channel}.",
        f"Paid by {made.username}: account code {made.account_code or 'none'}, caller {made.caller_number or 'none'}.",
        f"Priced by {describe_tariff(made.tariff)}.",
        f"Rate: prefix {made.prefix or 'of all numbers'} {made.destination}".rstrip(),
        *(f"  {each.window or 'at all other times'}: {each.text}" for each in made.prices),
        "Pieces:" if made.pieces else "No pieces: it was not charged.",
        *(f"  {describe_piece(each)}" for each in made.pieces),
        f"Balance at its start: {made.tariff.credits(made.balance_at_start)}.",
    ]
    for hold in made.holds:
        end = "" if hold.ended_at is None else f" until {format_moment(hold.ended_at, zone)}"
        lines.append(
            f"Held on {hold.payer}: {hold.amount} {_UNITS[hold.unit]}, {hold.state}, since"
            f" {format_moment(hold.opened_at, zone)}{end}."
        )
    lines += [
        f"Changed at {format_moment(each.at, zone)} ({each.reason}): {each.seconds_before} s became"
        f" {each.seconds_after} s, {count_credits(each.held_before)} became {each.held_after}."
        + (f" {each.note}" if each.note else "")
        for each in made.renewals
    ]
    lines += [
        f"Order at {format_moment(each.made_at, zone)}: {each.kind}, {each.reason}; {each.result or 'not done yet'}."
        for each in made.orders
    ]
    lines += [
        f"Paid by {each.payer} at {format_moment(each.at, zone)}: {each.amount} {_UNITS[each.unit]},"
        f" {each.before} became {each.after} ({each.reference})." + (f" Note: {each.note}." if each.note else "")
        for each in made.movements
    ]
    lines += [_describe_witness(each, zone) for each in made.witnesses]
    for place, trunk in enumerate(made.trunks, 1):
        cost = "cost not known" if trunk.cost is None else f"cost {count_credits(trunk.cost)}, margin {trunk.margin}"
        lines.append(f"Trunk {place}: {trunk.name}, {'failed' if trunk.failed else cost}.")
    if made.note:
        lines.append(f"Note: {made.note}.")
    lines.append("All of it adds up." if made.adds_up else "IT DOES NOT ADD UP; see `celcombiller audit`.")
    return lines


def _as_dialled(made: CallExplanation) -> str:
    return "" if made.dialled == made.to_number else f", dialled as {made.dialled},"


def _describe_outcome(made: CallExplanation, zone: tzinfo) -> Iterator[str]:
    if made.state is CallState.OPEN:
        yield from _describe_open(made, zone)
    elif made.state is CallState.SETTLED:
        yield from _describe_charge(made, zone)
    else:
        why = "was not answered" if made.state is CallState.RELEASED else "ended without a report of an answer"
        yield f"It {why}{f' ({made.outcome})' if made.outcome else ''}, so it cost nothing."
        held = next((each for each in made.holds if each.amount and each.state is not HoldState.OPEN), None)
        if held is not None and held.ended_at is not None:
            yield (
                f"The {made.tariff.credits(held.amount)} that were held for it have been free again since"
                f" {format_moment(held.ended_at, zone)}."
            )
        yield from made.remarks


def _describe_open(made: CallExplanation, zone: tzinfo) -> Iterator[str]:
    if made.answered_at is None:
        yield "It is in progress, and not answered as far as is known."
    else:
        yield f"It is in progress, and was answered at {format_moment(made.answered_at, zone)}."
    held = [f"{each.amount} {_UNITS[each.unit]} of {each.payer}" for each in made.holds]
    yield f"It may talk {made.granted_seconds} s; for that it holds {_join(held)}."
    yield f"It is priced by {describe_tariff(made.tariff)}: {_describe_prices(made)}."


def _describe_charge(made: CallExplanation, zone: tzinfo) -> Iterator[str]:
    if made.answered_at is not None:
        yield f"It was answered at {format_moment(made.answered_at, zone)} and lasted {format_talk(made.talk_ms or 0)}."
    yield f"It is priced by {describe_tariff(made.tariff)}: {_describe_prices(made)}."
    parts = [text for text in map(_describe_part, made.pieces) if text]
    if parts:
        yield f"{_begin(_join(parts))}."
    if made.paid_by_bundles:
        yield f"Of these {made.tariff.credits(made.price)}, bundles of money paid {made.paid_by_bundles}."
    charge = next((each for each in made.movements if each.reference == made.reference), None)
    if charge is None:
        yield "The balance paid nothing."
    else:
        yield (
            f"The balance paid {made.tariff.credits(charge.amount)}: it was {charge.before} before and {charge.after}"
            " after."
        )
    yield from made.remarks


def _describe_later(made: CallExplanation, zone: tzinfo) -> Iterator[str]:
    """Yield what was charged again or given back after the call."""
    for again in made.reratings:
        way = "charged besides" if again.difference > 0 else "given back"
        yield (
            f"On {format_moment(again.at, zone)} it was priced again by version {again.version} of {again.tariff}:"
            f" {made.tariff.credits(again.price)}, so {abs(again.difference)} were {way}."
        )
    charges = {made.reference} | {each.reference for each in made.movements if each.reference.startswith("rerate:")}
    for each in made.movements:
        if each.reference not in charges and not each.reference.startswith("share:"):
            yield (
                f"On {format_moment(each.at, zone)} an operator took a charge of it back"
                f" ({made.tariff.credits(abs(each.amount))}): {each.note or 'no reason given'}."
            )
    if made.reratings or made.charged != (made.cost or 0):
        yield f"In all the balance paid {made.tariff.credits(made.charged)}."


def _describe_prices(made: CallExplanation) -> str:
    """Return the price that counts: that of the windows in which pieces are, else all of them."""
    used = {piece.window for piece in made.pieces if piece.kind is not PieceKind.MINIMUM}
    texts = [
        f"{each.window + ': ' if each.window else ''}{each.text}"
        for each in made.prices
        if not used or each.window in used
    ]
    return "; ".join(texts)


def _describe_part(piece: PricePieceView) -> str:
    if piece.kind is PieceKind.GRACE:
        return "so short a call is free by this rate"
    if piece.kind is PieceKind.CONNECT_FEE:
        return f"the start of the call cost {piece.credits}"
    if piece.kind is PieceKind.MINIMUM:
        return f"{piece.credits} lacked to the least that a call costs"
    if piece.bundle:
        return f"{piece.seconds} s were taken from the bundle {piece.bundle}"
    counted = f"{piece.seconds} s (whole increments of {piece.increment} s)"
    exact = f", exactly {piece.exact}" if "/" in piece.exact else ""
    return f"{counted} cost {piece.credits}{exact}"


def _remark_overrun(made: CallExplanation) -> Iterator[str]:
    held = next((each for each in made.holds if each.payer == "balance"), None)
    if held is not None and made.cost is not None and made.cost > held.amount:
        yield (
            f"{made.cost} credits were charged and {held.amount} were held for it: talk that has happened is charged"
            " whole, also where no limit cut it or its charge came late."
        )


def _describe_witness(each: WitnessView, zone: tzinfo) -> str:
    talk = "not answered" if not each.answered else f"{format_talk(each.talk_ms or 0)} of talk"
    outcome = f", {each.outcome}" if each.outcome else ""
    difference = "counted" if each.difference_ms is None else f"{each.difference_ms:+} ms beside what was charged"
    note = f" Note: {each.note}." if each.note else ""
    return f"Reported at {format_moment(each.at, zone)} by {each.witness}: {talk}{outcome}; {difference}.{note}"


def _join(parts: list[str]) -> str:
    """Return parts as one enumeration."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _begin(text: str) -> str:
    """Return a text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]
