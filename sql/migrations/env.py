"""Alembic's entry: it runs the plain SQL of versions/ on the connection that it is handed."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], version_table="alembic_version")
with context.begin_transaction():
    context.run_migrations()
