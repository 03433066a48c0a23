"""Alembic runs this to migrate: always on the connection, and inside the transaction, that it is given."""

from alembic import context

from celcombiller.core.schema.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
