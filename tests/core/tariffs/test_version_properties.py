"""Versions under any order of edits, withdrawals, crashes and time: none changes once it was written."""

from datetime import timedelta
from unittest import mock

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from celcombiller.core.errors import UnknownTariff, VersionConflict
from celcombiller.core.tariffs import versions
from celcombiller.core.tariffs.versions import NewVersion, key_of
from tests.support.databases import NOW, sqlite
from tests.support.tariffs import content, make_tariff, rate

PREFIXES = ["", "1", "44", "55", "5591"]


class VersionMachine(RuleBasedStateMachine):
    """One tariff; the model knows the whole content of each version as a set of rates."""

    seconds = st.integers(0, 30)
    edits = st.dictionaries(st.sampled_from(PREFIXES), st.integers(0, 3), max_size=4)

    @initialize()
    def begin(self):
        self.small_steps = mock.patch.object(versions, "ROWS_IN_ONE_TRANSACTION", 2)
        self.small_steps.start()
        self.engine = sqlite()
        self.tx = self.engine.connect()
        self.now = NOW
        self.tariff_id = make_tariff(self.tx, NOW).id
        self.contents = {0: set()}
        self.moments = {}
        self.in_force = {}

    def teardown(self):
        if hasattr(self, "engine"):
            self.small_steps.stop()
            self.tx.close()
            self.engine.dispose()

    @property
    def last(self):
        return max(self.moments, default=0)

    @rule(prices=edits, removed=st.sets(st.sampled_from(PREFIXES)), whole=st.booleans(), seconds=st.none() | seconds)
    def write(self, prices, removed, whole, seconds):
        rates = [rate(prefix, price) for prefix, price in prices.items()]
        known = {each.prefix: each for each in self.contents[self.last]}
        gone = [] if whole else [key_of(known[prefix]) for prefix in removed - prices.keys() if prefix in known]
        effective_at = None if seconds is None else self.now + timedelta(seconds=seconds)
        new = NewVersion(rates, gone, whole=whole, effective_at=effective_at)
        try:
            made = versions.write_version(self.tx, self.tariff_id, new, self.now).version
        except VersionConflict:
            assert self.moments[self.last] > (effective_at or self.now)
            return
        kept = {} if whole else {key: each for key, each in known.items() if key_of(each) not in gone}
        expected = set((kept | {each.prefix: each for each in rates}).values())
        if made is None:
            assert expected == self.contents[self.last]
            return
        assert made.effective_at > self.now
        assert made.effective_at >= max(self.moments.values(), default=NOW)
        self.contents[made.number] = expected
        self.moments[made.number] = made.effective_at

    @rule(prices=edits, steps=st.integers(2, 15), twice=st.booleans())
    def begin_and_crash(self, prices, steps, twice):
        """``twice``: each step is repeated, because its outcome was not known."""
        rates = [rate(prefix, price) for prefix, price in prices.items()]
        writing = versions.write_in_steps(self.tariff_id, NewVersion(rates, whole=True), lambda: self.now)
        try:
            work = next(writing)
            for _ in range(steps):
                if twice:
                    work(self.tx)
                work = writing.send(work(self.tx))
        except (StopIteration, VersionConflict):
            for made in versions.list_versions(self.tx, self.tariff_id):
                if made.effective_at is not None and made.number not in self.moments:
                    self.contents[made.number], self.moments[made.number] = set(rates), made.effective_at

    @rule()
    def withdraw(self):
        try:
            versions.withdraw(self.tx, self.tariff_id, self.last, self.now)
        except VersionConflict:
            assert self.moments[self.last] <= self.now + timedelta(seconds=1)
            return
        except UnknownTariff:
            assert not self.moments
            return
        del self.moments[self.last]

    @rule(seconds=seconds)
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)

    @invariant()
    def all_contents_are_as_written(self):
        for number in self.moments:
            assert content(self.tx, self.tariff_id, number) == self.contents[number]

    @invariant()
    def what_was_in_force_stays(self):
        number = max((each for each, moment in self.moments.items() if moment <= self.now), default=None)
        found = versions.find_version_at(self.tx, self.tariff_id, self.now)
        assert number == (None if found is None else found.number)
        self.in_force[self.now] = number
        for at, was in self.in_force.items():
            then = versions.find_version_at(self.tx, self.tariff_id, at)
            assert was == (None if then is None else then.number)


TestVersions = VersionMachine.TestCase
