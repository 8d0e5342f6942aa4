"""What data may be used for, and who signs that it is trained on."""

from pathlib import Path

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    connection = op.get_bind().connection.cursor()
    connection.execute(Path(__file__).with_suffix(".sql").read_text())


def downgrade() -> None:
    raise NotImplementedError("lineage is not taken back: restore a backup instead")
