"""The words of views: one for each thing that is stored."""

from typing import get_args

from celcombiller.core.model.accounts import ACCOUNT_KINDS
from celcombiller.core.reports.views import AccountWord


def test_each_kind_of_account_has_a_word():
    words, _ = get_args(AccountWord)
    assert set(get_args(words)) == ACCOUNT_KINDS.keys()
