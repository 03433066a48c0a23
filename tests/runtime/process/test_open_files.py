"""Files for calls first, then for the API, whatever the limit of the system is."""

from hypothesis import given
from hypothesis import strategies as st

from celcombiller.runtime.process.open_files import OWN_FILES, OpenFiles, share_files


def test_with_files_enough_the_settings_hold():
    assert share_files(None, rest=500, agi=15_000) == OpenFiles(500, 15_000)
    assert share_files(15_600, rest=500, agi=15_000) == OpenFiles(500, 15_000)


def test_with_few_files_the_api_gives_way():
    assert share_files(400, rest=500, agi=15_000) == OpenFiles(rest=75, agi=225)
    assert share_files(1024, rest=500, agi=15_000) == OpenFiles(rest=231, agi=693)


@given(st.integers(8, 10**6), st.integers(1, 10**5), st.integers(1, 10**6))
def test_all_connections_together_leave_the_billers_own_files(limit, rest, agi):
    shares = share_files(limit, rest=rest, agi=agi)
    assert 1 <= shares.rest <= rest
    assert 1 <= shares.agi <= agi
    assert shares.rest + shares.agi <= limit - min(OWN_FILES, limit // 4)
    assert shares.agi == agi or shares.agi >= shares.rest
