"""Alembic runs this module to migrate, on the given connection and inside its transaction."""

from alembic import context

from celcombiller.core.schema.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
