"""The columns of price lists: our own, and those of files that A2Billing, MagnusBilling and ASTPP write and read.

The names of columns were read in the sources of A2Billing 2.2 (cc_ratecard and its import), MagnusBilling 7 (the grid
of rates in its languages, its export and import) and ASTPP 6 (its exports and sample files), in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celcombiller.core.model.tariffs import Step
from celcombiller.core.tariffs.files.cells import CellError, read_whole_number, shorten, write_prefix
from celcombiller.core.tariffs.files.price_cells import STEPS_MAX, PriceCells, RowPrices, block_steps
from celcombiller.core.tariffs.price_format import UNITS_OF_PRICE
from celcombiller.core.tariffs.rate_row import decode_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celcombiller.core.tariffs.rate_row import RateRow

WEEK_MINUTES = 7 * 24 * 60
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Preset:
    """The columns of one kind of file.

    ``fields`` maps the name of each column, in small letters and without what is in brackets, to a field; an empty
    field is a column that is not read. ``orders`` are the columns of files without a header. ``read_prices`` returns
    what use costs, and ``read_windows`` the windows in which it does, in words of ours.
    """

    fields: Mapping[str, str]
    read_prices: Callable[[PriceCells], RowPrices]
    needed: tuple[str, ...]
    orders: tuple[tuple[str, ...], ...] = ()
    is_money: bool = True
    read_windows: Callable[[PriceCells], list[str]] = field(default=lambda cells: [cells.text("window")])


# -- our own ---------------------------------------------------------------------------------------------------------

COLUMNS = (
    *("service", "prefix", "on_net", "name", "window", "valid_from", "valid_until"),
    *("connect_fee", "minimum_charge", "grace"),
    *("first_increment", "first_price", "increment", "price", "per", "steps"),
)
"""The header of our own files; `prefix` and a price are needed, all others may be left out."""

_OF_STEPS = ("first_increment", "first_price", "increment", "price", "per")


def _read_own(cells: PriceCells) -> RowPrices:
    steps = _read_steps(cells) if cells.text("steps") else _read_increments(cells)
    return cells.prices(cells.credits("connect_fee"), cells.credits("minimum_charge"), cells.count("grace"), steps)


def _read_increments(cells: PriceCells) -> list[Step]:
    """Return the one or two steps of the columns of increments; an increment of ``30/6`` is a first one and others."""
    first_text, _, next_text = cells.text("increment").partition("/")
    if next_text and cells.text("first_increment"):
        cells.refuse("increment", f"{shorten(cells.text('increment'))}: has a first increment, as first_increment does")
    increment = _read_increment(cells, next_text or first_text) or 1
    first = cells.count("first_increment") or (_read_increment(cells, first_text) if next_text else 0)
    per = cells.count("per") or UNITS_OF_PRICE[cells.service]
    then = cells.step(first, increment, cells.needed("price"), per)
    if not first:
        if cells.text("first_price"):
            cells.refuse("first_price", "needs a first_increment")
        return [then]
    price = cells.amount("first_price" if cells.text("first_price") else "price")
    begin = cells.step(0, first, price, per, "first_price")
    if first == increment and (begin.price, begin.per) == (then.price, then.per):
        return [begin]
    return [begin, then]


def _read_increment(cells: PriceCells, text: str) -> int:
    try:
        return read_whole_number(text.strip())
    except CellError as error:
        cells.refuse("increment", str(error))
        return 1


def _read_steps(cells: PriceCells) -> list[Step]:
    """Return steps such as ``0:30:8/60 30:6:8/60``: start, increment, price, units for this price."""
    for each in _OF_STEPS:
        if cells.text(each):
            cells.refuse(each, "must be empty, where steps are given")
    steps: list[Step] = []
    texts = cells.text("steps").split()
    for text in texts[: STEPS_MAX + 1]:
        start, _, rest = text.partition(":")
        increment, _, rest = rest.partition(":")
        price, _, per = rest.rpartition("/")
        if not (start and increment and price and per):
            cells.refuse("steps", f"{shorten(text)}: must be start:increment:price/units, such as 0:60:10/60")
            return [Step()]
        try:
            counts = [read_whole_number(each) for each in (start, increment, per)]
        except CellError as error:
            cells.refuse("steps", str(error))
            return [Step()]
        steps.append(cells.step(counts[0], counts[1], cells.amount("steps", price), counts[2], "steps"))
    return steps


def write_cells(rate: RateRow) -> list[str]:
    """Return a rate as the cells of `COLUMNS`, from which the same rate is read."""
    of_steps = _write_increments(decode_steps(rate.steps))
    return [
        *(rate.service, write_prefix(rate.prefix), "1" if rate.on_net else "", rate.name, rate.window),
        *(
            "" if each is None else each.isoformat().replace("+00:00", "Z")
            for each in (rate.valid_from, rate.valid_until)
        ),
        *(str(each) if each else "" for each in (rate.connect_fee, rate.minimum_charge, rate.grace)),
        *of_steps,
    ]


def _write_increments(steps: tuple[Step, ...]) -> list[str]:
    last = steps[-1]
    then = [str(last.increment), str(last.price), str(last.per), ""]
    if len(steps) == 1:
        return ["", "", *then]
    first = steps[0]
    is_two = len(steps) == len("ab") and first.increment == last.start and first.per == last.per
    if is_two and (first.increment, first.price) != (last.increment, last.price):
        return [str(first.increment), str(first.price) if first.price != last.price else "", *then]
    text = " ".join(f"{each.start}:{each.increment}:{each.price}/{each.per}" for each in steps)
    return ["", "", "", "", "", text]


OWN = Preset(
    fields={each: each for each in COLUMNS},
    needed=("prefix",),
    read_prices=_read_own,
    is_money=False,
)

# -- A2Billing -------------------------------------------------------------------------------------------------------

_A2BILLING_DIFFERENT = {
    "additional_grace": "lengthens each call there, which no rate here does: put it into the prices",
    "rounding_calltime": "rounds calls there, which no rate here does: put it into the blocks",
    "additional_block_charge": "is charged for each block of time there, which no rate here does",
    "disconnectcharge_after": "is a limit of the disconnect charge, which no rate here has",
}


def _read_a2billing(cells: PriceCells) -> RowPrices:
    for name, why in _A2BILLING_DIFFERENT.items():
        if cells.amount(name).digits:
            cells.refuse(name, f"{shorten(cells.text(name))}: {why}")
    price, block = cells.needed("rateinitial"), cells.count("billingblock")
    first = cells.count("initblock")
    fees = ["connectcharge", "disconnectcharge"]
    if cells.amount("chargea").digits and cells.count("timechargea"):
        fees.append("stepchargea")
        steps = _read_cycles(cells, first)
        start = steps.pop().start
        steps.append(cells.step(start, block or 1, price, 60, "rateinitial"))
    else:
        steps = block_steps(cells, first, block, price, "rateinitial")
    return cells.prices(cells.credits(*fees), cells.credits("minimal_cost"), 0, steps)


def _read_cycles(cells: PriceCells, first: int) -> list[Step]:
    """Return the steps of the cycles a, b and c of a progressive rate, and a last one that only says where they end."""
    seconds = cells.count("timechargea")
    if first > seconds:
        cells.refuse("initblock", f"{first}: is longer than the first cycle, timechargea {seconds}")
    steps: list[Step] = []
    start = 0
    for letter in "abc":
        charge, lasts = cells.amount(f"charge{letter}"), cells.count(f"timecharge{letter}")
        block = cells.count(f"billingblock{letter}") or 1
        if not charge.digits or not lasts:
            break
        if lasts % block:
            cells.refuse(f"timecharge{letter}", f"{lasts}: is not a number of whole blocks of {block} seconds")
        if letter == "a":
            steps = block_steps(cells, first, block, charge, "chargea")
            steps = [each for each in steps if each.start < lasts]
        else:
            steps.append(cells.step(start, block, charge, 60, f"charge{letter}"))
            if cells.amount(f"stepcharge{letter}").digits:
                cells.refuse(f"stepcharge{letter}", "is charged during a call there, which no rate here does")
        start += lasts
    return [*steps, Step(start)]


def _read_a2billing_windows(cells: PriceCells) -> list[str]:
    """Return the windows of ``starttime`` to ``endtime``, minutes of a week that begins on Monday; the end is in it."""
    begin = cells.count("starttime")
    end = cells.count("endtime", WEEK_MINUTES - 1) + 1
    if end > WEEK_MINUTES or begin >= end:
        cells.refuse("endtime", f"{end - 1}: must be from starttime to {WEEK_MINUTES - 1}")
        return [""]
    return write_week_windows(begin, end)


def write_week_windows(begin: int, end: int) -> list[str]:
    """Return the windows of the minutes of a week from ``begin`` to before ``end``; of all of them: no window."""
    if (begin, end) == (0, WEEK_MINUTES):
        return [""]
    day_minutes = WEEK_MINUTES // len(DAYS)
    whole: list[int] = []
    parts: list[str] = []
    for day, name in enumerate(DAYS):
        start, stop = max(begin - day * day_minutes, 0), min(end - day * day_minutes, day_minutes)
        if (start, stop) == (0, day_minutes):
            whole.append(day)
        elif start < stop:
            parts.append(f"{name} {_clock(start)}-{_clock(stop)}")
    if whole:
        days = DAYS[whole[0]] if len(whole) == 1 else f"{DAYS[whole[0]]}-{DAYS[whole[-1]]}"
        parts.append(f"{days} 00:00-24:00")
    return parts


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


_A2BILLING_NOT_READ = (
    *("id", "idtariffplan", "buyrate", "buyrateinitblock", "buyrateincrement", "id_trunk", "musiconhold", "tag"),
    *("id_outbound_cidgroup", "is_merged", "announce_time_correction", "rounding_threshold"),
    *("additional_block_charge_time", "id_cc_package_offer"),
)

A2BILLING = Preset(
    fields={
        "dialprefix": "prefix",
        **dict.fromkeys(("destination", "dest_name"), "name"),
        **{
            each: each
            for each in (
                *("rateinitial", "initblock", "billingblock", "connectcharge", "disconnectcharge", "minimal_cost"),
                *("starttime", "endtime", *_A2BILLING_DIFFERENT),
                *(f"{each}{letter}" for letter in "abc" for each in ("stepcharge", "charge", "timecharge")),
                *(f"billingblock{letter}" for letter in "abc"),
            )
        },
        "startdate": "valid_from",
        "stopdate": "valid_until",
        **dict.fromkeys(_A2BILLING_NOT_READ, ""),
    },
    needed=("prefix", "rateinitial"),
    orders=(("dialprefix", "destination", "rateinitial"), ("destination", "dialprefix", "rateinitial")),
    read_prices=_read_a2billing,
    read_windows=_read_a2billing_windows,
)

# -- MagnusBilling ---------------------------------------------------------------------------------------------------


def _read_magnusbilling(cells: PriceCells) -> RowPrices:
    if cells.text("additional_grace").strip("0%. "):
        cells.refuse("additional_grace", "lengthens each call there, which no rate here does: put it into the prices")
    steps = block_steps(
        cells, cells.count("initblock"), cells.count("billingblock"), cells.needed("rateinitial"), "rateinitial"
    )
    return cells.prices(cells.credits("connectcharge"), 0, cells.count("minimal_time_charge"), steps)


_MAGNUSBILLING_ORDER = (
    *("dialprefix", "destination", "rateinitial", "initblock", "billingblock", "minimal_time_charge"),
    *("connectcharge", "disconnectcharge", "package_offer"),
)

MAGNUSBILLING = Preset(
    fields={
        **dict.fromkeys(("prefix", "dialprefix", "prefixo", "prefijo", "préfixe", "prefisso", "präfix"), "prefix"),
        **dict.fromkeys(("destination", "destino", "destinazione", "ziel"), "name"),
        **dict.fromkeys(
            (
                *("sell price", "rateinitial", "preço de venda", "precio de venta", "prix de vente"),
                *("prezzo di vendita", "verkaufspreis"),
            ),
            "rateinitial",
        ),
        **dict.fromkeys(
            ("initial block", "initblock", "bloco mínimo", "bloque inicial", "minimaler block"), "initblock"
        ),
        **dict.fromkeys(
            ("billing block", "billingblock", "bloco de tarifação", "bloque de cobro", "abrechnungsblock"),
            "billingblock",
        ),
        **dict.fromkeys(
            (
                *("minimum time to charge", "minimal_time_charge", "tempo mínimo para tarifar"),
                *("tiempo mínimo de carga", "mindestzeit abrechnen"),
            ),
            "minimal_time_charge",
        ),
        **dict.fromkeys(
            ("connection charge", "connectcharge", "taxa de conexão", "costo de conexión", "verbindungspreis"),
            "connectcharge",
        ),
        **dict.fromkeys(("additional time", "additional_grace", "tempo adicional"), "additional_grace"),
        **dict.fromkeys(("status", "estado"), "status"),
        **dict.fromkeys(
            (
                *("id", "plan", "plano", "trunk groups", "grupo de tronco", "grupo de troncos", "include in offer"),
                *("package_offer", "disconnectcharge", "id_plan", "id_prefix", "id_trunk_group", "incluir no pacote"),
            ),
            "",
        ),
    },
    needed=("prefix", "rateinitial"),
    orders=tuple(_MAGNUSBILLING_ORDER[:length] for length in range(3, len(_MAGNUSBILLING_ORDER) + 1)),
    read_prices=_read_magnusbilling,
)

# -- ASTPP -----------------------------------------------------------------------------------------------------------


def _read_astpp(cells: PriceCells) -> RowPrices:
    """Return the prices: the first seconds are free, then a first increment is charged, then further ones."""
    free, first, block = cells.count("included"), cells.count("init_inc"), cells.count("inc") or 1
    price = cells.needed("cost")
    steps = [Step(0, free, 0, 60)] if free else []
    if first and first != block:
        steps.append(cells.step(free, first, price, 60, "cost"))
        free += first
    steps.append(cells.step(free, block, price, 60, "cost"))
    return cells.prices(cells.credits("connectcost"), 0, 0, steps)


_ASTPP_ORDER = ("code", "destination", "connection cost", "grace time", "cost / min", "initial increment", "increment")

ASTPP = Preset(
    fields={
        **dict.fromkeys(("code", "pattern"), "prefix"),
        **dict.fromkeys(("destination", "comment"), "name"),
        **dict.fromkeys(("connection cost", "connect cost", "connectcost"), "connectcost"),
        **dict.fromkeys(("grace time", "included seconds", "includedseconds"), "included"),
        **dict.fromkeys(("cost / min", "cost/min", "per minute cost", "cost"), "cost"),
        **dict.fromkeys(("initial increment", "init_inc"), "init_inc"),
        **dict.fromkeys(("increment", "inc"), "inc"),
        "status": "status",
        **dict.fromkeys(
            (
                *("country", "country_id", "call type", "call_type", "rate group", "pricelist_id", "reseller"),
                *("reseller_id", "created date", "creation_date", "modified date", "last_modified_date", "priority"),
                *(
                    "precedence",
                    "strip",
                    "prepend",
                    "trunk",
                    "trunk_id",
                    "routing_type",
                    "percentage",
                    "id",
                    "accountid",
                ),
            ),
            "",
        ),
    },
    needed=("prefix", "cost"),
    orders=(_ASTPP_ORDER,),
    read_prices=_read_astpp,
)

PRESETS = {"a2billing": A2BILLING, "magnusbilling": MAGNUSBILLING, "astpp": ASTPP}
"""By the names that operators give; files of CGRateS are tables that refer to each other, read by `cgrates_plan`."""

CGRATES = "cgrates"
PRESET_NAMES = (*PRESETS, CGRATES)
"""All presets that an operator can name."""
