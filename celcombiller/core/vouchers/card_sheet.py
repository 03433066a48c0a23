"""Cards for people: the lines of a CSV file with their codes, and a page to print, with a QR code on each. Pure.

Codes are shown once, when they are made. So a page is made of the CSV file, which its owner keeps safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from celcombiller.core.languages.language import PLAIN
from celcombiller.core.languages.language import Text as _
from celcombiller.core.ledger.balance_format import format_balance
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.vouchers.voucher_codes import format_code, parse_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from celcombiller.core.languages.language import Language
    from celcombiller.core.ledger.balance_format import BalanceStyle
    from celcombiller.core.model.vouchers import VoucherBatch

COLUMNS = ("batch", "serial", "code", "gives", "kind", "value", "offer", "credit_days", "valid_until")
"""The columns of the file. The code is in groups: a spreadsheet would round a number of 21 digits."""

_STYLE = """
body { font: 10pt sans-serif; margin: 0; }
main { display: grid; grid-template-columns: repeat(auto-fill, 90mm); }
article { box-sizing: border-box; width: 90mm; height: 55mm; padding: 4mm; border: 0.2mm dashed #999;
  break-inside: avoid; position: relative; overflow: hidden; }
h1 { font-size: 12pt; margin: 0; } h2 { font-size: 14pt; margin: 1mm 0; } p { margin: 0 0 1mm; max-width: 52mm; }
code { font: bold 12pt monospace; } small { position: absolute; bottom: 3mm; left: 4mm; }
svg { position: absolute; right: 4mm; top: 12mm; width: 24mm; height: 24mm; }
.code { position: absolute; left: 4mm; bottom: 9mm; max-width: none; }
@page { size: A4; margin: 12mm 14mm; } @media print { h1, h2, p { color: #000; } }
"""


@dataclass(frozen=True, slots=True)
class CardLook:
    """What is printed on each card beside its own: a title, how to redeem it, and the text of its QR code.

    ``qr_text`` and ``text`` have the placeholder ``{code}``, where the code without spaces stands.
    """

    title: str = ""
    text: str = ""
    qr_text: str = "{code}"


@dataclass(frozen=True, slots=True)
class Card:
    """One card, as it is printed."""

    batch: str
    serial: str
    code: str
    gives: str
    valid_until: str


def card_rows(
    batch: VoucherBatch, first_serial: int, codes: Sequence[str], style: BalanceStyle
) -> Iterator[tuple[object, ...]]:
    """Yield a row of the file for each code, in the order of `COLUMNS`."""
    until = "" if batch.valid_until is None else batch.valid_until.isoformat()
    after = (format_gift(batch, style), str(batch.kind), batch.value, batch.bundle_name, batch.credit_days or "", until)
    for serial, code in enumerate(codes, first_serial):
        yield (batch.name, serial, format_code(code), *after)


def format_gift(batch: VoucherBatch, style: BalanceStyle) -> str:
    """Return what a card gives: the name of its bundle, or the credit."""
    if isinstance(batch.kind, BundleKind):
        return batch.bundle_name
    amount = format_balance(batch.value, batch.kind, style)
    return amount if batch.kind == "voice" else f"{amount} {batch.kind}"


def card_from_row(row: Mapping[str, str | None]) -> Card:
    """Return the card of a row of the file. Raises `UnknownVoucher` where its code is none."""
    code = parse_code(row.get("code") or "")
    batch, serial, gives, until = (row.get(name) or "" for name in ("batch", "serial", "gives", "valid_until"))
    return Card(batch, serial, code, gives, until)


def page(cards: Iterable[Card], look: CardLook, language: Language = PLAIN) -> Iterator[str]:
    """Yield the page in a language, piece by piece: cards of 90 by 55 mm, ten on a sheet of A4."""
    title = escape(look.title or language.write(_("Vouchers")))
    yield f'<!DOCTYPE html>\n<html lang="{language.name.replace("_", "-")}"><head><meta charset="utf-8">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head>\n<body><main>\n"
    for each in cards:
        yield _card(each, look, language)
    yield "</main></body></html>\n"


def _card(card: Card, look: CardLook, language: Language) -> str:
    until = f" · {escape(_write_end(card.valid_until, language))}" if card.valid_until else ""
    text = look.text.replace("{code}", card.code)
    return (
        f"<article><h1>{escape(look.title)}</h1><h2>{escape(card.gives)}</h2><p>{escape(text)}</p>"
        f"{_qr_code(look.qr_text.replace('{code}', card.code))}"
        f'<p class="code"><code>{format_code(card.code)}</code></p>'
        f"<small>{escape(card.batch)} · {escape(card.serial)}{until}</small></article>\n"
    )


def _write_end(valid_until: str, language: Language) -> str:
    """Return until when a card is valid. A date that somebody wrote into the file by hand stays as it is."""
    try:
        day: date | str = datetime.fromisoformat(valid_until).date()
    except ValueError:
        day = valid_until
    return language.write(_("Valid until {valid_until}", valid_until=day))


def _qr_code(text: str) -> str:
    """Return a QR code (ISO/IEC 18004) as an image within HTML."""
    import segno  # noqa: PLC0415  only a page needs it

    image: str = segno.make(text, micro=False, error="m").svg_inline(border=0, omitsize=True)
    return image
