"""Numbers as they are dialled, and their international form."""

import hypothesis.strategies as st
import phonenumbers
import pytest
from hypothesis import given

from celcombiller.config.dialling_rules import find_plan
from celcombiller.config.tables import Calls, Config, Numbering
from celcombiller.core.rating.numbering import AS_DIALLED, NumberingPlan, normalise

BRAZIL = Numbering(country="BR", area_code="11").make_plan(["190", "08007770000"])
GERMANY = Numbering(
    country_code="49", trunk_prefix="0", international_prefixes=("00", "010"), area_code="30", short_digits_max=4
).make_plan(["116117"])
NEW_YORK = Numbering(country="US", area_code="212").make_plan([])
SPAIN = Numbering(country="ES").make_plan([])
RUSSIA = Numbering(country="RU").make_plan([])


@pytest.mark.parametrize(
    ("plan", "dialled", "number"),
    [
        (BRAZIL, "11987654321", "+5511987654321"),
        (BRAZIL, "011987654321", "+5511987654321"),
        (BRAZIL, "01511987654321", "+5511987654321"),  # by the carrier 15
        (BRAZIL, "01532345678", "+551532345678"),  # the area 15: too short for a carrier's code
        (BRAZIL, "987654321", "+5511987654321"),
        (BRAZIL, "32345678", "+551132345678"),
        (BRAZIL, "5511987654321", "+5511987654321"),
        (BRAZIL, "55991234567", "+5555991234567"),  # the area 55
        (BRAZIL, "0015493012345678", "+493012345678"),  # by the carrier 15
        (BRAZIL, "+493012345678", "+493012345678"),
        (BRAZIL, "190", "190"),
        (BRAZIL, "1001", "1001"),
        (BRAZIL, "*100#", "*100#"),
        (BRAZIL, "*21*11987654321#", "*21*11987654321#"),
        (BRAZIL, "08007770000", "08007770000"),
        (BRAZIL, "IMSI724000000001001", "IMSI724000000001001"),
        (BRAZIL, "", ""),
        (GERMANY, "03012345678", "+493012345678"),
        (GERMANY, "12345678", "+493012345678"),
        (GERMANY, "0049301234567", "+49301234567"),
        (GERMANY, "01012125550123", "+12125550123"),
        (GERMANY, "110", "110"),
        (GERMANY, "116117", "116117"),
        (GERMANY, "0" * 20, "0" * 20),
        (GERMANY, "00", "00"),
        (NEW_YORK, "12125550123", "+12125550123"),
        (NEW_YORK, "5550123", "+12125550123"),
        (NEW_YORK, "3055550123", "+13055550123"),
        (NEW_YORK, "011493012345678", "+493012345678"),
        (SPAIN, "912345678", "+34912345678"),
        (SPAIN, "0034912345678", "+34912345678"),
        (RUSSIA, "84951234567", "+74951234567"),
        (RUSSIA, "8001234567", "+78001234567"),  # 8 is its own digit here
        (AS_DIALLED, "0015493012345678", "0015493012345678"),
    ],
)
def test_a_number_gets_its_international_form(plan, dialled, number):
    assert normalise(plan, dialled) == number


plans = st.builds(
    NumberingPlan,
    country_code=st.sampled_from(["", "1", "55", "49", "598"]),
    international=st.sampled_from(["", "00", "0", "00|011"]),
    trunk=st.sampled_from(["", "0", "1", "00"]),
    area_code=st.sampled_from(["", "11", "1"]),
    local_digits_max=st.integers(0, 15),
    short_digits_max=st.integers(1, 14),
    as_is=st.sampled_from([frozenset(), frozenset({"0800"})]),
) | st.sampled_from([BRAZIL, GERMANY, NEW_YORK, SPAIN, RUSSIA])
words = st.text("0159", max_size=18) | st.text("+01*#a٣", max_size=8) | st.text(max_size=8)


@given(plans, words)
def test_twice_is_once(plan, number):
    once = normalise(plan, number)
    assert normalise(plan, once) == once
    assert once == number or (once[0] == "+" and once[1:].isdecimal() and len(once) <= 16)


@pytest.mark.parametrize("country", ["BR", "AR", "MX", "DE", "GB", "IN", "KE", "US", "IT", "RU", "ID", "CO"])
def test_a_countrys_numbers_are_the_librarys(country):
    """For each example of the library, as it is dialled at home and from abroad."""
    plan = Numbering(country=country).make_plan([])
    for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
        example = phonenumbers.example_number_for_type(country, kind)
        at_home = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.NATIONAL)
        national = phonenumbers.national_significant_number(example)
        for dialled in (national, f"{example.country_code}{national}", "".join(filter(str.isdecimal, at_home))):
            parsed = phonenumbers.parse(dialled, country)
            assert normalise(plan, dialled) == phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def test_an_unknown_country_has_no_plan():
    assert find_plan("XX") is None


def test_always_allowed_numbers_stay_as_they_are():
    config = Config(numbering=Numbering(country="DE"), calls=Calls(always_allowed=("08001110111",)))
    assert normalise(config.numbering_plan, "08001110111") == "08001110111"
    assert normalise(config.message_policy.numbering, "08001110112") == "+498001110112"
