"""All tests, and what they share: pytest shows the values of a failed assertion in every module of this package."""

import pytest

pytest.register_assert_rewrite("tests.support", "tests.system", "tests.chaos")
