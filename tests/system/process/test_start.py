"""What keeps `twistd celcombiller` from starting is told in one line, and then it does not start."""

import sqlite3

from tests.system.lab.biller import Biller


def test_a_typo_in_the_settings(tmp_path):
    biller = Biller(tmp_path / "biller")
    biller.init()
    biller.agi["idle_secons"] = 5
    biller.write()
    line = _refusal(biller)
    assert "celcombiller.toml" in line
    assert "idle_secons" in line


def test_a_database_that_cannot_be_opened(tmp_path):
    biller = Biller(tmp_path / "biller", url="sqlite:////nowhere/at/all/celcombiller.sqlite")
    biller.write()
    assert "/nowhere/at/all" in _refusal(biller)


def test_a_database_without_tables(tmp_path):
    biller = Biller(tmp_path / "biller")
    biller.write()
    assert "init" in _refusal(biller)


def test_a_database_that_another_program_has_locked(tmp_path):
    biller = Biller(tmp_path / "biller").init()
    other = sqlite3.connect(biller.folder / "celcombiller.sqlite")
    other.execute("begin exclusive")
    try:
        assert "locked" in biller.run_program("credit", "admin", 5, status=3)
    finally:
        other.close()


def _refusal(biller: Biller) -> str:
    """Start it; give the only line that says why it did not."""
    said = biller.start_in_vain()
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    return said
