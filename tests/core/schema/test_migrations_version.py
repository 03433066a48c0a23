"""The version that the program compares a database with."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from celcombiller.core.schema import migrations


def test_the_last_known_revision_is_alembics_head():
    config = Config()
    config.set_main_option("script_location", "celcombiller.core.schema:migrations")
    assert migrations.REVISIONS[-1] == ScriptDirectory.from_config(config).get_current_head()
