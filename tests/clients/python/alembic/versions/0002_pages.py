"""Books have pages."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("book", sa.Column("pages", sa.Integer))


def downgrade():
    op.drop_column("book", "pages")
