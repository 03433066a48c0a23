"""Price lists as rows and as octets, for tests of their files."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from celcombiller.core.model.tariffs import Service, Step
from celcombiller.core.tariffs.files.findings import Findings
from celcombiller.core.tariffs.files.price_cells import FileTerms
from celcombiller.core.tariffs.files.tariff_file import read_tariff_file
from celcombiller.core.tariffs.rate_row import RateRow, encode_steps

BELEM = ZoneInfo("America/Belem")


def terms(**more):
    return FileTerms(**{"time_zone": BELEM, "credits_per_unit": 1000, **more})


def read(content, preset="", **more):
    """Return the rates and the findings of a file, given as text or octets."""
    data = content.encode() if isinstance(content, str) else content
    findings = Findings()
    rates = read_tariff_file([data], preset, terms(**more), findings)
    return rates.rows, findings


def faults(content, preset="", **more):
    return [str(each) for each in read(content, preset, **more)[1].faults]


def rate(prefix="55", *steps, **more):
    """Return a rate of voice; steps are (start, increment, price, per)."""
    fields = {
        "service": Service.VOICE,
        "prefix": prefix,
        "on_net": False,
        "name": "",
        "window": "",
        "valid_from": None,
        "valid_until": None,
        "connect_fee": 0,
        "minimum_charge": 0,
        "grace": 0,
        "steps": encode_steps(tuple(Step(*each) for each in steps or [(0, 1, 1, 60)])),
    }
    return RateRow(**{**fields, **more})


# -- any list of rates -----------------------------------------------------------------------------------------------

_CREDITS = st.integers(0, 10**9) | st.just(2**53 - 1)
_COUNTS = st.integers(1, 10**6)
_NAMES = st.text(st.characters(categories=["L", "N", "P", "S"], include_characters=" =+-@'\",;é"), max_size=12).map(
    lambda text: " ".join(text.split())
)
_WINDOWS = st.sampled_from(["mon-fri 08:00-18:00", "sat,sun,holiday 00:00-24:00", "mon-fri 22:00-06:00"])
_BEGIN = datetime(2026, 12, 1, tzinfo=UTC)


@st.composite
def _steps(draw):
    starts = sorted(draw(st.sets(st.integers(1, 10**5), max_size=3)))
    return encode_steps(tuple(Step(start, draw(_COUNTS), draw(_CREDITS), draw(_COUNTS)) for start in (0, *starts)))


_PRICES = st.fixed_dictionaries(
    {"connect_fee": _CREDITS, "minimum_charge": _CREDITS, "grace": st.integers(0, 10**6), "steps": _steps()}
)


@st.composite
def rate_lists(draw):
    """Return a strategy of lists of rates that fit together."""
    rows = []
    keys = draw(
        st.sets(
            st.tuples(
                st.sampled_from(Service), st.text("0123456789", max_size=6) | st.text("0123456789*#", max_size=6)
            ),
            min_size=1,
            max_size=6,
        )
    )
    for service, prefix in sorted(keys):
        on_net = draw(st.booleans()) if not prefix else False
        validity = draw(
            st.sampled_from(
                [(None, None), (_BEGIN, None), (None, _BEGIN), (_BEGIN, _BEGIN + timedelta(days=1, seconds=7))]
            )
        )
        windows = draw(st.sampled_from([[""], ["", draw(_WINDOWS)]]))
        rows += [RateRow(service, prefix, on_net, draw(_NAMES), each, *validity, **draw(_PRICES)) for each in windows]
    return rows
