"""The records of one channel are joined before anything is compared."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celcombiller.core.reconciliation.cdr import CdrRow, join_rows

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


def row(begins=0, answered=5, talk=60.0, **facts):
    """Return a record that begins, is answered and talks so many seconds later; ``answered=None``: it was not."""
    started_at = NOW + timedelta(seconds=begins)
    answered_at = None if answered is None else NOW + timedelta(seconds=answered)
    known = {
        "place": 1,
        "uniqueid": "1793534400.0",
        "channel": "PJSIP/1001-00000000",
        "destination_channel": "PJSIP/1002-00000001",
        "account_code": "",
        "caller": "1001",
        "dialled": "1002",
        "context": "caller",
        "application": "AGI",
        "started_at": started_at,
        "answered_at": answered_at,
        "ended_at": (answered_at or started_at) + timedelta(seconds=talk),
        "talk_seconds": talk,
        "answered": answered_at is not None,
    }
    return CdrRow(**(known | facts))


def talks(*rows):
    return [
        (each.number, (each.answered_at - NOW).total_seconds(), each.talk_ms / 1000) for each in join_rows(rows).talks
    ]


def test_the_record_of_the_hangup_is_no_talk():
    hangup = row(65, 65, 2.0, dialled="h", destination_channel="", place=2)
    assert talks(row(), hangup) == [("1002", 5, 60)]
    assert join_rows([row(), hangup]).ended_at == NOW + timedelta(seconds=67)


def test_prompts_and_voice_mail_are_no_talk():
    assert talks(row(destination_channel="", application="VoiceMail")) == []
    assert talks(row(destination_channel=None, application="VoiceMail")) == []
    assert talks(row(destination_channel=None, application="Dial")) == [("1002", 5, 60)]


@pytest.mark.parametrize("half", [1, 2])
def test_only_one_half_of_a_local_channel_talks(half):
    assert len(talks(row(channel=f"Local/1002@caller-00000001;{half}"))) == half - 1


def test_a_fork_counts_once():
    loser = row(0, None, 0.0, destination_channel="PJSIP/1003-00000002", place=2)
    assert talks(row(), loser) == [("1002", 5, 60)]
    assert talks(row(), row(place=2)) == [("1002", 5, 60)]


def test_the_pieces_of_a_moved_call_are_one():
    assert talks(row(), row(65, 65, 30.0, place=2)) == [("1002", 5, 90)]


def test_a_second_dial_is_a_second_talk():
    assert talks(row(), row(66, 66, 30.0, place=2, dialled="1003")) == [("1002", 5, 60), ("1003", 66, 30)]


def test_a_call_that_nobody_answered_has_no_talk():
    assert talks(row(0, None, 0.0)) == []


ROWS = st.lists(
    st.builds(
        lambda begins, ring, talk, number, up: row(
            begins, begins + ring if up else None, float(talk if up else 0), dialled=number
        ),
        *(
            st.integers(0, 600),
            st.integers(0, 30),
            st.integers(0, 300),
            st.sampled_from(["1002", "1003"]),
            st.booleans(),
        ),
    ),
    min_size=1,
    max_size=8,
)


@given(rows=ROWS, order=st.randoms())
def test_talk_is_counted_once_in_any_order(rows, order):
    together = join_rows(rows)
    seconds = {
        round((each.answered_at - NOW).total_seconds()) + second
        for each in rows
        if each.is_talk
        for second in range(round(each.talk_seconds))
    }
    counted = sum(each.talk_ms for each in together.talks) / 1000
    gaps = len(rows)  # pieces to one number that follow within a second are one talk, with that second
    assert len(seconds) <= counted <= len(seconds) + gaps
    mixed = list(rows)
    order.shuffle(mixed)
    assert sum(each.talk_ms for each in join_rows([*mixed, *rows]).talks) / 1000 <= len(seconds) + gaps
