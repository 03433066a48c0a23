"""A folder is read at a glance: one with many modules holds more than one subject."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES_MAX = 16
MIGRATIONS = ROOT / "celcombiller" / "core" / "schema" / "migrations" / "versions"


def test_no_folder_has_too_many_modules():
    folders = {path.parent for name in ("celcombiller", "tests") for path in (ROOT / name).rglob("*.py")}
    many = {
        str(folder.relative_to(ROOT)): count
        for folder in folders - {MIGRATIONS}
        if (count := sum(path.name != "__init__.py" for path in folder.glob("*.py"))) > MODULES_MAX
    }
    assert many == {}, "split these by subject, into folders named by nouns of the field"
