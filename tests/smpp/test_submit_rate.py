"""Parts are submitted at the rate of the contract, and slower while the SMSC refuses."""

from celcombiller.smpp.submit_rate import PER_SECOND_MIN, WAIT_SECONDS_MAX, SubmitRate


def test_parts_go_one_after_the_other():
    rate = SubmitRate(10)
    assert [round(rate.reserve(5.0), 3) for _ in range(4)] == [5.0, 5.1, 5.2, 5.3]
    assert rate.reserve(9.0) == 9.0


def test_refusals_of_one_moment_slow_down_once():
    rate = SubmitRate(8)
    sent = [rate.reserve(100.0) for _ in range(4)]
    for each in sent:
        rate.reduce(each, 100.5)
    assert rate.per_second == 4
    rate.reduce(rate.reserve(100.5), 101.0)
    assert rate.per_second == 2


def test_the_rate_recovers_and_stays_within_the_contract():
    rate = SubmitRate(10)
    for now in range(1, 40):
        rate.reduce(now, now)
    assert rate.per_second == PER_SECOND_MIN
    before = rate.per_second
    rate.recover()
    assert before < rate.per_second < 1
    for _ in range(200):
        rate.recover()
    assert rate.per_second == 10


def test_a_turn_too_far_away_is_no_room():
    rate = SubmitRate(1)
    turns = 0
    while rate.has_room(0.0):
        rate.reserve(0.0)
        turns += 1
    assert turns == int(WAIT_SECONDS_MAX) + 1
    assert rate.has_room(1.0)


def test_a_limited_smsc_gets_nearly_its_rate():
    """A link of ten at once to an SMSC that refuses what is more than five in a second."""
    rate, now, taken, refused = SubmitRate(50), 0.0, [], 0
    while now < 120:
        now = rate.reserve(now)
        if sum(each > now - 1 for each in taken) < 5:
            taken.append(now)
            rate.recover()
        else:
            refused += 1
            rate.reduce(now, now)
    late = sum(each > 60 for each in taken) / 60
    assert 2.5 <= late <= 5
    assert refused < len(taken)
