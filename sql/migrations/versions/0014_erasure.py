"""A person, a document or a row is forgotten."""

from pathlib import Path

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    connection = op.get_bind().connection.cursor()
    connection.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    raise NotImplementedError("lineage is not taken back: restore a backup instead")
