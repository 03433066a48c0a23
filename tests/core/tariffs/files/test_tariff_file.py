import csv
import io
import tracemalloc
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.model.tariffs import Service
from celcombiller.core.tariffs.files.findings import FINDINGS_MAX, Findings
from celcombiller.core.tariffs.files.tariff_file import read_tariff_file, write_tariff_file
from celcombiller.core.tariffs.rate_row import decode_steps
from tests.support.properties import share
from tests.support.tariff_files import faults, rate, rate_lists, read, terms


def written(rates):
    return "".join(write_tariff_file(rates))


# -- our own files ---------------------------------------------------------------------------------------------------


@given(rate_lists())
def test_an_exported_list_is_read_as_it_was(rates):
    found, findings = read(written(rates))
    assert findings.faults == []
    assert found == rates
    assert written(found) == written(rates)


@pytest.mark.parametrize(
    ("columns", "cells", "steps"),
    [
        ("price", "10", [(0, 1, 10, 60)]),
        ("price,increment", "10,60", [(0, 60, 10, 60)]),
        ("price,increment", "10,30/6", [(0, 30, 10, 60), (30, 6, 10, 60)]),
        ("price,increment", "10,60/60", [(0, 60, 10, 60)]),
        ("price,per,increment", "10,1,60", [(0, 60, 10, 1)]),
        ("price,per,first_increment,first_price,increment", "5,60,60,0,1", [(0, 60, 0, 60), (60, 1, 5, 60)]),
        ("steps", "0:30:8/60 30:6:8/60 600:6:4/60", [(0, 30, 8, 60), (30, 6, 8, 60), (600, 6, 4, 60)]),
        ("price", "0.0125", [(0, 1, 1, 4800)]),
    ],
)
def test_prices_are_read_as_exact_steps(columns, cells, steps):
    (found,), findings = read(f"prefix,{columns}\n55,{cells}\n")
    assert findings.faults == []
    assert found.steps == rate("55", *steps).steps


def test_a_message_costs_its_price_each():
    (found,), _ = read("service,prefix,price\nsms,55,3\n")
    assert (found.service, found.steps) == (Service.SMS, rate("55", (0, 1, 3, 1)).steps)


def test_money_becomes_credits_of_the_tariff():
    (found,), findings = read("prefix,price,connect_fee,minimum_charge\n55,0.125,0.05,0.1\n", is_money=True)
    assert findings.faults == []
    assert (found.connect_fee, found.minimum_charge) == (50, 100)
    assert found.steps == rate("55", (0, 1, 125, 60)).steps


@given(st.integers(0, 10**9), st.integers(0, 9), st.integers(1, 10**6))
def test_a_price_in_money_is_exact(digits, decimals, credits_per_unit):
    text = str(digits).rjust(decimals + 1, "0")
    text = f"{text[: len(text) - decimals]}.{text[len(text) - decimals :]}" if decimals else text
    (found,), findings = read(f"prefix,price\n55,{text}\n", is_money=True, credits_per_unit=credits_per_unit)
    assert findings.faults == []
    (step,) = decode_steps(found.steps)
    assert step.price * 60 * 10**decimals == digits * credits_per_unit * step.per


def test_a_fee_is_whole_credits():
    assert faults("prefix,price,connect_fee\n55,1,0.0125\n", is_money=True) == [
        "row 2: connect_fee 0.0125: is 12.5 credits at 1000 credits a unit; fees are whole credits,"
        " so its last digits cannot be kept (of 12.5, those after the point)"
    ]


@pytest.mark.parametrize(
    "amount", ["0,70", "0.70", "R$ 0,70", "0,70 €", "$0.70", "0.700000", "+0.7", "USD 0.70", "'0.70"]
)
def test_an_amount_is_read_however_written(amount):
    (found,), findings = read(f"prefix;price\n55;{amount}\n", is_money=True)
    assert findings.faults == []
    assert found.steps == rate("55", (0, 1, 700, 60)).steps


