import pytest

from celcombiller.core.tariffs.files.cgrates_plan import read_plan
from celcombiller.core.tariffs.files.findings import Findings
from tests.support.tariff_files import rate, terms

DESTINATIONS = "#Id,Prefix\nDST_1002,1002\nDST_DE,+49151\nDST_DE,+49161\n"
RATES = (
    "#Id,ConnectFee,Rate,RateUnit,RateIncrement,GroupIntervalStart\n"
    "RT_10,0.2,0.1,60s,60s,0s\nRT_10,0,0.05,1m,1s,60s\nRT_20,0.4,0.2,60s,60s,0s\n"
)
TIMINGS = (
    "#Tag,Years,Months,MonthDays,WeekDays,Time\nPEAK,*any,*any,*any,1;2;3;4;5,08:00:00\n"
    "MORNING,*any,*any,*any,1;2;3;4;5,00:00:00\nEVENING,*any,*any,*any,1;2;3;4;5,19:00:00\n"
    "WEEKEND,*any,*any,*any,6;7,00:00:00\n"
)
LINKS = (
    "#Id,DestinationId,RatesTag,RoundingMethod,RoundingDecimals,MaxCost,MaxCostStrategy\n"
    "DR_PEAK,DST_1002,RT_20,*up,4,0,\nDR_OFF,DST_1002,RT_10,*up,4,0,\nDR_DE,DST_DE,RT_20,*up,4,0,\n"
    "DR_ANY,*any,RT_10,*up,4,0,\n"
)
PLANS = (
    "#Id,DestinationRatesId,TimingTag,Weight\nRP1,DR_PEAK,PEAK,10\nRP1,DR_OFF,MORNING,10\nRP1,DR_OFF,EVENING,10\n"
    "RP1,DR_OFF,WEEKEND,10\nRP1,DR_DE,*any,10\nRP1,DR_ANY,*any,10\n"
)
FILES = {
    "Destinations.csv": DESTINATIONS,
    "Rates.csv": RATES,
    "Timings.csv": TIMINGS,
    "DestinationRates.csv": LINKS,
    "RatingPlans.csv": PLANS,
}


def read(files=FILES, **more):
    findings = Findings()
    rates = read_plan(
        [(name, [text.encode()]) for name, text in files.items()], terms(credits_per_unit=100, **more), findings
    )
    return rates.rows, [str(each) for each in findings.faults]


CHEAP = {"connect_fee": 20, "steps": rate("", (0, 60, 10, 60), (60, 1, 5, 60)).steps}
DEAR = {"connect_fee": 40, "steps": rate("", (0, 60, 20, 60)).steps}
WHOLE = [
    rate("1002", name="DST_1002", **CHEAP),
    rate("1002", name="DST_1002", window="mon-fri 08:00-19:00", **DEAR),
    rate("49151", name="DST_DE", **DEAR),
    rate("49161", name="DST_DE", **DEAR),
    rate("", **CHEAP),
]


def test_the_tables_of_a_plan_become_rates():
    assert read() == (WHOLE, [])


def test_tables_may_be_in_one_file():
    assert read({"": "\n".join(FILES.values())}) == (WHOLE, [])


def test_files_of_their_name_need_no_header():
    assert read({name: text.partition("\n")[2] for name, text in FILES.items()}) == (WHOLE, [])


def test_older_names_of_columns_are_known():
    files = {name: text.replace("#Id,", "#Tag,").replace("RatesTag", "RatesId") for name, text in FILES.items()}
    assert read(files) == (WHOLE, [])


def test_the_highest_weight_counts_before_later_times():
    files = {**FILES, "RatingPlans.csv": PLANS.replace("MORNING,10", "MORNING,20").replace("EVENING,10", "EVENING,5")}
    assert read(files)[0][0] == WHOLE[0]
    assert [each.window for each in read(files)[0]][1:2] != [WHOLE[1].window]


def test_one_of_several_plans_must_be_named():
    files = {**FILES, "RatingPlans.csv": PLANS + "RP2,DR_DE,*any,10\n"}
    assert read(files) == ([], ["file: name one of the rating plans of the files: RP1, RP2"])
    assert [each.prefix for each in read(files, plan="RP2")[0]] == ["49151", "49161"]


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("RatingPlans.csv", "DR_DE", "DR_XX", "RatingPlans.csv row 6: there is no 'DR_XX' in DestinationRates"),
        ("RatingPlans.csv", "PEAK,", "NEVER,", "RatingPlans.csv row 2: there is no 'NEVER' in Timings"),
        (
            "DestinationRates.csv",
            "DST_DE",
            "DST_XX",
            "DestinationRates.csv row 4: there is no 'DST_XX' in Destinations",
        ),
        (
            "DestinationRates.csv",
            "DST_DE,RT_20",
            "DST_DE,RT_0",
            "DestinationRates.csv row 4: there is no 'RT_0' in Rates",
        ),
        (
            "DestinationRates.csv",
            "4,0,\nDR_DE",
            "4,0.62,\nDR_DE",
            "DestinationRates.csv row 3: MaxCost 0.62: a rate has",
        ),
        ("Destinations.csv", "+49161", "4.9E+12", "Destinations.csv row 4: Prefix 4.9E+12: a spreadsheet has cut"),
        ("Destinations.csv", "DST_DE,+49161", "DST_DE", "Destinations.csv row 4: Destinations: has no prefix"),
        ("Rates.csv", "0.4,0.2", "0.4,x", "Rates.csv row 4: Rate x: is no amount"),
        ("Rates.csv", "0.2,0.1", "0.205,0.1", "Rates.csv row 2: ConnectFee 0.205: is 20.5 credits"),
        ("Rates.csv", "1s,60s", "1s,90ms", "Rates.csv row 3: groupintervalstart 90ms: must be whole seconds"),
        ("Timings.csv", "08:00:00", "*asap", "Timings.csv row 2: Time *asap: must be hours and minutes"),
        ("Timings.csv", "*any,1;2;3;4;5,08", "*any,1;8,08", "Timings.csv row 2: WeekDays 1;8: must be numbers"),
        ("Timings.csv", "MORNING,*any,*any,*any", "MORNING,2026,*any,*any", "Timings.csv row 3: years 2026"),
        ("Timings.csv", "6;7", "6", "Destinations.csv row 2: prefix 1002: has no price at some times of the week"),
    ],
)
def test_each_defect_names_its_file_and_row(file, old, new, fault):
    assert old in FILES[file]
    _, found = read({**FILES, file: FILES[file].replace(old, new)})
    assert found[0].startswith(fault)


@pytest.mark.nightly  # a million of them: 9 s
def test_combinations_without_end_are_a_fault():
    many = "".join(f"D,{number}\n" for number in range(1500))
    links = "".join(f"DR,D,RT_20,*up,{digits},0,\n" for digits in range(1500))
    files = {
        **FILES,
        "Destinations.csv": DESTINATIONS + many,
        "DestinationRates.csv": LINKS + links,
        "RatingPlans.csv": "#Id,DestinationRatesId,TimingTag,Weight\nRP,DR,*any,1\n",
    }
    assert read(files)[1] == ["RatingPlans.csv row 2: the plan has more than 1000000 combinations"]
