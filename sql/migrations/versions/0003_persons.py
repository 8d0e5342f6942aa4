"""Who may answer for a release, under one name each."""

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    connection = op.get_bind().connection.cursor()
    connection.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    raise NotImplementedError("lineage is not taken back: restore a backup instead")
