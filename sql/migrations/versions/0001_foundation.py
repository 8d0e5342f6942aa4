"""The foundation: lineage, catalog, retrieval, evaluation, release and audit."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    connection = op.get_bind().connection.cursor()
    connection.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    raise NotImplementedError("the foundation is not taken back: drop the database instead")
