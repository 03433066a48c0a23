"""Audits that build their statements once for a process: building them takes twenty times as long as asking them."""

import sqlalchemy as sa

from celcombiller.core.audit import report
from celcombiller.core.schema.driver import execute_raw


class _Recorder:
    """A connection that keeps what its driver was asked, as long as no answer had a row."""

    def __init__(self, tx):
        self._tx = tx
        self.asked = []

    @property
    def dialect(self):
        return self._tx.dialect

    def execute(self, statement):
        answer = self._tx.execute(statement).freeze()
        if answer.data:
            self.asked = None
        return answer()

    def __getattr__(self, name):
        self.asked = None  # the answer is not looked at, so it may have had rows
        return getattr(self._tx, name)

    def hear(self, _tx, _cursor, statement, parameters, _context, _many):
        if self.asked is not None:
            self.asked.append((statement, parameters))


class _Check:
    """A check that asks what it asked when nothing differed; where no answer has a row, nothing differs now."""

    def __init__(self, check):
        self._check = check
        self.__name__ = check.__name__
        self._asked = {}
        """Statements with their parameters, by the name of the driver."""

    def __eq__(self, other):
        return self._check == other

    def __hash__(self):
        return hash(self._check)

    def __call__(self, tx):
        driver = tx.dialect.driver
        kept = self._asked.get(driver)
        if kept is not None and not any(execute_raw(tx, *each).fetchone() for each in kept):
            return []
        recorder = _Recorder(tx)
        sa.event.listen(tx, "before_cursor_execute", recorder.hear)
        found = list(self._check(recorder))
        sa.event.remove(tx, "before_cursor_execute", recorder.hear)
        if not found and recorder.asked is not None:
            self._asked[driver] = recorder.asked
        return found


def share_statements():
    """Have all audits of this process build the statements of a check once."""
    report.CHECKS = tuple(map(_Check, report.CHECKS))
