"""The tours of the README and the tutorial, in order and as written: the commands, and what they print."""

import re
import shlex
from pathlib import Path

import pytest

from tests.system.lab.biller import Biller

ROOT = Path(__file__).parents[3]
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def steps(page):
    """Yield each command of the operator's on a page, and the lines that are printed below it."""
    for block in re.findall(r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        for step in re.findall(r"^\$ celcombiller (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
            yield shlex.split(step[0], comments=True), step[1]


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-call.md"])
def test_a_tour_prints_what_it_says(tmp_path, page):
    """About 5 s: each step is a program of its own."""
    biller = Biller(tmp_path)
    biller.calls = {}
    biller.init().start()
    try:
        found = list(steps(ROOT / page))
        assert len(found) >= 6
        for words, printed in found:
            said = biller.run_program(*words)
            if printed:
                assert _ID.sub("ID", said) == _ID.sub("ID", printed)
    finally:
        biller.stop()
