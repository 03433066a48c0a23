"""No look-up of a few rates reads a whole price list: asked of the planner."""

from functools import partial

import pytest

from celcombiller.core.model.tariffs import Service
from celcombiller.core.tariffs import rate_records
from celcombiller.core.tariffs.rate_records import RatePlace
from tests.support.databases import NOW, sqlite
from tests.support.query_plans import plans_of
from tests.support.tariffs import make_tariff, rate, write

BY_PREFIX = "ix_rate_tariff_id_service_prefix_id"
PLACE = RatePlace("voice", "55", 7)


@pytest.mark.parametrize(
    ("look_up", "index"),
    [
        (partial(rate_records.list_rates, tariff_id=1, number=2, limit=9), BY_PREFIX),
        (partial(rate_records.list_rates, tariff_id=1, number=2, limit=9, after=PLACE), BY_PREFIX),
        (partial(rate_records.list_rates, tariff_id=1, number=2, limit=1, service=Service.SMS), BY_PREFIX),
        (lambda tx: [*rate_records.list_destination_rates(tx, 1, 2, ["55"])], BY_PREFIX),
        (partial(rate_records.list_changed_prefixes, tariff_id=1, after=1, until=2), "ix_rate_tariff_id_since_version"),
    ],
)
def test_rates_are_found_by_an_index(look_up, index):
    engine = sqlite()
    with engine.begin() as tx:
        write(tx, make_tariff(tx, NOW).id, NOW, rate("55"))
    plan = plans_of(engine, look_up)
    engine.dispose()
    assert [index in line for line in plan if "rate" in line] == [True], plan
    assert not [line for line in plan if "TEMP B-TREE" in line], plan
