"""All about the package stands in pyproject.toml, but for one step: the documents are built into it, for `/ui/help`."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

DOCUMENTS = Path(__file__).parent / "docs"


class BuildWithHelp(build_py):
    """Build the package, with the documents in its folder ``help``."""

    def run(self) -> None:
        """Copy the modules, and then the documents."""
        super().run()
        for each in [*DOCUMENTS.rglob("*.md"), *DOCUMENTS.rglob("*.png")]:
            copy = Path(self.build_lib, "celcombiller", "help", each.relative_to(DOCUMENTS))
            copy.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(each), str(copy))


setup(cmdclass={"build_py": BuildWithHelp})