@pytest.mark.parametrize(
    ("amount", "value"),
    [("1.234,5", 1234.5), ("1,234.5", 1234.5), ("1 234,5", 1234.5), ("1.234.567", 1234567), ("1'234.5", 1234.5)],
)
def test_an_amount_may_have_signs_between_thousands(amount, value):
    (found,), findings = read(f"prefix;price\n55;{amount}\n")
    assert findings.faults == []
    (step,) = decode_steps(found.steps)
    assert step.price * 60 / step.per == value


@pytest.mark.parametrize(
    ("amount", "why"),
    [
        ("1.5E-03", "has an exponent"),
        ("-1", "is negative"),
        ("free", "is no amount"),
        ("N/A", "is no amount"),
        ("#REF!", "is no amount"),
        ("0.1234567890123456", "its digits 3456 after the 12th"),
        ("1,23,4", "is no amount"),
        ("9" * 5000, "is too large"),
        ("", "is empty"),
        ("²", "is no amount"),
    ],
)
def test_what_is_no_amount_is_a_fault(amount, why):
    (fault,) = faults(f"prefix;price\n55;{amount}\n")
    assert fault.startswith("row 2: price")
    assert why in fault


def test_one_file_has_one_decimal_sign():
    assert faults("prefix;price\n55;0,5\n56;1.234\n") == [
        "row 3: price 1.234: a decimal point, but row 2 has a decimal comma"
    ]


@pytest.mark.parametrize(
    ("cell", "prefixes"),
    [
        ("5511", ["5511"]),
        ("+5511", ["5511"]),
        ("'5511", ["5511"]),
        ("5511.0", ["5511"]),
        ("^5511.*", ["5511"]),
        ("5511*", ["5511"]),
        ("", [""]),
        ("5511-5513", ["5511", "5512", "5513"]),
        ("5511 - 13", ["5511", "5512", "5513"]),
        ("5511-5", ["5511", "5512", "5513", "5514", "5515"]),
        ("5510-5519", ["551"]),
        ("5508-5521", ["5508", "5509", "551", "5520", "5521"]),
        ("0098-0101", ["0098", "0099", "0100", "0101"]),
        ("5511,5512 5521-22", ["5511", "5512", "5521", "5522"]),
        ("5511/5512|5513", ["5511", "5512", "5513"]),
    ],
)
def test_a_cell_lists_prefixes_and_ranges(cell, prefixes):
    found, findings = read(f"prefix;price\n{cell};1\n")
    assert findings.faults == []
    assert [each.prefix for each in found] == prefixes


@given(st.integers(0, 99999), st.integers(0, 99999))
def test_a_range_is_exactly_its_numbers(one, other):
    first, last = sorted((one, other))
    found, _ = read(f"prefix;price\n{first:05}-{last:05};1\n")
    covered = [
        number for each in found for number in range(int(each.prefix.ljust(5, "0")), int(each.prefix.ljust(5, "9")) + 1)
    ]
    assert covered == list(range(first, last + 1))


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("5.51E+12", "a spreadsheet has cut this number"),
        ("5,51E+12", "a spreadsheet has cut this number"),
        ("5,511", "write a list of prefixes with spaces"),
        ("55x", "is no prefix"),
        ("_55[12]", "is no prefix"),
        ("5519-5511", "is no range"),
        ("1-22", "is no range"),
        ("5" * 21, "has 21 digits"),
        ("٣", "is no prefix"),
        (",;", "is no prefix"),
    ],
)
def test_what_is_no_prefix_is_a_fault(cell, why):
    (fault,) = faults(f'prefix;price\n"{cell}";1\n')
    assert fault.startswith("row 2: prefix")
    assert why in fault


def test_all_faults_are_found_in_one_run():
    content = "prefix,name,price,increment\nx,a,1,1\n55,b,y,1\n\n56,c,1,z\n57,d,1,1,9\n,,,\n58,e,-1,-1\n"
    assert [each.split()[1] for each in faults(content)] == ["2:", "3:", "5:", "6:", "8:", "8:"]


