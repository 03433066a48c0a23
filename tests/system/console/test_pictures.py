"""The pictures of the documents can be drawn anew, and are small. 15 s."""

import pytest

from tests.system.console import pictures
from tests.system.lab.requirements import PROJECT


@pytest.mark.nightly
def test_pictures_of_documents_can_be_drawn(tmp_path):
    pictures.draw(tmp_path)
    drawn = {each.name for each in tmp_path.glob("*.png")}
    assert drawn == {each.name for each in (PROJECT / "docs" / "images").glob("*.png")}
