"""The version that the program compares a database with."""

from alembic.script import ScriptDirectory

from celcombiller.core.schema import migrations


def test_the_last_known_revision_is_alembics_head():
    assert migrations.REVISIONS[-1] == ScriptDirectory.from_config(migrations.alembic_config()).get_current_head()
