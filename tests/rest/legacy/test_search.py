"""The search language of the original's lists, held against plain Python; the pages, links and limits around it."""

import json
import os
import time
from urllib.parse import parse_qs, urlsplit

import hypothesis.strategies as st
import pytest
from hypothesis import given

from celcombiller.core.errors import BrokenRequest
from celcombiller.core.model.subscribers import Level
from celcombiller.rest.legacy.collections import KEPT_TIMES, Counts
from tests.support import databases
from tests.support.http import restless_reference as model
from tests.support.http.restless_reference import SHAPES, SYNONYMS, ask, expected
from tests.support.properties import share


@pytest.fixture(scope="module", autouse=True)
def local_time():
    """Be somewhere: what is local time must not pass for UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/Sao_Paulo"
    time.tzset()
    yield
    os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
    time.tzset()


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    made = databases.sqlite(tmp_path_factory.mktemp("restless") / "ledger.sqlite", model.fill)
    yield made.execution_options(reading=True)
    made.dispose()


@pytest.fixture
def tx(engine):
    with engine.begin() as tx:
        yield tx


@pytest.fixture(scope="module")
def rows(engine):
    with engine.begin() as tx:
        return model.rows_of(tx)


def refusal(tx, query, name="users"):
    with pytest.raises(BrokenRequest) as refused:
        ask(tx, name, {"q": query if isinstance(query, str) else json.dumps(query)})
    return str(refused.value)


# -- what a search finds ---------------------------------------------------------------------------------------------


@pytest.mark.hypothesis
@pytest.mark.parametrize("name", SHAPES)
def test_any_search_finds_what_plain_python_finds(engine, rows, name):
    @share(1.5)
    @given(model.searches(SHAPES[name], rows[name]), st.integers(-1, 4), st.sampled_from([None, 1, 3, 100]))
    def check(q, page, per_page):
        query = {"q": json.dumps(q), "page": str(page)} | ({"results_per_page": str(per_page)} if per_page else {})
        with engine.begin() as tx:
            answer = ask(tx, name, query)
        default = 10 if name == "users" else 100
        assert answer.body == expected(rows[name], SHAPES[name], q, page, per_page or default)

    check()


@pytest.mark.hypothesis
@pytest.mark.parametrize("name", ["users", "voice_balance"])
def test_every_operator_has_all_its_names(engine, rows, name):
    @share(0.1)
    @given(st.data())
    def check(operator, words, data):
        said = data.draw(model.comparisons(SHAPES[name], rows[name], operators=(operator,)))
        for word in words:
            q = {"filters": [said | {"op": word}]}
            with engine.begin() as tx:
                answer = ask(tx, name, {"q": json.dumps(q), "results_per_page": "100"})
            assert answer.body == expected(rows[name], SHAPES[name], q)

    for operator, words in SYNONYMS.items():
        check(operator, words)


def test_the_objects_are_shown_as_they_always_were(tx):
    (user,) = ask(tx, "users", {"q": '{"filters":[{"name":"username","op":"eq","val":"u3"}]}'}).body["objects"]
    assert list(user) == [
        *("_id", "level", "name", "address", "cpf", "username", "clid", "imsi", "voice_balance", "data_balance")
    ]
    assert (user["cpf"], user["imsi"]) == (33, "001010000000003")
    first = ask(tx, "voice_balance", {"q": '{"filters":[{"name":"to_user_id","op":"is_null"}]}'}).body["objects"][0]
    assert list(first) == ["_id", "from_user_id", "to_user_id", "value", "date", "origin"]
    assert first["date"].startswith("2026-11-01T09:01:00.0")  # three hours west of UTC


def test_a_number_finds_a_cpf_with_zeros(tx, rows):
    kept = [row for row in rows["users"] if row["cpf"] is not None]
    for row in kept:
        q = {
            "filters": [{"name": "cpf", "op": "eq", "val": row["cpf"]}, {"name": "_id", "op": "eq", "val": row["_id"]}]
        }
        assert ask(tx, "users", {"q": json.dumps(q)}).body["num_results"] == 1


def test_the_time_of_now_has_its_names(tx, rows):
    def found(operator, word):
        q = {"filters": [{"name": "date", "op": operator, "val": word}]}
        return ask(tx, "voice_balance", {"q": json.dumps(q)}).body["num_results"]

    dates = [row["date"] for row in rows["voice_balance"]]
    for word in ("CURRENT_TIMESTAMP", "LOCALTIMESTAMP"):
        assert found("<", word) == sum(each < model.NOW for each in dates)
    today = model.NOW.astimezone().replace(hour=0)
    assert found(">=", "CURRENT_DATE") == sum(each >= today for each in dates)


# -- pages -----------------------------------------------------------------------------------------------------------


def test_links_lead_through_all_pages(tx, rows):
    q = json.dumps({"filters": [{"name": "name", "op": "like", "val": "%a%"}], "order_by": [{"field": "name"}]})
    query, seen = {"q": q, "results_per_page": "2"}, []
    while query:
        answer = ask(tx, "users", query)
        seen += answer.body["objects"]
        links = dict(reversed(each.split("; ")) for each in answer.headers["Link"].split(", "))
        assert ('rel="next"' in links) == (answer.body["page"] < answer.body["total_pages"])
        last = parse_qs(urlsplit(links['rel="last"'].strip("<>")).query)
        assert last["page"] == [str(answer.body["total_pages"])]
        following = links.get('rel="next"')
        query = following and {name: each[0] for name, each in parse_qs(urlsplit(following.strip("<>")).query).items()}
    assert seen == expected(rows["users"], SHAPES["users"], json.loads(q))["objects"]


def test_an_empty_list_says_so(tx):
    q = '{"filters":[{"name":"name","op":"eq","val":"nobody"}]}'
    answer = ask(tx, "users", {"q": q})
    assert answer.body == {"num_results": 0, "objects": [], "page": 1, "total_pages": 0}
    assert 'rel="next"' not in answer.headers["Link"]


def test_results_per_page_is_capped_at_100(tx):
    for said in ("5", "1000", "0", "-3", "x", "", "1e9", "9" * 5000, "٣"):
        answer = ask(tx, "users", {"results_per_page": said})
        per_page = {"5": 5, "1000": 100}.get(said, 10)
        assert len(answer.body["objects"]) == min(per_page, len(model.NAMES) - 1)
        assert f"results_per_page={per_page}>" in answer.headers["Link"]


def test_pages_outside_the_range_are_empty(tx):
    for page in ("0", "-1", "99", str(2**53 - 1), str(-(2**53) + 1)):
        body = ask(tx, "users", {"page": page}).body
        assert (body["objects"], body["page"], body["num_results"]) == ([], int(page), len(model.NAMES) - 1)


def test_a_page_that_is_no_number_is_refused(tx):
    for page in ("x", "", "1.5", "9" * 400, str(2**53), "٣", "1_0", " 1"):
        with pytest.raises(BrokenRequest, match="page must be a whole number"):
            ask(tx, "users", {"page": page})


def test_single_gives_one_object_or_a_reason(tx):
    def single(operator, value):
        q = {"filters": [{"name": "username", "op": operator, "val": value}], "single": True}
        return ask(tx, "users", {"q": json.dumps(q)})

    answer = single("eq", "u1")
    assert (answer.body["username"], answer.headers["Location"]) == ("u1", "http://h/api/things/u1")
    answer = single("eq", "nobody")
    assert (answer.status, answer.body) == (404, {"message": "No result found"})
    assert ask(tx, "users", {"q": '{"single": true, "offset": 1000000000}'}).status == 404
    answer = single("like", "u%")
    assert (answer.status, answer.body) == (400, {"message": "Multiple results found"})


# -- who sees what ---------------------------------------------------------------------------------------------------


@share(0.5)
@given(st.data())
def test_a_subscribers_search_finds_only_own_rows(engine, rows, data):
    name = data.draw(st.sampled_from(sorted(model.OWNERS)))
    owner = model.OWNERS[name]
    number = data.draw(st.sampled_from([1, 2, 7]))
    q = data.draw(model.searches(SHAPES[name], rows[name]))
    with engine.begin() as tx:
        answer = ask(tx, name, {"q": json.dumps(q)}, subscriber_id=number, level=Level.SUBSCRIBER)
    own = [row for row in rows[name] if row[owner] == number]
    assert answer.body == expected(own, SHAPES[name], q, per_page=10 if name == "users" else 100)


@pytest.mark.parametrize("field", ["password", "password_hash", "enabled", "deleted_at", "id"])
def test_what_is_not_shown_cannot_be_looked_for(tx, field):
    for q in (
        {"filters": [{"name": field, "op": "like", "val": "a%"}]},
        {"order_by": [{"field": field}]},
        {"group_by": [{"field": field}]},
        {"filters": [{"name": "name", "op": "eq", "field": field}]},
    ):
        assert f"there is no field '{field}'" in refusal(tx, q)


# -- what is refused -------------------------------------------------------------------------------------------------


REFUSED = [
    ("{", "Unable to decode data"),
    ("[]", "Unable to decode data: q must be an object"),
    ('"x"', "Unable to decode data"),
    ("null", "Unable to decode data"),
    ("[" * 20000, "nested too deep"),
    ('{"limit":1,"limit":2}', "stands there twice"),
    ('{"limit":NaN}', "is not JSON"),
    ({"filters": {}}, "filters is a list"),
    ({"filters": ["x"]}, "a filter is an object"),
    ({"filters": [{}]}, "there is no field None"),
    ({"filters": [{"name": "name"}]}, "None is no operator"),
    ({"filters": [{"name": "name", "op": "regexp", "val": "."}]}, "'regexp' is no operator"),
    ({"filters": [{"name": "name", "op": ["eq"], "val": "."}]}, "is no operator"),
    ({"filters": [{"name": "name", "op": "eq"}]}, "use is_null or is_not_null"),
    ({"filters": [{"name": "name", "op": "eq", "val": None}]}, "val is missing"),
    ({"filters": [{"name": "name", "op": "in", "val": [None]}]}, "name must be text"),
    ({"filters": [{"name": "name", "op": "in", "val": "ana"}]}, "needs a list"),
    ({"filters": [{"name": "_id", "op": "in", "val": list(range(501))}]}, "at most 500 values"),
    ({"filters": [{"name": "computers__name", "op": "any", "val": "x"}]}, "nothing here has relations"),
    ({"filters": [{"name": "name", "op": "has", "val": "x"}]}, "nothing here has relations"),
    ({"filters": [{"name": "name", "op": "desc"}]}, "say so in order_by"),
    ({"filters": [{"or": []}]}, "needs at least one filter"),
    ({"filters": [{"or": [{"name": "name", "op": "is_null"}], "and": []}]}, "stands alone"),
    ({"filters": [{"name": "level", "op": "eq", "val": "x"}]}, "level must be a whole number"),
    ({"filters": [{"name": "level", "op": "eq", "val": 1.5}]}, "level must be a whole number"),
    ({"filters": [{"name": "level", "op": "eq", "val": True}]}, "level must be a whole number"),
    ({"filters": [{"name": "level", "op": "eq", "val": "٣"}]}, "level must be a whole number"),
    ({"filters": [{"name": "level", "op": "eq", "val": 2**63}]}, "level must be a whole number"),
    ({"filters": [{"name": "level", "op": "eq", "val": "9" * 5000}]}, "level must be a whole number"),
    ({"filters": [{"name": "level", "op": "eq", "val": {"a": 1}}]}, "level must be a whole number"),
    ({"filters": [{"name": "name", "op": "eq", "val": True}]}, "name must be text"),
    ({"filters": [{"name": "name", "op": "eq", "val": "a\x00"}]}, "NUL"),
    ({"filters": [{"name": "name", "op": "eq", "val": "\ud800"}]}, "half a character"),
    ({"filters": [{"name": "name", "op": "eq", "field": "level"}]}, "name and level cannot be compared"),
    ({"filters": [{"name": "name", "op": "like", "field": "address"}]}, "like needs a val"),
    ({"filters": [{"name": "name", "op": "like", "val": "%a" * 11}]}, "at most 200 characters and 10 %"),
    ({"filters": [{"name": "name", "op": "like", "val": "a" * 201}]}, "at most 200 characters and 10 %"),
    ({"filters": [{"name": "level", "op": "is_null"}] * 101}, "filters is a list of at most 100"),
    ({"filters": [{"or": [{"name": "level", "op": "is_null"}] * 60}] * 2}, "more than 100 filters"),
    ({"order_by": [{"field": "nobody"}]}, "there is no field 'nobody'"),
    ({"order_by": [{"field": "name", "direction": "down"}]}, "order_by is a list"),
    ({"order_by": ["name"]}, "order_by is a list"),
    ({"order_by": [{"field": "name"}] * 11}, "at most 10"),
    ({"group_by": ["name"]}, "group_by is a list"),
    ({"limit": -1}, "limit must be a whole number from 0"),
    ({"limit": "x"}, "limit must be a whole number from 0"),
    ({"offset": 2**63}, "offset must be a whole number from 0"),
    ({"offset": 10**9 + 1, "single": True}, "offset must be a whole number from 0 to 1000000000"),
    ({"offset": [1]}, "offset must be a whole number from 0"),
]


def test_a_meaningless_search_is_refused_with_reason(tx):
    for q, why in REFUSED:
        assert why in refusal(tx, q), q


def test_filters_nest_ten_deep_and_no_deeper(tx):
    said = {"name": "level", "op": "ge", "val": 0}
    for _ in range(9):
        said = {"and": [said]}
    assert ask(tx, "users", {"q": json.dumps({"filters": [said]})}).body["num_results"] == len(model.NAMES) - 1
    assert "nested deeper than 10" in refusal(tx, {"filters": [{"and": [{"or": [said]}]}]})


def test_a_time_that_is_none_is_refused(tx):
    for value in ("2026-13-01", "yesterday", "", 5, "0001-01-01T00:00:00+23:00"):
        q = {"filters": [{"name": "date", "op": ">", "val": value}]}
        assert "date must be a time" in refusal(tx, q, "voice_balance")


def test_a_time_is_not_matched_with_a_pattern(tx):
    q = {"filters": [{"name": "date", "op": "like", "val": "2026%"}]}
    assert "not matched with a pattern" in refusal(tx, q, "voice_balance")


# -- counting --------------------------------------------------------------------------------------------------------


class Work:
    """Something to count, that takes a while by a clock of its own."""

    def __init__(self, seconds):
        self.now, self.seconds, self.done = 100.0, seconds, 0

    def __call__(self):
        self.now += self.seconds
        self.done += 1
        return self.done


def test_a_slow_count_is_cached_twentyfold():
    work = Work(0.5)
    counts = Counts(clock=lambda: work.now)
    assert [counts.total("key", work), counts.total("key", work), counts.total("other", work)] == [1, 1, 2]
    work.now += KEPT_TIMES * work.seconds - 0.6
    assert counts.total("key", work) == 1
    work.now += 0.2
    assert counts.total("key", work) == 3


def test_a_fast_count_is_not_kept():
    work = Work(0.009)
    counts = Counts(clock=lambda: work.now)
    assert [counts.total("key", work), counts.total("key", work)] == [1, 2]


def test_no_more_than_a_thousand_counts_are_kept():
    work = Work(1)
    counts = Counts(clock=lambda: work.now)
    for key in range(1500):
        work.seconds = 1e6
        counts.total(key, work)
    assert counts.total(1499, work) == 1500
    assert counts.total(0, work) == 1501
