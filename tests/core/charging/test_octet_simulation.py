"""What octets are said to cost is what a data session is charged for them."""

from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.catalogue.catalogue import Catalogue, CatalogueTariff, TariffVersion
from celcombiller.core.charging.octet_simulation import simulate_octets
from celcombiller.core.data.octet_charges import price_octets
from celcombiller.core.data.session import DataSession
from celcombiller.core.model.accounts import BundleKind
from celcombiller.core.model.tariffs import Service
from celcombiller.core.rating.rate_columns import text_of_rate
from celcombiller.core.rating.tariff import Tariff
from celcombiller.core.reports.octet_price import describe_octet_price, octet_price_view
from celcombiller.core.subscribers import subscriber_records
from tests.core.data.test_data_sessions import give as give_credit
from tests.core.ledger.test_book import NOW, database
from tests.core.rating.rates import any_rates
from tests.support.bundles import give


@given(st.none() | any_rates, st.integers(0, 5000), st.integers(0, 300), st.integers(0, 900), st.integers(1, 50))
def test_it_is_what_a_session_is_charged(rate, octets, bundled, credit, per_credit):
    """Some milliseconds an example, on a database in memory."""
    engine = database()
    if bundled:
        give(engine, BundleKind.OCTETS, bundled)
    if credit:
        give_credit(engine, credit)
    tariffs = {} if rate is None else {Service.DATA: Tariff([rate])}
    catalogue = Catalogue({}, 1, {1: CatalogueTariff(1, "T", versions=(TariffVersion(7, 1, NOW, tariffs),))}, 1)
    with engine.begin() as tx:
        payer = subscriber_records.find(tx, "u1001")
        said = simulate_octets(tx, catalogue, payer, octets, per_credit, NOW)
    text = None if rate is None else text_of_rate(rate)
    pieces = None if rate is None else "[0,[]]"
    session = DataSession("k", 0, "n", "s", "u", 1, 1, per_credit, NOW, NOW, rate_detail=text, pieces=pieces)
    assert said.bundled == min(octets, bundled)
    assert said.cost == price_octets(session, octets - said.bundled, NOW)
    assert describe_octet_price(octet_price_view(said))
    engine.dispose()