def test_faults_are_counted_beyond_those_kept():
    _, findings = read("prefix,price\n" + "x,1\n" * (FINDINGS_MAX + 7))
    assert (len(findings.faults), findings.fault_count) == (FINDINGS_MAX, FINDINGS_MAX + 7)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("55,1,a,\n55,2,a,\n", "row 3: prefix 55: is in row 2 already, with other prices"),
        ("55,1,a,\n55,1,b,\n", "row 3: prefix 55: is in row 2 already, with another name"),
        ("5511-5519,1,a,\n5515,2,a,\n", "row 3: prefix 5515: is in row 2 already, with other prices"),
        ("55,1,a,mon-fri 08:00-18:00\n", "row 2: voice, prefix 55: has prices in windows only"),
        ("55,1,a,\n55,2,a,always\n", "row 3: window always: a time of the week is"),
    ],
)
def test_rates_that_contradict_are_faults(rows, why):
    (fault,) = faults(f"prefix,price,name,window\n{rows}".replace("5511-5519,1", "5511-5519,1"))
    assert fault.startswith(why)


def test_windows_that_overlap_are_a_fault():
    (fault,) = faults("prefix,price,window\n55,1,\n55,2,mon-fri 08:00-18:00\n55,3,fri 17:00-20:00\n")
    assert fault.startswith("row 4: prefix 55: the windows")
    assert fault.endswith("(row 3)")


def test_a_row_twice_is_taken_once():
    found, findings = read("prefix,price\n55,1\n55,1\n")
    assert len(found) == 1
    assert [str(each) for each in findings.remarks] == ["row 3: prefix 55: is the same as in row 2; it was taken once"]


def test_validities_that_follow_each_other_fit():
    content = "prefix,price,valid_from,valid_until\n55,1,,2026-12-01\n55,2,2026-12-01,\n"
    found, findings = read(content)
    assert findings.faults == []
    assert found[1].valid_from == datetime(2026, 12, 1, 3, tzinfo=UTC)


@pytest.mark.parametrize("cell", ["01/12/2026", "2026-13-01", "soon", "9999-12-31T23:59:59-14:00"])
def test_what_is_no_time_is_a_fault(cell):
    (fault,) = faults(f"prefix,price,valid_from\n55,1,{cell}\n")
    assert "2026-12-01T18:00:00Z" in fault


# -- the form of a file ----------------------------------------------------------------------------------------------

LIST = "prefix;name;price\n5511;São Paulo, fixo;1,5\n5521;Rio;2,5\n"


@pytest.mark.parametrize(
    "data",
    [
        LIST.encode(),
        LIST.encode("utf-8-sig"),
        LIST.encode("latin-1"),
        LIST.replace("\n", "\r\n").encode(),
        LIST.replace("\n", "\r").encode(),
        LIST.replace("\n", ";;\n\n").encode(),
        LIST.replace(";", "\t").encode(),
        LIST.replace(", fixo", '", fixo')
        .replace("São", '"São')
        .replace(";", "\t")
        .replace('", fixo', ', fixo"')
        .encode(),
        ("sep=;\n" + LIST).encode(),
        LIST.replace("prefix", "# Prefix").replace("5511", "#old;x;y\n5511").encode(),
        LIST.replace("São Paulo, fixo", '"São\nPaulo, fixo"').encode(),
        LIST.strip().encode(),
    ],
)
def test_each_form_of_a_file_is_read(data):
    found, findings = read(data)
    assert findings.faults == []
    assert [(each.prefix, each.name) for each in found] == [("5511", "São Paulo, fixo"), ("5521", "Rio")]


@given(st.lists(st.integers(0, len(LIST) + 3), max_size=6).map(sorted))
def test_a_file_is_read_in_any_segments(cuts):
    data = LIST.replace("\n", "\r\n").encode()
    segments = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    findings = Findings()
    assert read_tariff_file(segments, "", terms(), findings).rows == read(data)[0]
    assert findings.faults == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "file: has no rows"),
        (b"\n\n", "file: has no rows"),
        (b"PK\x03\x04 a workbook", "row 1: the file is a workbook"),
        ("prefix".encode("utf-16"), "row 1: the file is UTF-16"),
        (b"prefix,price\n\x00,1\n", "row 2: has a NUL character"),
        (b"x" * 70_000, "row 1: is longer than 64 KiB"),
        (b'prefix,price\n"55,1\n56,1\n', 'row 2: a quote (") begins a cell that does not end'),
        (
            "prefix,name,price\n55,é,1\n".encode() + "56,é,1\n".encode("latin-1"),
            "row 3: is Latin-1, but row 2 is UTF-8",
        ),
        (b"prefix,name\n55,x\n", "row 1: has no column price"),
        (b"name,price\nx,1\n", "row 1: has no column prefix"),
        (b"prefix,prise\n55,1\n", "row 1: has an unknown column 'prise'; did you mean price?"),
        (b"prefix,price,price\n55,1,2\n", "row 1: has the column price twice"),
        (b"55,1\n", "row 1: is no header"),
        (b"prefix,price\n55,1,5\n", "row 2: has 3 cells, but there are 2 columns"),
    ],
)
def test_what_is_no_price_list_is_a_fault(data, why):
    assert faults(data)[0].startswith(why)


