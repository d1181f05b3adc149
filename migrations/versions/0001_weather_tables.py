"""Create the weather tables.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "weather_locations",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("continent", sa.String(32), nullable=False),
        sa.Column("city", sa.String(64), nullable=False),
    )
    op.create_table(
        "weather_reports",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("location_id", sa.Integer(), sa.ForeignKey("weather_locations.id"), nullable=False),
        sa.Column("temperature", sa.Double(), nullable=False),
        sa.Column("report_time", sa.DateTime(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("weather_reports")
    op.drop_table("weather_locations")