def test_a_name_is_never_a_formula():
    rates = [rate("55", name="=1+1"), rate("56", name="'=1+1"), rate("57", name="-x")]
    text = written(rates)
    assert ",'=1+1," in text
    assert ",''=1+1," in text
    assert read(text)[0] == rates


@pytest.mark.slow
def test_memory_is_that_of_the_rates_only():
    """About 2 s."""

    def size(rows):
        chunks = (f"{number},1,{'n' * 50}\n".encode() for number in range(10**6, 10**6 + rows))
        tracemalloc.start()
        found = read_tariff_file(
            (each for part in ((b"prefix,price,name\n",), chunks) for each in part), "", terms(), Findings()
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(found.rows) == rows
        return peak / rows

    assert size(20_000) < 1000


# -- files of others -------------------------------------------------------------------------------------------------


def only(content, preset, **more):
    (found,), findings = read(content, preset, **more)
    assert [str(each) for each in findings.faults] == []
    return found


A2B = "dialprefix,destination,rateinitial,initblock,billingblock"


@pytest.mark.parametrize(
    ("cells", "steps"),
    [
        ("0.10000,60,60", [(0, 60, 100, 60)]),
        ("0.10000,30,6", [(0, 30, 100, 60), (30, 6, 100, 60)]),
        ("0.10000,30,18", [(0, 30, 100, 60), (30, 6, 100, 60), (36, 18, 100, 60)]),
        ("0.10000,1,60", [(0, 1, 100, 60), (1, 59, 100, 60), (60, 60, 100, 60)]),
        ("0.10000,0,0", [(0, 1, 100, 60)]),
        ('"0,1",0,6', [(0, 6, 100, 60)]),
    ],
)
def test_blocks_of_a2billing_are_its_steps(cells, steps):
    assert only(f"{A2B}\n33,France,{cells}\n", "a2billing").steps == rate("33", *steps).steps


@pytest.mark.parametrize("seconds", [1, 29, 30, 31, 36, 37, 54, 55, 100])
def test_a_call_costs_as_in_a2billing(seconds):
    """Compare with its rule: at least the first block, and whole blocks from the beginning when it is longer."""
    steps = decode_steps(only(f"{A2B}\n33,France,0.06,30,18\n", "a2billing").steps)
    charged = max(seconds, 30)
    charged += -charged % 18 if charged > 30 else 0
    at = 0
    while at < seconds:
        at += next(each.increment for each in reversed(steps) if each.start <= at)
    assert at == charged


def test_files_of_a2billing_may_have_no_header():
    assert only('"Brazil","55","0.07"\n', "a2billing").name == "Brazil"
    assert only("55, Brazil, 0.07\n", "a2billing").prefix == "55"
    columns = ("dialprefix", "destination", "rateinitial", "initblock")
    assert (
        only("55,Brazil,0.07,60\n", "a2billing", columns=columns).steps
        == rate("55", (0, 60, 70, 60), (60, 1, 70, 60)).steps
    )


def test_a_progressive_rate_of_a2billing_is_steps():
    content = f"{A2B},connectcharge,stepchargea,chargea,timechargea,billingblocka,chargeb,timechargeb,billingblockb\n"
    found = only(f"{content}33,France,0.01,30,6,0.02,0.03,0.1,60,6,0.05,120,30\n", "a2billing")
    assert found.connect_fee == 50
    assert found.steps == rate("33", (0, 30, 100, 60), (30, 6, 100, 60), (60, 30, 50, 60), (180, 6, 10, 60)).steps


def test_minutes_of_a_week_become_windows():
    found, findings = read(f"{A2B},starttime,endtime\n33,F,0.1,1,1,0,479\n33,F,0.2,1,1,480,10079\n", "a2billing")
    assert findings.faults == []
    assert {(each.window, each.steps) for each in found} == {
        ("", rate("33", (0, 1, 200, 60)).steps),
        ("mon 00:00-08:00", rate("33", (0, 1, 100, 60)).steps),
    }


def test_dates_of_a2billing_are_of_its_zone():
    found = only(f"{A2B},startdate,stopdate\n33,F,1,1,1,2026-01-02 03:00:00,0000-00-00 00:00:00\n", "a2billing")
    assert (found.valid_from, found.valid_until) == (datetime(2026, 1, 2, 6, tzinfo=UTC), None)


@pytest.mark.parametrize(
    ("column", "cell", "why"),
    [
        ("additional_grace", "5", "lengthens each call there"),
        ("additional_block_charge", "0.5", "is charged for each block"),
        ("disconnectcharge_after", "30", "is a limit of the disconnect charge"),
        ("endtime", "10080", "must be from starttime"),
        ("rateinitial", "1", "has the column rateinitial twice"),
        ("dialprefiks", "1", "did you mean dialprefix?"),
    ],
)
def test_what_no_rate_has_is_a_fault(column, cell, why):
    assert why in faults(f"{A2B},{column}\n33,France,0.1,1,1,{cell}\n", "a2billing")[0]


def test_prefixes_of_a2billing_must_be_plain():
    assert "is no prefix" in faults(f"{A2B}\n_44[12],UK,0.1,1,1\n", "a2billing")[0]
    assert "dialprefix is empty" in faults(f"{A2B}\n,UK,0.1,1,1\n", "a2billing")[0]
    assert only(f"{A2B}\ndefaultprefix,,0.1,1,1\n", "a2billing").prefix == ""


def test_an_export_of_magnusbilling_is_read():
    content = (
        '\ufeffPrefixo;Destino;"Preço de venda";"Bloco mínimo";"Bloco de tarifação";"Grupo de Tronco";Plano;Status\r\n'
        '5511;"Brasil; SP";0.0800;30;6;T;P;1\r\n54;Argentina;0.025;1;1;T;P;0\r\n'
    )
    found = only(content, "magnusbilling")
    assert (found.name, found.steps) == ("Brasil; SP", rate("", (0, 30, 80, 60), (30, 6, 80, 60)).steps)
    assert "row 3: is inactive" in str(read(content, "magnusbilling")[1].remarks[0])


def test_an_import_file_of_magnusbilling_has_no_header():
    found = only("5511, Brasil SP, 0.080, 30, 6, 3, 0.01\n", "magnusbilling")
    assert (found.connect_fee, found.grace) == (10, 3)


@pytest.mark.parametrize(
    "header",
    [
        "Code,Destination,Connection Cost (USD),Grace Time,Cost / Min (USD),Initial Increment,Increment",
        "Code,Destination,Connection Cost(BRL),Grace Time,Cost / Min(BRL),Initial Increment,Increment,Status",
        "\ufeffcode,destination,connection cost,grace time,cost / min,initial increment,increment,Strip,Prepend",
    ],
)
def test_each_header_of_astpp_is_read(header):
    found = only(f"{header}\n44,UK,0.5,10,0.05,30,60\n", "astpp")
    assert found.connect_fee == 500
    assert found.steps == rate("44", (0, 10, 0, 60), (10, 30, 50, 60), (40, 60, 50, 60)).steps


def test_a_column_that_nothing_reads_is_named():
    _, findings = read(f"{A2B},colour\n33,France,0.1,1,1,blue\n", "a2billing")
    assert [str(each) for each in findings.remarks] == ["row 1: has a column 'colour', which is not read"]


@share(0.3)
@given(rate_lists(), st.sampled_from([";", "\t"]), st.sampled_from(["\n", "\r\n"]))
def test_a_spreadsheet_may_save_an_export_again(rates, delimiter, end):
    rows = list(csv.reader(io.StringIO(written(rates), newline="")))
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    assert read("\ufeff" + text.getvalue())[0] == rates
